//! A circuit breaker: calls to something that keeps failing are refused for a time, then a few find out how it is.
//!
//! The problem: what is down or too slow makes everybody wait who asks it, and the asking keeps it from coming back. The
//! rule is a machine of three states that all cores share.
//!
//! - **Closed**: every call passes. The breaker opens when so many calls in a row have failed, or when over a sliding
//!   window with enough calls a share of them failed or was slow. A call that went well never opens it.
//! - **Open**: no call passes for a time, which doubles with every opening up to a bound. Once the breaker has been
//!   closed for long enough, it begins with the first time again. Of each time up to a fifth is taken off at random, so
//!   that several processes do not probe at one moment.
//! - **Half-open**: a bounded number of calls may pass as probes. It closes when enough of them succeeded, and opens again
//!   as soon as one fails, or is slow where slow calls count. A probe that ends without a result gives its permit back.
//!
//! A permit knows the generation in which it was given, and every move begins another one: the result of a call that began
//! before a move says nothing about the time after it, and is ignored. What counts as a failure is the caller's.
//!
//! # What cores share
//!
//! The state is one packed word. While it is closed, to admit a call is one relaxed load; every move, and every
//! permit for a probe, is a compare-exchange of the whole word, so that no two cores can take one permit and no result can be
//! counted into another state. Failures in a row are a second word, which a success writes only when there is
//! something to take back. The window is counted by each core for itself, and read by others only after a failure or a
//! slow call.
//!
//! Sources: M. Nygard, "Release It!"; the documentation of Resilience4j's circuit breaker (rates over a window with a
//! minimum of calls, slow calls) and of Envoy's; linkerd's failure accrual, for times that grow with jitter.

mod change;
mod window;
mod word;

use std::time::{Duration, Instant};

use super::sync::{AtomicU64, Ordering};
use window::Window;
use word::{COUNT_MAX, Phase, Word};

pub use change::{Cause, Change, Force, State};

/// When a breaker opens, for how long, and how it closes again. The default opens after five failures in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerParams {
    /// Failures in a row that open it; `None` for no such rule.
    pub failures: Option<u32>,
    /// Share of failed calls in the window that opens it (0 to 1); `None` for no such rule.
    pub failure_rate: Option<f64>,
    /// Slow calls, where they count.
    pub slow: Option<SlowParams>,
    /// The window of the two rates.
    pub window: Duration,
    /// Calls in the window without which the rates say nothing.
    pub calls_min: u32,
    /// The first open time.
    pub open_for: Duration,
    /// Longest open time.
    pub open_max: Duration,
    /// Once it was closed for this long, it begins with the first open time again.
    pub forget_after: Duration,
    /// Most probes at once.
    pub probes: u32,
    /// Probes that must succeed before it closes. No more than this many are sent, or than `probes` if that is more.
    pub successes: u32,
}

/// Slow calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowParams {
    /// Calls that take at least this long are slow.
    pub after: Duration,
    /// Share of slow calls in the window that opens the breaker (0 to 1).
    pub rate: f64,
}

impl Default for BreakerParams {
    fn default() -> Self {
        Self {
            failures: Some(5),
            failure_rate: None,
            slow: None,
            window: Duration::from_secs(10),
            calls_min: 20,
            open_for: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
            forget_after: Duration::from_secs(300),
            probes: 1,
            successes: 1,
        }
    }
}

/// Whether a call may pass.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit must be recorded or cancelled"]
pub enum Admission {
    /// It may.
    Admitted(Permit),
    /// It may not.
    Refused {
        /// When a probe may pass, as far as that is known.
        retry_after: Option<Duration>,
    },
}

/// That a call may pass. It ends with [`Breaker::record`], or with [`Breaker::cancel`] when there is no result; a
/// probe's permit that meets neither is lost to others.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit must be recorded or cancelled"]
pub struct Permit {
    generation: u16,
    probe: bool,
    first: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it failed, by the caller's judgement.
    pub failed: bool,
    /// How long it took.
    pub took: Duration,
}

