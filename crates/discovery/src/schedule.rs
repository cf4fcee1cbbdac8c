//! When a source is asked again, and whether its last set stays meanwhile. Time and chance are given to it.
//!
//! - A good answer is asked for again when the first of its records is no longer good, and up to a tenth of that later
//!   (at most 5 s), so that many gateways which began together do not stay together. Never before, for whoever asks early
//!   gets the old answer once more.
//! - After a failure the pause is a second, and doubles up to 10 s: that heals soon and costs a name server nothing.
//! - An answer that there is nothing counts as a failure, but is believed for as long as it says (RFC 2308), within half a
//!   minute: a name that is made a moment too late must not be missed for a day.
//! - The last set stays, unless `when_empty` or `stale_max` says otherwise.

use std::time::{Duration, Instant};

use crate::params::{ResolverParams, WhenEmpty};

/// Pauses after failures.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Longest time for which it is believed that there is nothing.
const NOTHING_MAX: Duration = Duration::from_secs(30);

/// Most by which an answer is used longer than it is good.
const JITTER_MAX: Duration = Duration::from_secs(5);

/// What is remembered of a source between two questions.
#[derive(Debug)]
pub(crate) struct Schedule {
    when_empty: WhenEmpty,
    stale_max: Option<Duration>,
    /// Shortest pause after a good answer.
    pause_min: Duration,
    failures: u32,
    /// When the last good answer came.
    good_at: Option<Instant>,
    /// Whether the last set has gone already.
    is_removed: bool,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// Time until the source is asked again.
    pub(crate) pause: Duration,
    /// Whether the last set goes.
    pub(crate) removes: bool,
}

impl Schedule {
    /// Nothing was asked yet. `good_at` is when an answer came that is known from before.
    pub(crate) fn new(params: &ResolverParams, good_at: Option<Instant>) -> Self {
        let (when_empty, stale_max) = (params.when_empty, params.stale_max);
        // Records that end shortly after each other are asked for together.
        let pause_min = params.ttl_min.min(PAUSE_MIN);
        Self { when_empty, stale_max, pause_min, failures: 0, good_at, is_removed: false }
    }

    /// A whole answer came, which is good for so long. `chance` is between 0 and 1.
    pub(crate) fn on_answer(&mut self, now: Instant, good_for: Duration, chance: f64) -> Next {
        (self.failures, self.good_at, self.is_removed) = (0, Some(now), false);
        let late = (good_for / 10).min(JITTER_MAX).mul_f64(chance);
        Next { pause: (good_for + late).max(self.pause_min), removes: false }
    }

    /// An answer came of which a part is missing; the rest is good for so long.
    pub(crate) fn on_part(&mut self, now: Instant, good_for: Duration, chance: f64) -> Next {
        (self.good_at, self.is_removed) = (Some(now), false);
        Next { pause: self.pause(chance).min(good_for).max(self.pause_min), removes: false }
    }

    /// The answer was that there is nothing, and said for how long.
    pub(crate) fn on_nothing(&mut self, now: Instant, believed_for: Option<Duration>, chance: f64) -> Next {
        let believed = believed_for.unwrap_or_default().min(NOTHING_MAX);
        let pause = self.pause(chance).max(believed);
        let removes = self.when_empty == WhenEmpty::Remove;
        self.without_answer(now, pause, removes)
    }

    /// No answer came, or none that says anything.
    pub(crate) fn on_failure(&mut self, now: Instant, chance: f64) -> Next {
        let pause = self.pause(chance);
        self.without_answer(now, pause, false)
    }

    fn without_answer(&mut self, now: Instant, pause: Duration, removes: bool) -> Next {
        let left = match (self.good_at, self.stale_max) {
            (Some(good_at), Some(max)) => Some(max.saturating_sub(now.saturating_duration_since(good_at))),
            _ => None,
        };
        let is_due = removes || left.is_some_and(|left| left.is_zero());
        let removes = is_due && !self.is_removed;
        self.is_removed |= is_due;
        // The end of the last answer is not to be slept through.
        let left = left.filter(|left| !left.is_zero() && !self.is_removed);
        Next { pause: left.map_or(pause, |left| pause.min(left)), removes }
    }

