//! A moving average of latency that rises at once and falls slowly.
//!
//! The problem: an endpoint that has just become slow must lose traffic within one request, yet one quick answer must
//! not bring it all back, and one slow answer must not banish it for ever. The rule, after Finagle and linkerd: a
//! sample above the average replaces it; a sample below moves it by the share `1 - e^(-t/decay)`, where `t` is the time
//! since the last sample. A reader sees the average decayed towards zero by `e^(-t/decay)`, so that an endpoint that
//! gets no traffic becomes cheap again and is tried.
//!
//! The state is one `u64` for one atomic. Writers on several cores may load, observe and store without a
//! compare-exchange: a lost sample is made good by the next.
//!
//! Times are since any one moment that all cores share, kept in whole milliseconds modulo 2^32. A reading by a core
//! whose clock reading is up to a minute older than the last sample counts as "now"; an average untouched for weeks
//! counts as decayed.
//!
//! Source: Finagle's `PeakEwma`.

use std::time::Duration;

/// Time in which an untouched average falls to 37 %.
pub const DECAY_DEFAULT: Duration = Duration::from_secs(10);

/// How far a sample's time may lie ahead of the reader's before it must come from the last round of the 32 bits.
const AHEAD_MAX_MILLIS: u32 = 60_000;

/// How fast an average forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decay {
    per_milli: f32,
}

impl Decay {
    /// After this time without a sample 37 % of an average are left. At least a millisecond.
    pub fn new(time: Duration) -> Self {
        Self { per_milli: -1.0 / (time.as_secs_f32() * 1e3).max(1.0) }
    }
}

impl Default for Decay {
    fn default() -> Self {
        Self::new(DECAY_DEFAULT)
    }
}

/// A time since the moment that all cores share, in the precision of an average. Worth making once for many readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    millis: u32,
}

impl Moment {
    /// The moment that lies this long after the shared one.
    pub fn new(since: Duration) -> Self {
        Self { millis: since.as_millis() as u32 }
    }
}

/// The average and when it was last moved. The default is an endpoint of which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    micros: f32,
    at_millis: u32,
}

impl PeakEwma {
    /// The average after a response that took `rtt` and ended at `now`.
    #[must_use]
    pub fn observe(self, now: Moment, rtt: Duration, decay: Decay) -> Self {
        // At least a microsecond, because 0 means unknown.
        let sample = (rtt.as_secs_f32() * 1e6).max(1.0);
        // A writer that comes late keeps the newer time; otherwise the average would decay twice.
        let late = self != Self::default() && self.elapsed_millis(now) == 0;
        let at_millis = if late { self.at_millis } else { now.millis };
        if sample >= self.micros {
            return Self { micros: sample, at_millis };
        }
        let kept = self.kept_share(now, decay);
        Self { micros: self.micros * kept + sample * (1.0 - kept), at_millis }
    }

    /// The average as a picker should see it at `now`, in microseconds; 0 when nothing is known.
    #[inline]
    pub fn decayed(self, now: Moment, decay: Decay) -> f32 {
        self.micros * self.kept_share(now, decay)
    }

    /// The state in one word; [`unpack`](Self::unpack) reverses it. The default packs to 0.
    #[inline]
    pub fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at_millis)
    }

    /// The state that was packed.
    #[inline]
    pub fn unpack(word: u64) -> Self {
        Self { micros: f32::from_bits((word >> 32) as u32), at_millis: word as u32 }
    }

    #[inline]
    fn kept_share(self, now: Moment, decay: Decay) -> f32 {
        (self.elapsed_millis(now) as f32 * decay.per_milli).exp()
    }

    #[inline]
    fn elapsed_millis(self, now: Moment) -> u32 {
        let ahead = self.at_millis.wrapping_sub(now.millis);
        if ahead <= AHEAD_MAX_MILLIS { 0 } else { now.millis.wrapping_sub(self.at_millis) }
    }
}
