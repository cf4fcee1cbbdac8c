//! What a limit allows: a law over a state that fits into one word.
//!
//! The problem: several cores share one limit and decide at once, and a table holds a hundred thousand of them. The
//! rule: a state is a number of at most 62 bits, mostly 40, and a law is a function from the state, the time and the
//! cost to a decision and the next state. So an update is a compare-exchange of one atomic, without a lock, and the
//! bits that are left say whose state it is ([`Keyed`](crate::Keyed)).
//!
//! - **GCRA**: what was spent drains continuously. The limit of choice. Source: ITU-T I.371, in tokens instead of
//!   times.
//! - **Token bucket**: the same with a refill in steps, all at multiples of an interval since the origin, such as a
//!   thousand each hour. The continuous token bucket is GCRA and nothing else.
//! - **Sliding window**: at most so many in any window, estimated from two counters (`window`).
//!
//! Every law agrees on these edges:
//!
//! - A state never allows more because of a change: states only ever grow ([`Quota::rank`]), by more than nothing with
//!   each request that is allowed. A refused request changes nothing.
//! - A clock that goes back, by up to a minute between cores, makes a limit stricter and never looser.
//! - A cost of nothing passes and only looks. A cost above the limit is [`Verdict::Never`](crate::Verdict::Never).
//! - Numbers of windows and tokens are counted modulo a span of at least four years. Then, once, a key that was away
//!   for exactly that long could find itself in debt for as long as its limit remembers.
//! - Time is kept in ticks of a fraction of a token (at 100/s: a 64th). What is allowed within a time measured from
//!   outside is thus exact to a tick, and ticks never add up.

mod level;
mod window;

use std::time::Duration;

use self::level::Level;
use self::window::Window;
use crate::{Decision, Moment};

/// Years after which counted time begins anew.
const SPAN_NANOS: u128 = 4 * 366 * 86_400 * 1_000_000_000;

/// How far clocks of cores may disagree.
const SKEW_NANOS: u64 = 60_000_000_000;

/// Longest period, interval or window: a leap year.
pub const PERIOD_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Most bits of a state, so that its differences are signed numbers with room.
const STATE_BITS_MAX: u32 = 62;

/// So many per so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, in the unit of costs.
    pub amount: u32,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// So many per second.
    pub const fn per_sec(amount: u32) -> Self {
        Self { amount, per: Duration::from_secs(1) }
    }
}

/// Why there can be no such quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Refusing everything is not a limit.
    #[error("the rate is zero, which would refuse everything for ever")]
    NoRate,
    /// Nothing could ever pass.
    #[error("the burst is zero, which would refuse everything")]
    NoBurst,
    /// No time at all, or more than [`PERIOD_MAX`].
    #[error("the period of {0:?} is not between a nanosecond and 366 days")]
    Period(Duration),
    /// The numbers do not fit into a state.
    #[error("{amount} in {per:?} is more than can be counted")]
    TooFast {
        /// How many.
        amount: u32,
        /// In which time.
        per: Duration,
    },
}

/// A law with its numbers, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota(Law);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Law {
    Level(Level),
    Window(Window),
}

impl Quota {
    /// At most `burst` at once and `rate` in the long run: within any time, at most the burst and what the rate gives.
    ///
    /// # Errors
    /// [`QuotaError`] for a rate or a burst of zero, and for what cannot be counted.
    pub fn gcra(rate: Rate, burst: u32) -> Result<Self, QuotaError> {
        check(rate.amount, burst, rate.per)?;
        Ok(Self(Law::Level(Level::continuous(rate, burst)?)))
    }

    /// A bucket of `capacity` tokens, full at first, that gets `refill` at every whole multiple of `interval` since the
    /// origin. Within any time: at most the capacity and a refill for each multiple in it.
    ///
    /// # Errors
    /// [`QuotaError`] for a refill or a capacity of zero, and for what cannot be counted.
    pub fn token_bucket(capacity: u32, refill: u32, interval: Duration) -> Result<Self, QuotaError> {
        check(refill, capacity, interval)?;
        Ok(Self(Law::Level(Level::in_steps(capacity, refill, interval)?)))
    }

    /// About `limit` in any window, and never more in one that begins at a multiple of `window` since the origin.
    ///
    /// # Errors
    /// [`QuotaError`] for a limit of zero, and for what cannot be counted.
    pub fn sliding_window(limit: u32, window: Duration) -> Result<Self, QuotaError> {
        check(limit, limit, window)?;
        Ok(Self(Law::Window(Window::new(limit, window)?)))
    }

    /// The most that can be spent at once.
    pub fn limit(&self) -> u32 {
        match &self.0 {
            Law::Level(level) => level.limit(),
            Law::Window(window) => window.limit(),
        }
    }

    /// Bits that a state takes: the lowest of its word.
    pub fn state_bits(&self) -> u32 {
        match &self.0 {
            Law::Level(level) => level.bits(),
            Law::Window(window) => window.bits(),
        }
    }

    /// What a request that costs `cost` hears at `now`, and the next state if that is another.
    ///
    /// The state of one who has spent nothing is 0.
    #[inline]
    pub fn decide(&self, state: u64, now: Moment, cost: u32) -> (Decision, Option<u64>) {
        match &self.0 {
            Law::Level(level) => level.decide(state, now, cost),
            Law::Window(window) => window.decide(state, now, cost),
        }
    }

    /// Why there can be no table of such states.
    pub(crate) fn too_fast_for_keys(&self) -> QuotaError {
        match &self.0 {
            Law::Level(level) => level.too_fast(),
            Law::Window(window) => window.too_fast(),
        }
    }

    /// A number that orders states at `now`: the lower, the longer ago is what it knows. It only grows: no step of
    /// [`decide`](Self::decide) lowers it.
    #[inline]
    pub fn rank(&self, state: u64, now: Moment) -> i64 {
        match &self.0 {
            Law::Level(level) => level.rank(state, now),
            Law::Window(window) => window.rank(state, now),
        }
    }

    /// Whether a state is as good as that of one who has spent nothing.
    #[inline]
    pub fn is_idle(&self, state: u64, now: Moment) -> bool {
        match &self.0 {
            Law::Level(level) => level.rank(state, now) <= 0,
            Law::Window(window) => window.is_idle(state, now),
        }
    }
}

fn check(amount: u32, burst: u32, per: Duration) -> Result<(), QuotaError> {
    if amount == 0 {
        return Err(QuotaError::NoRate);
    }
    if burst == 0 {
        return Err(QuotaError::NoBurst);
    }
    if per.is_zero() || per > PERIOD_MAX {
        return Err(QuotaError::Period(per));
    }
    Ok(())
}

/// Bits that hold every number up to this one.
fn bits_of(number: u128) -> u32 {
    u128::BITS - number.leading_zeros()
}

fn fitting(bits: u32, rate: Rate) -> Result<u32, QuotaError> {
    if bits > STATE_BITS_MAX {
        return Err(QuotaError::TooFast { amount: rate.amount, per: rate.per });
    }
    Ok(bits)
}
