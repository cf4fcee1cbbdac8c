//! Who gets which backend next, and what is opened and closed.
//!
//! A pool is of one database, user and server. Whoever wants a backend has a ticket; what happens to tickets and backends comes out as
//! [`Action`]s, which the shell does. It tells what became of them, and wakes the pool at its [next deadline](Pool::next_deadline).
//!
//! - Whoever waits is served in the order of coming, and nobody waits while a backend is idle. Who is on the core where a backend
//!   comes back goes before others who came up to 5 ms sooner: their sockets would have to move.
//! - No more is opened than somebody waits for, or than `min` asks for. What was opened goes to whoever has waited longest, not to whoever
//!   it was opened for.
//! - Up to `size` are kept. `overflow` more are opened when all of them are lent, and go soon after. `reserve` more are opened when somebody has
//!   waited for `reserve_after`.
//! - The backend that was given back last is lent first, one of the asker's own core before others: so the rest grow idle and can go,
//!   and sockets stay where they are.
//! - A backend may be [somebody's own](Wish): whoever it is gets it whenever it is idle, and others get it only when none is left that is
//!   nobody's. Who waits for one to own does not take another one's as long as any is being opened.
//! - When what sessions begin with [has changed](Pool::renew), a backend from before is lent to its owner alone. Somebody else gets one that is
//!   opened in its place.
//! - Lifetimes and idle times vary by a tenth, or a pool that was filled in one second would be emptied in one.

mod own;
mod params;
mod sweep;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use own::Wish;
pub use params::PoolParams;

/// Whoever wants a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A backend of a pool. No other one has the same number, so that what is heard late of one that is closed is not taken for another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u64);

impl BackendId {
    /// In the lower half is its slot, which is used again; above that how often it was.
    fn new(slot: usize, uses: u32) -> Self {
        Self(u64::from(uses) << 32 | slot as u64)
    }

    /// Its place, by which it can be looked up in a list: a small number, which is used again when it has gone.
    pub fn slot(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn uses(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A place for a backend.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// How many backends were here before.
    uses: u32,
    backend: Option<Backend>,
}

/// A core of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Core(pub u16);

/// By how much somebody may have come later and still be served first, on the core where a backend comes back. A backend that changes cores
/// costs as much as a small statement.
const OVERTAKES_WITHIN: Duration = Duration::from_millis(5);

/// How many of those who wait are looked at for somebody on the same core.
const NEAR_MAX: usize = 64;

/// What the shell has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand a backend over. With `ping`, see first whether it still answers: it was idle for long.
    Give {
        /// To whom.
        ticket: Ticket,
        /// Which one.
        backend: BackendId,
        /// Whether it may have gone meanwhile.
        ping: bool,
        /// Whether it is the asker's own from now on, until [`Pool::disown`].
        is_owned: bool,
    },
    /// Open a connection, and say what became of it by [`Pool::opened`] or [`Pool::open_failed`].
    Open(BackendId),
    /// Close a connection. It is not of the pool any more.
    Close(BackendId),
    /// Tell whoever has this ticket that none was free in time.
    TimeOut(Ticket),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Opening,
    Idle { since: Instant, until: Option<Instant>, core: Core },
    Lent,
}

#[derive(Clone, Copy, Debug)]
struct Backend {
    state: State,
    /// When it has lived long enough.
    dies_at: Option<Instant>,
    /// How many times the pool had been told to connect anew when it was opened.
    generation: u64,
    /// How many times what sessions begin with had changed when it was opened.
    epoch: u64,
    /// Whether it is somebody's own.
    is_owned: bool,
    /// Between 0 and 1, its own.
    jitter: f64,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    ticket: Ticket,
    since: Instant,
    core: Core,
    /// Whether it wants one to own.
    is_to_own: bool,
}

/// How many backends there are, by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They are being opened.
    pub opening: usize,
    /// They wait to be lent.
    pub idle: usize,
    /// Somebody has them.
    pub lent: usize,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.opening + self.idle + self.lent
    }
}

/// A pool's state.
#[derive(Clone, Debug)]
pub struct Pool {
    params: PoolParams,
    backends: Vec<Slot>,
    /// Those that are idle, given back last at the end.
    idle: Vec<BackendId>,
    waiting: VecDeque<Waiter>,
    counts: Counts,
    generation: u64,
    epoch: u64,
    is_paused: bool,
    /// Nothing is opened before: the last try failed.
    opens_at: Option<Instant>,
}

