//! One limit that all cores share.

use crate::atomic::{AtomicU64, Ordering};
use crate::{Decision, Moment, Quota};

/// A limit without a key, such as that of a whole route: one atomic, moved by compare-exchange.
///
/// ```
/// use std::time::Duration;
/// use limit::{Moment, Quota, Rate, Single};
///
/// let limit = Single::new(Quota::gcra(Rate::per_sec(10), 2)?);
/// let now = Moment::from_nanos(0);
/// assert!(limit.check(now, 1).is_allowed());
/// assert!(limit.check(now, 1).is_allowed());
/// let refused = limit.check(now, 1);
/// assert!(refused.retry_after().is_some_and(|wait| wait <= Duration::from_millis(101)));
/// assert!(limit.check(now + Duration::from_millis(101), 1).is_allowed());
/// # Ok::<(), limit::QuotaError>(())
/// ```
#[derive(Debug)]
pub struct Single {
    quota: Quota,
    state: AtomicU64,
}

impl Single {
    /// A limit of which nothing is spent.
    pub fn new(quota: Quota) -> Self {
        Self { quota, state: AtomicU64::new(0) }
    }

    /// Pays for a request if it can be paid for.
    #[inline]
    pub fn check(&self, now: Moment, cost: u32) -> Decision {
        // The word guards nothing but itself, so its own order of changes suffices.
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let (decision, next) = self.quota.decide(state, now, cost);
            let Some(next) = next else { return decision };
            match self.state.compare_exchange_weak(state, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return decision,
                Err(newer) => state = newer,
            }
        }
    }

    /// What is allowed.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }
}
