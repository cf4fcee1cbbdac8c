//! Time for tests: nothing sleeps, and every run is the same.
//!
//! A [`ManualClock`] stands still until it is told to go on, and then wakes who sleeps by it. Chance is its own as well,
//! from a fixed seed, so that jitter repeats. [`ManualClock::run`] runs a future to its end and jumps to the next moment
//! that something sleeps for whenever nothing else is left to do: hours pass in microseconds, without a runtime.
//!
//! ```
//! use std::time::Duration;
//! use tenfold::resilience::{Retry, RetryParams};
//! use tenfold::testing::ManualClock;
//!
//! let clock = ManualClock::new();
//! let params = RetryParams { retries_max: 3, ..RetryParams::default() };
//! let retry = Retry::with_clock("payments", params, &clock);
//! let mut tries = 0;
//! let result = clock.run(retry.call(|| {
//!     tries += 1;
//!     async { Err::<(), _>("down") }
//! }));
//! assert!(result.is_err());
//! assert_eq!(tries, 4);
//! assert!(clock.elapsed() > Duration::ZERO, "it paused between tries, in no time");
//! ```

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::Clock;

/// A clock that goes on when it is told to. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualTime>);

/// What a manual clock and its sleepers share.
#[derive(Debug)]
pub(crate) struct ManualTime {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Instant,
    /// Who sleeps, by the moment and then by who came first.
    sleepers: BTreeMap<(Instant, u64), Waker>,
    sleepers_total: u64,
    random: fastrand::Rng,
}

/// One who sleeps by a manual clock.
pub(crate) struct ManualSleep {
    time: Arc<ManualTime>,
    until: Instant,
    number: Option<u64>,
}

/// Any number: what matters is that it is always the same.
const SEED: u64 = 10;

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl ManualClock {
    /// A clock that stands still.
    pub fn new() -> Self {
        Self::with_seed(SEED)
    }

    /// A clock whose chance is another one.
    pub fn with_seed(seed: u64) -> Self {
        let start = Instant::now();
        let random = fastrand::Rng::with_seed(seed);
        let state = State { now: start, sleepers: BTreeMap::new(), sleepers_total: 0, random };
        Self(Arc::new(ManualTime { start, state: Mutex::new(state) }))
    }

    /// Its present moment.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// How far it has gone since it was made.
    pub fn elapsed(&self) -> Duration {
        self.now() - self.0.start
    }

    /// How long until the next sleeper wakes, if there is one.
    pub fn next_wake(&self) -> Option<Duration> {
        let state = self.0.lock();
        let (until, _) = state.sleepers.first_key_value()?.0;
        Some(until.saturating_duration_since(state.now))
    }

    /// Goes on at once and wakes all whose moment has come. They are polled by whoever polls them, afterwards.
    pub fn advance(&self, time: Duration) {
        let mut state = self.0.lock();
        let now = state.now + time;
        state.now = now;
        let later = state.sleepers.split_off(&(now + Duration::from_nanos(1), 0));
        let woken = std::mem::replace(&mut state.sleepers, later);
        // A waker may run code that sleeps by this clock.
        drop(state);
        woken.into_values().for_each(Waker::wake);
    }

    /// Runs a future to its end on this thread, without a runtime. Whenever it waits, the clock jumps to the next moment
    /// that something sleeps for.
    ///
    /// # Panics
    /// When the future waits for something else than this clock, for then it would wait for ever.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        loop {
            while woken.0.swap(false, Ordering::AcqRel) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                    return output;
                }
            }
            match self.next_wake() {
                Some(time) => self.advance(time),
                None => panic!("the future waits for something that is not on this clock"),
            }
        }
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        Self::manual(Arc::clone(&clock.0))
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self::manual(clock.0)
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl ManualTime {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Instant {
        self.lock().now
    }

    pub(crate) fn random(&self) -> u64 {
        self.lock().random.u64(..)
    }
}

impl ManualSleep {
    pub(crate) fn new(time: Arc<ManualTime>, until: Instant) -> Self {
        Self { time, until, number: None }
    }

    pub(crate) fn poll_elapsed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.time.lock();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.sleepers_total += 1;
            state.sleepers_total
        });
        state.sleepers.insert((self.until, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.time.lock().sleepers.remove(&(self.until, number));
        }
    }
}
