//! What a request must be given before it may be sent: leave of a breaker, and a place under a bound. Both go back by
//! themselves, however the request ends.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use breaker::circuit::Change;
use breaker::{Admission, Breaker, Outcome, Permit};

/// Leave of a breaker to make one try. Dropped without a result, it can be given to another.
#[derive(Debug)]
pub(crate) struct Leave<'b> {
    breaker: &'b Breaker,
    permit: Option<Permit>,
}

/// A breaker gives no leave: the time until it may, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) Option<Duration>);

impl<'b> Leave<'b> {
    /// Asks a breaker.
    pub(crate) fn ask(breaker: &'b Breaker, now: Instant) -> Result<Self, Refusal> {
        match breaker.admit(now) {
            Admission::Admitted(permit) => Ok(Self { breaker, permit: Some(permit) }),
            Admission::Refused { retry_after } => Err(Refusal(retry_after)),
        }
    }

    /// Whether the try finds out how things are.
    pub(crate) fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// Whether the breaker has gone from open to half-open by this leave.
    pub(crate) fn ends_open_time(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::ends_open_time)
    }

    /// Tells how the try ended, and gives what that moved.
    pub(crate) fn end(mut self, outcome: Outcome, now: Instant, by: (usize, u64)) -> Option<Change> {
        self.permit.take().and_then(|permit| self.breaker.record(permit, outcome, now, by))
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.cancel(permit);
        }
    }
}

/// A place under a bound that all cores share.
#[derive(Debug)]
pub(crate) struct Place<'b>(Option<&'b AtomicU32>);

impl<'b> Place<'b> {
    /// Takes a place, if there is one. Without a bound there always is, and nothing is counted.
    pub(crate) fn take(taken: &'b AtomicU32, max: Option<NonZeroU32>) -> Option<Self> {
        let Some(max) = max else { return Some(Self(None)) };
        if taken.fetch_add(1, Ordering::Relaxed) < max.get() {
            return Some(Self(Some(taken)));
        }
        taken.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.0 {
            taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use breaker::BreakerParams;

    #[test]
    fn a_dropped_leave_is_given_to_another() {
        let start = Instant::now();
        let params = BreakerParams { failures: Some(1), open_for: Duration::ZERO, ..BreakerParams::default() };
        let breaker = Breaker::new(params, 1, start);
        let failed = Outcome { failed: true, took: Duration::ZERO };
        let first = Leave::ask(&breaker, start).expect("it is closed");
        assert!(first.end(failed, start, (0, 0)).is_some());
        let probe = Leave::ask(&breaker, start).expect("the time is over");
        assert!(probe.ends_open_time());
        assert_eq!(Leave::ask(&breaker, start).err(), Some(Refusal(None)));
        drop(probe);
        let again = Leave::ask(&breaker, start).expect("it was given back");
        assert!(!again.ends_open_time());
    }

    #[test]
    fn places_come_back() {
        let taken = AtomicU32::new(0);
        let two = NonZeroU32::new(2);
        let [first, second] = [(); 2].map(|()| Place::take(&taken, two));
        assert!(first.is_some() && second.is_some());
        assert!(Place::take(&taken, two).is_none());
        drop(first);
        assert!(Place::take(&taken, two).is_some());
        drop(second);
        assert!(Place::take(&taken, None).is_some());
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }
}
