//! What is counted of a named cache, by the core that counts it.

use telemetry::cell::{Counter, Gauge, Sharded};
use telemetry::encode::NamedCacheRow;

use crate::command::Kind;

/// What one core counts.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) commands: [Counter; Kind::COUNT],
    pub(crate) errors: Counter,
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) stored: Counter,
    pub(crate) evicted: Counter,
    pub(crate) invalidations: Counter,
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) cut: Counter,
    pub(crate) open: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
}

impl Default for Cells {
    fn default() -> Self {
        let counter = Counter::default;
        Self {
            commands: std::array::from_fn(|_| counter()),
            errors: counter(),
            hits: counter(),
            misses: counter(),
            stored: counter(),
            evicted: counter(),
            invalidations: counter(),
            accepted: counter(),
            refused: counter(),
            cut: counter(),
            open: Gauge::default(),
            received: counter(),
            sent: counter(),
        }
    }
}

impl Cells {
    /// Counts whether a key was there.
    pub(crate) fn found(&self, found: bool) {
        if found { self.hits.increment() } else { self.misses.increment() }
    }
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

    /// Hits and misses.
    pub(crate) fn lookups(&self) -> (u64, u64) {
        (self.0.sum(|cells| cells.hits.value()), self.0.sum(|cells| cells.misses.value()))
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        let level: i64 = self.0.iter().map(|cells| cells.open.value()).sum();
        u64::try_from(level).unwrap_or(0)
    }

    /// Entries that made room.
    pub(crate) fn evicted(&self) -> u64 {
        self.0.sum(|cells| cells.evicted.value())
    }

    /// The row of a scrape.
    pub(crate) fn row(&self, name: &str, (entries, bytes): (u64, u64), bytes_max: u64) -> NamedCacheRow {
        let sum = |of: fn(&Cells) -> &Counter| self.0.sum(|cells| of(cells).value());
        let commands = Kind::ALL.iter();
        let commands =
            commands.map(|kind| (kind.spec().name, self.0.sum(|cells| cells.commands[*kind as usize].value())));
        NamedCacheRow {
            cache: name.to_owned(),
            commands: commands.collect(),
            errors: sum(|cells| &cells.errors),
            lookups: [sum(|cells| &cells.hits), sum(|cells| &cells.misses)],
            stored: sum(|cells| &cells.stored),
            evicted: sum(|cells| &cells.evicted),
            invalidations: sum(|cells| &cells.invalidations),
            connections: self.open(),
            accepted: sum(|cells| &cells.accepted),
            refused: sum(|cells| &cells.refused),
            cut: sum(|cells| &cells.cut),
            transferred: [sum(|cells| &cells.received), sum(|cells| &cells.sent)],
            entries,
            bytes,
            bytes_max,
        }
    }
}
