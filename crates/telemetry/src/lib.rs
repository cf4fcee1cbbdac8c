//! Metrics, the program's log, and the access log.
//!
//! Metrics are counted in cells that one core owns ([`cell`]), grouped into an object per configured name ([`object`]),
//! and written at a scrape by [`encode`]. [`family`] names every family there is.

mod access;
pub mod cell;
pub mod encode;
pub mod family;
mod histogram;
mod label;
mod object;
mod params;

pub use access::{AccessEntry, AccessLog, AccessLogError, AccessLogTotals, CoreAccessLog};
pub use histogram::{Histogram, HistogramTotals, LATENCY_BOUNDS_MICROS};
pub use label::{ConnectionType, FailureKind, HealthChange, Method, RefusedReason, RetryReason};
pub use object::{EndpointMetrics, ListenerMetrics, RouteMetrics, ServiceMetrics};
pub use params::*;
