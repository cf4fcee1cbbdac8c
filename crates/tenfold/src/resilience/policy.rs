//! Policies: several pieces around one call, in the order that is right.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use breaker::BreakerParams;
use limit::Quota;
use limit::gradient::{Class, GradientParams};

use super::breaker::{Breaker, BreakerPermit};
use super::bulkhead::{Bulkhead, BulkheadParams, BulkheadPermit};
use super::error::{Error, Refusal};
use super::limiter::Limiter;
use super::retry::{Retry, RetryParams};
use super::shedder::{Shedder, ShedderPermit};
use super::timeout::{Timeout, within};
use super::verdict::{ByResult, Judge, Verdict};
use crate::clock::{Clock, later};

/// What stands around the calls to one callee, in one fixed order. Clones are the same policy.
///
/// From the outside in: **deadline**, **limiter**, **bulkhead**, **retry**, and around each try **shedder**, **breaker**
/// and **attempt timeout**. Each may be left out. What the order means:
///
/// - The deadline bounds everything: the wait for a place, all tries and the pauses between them. A retry that would begin
///   after it is not begun.
/// - A call is paid for and takes its place once, however many tries it needs.
/// - The breaker judges tries, not calls. So it hears of every failure, a probe is one try and no more, and tries end as
///   soon as it is open.
/// - A try that is cut off by its timeout or by the deadline is a failure. A call whose future is dropped is none: the
///   caller has gone, and the callee may be well.
///
/// ```
/// use std::time::Duration;
/// use tenfold::resilience::{BreakerParams, BulkheadParams, Policy, Quota, Rate, RetryParams};
/// use tenfold::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let payments = Policy::builder_with_clock("payments", &clock)
///     .deadline(Duration::from_secs(2))
///     .limiter(Quota::gcra(Rate::per_sec(500), 100)?)
///     .bulkhead(BulkheadParams { concurrency_max: 50, ..BulkheadParams::default() })
///     .retry(RetryParams::default())
///     .breaker(BreakerParams::default())
///     .attempt_timeout(Duration::from_millis(500))
///     .build();
/// let charge = || async { Ok::<_, std::io::Error>("paid") };
/// assert_eq!(clock.run(payments.call(charge)).unwrap(), "paid");
/// # Ok::<(), tenfold::resilience::QuotaError>(())
/// ```
#[derive(Clone)]
pub struct Policy {
    parts: Arc<Parts>,
    class: Class,
}

/// Makes a [`Policy`]. A piece is made from its parameters, with the policy's name and clock, or is one that others have
/// too, which has to be on the same clock.
///
/// ```
/// use tenfold::resilience::{Breaker, BreakerParams, Policy, RetryParams};
///
/// let breaker = Breaker::new("stock", BreakerParams::default());
/// let reads = Policy::builder("stock").retry(RetryParams::default()).breaker(&breaker).build();
/// let writes = Policy::builder("stock").breaker(&breaker).build();
/// ```
#[derive(Debug)]
#[must_use = "a builder makes nothing before `build`"]
pub struct PolicyBuilder(Parts);

struct Parts {
    name: Arc<str>,
    clock: Clock,
    deadline: Option<Duration>,
    limiter: Option<Limiter>,
    bulkhead: Option<Bulkhead>,
    retry: Option<Retry>,
    shedder: Option<Shedder>,
    breaker: Option<Breaker>,
    attempt_timeout: Option<Duration>,
}

/// What a piece of a policy can be made from: its parameters, or one that there is.
pub trait IntoPiece<P> {
    /// The piece.
    fn into_piece(self, name: &Arc<str>, clock: &Clock) -> P;
}

macro_rules! pieces {
    ($($piece:ident from $params:ty),*) => {$(
        impl IntoPiece<$piece> for $params {
            fn into_piece(self, name: &Arc<str>, clock: &Clock) -> $piece {
                $piece::with_clock(Arc::clone(name), self, clock.clone())
            }
        }

        impl IntoPiece<$piece> for $piece {
            fn into_piece(self, _: &Arc<str>, _: &Clock) -> $piece {
                self
            }
        }

        impl IntoPiece<$piece> for &$piece {
            fn into_piece(self, _: &Arc<str>, _: &Clock) -> $piece {
                self.clone()
            }
        }
    )*};
}

pieces!(
    Breaker from BreakerParams, Bulkhead from BulkheadParams, Limiter from Quota, Retry from RetryParams,
    Shedder from GradientParams
);

impl Policy {
    /// A policy without any piece yet, on tokio's clock.
    pub fn builder(name: impl Into<Arc<str>>) -> PolicyBuilder {
        Self::builder_with_clock(name, Clock::default())
    }

    /// A policy without any piece yet, on a clock, which pieces that are made from parameters get as well.
    pub fn builder_with_clock(name: impl Into<Arc<str>>, clock: impl Into<Clock>) -> PolicyBuilder {
        PolicyBuilder(Parts {
            name: name.into(),
            clock: clock.into(),
            deadline: None,
            limiter: None,
            bulkhead: None,
            retry: None,
            shedder: None,
            breaker: None,
            attempt_timeout: None,
        })
    }

