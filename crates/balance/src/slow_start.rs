//! Slow start: a new endpoint gets its share little by little.
//!
//! The problem: an instance that has just started has cold caches and a cold compiler; its full share at once can
//! knock it over. The rule, after Envoy: its weight is `max(share_min, (t / window) ^ (1 / aggression))` of the
//! configured one. Aggression 1 grows evenly; above 1 it grows fast at first, below 1 slowly at first.
//! A window of zero means no slow start. A configured weight above 0 never falls to 0, or the endpoint would stay cold.
//!
//! Source: Envoy's documentation, "Slow start mode".

use std::time::Duration;

use crate::candidate::WEIGHT_UNIT;

/// How the share of a new endpoint grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStartParams {
    /// Time until it has its whole share; zero, the default, for at once.
    pub window: Duration,
    /// Above 0. With 1, the default, the share grows evenly, above 1 fast at first, below 1 slowly at first.
    pub aggression: f64,
    /// Smallest share (0 to 1); default 0.1, so that it gets the first requests, which warm it up.
    pub share_min: f64,
}

impl Default for SlowStartParams {
    fn default() -> Self {
        Self { window: Duration::ZERO, aggression: 1.0, share_min: 0.1 }
    }
}

/// The effective weight, in 1/256 of a configured unit, of an endpoint that has been up for `since`.
///
/// ```
/// use std::time::Duration;
/// use balance::slow_start::{SlowStartParams, weight};
/// let params = SlowStartParams { window: Duration::from_secs(30), ..SlowStartParams::default() };
/// assert_eq!(weight(2, Duration::from_secs(15), &params), 256);
/// ```
pub fn weight(configured: u16, since: Duration, params: &SlowStartParams) -> u32 {
    let SlowStartParams { window, aggression, share_min } = *params;
    debug_assert!(aggression > 0.0, "aggression must be above 0, not {aggression}");
    debug_assert!((0.0..=1.0).contains(&share_min), "the smallest share must be from 0 to 1, not {share_min}");
    let full = u32::from(configured) * WEIGHT_UNIT;
    if configured == 0 || since >= window {
        return full;
    }
    let grown = (since.as_secs_f64() / window.as_secs_f64()).powf(aggression.recip());
    let share = grown.max(share_min).min(1.0);
    ((f64::from(full) * share).round() as u32).clamp(1, full)
}
