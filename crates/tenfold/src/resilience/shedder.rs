//! Adaptive shedding: as many calls under way as the callee can serve, found out from how long they take.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use limit::Moment;
use limit::gradient::{Class, Gradient, GradientParams};

use super::error::{Error, Refusal};
use super::verdict::{ByResult, Judge, Verdict};
use crate::Clock;

/// A limit of calls under way that finds its own value. Clones are the same limit.
///
/// While calls take as long as they do at ease, the limit grows; when they take longer, for they queue somewhere, it
/// shrinks. What is beyond the limit is refused at once, the least important [`Class`] first, so that what is admitted is
/// answered in time. Place it around what does the work: a queue or a pause within would be taken for slowness.
///
/// ```
/// use tenfold::resilience::{Class, Shedder, ShedderParams};
/// use tenfold::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let params = ShedderParams { limit_start: 10, ..ShedderParams::default() };
/// let shedder = Shedder::with_clock("search", params, &clock);
/// let busy: Vec<_> = (0..7).map(|_| shedder.acquire(Class::Normal).expect("there is room")).collect();
/// assert_eq!(shedder.acquire(Class::Low).unwrap_err().to_string(), "search: overloaded with 10 calls under way");
/// assert!(shedder.acquire(Class::Critical).is_ok());
/// ```
#[derive(Clone)]
pub struct Shedder(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    clock: Clock,
    origin: Instant,
    gradient: Gradient,
    in_flight: AtomicU32,
    refused_total: AtomicU64,
}

/// One call under way. It ends with [`record`](Self::record), or without a word when this is dropped.
#[derive(Debug)]
#[must_use = "a permit that is dropped teaches the limit nothing"]
pub struct ShedderPermit<'a> {
    shedder: &'a Shedder,
    began: Instant,
}

/// What a shedder is and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShedderSnapshot {
    /// Calls that may be under way at present.
    pub limit: u32,
    /// Calls that are.
    pub in_flight: u32,
    /// Calls that were refused.
    pub refused_total: u64,
}

impl Shedder {
    /// A limit at its start, on tokio's clock.
    pub fn new(name: impl Into<Arc<str>>, params: GradientParams) -> Self {
        Self::with_clock(name, params, Clock::default())
    }

    /// A limit at its start, on a clock.
    pub fn with_clock(name: impl Into<Arc<str>>, params: GradientParams, clock: impl Into<Clock>) -> Self {
        let clock = clock.into();
        Self(Arc::new(Shared {
            name: name.into(),
            origin: clock.now(),
            clock,
            gradient: Gradient::new(params, Moment::default()),
            in_flight: AtomicU32::new(0),
            refused_total: AtomicU64::new(0),
        }))
    }

    /// Makes a call unless it is to be refused. An error counts as a sign of overload.
    ///
    /// # Errors
    /// [`Error::Overloaded`], or the call's own as [`Error::Inner`].
    pub async fn call<T, E, F, Fut>(&self, class: Class, call: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_judged(class, |result: &Result<T, E>| ByResult.judge(result), call).await
    }

    /// As [`call`](Self::call), with a judge of what is a sign of overload.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_judged<T, E, J, F, Fut>(&self, class: Class, judge: J, call: F) -> Result<T, Error<E>>
    where
        J: Fn(&Result<T, E>) -> Verdict,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = self.acquire(class).map_err(Refusal::into_any)?;
        let result = call().await;
        permit.record(judge(&result));
        result.map_err(Error::Inner)
    }

    /// Leave for one call, for code that is not a future or judges by itself.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    #[inline]
    pub fn acquire(&self, class: Class) -> Result<ShedderPermit<'_>, Refusal> {
        self.acquire_at(class, self.0.clock.now())
    }

    #[inline]
    pub(super) fn acquire_at(&self, class: Class, now: Instant) -> Result<ShedderPermit<'_>, Refusal> {
        let shared = &*self.0;
        // Everyone counts itself first and sees a number of its own, so that no two take the last place.
        let others = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = ShedderPermit { shedder: self, began: now };
        if shared.gradient.admit(class, others) {
            return Ok(permit);
        }
        drop(permit);
        shared.refused_total.fetch_add(1, Ordering::Relaxed);
        Err(Error::Overloaded { name: Arc::clone(&shared.name), limit: shared.gradient.limit() })
    }

    /// What it is and has done, for metrics.
    pub fn snapshot(&self) -> ShedderSnapshot {
        ShedderSnapshot {
            limit: self.0.gradient.limit(),
            in_flight: self.0.in_flight.load(Ordering::Relaxed),
            refused_total: self.0.refused_total.load(Ordering::Relaxed),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

impl ShedderPermit<'_> {
    /// Notes how the call ended.
    pub fn record(self, verdict: Verdict) {
        let now = self.shedder.0.clock.now();
        self.record_at(verdict, now);
    }

    pub(super) fn record_at(self, verdict: Verdict, now: Instant) {
        let shared = &*self.shedder.0;
        let dropped = match verdict {
            Verdict::Fine => false,
            Verdict::Transient { .. } => true,
            // What is no work done, nor a sign of the moment, may be quick or slow for reasons of its own.
            Verdict::Limited { .. } | Verdict::Failed => return,
        };
        let took = now.saturating_duration_since(self.began);
        let in_flight = shared.in_flight.load(Ordering::Relaxed);
        shared.gradient.sample(Moment::since(shared.origin, now), took, in_flight, dropped);
    }
}

impl Drop for ShedderPermit<'_> {
    fn drop(&mut self) {
        self.shedder.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shedder").field("name", &self.0.name).field("snapshot", &self.snapshot()).finish()
    }
}