    /// The pause after one more failure: between three quarters and the whole of it.
    fn pause(&mut self, chance: f64) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(4)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.75 + chance * 0.25)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(when_empty: WhenEmpty, stale_max: Option<Duration>) -> Schedule {
        Schedule::new(&ResolverParams { when_empty, stale_max, ..ResolverParams::default() }, None)
    }

    #[test]
    fn answers_are_used_as_long_as_they_are_good() {
        let (mut schedule, now) = (schedule(WhenEmpty::Keep, None), Instant::now());
        assert_eq!(schedule.on_answer(now, SECOND * 30, 0.0).pause, SECOND * 30);
        assert_eq!(schedule.on_answer(now, SECOND * 30, 1.0).pause, SECOND * 33);
        assert_eq!(schedule.on_answer(now, SECOND * 3600, 1.0).pause, SECOND * 3605);
    }

    #[test]
    fn failures_are_asked_again_soon_but_less_and_less() {
        let (mut schedule, now) = (schedule(WhenEmpty::Keep, None), Instant::now());
        let pauses: Vec<u64> = (0..6).map(|_| schedule.on_failure(now, 1.0).pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        schedule.on_answer(now, SECOND, 0.0);
        assert_eq!(schedule.on_failure(now, 0.0).pause, SECOND * 3 / 4, "an answer begins anew");
        // A part that is good for less is asked for earlier.
        schedule.on_answer(now, SECOND, 0.0);
        schedule.on_failure(now, 0.0);
        assert_eq!(schedule.on_part(now, SECOND * 3 / 2, 1.0).pause, SECOND * 3 / 2);
    }

    #[test]
    fn nothing_is_believed_for_a_while() {
        let (mut schedule, now) = (schedule(WhenEmpty::Keep, None), Instant::now());
        let mut ask = |secs| schedule.on_nothing(now, Some(SECOND * secs), 1.0).pause.as_secs();
        assert_eq!((ask(0), ask(15), ask(86_400)), (1, 15, 30));
    }

    #[test]
    fn the_last_set_stays_unless_the_settings_say_otherwise() {
        let now = Instant::now();
        let mut keeps = schedule(WhenEmpty::Keep, None);
        keeps.on_answer(now, SECOND, 0.0);
        assert!(!keeps.on_nothing(now, None, 0.0).removes);
        assert!(!keeps.on_failure(now + SECOND * 1_000_000, 0.0).removes);
        let mut removes = schedule(WhenEmpty::Remove, None);
        removes.on_answer(now, SECOND, 0.0);
        assert!(!removes.on_failure(now, 0.0).removes);
        assert!(removes.on_nothing(now, None, 0.0).removes);
        assert!(!removes.on_nothing(now, None, 0.0).removes, "only once");
        let mut ages = schedule(WhenEmpty::Keep, Some(SECOND * 5));
        assert!(!ages.on_failure(now, 0.0).removes, "nothing is there to go");
        ages.on_answer(now, SECOND, 0.0);
        let next = ages.on_failure(now + SECOND * 4, 1.0);
        assert_eq!((next.pause, next.removes), (SECOND, false));
        assert!(ages.on_failure(now + SECOND * 5, 1.0).removes);
        assert!(!ages.on_failure(now + SECOND * 6, 1.0).removes);
        ages.on_answer(now + SECOND * 7, SECOND, 0.0);
        assert!(ages.on_failure(now + SECOND * 12, 1.0).removes, "each time anew");
    }

    proptest! {
        /// Whatever happens, nobody is asked in a hurry, and nobody is forgotten.
        #[test]
        fn pauses_are_within_bounds(events in proptest::collection::vec((0_u8..4, 0_u64..100_000, 0.0..1.0), 1..50)) {
            let mut schedule = schedule(WhenEmpty::Keep, None);
            let now = Instant::now();
            for (event, secs, chance) in events {
                let good_for = Duration::from_secs(secs.max(1));
                let pause = match event {
                    0 => schedule.on_answer(now, good_for, chance).pause,
                    1 => schedule.on_part(now, good_for, chance).pause,
                    2 => schedule.on_nothing(now, Some(good_for), chance).pause,
                    _ => schedule.on_failure(now, chance).pause,
                };
                let max = if event == 0 { good_for + JITTER_MAX } else { NOTHING_MAX };
                prop_assert!(pause >= PAUSE_MIN * 3 / 4 && pause <= max, "{event} {pause:?}");
                prop_assert!(event != 0 || pause >= good_for);
            }
        }
    }
}
