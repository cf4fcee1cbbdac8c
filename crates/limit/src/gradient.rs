//! How much a service can take at once, found out from how long it takes.
//!
//! The problem: a service that is given more than it can work on at once only queues it, and past some queue nobody
//! waits for the answers any more. The right number differs by machine and by day, so it cannot be configured. The
//! rule, after Netflix's `Gradient2`: compare the round-trip time of the last moments with that of a service at ease.
//! While they agree the limit grows by a small queue; as the one exceeds the other by more than a tolerance, the limit
//! shrinks in proportion. With a service of `n` slots it settles at `n` times the tolerance plus the queue.
//!
//! - A limit is changed only by a window in which at least half of it was used: an idle service teaches nothing.
//! - **What a service at ease takes.** `Gradient2` takes a long average for it. Under an overload that stays, that
//!   average becomes the overloaded time, and the limit creeps up to its maximum. Here it is measured: every ten
//!   seconds, and once the time has doubled for ten windows, half the limit is let in until the queue has gone, and for
//!   a window after that. It costs less than a percent of the throughput. Between the measurements it follows only times
//!   that are shorter, and those of windows that left half of the limit unused.
//! - A request that was dropped (it timed out, or the service refused it) says nothing about times. A window with one
//!   lowers the limit by a tenth.
//! - **Classes** are refused from shares of the limit upwards, so that the least important go first. What is exempt,
//!   such as health checks, is never refused, and at least one request of each class is always let in.
//!
//! Samples of all cores add up in a few atomics. Whoever's sample ends a window computes the next limit under a lock
//! that nobody waits for.
//!
//! Source: Netflix's concurrency-limits, `Gradient2Limit`; the measurement at ease is after Envoy's adaptive
//! concurrency filter.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use crate::Moment;
use crate::moment::nanos_of;

/// How a limit adapts.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientParams {
    /// The limit is never below this; at least 1, default 8.
    pub limit_min: u32,
    /// Nor above this; default 1000.
    pub limit_max: u32,
    /// The limit at first; default 20.
    pub limit_start: u32,
    /// Requests that may queue; default 4.
    pub queue: u32,
    /// How much longer than at ease a request may take before the limit shrinks (1 and more); default 1.2.
    pub tolerance: f64,
    /// The share of the way to the new limit that a window goes (0 to 1); default 0.2.
    pub smoothing: f64,
    /// A window lasts at least this long; default 100 ms.
    pub window: Duration,
    /// A window has at least so many samples; default 10.
    pub samples_min: u32,
    /// Time between measurements at ease; default 10 s.
    pub measure_every: Duration,
    /// Shares of the limit (0 to 1) from which [`Class::Low`], [`Class::Normal`] and [`Class::Critical`] are refused;
    /// default 0.7, 0.9 and 1.
    pub shares: [f64; 3],
}

impl Default for GradientParams {
    fn default() -> Self {
        Self {
            limit_min: 8,
            limit_max: 1000,
            limit_start: 20,
            queue: 4,
            tolerance: 1.2,
            smoothing: 0.2,
            window: Duration::from_millis(100),
            samples_min: 10,
            measure_every: Duration::from_secs(10),
            shares: [0.7, 0.9, 1.0],
        }
    }
}

/// How important a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Refused first.
    Low,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// Refused at the limit itself.
    Critical,
    /// Never refused.
    Exempt,
}

/// A limit of what is under way at once, shared by all cores.
///
/// ```
/// use std::time::Duration;
/// use limit::Moment;
/// use limit::gradient::{Class, Gradient, GradientParams};
///
/// let limit = Gradient::new(GradientParams::default(), Moment::from_nanos(0));
/// assert!(limit.admit(Class::Low, 13) && !limit.admit(Class::Low, 14));
/// assert!(limit.admit(Class::Critical, 19) && !limit.admit(Class::Critical, 20));
/// limit.sample(Moment::from_nanos(20_000_000), Duration::from_millis(20), 14, false);
/// ```
#[derive(Debug)]
pub struct Gradient {
    params: GradientParams,
    limit: AtomicU32,
    window: Window,
    law: Mutex<Law>,
}

/// What the running window holds. A sample that two cores add at its very end may fall into the next; a sum is then off
/// by one.
#[derive(Debug, Default)]
struct Window {
    samples: AtomicU32,
    nanos: AtomicU64,
    in_flight_max: AtomicU32,
    dropped: AtomicU32,
    /// Requests that began before this are not of this window.
    begin_nanos: AtomicU64,
    end_nanos: AtomicU64,
}

/// What a window came to.
#[derive(Clone, Copy, Debug)]
struct Summary {
    rtt_nanos: f64,
    in_flight_max: u32,
    dropped: bool,
}

#[derive(Debug)]
struct Law {
    limit: f64,
    /// The time at ease; 0 until there is one.
    at_ease_nanos: f64,
    /// Whether the running window measures the time at ease.
    measures: bool,
    measured: Moment,
    /// Windows in a row that took twice as long as at ease.
    doubled: u32,
}

/// Half of the limit is let in while it is measured: a queue within the tolerance is gone then, whatever the number of
/// slots.
const MEASURE_SHARE: f64 = 0.5;

/// Windows of twice the time after which it is measured anew: a second, as a rule.
const DOUBLED_MAX: u32 = 10;

