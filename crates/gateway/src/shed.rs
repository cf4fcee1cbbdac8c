//! Load shedding: how many requests a service has under way, who waits for a place, and who is refused.
//!
//! All cores share the limit, the count of requests under way, and the count of those that wait: atomics, two of which are
//! written per request. Those that wait stand in the queue of their core, under a lock that is its own as long as places
//! become free there. It is taken when somebody has to wait, and when a place becomes free while somebody does. Then the
//! place is handed over, to one's own core first; every fourth goes to those of the next core, and all do when nobody
//! waits here, so that nobody starves.
//!
//! **Nobody is forgotten.** Who finds no place adds itself to those that wait, and then looks for a place once more;
//! who gives a place back does so first, and then looks whether anybody waits. Of the two, one sees the other. And while
//! somebody waits there is a request under way that will give its place back, for one is always let in.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use limit::gradient::{Class, Gradient, GradientParams};
use limit::{Entered, Moment, QueueParams, Ticket, WaitQueue};
use tokio::sync::oneshot;

use crate::params::SheddingParams;
use crate::state::Padded;

/// Of the places that become free on a core where somebody waits, one in so many goes to another core.
const SHARED_ONE_IN: u32 = 4;

/// What admits the requests of a service. It outlives configurations that leave its settings as they are.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Its settings.
    pub(crate) params: SheddingParams,
    limit: Gradient,
    epoch: Instant,
    /// Requests that hold a place, all cores together.
    in_flight: Padded<AtomicU32>,
    /// Requests that wait, all cores together.
    waiting: Padded<AtomicU32>,
    /// Those that wait, by core.
    queues: Box<[Queue]>,
}

/// Those that wait on a core.
#[derive(Debug)]
struct Queue {
    waiting: Padded<Mutex<WaitQueue<oneshot::Sender<Granted>>>>,
    /// Counts places that became free here while somebody waited.
    turns: AtomicU32,
}

/// A place, until it is dropped or given back.
#[derive(Debug)]
pub(crate) struct Pass<'g> {
    gate: &'g Arc<Gate>,
    core: usize,
    held: Cell<bool>,
}

/// A place on its way to who has waited for it.
#[derive(Debug)]
pub(crate) struct Granted {
    gate: Option<Arc<Gate>>,
    core: usize,
}

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Waiter<'g> {
    gate: &'g Arc<Gate>,
    core: usize,
    ticket: Ticket,
    /// When its time is over.
    pub(crate) due: Instant,
    /// Where the place comes; an error when somebody else has taken its place in the queue.
    pub(crate) granted: oneshot::Receiver<Granted>,
}

impl Gate {
    /// A gate that nobody has passed, or the known one if it has these settings. With others, what was found out about the
    /// service is where the new one starts.
    pub(crate) fn keep(known: Option<Arc<Self>>, params: Option<&SheddingParams>, cores: usize) -> Option<Arc<Self>> {
        let params = params?;
        match known {
            Some(known) if known.params == *params => Some(known),
            known => Some(Arc::new(Self::new(params, known.map(|known| known.limit.limit()), cores))),
        }
    }

    fn new(params: &SheddingParams, start: Option<u32>, cores: usize) -> Self {
        let limit_start = start.unwrap_or(params.gradient.limit_start);
        let gradient = GradientParams { limit_start, ..params.gradient.clone() };
        let waiting_max = params.waiting_max.div_ceil(cores.max(1) as u32) as usize;
        let queue = || Queue {
            waiting: Padded(Mutex::new(WaitQueue::new(QueueParams { waiting_max, wait: params.wait }))),
            turns: AtomicU32::new(0),
        };
        Self {
            params: params.clone(),
            limit: Gradient::new(gradient, Moment::default()),
            epoch: Instant::now(),
            in_flight: Padded::default(),
            waiting: Padded::default(),
            queues: (0..cores.max(1)).map(|_| queue()).collect(),
        }
    }

    /// The limit, and how many requests are under way and wait.
    pub(crate) fn levels(&self) -> [u32; 3] {
        [self.limit.limit(), self.in_flight.0.load(Ordering::Relaxed), self.waiting.0.load(Ordering::Relaxed)]
    }

