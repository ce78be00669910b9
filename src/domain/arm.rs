//! The two arms that `enforce_percent` splits a tenant's requests into.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keeps this hash independent of the one that providers are drawn by.
const ENFORCE: u64 = 0x656e_666f;

/// The hash of a request id that its arm is drawn by.
#[must_use]
pub fn arm_hash(request_id: &str) -> u64 {
    xxh3_64_with_seed(request_id.as_bytes(), ENFORCE)
}

/// Whether a request with this hash is treated, its refusals enforced, where `percent` of all are. One that is
/// treated stays so at every greater percentage.
#[must_use]
pub fn is_treated(hash: u64, percent: u8) -> bool {
    scaled(hash, 100) < u64::from(percent)
}

/// A number below `bound`, evenly spread (Lemire's multiplication).
#[must_use]
pub fn scaled(hash: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(hash) * u128::from(bound)) >> 64).unwrap_or(0)
}
