//! At most so many in a window that slides, from two counters.
//!
//! The rule, as Cloudflare described it: one counter for the running window and one for the window before, both aligned
//! to multiples of the window since the origin. The sliding window that ends now holds the running count and the share
//! of the earlier count that lies within, taken as if its requests had come evenly.
//!
//! **Its error.** It is in the evenness alone. If all of the earlier window came at its end, the estimate forgets them
//! too soon, and a true sliding window may hold up to twice the limit, which is what a plain counter per window permits
//! at each border; if they came at its beginning, some are refused that a log would let pass. An aligned window never
//! holds more than the limit, and a client that comes evenly meets the limit exactly.
//!
//! **Why no log.** A log of the moments of all requests is exact, and costs eight bytes for each request of the window:
//! a client with a limit of a thousand would cost 8 KiB and a lock, where this is one word. Who needs a bound over
//! every window takes GCRA, whose bound is exact at the same price.
//!
//! The word holds the window's number, the running count, and the earlier count, from the top. Above 255 the earlier
//! count is kept in steps of a 255th of the limit, rounded up: at most 0.4 % of the limit too strict. States
//! grow as numbers do, and a number that is only a step in front of the clock is taken for what it is: of another core.
//!
//! Source: "How we built rate limiting capable of scaling to millions of domains", Cloudflare, 2017.

use std::time::Duration;

use super::{QuotaError, Rate, SKEW_NANOS, SPAN_NANOS, bits_of, fitting};
use crate::moment::nanos_of;
use crate::{Decision, Moment, Verdict};

/// The earlier count has at most this many bits.
const BEFORE_BITS_MAX: u32 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    window_nanos: u64,
    limit: u32,
    /// Of the window's number.
    number_bits: u32,
    count_bits: u32,
    before_bits: u32,
    /// What one step of the earlier count stands for.
    before_step: u64,
    /// Windows that a state may be in front of a clock.
    ahead_max: u64,
}

/// What a state says at a moment.
struct Reading {
    /// The window's number, modulo its bits.
    number: u64,
    count: u64,
    before: u64,
    elapsed_nanos: u64,
    /// Until that window begins, if the state is in front of the clock.
    ahead_nanos: u64,
}

