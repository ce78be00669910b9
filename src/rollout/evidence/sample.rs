/// Whether evidence is taken of a request with this arm hash, where the sample is `sample_ppm` parts per million.
/// The low 32 bits decide; arms follow from the high ones, so the sample has both arms in their shares. A request
/// in a sample is in every greater one.
#[must_use]
pub const fn is_sampled(hash: u64, sample_ppm: u32) -> bool {
    const LOW: u64 = 0xFFFF_FFFF;
    ((hash & LOW) * 1_000_000) >> 32 < sample_ppm as u64
}
