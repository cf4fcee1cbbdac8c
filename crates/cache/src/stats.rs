//! What a cache has done, counted where it happens without cores in each other's way.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads beyond share counters; they still count right.
const SHARDS: usize = 16;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $variant:ident,)*) => {
        /// What a cache has done since it was built.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Entries in memory.
            pub memory_entries: u64,
            /// What they weigh: bytes, or their number where that is the bound.
            pub memory_weight: u64,
            /// Whether Redis is there.
            pub redis_is_up: bool,
        }

        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count {
            $($variant,)*
        }

        const COUNTS: usize = [$(Count::$variant),*].len();

        impl Tally {
            pub(crate) fn stats(&self) -> Stats {
                Stats { $($name: self.sum(Count::$variant),)* ..Stats::default() }
            }
        }
    };
}

counters! {
    /// Hits in memory.
    memory_hits: MemoryHit,
    /// Hits in Redis.
    redis_hits: RedisHit,
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
    /// Loads ahead of an entry's end.
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
    /// Operations that Redis did not answer, or for which it was not asked as it was away.
    redis_failures: RedisFailure,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTS]);

#[derive(Debug, Default)]
pub(crate) struct Tally([Shard; SHARDS]);

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

impl Tally {
    #[inline]
    pub(crate) fn add(&self, count: Count, number: u64) {
        let own = OWN.with(Cell::get);
        self.0[own].0[count as usize].fetch_add(number, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn note(&self, count: Count) {
        self.add(count, 1);
    }

    fn sum(&self, count: Count) -> u64 {
        self.0.iter().map(|shard| shard.0[count as usize].load(Ordering::Relaxed)).sum()
    }
}
