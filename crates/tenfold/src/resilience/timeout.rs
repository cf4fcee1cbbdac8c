//! Timeouts: a call that takes too long is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::error::Error;
use crate::clock::{Clock, Sleep, later};

/// A bound on how long each call takes. A call that exceeds it is dropped, which ends it wherever it awaits.
///
/// ```
/// use std::time::Duration;
/// use tenfold::Clock;
/// use tenfold::resilience::Timeout;
/// use tenfold::testing::ManualClock;
///
/// let manual = ManualClock::new();
/// let clock = Clock::from(&manual);
/// let timeout = Timeout::with_clock("report", Duration::from_millis(250), &manual);
/// let slow = || async {
///     clock.sleep(Duration::from_secs(3600)).await;
///     Ok::<_, std::io::Error>(())
/// };
/// let error = manual.run(timeout.call(slow)).unwrap_err();
/// assert_eq!(error.to_string(), "report: timed out after 250ms");
/// ```
#[derive(Clone, Debug)]
pub struct Timeout {
    name: Arc<str>,
    after: Duration,
    clock: Clock,
}

impl Timeout {
    /// A bound by tokio's clock.
    pub fn new(name: impl Into<Arc<str>>, after: Duration) -> Self {
        Self::with_clock(name, after, Clock::default())
    }

    /// A bound by a clock.
    pub fn with_clock(name: impl Into<Arc<str>>, after: Duration, clock: impl Into<Clock>) -> Self {
        Self { name: name.into(), after, clock: clock.into() }
    }

    /// Makes a call and waits for it as long as the bound allows.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or the call's own as [`Error::Inner`].
    pub async fn call<T, E, F, Fut>(&self, call: F) -> Result<T, Error<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let until = later(self.clock.now(), self.after);
        match within(&self.clock, until, call()).await {
            Some(result) => result.map_err(Error::Inner),
            None => Err(Error::TimedOut { name: Arc::clone(&self.name), after: self.after }),
        }
    }

    /// The bound.
    pub fn after(&self) -> Duration {
        self.after
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

pin_project! {
    /// A future's output, or nothing once a moment has come.
    pub(super) struct Within<'a, F> {
        #[pin]
        future: F,
        clock: &'a Clock,
        until: Instant,
        // Made when the future first waits: what is ready at once costs no timer.
        #[pin]
        sleep: Option<Sleep>,
    }
}

pub(super) fn within<F: Future>(clock: &Clock, until: Instant, future: F) -> Within<'_, F> {
    Within { future, clock, until, sleep: None }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // The future first: what arrived together with the deadline arrived in time.
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Some(output));
        }
        if this.sleep.is_none() {
            this.sleep.set(Some(this.clock.sleep_until(*this.until)));
        }
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(context));
        }
        Poll::Ready(None)
    }
}
