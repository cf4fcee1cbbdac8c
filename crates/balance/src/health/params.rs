//! How health is judged, checked by whoever builds it.

use std::time::Duration;

/// How health is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthParams {
    /// Thresholds of active checks; `None` without them.
    pub active: Option<ActiveParams>,
    /// nginx's `max_fails` and `fail_timeout`; `None` when passive health is off.
    pub passive: Option<PassiveParams>,
    /// Ejection on consecutive failures after Envoy; `None` when off.
    pub outlier: Option<OutlierParams>,
    /// Ejection on success rates after Envoy; `None` when off.
    pub success_rate: Option<SuccessRateParams>,
    /// When the share of available endpoints falls below this (0 to 1), health is ignored and all are used.
    pub panic_threshold: f64,
}

/// Thresholds of active checks. A threshold of 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveParams {
    /// Successes in a row that bring an endpoint back.
    pub rise: u32,
    /// Failures in a row that take it out.
    pub fall: u32,
}

/// Passive ejection after nginx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveParams {
    /// Failures within `fail_timeout` that take an endpoint out; default 1. With 0 none is ever taken out.
    pub max_fails: u32,
    /// The window, and the time that the endpoint stays out; default 10 s. One probe is let through afterwards.
    pub fail_timeout: Duration,
}

/// Passive ejection after Envoy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierParams {
    /// Failures in a row that take an endpoint out; default 5. With 0 none is ever taken out.
    pub consecutive: u32,
    /// Time of the first ejection; grows with each one; default 30 s.
    pub base_ejection: Duration,
    /// Longest ejection; default 300 s.
    pub ejection_max: Duration,
    /// Largest share of the endpoints out at once by this rule (0 to 1); default 0.1, but always at least one.
    pub ejected_share_max: f64,
}

/// Passive ejection by comparison with the other endpoints, after Envoy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRateParams {
    /// Time over which requests are counted; default 10 s.
    pub interval: Duration,
    /// Requests within the interval without which an endpoint is not judged; default 100.
    pub requests_min: u32,
    /// Endpoints with that many requests without which nobody is judged; default 5.
    pub hosts_min: u32,
    /// Standard deviations below the mean that take an endpoint out; default 1.9.
    pub deviations: f64,
    /// Distance below the mean (0 to 1) that takes nobody out, however small the deviation is; default 0.05.
    pub margin: f64,
    /// Time of the first ejection; grows with each one; default 30 s.
    pub base_ejection: Duration,
    /// Longest ejection; default 300 s.
    pub ejection_max: Duration,
    /// Largest share of the endpoints out at once by this rule (0 to 1); default 0.1, but always at least one.
    pub ejected_share_max: f64,
}

impl Default for PassiveParams {
    fn default() -> Self {
        Self { max_fails: 1, fail_timeout: Duration::from_secs(10) }
    }
}

impl Default for OutlierParams {
    fn default() -> Self {
        Self {
            consecutive: 5,
            base_ejection: Duration::from_secs(30),
            ejection_max: Duration::from_secs(300),
            ejected_share_max: 0.1,
        }
    }
}

impl Default for SuccessRateParams {
    fn default() -> Self {
        let OutlierParams { base_ejection, ejection_max, ejected_share_max, .. } = OutlierParams::default();
        Self {
            interval: Duration::from_secs(10),
            requests_min: 100,
            hosts_min: 5,
            deviations: 1.9,
            margin: 0.05,
            base_ejection,
            ejection_max,
            ejected_share_max,
        }
    }
}
