//! Which marks anything carries that is in memory, being fetched, or waiting to be written: roughly, and in little memory.
//!
//! A counting Bloom filter. Each mark has two counters; one that is at its largest stays there, which is what becomes of the counters
//! of a host or a tag that hundreds of entries share. "Nothing" is always right, "something" may be wrong. What carries marks counts
//! them as long as it lives, so that there is nothing to be forgotten.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::key::Mark;

/// One counter for so many bytes of memory: less than one for each mark of an entry of a few KiB.
const BYTES_PER_COUNTER: u64 = 128;

#[derive(Debug)]
pub(crate) struct Filter {
    counters: Box<[AtomicU8]>,
}

impl Filter {
    /// For a store of so many bytes.
    pub(crate) fn new(memory_bytes: u64) -> Arc<Self> {
        let count = (memory_bytes / BYTES_PER_COUNTER).max(1);
        Arc::new(Self { counters: (0..count).map(|_| AtomicU8::new(0)).collect() })
    }

    /// Counts marks from now on. Whatever they are of has to be begun afterwards.
    pub(crate) fn note(self: &Arc<Self>, marks: impl Into<Box<[Mark]>>) -> Noted {
        let marks = marks.into();
        self.change(&marks, |count| count.checked_add(1));
        Noted { marks, filter: Arc::clone(self) }
    }

    /// Whether anything may carry a mark.
    pub(crate) fn may_have(&self, mark: Mark) -> bool {
        self.places(mark).all(|place| self.counters[place].load(Ordering::SeqCst) > 0)
    }

    fn change(&self, marks: &[Mark], next: impl Fn(u8) -> Option<u8>) {
        for place in marks.iter().flat_map(|mark| self.places(*mark)) {
            // One that is full stays so.
            let changed = |count: u8| if count == u8::MAX { None } else { next(count) };
            let _ = self.counters[place].fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
        }
    }

    fn places(&self, mark: Mark) -> impl Iterator<Item = usize> {
        let (number, count) = (mark.number(), self.counters.len() as u64);
        [number >> 32, number & 0xffff_ffff].into_iter().map(move |half| ((half * count) >> 32) as usize)
    }
}

/// Marks of something, which are counted as long as this is there.
#[derive(Debug)]
pub(crate) struct Noted {
    marks: Box<[Mark]>,
    filter: Arc<Filter>,
}

impl Deref for Noted {
    type Target = [Mark];

    fn deref(&self) -> &[Mark] {
        &self.marks
    }
}

impl Clone for Noted {
    fn clone(&self) -> Self {
        self.filter.note(self.marks.clone())
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.filter.change(&self.marks, |count| count.checked_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u32) -> Mark {
        Mark::tag(&number.to_be_bytes())
    }

    #[test]
    fn what_is_there_is_known_and_most_of_what_is_not() {
        let filter = Filter::new(1024 * 1024);
        let mut all: Vec<_> = (0..500).map(|number| filter.note([mark(number), mark(1_000_000)])).collect();
        let may_have = |numbers: std::ops::Range<u32>| numbers.filter(|number| filter.may_have(mark(*number))).count();
        assert_eq!(may_have(0..500), 500);
        assert!(may_have(500..1_500) < 50, "{}", may_have(500..1_500));
        let kept = all[7].clone();
        all.drain(..250);
        assert!(filter.may_have(mark(7)), "a clone carries it still");
        assert_eq!(may_have(250..500), 250);
        drop((all, kept));
        assert_eq!(may_have(0..1_500), 0);
        assert!(filter.may_have(mark(1_000_000)), "a counter that was full is not trusted again");
    }
}
