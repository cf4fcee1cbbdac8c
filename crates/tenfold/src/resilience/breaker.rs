//! Circuit breakers: calls to what keeps failing are refused for a time, then a few find out how it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use breaker::circuit::{Change, Force, State};
use breaker::{Admission, BreakerParams, Outcome};

use super::error::{Error, Refusal};
use super::shard;
use super::verdict::{ByResult, Judge};
use crate::Clock;

/// A circuit breaker. Clones are the same breaker.
///
/// While it is closed every call passes, and costs no write that threads share. It opens after failures in a row, or when
/// too large a share of the calls in a window failed or was slow; [`BreakerParams`] has the rules, and tells what follows.
/// When the open time is over, a bounded number of calls pass as probes, and their results close it or open it again. A
/// call that is dropped has no result, and a probe that is dropped makes room for another.
///
/// Each move is an event of `tracing`, with the breaker's name and the cause.
///
/// ```
/// use std::time::Duration;
/// use tenfold::resilience::{Breaker, BreakerParams, Error};
/// use tenfold::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let params = BreakerParams { failures: Some(2), open_for: Duration::from_secs(5), ..BreakerParams::default() };
/// let breaker = Breaker::with_clock("stock", params, &clock);
/// clock.run(async {
///     for _ in 0..2 {
///         let result = breaker.call(|| async { Err::<u32, _>("connection refused") }).await;
///         assert_eq!(result, Err(Error::Inner("connection refused")));
///     }
///     let refused = breaker.call(|| async { Ok::<_, &str>(7) }).await.unwrap_err();
///     assert!(refused.to_string().starts_with("stock: the circuit breaker is open, try again in "));
///     clock.advance(Duration::from_secs(5));
///     assert_eq!(breaker.call(|| async { Ok::<_, &str>(7) }).await, Ok(7));
///     assert_eq!(breaker.state().as_str(), "closed");
/// });
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    clock: Clock,
    core: breaker::Breaker,
    /// Whether a rule looks at when calls end.
    is_timed: bool,
    refused_total: AtomicU64,
    opened_total: AtomicU64,
}

/// Leave to make one call. It ends with [`record`](Self::record); one that is dropped has no result, and makes room for
/// another if it was a probe.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives the breaker no result"]
pub struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    permit: Option<breaker::Permit>,
    began: Instant,
}

/// What a breaker is and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerSnapshot {
    /// Where it stands.
    pub state: State,
    /// How often it has opened.
    pub opened_total: u64,
    /// Calls that it refused.
    pub refused_total: u64,
}

impl Breaker {
    /// A closed breaker on tokio's clock.
    pub fn new(name: impl Into<Arc<str>>, params: BreakerParams) -> Self {
        Self::with_clock(name, params, Clock::default())
    }

    /// A closed breaker on a clock.
    pub fn with_clock(name: impl Into<Arc<str>>, params: BreakerParams, clock: impl Into<Clock>) -> Self {
        let clock = clock.into();
        Self(Arc::new(Shared {
            name: name.into(),
            is_timed: params.failure_rate.is_some() || params.slow.is_some(),
            core: breaker::Breaker::new(params, shard::count(), clock.now()),
            clock,
            refused_total: AtomicU64::new(0),
            opened_total: AtomicU64::new(0),
        }))
    }

