//! Where time and chance come from.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::testing::{ManualSleep, ManualTime};

/// What tells the time, wakes sleepers and draws random numbers: tokio, or the clock of a test.
///
/// Everything here takes tokio's unless it is given another one, by a constructor `with_clock`. There are these two and
/// no trait, so that no type has a clock among its parameters. Tests use [`ManualClock`](crate::testing::ManualClock).
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    Tokio,
    Manual(Arc<ManualTime>),
}

pin_project! {
    /// Ends at a moment of its clock. It needs a runtime of tokio with a timer once it is polled, unless the clock is manual.
    #[must_use = "futures do nothing unless they are awaited"]
    #[project = SleepProjection]
    pub struct Sleep {
        #[pin]
        waiting: Waiting,
    }
}

pin_project! {
    #[project = WaitingProjection]
    enum Waiting {
        Tokio { #[pin] sleep: tokio::time::Sleep },
        Manual { sleep: ManualSleep },
    }
}

impl Clock {
    pub(crate) fn manual(time: Arc<ManualTime>) -> Self {
        Self(Source::Manual(time))
    }

    /// The present moment.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            // Tokio's own reading, so that it agrees with tokio's sleeps where a test has paused those.
            Source::Tokio => tokio::time::Instant::now().into_std(),
            Source::Manual(time) => time.now(),
        }
    }

    /// Sleeps until a moment.
    pub fn sleep_until(&self, until: Instant) -> Sleep {
        let waiting = match &self.0 {
            Source::Tokio => Waiting::Tokio { sleep: tokio::time::sleep_until(until.into()) },
            Source::Manual(time) => Waiting::Manual { sleep: ManualSleep::new(Arc::clone(time), until) },
        };
        Sleep { waiting }
    }

    /// Sleeps for a time from now.
    pub fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(later(self.now(), time))
    }

    /// A number drawn evenly from all of `u64`.
    #[inline]
    pub(crate) fn random(&self) -> u64 {
        match &self.0 {
            Source::Tokio => fastrand::u64(..),
            Source::Manual(time) => time.random(),
        }
    }
}

/// A moment later by a time; one that no clock can tell counts as a year.
pub(crate) fn later(now: Instant, time: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    now.checked_add(time).unwrap_or_else(|| now + YEAR)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Tokio => "Clock(tokio)",
            Source::Manual(_) => "Clock(manual)",
        })
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").finish_non_exhaustive()
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.project().waiting.project() {
            // What stands beside a sleep may have used up the share of work that tokio gives a task at once. A timer that
            // obeyed it as well would never fire beside a future that always does.
            WaitingProjection::Tokio { sleep } => pin!(tokio::task::unconstrained(sleep)).poll(context),
            WaitingProjection::Manual { sleep } => sleep.poll_elapsed(context),
        }
    }
}