impl Pool {
    /// An empty pool. [`Pool::sweep`] opens what it is to begin with.
    pub fn new(params: PoolParams) -> Self {
        Self {
            params,
            backends: Vec::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            counts: Counts::default(),
            generation: 0,
            epoch: 0,
            is_paused: false,
            opens_at: None,
        }
    }

    /// How many backends there are.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many tickets wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the first of them waits.
    pub fn waits_since(&self) -> Option<Instant> {
        self.waiting.front().map(|waiter| waiter.since)
    }

    /// Somebody on `core` wants a backend.
    pub fn acquire(&mut self, now: Instant, ticket: Ticket, core: Core, wish: Wish, out: &mut Vec<Action>) {
        let waiter = Waiter { ticket, since: now, core, is_to_own: wish == Wish::ToOwn };
        if !self.is_paused {
            while let Some(backend) = self.take_idle(now, core, wish) {
                let is_outdated = self.is_outdated(backend) && wish != Wish::Own(backend);
                if !is_outdated && !self.is_spent(now, backend) {
                    self.give(now, waiter, backend, out);
                    return;
                }
                self.remove(backend);
                out.push(Action::Close(backend));
                if is_outdated {
                    // One is opened in its place. The others stay for their owners.
                    break;
                }
            }
        }
        self.waiting.push_back(waiter);
        self.open_more(now, out);
    }

