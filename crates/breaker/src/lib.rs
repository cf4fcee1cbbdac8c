//! Keeps calls to something that fails from making it worse: whether to call at all, whether to call again, and how long
//! to wait before that. Pure: time, randomness and totals come in, decisions go out.

mod backoff;
mod budget;
pub mod circuit;

/// What breakers share between cores. Proofs put other types of the same names in its place.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

    /// Runs a test of the parts that use them.
    #[cfg(test)]
    pub(crate) fn run(test: impl Fn() + Send + Sync + 'static) {
        test();
    }
}

pub use backoff::{Backoff, BackoffParams};
pub use budget::{BudgetParams, RetryBudget, WINDOW_MAX, WINDOW_MIN};
pub use circuit::{Admission, Breaker, BreakerParams, Outcome, Permit, SlowParams};
