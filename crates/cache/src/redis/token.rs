//! Random names for who holds a lease, so that nobody ends another's.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a token; scripts count on it.
pub(crate) const TOKEN_BYTES: usize = 24;

/// A token: 16 bytes that are the process's own, drawn from the system's randomness, and 8 that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; TOKEN_BYTES]);

static PROCESS: OnceLock<[u64; 2]> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Token {
    pub(crate) fn draw() -> Self {
        // The keys of the standard library's hash tables come from the system.
        let drawn = || [RandomState::new().hash_one(0), RandomState::new().hash_one(std::process::id())];
        let [first, second] = *PROCESS.get_or_init(drawn);
        let mut bytes = [0; TOKEN_BYTES];
        bytes[..8].copy_from_slice(&first.to_be_bytes());
        bytes[8..16].copy_from_slice(&second.to_be_bytes());
        bytes[16..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Self(bytes)
    }

    /// One that somebody else has drawn.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_equal() {
        assert_ne!(Token::draw(), Token::draw());
        assert_ne!(Token::draw().0[..8], Token::draw().0[8..16]);
    }
}
