//! Scaling patterns for Rust services. Each feature brings one part, and none is on by default.
//!
//! | feature | module | holds |
//! |---|---|---|
//! | `cache` | [`cache`] | caching strategies in memory and in Redis: single flight, leases, write-through, tags |
//! | `resilience` | [`resilience`] | circuit breaker, rate limits, retries, bulkhead, timeouts and shedding, as calls and as layers of tower |
//!
//! Whatever waits or looks at the time in `resilience` does so by a [`Clock`]. Tests give it the one of [`testing`], and then nothing sleeps.
#![cfg_attr(not(all(feature = "cache", feature = "resilience")), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "resilience")]
mod clock;
#[cfg(feature = "resilience")]
pub mod resilience;
#[cfg(feature = "resilience")]
pub mod testing;

#[cfg(feature = "cache")]
pub use ::cache;
#[cfg(feature = "resilience")]
pub use clock::{Clock, Sleep};

/// Tests of the examples in the library's page.
#[cfg(all(doctest, feature = "resilience"))]
#[doc = include_str!("../../../docs/library.md")]
mod page {}
