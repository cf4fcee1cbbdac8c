//! Of which keys the answer was not to be stored lately: requests for them do not wait for each other for a while, since what
//! comes is for one alone.
//!
//! It is a table that forgets: where two keys share a place, the later one has it, and requests for the other wait for each
//! other once more. Two keys that are taken for one, which a millionth of those that share a place are, do not wait when they might.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use httpcache::UnixTime;

/// Places: half a mebibyte, taken with the first answer that is not stored.
const PLACES: usize = 1 << 16;

/// Bits of a place that say until when; so many milliseconds are five hundred years. The others tell the key.
const UNTIL_BITS: u32 = 44;

/// Keys, and until when.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    places: OnceLock<Box<[AtomicU64]>>,
    /// Nobody outside can choose keys that share places.
    hasher: RandomState,
}

impl Apart {
    /// Has requests for a key not wait for each other until then.
    pub(crate) fn note(&self, key: &[u8], until: UnixTime) {
        let places = self.places.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        let (at, tag) = self.place(key);
        let until = until.millis().min((1 << UNTIL_BITS) - 1);
        places[at].store(tag << UNTIL_BITS | until, Ordering::Relaxed);
    }

    /// Whether requests for a key do not wait for each other now.
    pub(crate) fn has(&self, key: &[u8], now: UnixTime) -> bool {
        let Some(places) = self.places.get() else { return false };
        let (at, tag) = self.place(key);
        let found = places[at].load(Ordering::Relaxed);
        found >> UNTIL_BITS == tag && found & ((1 << UNTIL_BITS) - 1) > now.millis()
    }

    fn place(&self, key: &[u8]) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        (hash as usize % PLACES, hash >> UNTIL_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_noted_until_its_time_is_over() {
        let (apart, at) = (Apart::default(), UnixTime::from_millis);
        assert!(!apart.has(b"a", at(0)));
        apart.note(b"a", at(1_790_000_000_500));
        assert!(apart.has(b"a", at(1_790_000_000_499)));
        assert!(!apart.has(b"a", at(1_790_000_000_500)));
        assert!(!apart.has(b"b", at(0)));
        apart.note(b"a", at(u64::MAX));
        assert!(apart.has(b"a", at(1_790_000_000_500)));
    }
}
