//! Retries: what failed for the moment is tried again, after a pause, within a budget.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use breaker::{Backoff, BackoffParams, BudgetParams, RetryBudget};

use super::shard::Counter;
use super::verdict::{ByResult, Judge, Verdict};
use crate::Clock;

/// How often and when a call is made again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryParams {
    /// Tries after the first one; default 2.
    pub retries_max: u32,
    /// Pauses between tries, drawn evenly from zero up to a bound that doubles; by default 50 ms at first and 1 s at most.
    pub backoff: BackoffParams,
    /// How many retries there may be among all calls; by default a fifth of the calls of the last 10 s, and 10 per second
    /// however few those are. `None` for no bound but `retries_max`, with which an outage of the callee meets
    /// several times its usual load.
    pub budget: Option<BudgetParams>,
    /// A callee that asks for a longer pause than this gets no retry; default 10 s.
    pub retry_after_max: Duration,
}

impl Default for RetryParams {
    fn default() -> Self {
        Self {
            retries_max: 2,
            backoff: BackoffParams { base: Duration::from_millis(50), max: Duration::from_secs(1) },
            budget: Some(BudgetParams::default()),
            retry_after_max: Duration::from_secs(10),
        }
    }
}

/// Makes calls again that failed for the moment. Clones share a budget.
///
/// Only what can be done twice should be given to it: a try that failed may have taken effect. Use one for each callee, since
/// its budget is what keeps retries from adding to an outage.
///
/// ```
/// use tenfold::resilience::{Retry, RetryParams};
/// use tenfold::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let retry = Retry::with_clock("stock", RetryParams::default(), &clock);
/// let mut answers = ["busy", "busy", "12 left"].into_iter();
/// let result = clock.run(retry.call(|| {
///     let answer = answers.next().expect("it is called three times");
///     async move { if answer == "busy" { Err(answer) } else { Ok(answer) } }
/// }));
/// assert_eq!(result, Ok("12 left"));
/// assert_eq!(retry.snapshot().retries_total, 2);
/// ```
#[derive(Clone)]
pub struct Retry(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    clock: Clock,
    params: RetryParams,
    backoff: Backoff,
    budget: Option<Budget>,
    retries_total: AtomicU64,
}

struct Budget {
    core: RetryBudget,
    start: Instant,
    calls: Counter,
    /// The first second since the start that the budget has not been told of.
    second: AtomicU64,
}

/// What retries there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySnapshot {
    /// Tries after a first one.
    pub retries_total: u64,
    /// Retries that the budget would allow at this moment; `None` without a budget.
    pub budget_left: Option<u64>,
}

impl Retry {
    /// Retries on tokio's clock.
    pub fn new(name: impl Into<Arc<str>>, params: RetryParams) -> Self {
        Self::with_clock(name, params, Clock::default())
    }

    /// Retries on a clock.
    pub fn with_clock(name: impl Into<Arc<str>>, params: RetryParams, clock: impl Into<Clock>) -> Self {
        let clock = clock.into();
        let now = clock.now();
        let budget = params.budget.map(|params| Budget {
            core: RetryBudget::new(params, now, 0),
            start: now,
            calls: Counter::new(),
            second: AtomicU64::new(1),
        });
        Self(Arc::new(Shared {
            name: name.into(),
            clock,
            params,
            backoff: Backoff::new(params.backoff),
            budget,
            retries_total: AtomicU64::new(0),
        }))
    }

    /// Makes a call, and makes it again when it gives an error, for as often as may be.
    ///
    /// # Errors
    /// The error of the last try.
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_judged(|result: &Result<T, E>| ByResult.judge(result), call).await
    }

    /// As [`call`](Self::call), with a judge of which results are worth another try.
    ///
    /// # Errors
    /// As [`call`](Self::call), and a last `Ok` that was judged a failure stays `Ok`.
    pub async fn call_judged<T, E, J, F, Fut>(&self, judge: J, mut call: F) -> Result<T, E>
    where
        J: Fn(&Result<T, E>) -> Verdict,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.note_call(self.0.clock.now());
        let mut retries = 0;
        loop {
            let result = call().await;
            let Some(pause) = self.pause(judge(&result), retries + 1, None) else { return result };
            // What the last try gave may hold a connection that the next one could use.
            drop(result);
            self.0.clock.sleep(pause).await;
            retries += 1;
        }
    }

    /// Counts a call, of which the budget allows a share of retries.
    #[inline]
    pub(super) fn note_call(&self, now: Instant) {
        let Some(budget) = &self.0.budget else { return };
        budget.calls.increment();
        let second = now.saturating_duration_since(budget.start).as_secs();
        if second >= budget.second.load(Ordering::Relaxed) {
            budget.second.fetch_max(second + 1, Ordering::Relaxed);
            budget.core.observe(now, budget.calls.sum());
        }
    }

    /// The pause before another try, if there is one. It is then out of the budget. One that would begin at the deadline
    /// or after it is none: the caller hears what happened instead of "timed out".
    pub(super) fn pause(&self, verdict: Verdict, retry: u32, deadline: Option<Instant>) -> Option<Duration> {
        let asked = verdict.repeat_after()?;
        let shared = &*self.0;
        if retry > shared.params.retries_max || asked > shared.params.retry_after_max {
            return None;
        }
        let now = shared.clock.now();
        // On top of what the callee asks for, or all who were told the same second came back in it.
        let pause = asked.saturating_add(shared.backoff.pause(retry, shared.clock.random()));
        if deadline.is_some_and(|deadline| deadline.saturating_duration_since(now) <= pause) {
            return None;
        }
        let is_allowed = |budget: &Budget| budget.core.try_withdraw(now, budget.calls.sum());
        if !shared.budget.as_ref().is_none_or(is_allowed) {
            tracing::debug!(retry = &*shared.name, "no retry: the budget is used up");
            return None;
        }
        shared.retries_total.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(retry = &*shared.name, number = retry, ?pause, "another try");
        Some(pause)
    }

    /// What retries there were, for metrics.
    pub fn snapshot(&self) -> RetrySnapshot {
        let now = self.0.clock.now();
        let left = |budget: &Budget| budget.core.remaining(now, budget.calls.sum());
        RetrySnapshot {
            retries_total: self.0.retries_total.load(Ordering::Relaxed),
            budget_left: self.0.budget.as_ref().map(left),
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

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("name", &self.0.name).field("snapshot", &self.snapshot()).finish()
    }
}
