//! The families of metrics, and how samples become rows of them.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What kind of family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// One family of metrics.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// Its name without unit and `_total`, as encoders want it.
    stem: &'static str,
    is_seconds: bool,
    kind: Kind,
    help: &'static str,
}

impl Family {
    /// Its name, as it is scraped.
    pub fn name(&self) -> String {
        let unit = if self.is_seconds { "_seconds" } else { "" };
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{suffix}", self.stem)
    }

    /// What kind of family it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it means, in a sentence.
    pub fn help(&self) -> &'static str {
        self.help
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $stem:literal $seconds:literal, $help:literal;)+) => {
        $(#[allow(dead_code, reason = "some belong to a feature that is off")]
        pub(super) static $id: Family =
            Family { stem: $stem, is_seconds: $seconds, kind: Kind::$kind, help: $help };)+

        /// Every family, in the order of the page.
        pub static FAMILIES: &[&Family] = &[$(&$id),+];
    };
}

families! {
    CACHE_LOOKUPS = Counter "app_cache_lookups" false,
        "Lookups by where they were answered: `memory`, `redis`, `journal` (what was written behind) or `none`.";
    CACHE_LOADS = Counter "app_cache_loads" false,
        "Loads: `loaded`, `failed`, or `refused` because too many were under way.";
    CACHE_LOAD_DURATION = Histogram "app_cache_load_duration" true, "Time that loads took.";
    CACHE_COALESCED = Counter "app_cache_coalesced" false, "Callers that had what another one loaded.";
    CACHE_REFRESHES = Counter "app_cache_refreshes" false, "Loads ahead of an entry's end.";
    CACHE_STALE = Counter "app_cache_stale_served" false, "Old values that were served as the load had failed.";
    CACHE_UNKEPT = Counter "app_cache_unkept" false,
        "Values that were not kept: `fenced`, as something had changed meanwhile, or `unstorable`.";
    CACHE_FOREIGN = Counter "app_cache_foreign" false, "What was found in Redis and is no entry of this cache and schema.";
    CACHE_INVALIDATIONS = Counter "app_cache_invalidations" false, "Keys and tags that were invalidated here.";
    CACHE_EVENTS = Counter "app_cache_events" false,
        "Changes heard of on channels of others: `followed`, `foreign`, or `missed`, so that everything was invalidated.";
    CACHE_EVICTIONS = Counter "app_cache_evictions" false, "Entries that made room for others in memory.";
    CACHE_ENTRIES = Gauge "app_cache_entries" false, "Entries in memory.";
    CACHE_WEIGHT = Gauge "app_cache_weight" false, "What they weigh: bytes, or their number where that is the bound.";
    CACHE_REDIS_UP = Gauge "app_cache_redis_up" false, "Whether Redis is there.";
    CACHE_MEMORY_HELD = Gauge "app_cache_memory_held" false, "Whether memory may be served: not after a lease has ended, where coherence is leased.";
    CACHE_REDIS_FAILURES = Counter "app_cache_redis_failures" false,
        "Operations that Redis did not answer, or for which it was not asked as it was away.";
    BEHIND_LAG = Gauge "app_cache_behind_lag" true, "Age of the oldest write that the database does not have.";
    BEHIND_KEYS = Gauge "app_cache_behind_keys" false, "Keys whose latest write the database does not have.";
    BEHIND_DEAD = Gauge "app_cache_behind_dead_letters" false, "Writes that the database refused, on disk.";
    BEHIND_WRITES = Counter "app_cache_behind_writes" false,
        "Writes: `acknowledged`, `delivered`, `coalesced` with a newer one, `superseded`, `dead`, or `refused` for want of room.";
    BEHIND_FAILURES = Counter "app_cache_behind_failures" false, "What failed: a `batch` at the database, or the `disk`.";
    BREAKER_OPEN = Gauge "app_breaker_open" false, "Whether a circuit breaker is open, or half open.";
    BREAKER_OPENED = Counter "app_breaker_opened" false, "Times that it opened.";
    BREAKER_REFUSED = Counter "app_breaker_refused" false, "Calls that it refused.";
    BULKHEAD_IN_FLIGHT = Gauge "app_bulkhead_in_flight" false, "Calls under way in a bulkhead.";
    BULKHEAD_WAITING = Gauge "app_bulkhead_waiting" false, "Calls that wait for a place.";
    BULKHEAD_REFUSED = Counter "app_bulkhead_refused" false, "Calls that it refused.";
    LIMITER_REFUSED = Counter "app_limiter_refused" false, "Calls that a limiter refused.";
    SHEDDER_LIMIT = Gauge "app_shedder_limit" false, "Calls that a shedder lets be under way.";
    SHEDDER_IN_FLIGHT = Gauge "app_shedder_in_flight" false, "Calls under way in a shedder.";
    SHEDDER_REFUSED = Counter "app_shedder_refused" false, "Calls that it refused.";
    RETRIES = Counter "app_retries" false, "Retries.";
}

/// A number of a family.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) family: &'static Family,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) number: Number,
}

#[derive(Debug)]
#[allow(dead_code, reason = "some belong to a feature that is off")]
pub(super) enum Number {
    Count(u64),
    Level(f64),
    /// The sum, and for each bucket its upper bound and what it alone holds; the last is unbounded.
    Times(Duration, Vec<(f64, u64)>),
}

/// Writes the rows, family by family; those without any are left out.
pub(super) fn encode(samples: &[Sample], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    for family in FAMILIES {
        let rows: Vec<_> = samples.iter().filter(|sample| std::ptr::eq(sample.family, *family)).collect();
        if rows.is_empty() {
            continue;
        }
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let unit = family.is_seconds.then_some(Unit::Seconds);
        let mut encoder = encoder.encode_descriptor(family.stem, family.help, unit.as_ref(), kind)?;
        rows.iter().try_for_each(|row| row.encode(&mut encoder))?;
    }
    Ok(())
}

impl Sample {
    fn encode(&self, family: &mut MetricEncoder<'_>) -> fmt::Result {
        let mut row = family.encode_family(&self.labels)?;
        match &self.number {
            Number::Count(count) => row.encode_counter::<NoLabelSet, _, u64>(count, None),
            Number::Level(level) => row.encode_gauge(level),
            Number::Times(sum, buckets) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                row.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, buckets, None)
            }
        }
    }
}
