//! How much of one key is under way at once.
//!
//! The problem: counts go up and down, so a table that forgets a key while it holds something would let it begin anew.
//! The rule: a slot whose count is not zero is never given away. If all eight slots of a key's bucket are held by
//! others, the key is refused; a table with twice as many slots as a process may have requests under way hardly ever
//! does that.
//!
//! A word is a tag of 43 bits, a bit for "claimed", and a count. Two cores could bring one key into two slots, so
//! whoever brings a key in, or joins one who has not ended doing so, looks at the bucket again, and takes itself back
//! if the key is somewhere else as well. This look is a write that changes nothing: if it comes before another's claim
//! of that slot, that claim has seen it, and so sees the look's own claim when it looks in turn. So of two, at least
//! one goes back.

use crate::atomic::{AtomicU64, Ordering};

/// Slots of a bucket: a cache line of words. The model checker walks all orders of two.
const WAYS: usize = if cfg!(test) { 2 } else { 8 };

const COUNT_BITS: u32 = 20;

const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// Set until whoever brought the key in has seen that it is nowhere else.
const CLAIMED: u64 = 1 << COUNT_BITS;

const TAG: u64 = !(COUNT | CLAIMED);

/// How often two who stand in each other's way try again before they are refused.
const TRIES: usize = if cfg!(test) { 2 } else { 16 };

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// A bound on what each key has under way, shared by all cores.
///
/// ```
/// use limit::KeyedConcurrency;
///
/// let limits = KeyedConcurrency::new(1, 1_000);
/// let permit = limits.acquire(42).expect("nothing is under way");
/// assert!(limits.acquire(42).is_none());
/// limits.release(permit);
/// assert!(limits.acquire(42).is_some());
/// ```
#[derive(Debug)]
pub struct KeyedConcurrency {
    limit: u64,
    buckets: Box<[Bucket]>,
}

/// One that is under way. It has to be given back to the table that it came from.
#[derive(Debug)]
#[must_use = "what is not released is held for ever"]
pub struct Permit {
    bucket: u32,
    way: u8,
}

impl KeyedConcurrency {
    /// At most `limit` of a key at once (up to a million), for about this many keys at once: 16 bytes for each. A limit
    /// of zero refuses all.
    pub fn new(limit: u32, keys: u32) -> Self {
        let buckets = (keys as usize).saturating_mul(2).div_ceil(WAYS).max(1);
        let buckets = (0..buckets).map(|_| Bucket(std::array::from_fn(|_| AtomicU64::new(0)))).collect();
        Self { limit: u64::from(limit).min(COUNT), buckets }
    }

    /// One more of the key with this hash, if there is room.
    pub fn acquire(&self, hash: u64) -> Option<Permit> {
        let index = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        let bucket = &self.buckets[index as usize];
        let tag = hash << (COUNT_BITS + 1);
        for _ in 0..TRIES {
            match self.attempt(bucket, tag) {
                Attempt::Counted(way) => return Some(Permit { bucket: index as u32, way: way as u8 }),
                Attempt::Refused => return None,
                Attempt::Disturbed => {}
            }
        }
        None
    }

    /// Ends what a permit stands for.
    #[expect(clippy::needless_pass_by_value, reason = "a permit is given back once")]
    pub fn release(&self, permit: Permit) {
        let Permit { bucket, way } = permit;
        self.buckets[bucket as usize].0[usize::from(way)].fetch_sub(1, Ordering::AcqRel);
    }

    /// What is under way of a key, for metrics and tests.
    pub fn in_flight(&self, hash: u64) -> u32 {
        let index = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        let tag = hash << (COUNT_BITS + 1);
        let words = self.buckets[index as usize].0.iter().map(|slot| slot.load(Ordering::Acquire));
        words.filter(|word| word & TAG == tag).map(|word| (word & COUNT) as u32).sum()
    }

    fn attempt(&self, bucket: &Bucket, tag: u64) -> Attempt {
        let words: [u64; WAYS] = std::array::from_fn(|way| bucket.0[way].load(Ordering::Acquire));
        let held = words.iter().position(|&word| word & TAG == tag && word & COUNT > 0);
        let free = || words.iter().position(|&word| word & COUNT == 0);
        let Some(way) = held.or_else(free) else { return Attempt::Refused };
        let word = words[way];
        if (word & COUNT) >= self.limit {
            return Attempt::Refused;
        }
        // Zero was nobody's: who takes it brings the key in.
        let next = if word & COUNT == 0 { tag | CLAIMED | 1 } else { word + 1 };
        if bucket.0[way].compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Attempt::Disturbed;
        }
        if next & CLAIMED == 0 {
            return Attempt::Counted(way);
        }
        let elsewhere = |other: usize| {
            let word = bucket.0[other].fetch_or(0, Ordering::AcqRel);
            other != way && word & TAG == tag && word & COUNT > 0
        };
        if (0..WAYS).any(elsewhere) {
            bucket.0[way].fetch_sub(1, Ordering::AcqRel);
            return Attempt::Disturbed;
        }
        bucket.0[way].fetch_and(!CLAIMED, Ordering::AcqRel);
        Attempt::Counted(way)
    }
}

enum Attempt {
    Counted(usize),
    /// Another core was in the way.
    Disturbed,
    Refused,
}
