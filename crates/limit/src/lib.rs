//! Limits: how fast, how many at once, and how much of what several instances share. Pure: time and totals come in,
//! decisions go out.
//!
//! - [`Quota`] is a law over one word: GCRA, token bucket, sliding window. [`Single`] holds one state for all cores,
//!   [`Keyed`] one for each key in bounded memory; [`KeyHasher`] and [`Prefixes`] make keys.
//! - [`KeyedConcurrency`] bounds what each key has under way.
//! - [`lease`] shares a rate across instances through a store.
//! - [`gradient`] finds out how much a service can take at once; [`WaitQueue`] is who waits for a place.
//! - [`fields`] writes what a client is told.

mod atomic;
mod concurrency;
mod decision;
pub mod fields;
pub mod gradient;
mod key;
mod keyed;
pub mod lease;
mod moment;
mod queue;
mod quota;
mod single;

pub use concurrency::{KeyedConcurrency, Permit};
pub use decision::{Decision, Verdict};
pub use key::{KeyHasher, Prefixes};
pub use keyed::Keyed;
pub use moment::Moment;
pub use queue::{Entered, QueueParams, Ticket, WaitQueue};
pub use quota::{PERIOD_MAX, Quota, QuotaError, Rate};
pub use single::Single;

#[cfg(test)]
mod model;
