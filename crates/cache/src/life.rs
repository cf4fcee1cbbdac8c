//! How long an entry lives, and when it is loaded again before its end. Pure: times and chance come in.
//!
//! **Jitter** spreads what was stored in one second over a part of its time to live, so that not every key expires in the same
//! second. It only ever shortens: a time to live is a promise about age.
//!
//! **Early refresh** is XFetch (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015): with
//! `-ln(u)` for an even `u`, a hit loads again when `now + took × β × -ln(u)` reaches the end. What takes long to load begins
//! earlier, what is asked for often is refreshed with near certainty before it expires, and no two callers need to agree on it.

use std::time::Duration;

/// β of XFetch. Its authors prove 1 to be optimal for loads whose time is exponentially distributed.
const BETA: f64 = 1.0;

/// A part of the whole, drawn evenly from all of `u64`, never 0.
fn unit(random: u64) -> f64 {
    ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
}

/// The time that this entry gets of a time to live.
pub(crate) fn jittered(ttl: Duration, jitter: f64, random: u64) -> Duration {
    ttl.mul_f64(1.0 - jitter * unit(random))
}

/// The largest `-ln(u)`: that of the smallest `u`, 2^-53, rounded up.
const LONGEST: u32 = 37;

/// Whether a hit with so much time left is to load again, when the last load took so long.
pub(crate) fn refreshes(left: Duration, took: Duration, random: impl FnOnce() -> u64) -> bool {
    // Of most hits this is known without drawing.
    if took.saturating_mul(LONGEST) < left {
        return false;
    }
    let ahead = took.as_secs_f64() * BETA * -unit(random()).ln();
    ahead >= left.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jitter_spreads_and_only_shortens() {
        let times: Vec<_> = (0..1000).map(|_| jittered(100 * SECOND, 0.1, fastrand::u64(..))).collect();
        assert!(times.iter().all(|time| (90 * SECOND..=100 * SECOND).contains(time)));
        let upper_half = times.iter().filter(|time| **time > 95 * SECOND).count();
        assert!((400..=600).contains(&upper_half), "{upper_half}");
        assert_eq!(jittered(SECOND, 0.0, 7), SECOND);
    }

    #[test]
    fn chance_of_a_refresh_is_that_of_the_paper() {
        // P(-ln u >= left / took) = exp(-left / took).
        for (left, took) in [(1.0, 1.0), (0.5, 1.0), (3.0, 1.0), (1.0, 0.25), (0.0, 0.1)] {
            let (left_time, took_time) = (Duration::from_secs_f64(left), Duration::from_secs_f64(took));
            let mut random = fastrand::Rng::with_seed(7);
            let hits = (0..20_000).filter(|_| refreshes(left_time, took_time, || random.u64(..))).count();
            let expected = (-left / took).exp();
            assert!((hits as f64 / 20_000.0 - expected).abs() < 0.015, "{left} {took}: {hits}");
        }
    }

    #[test]
    fn what_is_known_without_drawing_is_so() {
        assert!(-unit(0).ln() < f64::from(LONGEST));
        assert!(refreshes(36 * SECOND, SECOND, || 0) && !refreshes(38 * SECOND, SECOND, || panic!("it is drawn")));
    }

    #[test]
    fn what_loads_at_once_is_refreshed_at_its_end_alone() {
        assert!(!refreshes(Duration::from_nanos(1), Duration::ZERO, || 0));
        assert!(refreshes(Duration::ZERO, Duration::ZERO, || u64::MAX));
    }
}
