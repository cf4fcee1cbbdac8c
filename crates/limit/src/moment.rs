//! A moment as a number that fits into an atomic.

use std::time::{Duration, Instant};

/// A moment in nanoseconds since an origin that all who share a limit agree on: 584 years' worth.
///
/// A gateway takes the moment it started, a test takes 0. What a store's clock says is never mixed with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment that lies this many nanoseconds after the origin.
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `now`, or the origin itself if `now` lies before it.
    #[inline]
    pub fn since(origin: Instant, now: Instant) -> Self {
        Self::default() + now.saturating_duration_since(origin)
    }

    /// Nanoseconds since the origin.
    #[inline]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The time since an earlier moment, and nothing if that one is later: cores read their clocks at different times.
    #[inline]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// Later by a duration; the end of time is the last moment.
    #[inline]
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(duration)))
    }
}

/// A duration's nanoseconds; the longest ones count as 584 years.
#[inline]
pub(crate) fn nanos_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
