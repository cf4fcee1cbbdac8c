//! How much a service can take at once, found out from how long it takes.
//!
//! The problem: a service that is given more than it can work on at once only queues it, and past some queue nobody
//! waits for the answers any more. The right number differs by machine and by day, so it cannot be configured. The
//! rule, after Netflix's `Gradient2`: compare the round-trip time of the last moments with that of a service at ease.
//! While they agree the limit grows by a small queue; as the one exceeds the other by more than a tolerance, the limit
//! shrinks in proportion. With a service of `n` slots it settles at `n` times the tolerance plus the queue.
//!
//! - A limit is changed only by a window in which at least half of it was used: an idle service teaches nothing.
//! - **At the start** it grows by half in each window, until one is slower than at ease or had drops. A queue at a time
//!   would take a minute to a service of some hundred slots, and refuse meanwhile what that could have served.
//! - **Requests of unequal cost.** Where one in ten takes ten times as long, the average of a window changes by a third
//!   from one to the next, by chance. Whoever takes that for a queue, and the shortest average ever for the time at
//!   ease, refuses half of what the service could well do. So times are averaged as logarithms, which a few long ones
//!   hardly move, and a window says no more than its spread lets it say: what may be chance is none.
//! - **What a service at ease takes.** `Gradient2` takes a long average for it. Under an overload that stays, that
//!   average becomes the overloaded time, and the limit creeps up to its maximum. Here it is measured: when the service
//!   has been slower than at ease, every ten seconds, and once the time has doubled for ten windows, half the limit is
//!   let in until the queue has gone, and for a window after that. It costs less than a percent of the throughput.
//!   Between the measurements it follows only times that are shorter, and those of windows that left half of the limit
//!   unused.
//! - A request that was dropped (it timed out, or the service refused it) says nothing about times. A window in which
//!   that became of a twentieth lowers the limit by a tenth.
//! - **Classes** are refused from shares of the limit upwards, so that the least important go first. What is exempt,
//!   such as health checks, is never refused, and at least one request of each class is always let in.
//!
//! Samples of all cores add up in a few atomics. Whoever's sample ends a window computes the next limit under a lock
//! that nobody waits for.
//!
//! Source: Netflix's concurrency-limits, `Gradient2Limit`; the measurement at ease is after Envoy's adaptive
//! concurrency filter.

mod law;

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use law::{Law, Log, Summary};

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
    /// Logarithms of the times, as multiples of that at ease, and the squares of these, in units of [`LOG_UNIT`].
    logs: AtomicI64,
    squares: AtomicU64,
    /// What the times are multiples of; 0 until a first time was seen.
    unit_nanos: AtomicU64,
    in_flight_max: AtomicU32,
    dropped: AtomicU32,
    /// Requests that began before this are not of this window.
    begin_nanos: AtomicU64,
    end_nanos: AtomicU64,
}

/// A sixteenth of a thousandth: fine enough for averages, and a million samples of the longest times fit.
const LOG_UNIT: f64 = 1.0 / 16_384.0;

/// One of so many requests has to be dropped before a window says that the service has too much to do: a few happen to
/// every service.
const DROPPED_ONE_IN: u32 = 20;

impl Gradient {
    /// A limit that starts at `now`.
    pub fn new(params: GradientParams, now: Moment) -> Self {
        let law = Law::new(&params, now);
        let window = Window::default();
        window.end_nanos.store((now + params.window).nanos(), Ordering::Relaxed);
        let limit = AtomicU32::new(law.admitted(&params));
        Self { params, limit, window, law: Mutex::new(law) }
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
        let nanos = nanos_of(rtt).max(1);
        if dropped {
            window.dropped.fetch_add(1, Ordering::Relaxed);
        } else if now.nanos().saturating_sub(nanos) >= window.begin_nanos.load(Ordering::Relaxed) {
            window.add(nanos);
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
        let dropped = window.dropped.load(Ordering::Relaxed);
        let is_over = now.nanos() >= window.end_nanos.load(Ordering::Relaxed);
        if !is_over || samples < self.params.samples_min.max(1) && dropped == 0 {
            return;
        }
        let unit_nanos = window.unit_nanos.load(Ordering::Relaxed);
        let summary = window.take(samples, dropped);
        let slowest = summary.log.map_or(0.0, |log| log.mean.exp() * unit_nanos as f64);
        law.close(&self.params, now, unit_nanos, summary);
        // While it measures, the queue first has to go, which takes about as long as requests take now.
        let begin = if law.measures() { now + Duration::from_nanos(slowest as u64) } else { Moment::default() };
        window.unit_nanos.store(law.at_ease_nanos(), Ordering::Relaxed);
        window.begin_nanos.store(begin.nanos(), Ordering::Relaxed);
        window.end_nanos.store((begin.max(now) + self.params.window).nanos(), Ordering::Relaxed);
        self.limit.store(law.admitted(&self.params), Ordering::Relaxed);
    }
}

impl Window {
    fn add(&self, nanos: u64) {
        let unit = match self.unit_nanos.load(Ordering::Relaxed) {
            0 => match self.unit_nanos.compare_exchange(0, nanos, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => nanos,
                Err(first) => first,
            },
            unit => unit,
        };
        let log = (nanos as f64 / unit as f64).ln();
        self.logs.fetch_add((log / LOG_UNIT) as i64, Ordering::Relaxed);
        self.squares.fetch_add((log * log / LOG_UNIT) as u64, Ordering::Relaxed);
        self.samples.fetch_add(1, Ordering::Relaxed);
    }

    /// What it came to. The next begins.
    fn take(&self, samples: u32, dropped: u32) -> Summary {
        let (logs, squares) = (self.logs.swap(0, Ordering::Relaxed), self.squares.swap(0, Ordering::Relaxed));
        self.samples.store(0, Ordering::Relaxed);
        self.dropped.store(0, Ordering::Relaxed);
        let count = f64::from(samples.max(1));
        let mean = logs as f64 * LOG_UNIT / count;
        let variance = (squares as f64 * LOG_UNIT / count - mean * mean).max(0.0);
        Summary {
            log: (samples > 0).then(|| Log { mean, error: 2.0 * (variance / count).sqrt() }),
            in_flight_max: self.in_flight_max.swap(0, Ordering::Relaxed),
            dropped: dropped > 0 && dropped.saturating_mul(DROPPED_ONE_IN) >= samples.saturating_add(dropped),
        }
    }
}
