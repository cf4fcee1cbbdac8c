//! One limit for each of many keys, in bounded memory.
//!
//! The problem: a limit per client has as many states as clients come, and an attacker can be a hundred thousand
//! clients. A map grows, and one that forgets lets whoever was forgotten begin afresh with a full burst, so that a
//! flood of keys loosens the limit of every key. Locks, and memory taken per key, would stand in every request's way.
//!
//! The rule: a table of fixed size, eight bytes for a key. The hash of a key gives its bucket, one cache line with
//! eight slots. A slot is one word, the key's tag above the state, so one compare-exchange both pays and says for whom.
//! A key that is in none of the eight takes the slot whose state knows the least ([`Quota::rank`]), **with the state
//! that is there**: nothing is ever reset.
//!
//! # Why no key is ever above its rate
//!
//! - A slot's state goes through one sequence of steps of the law, whoever pays. So a slot never allows more than the
//!   law does.
//! - States only grow. When a key loses its slot, its state is the least of the bucket. When it comes back, whatever it
//!   finds is at least that: **it has never more than if it had stayed**. With GCRA and token buckets that is all of
//!   the law. With a sliding window it holds for the running count, so a key that lost its slot is still bounded by the
//!   limit in each aligned window, but may lose what the window before counts for.
//! - Two cores cannot bring one key into two slots. Say both see a bucket without it, and one takes slot 3 and the
//!   other slot 5. Each took the least that it saw, and was not disturbed; so 3 was below 5 and 5 below 3.
//!
//! The price is paid by newcomers while a bucket's eight slots are all in debt: they start with the least debt of the
//! eight, are refused sooner than they deserve, and never later. A table with twice as many slots as there are keys in
//! debt keeps that to 2 % of the keys, and a flood of keys that spend once costs those in one bucket at most the rate
//! of eight. [`Decision::displaced`] tells of it.
//!
//! Keys are told apart by their bucket and the bits that the state leaves, 24 for most quotas: a key shares its slot, and
//! so its allowance, with another by a chance of one in two million. Their hash must depend on a secret
//! ([`KeyHasher`](crate::KeyHasher)), or attackers could choose keys that meet a victim's.

use crate::atomic::{AtomicU64, Ordering};
use crate::{Decision, Moment, Quota, QuotaError};

/// Slots of a bucket: a cache line of words. The model checker walks all orders of two.
const WAYS: usize = if cfg!(test) { 2 } else { 8 };

/// Bits of a word that tell keys apart, at least: at fewer, one key in eight thousand would meet another.
const TAG_BITS_MIN: u32 = 16;

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// A limit for each key, shared by all cores. Nothing locks, and nothing is allocated after it was made.
///
/// ```
/// use limit::{KeyHasher, Keyed, Moment, Quota, Rate};
///
/// let limits = Keyed::new(Quota::gcra(Rate::per_sec(100), 200)?, 100_000)?;
/// let seed = (0x0123_4567_89AB_CDEF, 42); // random, made once per process
/// let key = KeyHasher::new(seed).part(b"192.0.2.1").finish();
/// assert_eq!(limits.check(key, Moment::from_nanos(0), 1).remaining, 199);
/// # Ok::<(), limit::QuotaError>(())
/// ```
#[derive(Debug)]
pub struct Keyed {
    quota: Quota,
    buckets: Box<[Bucket]>,
    state_bits: u32,
    state_mask: u64,
}

impl Keyed {
    /// A table for about this many keys in debt at once: 16 bytes for each, at least 64.
    ///
    /// # Errors [`QuotaError::TooFast`] if the quota's state leaves less than 16 bits of a word for the key: beyond
    /// about a million a second, and with a sliding window beyond some thousand a second.
    pub fn new(quota: Quota, keys: usize) -> Result<Self, QuotaError> {
        let state_bits = quota.state_bits();
        if state_bits > u64::BITS - TAG_BITS_MIN {
            return Err(quota.too_fast_for_keys());
        }
        let buckets = keys.saturating_mul(2).div_ceil(WAYS).max(1);
        let buckets = (0..buckets).map(|_| Bucket(std::array::from_fn(|_| AtomicU64::new(0)))).collect();
        Ok(Self { quota, buckets, state_bits, state_mask: (1 << state_bits) - 1 })
    }

    /// Pays for a request of the key with this hash, if it can be paid for.
    #[inline]
    pub fn check(&self, hash: u64, now: Moment, cost: u32) -> Decision {
        let bucket = self.bucket(hash);
        let tag = hash << self.state_bits;
        loop {
            let (slot, word, is_new) = self.find(bucket, tag, now);
            let state = word & self.state_mask;
            let (mut decision, next) = self.quota.decide(state, now, cost);
            decision.displaced = is_new && !self.quota.is_idle(state, now);
            let Some(next) = next else { return decision };
            // A word guards nothing but itself, so its own order of changes suffices.
            if slot.compare_exchange(word, tag | next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return decision;
            }
        }
    }

    /// Keys that differ from such as have spent nothing. Looks at every slot; for metrics.
    pub fn keys_in_debt(&self, now: Moment) -> usize {
        let slots = self.buckets.iter().flat_map(|bucket| &bucket.0);
        let states = slots.map(|slot| slot.load(Ordering::Relaxed) & self.state_mask);
        states.filter(|&state| !self.quota.is_idle(state, now)).count()
    }

    /// Slots of the table.
    pub fn slots(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// What each key is allowed.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &Bucket {
        // The upper bits choose the bucket and the lower ones are the tag.
        let index = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        &self.buckets[index as usize]
    }

    /// The slot of a key, or the one whose place it takes; what is in it; and whether the key is new there.
    #[inline]
    fn find<'a>(&self, bucket: &'a Bucket, tag: u64, now: Moment) -> (&'a AtomicU64, u64, bool) {
        let words: [u64; WAYS] = std::array::from_fn(|way| bucket.0[way].load(Ordering::Relaxed));
        if let Some(way) = words.iter().position(|&word| word & !self.state_mask == tag) {
            return (&bucket.0[way], words[way], false);
        }
        // The first of equals, so that all cores choose alike.
        let (mut least, mut least_rank) = (0, i64::MAX);
        for (way, &word) in words.iter().enumerate() {
            let rank = self.quota.rank(word & self.state_mask, now);
            if rank < least_rank {
                (least, least_rank) = (way, rank);
            }
        }
        (&bucket.0[least], words[least], true)
    }
}