/// A breaker that all cores share. See the [module](self) for the rules.
///
/// ```
/// use std::time::{Duration, Instant};
/// use breaker::{Admission, Breaker, BreakerParams, Outcome};
///
/// let now = Instant::now();
/// let breaker = Breaker::new(BreakerParams { failures: Some(1), ..BreakerParams::default() }, 1, now);
/// let Admission::Admitted(permit) = breaker.admit(now) else { panic!("it is closed") };
/// let outcome = Outcome { failed: true, took: Duration::from_millis(3) };
/// let change = breaker.record(permit, outcome, now, (0, 7)).expect("it opens");
/// assert_eq!(change.cause.to_string(), "1 calls in a row failed");
/// assert!(matches!(breaker.admit(now), Admission::Refused { .. }));
/// ```
#[derive(Debug)]
pub struct Breaker {
    params: BreakerParams,
    start: Instant,
    word: AtomicU64,
    /// Failures in a row: the generation that they belong to above their number.
    streak: AtomicU64,
    /// There when a rule looks at it.
    window: Option<Window>,
}

/// One part in so many of an open time may be taken off.
const JITTER_PART: u32 = 5;

const STREAK_BITS: u32 = 32;
const STREAK: u64 = (1 << STREAK_BITS) - 1;

/// Rates are compared in whole millionths, so that no rounding decides.
const MILLION: u64 = 1_000_000;

impl Breaker {
    /// A closed breaker. `shards` is how many cores count calls.
    pub fn new(params: BreakerParams, shards: usize, now: Instant) -> Self {
        let rates = params.failure_rate.is_some() || params.slow.is_some();
        let word = Word { phase: Phase::Closed { since: 0 }, level: 0, generation: 0 };
        Self {
            params,
            start: now,
            word: AtomicU64::new(word.pack()),
            streak: AtomicU64::new(0),
            window: rates.then(|| Window::new(params.window, shards)),
        }
    }

    /// Its rules.
    pub fn params(&self) -> &BreakerParams {
        &self.params
    }

    /// Where it stands. An open breaker whose time is over stays open until a call comes.
    pub fn state(&self) -> State {
        self.shown(Word::unpack(self.word.load(Ordering::Relaxed)).phase)
    }

    /// Whether a call may pass.
    #[inline]
    pub fn admit(&self, now: Instant) -> Admission {
        let word = self.word.load(Ordering::Relaxed);
        if Word::is_closed(word) {
            let generation = Word::generation_of(word);
            return Admission::Admitted(Permit { generation, probe: false, first: false });
        }
        self.admit_probe(word, now)
    }

