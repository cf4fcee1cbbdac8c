//! Keeps retries from making an outage worse: how long to wait before one, and whether there may be one at all.
//! Pure: time, randomness and totals come in, decisions go out.

mod backoff;
mod budget;

pub use backoff::{Backoff, BackoffParams};
pub use budget::{BudgetParams, RetryBudget, WINDOW_MAX, WINDOW_MIN};
