//! Who may put what into the memory of this process. Pure: no clock, no I/O.
//!
//! The trap is the old value that comes back: a reader loads, a writer changes, the reader stores what it had. The rule is that of
//! the leases in Facebook's memcache paper (Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013): whoever reads in order to
//! store takes a [`Ticket`] first, and every change of the key makes tickets void that were taken before. Tickets count per stripe
//! of keys, so a change may void those of a few other keys as well; they then store nothing, which costs a load and no truth.
//!
//! - While a **write** is under way no ticket is good, for what is read meanwhile may be old or new.
//! - **Writes that overlap** leave no value: which of them the database has last is not known here.
//! - An **era** ends when changes may have been missed (the connection that tells of them was lost). Nothing from before is served.
//!
//! Checks and stores happen under the stripe's lock; hits compare the era alone, and take none.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sync::Mutex;

/// Enough that loads rarely meet changes of other keys, at 128 bytes each.
const STRIPES: usize = 1024;

#[derive(Debug)]
pub(crate) struct Fence {
    era: AtomicU64,
    /// How often all tickets were made void.
    voided: AtomicU64,
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Stripe {
    generation: u64,
    /// The version of the latest change that was heard of.
    latest: u64,
    writes: HashMap<Box<[u8]>, Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    under_way: u32,
    contended: bool,
}

/// Leave to store what is read from now on, for as long as nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) era: u64,
    voided: u64,
    generation: u64,
    is_good: bool,
}

/// What becomes of the memory when a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The new value may be served, within this era.
    Keep(u64),
    /// No value may.
    Remove,
}

impl Fence {
    pub(crate) fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { era: AtomicU64::new(0), voided: AtomicU64::new(0), stripes, hasher: RandomState::new() }
    }

    fn stripe(&self, key: &[u8]) -> &Mutex<Stripe> {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }

    /// The era. What was stored in another one is not to be served.
    pub(crate) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// Begins a new era.
    pub(crate) fn end_era(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes all tickets void. What is stored is left to whoever invalidates it.
    pub(crate) fn void_all(&self) {
        self.voided.fetch_add(1, Ordering::AcqRel);
    }

    /// A ticket of now by which nothing is stored.
    pub(crate) fn blank(&self) -> Ticket {
        Ticket { era: self.era(), voided: 0, generation: 0, is_good: false }
    }

    /// Taken before anything is read that is to be stored.
    pub(crate) fn ticket(&self, key: &[u8]) -> Ticket {
        let (era, voided) = (self.era(), self.voided.load(Ordering::Acquire));
        let stripe = self.stripe(key).lock();
        Ticket { era, voided, generation: stripe.generation, is_good: !stripe.writes.contains_key(key) }
    }

    /// Has something stored, unless the ticket is void: whether it was.
    pub(crate) fn keep(&self, key: &[u8], ticket: Ticket, store: impl FnOnce()) -> bool {
        let stripe = self.stripe(key).lock();
        let is_of_now = ticket.era == self.era() && ticket.voided == self.voided.load(Ordering::Acquire);
        let is_good = ticket.is_good && ticket.generation == stripe.generation && is_of_now;
        if is_good {
            store();
        }
        is_good
    }

    /// Notes a change that was made here, begun in some era, and settles the memory.
    pub(crate) fn change(&self, key: &[u8], era: u64, version: u64, settle: impl FnOnce(Settled)) {
        let mut stripe = self.stripe(key).lock();
        if let Some(writes) = stripe.writes.get_mut(key) {
            writes.contended = true;
        }
        let is_good = version >= stripe.latest && self.era() == era && !stripe.writes.contains_key(key);
        stripe.note(version);
        settle(if is_good { Settled::Keep(era) } else { Settled::Remove });
    }

    /// Runs something while nobody else stores or changes a key.
    pub(crate) fn alone<R>(&self, key: &[u8], run: impl FnOnce() -> R) -> R {
        let mut stripe = self.stripe(key).lock();
        if let Some(writes) = stripe.writes.get_mut(key) {
            writes.contended = true;
        }
        stripe.note(0);
        run()
    }

    /// Notes a change that was made elsewhere, or here and is heard of again.
    pub(crate) fn hear(&self, key: &[u8], version: u64, remove_older: impl FnOnce()) {
        let mut stripe = self.stripe(key).lock();
        stripe.note(version);
        remove_older();
    }

    /// A write begins: what is read until it ends is not stored. Gives the era.
    pub(crate) fn begin_write(&self, key: &[u8]) -> u64 {
        let mut stripe = self.stripe(key).lock();
        stripe.generation += 1;
        let writes = stripe.writes.entry(key.into()).or_default();
        writes.contended |= writes.under_way > 0;
        writes.under_way += 1;
        self.era()
    }

    /// A write ends, that began in some era. It has a version if its value is the latest as far as Redis knows.
    pub(crate) fn end_write(&self, key: &[u8], era: u64, version: Option<u64>, settle: impl FnOnce(Settled)) {
        let mut stripe = self.stripe(key).lock();
        let mut contended = false;
        if let Some(writes) = stripe.writes.get_mut(key) {
            contended = writes.contended;
            writes.under_way -= 1;
            if writes.under_way == 0 {
                stripe.writes.remove(key);
            }
        }
        let is_latest = version.is_some_and(|version| version >= stripe.latest);
        stripe.note(version.unwrap_or(0));
        let now = self.era();
        settle(if is_latest && !contended && now == era { Settled::Keep(era) } else { Settled::Remove });
    }
}

