//! Rate limits: how many calls per time, for all or for each key.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use limit::{Decision, Keyed, Moment, Quota, QuotaError, Single};

use super::error::{Error, Refusal};
use crate::Clock;

/// A rate limit that all callers share. Clones are the same limit.
///
/// It does not wait: a call beyond the rate is refused at once, and told when it would pass. [`Quota`] has the laws: GCRA,
/// token buckets and sliding windows.
///
/// ```
/// use tenfold::resilience::{Limiter, Quota, Rate};
/// use tenfold::testing::ManualClock;
///
/// let clock = ManualClock::new();
/// let limiter = Limiter::with_clock("search", Quota::gcra(Rate::per_sec(10), 2)?, &clock);
/// assert!(limiter.acquire().is_ok() && limiter.acquire().is_ok());
/// let wait = limiter.acquire().unwrap_err().retry_after().expect("waiting helps");
/// clock.advance(wait);
/// assert!(limiter.acquire().is_ok());
/// # Ok::<(), tenfold::resilience::QuotaError>(())
/// ```
#[derive(Clone)]
pub struct Limiter(Arc<Shared<Single>>);

/// A rate limit for each key, such as each tenant or each client, in memory that does not grow. Clones are the same limits.
///
/// Keys are anything that has a hash; equal keys must be of one type. No key ever gets above its rate, however many there
/// are. When many more keys are in debt than there was room made for, a newcomer may be refused sooner than it deserves.
///
/// ```
/// use tenfold::resilience::{KeyedLimiter, Quota, Rate};
///
/// let tenants = KeyedLimiter::new("tenant", Quota::gcra(Rate::per_sec(1), 1)?, 10_000)?;
/// assert!(tenants.acquire("ann").is_ok());
/// assert!(tenants.acquire("ann").is_err());
/// assert!(tenants.acquire("bob").is_ok());
/// # Ok::<(), tenfold::resilience::QuotaError>(())
/// ```
#[derive(Clone)]
pub struct KeyedLimiter(Arc<Shared<Keyed>>, RandomState);

struct Shared<L> {
    name: Arc<str>,
    clock: Clock,
    origin: Instant,
    limit: L,
    refused_total: AtomicU64,
}

/// What a limit is and has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimiterSnapshot {
    /// The most that can be spent at once, by each key where there are keys.
    pub limit: u32,
    /// Calls that were refused.
    pub refused_total: u64,
}

impl Limiter {
    /// A limit of which nothing is spent, on tokio's clock.
    pub fn new(name: impl Into<Arc<str>>, quota: Quota) -> Self {
        Self::with_clock(name, quota, Clock::default())
    }

    /// A limit of which nothing is spent, on a clock.
    pub fn with_clock(name: impl Into<Arc<str>>, quota: Quota, clock: impl Into<Clock>) -> Self {
        Self(Arc::new(Shared::new(name.into(), Single::new(quota), clock.into())))
    }

    /// Makes a call if the rate allows it.
    ///
    /// # Errors
    /// [`Error::Limited`], or the call's own as [`Error::Inner`].
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.acquire().map_err(Refusal::into_any)?;
        call().await.map_err(Error::Inner)
    }

    /// Pays for one call.
    ///
    /// # Errors
    /// [`Error::Limited`], and nothing is paid.
    #[inline]
    pub fn acquire(&self) -> Result<(), Refusal> {
        self.acquire_many(1)
    }

    /// Pays for a call that costs more than others, or less.
    ///
    /// # Errors
    /// [`Error::Limited`], and nothing is paid.
    #[inline]
    pub fn acquire_many(&self, cost: u32) -> Result<(), Refusal> {
        self.acquire_at(self.0.clock.now(), cost)
    }

    #[inline]
    pub(super) fn acquire_at(&self, now: Instant, cost: u32) -> Result<(), Refusal> {
        self.0.pass(&self.0.limit.check(self.0.moment(now), cost))
    }

    /// What it is and has done, for metrics.
    pub fn snapshot(&self) -> LimiterSnapshot {
        self.0.snapshot(self.0.limit.quota())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

impl KeyedLimiter {
    /// Limits for about this many keys in debt at once, 16 bytes for each, on tokio's clock.
    ///
    /// # Errors
    /// [`QuotaError::TooFast`] for rates of about a million a second and more.
    pub fn new(name: impl Into<Arc<str>>, quota: Quota, keys: usize) -> Result<Self, QuotaError> {
        Self::with_clock(name, quota, keys, Clock::default())
    }

    /// As [`new`](Self::new), on a clock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_clock(
        name: impl Into<Arc<str>>,
        quota: Quota,
        keys: usize,
        clock: impl Into<Clock>,
    ) -> Result<Self, QuotaError> {
        let shared = Shared::new(name.into(), Keyed::new(quota, keys)?, clock.into());
        // Under a secret of its own, or clients could choose keys that meet another's.
        Ok(Self(Arc::new(shared), RandomState::new()))
    }

    /// Makes a call if the rate of its key allows it.
    ///
    /// # Errors
    /// [`Error::Limited`], or the call's own as [`Error::Inner`].
    pub async fn call<K, T, E, F, Fut>(&self, key: &K, call: F) -> Result<T, Error<E>>
    where
        K: Hash + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.acquire(key).map_err(Refusal::into_any)?;
        call().await.map_err(Error::Inner)
    }

    /// Pays for one call of a key.
    ///
    /// # Errors
    /// [`Error::Limited`], and nothing is paid.
    #[inline]
    pub fn acquire<K: Hash + ?Sized>(&self, key: &K) -> Result<(), Refusal> {
        self.acquire_many(key, 1)
    }

    /// Pays for a call of a key that costs more than others, or less.
    ///
    /// # Errors
    /// [`Error::Limited`], and nothing is paid.
    #[inline]
    pub fn acquire_many<K: Hash + ?Sized>(&self, key: &K, cost: u32) -> Result<(), Refusal> {
        let now = self.0.moment(self.0.clock.now());
        self.0.pass(&self.0.limit.check(self.1.hash_one(key), now, cost))
    }

    /// What they are and have done, for metrics.
    pub fn snapshot(&self) -> LimiterSnapshot {
        self.0.snapshot(self.0.limit.quota())
    }

    /// Their name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl<L> Shared<L> {
    fn new(name: Arc<str>, limit: L, clock: Clock) -> Self {
        Self { name, origin: clock.now(), clock, limit, refused_total: AtomicU64::new(0) }
    }

    #[inline]
    fn moment(&self, now: Instant) -> Moment {
        Moment::since(self.origin, now)
    }

    #[inline]
    fn pass(&self, decision: &Decision) -> Result<(), Refusal> {
        if decision.is_allowed() {
            return Ok(());
        }
        self.refused_total.fetch_add(1, Ordering::Relaxed);
        Err(Error::Limited { name: Arc::clone(&self.name), retry_after: decision.retry_after() })
    }

    fn snapshot(&self, quota: &Quota) -> LimiterSnapshot {
        LimiterSnapshot { limit: quota.limit(), refused_total: self.refused_total.load(Ordering::Relaxed) }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("name", &self.0.name).field("snapshot", &self.snapshot()).finish()
    }
}

impl fmt::Debug for KeyedLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLimiter").field("name", &self.0.name).field("snapshot", &self.snapshot()).finish()
    }
}