    /// A place, if one is free.
    pub(crate) fn pass(self: &Arc<Self>, class: Class, core: usize) -> Option<Pass<'_>> {
        self.take(class).then(|| Pass { gate: self, core, held: Cell::new(true) })
    }

    /// Waits for a place, until `due` at the latest; `None` if there is nothing to wait for.
    pub(crate) fn wait(
        self: &Arc<Self>,
        class: Class,
        (core, now): (usize, Instant),
        due: Option<Instant>,
    ) -> Option<Waiter<'_>> {
        let (grant, granted) = oneshot::channel();
        let due = due.map(|due| Moment::since(self.epoch, due));
        let entered = self.with_queue(core, |queue| queue.enter(class, self.moment(now), due, grant));
        let Ok(Entered { ticket, due, displaced }) = entered else { return None };
        // Who had to leave hears of it by this.
        drop(displaced);
        let due = self.epoch + Duration::from_nanos(due.nanos());
        let waiter = Waiter { gate: self, core, ticket, due, granted };
        // Places may have become free before anybody could see that somebody waits.
        self.hand_over(core, now);
        Some(waiter)
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment::since(self.epoch, now)
    }

    /// Takes a place, if one is free for this class.
    fn take(&self, class: Class) -> bool {
        let mut taken = self.in_flight.0.load(Ordering::SeqCst);
        while self.limit.admit(class, taken) {
            match self.in_flight.0.compare_exchange_weak(taken, taken + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(other) => taken = other,
            }
        }
        false
    }

    fn give_back(self: &Arc<Self>, core: usize) {
        self.in_flight.0.fetch_sub(1, Ordering::SeqCst);
        if self.waiting.0.load(Ordering::SeqCst) > 0 {
            let turn = self.queues[core].turns.fetch_add(1, Ordering::Relaxed);
            // Whose turn it is goes first; the others are asked as well.
            let others = self.queues.len().saturating_sub(1).max(1);
            let first = match turn % SHARED_ONE_IN {
                0 => core + 1 + (turn / SHARED_ONE_IN) as usize % others,
                _ => core,
            };
            self.hand_over(first, Instant::now());
        }
    }

    /// Hands over all places that are free to those that wait, on one core first.
    #[cold]
    fn hand_over(self: &Arc<Self>, first: usize, now: Instant) {
        // A place that nobody wanted may be for those of a core that was asked before.
        while self.hand_round(first, now) {}
    }

    /// Whether a place came back, so that the cores are to be asked again.
    fn hand_round(self: &Arc<Self>, first: usize, now: Instant) -> bool {
        let cores = self.queues.len();
        let mut came_back = false;
        for at in (0..cores).map(|step| (first + step) % cores) {
            // As a rule nothing is free for those who come to wait, and no core's lock is to be taken then.
            if !self.limit.admit(Class::Critical, self.in_flight.0.load(Ordering::SeqCst)) {
                return false;
            }
            let next = || self.with_queue(at, |queue| queue.next(self.moment(now), |class| self.take(class)));
            while let Some(grant) = next() {
                let granted = Granted { gate: Some(Arc::clone(self)), core: at };
                if let Err(mut unwanted) = grant.send(granted) {
                    // Who has gone meanwhile leaves the place to the next.
                    unwanted.gate = None;
                    self.in_flight.0.fetch_sub(1, Ordering::SeqCst);
                    came_back = true;
                }
            }
        }
        came_back
    }

    /// Does something to the queue of a core, and counts what that changes.
    fn with_queue<R>(&self, core: usize, work: impl FnOnce(&mut WaitQueue<oneshot::Sender<Granted>>) -> R) -> R {
        let mut queue: MutexGuard<'_, _> =
            // Nothing panics half-way, so what a poisoned lock guards is whole.
            self.queues[core].waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.len();
        let result = work(&mut queue);
        match queue.len() {
            after if after > before => self.waiting.0.fetch_add((after - before) as u32, Ordering::SeqCst),
            after => self.waiting.0.fetch_sub((before - after) as u32, Ordering::SeqCst),
        };
        result
    }
}

/// Whether a status says that somebody has too much to do.
pub(crate) fn is_overload(status: u16) -> bool {
    matches!(status, 503 | 504)
}

impl Pass<'_> {
    /// An endpoint has answered with a status, `rtt` after all of the request had gone to it.
    ///
    /// A status of overload counts as dropped, other failures as nothing: they come sooner than answers do, and would make
    /// these look slow.
    pub(crate) fn answered(&self, now: Instant, rtt: Duration, status: u16) {
        match status {
            _ if is_overload(status) => self.dropped(now),
            101 | 500.. => {}
            _ => self.gate.limit.sample(self.gate.moment(now), rtt, self.in_flight(), false),
        }
    }

    /// An endpoint has not answered in time.
    pub(crate) fn dropped(&self, now: Instant) {
        self.gate.limit.sample(self.gate.moment(now), Duration::ZERO, self.in_flight(), true);
    }

    /// Whether the place was not given back yet.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Gives the place back.
    pub(crate) fn give_back(&self) {
        if self.held.replace(false) {
            self.gate.give_back(self.core);
        }
    }

    fn in_flight(&self) -> u32 {
        self.gate.in_flight.0.load(Ordering::Relaxed)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        // It came too late for who waited.
        if let Some(gate) = self.gate.take() {
            gate.give_back(self.core);
        }
    }
}

