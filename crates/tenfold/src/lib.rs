//! Scaling patterns for Rust services. Each feature brings one part, and none is on by default.
//!
//! | feature | module | holds |
//! |---|---|---|
//! | `cache` | [`cache`] | caching strategies in memory and in Redis: single flight, leases, write-through, tags |
//! | `cache-admin` | [`cache::admin`](::cache::admin) | the caches of a service, looked at and invalidated by HTTP |
//! | `cache-tls` | | the same with `rediss://` |
//! | `metrics` | [`metrics`] | what the others count, as pages for Prometheus |
//! | `resilience` | [`resilience`] | circuit breaker, rate limits, retries, bulkhead, timeouts and shedding, as calls and as layers of tower |
//!
//! Whatever waits or looks at the time in `resilience` does so by a [`Clock`]. Tests give it the one of [`testing`], and then nothing sleeps.
#![cfg_attr(
    not(all(feature = "cache", feature = "metrics", feature = "resilience")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(feature = "resilience")]
mod clock;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "resilience")]
pub mod resilience;
#[cfg(feature = "resilience")]
pub mod testing;

#[cfg(feature = "cache")]
pub use ::cache;
#[cfg(feature = "resilience")]
pub use clock::{Clock, Sleep};

/// Tests of the examples in the library's page.
#[cfg(all(doctest, feature = "metrics", feature = "resilience"))]
#[doc = include_str!("../../../docs/library.md")]
mod page {}

/// Those of the pages of caching strategies.
#[cfg(all(doctest, feature = "cache-admin"))]
mod strategies {
    #[doc = include_str!("../../../docs/cache/cache-aside.md")]
    mod cache_aside {}
    #[doc = include_str!("../../../docs/cache/write-through.md")]
    mod write_through {}
    #[doc = include_str!("../../../docs/cache/write-behind.md")]
    mod write_behind {}
    #[doc = include_str!("../../../docs/cache/refresh-ahead.md")]
    mod refresh_ahead {}
    #[doc = include_str!("../../../docs/cache/stampedes.md")]
    mod stampedes {}
    #[doc = include_str!("../../../docs/cache/invalidation.md")]
    mod invalidation {}
    #[doc = include_str!("../../../docs/cache/negative.md")]
    mod negative {}
    #[doc = include_str!("../../../docs/cache/coherence.md")]
    mod coherence {}
}
