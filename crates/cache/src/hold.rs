//! The lease on the memory of this process, where coherence is [`leased`](crate::Coherence::Leased): until when may it be served?
//!
//! Whoever changes something waits until each holder has heard of it, or until its lease has ended. So a hit is right if the lease was
//! held at some moment within the call: all changes that were acknowledged before that moment have been heard of. A process can be
//! stopped at any instruction, for any time, so the order of three steps matters: **the lease's end is read first, then the
//! value, then the clock.** An end that is read after the value may be that of a later lease, which says nothing about a value from
//! before.
//!
//! The clock is one that counts suspended time, as the time of others goes on. An end is reckoned from before the extension was sent: Redis
//! reckons its own from when it came, which is later. A tenth of the lease is left for clocks that do not go at the same rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::planted::{Bug, is_planted};

/// The part of a lease that its holder does not use.
const MARGIN: u32 = 10;

/// A time of the clock that counts suspended time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before all others.
    pub(crate) const NEVER: Self = Self(0);

    #[inline]
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        Self(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// The end of something that another machine measures as so long, and that began after this moment: surely not later.
    pub(crate) fn surely_within(self, time: Duration) -> Self {
        let time = time - time / MARGIN;
        Self(self.0 + time.as_nanos() as u64)
    }

    /// The time since then.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }

    /// Whether it is still to come.
    #[inline]
    pub(crate) fn is_ahead(self) -> bool {
        Self::now() < self
    }
}

/// A time after which something is surely over that another machine measures as so long, and that has begun.
pub(crate) fn surely_over(time: Duration) -> Duration {
    time + time / MARGIN
}

/// The lease of this process.
#[derive(Debug, Default)]
pub(crate) struct Hold(AtomicU64);

impl Hold {
    /// Its end, to be read before what it is to cover.
    #[inline]
    pub(crate) fn end(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }

    /// Redis has extended it: it was asked at this moment.
    pub(crate) fn extend(&self, asked: Moment, lease: Duration) {
        let from = if is_planted(Bug::LeaseFromAnswer) { Moment::now() } else { asked };
        self.0.fetch_max(from.surely_within(lease).0, Ordering::AcqRel);
    }

    /// Nothing that is in memory may be served before the next extension.
    pub(crate) fn give_up(&self) {
        self.0.store(Moment::NEVER.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_is_reckoned_from_the_question_and_leaves_a_margin() {
        let hold = Hold::default();
        assert!(!hold.end().is_ahead());
        let asked = Moment::now();
        hold.extend(asked, 100 * SECOND);
        assert_eq!(hold.end(), Moment(asked.0 + 90_000_000_000));
        assert!(hold.end().is_ahead());
        // Answers may overtake each other.
        hold.extend(Moment(asked.0 - 5), 100 * SECOND);
        assert_eq!(hold.end(), Moment(asked.0 + 90_000_000_000));
        hold.give_up();
        assert!(!hold.end().is_ahead());
        hold.extend(Moment(asked.0 - 5_000_000_000), 5 * SECOND);
        assert!(!hold.end().is_ahead());
    }

    #[test]
    fn what_others_measure_is_over_later_here() {
        assert_eq!(surely_over(2 * SECOND), Duration::from_millis(2200));
    }
}