impl<'g> Waiter<'g> {
    /// Takes the place that has come.
    pub(crate) fn take(&self, mut granted: Granted) -> Pass<'g> {
        granted.gate = None;
        Pass { gate: self.gate, core: self.core, held: Cell::new(true) }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let now = self.gate.moment(Instant::now());
        let gone = self.gate.with_queue(self.core, |queue| queue.leave(self.ticket, now));
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate of two cores, and of one place for each class but critical, which has two.
    fn gate(waiting_max: u32) -> Arc<Gate> {
        let gradient = GradientParams {
            limit_min: 2,
            limit_max: 2,
            limit_start: 2,
            shares: [0.5, 0.5, 1.0],
            ..GradientParams::default()
        };
        let params = SheddingParams { gradient, waiting_max, wait: Duration::from_secs(60) };
        Gate::keep(None, Some(&params), 2).unwrap()
    }

    fn wait(gate: &Arc<Gate>, class: Class, core: usize) -> Option<Waiter<'_>> {
        gate.wait(class, (core, Instant::now()), None)
    }

    #[test]
    fn a_place_goes_to_who_waits_for_it() {
        let gate = gate(10);
        let first = gate.pass(Class::Normal, 0).unwrap();
        assert!(gate.pass(Class::Normal, 0).is_none());
        let mut waiters: Vec<_> = (0..3).map(|_| wait(&gate, Class::Normal, 0).unwrap()).collect();
        assert_eq!(gate.levels(), [2, 1, 3]);
        // One gives up.
        drop(waiters.remove(1));
        assert!(waiters.iter_mut().all(|waiter| waiter.granted.try_recv().is_err()));
        drop(first);
        let granted = waiters[0].granted.try_recv().unwrap();
        let second = waiters[0].take(granted);
        assert_eq!(gate.levels(), [2, 1, 1]);
        second.give_back();
        // It came, and nobody took it.
        assert_eq!(gate.levels(), [2, 1, 0]);
        drop(waiters);
        drop(second);
        assert_eq!(gate.levels(), [2, 0, 0]);
    }

    #[test]
    fn those_of_another_core_do_not_starve() {
        let gate = gate(100);
        let mut pass = gate.pass(Class::Normal, 0).unwrap();
        let mut here: Vec<_> = (0..20).map(|_| wait(&gate, Class::Normal, 0).unwrap()).collect();
        let mut there = wait(&gate, Class::Normal, 1).unwrap();
        for turn in 0..20 {
            pass.give_back();
            // Who comes to wait takes nobody's turn.
            here.push(wait(&gate, Class::Normal, 0).unwrap());
            if let Ok(granted) = there.granted.try_recv() {
                assert!(turn <= SHARED_ONE_IN, "after {turn} turns");
                drop(there.take(granted));
                return;
            }
            let at = here.iter_mut().position(|waiter| match waiter.granted.try_recv() {
                Ok(granted) => {
                    pass = waiter.take(granted);
                    true
                }
                Err(_) => false,
            });
            here.remove(at.expect("somebody goes"));
        }
        panic!("the other core was not asked");
    }

    #[test]
    fn a_core_where_nobody_waits_gives_to_another() {
        let gate = gate(10);
        let critical = gate.pass(Class::Critical, 0).unwrap();
        let second = gate.pass(Class::Critical, 0).unwrap();
        let mut low = wait(&gate, Class::Low, 1).unwrap();
        drop(second);
        assert!(low.granted.try_recv().is_err(), "the one place for its class is taken");
        drop(critical);
        assert!(low.granted.try_recv().is_ok());
    }

    #[test]
    fn cores_that_wait_for_each_other_all_pass() {
        let gate = gate(1000);
        std::thread::scope(|scope| {
            for core in 0..2 {
                let gate = &gate;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for _ in 0..2_000 {
                        let passed = gate.pass(Class::Normal, core);
                        let _pass = passed.unwrap_or_else(|| {
                            let mut waiter = wait(gate, Class::Normal, core).expect("there is room");
                            let granted = runtime.block_on(&mut waiter.granted).expect("it is granted");
                            waiter.take(granted)
                        });
                    }
                });
            }
        });
        assert_eq!(gate.levels(), [2, 0, 0]);
    }

    #[test]
    fn settings_that_stay_keep_what_is_known() {
        let first = gate(10);
        let same = Gate::keep(Some(Arc::clone(&first)), Some(&first.params), 2).unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        let mut other = first.params.clone();
        (other.gradient.limit_start, other.gradient.limit_max) = (50, 100);
        let other = Gate::keep(Some(first), Some(&other), 2).unwrap();
        assert_eq!(other.levels(), [2, 0, 0], "it starts where the other one was");
        assert!(Gate::keep(Some(other), None, 2).is_none());
    }
}
