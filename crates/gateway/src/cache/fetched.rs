//! Of which URLs anything was fetched to be stored, so that unsafe requests for all others purge nothing.
//!
//! A store remembers a bounded number of purges, and when it forgets one, whatever is as old is gone with it. Without this each
//! `POST` to an API, of which nothing is ever stored, would drive out what is.
//!
//! It is a set of hashes that only grows. Where two URLs share a place, one of them is purged without need. A fetch is noted
//! before its request leaves: what an unsafe request did not find noted is asked for after it was answered, and is new.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use store::Mark;

/// Words of 64 places: half a mebibyte, taken with the first fetch. After a million URLs a fifth of the places is taken.
const WORDS: usize = 1 << 16;

/// URLs by their marks.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    words: OnceLock<Box<[AtomicU64]>>,
    /// Nobody outside can choose URLs that share places.
    hasher: RandomState,
}

impl Fetched {
    /// Notes that something is about to be fetched.
    pub(crate) fn note(&self, url: Mark) {
        let words = self.words.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
        let (at, bit) = self.place(url);
        // What is fetched again and again is written once.
        if words[at].load(Ordering::Relaxed) & bit == 0 {
            words[at].fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Whether something may have been fetched.
    pub(crate) fn may_have(&self, url: Mark) -> bool {
        let (at, bit) = self.place(url);
        self.words.get().is_some_and(|words| words[at].load(Ordering::Acquire) & bit != 0)
    }

    fn place(&self, url: Mark) -> (usize, u64) {
        let hash = self.hasher.hash_one(url);
        ((hash >> 6) as usize % WORDS, 1 << (hash % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_found_and_little_else() {
        let fetched = Fetched::default();
        let url = |n: u32| Mark::key(&n.to_le_bytes());
        assert!(!fetched.may_have(url(0)));
        (0..10_000).for_each(|n| fetched.note(url(n)));
        assert!((0..10_000).all(|n| fetched.may_have(url(n))));
        // A 420th of the places is taken.
        let others = (10_000..20_000).filter(|&n| fetched.may_have(url(n))).count();
        assert!(others < 100, "{others} of 10,000");
    }
}
