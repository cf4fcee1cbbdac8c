//! What a cache shows.

use std::time::Duration;

use ::cache::behind::{BehindStats, Sink, WriteBehind};
use ::cache::{Cache, Key, LOAD_BOUNDS, Stats, Value};

use super::Source;
use super::family::{self, Family, Number, Sample};

impl<K: Key + ?Sized + 'static, V: Value> From<&Cache<K, V>> for Source {
    fn from(cache: &Cache<K, V>) -> Self {
        let cache = cache.clone();
        Self(Box::new(move |samples| {
            let mut rows = Rows { cache: cache.name(), samples };
            rows.cache(&cache.stats());
            if let Some(stats) = cache.behind_stats() {
                rows.behind(&stats);
            }
        }))
    }
}

/// A journal without a cache is shown by a name that is given here.
impl<S: Sink> From<(&str, &std::sync::Arc<WriteBehind<S>>)> for Source {
    fn from((name, journal): (&str, &std::sync::Arc<WriteBehind<S>>)) -> Self {
        let (name, journal) = (name.to_owned(), std::sync::Arc::clone(journal));
        Self(Box::new(move |samples| Rows { cache: &name, samples }.behind(&journal.stats())))
    }
}

struct Rows<'a> {
    cache: &'a str,
    samples: &'a mut Vec<Sample>,
}

impl Rows<'_> {
    fn row(&mut self, family: &'static Family, label: Option<(&'static str, &str)>, number: Number) {
        let mut labels = vec![("cache", self.cache.to_owned())];
        labels.extend(label.map(|(name, value)| (name, value.to_owned())));
        self.samples.push(Sample { family, labels, number });
    }

    fn counts<const N: usize>(&mut self, family: &'static Family, label: &'static str, counts: [(&str, u64); N]) {
        counts.iter().for_each(|(value, count)| self.row(family, Some((label, value)), Number::Count(*count)));
    }

    fn cache(&mut self, stats: &Stats) {
        let tiers = [
            ("memory", stats.memory_hits),
            ("redis", stats.redis_hits),
            ("journal", stats.dirty_hits),
            ("none", stats.misses),
        ];
        self.counts(&family::CACHE_LOOKUPS, "tier", tiers);
        let loads = [("loaded", stats.loads), ("failed", stats.load_failures), ("refused", stats.loads_refused)];
        self.counts(&family::CACHE_LOADS, "result", loads);
        let bounds = LOAD_BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let times = Number::Times(Duration::from_micros(stats.load_micros), bounds.zip(stats.load_times).collect());
        self.row(&family::CACHE_LOAD_DURATION, None, times);
        self.counts(&family::CACHE_UNKEPT, "reason", [("fenced", stats.fenced), ("unstorable", stats.unstorable)]);
        let events = [("followed", stats.events), ("foreign", stats.events_foreign), ("missed", stats.events_missed)];
        self.counts(&family::CACHE_EVENTS, "result", events);
        for (family, count) in [
            (&family::CACHE_COALESCED, stats.coalesced),
            (&family::CACHE_REFRESHES, stats.refreshes),
            (&family::CACHE_STALE, stats.stale_served),
            (&family::CACHE_FOREIGN, stats.foreign),
            (&family::CACHE_INVALIDATIONS, stats.invalidations),
            (&family::CACHE_EVICTIONS, stats.evictions),
            (&family::CACHE_REDIS_FAILURES, stats.redis_failures),
        ] {
            self.row(family, None, Number::Count(count));
        }
        self.row(&family::CACHE_ENTRIES, None, Number::Level(stats.memory_entries as f64));
        self.row(&family::CACHE_WEIGHT, None, Number::Level(stats.memory_weight as f64));
        for (family, is_so) in
            [(&family::CACHE_REDIS_UP, stats.redis_is_up), (&family::CACHE_MEMORY_HELD, stats.memory_is_held)]
        {
            self.row(family, None, Number::Level(f64::from(u8::from(is_so))));
        }
    }

    fn behind(&mut self, stats: &BehindStats) {
        self.row(&family::BEHIND_LAG, None, Number::Level(stats.lag.as_secs_f64()));
        self.row(&family::BEHIND_KEYS, None, Number::Level(stats.keys as f64));
        self.row(&family::BEHIND_DEAD, None, Number::Level(stats.dead_letters as f64));
        let writes = [
            ("acknowledged", stats.acknowledged_total),
            ("delivered", stats.delivered_total),
            ("coalesced", stats.coalesced_total),
            ("superseded", stats.superseded_total),
            ("dead", stats.dead_total),
            ("refused", stats.refused_full_total),
        ];
        self.counts(&family::BEHIND_WRITES, "result", writes);
        let failures = [("batch", stats.failures_total), ("disk", stats.disk_errors_total)];
        self.counts(&family::BEHIND_FAILURES, "of", failures);
    }
}
