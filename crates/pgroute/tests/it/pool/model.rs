//! A pool in a simulated world, held against a naive model of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use pgroute::pool::{Action, BackendId, Core, Counts, Pool, PoolParams, Ticket, Wish};

use super::{HERE, SECOND};

/// What a simulation knows of the truth.
struct World {
    pool: Pool,
    params: PoolParams,
    now: Instant,
    random: fastrand::Rng,
    opening: BTreeMap<BackendId, Instant>,
    lent: BTreeMap<BackendId, Instant>,
    idle: BTreeSet<BackendId>,
    /// Those that are somebody's own.
    owned: BTreeSet<BackendId>,
    /// Those that are somebody's own and from before a change of what sessions begin with.
    old: BTreeSet<BackendId>,
    /// Tickets of those who want one to own.
    to_own: BTreeSet<Ticket>,
    /// What whoever asks now wants.
    wish: Wish,
    /// Somebody asks, and nothing else happens.
    asks: bool,
    /// Who has just asked for one when there was none, and so takes any.
    modest: Option<Ticket>,
    waiting: VecDeque<(Ticket, Instant, Core)>,
    /// Where a backend comes back.
    near: Option<Core>,
    retry_at: Option<Instant>,
    served: usize,
    timed_out: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let params = PoolParams {
            size: random.usize(1..6),
            min: random.usize(0..3),
            overflow: random.usize(0..3),
            overflow_idle: Duration::from_millis(random.u64(0..2000)),
            reserve: random.usize(0..2),
            reserve_after: Duration::from_millis(random.u64(0..500)),
            acquire_timeout: Duration::from_millis(random.u64(200..1500)),
            idle_timeout: random.bool().then(|| Duration::from_millis(random.u64(100..5000))),
            lifetime: random.bool().then(|| Duration::from_millis(random.u64(100..5000))),
            ping_after: None,
        };
        Self {
            pool: Pool::new(params.clone()),
            params,
            now: Instant::now(),
            random,
            opening: BTreeMap::new(),
            lent: BTreeMap::new(),
            idle: BTreeSet::new(),
            owned: BTreeSet::new(),
            old: BTreeSet::new(),
            wish: Wish::Any,
            asks: false,
            to_own: BTreeSet::new(),
            modest: None,
            waiting: VecDeque::new(),
            near: None,
            retry_at: None,
            served: 0,
            timed_out: 0,
        }
    }

    fn total(&self) -> usize {
        self.opening.len() + self.idle.len() + self.lent.len()
    }

    fn soon(&mut self, millis: u64) -> Instant {
        self.now + Duration::from_millis(self.random.u64(0..millis))
    }

    /// Does what the pool said, and holds it against the rules.
    fn act(&mut self, out: &mut Vec<Action>) {
        for action in out.drain(..) {
            match action {
                Action::Open(backend) => {
                    assert!(self.retry_at.is_none_or(|at| at <= self.now), "opened too soon after a failure");
                    let known = [self.lent.contains_key(&backend), self.idle.contains(&backend)];
                    let at = self.now + Duration::from_millis(self.random.u64(0..100));
                    assert!(self.opening.insert(backend, at).is_none() && known == [false; 2], "{backend:?} is in use");
                }
                Action::Close(backend) => {
                    let makes_way = self.old.contains(&backend) && self.idle.contains(&backend) && self.asks;
                    assert!(!makes_way || self.total() >= self.params.size, "it makes way where there is room");
                    let was_there = self.idle.remove(&backend) || self.lent.remove(&backend).is_some();
                    assert!(was_there, "{backend:?} is not there to be closed");
                    self.owned.remove(&backend);
                    self.old.remove(&backend);
                }
                Action::TimeOut(ticket) => {
                    let (first, since, _) = self.waiting.pop_front().expect("nobody waits");
                    assert_eq!(first, ticket, "somebody else has waited for longer");
                    self.to_own.remove(&ticket);
                    assert!(self.now - since >= self.params.acquire_timeout, "too early");
                    self.timed_out += 1;
                }
                Action::Give { ticket, backend, is_owned, .. } => {
                    let is_for = !self.old.contains(&backend) || self.wish == Wish::Own(backend);
                    assert!(is_for, "{backend:?} is from before, and not its owner's any more");
                    let is_nobodys = !self.owned.contains(&backend);
                    let is_modest = |ticket: &Ticket| self.opening.is_empty() || self.modest == Some(*ticket);
                    let takes = |ticket: &Ticket| is_nobodys || is_modest(ticket) || !self.to_own.contains(ticket);
                    let first = self.waiting.iter().position(|(ticket, ..)| takes(ticket)).expect("nobody waits");
                    let latest = self.waiting[first].1 + Duration::from_millis(5);
                    let is_near = |(ticket, since, core): &(Ticket, Instant, Core)| {
                        takes(ticket) && Some(*core) == self.near && *since <= latest
                    };
                    let mut next = self.waiting.iter().position(is_near).unwrap_or(first);
                    if self.old.contains(&backend) {
                        // Its owner has just asked, and nobody else is given it.
                        next = self.waiting.len() - 1;
                    }
                    let (next, since, _) = self.waiting.remove(next).unwrap();
                    assert_eq!(next, ticket, "somebody else is next");
                    assert_eq!(is_owned, self.to_own.remove(&ticket) && is_nobodys, "it is somebody else's");
                    if is_owned {
                        self.owned.insert(backend);
                    }
                    assert!(self.now - since <= self.params.acquire_timeout, "too late");
                    assert!(self.idle.remove(&backend), "{backend:?} is not free");
                    let until = self.soon(200);
                    self.lent.insert(backend, until);
                    self.served += 1;
                }
            }
        }
    }

    fn check(&self) {
        let counts = self.pool.counts();
        let expected = Counts { opening: self.opening.len(), idle: self.idle.len(), lent: self.lent.len() };
        assert_eq!(counts, expected);
        assert_eq!(self.pool.waiting(), self.waiting.len());
        assert!(counts.total() <= self.params.size + self.params.overflow + self.params.reserve, "too many");
        let waits = |(ticket, ..): &(Ticket, Instant, Core)| self.opening.is_empty() || !self.to_own.contains(ticket);
        let is_nobody_waiting =
            self.waiting.is_empty() || self.idle.is_subset(&self.owned) && !self.waiting.iter().any(waits);
        let is_any_idle = self.idle.iter().any(|backend| !self.old.contains(backend));
        assert!(is_nobody_waiting || !is_any_idle, "somebody waits while a backend is idle");
        assert_eq!(self.pool.pressing(), self.waiting.iter().filter(|waiter| waits(waiter)).count());
        let may_open = counts.total() < self.params.size + self.params.overflow;
        let waits = self.waiting.len() > self.opening.len() && self.retry_at.is_none_or(|at| at <= self.now);
        assert!(!(may_open && waits), "somebody waits and nothing is opened");
        if let Some(deadline) = self.pool.next_deadline() {
            assert!(deadline > self.now, "a deadline is over and nothing was done");
        }
    }

    /// The next thing that happens by itself, at its time.
    fn step(&mut self, asks: bool, number: u64) {
        let mut out = Vec::new();
        let ends = self.lent.values().chain(self.opening.values()).copied();
        let next_end = ends.min();
        let next = next_end.into_iter().chain(self.pool.next_deadline()).min();
        let ask_at = asks.then(|| self.soon(30));
        let next = next.into_iter().chain(ask_at).min();
        self.now = next.unwrap_or(self.now + SECOND).max(self.now);
        let done = |map: &BTreeMap<BackendId, Instant>, now| map.iter().find(|(_, at)| **at <= now).map(|(id, _)| *id);
        if let Some(backend) = done(&self.lent, self.now) {
            if self.random.u8(0..10) == 0 {
                self.lent.remove(&backend);
                self.owned.remove(&backend);
                self.old.remove(&backend);
                self.pool.lost(self.now, backend, &mut out);
            } else {
                self.lent.remove(&backend);
                self.idle.insert(backend);
                let near = Core(self.random.u16(0..2));
                self.near = Some(near);
                self.pool.release(self.now, backend, near, &mut out);
            }
        } else if let Some(backend) = done(&self.opening, self.now) {
            self.opening.remove(&backend);
            if self.random.u8(0..10) == 0 {
                let retry_at = self.soon(300);
                self.retry_at = Some(retry_at);
                self.pool.open_failed(self.now, backend, retry_at, &mut out);
            } else {
                self.retry_at = None;
                self.idle.insert(backend);
                let jitter = self.random.f64();
                self.near = Some(HERE);
                self.pool.opened(self.now, backend, HERE, jitter, &mut out);
            }
        } else if ask_at == Some(self.now) {
            if self.random.u8(0..15) == 0 && self.pool.cancel(Ticket(number.saturating_sub(1))) {
                self.waiting.retain(|(ticket, ..)| *ticket != Ticket(number - 1));
            }
            let core = Core(self.random.u16(0..2));
            self.waiting.push_back((Ticket(number), self.now, core));
            let wish = match (self.random.u8(0..3), self.owned.iter().next()) {
                (0, _) => Wish::ToOwn,
                (1, Some(backend)) => Wish::Own(*backend),
                _ => Wish::Any,
            };
            let has_room = self.pool.has_room(self.now);
            if wish == Wish::ToOwn {
                self.to_own.insert(Ticket(number));
            }
            (self.wish, self.asks) = (wish, true);
            self.pool.acquire(self.now, Ticket(number), core, wish, &mut out);
            self.modest = (!has_room).then_some(Ticket(number));
            let is_served = |action: &Action| matches!(action, Action::Give { .. });
            let gets_own = out.iter().any(|action| matches!(action, Action::Give { is_owned: true, .. }));
            if let Wish::Own(own) = wish
                && self.idle.contains(&own)
                && !out.contains(&Action::Close(own))
            {
                let gets = |action: &Action| matches!(action, Action::Give { backend, .. } if *backend == own);
                assert!(out.iter().any(gets), "it is idle, and its owner gets another one");
            }
            assert!(
                wish != Wish::ToOwn || !has_room || gets_own || !out.iter().any(is_served),
                "it could have had one"
            );
        }
        self.act(&mut out);
        (self.modest, self.near, self.wish, self.asks) = (None, None, Wish::Any, false);
        if self.random.u8(0..8) == 0
            && let Some(backend) = self.owned.pop_first()
        {
            self.old.remove(&backend);
            self.pool.disown(self.now, backend, self.random.bool(), &mut out);
            if self.random.u8(0..4) == 0 {
                self.act(&mut out);
                self.pool.renew(self.now, &mut out);
                self.old = self.owned.clone();
            }
            self.act(&mut out);
        }
        self.pool.sweep(self.now, &mut out);
        self.act(&mut out);
        self.check();
    }
}

#[test]
fn a_simulated_pool_keeps_its_rules() {
    let (mut served, mut timed_out) = (0, 0);
    for seed in 0..300 {
        let caught = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for number in 0..600 {
                // Bursts, and times of rest.
                world.step((number / 100) % 2 == 0, number);
            }
            for number in 600..2000 {
                world.step(false, number);
            }
            assert!(world.waiting.is_empty() && world.lent.is_empty(), "it has come to rest");
            let counts = world.pool.counts();
            let floor = world.params.min.min(world.params.size);
            let bound = if world.params.idle_timeout.is_some() { floor } else { world.params.size };
            assert!(counts.total() <= bound.max(floor), "{counts:?} are left, at most {bound}");
            (world.served, world.timed_out)
        });
        let (some, more) = caught.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic)
        });
        served += some;
        timed_out += more;
    }
    assert!(served > 30_000 && timed_out > 100, "{served} were served, {timed_out} were not in time");
}
