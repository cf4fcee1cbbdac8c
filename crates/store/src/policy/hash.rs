//! Tables by numbers that are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

/// Takes a hash for what it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only whole words are hashed by this; anything else is spread as well as a word allows.
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// For tables whose keys are hashes.
pub(crate) type ByHash = BuildHasherDefault<AsItIs>;
