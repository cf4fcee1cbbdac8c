//! SKELETON: retry budgets and backoff. Pure.
use std::time::Duration;

/// Backoff with full jitter: a pause drawn evenly from zero to `min(max, base * 2^(retry - 1))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffParams {
    /// Upper bound of the first pause.
    pub base: Duration,
    /// Upper bound of any pause.
    pub max: Duration,
}

/// A retry budget over a sliding window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetParams {
    /// Retries allowed per request seen in the window (0 to 1); default 0.2.
    pub share: f64,
    /// The window; default 10 s.
    pub window: Duration,
    /// Retries per second allowed however few requests there are; default 10.
    pub floor_per_sec: u32,
}
