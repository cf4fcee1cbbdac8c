//! Bulkheads: how many calls are under way at once, and how many more may wait for their turn.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::{Error, Refusal};
use super::timeout::within;
use crate::clock::{Clock, later};

/// How large a bulkhead is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkheadParams {
    /// Calls under way at once, at least 1; default 100.
    pub concurrency_max: usize,
    /// Calls that wait for their turn; default 100. More are refused at once.
    pub queue_max: usize,
    /// Longest wait; default 1 s.
    pub wait_max: Duration,
}

impl Default for BulkheadParams {
    fn default() -> Self {
        Self { concurrency_max: 100, queue_max: 100, wait_max: Duration::from_secs(1) }
    }
}

/// A bound on calls under way, with a bounded queue before it. Clones are the same bulkhead.
///
/// Whoever waits is served in the order of arrival, and leaves the queue when it has waited for too long or is dropped. A
/// place is given back when its call ends, however it ends.
///
/// ```
/// use tenfold::resilience::{Bulkhead, BulkheadParams};
/// use tenfold::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let params = BulkheadParams { concurrency_max: 1, queue_max: 0, ..BulkheadParams::default() };
/// let bulkhead = Bulkhead::with_clock("reports", params, &clock);
/// clock.run(async {
///     let place = bulkhead.acquire().await.expect("there is room");
///     let refused = bulkhead.call(|| async { Ok::<_, std::io::Error>(()) }).await;
///     assert_eq!(refused.unwrap_err().to_string(), "reports: the bulkhead is full");
///     drop(place);
///     assert!(bulkhead.call(|| async { Ok::<_, std::io::Error>(()) }).await.is_ok());
/// });
/// ```
#[derive(Clone)]
pub struct Bulkhead(Arc<Shared>);

struct Shared {
    name: Arc<str>,
    clock: Clock,
    params: BulkheadParams,
    places: Semaphore,
    waiting: AtomicUsize,
    refused_total: AtomicU64,
}

/// One call's place. It is free again when this is dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub struct BulkheadPermit<'a>(#[expect(dead_code, reason = "held until it is dropped")] SemaphorePermit<'a>);

/// What a bulkhead is and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadSnapshot {
    /// Calls under way.
    pub in_flight: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls that were refused, at once or after a wait.
    pub refused_total: u64,
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bulkhead {
    /// An empty bulkhead on tokio's clock.
    pub fn new(name: impl Into<Arc<str>>, params: BulkheadParams) -> Self {
        Self::with_clock(name, params, Clock::default())
    }

    /// An empty bulkhead on a clock.
    pub fn with_clock(name: impl Into<Arc<str>>, params: BulkheadParams, clock: impl Into<Clock>) -> Self {
        let concurrency_max = params.concurrency_max.clamp(1, Semaphore::MAX_PERMITS);
        let params = BulkheadParams { concurrency_max, ..params };
        Self(Arc::new(Shared {
            name: name.into(),
            clock: clock.into(),
            params,
            places: Semaphore::new(concurrency_max),
            waiting: AtomicUsize::new(0),
            refused_total: AtomicU64::new(0),
        }))
    }

    /// Makes a call once there is room for it.
    ///
    /// # Errors
    /// [`Error::Full`], or the call's own as [`Error::Inner`].
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let _place = self.acquire().await.map_err(Refusal::into_any)?;
        call().await.map_err(Error::Inner)
    }

    /// A place for one call, once there is one.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub async fn acquire(&self) -> Result<BulkheadPermit<'_>, Refusal> {
        match self.try_acquire() {
            Some(place) => Ok(place),
            None => self.wait(None).await,
        }
    }

    /// A place for one call, if there is one at once. It does not go before those who wait.
    pub fn try_acquire(&self) -> Option<BulkheadPermit<'_>> {
        self.0.places.try_acquire().ok().map(BulkheadPermit)
    }

    /// Waits for a place, no longer than until the caller's own deadline.
    pub(super) async fn wait(&self, deadline: Option<Instant>) -> Result<BulkheadPermit<'_>, Refusal> {
        let shared = &*self.0;
        let Some(_waiting) = self.enter_queue() else { return Err(self.refuse(Duration::ZERO)) };
        let began = shared.clock.now();
        let patience = later(began, shared.params.wait_max);
        let until = deadline.map_or(patience, |deadline| deadline.min(patience));
        match within(&shared.clock, until, shared.places.acquire()).await {
            Some(Ok(place)) => Ok(BulkheadPermit(place)),
            // It is never closed; if it were, it would be full for good.
            Some(Err(_)) | None => Err(self.refuse(shared.clock.now().saturating_duration_since(began))),
        }
    }

    fn enter_queue(&self) -> Option<Waiting<'_>> {
        let shared = &*self.0;
        let enter = |waiting: usize| (waiting < shared.params.queue_max).then_some(waiting + 1);
        // It counts who waits and guards nothing, so the order of its own changes suffices.
        let entered = shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter);
        entered.ok().map(|_| Waiting(&shared.waiting))
    }

    fn refuse(&self, waited: Duration) -> Refusal {
        self.0.refused_total.fetch_add(1, Ordering::Relaxed);
        Error::Full { name: Arc::clone(&self.0.name), waited }
    }

    /// What it is and has done, for metrics.
    pub fn snapshot(&self) -> BulkheadSnapshot {
        let shared = &*self.0;
        BulkheadSnapshot {
            in_flight: shared.params.concurrency_max - shared.places.available_permits(),
            waiting: shared.waiting.load(Ordering::Relaxed),
            refused_total: shared.refused_total.load(Ordering::Relaxed),
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

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead").field("name", &self.0.name).field("snapshot", &self.snapshot()).finish()
    }
}
