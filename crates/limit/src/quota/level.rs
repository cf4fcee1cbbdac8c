//! A level that rises with each request and drains by the rate: GCRA, and a token bucket that is refilled in steps.
//!
//! The state is how many ticks must have drained until nothing is owed: the number of the tick at which the bucket
//! would be full again. GCRA calls it the theoretical arrival time. A tick is the 2^n-th part of a token, and the clock
//! gives the number of ticks that have drained since the origin: continuously, or a whole refill at each step. So one
//! who has spent nothing for long has a state in the past, and a request moves the state to `max(state, now) + cost`.
//!
//! The clock multiplies by a reciprocal of 64 significant bits, rounded down: it runs slower than told by at most a
//! part in 2^63, and a decision needs no division.

use std::time::Duration;

use super::{QuotaError, Rate, SKEW_NANOS, SPAN_NANOS, bits_of, fitting};
use crate::moment::nanos_of;
use crate::{Decision, Moment, Verdict};

/// Bits of a state that leave 24 for a key; ticks get finer until so many are used.
const BITS_AIM: u32 = 40;

/// A token has at least eight ticks while a state stays below [`BITS_COARSE`], so that moments are not rounded much.
const TICK_BITS_MIN: u32 = 3;

/// Bits of a state above which ticks become whole tokens instead.
const BITS_COARSE: u32 = 47;

/// Finer ticks than a millionth of a token serve nobody.
const TICK_BITS_MAX: u32 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    clock: Clock,
    /// As it was told: what comes in which time, for errors.
    rate: Rate,
    burst: u32,
    /// A token has two to the power of this many ticks.
    tick_bits: u32,
    bits: u32,
    mask: u64,
    /// A state that is further ahead than this comes from the last round of the bits.
    ahead_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Clock {
    /// Ticks are `nanos * factor >> shift`, and nanoseconds at most `ticks * inverse >> inverse_shift`, and two.
    Continuous {
        factor: u64,
        shift: u32,
        inverse: u128,
        inverse_shift: u32,
    },
    Steps {
        interval_nanos: u64,
        refill: u64,
    },
}

impl Level {
    pub(super) fn continuous(rate: Rate, burst: u32) -> Result<Self, QuotaError> {
        let per_nanos = nanos_of(rate.per);
        let whole = bits_of(SPAN_NANOS * u128::from(rate.amount) / u128::from(per_nanos));
        let mut tick_bits = BITS_AIM.saturating_sub(whole).clamp(TICK_BITS_MIN, TICK_BITS_MAX);
        if whole + tick_bits > BITS_COARSE {
            tick_bits = 0;
        }
        let clock = Clock::continuous(u64::from(rate.amount) << tick_bits, per_nanos);
        Self::new(clock, rate, burst, tick_bits, whole + tick_bits)
    }

    pub(super) fn in_steps(capacity: u32, refill: u32, interval: Duration) -> Result<Self, QuotaError> {
        // More than its capacity no bucket can take.
        let (interval_nanos, refill) = (nanos_of(interval), refill.min(capacity));
        let whole = bits_of(SPAN_NANOS / u128::from(interval_nanos) * u128::from(refill));
        let clock = Clock::Steps { interval_nanos, refill: u64::from(refill) };
        Self::new(clock, Rate { amount: refill, per: interval }, capacity, 0, whole)
    }

    fn new(clock: Clock, rate: Rate, burst: u32, tick_bits: u32, span_bits: u32) -> Result<Self, QuotaError> {
        let ahead_max = (u128::from(burst) << tick_bits) + clock.ticks_wide(SKEW_NANOS) + 1;
        // Twice the room that debts can take, so that most of a round lies in the past.
        let bits = fitting(span_bits.max(bits_of(ahead_max) + 1), rate)?;
        Ok(Self { clock, rate, burst, tick_bits, bits, mask: (1 << bits) - 1, ahead_max: ahead_max as u64 })
    }

    pub(super) fn too_fast(&self) -> QuotaError {
        QuotaError::TooFast { amount: self.rate.amount, per: self.rate.per }
    }

    pub(super) fn limit(&self) -> u32 {
        self.burst
    }

    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    #[inline]
    pub(super) fn decide(&self, state: u64, now: Moment, cost: u32) -> (Decision, Option<u64>) {
        let drained = self.clock.ticks(now.nanos());
        let ahead = state.wrapping_sub(drained) & self.mask;
        let debt = if ahead <= self.ahead_max { ahead } else { 0 };
        let capacity = u64::from(self.burst) << self.tick_bits;
        let after = debt + (u64::from(cost) << self.tick_bits);
        let (verdict, debt, next) = if cost == 0 {
            (Verdict::Allowed, debt, None)
        } else if after <= capacity {
            (Verdict::Allowed, after, Some(drained.wrapping_add(after) & self.mask))
        } else if cost > self.burst {
            (Verdict::Never, debt, None)
        } else {
            (Verdict::Refused { retry_after: self.clock.time_to_drain(now, after - capacity) }, debt, None)
        };
        let decision = Decision {
            verdict,
            limit: self.burst,
            remaining: (capacity.saturating_sub(debt) >> self.tick_bits) as u32,
            reset: self.clock.time_to_drain(now, debt),
            displaced: false,
        };
        (decision, next)
    }

    #[inline]
    pub(super) fn rank(&self, state: u64, now: Moment) -> i64 {
        let ahead = state.wrapping_sub(self.clock.ticks(now.nanos())) & self.mask;
        if ahead <= self.ahead_max { ahead as i64 } else { ahead as i64 - (1 << self.bits) }
    }
}

impl Clock {
    fn continuous(ticks: u64, per_nanos: u64) -> Self {
        // The factor is `ticks / per` with the point moved until it has 64 significant bits; this is one more at most.
        let mut shift = 64 + bits_of(u128::from(per_nanos)) - bits_of(u128::from(ticks));
        if (u128::from(ticks) << shift) / u128::from(per_nanos) > u128::from(u64::MAX) {
            shift -= 1;
        }
        let factor = (u128::from(ticks) << shift) / u128::from(per_nanos);
        let inverse_shift = 127 - shift;
        let inverse = (1_u128 << 127).div_ceil(factor);
        Self::Continuous { factor: factor as u64, shift, inverse, inverse_shift }
    }

    #[inline]
    fn ticks(&self, nanos: u64) -> u64 {
        match *self {
            Self::Continuous { factor, shift, .. } => ((u128::from(nanos) * u128::from(factor)) >> shift) as u64,
            Self::Steps { interval_nanos, refill } => (nanos / interval_nanos).wrapping_mul(refill),
        }
    }

    fn ticks_wide(&self, nanos: u64) -> u128 {
        match *self {
            Self::Continuous { factor, shift, .. } => (u128::from(nanos) * u128::from(factor)) >> shift,
            Self::Steps { interval_nanos, refill } => u128::from(nanos / interval_nanos) * u128::from(refill),
        }
    }

    /// The time from `now` until so many ticks more have drained.
    #[inline]
    fn time_to_drain(&self, now: Moment, ticks: u64) -> Duration {
        if ticks == 0 {
            return Duration::ZERO;
        }
        match *self {
            Self::Continuous { inverse, inverse_shift, .. } => {
                let nanos = u128::from(ticks).checked_mul(inverse).map_or(u128::MAX, |wide| wide >> inverse_shift);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1))
            }
            Self::Steps { interval_nanos, refill } => {
                let until = interval_nanos.saturating_mul(ticks.div_ceil(refill));
                Duration::from_nanos(until.saturating_sub(now.nanos() % interval_nanos))
            }
        }
    }
}
