//! Single flight: of all who want one key at once, one loads and the others wait for what it brings.
//!
//! Whoever loads is a caller like the others, and runs its own loader on its own task. So it may fail, panic or be dropped, and then
//! somebody who waits takes over with a loader of its own: nobody waits for one that is gone, and no panic wedges a key. A load that
//! **failed** is tried by one other, whose connection may be better; if that fails too, all who wait have the error, or ten thousand
//! callers would try a dead database one after the other.
//!
//! Each flight has a number, and so has the moment at which somebody arrives: what a flight brings was read after all that happened
//! before its beginning.
//!
//! A change of the key detaches its flight: who waits has what was loaded, who comes later begins anew.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::sync::Mutex;

const SHARDS: usize = 32;
/// Loads of one flight that may fail before all who wait have the error.
const FAILURES_MAX: u32 = 2;

#[derive(Debug)]
pub(crate) struct Flights<A> {
    shards: Box<[Mutex<Seats<A>>]>,
    hasher: RandomState,
    /// How many flights have begun.
    begun: AtomicU64,
}

type Seats<A> = HashMap<Box<[u8]>, Seat<A>>;

/// A flight that can be joined, and how many are in it.
#[derive(Debug)]
struct Seat<A> {
    flight: Arc<Flight<A>>,
    members: usize,
}

#[derive(Debug)]
struct Flight<A> {
    number: u64,
    state: Mutex<State<A>>,
    woken: Notify,
}

#[derive(Debug)]
struct State<A> {
    stage: Stage<A>,
    failures: u32,
}

#[derive(Debug)]
enum Stage<A> {
    /// Somebody loads.
    Led,
    /// Whoever did has given up.
    Free,
    Landed(A),
}

/// One caller's part in a flight.
#[derive(Debug)]
pub(crate) struct Member<'f, A> {
    flights: &'f Flights<A>,
    key: Box<[u8]>,
    flight: Arc<Flight<A>>,
    leads: bool,
}

/// What a member has to do.
#[derive(Debug)]
pub(crate) enum Turn<A> {
    /// To load, and to say how that went.
    Lead,
    /// Nothing: this was brought.
    Landed(A),
}

impl<A> Flights<A> {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            begun: AtomicU64::new(0),
        }
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Seats<A>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// The number of the last flight that has begun: later ones begin after this.
    pub(crate) fn last(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Joins the flight of a key, or begins one.
    pub(crate) fn join(&self, key: Box<[u8]>) -> Member<'_, A> {
        let mut shard = self.shard(&key).lock();
        if let Some(seat) = shard.get_mut(&key) {
            seat.members += 1;
            return Member { flights: self, flight: Arc::clone(&seat.flight), key, leads: false };
        }
        let state = Mutex::new(State { stage: Stage::Led, failures: 0 });
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let flight = Arc::new(Flight { number, state, woken: Notify::new() });
        shard.insert(key.clone(), Seat { flight: Arc::clone(&flight), members: 1 });
        Member { flights: self, key, flight, leads: true }
    }

    /// Whether somebody is in a flight of this key.
    pub(crate) fn is_led(&self, key: &[u8]) -> bool {
        self.shard(key).lock().contains_key(key)
    }

    /// Nobody joins the present flight of a key any more.
    pub(crate) fn detach(&self, key: &[u8]) {
        self.shard(key).lock().remove(key);
    }

    pub(crate) fn detach_all(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl<A: Clone> Member<'_, A> {
    /// The number of the flight.
    pub(crate) fn number(&self) -> u64 {
        self.flight.number
    }

    /// Whether it has to load, as far as is known without waiting.
    pub(crate) fn leads(&self) -> bool {
        self.leads
    }

    /// Waits until there is something to do or to have.
    pub(crate) async fn turn(&mut self) -> Turn<A> {
        loop {
            if self.leads {
                return Turn::Lead;
            }
            // Listened for before the state is looked at, so that nothing is missed in between.
            let mut woken = std::pin::pin!(self.flight.woken.notified());
            woken.as_mut().enable();
            {
                let mut state = self.flight.state.lock();
                match &state.stage {
                    Stage::Landed(answer) => return Turn::Landed(answer.clone()),
                    Stage::Free => {
                        state.stage = Stage::Led;
                        self.leads = true;
                        continue;
                    }
                    Stage::Led => {}
                }
            }
            woken.await;
        }
    }

    /// All who wait have this.
    pub(crate) fn land(mut self, answer: A) {
        self.leads = false;
        self.set_landed(answer);
    }

    /// The load failed: another tries, or all who wait have this.
    pub(crate) fn fail(mut self, answer: A) {
        self.leads = false;
        let failures = {
            let mut state = self.flight.state.lock();
            state.failures += 1;
            state.failures
        };
        if failures >= FAILURES_MAX { self.set_landed(answer) } else { self.hand_over() }
    }

    fn set_landed(&self, answer: A) {
        // Whoever comes from here on begins anew.
        self.leave(true);
        self.flight.state.lock().stage = Stage::Landed(answer);
        self.flight.woken.notify_waiters();
    }

    fn hand_over(&self) {
        self.flight.state.lock().stage = Stage::Free;
        self.flight.woken.notify_one();
    }
}