impl Gradient {
    /// A limit that starts at `now`.
    pub fn new(params: GradientParams, now: Moment) -> Self {
        let start = f64::from(params.limit_start.clamp(params.limit_min.max(1), params.limit_max.max(1)));
        let window = Window::default();
        window.end_nanos.store((now + params.window).nanos(), Ordering::Relaxed);
        let law = Law { limit: start, at_ease_nanos: 0.0, measures: false, measured: now, doubled: 0 };
        Self { params, limit: AtomicU32::new(start as u32), window, law: Mutex::new(law) }
    }

    /// The limit at this moment.
    #[inline]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether a request of a class may begin while `in_flight` others are under way.
    #[inline]
    pub fn admit(&self, class: Class, in_flight: u32) -> bool {
        let share = match class {
            Class::Low => self.params.shares[0],
            Class::Normal => self.params.shares[1],
            Class::Critical => self.params.shares[2],
            Class::Exempt => return true,
        };
        f64::from(in_flight) < (f64::from(self.limit()) * share).max(1.0)
    }

    /// A request ended at `now` after `rtt`, while `in_flight` were under way, itself included.
    pub fn sample(&self, now: Moment, rtt: Duration, in_flight: u32, dropped: bool) {
        let window = &self.window;
        window.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        let nanos = nanos_of(rtt);
        if dropped {
            window.dropped.fetch_add(1, Ordering::Relaxed);
        } else if now.nanos().saturating_sub(nanos) >= window.begin_nanos.load(Ordering::Relaxed) {
            window.samples.fetch_add(1, Ordering::Relaxed);
            window.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        if now.nanos() >= window.end_nanos.load(Ordering::Relaxed) {
            self.end_window(now);
        }
    }

    #[cold]
    fn end_window(&self, now: Moment) {
        let mut law = match self.law.try_lock() {
            Ok(law) => law,
            // Nothing panics half-way, so what a poisoned lock guards is whole.
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return,
        };
        let window = &self.window;
        let samples = window.samples.load(Ordering::Relaxed);
        let dropped = window.dropped.load(Ordering::Relaxed) > 0;
        let is_over = now.nanos() >= window.end_nanos.load(Ordering::Relaxed);
        if !is_over || samples < self.params.samples_min.max(1) && !dropped {
            return;
        }
        let nanos = window.nanos.swap(0, Ordering::Relaxed);
        window.samples.store(0, Ordering::Relaxed);
        window.dropped.store(0, Ordering::Relaxed);
        let in_flight_max = window.in_flight_max.swap(0, Ordering::Relaxed);
        let rtt_nanos = if samples == 0 { 0.0 } else { nanos as f64 / f64::from(samples) };
        law.close(&self.params, now, Summary { rtt_nanos, in_flight_max, dropped });
        // While it measures, the queue first has to go, which takes about as long as requests take now.
        let begin = if law.measures { now + Duration::from_nanos(rtt_nanos as u64) } else { Moment::default() };
        window.begin_nanos.store(begin.nanos(), Ordering::Relaxed);
        window.end_nanos.store((begin.max(now) + self.params.window).nanos(), Ordering::Relaxed);
        self.limit.store(law.admitted(&self.params), Ordering::Relaxed);
    }
}

impl Law {
    fn close(&mut self, params: &GradientParams, now: Moment, summary: Summary) {
        let Summary { rtt_nanos: rtt, in_flight_max, dropped } = summary;
        if self.measures {
            self.measures = false;
            self.measured = now;
            self.doubled = 0;
            if rtt > 0.0 {
                self.at_ease_nanos = rtt;
            }
            return;
        }
        let is_used = f64::from(in_flight_max) >= self.limit / 2.0;
        if rtt > 0.0 {
            self.learn(rtt, is_used);
        }
        if !is_used {
            return;
        }
        let gradient = if rtt > 0.0 { (params.tolerance * self.at_ease_nanos / rtt).clamp(0.5, 1.0) } else { 1.0 };
        let aim = if dropped { self.limit * 0.9 } else { self.limit * gradient + f64::from(params.queue) };
        let step = if dropped { 1.0 } else { params.smoothing.clamp(0.0, 1.0) };
        let most = f64::from(params.limit_max.max(1));
        self.limit = (self.limit + (aim - self.limit) * step).clamp(f64::from(params.limit_min.max(1)).min(most), most);
        self.doubled = if rtt > 2.0 * self.at_ease_nanos { self.doubled + 1 } else { 0 };
        let is_due = now.saturating_since(self.measured) >= params.measure_every || self.doubled >= DOUBLED_MAX;
        self.measures = is_due && rtt > 0.0;
    }

    fn learn(&mut self, rtt: f64, is_used: bool) {
        let share = match self.at_ease_nanos {
            0.0 => 1.0,
            at_ease if rtt < at_ease => 0.5,
            _ if is_used => 0.0,
            _ => 0.05,
        };
        self.at_ease_nanos += (rtt - self.at_ease_nanos) * share;
    }

    fn admitted(&self, params: &GradientParams) -> u32 {
        let share = if self.measures { MEASURE_SHARE } else { 1.0 };
        ((self.limit * share) as u32).clamp(1, params.limit_max.max(1))
    }
}
