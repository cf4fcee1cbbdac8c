//! Slow start: a new endpoint gets its share little by little.
//!
//! The problem: an instance that has just started has cold caches and a cold compiler; its full share at once can
//! knock it over. The rule, after Envoy: its weight is `max(share_min, (t / ramp) ^ (1 / aggression))` of the
//! configured one. Aggression 1 grows evenly; above 1 it grows fast at first, below 1 slowly at first.
//! A ramp of zero means no slow start. A configured weight above 0 never falls to 0, or the endpoint would stay cold.
//!
//! Source: Envoy's documentation, "Slow start mode".

use std::time::Duration;

use crate::candidate::WEIGHT_UNIT;

/// Aggression without a setting: the share grows evenly.
pub const AGGRESSION_DEFAULT: f64 = 1.0;

/// Smallest share without a setting, so that an endpoint gets the first requests that warm it up.
pub const SHARE_MIN_DEFAULT: f64 = 0.1;

/// The effective weight, in 1/256 of a configured unit, of an endpoint that has been up for `since`.
///
/// `aggression` is above 0 and `share_min` from 0 to 1.
///
/// ```
/// use std::time::Duration;
/// let (half, ramp) = (Duration::from_secs(15), Duration::from_secs(30));
/// assert_eq!(balance::slow_start::weight(2, half, ramp, 1.0, 0.1), 256);
/// ```
pub fn weight(configured: u16, since: Duration, ramp: Duration, aggression: f64, share_min: f64) -> u32 {
    debug_assert!(aggression > 0.0, "aggression must be above 0, not {aggression}");
    debug_assert!((0.0..=1.0).contains(&share_min), "the smallest share must be from 0 to 1, not {share_min}");
    let full = u32::from(configured) * WEIGHT_UNIT;
    if configured == 0 || since >= ramp {
        return full;
    }
    let grown = (since.as_secs_f64() / ramp.as_secs_f64()).powf(aggression.recip());
    let share = grown.max(share_min).min(1.0);
    ((f64::from(full) * share).round() as u32).clamp(1, full)
}
