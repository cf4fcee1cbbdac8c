//! Pauses between tries.
//!
//! The problem: clients that failed together and wait equally long fail together again. The rule is full jitter: a
//! pause drawn evenly from zero to a bound that doubles with each retry. Of the variants that Brooker compared, it
//! ends a pile-up with the fewest calls.
//!
//! Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// Backoff with full jitter: a pause drawn evenly from zero to `min(max, base * 2^(retry - 1))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffParams {
    /// Upper bound of the first pause.
    pub base: Duration,
    /// Upper bound of any pause.
    pub max: Duration,
}

/// Draws pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    params: BackoffParams,
}

impl Backoff {
    /// Pauses by these bounds.
    pub fn new(params: BackoffParams) -> Self {
        Self { params }
    }

    /// The pause before the `retry`-th retry, counted from 1. `random` is any number drawn evenly from all of `u64`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use breaker::{Backoff, BackoffParams};
    /// let backoff = Backoff::new(BackoffParams { base: Duration::from_millis(25), max: Duration::from_millis(250) });
    /// assert_eq!(backoff.pause(3, u64::MAX / 2 + 1), Duration::from_millis(50));
    /// ```
    pub fn pause(&self, retry: u32, random: u64) -> Duration {
        let bound = self.bound(retry).as_nanos();
        // Bounds of more than 2^64 nanoseconds, 584 years, would overflow the product, and nobody waits that long.
        let bound = bound.min(u128::from(u64::MAX));
        // The high half of the product scales the number to `0..=bound`.
        Duration::from_nanos((((bound + 1) * u128::from(random)) >> 64) as u64)
    }

    /// The longest that the pause before the `retry`-th retry may be. A retry of 0 counts as the first.
    pub fn bound(&self, retry: u32) -> Duration {
        let doubled =
            2_u32.checked_pow(retry.saturating_sub(1)).and_then(|factor| self.params.base.checked_mul(factor));
        let unbounded = if self.params.base.is_zero() { Some(Duration::ZERO) } else { doubled };
        unbounded.map_or(self.params.max, |bound| bound.min(self.params.max))
    }
}