impl Window {
    pub(super) fn new(limit: u32, window: Duration) -> Result<Self, QuotaError> {
        let window_nanos = nanos_of(window);
        let count_bits = bits_of(u128::from(limit));
        let before_bits = count_bits.min(BEFORE_BITS_MAX);
        let ahead_max = SKEW_NANOS / window_nanos + 1;
        let windows = (SPAN_NANOS / u128::from(window_nanos)).max(4 * u128::from(ahead_max));
        let number_bits = bits_of(windows);
        fitting(number_bits + count_bits + before_bits, Rate { amount: limit, per: window })?;
        let before_step = u64::from(limit).div_ceil((1 << before_bits) - 1);
        Ok(Self { window_nanos, limit, number_bits, count_bits, before_bits, before_step, ahead_max })
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn bits(&self) -> u32 {
        self.number_bits + self.count_bits + self.before_bits
    }

    pub(super) fn too_fast(&self) -> QuotaError {
        QuotaError::TooFast { amount: self.limit, per: Duration::from_nanos(self.window_nanos) }
    }

    #[inline]
    pub(super) fn is_idle(&self, state: u64, now: Moment) -> bool {
        let reading = self.read(state, now);
        reading.count == 0 && reading.before == 0
    }

    #[inline]
    pub(super) fn decide(&self, state: u64, now: Moment, cost: u32) -> (Decision, Option<u64>) {
        let mut reading = self.read(state, now);
        let used = reading.count + self.weight(reading.before, reading.elapsed_nanos);
        let (limit, asked) = (u64::from(self.limit), u64::from(cost));
        let (verdict, next) = if cost == 0 {
            (Verdict::Allowed, None)
        } else if used + asked <= limit {
            reading.count += asked;
            (Verdict::Allowed, Some(self.write(&reading)))
        } else if asked > limit {
            (Verdict::Never, None)
        } else {
            (Verdict::Refused { retry_after: self.retry_after(&reading, asked) }, None)
        };
        let spent = if next.is_some() { used + asked } else { used };
        let decision = Decision {
            verdict,
            limit: self.limit,
            remaining: limit.saturating_sub(spent) as u32,
            reset: self.reset(&reading),
            displaced: false,
        };
        (decision, next)
    }

    #[inline]
    pub(super) fn rank(&self, state: u64, now: Moment) -> i64 {
        let low_bits = self.count_bits + self.before_bits;
        let behind = self.behind(state, now.nanos() / self.window_nanos);
        let low = state & ((1 << low_bits) - 1);
        behind.wrapping_neg().wrapping_shl(low_bits) + low as i64
    }

    /// How many windows the clock is past the state's; negative if the state is in front.
    #[inline]
    fn behind(&self, state: u64, number: u64) -> i64 {
        let round = 1_u64 << self.number_bits;
        let own = (state >> (self.count_bits + self.before_bits)) & (round - 1);
        let behind = number.wrapping_sub(own) & (round - 1);
        if behind >= round - self.ahead_max { behind as i64 - round as i64 } else { behind as i64 }
    }

    #[inline]
    fn read(&self, state: u64, now: Moment) -> Reading {
        let (number, elapsed_nanos) = (now.nanos() / self.window_nanos, now.nanos() % self.window_nanos);
        let behind = self.behind(state, number);
        let count = (state >> self.before_bits) & ((1 << self.count_bits) - 1);
        let before = (state & ((1 << self.before_bits) - 1)) * self.before_step;
        let (count, before) = match behind {
            ..=0 => (count, before.min(u64::from(self.limit))),
            1 => (0, count),
            _ => (0, 0),
        };
        let ahead = behind.min(0).unsigned_abs();
        let ahead_nanos = ahead.saturating_mul(self.window_nanos).saturating_sub(elapsed_nanos);
        let (elapsed_nanos, ahead_nanos) = if ahead > 0 { (0, ahead_nanos) } else { (elapsed_nanos, 0) };
        Reading { number: number.wrapping_add(ahead), count, before, elapsed_nanos, ahead_nanos }
    }

    #[inline]
    fn write(&self, reading: &Reading) -> u64 {
        let number = reading.number & ((1 << self.number_bits) - 1);
        let before = reading.before.div_ceil(self.before_step);
        ((number << self.count_bits | reading.count) << self.before_bits) | before
    }

    /// The part of the earlier count that the sliding window still holds, rounded up.
    #[inline]
    fn weight(&self, before: u64, elapsed_nanos: u64) -> u64 {
        if before == 0 {
            return 0;
        }
        let held = u128::from(before) * u128::from(self.window_nanos - elapsed_nanos);
        held.div_ceil(u128::from(self.window_nanos)) as u64
    }

    /// When so much fits, if nothing else comes. It is at most the limit.
    fn retry_after(&self, reading: &Reading, asked: u64) -> Duration {
        let limit = u64::from(self.limit);
        let rest = self.window_nanos - reading.elapsed_nanos;
        let wait = match limit.checked_sub(reading.count + asked) {
            // Within this window, once less of the earlier one counts.
            Some(room) if room > 0 => self.fits_at(reading.before, room) - reading.elapsed_nanos,
            // In the next, when this one is the earlier.
            _ => rest + self.fits_at(reading.count, limit - asked),
        };
        Duration::from_nanos(wait.saturating_add(reading.ahead_nanos))
    }

    /// How far into a window no more than `room` of the earlier one counts.
    fn fits_at(&self, before: u64, room: u64) -> u64 {
        if room >= before {
            return 0;
        }
        let free = u128::from(self.window_nanos) * u128::from(room) / u128::from(before);
        self.window_nanos - free as u64
    }

    fn reset(&self, reading: &Reading) -> Duration {
        let rest = self.window_nanos - reading.elapsed_nanos;
        let until = match (reading.count, reading.before) {
            (0, 0) => 0,
            (0, _) => rest,
            _ => rest + self.window_nanos,
        };
        Duration::from_nanos(until.saturating_add(reading.ahead_nanos))
    }
}
