//! Names of entries, and of what entries have in common.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A key with its hash, which is computed once for all that a request does.
///
/// Any bytes are a key. Where purges by prefix are wanted, a key begins with what prefixes are of, such as a URL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    bytes: &'a [u8],
    hash: u64,
}

impl<'a> Key<'a> {
    /// The bytes that it was made of.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.bytes.escape_ascii())
    }
}

/// Hashes keys under a secret of this process, so that nobody can choose keys that fall together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHasher(u64, u64);

impl KeyHasher {
    pub(crate) fn new() -> Self {
        use std::hash::BuildHasher;
        let secret = || std::hash::RandomState::new().hash_one(0_u64);
        Self(secret(), secret())
    }

    pub(crate) fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write(bytes);
        Key { bytes, hash: hasher.finish() }
    }
}

/// What entries can be purged by, all that carry it at once: the exact key, a group such as a host, or a tag.
///
/// It is a hash that stays the same for ever, since it is written to disk. Should two names share one, a purge takes with it what
/// was not meant, which costs a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// An exact key, with all variants that are stored of it.
    pub fn key(bytes: &[u8]) -> Self {
        Self::of(1, bytes)
    }

    /// A group, of which an entry is usually in one: the host of an edge cache, the name of a cache in a library.
    pub fn group(name: &[u8]) -> Self {
        Self::of(2, name)
    }

    /// A tag, of which an entry has any number.
    pub fn tag(name: &[u8]) -> Self {
        Self::of(3, name)
    }

    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    fn of(kind: u64, name: &[u8]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(0x7465_6e66_6f6c_6400, kind);
        hasher.write(name);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_for_ever_and_by_kind() {
        assert_ne!(Mark::key(b"a"), Mark::tag(b"a"));
        assert_ne!(Mark::group(b"a"), Mark::tag(b"a"));
        assert_eq!(Mark::from_number(Mark::tag(b"a").number()), Mark::tag(b"a"));
        // Written to disk: another number here means another version of the format.
        assert_eq!(Mark::tag(b"category:7").number(), 0xdc26_f070_7897_2296);
        assert_eq!(Mark::key(b"a").number(), 0x18a2_cb64_59e0_2a3f);
        assert_eq!(Mark::group(b"a").number(), 0x0eab_eb04_fc05_14e6);
    }

    #[test]
    fn each_store_hashes_in_its_own_way() {
        let (one, two) = (KeyHasher::new(), KeyHasher::new());
        assert_eq!(one.key(b"a").hash(), one.key(b"a").hash());
        assert_ne!(one.key(b"a").hash(), two.key(b"a").hash());
    }
}
