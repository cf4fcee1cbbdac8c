//! What is counted, per database.

use pgroute::session::Pin;
use telemetry::cell::{Counter, Gauge, Sharded};

/// Why sessions are pinned, in the order of their counters.
pub(crate) const PINS: [Pin; 8] = [
    Pin::TemporaryTable,
    Pin::AdvisoryLock,
    Pin::HeldCursor,
    Pin::Irreversible,
    Pin::Recall,
    Pin::HiddenSetting,
    Pin::Prepare,
    Pin::Listen,
];

/// What one core counts.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// Clients that have logged in.
    pub(crate) clients: Gauge,
    pub(crate) logins: Counter,
    pub(crate) logins_failed: Counter,
    pub(crate) statements: Counter,
    pub(crate) transactions: Counter,
    /// Backends that were waited for, and in vain.
    pub(crate) waits: Counter,
    pub(crate) acquire_timeouts: Counter,
    /// How long was waited, in microseconds.
    pub(crate) wait_micros: Counter,
    pub(crate) pins: [Counter; PINS.len()],
    pub(crate) pinned: Gauge,
    /// Backends that were made as they began.
    pub(crate) resets: Counter,
    /// Settings that were replayed.
    pub(crate) replays: Counter,
    /// Our own `Parse` messages: the backend had not the statement, or had an old one.
    pub(crate) parses: Counter,
    /// Groups that were run again, because a plan was older than the schema.
    pub(crate) healed: Counter,
    pub(crate) cancels: Counter,
    /// Backends that came from another core.
    pub(crate) moves: Counter,
    /// Backends that were closed because they were not clean.
    pub(crate) unclean: Counter,
    pub(crate) errors: Counter,
    /// Groups of messages that went to a replica.
    pub(crate) replica_reads: Counter,
    /// Questions for the primary's position.
    pub(crate) probes: Counter,
    /// Reads that waited for a replica to come far enough, and those of them that went to the primary in the end.
    pub(crate) causal_waits: Counter,
    pub(crate) causal_misses: Counter,
    /// Reads that a replica refused, and that were run on the primary.
    pub(crate) refusals: Counter,
    /// Reads that were run again because their connection broke.
    pub(crate) reruns: Counter,
    /// Notifications that were heard for clients, once for each of them.
    pub(crate) notifications: Counter,
    /// Transactions that were cut because their connection broke.
    pub(crate) cut_transactions: Counter,
}

/// What all cores counted.
#[derive(Debug)]
pub(crate) struct Metrics(Sharded<Cells>);

impl Metrics {
    pub(crate) fn new(cores: usize) -> Self {
        Self(Sharded::new(cores, Cells::default))
    }

    pub(crate) fn core(&self, core: usize) -> &Cells {
        self.0.core(core)
    }

    pub(crate) fn sum(&self, of: impl Fn(&Cells) -> &Counter) -> u64 {
        self.0.sum(|cells| of(cells).value())
    }

    pub(crate) fn level(&self, of: impl Fn(&Cells) -> &Gauge) -> u64 {
        let level: i64 = self.0.iter().map(|cells| of(cells).value()).sum();
        u64::try_from(level).unwrap_or(0)
    }
}

impl Cells {
    pub(crate) fn pinned(&self, pin: Pin) {
        if let Some(at) = PINS.iter().position(|known| *known == pin) {
            self.pins[at].increment();
        }
        self.pinned.add(1);
    }
}