    /// Whoever had this ticket does not want anything any more. Says whether it still waited; if not, it has been given one.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let at = self.waiting.iter().position(|waiter| waiter.ticket == ticket);
        at.and_then(|at| self.waiting.remove(at)).is_some()
    }

    /// A connection is open, on `core`. `jitter` is a random number between 0 and 1. One that the pool does not know any more is to be closed.
    pub fn opened(&mut self, now: Instant, backend: BackendId, core: Core, jitter: f64, out: &mut Vec<Action>) {
        let lifetime = self.params.lifetime;
        let opening = self.backend_mut(backend).filter(|found| matches!(found.state, State::Opening));
        if let Some(found) = opening {
            found.state = State::Lent;
            found.jitter = jitter.clamp(0.0, 1.0);
            found.dies_at = lifetime.map(|lifetime| now + varied(lifetime, jitter));
            self.counts.opening -= 1;
            self.counts.lent += 1;
            self.opens_at = None;
            self.give_back(now, backend, core, out);
            // Whoever else waited for it to own takes any now.
            self.serve(now, out);
        } else if self.backend(backend).is_none() {
            out.push(Action::Close(backend));
        }
    }

    /// A connection could not be opened. Nothing is tried again before `retry_at`.
    pub fn open_failed(&mut self, now: Instant, backend: BackendId, retry_at: Instant, out: &mut Vec<Action>) {
        self.remove(backend);
        self.opens_at = Some(retry_at);
        // Who waited for it to own takes any now.
        self.serve(now, out);
        self.open_more(now, out);
    }

    /// A backend comes back clean, on `core`.
    pub fn release(&mut self, now: Instant, backend: BackendId, core: Core, out: &mut Vec<Action>) {
        self.give_back(now, backend, core, out);
    }

    /// A connection has gone: the server closed it, or it was not clean.
    pub fn lost(&mut self, now: Instant, backend: BackendId, out: &mut Vec<Action>) {
        self.remove(backend);
        self.open_more(now, out);
    }

    /// Nothing is lent from now on. Those that are lent come back as always.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Whether everything that was lent has come back.
    pub fn is_still(&self) -> bool {
        self.counts.lent == 0
    }

    /// It goes on.
    pub fn resume(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.is_paused = false;
        self.serve(now, out);
        self.open_more(now, out);
    }

    /// All connections are to be made anew: those that are idle now, those that are lent when they come back.
    pub fn reconnect(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.generation += 1;
        for backend in std::mem::take(&mut self.idle) {
            self.remove(backend);
            out.push(Action::Close(backend));
        }
        self.open_more(now, out);
    }

    /// Other bounds. What is too much goes with the next sweep, or when it comes back.
    pub fn change(&mut self, now: Instant, params: PoolParams, out: &mut Vec<Action>) {
        self.params = params;
        self.open_more(now, out);
    }

    fn give_back(&mut self, now: Instant, backend: BackendId, core: Core, out: &mut Vec<Action>) {
        if !self.backend_mut(backend).is_some_and(|found| matches!(found.state, State::Lent)) {
            return;
        }
        // Beyond all bounds it goes whoever waits: the pool was made smaller. What is in reserve serves as long as somebody waits.
        let (total, bound) = (self.counts.total(), self.params.size + self.params.overflow);
        let is_too_many = total > bound && self.waiting.is_empty() || total > bound + self.params.reserve;
        let is_old = self.is_outdated(backend)
            && (self.is_nobodys(backend)
                || !self.may_open(now) && self.first_for(backend, Some(core)).is_some() && !self.is_paused);
        if self.is_spent(now, backend) || is_too_many || is_old {
            self.remove(backend);
            out.push(Action::Close(backend));
            self.open_more(now, out);
            return;
        }
        let is_lent = !self.is_paused && !self.is_outdated(backend);
        if let Some(at) = self.first_for(backend, Some(core)).filter(|_| is_lent) {
            self.give_waiting(now, at, backend, out);
            return;
        }
        let is_overflow = self.counts.total() > self.params.size;
        let idle = if is_overflow { Some(self.params.overflow_idle) } else { self.params.idle_timeout };
        if let Some(found) = self.backend_mut(backend) {
            let until = idle.map(|idle| now + varied(idle, found.jitter));
            found.state = State::Idle { since: now, until, core };
            self.counts.lent -= 1;
            self.counts.idle += 1;
            self.idle.push(backend);
        }
    }

    /// Lends what is idle to those who wait and take it.
    fn serve(&mut self, now: Instant, out: &mut Vec<Action>) {
        let taken = |pool: &Self| {
            let last = |is_outdated: bool| {
                let of = |at: &usize| pool.is_outdated(pool.idle[*at]) == is_outdated;
                let idle = (0..pool.idle.len()).rev().filter(of);
                idle.into_iter().find_map(|at| Some((at, pool.first_for(pool.idle[at], None)?)))
            };
            // One from before only makes room for another one.
            last(false).or_else(|| last(true).filter(|_| !pool.may_open(now)))
        };
        let mut replaced = 0;
        while !self.is_paused
            && replaced < self.waiting.len().max(1)
            && let Some((idle, at)) = taken(self)
        {
            let backend = self.idle.remove(idle);
            let is_outdated = self.is_outdated(backend);
            if is_outdated || self.is_spent(now, backend) {
                self.remove(backend);
                out.push(Action::Close(backend));
                replaced += usize::from(is_outdated);
            } else {
                self.give_waiting(now, at, backend, out);
            }
        }
        if replaced > 0 {
            self.open_more(now, out);
        }
    }

    /// The place of the one who has waited longest of those who take this backend; where it comes back on a core, of those near who came little
    /// later, if there are any.
    fn first_for(&self, backend: BackendId, near: Option<Core>) -> Option<usize> {
        let is_nobodys = self.is_nobodys(backend);
        let takes = |waiter: &Waiter| is_nobodys || !self.is_patient(waiter);
        let first = self.waiting.iter().position(takes)?;
        let Some(core) = near else { return Some(first) };
        let latest = self.waiting[first].since + OVERTAKES_WITHIN;
        let soon = self.waiting.iter().enumerate().skip(first).take(NEAR_MAX);
        let mut soon = soon.take_while(|(_, waiter)| waiter.since <= latest);
        soon.find(|(_, waiter)| waiter.core == core && takes(waiter)).map_or(Some(first), |(at, _)| Some(at))
    }

    fn give_waiting(&mut self, now: Instant, at: usize, backend: BackendId, out: &mut Vec<Action>) {
        if let Some(waiter) = self.waiting.remove(at) {
            self.give(now, waiter, backend, out);
        }
    }

    fn give(&mut self, now: Instant, waiter: Waiter, backend: BackendId, out: &mut Vec<Action>) {
        let ping = self.lend(now, backend);
        let is_owned = waiter.is_to_own && self.is_nobodys(backend);
        if let Some(found) = self.backend_mut(backend).filter(|_| is_owned) {
            found.is_owned = true;
        }
        out.push(Action::Give { ticket: waiter.ticket, backend, ping, is_owned });
    }

    /// Notes that it is lent; says whether it was idle for so long that it may have gone.
    fn lend(&mut self, now: Instant, backend: BackendId) -> bool {
        let ping_after = self.params.ping_after;
        let Some(found) = self.backend_mut(backend) else { return false };
        match std::mem::replace(&mut found.state, State::Lent) {
            State::Idle { since, .. } => {
                self.counts.idle -= 1;
                self.counts.lent += 1;
                ping_after.is_some_and(|after| now.saturating_duration_since(since) >= after)
            }
            State::Opening | State::Lent => false,
        }
    }

    /// The asker's own if it is idle, or else one that is nobody's, of this core before others, and that was given back last.
    fn take_idle(&mut self, now: Instant, core: Core, wish: Wish) -> Option<BackendId> {
        let is_near = |found: &Backend| matches!(found.state, State::Idle { core: at, .. } if at == core);
        let rank = |id: BackendId| {
            let found = self.backend(id)?;
            Some((wish == Wish::Own(id), !found.is_owned, found.epoch == self.epoch, is_near(&found)))
        };
        let (at, id) = self.idle.iter().copied().enumerate().max_by_key(|(_, id)| rank(*id))?;
        if wish == Wish::ToOwn && !self.is_nobodys(id) && self.may_open(now) {
            return None;
        }
        // It stays for its owner as long as another one can be opened.
        if self.is_outdated(id) && wish != Wish::Own(id) && self.may_open(now) {
            return None;
        }
        self.idle.remove(at);
        Some(id)
    }

    /// Whether one more can be opened within the ordinary bounds.
    fn may_open(&self, now: Instant) -> bool {
        !self.is_full() && self.opens_at.is_none_or(|at| at <= now)
    }

    /// Whether as many are there as are kept.
    fn is_full(&self) -> bool {
        self.counts.total() >= self.params.size
    }

    /// Whether it has lived long enough, or belongs to connections that were to be made anew.
    fn is_spent(&self, now: Instant, backend: BackendId) -> bool {
        self.backend(backend)
            .is_none_or(|found| found.generation != self.generation || found.dies_at.is_some_and(|at| at <= now))
    }

    /// Opens what somebody waits for, or what `min` asks for, within the bounds.
    fn open_more(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.opens_at.is_some_and(|at| at > now) {
            return;
        }
        let bound = self.params.size + self.params.overflow + self.open_reserve(now);
        loop {
            let total = self.counts.total();
            let is_wanted = self.waiting.len() > self.counts.opening && total < bound;
            if self.is_paused || !is_wanted && total >= self.params.min.min(self.params.size) {
                return;
            }
            let backend = self.insert();
            out.push(Action::Open(backend));
        }
    }

    fn open_reserve(&self, now: Instant) -> usize {
        let is_late = |since| now.saturating_duration_since(since) >= self.params.reserve_after;
        if self.waits_since().is_some_and(is_late) { self.params.reserve } else { 0 }
    }

    fn insert(&mut self) -> BackendId {
        let backend = Backend {
            state: State::Opening,
            dies_at: None,
            generation: self.generation,
            epoch: self.epoch,
            is_owned: false,
            jitter: 0.0,
        };
        self.counts.opening += 1;
        let free = self.backends.iter().position(|slot| slot.backend.is_none());
        let at = free.unwrap_or_else(|| {
            self.backends.push(Slot::default());
            self.backends.len() - 1
        });
        let slot = &mut self.backends[at];
        slot.backend = Some(backend);
        BackendId::new(at, slot.uses)
    }

    fn remove(&mut self, backend: BackendId) {
        let slot = self.backends.get_mut(backend.slot()).filter(|slot| slot.uses == backend.uses());
        let Some(slot) = slot else { return };
        let Some(found) = slot.backend.take() else { return };
        slot.uses = slot.uses.wrapping_add(1);
        match found.state {
            State::Opening => self.counts.opening -= 1,
            State::Lent => self.counts.lent -= 1,
            State::Idle { .. } => {
                self.counts.idle -= 1;
                self.idle.retain(|id| *id != backend);
            }
        }
    }

    fn backend_mut(&mut self, backend: BackendId) -> Option<&mut Backend> {
        self.backends.get_mut(backend.slot()).filter(|slot| slot.uses == backend.uses())?.backend.as_mut()
    }

    fn backend(&self, backend: BackendId) -> Option<Backend> {
        self.backends.get(backend.slot()).filter(|slot| slot.uses == backend.uses())?.backend
    }
}

/// A duration, or up to a tenth less.
fn varied(duration: Duration, jitter: f64) -> Duration {
    duration.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 10.0)
}