    /// Makes a call by the policy. An error is a failure, and worth another try where there are retries.
    ///
    /// # Errors
    /// What a piece says, or the last try's own as [`Error::Inner`].
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_judged(|result: &Result<T, E>| ByResult.judge(result), call).await
    }

    /// As [`call`](Self::call), with a judge of results.
    ///
    /// # Errors
    /// As [`call`](Self::call), and a last `Ok` that was judged a failure stays `Ok`.
    pub async fn call_judged<T, E, J, F, Fut>(&self, judge: J, mut call: F) -> Result<T, Error<E>>
    where
        J: Fn(&Result<T, E>) -> Verdict,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.run(&judge, || (call(), true)).await
    }

    /// The same policy, whose calls are of another importance to its shedder. Without one it makes no difference.
    pub fn with_class(&self, class: Class) -> Self {
        Self { parts: Arc::clone(&self.parts), class }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Its limiter, to be looked at.
    pub fn limiter(&self) -> Option<&Limiter> {
        self.parts.limiter.as_ref()
    }

    /// Its bulkhead, to be looked at.
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.parts.bulkhead.as_ref()
    }

    /// Its retries, to be looked at.
    pub fn retry(&self) -> Option<&Retry> {
        self.parts.retry.as_ref()
    }

    /// Its shedder, to be looked at.
    pub fn shedder(&self) -> Option<&Shedder> {
        self.parts.shedder.as_ref()
    }

    /// Its breaker, to be looked at or held open.
    pub fn breaker(&self) -> Option<&Breaker> {
        self.parts.breaker.as_ref()
    }

    /// Makes a call by the policy. `begin` begins a try, and says whether there could be another one after it.
    pub(super) async fn run<T, E, J, F, Fut>(&self, judge: &J, mut begin: F) -> Result<T, Error<E>>
    where
        J: Judge<T, E>,
        F: FnMut() -> (Fut, bool),
        Fut: Future<Output = Result<T, E>>,
    {
        let parts = &*self.parts;
        let mut now = parts.clock.now();
        let deadline = parts.deadline.map(|after| later(now, after));
        if let Some(limiter) = &parts.limiter {
            limiter.acquire_at(now, 1).map_err(Refusal::into_any)?;
        }
        let _place = parts.enter(&mut now, deadline).await.map_err(Refusal::into_any)?;
        if let Some(retry) = &parts.retry {
            retry.note_call(now);
        }
        let (mut retries, mut last) = (0, None);
        loop {
            let permits = match (parts.admit(self.class, now), last.take()) {
                (Ok(permits), _) => permits,
                // What came of the try before is worth more than that there is no other: the call may have taken effect.
                (Err(_), Some(result)) => return told(result),
                (Err(refusal), None) => return Err(refusal.into_any()),
            };
            let (call, is_repeatable) = begin();
            let result = parts.bounded(now, deadline, call).await;
            let verdict = match &result {
                Ok(result) => judge.judge(result),
                Err(_) => Verdict::TRANSIENT,
            };
            permits.record(verdict, now, &parts.clock);
            let pause = if is_repeatable { parts.pause(verdict, retries + 1, deadline) } else { None };
            let Some(pause) = pause else { return told(result) };
            last = Some(result);
            parts.clock.sleep(pause).await;
            now = parts.clock.now();
            retries += 1;
        }
    }

    /// Whether it may make a call more than once.
    pub(super) fn repeats(&self) -> bool {
        self.parts.retry.is_some()
    }
}

/// What a caller hears of a try.
fn told<T, E>(result: Result<Result<T, E>, Refusal>) -> Result<T, Error<E>> {
    match result {
        Ok(result) => result.map_err(Error::Inner),
        Err(timed_out) => Err(timed_out.into_any()),
    }
}

/// What lets one try pass, and wants to hear of its end.
struct Permits<'a> {
    shedder: Option<ShedderPermit<'a>>,
    breaker: Option<BreakerPermit<'a>>,
}

impl Permits<'_> {
    #[inline]
    fn record(self, verdict: Verdict, began: Instant, clock: &Clock) {
        let failed = verdict.is_failure();
        let wants_time =
            self.shedder.is_some() || self.breaker.as_ref().is_some_and(|permit| permit.wants_time(failed));
        let now = if wants_time { clock.now() } else { began };
        if let Some(permit) = self.breaker {
            permit.record_at(failed, now);
        }
        if let Some(permit) = self.shedder {
            permit.record_at(verdict, now);
        }
    }
}

