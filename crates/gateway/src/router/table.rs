//! Tables by bytes, for hosts and paths.
//!
//! The standard library's hasher defends tables whose keys an attacker inserts. Here the file inserts, and clients only
//! look up, so the house's own hash will do, which costs half.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by bytes.
pub(super) type Table<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<BytesHasher>>;

/// Hashes one piece of bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BytesHasher(u64);

impl Hasher for BytesHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= balance::hash::bytes(bytes);
    }

    // The length, which the hash of the bytes holds already.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
