//! Which endpoints may take requests: active checks, and three ways to learn from real requests.
//!
//! The problem: an endpoint that is down must lose its traffic quickly and get it back by itself, without flapping, and
//! a wrong judgement must never leave a service with nobody to ask. The rule is one state machine per endpoint, decided
//! in one place and published to all cores. See [`State`] for the states and [`ServiceHealth`] for what moves them.
//!
//! Sources: nginx's `max_fails` and `fail_timeout` (`ngx_http_upstream_module`), Envoy's outlier detection and panic
//! threshold, HAProxy's `rise` and `fall`.

mod change;
mod endpoint;
mod params;
mod service;
mod success_rate;

pub use change::{Cause, Change, Ejection, FailureKind, Outcome, State};
pub use params::{ActiveParams, HealthParams, OutlierParams, PassiveParams, SuccessRateParams};
pub use service::{Panic, ServiceHealth};
pub use success_rate::Sample;
