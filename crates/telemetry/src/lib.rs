//! Metrics, the program's log, and the access log.
//!
//! Metrics are counted in cells that one core owns ([`cell`]), grouped into an object per configured name
//! ([`RouteMetrics`], [`ListenerMetrics`], [`ServiceMetrics`], [`EndpointMetrics`]), and written at a scrape by
//! [`encode`]. [`family`] names every family there is. Spans are in [`trace`].

mod access;
pub mod cell;
pub mod encode;
mod exposition;
pub mod family;
mod histogram;
mod label;
mod log;
mod object;
mod params;
mod process;
pub mod trace;

pub use access::{AccessEntry, AccessLog, AccessLogError, AccessLogTotals, CoreAccessLog};
pub use exposition::Exposition;
pub use histogram::{Histogram, HistogramTotals, LATENCY_BOUNDS_MICROS, LatencyBuckets, UnknownBound};
pub use label::{BreakerState, ConnectionType, FailureKind, HealthChange, Limit, Method};
pub use label::{RefusedReason, RetryReason, ShedClass, ShedResult, TripCause};
pub use log::{LogError, LogHandle, init_logs};
pub use object::{EndpointMetrics, FinishedRequest, ListenerMetrics, RouteMetrics, ServiceMetrics};
pub use params::{AccessLogFormat, AccessLogParams, AccessLogTarget, LogFormat, LogLevel, LogParams};
pub use process::{ProcessMetrics, ReloadMetrics};
