//! What time it is, for hits in memory: a precise clock takes longer to read than all else of a hit together.
//!
//! The kernel's coarse clock is the precise one as of its last tick, some milliseconds ago. So a time that is far ahead by it is surely
//! ahead, and only near its end the precise one is asked: nothing is served for longer than it may be.
//!
//! A test may have tokio's clock stand still, or move it, and then the kernel's says nothing. That is looked for when a cache is built and whenever
//! a value is prepared; until the clocks agree again, tokio's alone is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Ticks come each 1 to 10 ms. On a machine that is shared one may be late, but hardly by so much.
const MARGIN_NANOS: u64 = 200_000_000;
/// Times since a cache was built, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Times {
    base: Instant,
    base_coarse: u64,
    /// Tokio's clock is not the kernel's.
    is_moved: AtomicBool,
}

/// By the C library, which reads the clock without a call of the kernel wherever that can be done, under tools that watch a program too.
#[inline]
fn coarse() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one `timespec`, for which there is room.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) } != 0;
    // Where there is no such clock everything seems to be late, and the precise one is asked.
    if failed { u64::MAX } else { time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
}

impl Times {
    pub(crate) fn new() -> Self {
        // In this order: by the coarse clock it is never earlier than it is.
        let base_coarse = Some(coarse()).filter(|base| *base != u64::MAX).unwrap_or(0);
        let times = Self { base: Instant::now(), base_coarse, is_moved: AtomicBool::new(false) };
        times.now();
        times
    }

    /// The moment, and a look whether tokio's clock is the kernel's: then it is between two readings of that.
    pub(crate) fn now(&self) -> Instant {
        let (before, now, after) = (std::time::Instant::now(), Instant::now(), std::time::Instant::now());
        let is_moved = !(before..=after).contains(&now.into_std());
        if self.is_moved.load(Ordering::Relaxed) != is_moved {
            self.is_moved.store(is_moved, Ordering::Relaxed);
        }
        now
    }

    /// A moment as a time, never later than it.
    pub(crate) fn time(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// The moment of a time.
    pub(crate) fn moment(&self, time: u64) -> Instant {
        self.base + Duration::from_nanos(time)
    }

    /// How many nanoseconds it is to a time: nothing if it has come.
    #[inline]
    pub(crate) fn left(&self, time: u64) -> Option<u64> {
        let now = coarse().saturating_sub(self.base_coarse);
        if time > now.saturating_add(MARGIN_NANOS) && !self.is_moved.load(Ordering::Relaxed) {
            return Some(time - now);
        }
        self.precisely_left(time)
    }

    #[cold]
    fn precisely_left(&self, time: u64) -> Option<u64> {
        let now = self.time(Instant::now());
        (now < time).then(|| time - now)
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
            assert!(left <= 320_000_000);
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
        assert_eq!(times.left(time), Some(1_000_000_000));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(times.left(time), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_a_little_ahead_is_heeded_too() {
        let times = Times::new();
        tokio::time::sleep(Duration::from_millis(100)).await;
        times.now();
        assert!(times.is_moved.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_clock_that_is_moved_later_is_noticed_by_what_is_prepared() {
        let times = Times::new();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        let time = times.time(times.now() + Duration::from_secs(60));
        assert!(times.is_moved.load(Ordering::Relaxed));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(times.left(time), None);
    }
}
