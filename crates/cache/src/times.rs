//! What time it is, for hits in memory: a precise clock takes longer to read than all else of a hit together.
//!
//! The kernel's coarse clock is the precise one as of its last tick, some milliseconds ago. So a time that is far ahead by it is surely
//! ahead, and only near its end the precise one is asked: nothing is served for longer than it may be.
//!
//! A test may have tokio's clock stand still, or move it, and then the kernel's says nothing. That is looked for when a cache is built and whenever
//! a value is prepared; until the clocks agree again, tokio's alone is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Ticks come each 1 to 10 ms. On a machine that is shared one may be late, but hardly by so much.
const MARGIN_NANOS: u64 = 200_000_000;
/// Two readings of one clock, one after the other, may be so far apart on a busy machine.
const READINGS_APART_MAX: Duration = Duration::from_secs(1);

/// Times since a cache was built, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Times {
    base: Instant,
    base_coarse: u64,
    /// Tokio's clock is not the kernel's.
    is_moved: AtomicBool,
}

#[inline]
fn coarse() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Times {
    pub(crate) fn new() -> Self {
        // In this order: by the coarse clock it is never earlier than it is.
        let base_coarse = coarse();
        let times = Self { base: Instant::now(), base_coarse, is_moved: AtomicBool::new(false) };
        times.agree(std::time::Instant::now(), Instant::now());
        times
    }

    /// Looks whether tokio's clock is the kernel's, by two readings, the kernel's first.
    pub(crate) fn agree(&self, kernel: std::time::Instant, tokio: Instant) {
        let ahead = tokio.into_std().checked_duration_since(kernel);
        self.is_moved.store(!ahead.is_some_and(|ahead| ahead < READINGS_APART_MAX), Ordering::Relaxed);
    }

    /// A moment as a time, never later than it.
    pub(crate) fn time(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// The moment of a time.
    pub(crate) fn moment(&self, time: u64) -> Instant {
        self.base + Duration::from_nanos(time)
    }

    /// How long it is to a time: nothing if it has come.
    #[inline]
    pub(crate) fn left(&self, time: u64) -> Option<Duration> {
        let now = coarse().saturating_sub(self.base_coarse);
        if time > now.saturating_add(MARGIN_NANOS) && !self.is_moved.load(Ordering::Relaxed) {
            return Some(Duration::from_nanos(time - now));
        }
        self.precisely_left(time)
    }

    #[cold]
    fn precisely_left(&self, time: u64) -> Option<Duration> {
        let now = self.time(Instant::now());
        (now < time).then(|| Duration::from_nanos(time - now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_is_ahead_to_its_end_and_no_longer() {
        let times = Times::new();
        assert!(!times.is_moved.load(Ordering::Relaxed));
        let end = Instant::now() + Duration::from_millis(300);
        let time = times.time(end);
        assert!(end - times.moment(time) < Duration::from_micros(1));
        // Through the margin, in which the precise clock is asked.
        while let Some(left) = times.left(time) {
            assert!(left <= Duration::from_millis(320));
            std::thread::yield_now();
        }
        assert!(Instant::now() >= times.moment(time));
        assert_eq!(times.left(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_a_test_has_stopped_or_moved_is_heeded() {
        let times = Times::new();
        let time = times.time(Instant::now() + Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(times.left(time), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(times.left(time), None);
    }

    #[tokio::test]
    async fn a_clock_that_is_moved_later_is_noticed_by_what_is_prepared() {
        let times = Times::new();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        let agree = || times.agree(std::time::Instant::now(), Instant::now());
        agree();
        assert!(times.is_moved.load(Ordering::Relaxed));
        let time = times.time(Instant::now() + Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(times.left(time), None);
    }
}