impl Stripe {
    fn note(&mut self, version: u64) {
        self.generation += 1;
        self.latest = self.latest.max(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(fence: &Fence, key: &[u8], era: u64, version: Option<u64>) -> Settled {
        let mut settled = None;
        fence.end_write(key, era, version, |found| settled = Some(found));
        settled.unwrap()
    }

    #[test]
    fn what_was_read_before_a_change_is_not_stored() {
        let fence = Fence::new();
        let before = fence.ticket(b"a");
        assert!(fence.keep(b"a", before, || ()));
        fence.change(b"a", 0, 1, |settled| assert_eq!(settled, Settled::Keep(0)));
        assert!(!fence.keep(b"a", before, || panic!("it is old")));
        assert!(fence.keep(b"a", fence.ticket(b"a"), || ()));
        let before = fence.ticket(b"a");
        fence.hear(b"a", 2, || ());
        assert!(!fence.keep(b"a", before, || panic!("it is old")));
    }

    #[test]
    fn nothing_that_is_read_during_a_write_is_stored() {
        let fence = Fence::new();
        let before = fence.ticket(b"a");
        let era = fence.begin_write(b"a");
        let during = fence.ticket(b"a");
        assert!(!fence.keep(b"a", before, || ()) && !fence.keep(b"a", during, || ()));
        assert_eq!(settled(&fence, b"a", era, Some(1)), Settled::Keep(era));
        assert!(!fence.keep(b"a", during, || ()));
        assert!(fence.keep(b"a", fence.ticket(b"a"), || ()));
    }

    #[test]
    fn writes_that_overlap_leave_nothing() {
        let fence = Fence::new();
        let first = fence.begin_write(b"a");
        let second = fence.begin_write(b"a");
        assert_eq!(settled(&fence, b"a", second, Some(1)), Settled::Remove);
        // The first is contended although the second has ended.
        assert_eq!(settled(&fence, b"a", first, Some(2)), Settled::Remove);
        let third = fence.begin_write(b"a");
        assert_eq!(settled(&fence, b"a", third, Some(3)), Settled::Keep(third));
        let fourth = fence.begin_write(b"a");
        fence.change(b"a", fourth, 4, |settled| assert_eq!(settled, Settled::Remove));
        assert_eq!(settled(&fence, b"a", fourth, Some(5)), Settled::Remove);
    }

    #[test]
    fn a_write_that_others_have_overtaken_or_that_redis_refused_leaves_nothing() {
        let fence = Fence::new();
        let era = fence.begin_write(b"a");
        fence.hear(b"a", 9, || ());
        assert_eq!(settled(&fence, b"a", era, Some(8)), Settled::Remove);
        let era = fence.begin_write(b"a");
        assert_eq!(settled(&fence, b"a", era, None), Settled::Remove);
        // Its own message may come before its answer.
        let era = fence.begin_write(b"a");
        fence.hear(b"a", 10, || ());
        assert_eq!(settled(&fence, b"a", era, Some(10)), Settled::Keep(era));
    }

    #[test]
    fn nothing_crosses_from_one_era_into_the_next() {
        let fence = Fence::new();
        let ticket = fence.ticket(b"a");
        let era = fence.begin_write(b"b");
        fence.end_era();
        assert!(!fence.keep(b"a", ticket, || ()));
        assert_eq!(settled(&fence, b"b", era, Some(1)), Settled::Remove);
        let ticket = fence.ticket(b"a");
        fence.void_all();
        assert!(!fence.keep(b"a", ticket, || ()) && fence.keep(b"a", fence.ticket(b"a"), || ()));
    }
}
