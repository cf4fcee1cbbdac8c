//! Counts that many threads add to and few read.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A count with a cache line for each of a few threads.
#[derive(Debug)]
pub(super) struct Counter(Box<[Padded]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of this thread. Threads are numbered in the order in which they first ask.
#[inline]
pub(super) fn current() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    SHARD.with(|shard| match shard.get() {
        Some(number) => number,
        None => {
            let number = THREADS.fetch_add(1, Ordering::Relaxed);
            shard.set(Some(number));
            number
        }
    })
}

/// How many threads do work at once.
pub(super) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Counter {
    pub(super) fn new() -> Self {
        Self((0..count()).map(|_| Padded::default()).collect())
    }

    #[inline]
    pub(super) fn increment(&self) {
        self.0[current() % self.0.len()].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Ordering::Relaxed)).sum()
    }
}
