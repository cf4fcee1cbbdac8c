//! What a cache has done, counted where it happens without cores in each other's way.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The first threads have counters of their own, which nobody else writes; those beyond share the last ones.
const SHARDS: usize = 32;

/// Upper bounds of times that loads are told apart by: 1-2.5-5 in each decade, then 30 s and 60 s.
pub const LOAD_BOUNDS: [Duration; 16] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $variant:ident,)*) => {
        /// What a cache has done since it was built.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Loads by the time that they took: for each of [`LOAD_BOUNDS`] those that took no longer, and longer than the one before, and at
            /// the end all that took longer.
            pub load_times: [u64; LOAD_BOUNDS.len() + 1],
            /// Entries that made room for others in memory.
            pub evictions: u64,
            /// Entries in memory.
            pub memory_entries: u64,
            /// What they weigh: bytes, or their number where that is the bound.
            pub memory_weight: u64,
            /// Whether Redis is there.
            pub redis_is_up: bool,
            /// Whether what is in memory may be served: not after a lease has ended, with [`Coherence::Leased`](crate::Coherence::Leased).
            pub memory_is_held: bool,
        }

        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count {
            $($variant,)*
        }

        const COUNTS: usize = [$(Count::$variant),*].len();

        impl Tally {
            pub(crate) fn stats(&self) -> Stats {
                let load_times = std::array::from_fn(|at| self.load_times[at].load(Ordering::Relaxed));
                Stats { $($name: self.sum(Count::$variant),)* load_times, ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Hits in memory.
    memory_hits: MemoryHit,
    /// Hits in Redis.
    redis_hits: RedisHit,
    /// Hits of what was written behind and is no longer in a tier.
    dirty_hits: DirtyHit,
    /// Lookups that no tier could answer.
    misses: Miss,
    /// Loads that brought something.
    loads: Load,
    /// Loads that failed.
    load_failures: LoadFailure,
    /// Microseconds that loads took.
    load_micros: LoadMicros,
    /// Callers that had what another one loaded, in this process or another.
    coalesced: Coalesced,
    /// Loads ahead of an entry's end, and of hot keys.
    refreshes: Refresh,
    /// Old values that were served as the load had failed.
    stale_served: StaleServed,
    /// Values that were not kept because something had changed while they were loaded.
    fenced: Fenced,
    /// Values that were not kept because they are too large or have no bytes.
    unstorable: Unstorable,
    /// What was found in Redis and is no entry of this cache and schema.
    foreign: Foreign,
    /// Loads that were refused because too many were under way.
    loads_refused: LoadRefused,
    /// Keys and tags that were invalidated here.
    invalidations: Invalidation,
    /// Changes that were heard of on the channels of others.
    events: Event,
    /// Messages there that named nothing.
    events_foreign: EventForeign,
    /// Times at which messages may have been missed, so that everything was invalidated.
    events_missed: EventMissed,
    /// Operations that Redis did not answer, or for which it was not asked as it was away.
    redis_failures: RedisFailure,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTS]);

#[derive(Debug, Default)]
pub(crate) struct Tally {
    shards: [Shard; SHARDS],
    /// Loads are rare and slow, so that all threads share these.
    load_times: [AtomicU64; LOAD_BOUNDS.len() + 1],
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed).min(SHARDS - 1));
}

impl Tally {
    #[inline]
    pub(crate) fn add(&self, count: Count, number: u64) {
        let own = OWN.with(Cell::get);
        let counter = &self.shards[own].0[count as usize];
        if own < SHARDS - 1 {
            // With one writer an addition need not be one step, which would take longer than all else of a hit but the clock.
            counter.store(counter.load(Ordering::Relaxed) + number, Ordering::Relaxed);
        } else {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn note(&self, count: Count) {
        self.add(count, 1);
    }

    /// Notes how long a load took.
    pub(crate) fn note_load(&self, took: Duration) {
        self.add(Count::LoadMicros, took.as_micros() as u64);
        let at = LOAD_BOUNDS.partition_point(|bound| *bound < took);
        self.load_times[at].fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, count: Count) -> u64 {
        self.shards.iter().map(|shard| shard.0[count as usize].load(Ordering::Relaxed)).sum()
    }
}
