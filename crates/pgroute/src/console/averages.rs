//! What databases do per second: counts are looked at once in a period, and what lies between two looks is the average.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Counts;

/// How long a period is, as PgBouncer's `stats_period` by default.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Counts of databases at the ends of the last two periods.
#[derive(Clone, Debug, Default)]
pub struct Averages {
    last: Option<(Instant, HashMap<String, Counts>)>,
    before: Option<(Instant, HashMap<String, Counts>)>,
}

impl Averages {
    /// Whether a period is over.
    pub fn is_due(&self, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= PERIOD)
    }

    /// A period ends with these counts.
    pub fn end(&mut self, now: Instant, counts: HashMap<String, Counts>) {
        self.before = self.last.replace((now, counts));
    }

    /// What a database did per second of the last period that is over. Nothing before the first one is.
    pub fn of(&self, name: &str) -> Counts {
        let (Some((before_at, before)), Some((last_at, last))) = (&self.before, &self.last) else {
            return Counts::default();
        };
        let Some(last) = last.get(name) else { return Counts::default() };
        let before = before.get(name).copied().unwrap_or_default();
        let millis = last_at.saturating_duration_since(*before_at).as_millis().max(1);
        let rate = |last: u64, before: u64| (u128::from(last.saturating_sub(before)) * 1000 / millis) as u64;
        let waits = last.waits.saturating_sub(before.waits);
        Counts {
            transactions: rate(last.transactions, before.transactions),
            statements: rate(last.statements, before.statements),
            wait_micros: last.wait_micros.saturating_sub(before.wait_micros).checked_div(waits).unwrap_or(0),
            waits: rate(last.waits, before.waits),
        }
    }
}