impl Parts {
    /// Takes a place, and the time again if that took some.
    async fn enter(&self, now: &mut Instant, deadline: Option<Instant>) -> Result<Option<BulkheadPermit<'_>>, Refusal> {
        let Some(bulkhead) = &self.bulkhead else { return Ok(None) };
        if let Some(place) = bulkhead.try_acquire() {
            return Ok(Some(place));
        }
        let place = bulkhead.wait(deadline).await;
        *now = self.clock.now();
        match (place, deadline) {
            // Also for a place that came together with the deadline: nobody waits for the call any more.
            (_, Some(deadline)) if *now >= deadline => Err(self.timed_out(self.deadline.unwrap_or_default())),
            (place, _) => place.map(Some),
        }
    }

    #[inline]
    fn admit(&self, class: Class, now: Instant) -> Result<Permits<'_>, Refusal> {
        let shedder = self.shedder.as_ref().map(|shedder| shedder.acquire_at(class, now)).transpose()?;
        let breaker = self.breaker.as_ref().map(|breaker| breaker.acquire_at(now)).transpose()?;
        Ok(Permits { shedder, breaker })
    }

    /// A try within its timeout and the deadline, whichever is first.
    #[inline]
    async fn bounded<F: Future>(&self, now: Instant, deadline: Option<Instant>, call: F) -> Result<F::Output, Refusal> {
        let attempt = self.attempt_timeout.map(|after| (later(now, after), after));
        let whole = deadline.zip(self.deadline);
        let first = match (attempt, whole) {
            (Some(attempt), Some(whole)) => {
                if whole.0 < attempt.0 {
                    whole
                } else {
                    attempt
                }
            }
            (bound, None) | (None, bound) => match bound {
                Some(bound) => bound,
                None => return Ok(call.await),
            },
        };
        let (until, after) = first;
        within(&self.clock, until, call).await.ok_or_else(|| self.timed_out(after))
    }

    fn pause(&self, verdict: Verdict, retry: u32, deadline: Option<Instant>) -> Option<Duration> {
        let retries = self.retry.as_ref()?;
        verdict.repeat_after()?;
        // What the callee said is worth more to the caller than that the breaker has opened meanwhile.
        let would_pass = |breaker: &Breaker| breaker.would_admit(self.clock.now());
        if !self.breaker.as_ref().is_none_or(would_pass) {
            return None;
        }
        retries.pause(verdict, retry, deadline)
    }

    fn timed_out(&self, after: Duration) -> Refusal {
        Error::TimedOut { name: Arc::clone(&self.name), after }
    }
}

impl PolicyBuilder {
    /// Bounds the whole call: waiting, all tries, and the pauses between them.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.0.deadline = Some(after);
        self
    }

    /// Bounds the rate of calls.
    pub fn limiter(mut self, limiter: impl IntoPiece<Limiter>) -> Self {
        self.0.limiter = Some(limiter.into_piece(&self.0.name, &self.0.clock));
        self
    }

    /// Bounds the calls under way, and those that wait.
    pub fn bulkhead(mut self, bulkhead: impl IntoPiece<Bulkhead>) -> Self {
        self.0.bulkhead = Some(bulkhead.into_piece(&self.0.name, &self.0.clock));
        self
    }

    /// Makes calls again that failed for the moment. Only for what can be done twice.
    pub fn retry(mut self, retry: impl IntoPiece<Retry>) -> Self {
        self.0.retry = Some(retry.into_piece(&self.0.name, &self.0.clock));
        self
    }

    /// Bounds the tries under way by what the callee turns out to serve.
    pub fn shedder(mut self, shedder: impl IntoPiece<Shedder>) -> Self {
        self.0.shedder = Some(shedder.into_piece(&self.0.name, &self.0.clock));
        self
    }

    /// Refuses tries while the callee keeps failing.
    pub fn breaker(mut self, breaker: impl IntoPiece<Breaker>) -> Self {
        self.0.breaker = Some(breaker.into_piece(&self.0.name, &self.0.clock));
        self
    }

    /// Bounds each try.
    pub fn attempt_timeout(mut self, after: Duration) -> Self {
        self.0.attempt_timeout = Some(after);
        self
    }

    /// The policy.
    pub fn build(self) -> Policy {
        Policy { parts: Arc::new(self.0), class: Class::default() }
    }
}

macro_rules! policies {
    ($($piece:ident as $field:ident),*) => {$(
        impl From<&$piece> for Policy {
            /// Nothing but this piece.
            fn from(piece: &$piece) -> Self {
                Self::builder_with_clock(piece.name(), piece.clock().clone()).$field(piece).build()
            }
        }
    )*};
}

policies!(Breaker as breaker, Bulkhead as bulkhead, Limiter as limiter, Retry as retry, Shedder as shedder);

impl From<&Timeout> for Policy {
    /// Nothing but this bound.
    fn from(timeout: &Timeout) -> Self {
        let builder = Self::builder_with_clock(timeout.name(), timeout.clock().clone());
        builder.attempt_timeout(timeout.after()).build()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("parts", &self.parts).field("class", &self.class).finish()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("name", &self.name)
            .field("deadline", &self.deadline)
            .field("limiter", &self.limiter)
            .field("bulkhead", &self.bulkhead)
            .field("retry", &self.retry)
            .field("shedder", &self.shedder)
            .field("breaker", &self.breaker)
            .field("attempt_timeout", &self.attempt_timeout)
            .finish()
    }
}