impl<A> Member<'_, A> {
    fn leave(&self, for_all: bool) {
        let mut shard = self.flights.shard(&self.key).lock();
        if let Some(seat) = shard.get_mut(&self.key)
            && Arc::ptr_eq(&seat.flight, &self.flight)
        {
            seat.members = seat.members.saturating_sub(1);
            if for_all || seat.members == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

impl<A> Drop for Member<'_, A> {
    fn drop(&mut self) {
        self.leave(false);
        if self.leads {
            self.flight.state.lock().stage = Stage::Free;
            self.flight.woken.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<A: Clone>(member: &mut Member<'_, A>) -> Option<Turn<A>> {
        match pin!(member.turn()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn join(flights: &Flights<u32>) -> Member<'_, u32> {
        flights.join(b"key"[..].into())
    }

    #[test]
    fn one_loads_and_all_have_it() {
        let flights = Flights::new();
        let (mut first, mut second, mut third) = (join(&flights), join(&flights), join(&flights));
        assert!(matches!(poll(&mut first), Some(Turn::Lead)));
        assert!(poll(&mut second).is_none());
        first.land(7);
        assert!(matches!(poll(&mut second), Some(Turn::Landed(7))));
        assert!(matches!(poll(&mut third), Some(Turn::Landed(7))));
        assert_eq!(flights.count(), 0);
        assert!(matches!(poll(&mut join(&flights)), Some(Turn::Lead)));
    }

    #[test]
    fn one_that_is_dropped_or_panics_hands_over() {
        let flights = Flights::new();
        let (first, mut second, mut third) = (join(&flights), join(&flights), join(&flights));
        assert!(poll(&mut second).is_none() && poll(&mut third).is_none());
        drop(first);
        assert!(matches!(poll(&mut second), Some(Turn::Lead)));
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let _loading = second;
            panic!("a loader's bug, which is shown in the output of this test");
        }));
        assert!(panicked.is_err());
        assert!(matches!(poll(&mut third), Some(Turn::Lead)));
        drop(third);
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn a_failure_is_tried_by_one_other_and_then_everybodys() {
        let flights = Flights::new();
        let (first, mut second, mut third) = (join(&flights), join(&flights), join(&flights));
        first.fail(1);
        assert!(matches!(poll(&mut second), Some(Turn::Lead)));
        assert!(poll(&mut third).is_none());
        second.fail(2);
        assert!(matches!(poll(&mut third), Some(Turn::Landed(2))));
        drop(third);
        // One that was alone leaves nothing behind.
        join(&flights).fail(3);
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn nobody_joins_what_was_detached() {
        let flights = Flights::new();
        let (mut first, mut waiting) = (join(&flights), join(&flights));
        flights.detach(b"key");
        let mut later = join(&flights);
        assert!(matches!(poll(&mut later), Some(Turn::Lead)));
        assert!(matches!(poll(&mut first), Some(Turn::Lead)));
        first.land(1);
        assert!(matches!(poll(&mut waiting), Some(Turn::Landed(1))));
        assert_eq!(flights.count(), 1);
        later.land(2);
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn whoever_sleeps_is_woken() {
        let flights: &'static Flights<u32> = Box::leak(Box::new(Flights::new()));
        let first = join(flights);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let mut member = join(flights);
                tokio::spawn(async move {
                    match member.turn().await {
                        Turn::Lead => {
                            tokio::task::yield_now().await;
                            member.land(5);
                            5
                        }
                        Turn::Landed(answer) => answer,
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(first);
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), 5);
        }
    }
}
