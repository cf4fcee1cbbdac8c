//! What keeps a service up while what it calls fails, and while it is called too much.
//!
//! | piece | what it does | says |
//! |---|---|---|
//! | [`Breaker`] | leaves alone what keeps failing, and finds out when it is back | [`Error::Open`] |
//! | [`Limiter`], [`KeyedLimiter`] | bound the rate of calls, of all or of each key | [`Error::Limited`] |
//! | [`Bulkhead`] | bounds the calls under way, with a bounded queue | [`Error::Full`] |
//! | [`Shedder`] | bounds the calls under way by what turns out to be served in time | [`Error::Overloaded`] |
//! | [`Retry`] | makes calls again that failed for the moment, within a budget | the last try's error |
//! | [`Timeout`] | bounds how long a call takes | [`Error::TimedOut`] |
//! | [`Policy`] | any of these around one call, in the right order | any of these |
//!
//! Each is used in two ways: by [`call`](Policy::call) around a closure that makes a future, and as a [`layer`](Policy::layer)
//! of tower around a service, for axum, reqwest and others ([`http`] has what is special to HTTP). All are shared by cloning,
//! and never hold a lock while something is awaited. Errors are one type, [`Error`].
//!
//! What counts as a failure is a [`Verdict`] on a `Result`, given by a closure; without one, `Err` does.
//!
//! A future that is dropped gives back what it held: its place in a bulkhead or a queue, a probe of a breaker. What it
//! has paid to a limiter stays paid, and a retry that was decided stays out of the budget.
//!
//! Each piece has a `snapshot` for metrics. Moves of breakers, and retries at the level `debug`, are events of `tracing`.

mod breaker;
mod bulkhead;
mod error;
pub mod http;
mod layer;
mod limiter;
mod policy;
mod retry;
mod shard;
mod shedder;
mod timeout;
mod verdict;

pub use self::breaker::{Breaker, BreakerPermit, BreakerSnapshot};
pub use self::bulkhead::{Bulkhead, BulkheadParams, BulkheadPermit, BulkheadSnapshot};
pub use self::error::{Error, Refusal};
pub use self::layer::{
    Answer, AsError, Cloned, Guard, GuardFuture, GuardLayer, KeyedGuard, KeyedLayer, Once, Repeat, RespondWith,
};
pub use self::limiter::{KeyedLimiter, Limiter, LimiterSnapshot};
pub use self::policy::{IntoPiece, Policy, PolicyBuilder};
pub use self::retry::{Retry, RetryParams, RetrySnapshot};
pub use self::shedder::{Shedder, ShedderPermit, ShedderSnapshot};
pub use self::timeout::Timeout;
pub use self::verdict::{ByResult, Judge, Verdict};

// Decided by the cores that the gateway runs as well; told in their documentation.
pub use ::breaker::circuit::{Force, State};
pub use ::breaker::{BackoffParams, BreakerParams, BudgetParams, SlowParams};
pub use ::limit::gradient::{Class, GradientParams as ShedderParams};
pub use ::limit::{Quota, QuotaError, Rate};
