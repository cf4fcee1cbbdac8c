//! When to renew, and when to try again.
//!
//! The problem: certificates that were issued together are due together, and an authority that fails, or refuses,
//! must not be asked in a tight loop, but once it is well again soon enough. The rule: renew when a third of the
//! lifetime is left, up to a thirtieth earlier by chance; an authority that suggests a window (RFC 9773) is followed
//! where that is earlier, and also where it is later as long as a sixth of the lifetime is left. After failures the
//! pause doubles up to a bound and is drawn from the upper half, so that it never comes near zero.
//!
//! Pure: times and random numbers come in.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use breaker::{Backoff, BackoffParams};

/// First pause at most after a failure to reach the authority: nothing was counted there, and a network that is not
/// up yet at the start soon will be.
const UNREACHED_BASE: Duration = Duration::from_secs(10);

/// Longest wait that an authority may ask for. A day later it is asked once more, which is no burden for it.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);

/// When a certificate is to be renewed. `random` is any number drawn evenly from all of `u64`, and is kept with the
/// certificate, so that the answer stays the same.
pub(crate) fn renewal(valid: &Range<SystemTime>, suggested: Option<&Range<SystemTime>>, random: u64) -> SystemTime {
    let lifetime = valid.end.duration_since(valid.start).unwrap_or_default();
    let usual = valid.end - lifetime / 3 - share(lifetime / 30, random);
    let Some(suggested) = suggested else { return usual };
    let width = suggested.end.duration_since(suggested.start).unwrap_or_default();
    (suggested.start + share(width, random)).min(valid.end - lifetime / 6)
}

/// The pause after the `failures`-th failure in a row, counted from 1. `asked` is what the authority asked for.
pub(crate) fn pause(
    params: BackoffParams,
    failures: u32,
    reached: bool,
    asked: Option<Duration>,
    random: u64,
) -> Duration {
    let base = if reached { params.base } else { params.base.min(UNREACHED_BASE) };
    let bound = Backoff::new(BackoffParams { base, ..params }).bound(failures);
    let own = bound / 2 + share(bound / 2, random);
    own.max(asked.unwrap_or_default().min(ASKED_PAUSE_MAX))
}

/// A part of a duration, from none to nearly all of it, as the number is among all of `u64`.
fn share(whole: Duration, random: u64) -> Duration {
    whole.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(days: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * days
    }

    #[test]
    fn certificates_are_renewed_when_a_third_of_their_lifetime_is_left() {
        let check = |random, suggested: Option<Range<u32>>, expected| {
            let suggested = suggested.map(|days| at(days.start)..at(days.end));
            assert_eq!(renewal(&(at(100)..at(190)), suggested.as_ref(), random), at(expected));
        };
        check(0, None, 160);
        check(u64::MAX, None, 157);
        // The authority wants it earlier, now, later, and too late.
        check(0, Some(120..122), 120);
        check(u64::MAX, Some(120..122), 122);
        check(0, Some(50..51), 50);
        check(0, Some(170..172), 170);
        check(0, Some(185..189), 175);
    }

    #[test]
    fn pauses_grow_to_their_bound_and_obey_the_authority() {
        let params = BackoffParams { base: Duration::from_secs(300), max: Duration::from_secs(21_600) };
        let check = |failures, reached, asked: Option<u64>, random, expected| {
            let asked = asked.map(Duration::from_secs);
            let pause = pause(params, failures, reached, asked, random);
            assert_eq!(pause, Duration::from_secs(expected), "{failures} {reached} {asked:?}");
        };
        check(1, true, None, 0, 150);
        check(1, true, None, u64::MAX, 300);
        check(2, true, None, u64::MAX, 600);
        check(20, true, None, u64::MAX, 21_600);
        check(1, false, None, u64::MAX, 10);
        check(20, false, None, u64::MAX, 21_600);
        check(1, true, Some(7_200), 0, 7_200);
        check(1, true, Some(1), 0, 150);
        check(1, true, Some(1_000_000_000), 0, 86_400);
    }

    proptest! {
        #[test]
        fn no_pause_is_a_tight_loop_and_none_is_for_ever(
            base in 1_u64..3_600, factor in 1_u64..100, failures in 1_u32.., reached: bool,
            asked: Option<u32>, random: u64,
        ) {
            let params =
                BackoffParams { base: Duration::from_secs(base), max: Duration::from_secs(base * factor) };
            let asked = asked.map(|secs| Duration::from_secs(u64::from(secs)));
            let pause = pause(params, failures, reached, asked, random);
            prop_assert!(pause >= params.base.min(UNREACHED_BASE) / 2, "{pause:?}");
            prop_assert!(pause <= params.max.max(ASKED_PAUSE_MAX), "{pause:?}");
        }

        #[test]
        fn renewal_is_within_the_lifetime(
            start in 0_u32..20_000, days in 1_u32..400, window: Option<(u16, u16)>, random: u64,
        ) {
            let valid = at(start)..at(start + days);
            let suggested = window.map(|(from, width)| at(u32::from(from))..at(u32::from(from) + u32::from(width)));
            let renewal = renewal(&valid, suggested.as_ref(), random);
            prop_assert!(renewal < valid.end);
            prop_assert!(suggested.is_some() || renewal > valid.start);
        }
    }
}