    /// Makes a call if it may be made. An error counts as a failure.
    ///
    /// # Errors
    /// [`Error::Open`], or the call's own as [`Error::Inner`].
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_judged(|result: &Result<T, E>| ByResult.judge(result), call).await
    }

    /// As [`call`](Self::call), with a judge of what counts as a failure.
    ///
    /// ```
    /// # use tenfold::resilience::{Breaker, BreakerParams, Verdict};
    /// # use tenfold::testing::ManualClock;
    /// # let (clock, breaker) = (ManualClock::new(), Breaker::new("stock", BreakerParams::default()));
    /// # let find = || async { Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound)) };
    /// let judge = |result: &std::io::Result<()>| match result {
    ///     Err(error) if error.kind() != std::io::ErrorKind::NotFound => Verdict::Failed,
    ///     _ => Verdict::Fine,
    /// };
    /// let result = clock.run(breaker.call_judged(judge, find));
    /// assert!(result.is_err(), "judged or not, the result is what the call gave");
    /// ```
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_judged<T, E, J, F, Fut>(&self, judge: J, call: F) -> Result<T, Error<E>>
    where
        J: Fn(&Result<T, E>) -> super::Verdict,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let permit = self.acquire().map_err(Refusal::into_any)?;
        let result = call().await;
        permit.record(judge(&result).is_failure());
        result.map_err(Error::Inner)
    }

    /// Leave for one call, for code that is not a future or judges by itself.
    ///
    /// # Errors
    /// [`Error::Open`].
    #[inline]
    pub fn acquire(&self) -> Result<BreakerPermit<'_>, Refusal> {
        self.acquire_at(self.0.clock.now())
    }

    #[inline]
    pub(super) fn acquire_at(&self, now: Instant) -> Result<BreakerPermit<'_>, Refusal> {
        match self.0.core.admit(now) {
            Admission::Admitted(permit) => {
                if permit.ends_open_time() {
                    tracing::info!(breaker = &*self.0.name, from = "open", to = "half_open", "circuit breaker probes");
                }
                Ok(BreakerPermit { breaker: self, permit: Some(permit), began: now })
            }
            Admission::Refused { retry_after } => {
                self.0.refused_total.fetch_add(1, Ordering::Relaxed);
                Err(Error::Open { name: Arc::clone(&self.0.name), retry_after })
            }
        }
    }

    /// Whether a call would pass now. Others may be quicker.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        self.0.core.would_admit(now)
    }

    /// Where it stands. It stays open when its time is over, until a call comes.
    pub fn state(&self) -> State {
        self.0.core.state()
    }

    /// Holds it open or closed, whatever its calls say, or lets it decide by itself again.
    pub fn force(&self, force: Option<Force>) {
        let change = self.0.core.force(force, self.0.clock.now());
        self.tell(change);
    }

    /// What it is and has done, for metrics.
    pub fn snapshot(&self) -> BreakerSnapshot {
        BreakerSnapshot {
            state: self.state(),
            opened_total: self.0.opened_total.load(Ordering::Relaxed),
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

    fn tell(&self, change: Option<Change>) {
        let Some(Change { from, to, cause }) = change else { return };
        let name = &*self.0.name;
        if matches!(to, State::Open { .. }) {
            self.0.opened_total.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(breaker = name, %from, %to, %cause, "circuit breaker opened");
        } else {
            tracing::info!(breaker = name, %from, %to, %cause, "circuit breaker moved");
        }
    }
}

impl BreakerPermit<'_> {
    /// Notes how the call ended. How long it took counts from when the permit was given.
    #[inline]
    pub fn record(self, failed: bool) {
        let now = if self.wants_time(failed) { self.breaker.0.clock.now() } else { self.began };
        self.record_at(failed, now);
    }

    /// Whether the time at the end says anything: for a success while nothing is timed it does not, and is not read.
    #[inline]
    pub(super) fn wants_time(&self, failed: bool) -> bool {
        failed || self.is_probe() || self.breaker.0.is_timed
    }

    #[inline]
    pub(super) fn record_at(mut self, failed: bool, now: Instant) {
        let Some(permit) = self.permit.take() else { return };
        let is_timed = self.breaker.0.is_timed;
        let took = if is_timed { now.saturating_duration_since(self.began) } else { Duration::ZERO };
        let outcome = Outcome { failed, took };
        // Only what opens it leaves something to chance.
        let may_open = failed || is_timed;
        let random = if may_open { self.breaker.0.clock.random() } else { 0 };
        let change = self.breaker.0.core.record(permit, outcome, now, (shard::current(), random));
        if change.is_some() {
            self.breaker.tell(change);
        }
    }

    /// Whether the call is one of those that find out how things are.
    pub fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(breaker::Permit::is_probe)
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.0.core.cancel(permit);
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", &self.0.name).field("snapshot", &self.snapshot()).finish()
    }
}
