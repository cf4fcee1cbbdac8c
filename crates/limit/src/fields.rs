//! What a client is told of its limit: `RateLimit`, `RateLimit-Policy` and `Retry-After`.
//!
//! The first two are lists of structured fields, one item for a policy: its name, with the quota `q` and the window `w`
//! in seconds; and with what is left, `r`, and the seconds `t` within which no more than that may be used. Seconds are
//! rounded up, so that nobody is told to come too early.
//!
//! - `t` is the time until everything could be spent again. If a response holds `Retry-After` as well, that should not
//!   end before `t`; so a refused request hears a `t` that is no longer than its `Retry-After`.
//! - Everyone who is told the same second comes back in it. [`retry_after_secs`] takes a share of spread for that,
//!   drawn by the caller.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-11 (May 2026); RFC 9651 for strings and integers; RFC 9110, section
//! 10.2.3.

use std::fmt::Write;
use std::time::Duration;

use crate::{Decision, Verdict};

/// The name of the field that says what is left.
pub const RATE_LIMIT: &str = "RateLimit";

/// The name of the field that says what is allowed.
pub const RATE_LIMIT_POLICY: &str = "RateLimit-Policy";

/// The largest integer of a structured field.
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// What one count of a policy stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaUnit {
    /// Requests, or their costs: the unit if none is named.
    #[default]
    Requests,
    /// Requests under way at once.
    ConcurrentRequests,
}

/// Appends a policy to a `RateLimit-Policy` field: `"default";q=100;w=60`. A window of nothing is left out.
pub fn write_policy(field: &mut String, name: &str, quota: u64, window: Duration, unit: QuotaUnit) {
    write_name(field, name);
    write_parameter(field, "q", quota);
    if unit == QuotaUnit::ConcurrentRequests {
        field.push_str(";qu=\"concurrent-requests\"");
    }
    if !window.is_zero() {
        write_parameter(field, "w", secs_up(window));
    }
}

/// Appends what is left under a policy to a `RateLimit` field: `"default";r=50;t=30`.
pub fn write_limit(field: &mut String, name: &str, decision: &Decision) {
    write_name(field, name);
    let within = match decision.verdict {
        Verdict::Refused { retry_after } => decision.reset.min(retry_after),
        Verdict::Allowed | Verdict::Never => decision.reset,
    };
    // One who was refused has nothing left for a request such as this.
    let remaining = if decision.is_allowed() { decision.remaining } else { 0 };
    write_parameter(field, "r", u64::from(remaining));
    write_parameter(field, "t", secs_up(within));
}

/// The value of `Retry-After` for a refused request, at least a second. Nothing if waiting does not help.
///
/// `spread`, 0 to 1, drawn at random for each response, makes it up to half longer again, by whole seconds.
pub fn retry_after_secs(decision: &Decision, spread: f64) -> Option<u64> {
    let wait = decision.retry_after()?;
    let late = wait.mul_f64(0.5 * spread.clamp(0.0, 1.0)).as_secs();
    Some((secs_up(wait) + late).max(1))
}

fn secs_up(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

/// A string of a structured field; what cannot stand in one becomes an underscore.
fn write_name(field: &mut String, name: &str) {
    if !field.is_empty() {
        field.push_str(", ");
    }
    field.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => field.extend(['\\', character]),
            ' '..='~' => field.push(character),
            _ => field.push('_'),
        }
    }
    field.push('"');
}

fn write_parameter(field: &mut String, name: &str, number: u64) {
    // Writing into a string cannot fail.
    let _ = write!(field, ";{name}={}", number.min(INTEGER_MAX));
}
