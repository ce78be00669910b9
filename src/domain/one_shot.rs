use std::hash::Hasher;

use xxhash_rust::xxh3::xxh3_64;

/// Hashes the one text of a key by xxh3. It needs no secret seed: keys are put by policies, never by
/// requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneShot(u64);

impl Hasher for OneShot {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    /// What ends a text.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