    /// Whether a call would pass, without taking a permit. Others may be quicker.
    #[inline]
    pub fn would_admit(&self, now: Instant) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        Word::is_closed(word) || self.next(Word::unpack(word), now).is_ok()
    }

    #[inline(never)]
    fn admit_probe(&self, mut packed: u64, now: Instant) -> Admission {
        loop {
            let word = Word::unpack(packed);
            let next = match self.next(word, now) {
                Ok(next) => next,
                Err(retry_after) => return Admission::Refused { retry_after },
            };
            let probe = matches!(next.phase, Phase::HalfOpen { .. });
            let first = next.generation != word.generation;
            let permit = Permit { generation: next.generation, probe, first };
            if next == word {
                return Admission::Admitted(permit);
            }
            match self.word.compare_exchange_weak(packed, next.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Admission::Admitted(permit),
                Err(newer) => packed = newer,
            }
        }
    }

    /// The word once a call was admitted; `Err` with the time to wait when it may not be.
    fn next(&self, word: Word, now: Instant) -> Result<Word, Option<Duration>> {
        match word.phase {
            Phase::Closed { .. } | Phase::ForcedClosed => Ok(word),
            Phase::ForcedOpen => Err(None),
            Phase::Open { until } => match until.saturating_sub(self.millis(now)) {
                0 => Ok(word.moved(Phase::HalfOpen { out: 1, passed: 0 }, word.level)),
                wait => Err(Some(Duration::from_millis(wait))),
            },
            Phase::HalfOpen { out, passed } => {
                let has_room = out < self.probes() && out + passed < self.probes().max(self.successes());
                if has_room { Ok(Word { phase: Phase::HalfOpen { out: out + 1, passed }, ..word }) } else { Err(None) }
            }
        }
    }

    /// Notes how a call ended. `shard` is the core, and `random` any number drawn evenly from all of `u64`. Tells
    /// what that moved.
    #[allow(clippy::needless_pass_by_value, reason = "a permit ends here, so that it cannot end twice")]
    pub fn record(
        &self,
        permit: Permit,
        outcome: Outcome,
        now: Instant,
        (shard, random): (usize, u64),
    ) -> Option<Change> {
        let slow = self.params.slow.is_some_and(|slow| outcome.took >= slow.after);
        let mut packed = self.word.load(Ordering::Relaxed);
        loop {
            let word = Word::unpack(packed);
            if word.generation != permit.generation {
                return None;
            }
            let (next, cause) = match word.phase {
                Phase::Closed { since } => {
                    let cause = self.count(word.generation, self.millis(now), (outcome.failed, slow), shard)?;
                    let healthy = self.millis(now).saturating_sub(since);
                    let forgotten = healthy >= millis_of(self.params.forget_after);
                    let level = if forgotten { 0 } else { word.level };
                    // A closed word changes only by a move, so who is not first here is too late.
                    let next = self.opened(word, level, now, random);
                    let swapped = self.word.compare_exchange(packed, next.pack(), Ordering::AcqRel, Ordering::Relaxed);
                    return swapped.ok().map(|_| self.change(word, next, cause));
                }
                Phase::HalfOpen { .. } if outcome.failed || slow => {
                    let cause = if outcome.failed { Cause::ProbeFailed } else { Cause::ProbeSlow };
                    (self.opened(word, word.level, now, random), Some(cause))
                }
                Phase::HalfOpen { out, passed } if passed + 1 < self.successes() => {
                    let phase = Phase::HalfOpen { out: out.saturating_sub(1), passed: passed + 1 };
                    (Word { phase, ..word }, None)
                }
                Phase::HalfOpen { passed, .. } => {
                    let closed = Phase::Closed { since: self.millis(now) };
                    (word.moved(closed, word.level), Some(Cause::ProbesPassed { successes: passed + 1 }))
                }
                Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed => return None,
            };
            match self.word.compare_exchange_weak(packed, next.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return cause.map(|cause| self.change(word, next, cause)),
                Err(newer) => packed = newer,
            }
        }
    }

    /// Gives a permit back whose call has no result: it was never made, or its caller has gone.
    #[allow(clippy::needless_pass_by_value, reason = "a permit ends here, so that it cannot end twice")]
    pub fn cancel(&self, permit: Permit) {
        if !permit.probe {
            return;
        }
        let give_back = |packed| {
            let word = Word::unpack(packed);
            match word.phase {
                Phase::HalfOpen { out, passed } if word.generation == permit.generation => {
                    let phase = Phase::HalfOpen { out: out.saturating_sub(1), passed };
                    Some(Word { phase, ..word }.pack())
                }
                _ => None,
            }
        };
        let _moved_on = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, give_back);
    }

    /// Makes it what somebody wishes, or lets it decide by itself again, closed and with nothing counted. Tells what that
    /// moved.
    pub fn force(&self, force: Option<Force>, now: Instant) -> Option<Change> {
        let mut packed = self.word.load(Ordering::Relaxed);
        loop {
            let word = Word::unpack(packed);
            let is_forced = matches!(word.phase, Phase::ForcedOpen | Phase::ForcedClosed);
            let (phase, cause) = match force {
                Some(Force::Open) => (Phase::ForcedOpen, Cause::Forced),
                Some(Force::Closed) => (Phase::ForcedClosed, Cause::Forced),
                None if !is_forced => return None,
                None => (Phase::Closed { since: self.millis(now) }, Cause::Released),
            };
            if phase == word.phase {
                return None;
            }
            let next = word.moved(phase, 0);
            match self.word.compare_exchange_weak(packed, next.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(self.change(word, next, cause)),
                Err(newer) => packed = newer,
            }
        }
    }

    /// The longest open time after so many openings that are not forgotten.
    pub fn open_bound(&self, openings: u32) -> Duration {
        let factor = 2_u32.checked_pow(openings);
        let grown = factor.and_then(|factor| self.params.open_for.checked_mul(factor));
        grown.map_or(self.params.open_max, |grown| grown.min(self.params.open_max))
    }

    /// Counts a call while closed; says why the breaker has to open, if it has to.
    fn count(&self, generation: u16, millis: u64, (failed, slow): (bool, bool), shard: usize) -> Option<Cause> {
        if let Some(window) = &self.window {
            window.note(shard, generation, millis, (failed, slow));
        }
        if let Some(max) = self.params.failures {
            let failures = self.count_streak(generation, failed);
            if failed && failures >= max {
                return Some(Cause::Consecutive { failures });
            }
        }
        // A call that went well brings neither rate above its bound.
        let window = self.window.as_ref().filter(|_| failed || slow)?;
        let sum = window.sum(generation, millis);
        if sum.calls < u64::from(self.params.calls_min) {
            return None;
        }
        let is_above = |count: u64, rate: f64| count * MILLION >= (rate * MILLION as f64).round() as u64 * sum.calls;
        if self.params.failure_rate.is_some_and(|rate| failed && is_above(sum.failures, rate)) {
            return Some(Cause::FailureRate { calls: sum.calls, failures: sum.failures });
        }
        let too_slow = self.params.slow.is_some_and(|params| slow && is_above(sum.slow, params.rate));
        too_slow.then_some(Cause::SlowRate { calls: sum.calls, slow: sum.slow })
    }

    /// Counts a failure of a generation, or forgets those before a success; gives how many there are in a row.
    fn count_streak(&self, generation: u16, failed: bool) -> u32 {
        let mut streak = self.streak.load(Ordering::Relaxed);
        loop {
            let is_own = streak >> STREAK_BITS == u64::from(generation);
            let failures = if is_own { streak & STREAK } else { 0 };
            let next = match failed {
                false if failures == 0 => return 0,
                false => 0,
                true => (failures + 1).min(STREAK),
            };
            let packed = u64::from(generation) << STREAK_BITS | next;
            match self.streak.compare_exchange_weak(streak, packed, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next as u32,
                Err(newer) => streak = newer,
            }
        }
    }

    fn opened(&self, word: Word, level: u8, now: Instant, random: u64) -> Word {
        let bound = self.open_bound(u32::from(level)).as_nanos();
        let jitter = (bound / u128::from(JITTER_PART) * u128::from(random)) >> 64;
        let time = ((bound - jitter) / 1_000_000) as u64;
        word.moved(Phase::Open { until: self.millis(now).saturating_add(time) }, level.saturating_add(1))
    }

    fn probes(&self) -> u32 {
        self.params.probes.clamp(1, COUNT_MAX / 2)
    }

    fn successes(&self) -> u32 {
        self.params.successes.clamp(1, COUNT_MAX / 2)
    }

    fn millis(&self, now: Instant) -> u64 {
        millis_of(now.saturating_duration_since(self.start))
    }

    fn change(&self, from: Word, to: Word, cause: Cause) -> Change {
        Change { from: self.shown(from.phase), to: self.shown(to.phase), cause }
    }

    fn shown(&self, phase: Phase) -> State {
        match phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } => State::Open { until: self.start + Duration::from_millis(until) },
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::ForcedClosed => State::ForcedClosed,
        }
    }
}

impl Permit {
    /// Whether the call is one of those that find out how things are.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether it is the one that ended the open time.
    pub fn ends_open_time(&self) -> bool {
        self.first
    }
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
