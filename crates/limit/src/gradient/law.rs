//! What a window does to a limit.

use std::time::Duration;

use super::GradientParams;
use crate::Moment;

/// What a window came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// What requests took; `None` when there is nothing to go by.
    pub(super) log: Option<Log>,
    pub(super) in_flight_max: u32,
    /// Whether too many were dropped.
    pub(super) dropped: bool,
}

/// What requests took over what they take at ease, as a logarithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub(super) mean: f64,
    /// Twice the standard error of the mean, so that it rarely is further from the truth.
    pub(super) error: f64,
}

/// A limit, and what is known of its service.
#[derive(Debug)]
pub(super) struct Law {
    limit: f64,
    /// The time at ease; 0 until there is one.
    at_ease_nanos: f64,
    /// Whether the running window measures the time at ease.
    measures: bool,
    measured: Moment,
    /// Windows in a row that took twice as long as at ease.
    doubled: u32,
    /// Whether the limit has not met its bound yet.
    starts: bool,
}

/// What the limit is multiplied by in a window at the start.
const START_GROWTH: f64 = 1.5;

/// Half of the limit is let in while it is measured: a queue within the tolerance is gone then, whatever the number of
/// slots.
const MEASURE_SHARE: f64 = 0.5;

/// Windows of twice the time after which it is measured anew: a second, as a rule.
const DOUBLED_MAX: u32 = 10;

impl Law {
    pub(super) fn new(params: &GradientParams, now: Moment) -> Self {
        let limit = bounded(params, f64::from(params.limit_start));
        Self { limit, at_ease_nanos: 0.0, measures: false, measured: now, doubled: 0, starts: true }
    }

    pub(super) fn measures(&self) -> bool {
        self.measures
    }

    pub(super) fn at_ease_nanos(&self) -> u64 {
        self.at_ease_nanos as u64
    }

    /// How many are let in.
    pub(super) fn admitted(&self, params: &GradientParams) -> u32 {
        let share = if self.measures { MEASURE_SHARE } else { 1.0 };
        ((self.limit * share) as u32).clamp(1, params.limit_max.max(1))
    }

    /// Goes by a window whose times are multiples of `unit_nanos`, that of the window before.
    pub(super) fn close(&mut self, params: &GradientParams, now: Moment, unit_nanos: u64, summary: Summary) {
        let Summary { log, in_flight_max, dropped } = summary;
        if let (Some(log), true) = (log, self.measures || self.at_ease_nanos == 0.0) {
            self.at_ease_nanos = (log.mean.exp() * unit_nanos as f64).max(1.0);
        }
        if self.measures {
            (self.measures, self.measured, self.doubled) = (false, now, 0);
            return;
        }
        let is_used = f64::from(in_flight_max) >= self.limit / 2.0;
        let log = log.map(|log| Log { mean: log.mean - (self.at_ease_nanos / unit_nanos as f64).ln(), ..log });
        self.learn(log, is_used);
        if !is_used {
            return;
        }
        // How far it is above what is tolerated, for sure.
        let excess = log.map_or(0.0, |log| (log.mean - log.error - params.tolerance.max(1.0).ln()).max(0.0));
        self.starts &= !dropped && excess == 0.0;
        let next = if dropped {
            self.limit * 0.9
        } else if self.starts {
            self.limit * START_GROWTH
        } else {
            let aim = self.limit * (-excess).exp().max(0.5) + f64::from(params.queue);
            self.limit + (aim - self.limit) * params.smoothing.clamp(0.0, 1.0)
        };
        self.limit = bounded(params, next);
        let is_doubled = log.is_some_and(|log| log.mean - log.error > std::f64::consts::LN_2);
        self.doubled = if is_doubled { self.doubled + 1 } else { 0 };
        let is_old = now.saturating_since(self.measured) >= params.measure_every.max(Duration::from_millis(1));
        self.measures = excess > 0.0 && (is_old || self.doubled >= DOUBLED_MAX);
    }

    fn learn(&mut self, log: Option<Log>, is_used: bool) {
        let Some(Log { mean, error }) = log else { return };
        let step = match mean + error {
            surely if surely < 0.0 => surely * 0.5,
            _ if is_used => 0.0,
            _ => mean * 0.05,
        };
        self.at_ease_nanos = (self.at_ease_nanos * step.exp()).max(1.0);
    }
}

fn bounded(params: &GradientParams, limit: f64) -> f64 {
    let most = f64::from(params.limit_max.max(1));
    limit.clamp(f64::from(params.limit_min.max(1)).min(most), most)
}
