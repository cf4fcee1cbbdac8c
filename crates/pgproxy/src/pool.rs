//! A pool of backends, shared by all cores: `pgroute::pool` decides, and here it is done.
//!
//! What waits to be lent is parked under the pool's lock. A core keeps what its clients gave back, and lends that again without the lock, as
//! long as nobody waits ([`local`]); for the pool those are lent. Whoever has to wait gets a backend by a message of its own, from whatever
//! core gives one back. Connections are made by one task of the pool ([`home`]).
//!
//! Every backend is counted at any time: while it is lent, [`Lent`] answers for it, and tells the pool when it is dropped.

mod greeting;
mod home;
mod lent;
mod local;
mod own;
mod parked;
mod roster;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use pgroute::SqlState;
use pgroute::pool::{Action, BackendId, Core, Counts, Pool as Decider, PoolParams, Ticket, Wish};
use tokio::sync::{Notify, oneshot};

use crate::backend::{Age, Backend};
use crate::connect::Login;
use crate::failure::Failure;
use crate::params::ServerParams;

pub(crate) use home::run as run_home;
pub(crate) use lent::{Lent, Waiting};
pub(crate) use local::Local;
use own::At;
pub(crate) use own::{Own, Whereabouts};
use parked::Parked;
use roster::Roster;

/// Sets of settings whose reports are remembered. Drivers send the same few.
const GREETINGS_MAX: usize = 256;

/// Where the backends of a pool are connected to, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) server: ServerParams,
    pub(crate) login: Login,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect_pause: Duration,
    pub(crate) statements_max: usize,
}

/// What somebody gets who waited.
type Handed = Result<(Lent, bool), NotLent>;

/// Why somebody got nothing.
#[derive(Debug)]
pub(crate) enum NotLent {
    /// None was free in time.
    TimedOut,
    /// None could be opened.
    Failed(Arc<Failure>),
}

/// Settings that a server reports to whoever connects.
pub(crate) type Reports = Vec<(Vec<u8>, Vec<u8>)>;

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Its number, which no other one of the process has.
    pub(crate) number: u64,
    /// Its user, as clients know it.
    pub(crate) user: String,
    target: ArcSwap<Target>,
    params: ArcSwap<PoolParams>,
    state: Mutex<State>,
    /// How many wait, for whoever gives back.
    waiting: AtomicUsize,
    /// Whether somebody could have a backend to own, for those who have none.
    has_room: AtomicBool,
    is_paused: AtomicBool,
    /// How often it was told to connect anew.
    generation: AtomicU64,
    /// How often what sessions begin with has changed.
    epoch: AtomicU64,
    /// Backends of an earlier generation are cut, whoever has them.
    fence: AtomicU64,
    /// Backends, wherever they are.
    roster: Roster,
    /// Backends that cores keep.
    kept: AtomicUsize,
    /// Wakes the task that makes connections, and does what time asks for.
    nudge: Notify,
    /// What servers report to whoever connects, as it was the last time.
    template: ArcSwap<Option<Reports>>,
    /// What they report to whoever connects with such settings.
    greetings: Mutex<HashMap<Vec<(String, String)>, Reports>>,
    /// Why the server did not let anybody in, and until when that is believed.
    refusal: Mutex<Option<(Instant, Failure)>>,
    /// The `search_path` that sessions begin with.
    search_path: Mutex<Option<Arc<str>>>,
}

#[derive(Debug)]
struct State {
    decider: Decider,
    parked: Parked,
    /// Connections that are to be made.
    opens: Vec<BackendId>,
    /// In the order of their tickets.
    waiters: VecDeque<(Ticket, oneshot::Sender<Handed>)>,
    last_ticket: u64,
    actions: Vec<Action>,
}

/// What comes of asking for a backend.
pub(crate) enum Taken {
    /// One is there; whether it was idle for so long that it may have gone.
    Now(Lent, bool),
    /// None is.
    Wait(Waiting),
}

/// What is to be done when the lock is free again.
#[derive(Default)]
struct Later {
    handed: Vec<(oneshot::Sender<Handed>, Handed)>,
    closed: Vec<Backend>,
    opens: bool,
}

/// How many backends a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backends {
    pub(crate) opening: usize,
    pub(crate) idle: usize,
    pub(crate) lent: usize,
    pub(crate) waiting: usize,
}

impl Pool {
    /// An empty pool. Its task has to be run somewhere: [`run_home`].
    pub(crate) fn new(user: String, target: Target, params: PoolParams) -> Arc<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let state = State {
            decider: Decider::new(params.clone()),
            parked: Parked::default(),
            opens: Vec::new(),
            waiters: VecDeque::new(),
            last_ticket: 0,
            actions: Vec::new(),
        };
        let pool = Self {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            user,
            target: ArcSwap::from_pointee(target),
            params: ArcSwap::from_pointee(params),
            state: Mutex::new(state),
            waiting: AtomicUsize::new(0),
            has_room: AtomicBool::new(true),
            is_paused: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            fence: AtomicU64::new(0),
            roster: Roster::default(),
            kept: AtomicUsize::new(0),
            nudge: Notify::new(),
            template: ArcSwap::default(),
            greetings: Mutex::default(),
            refusal: Mutex::default(),
            search_path: Mutex::default(),
        };
        Arc::new(pool)
    }

    /// Goes by another configuration. Where the server is another one, or is logged in to in another way, connections are made anew.
    pub(crate) fn configure(self: &Arc<Self>, target: Target, params: PoolParams) {
        let is_other = **self.target.load() != target;
        self.target.store(Arc::new(target));
        self.params.store(Arc::new(params.clone()));
        let now = Instant::now();
        self.act(now, |decider, out| decider.change(now, params, out));
        if is_other {
            self.forget_greetings();
            self.reconnect();
        }
    }

    /// Where its backends are connected to.
    pub(crate) fn target(&self) -> Arc<Target> {
        self.target.load_full()
    }

    /// How long anybody waits.
    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.params.load().acquire_timeout
    }

    /// Asks for a backend on a core, with the lock. What the core keeps has been looked at.
    pub(crate) fn acquire(self: &Arc<Self>, now: Instant, core: usize, wish: Wish) -> Taken {
        let (mut later, mut given) = (Later::default(), None);
        let (ticket, receiver) = {
            let mut state = self.state();
            state.last_ticket += 1;
            let ticket = Ticket(state.last_ticket);
            let mut actions = std::mem::take(&mut state.actions);
            state.decider.acquire(now, ticket, Core(core as u16), wish, &mut actions);
            for action in actions.drain(..) {
                match action {
                    Action::Give { ticket: to, backend, ping, is_owned } if to == ticket => {
                        given = state.parked.take(backend).map(|backend| (backend, ping, is_owned));
                    }
                    other => self.carry_out(&mut state, other, &mut later),
                }
            }
            state.actions = actions;
            let receiver = given.is_none().then(|| {
                let (sender, receiver) = oneshot::channel();
                state.waiters.push_back((ticket, sender));
                receiver
            });
            self.noted(&state, now);
            (ticket, receiver)
        };
        later.run(self);
        match (given, receiver) {
            (Some((backend, ping, is_owned)), _) => Taken::Now(Lent::new(Arc::clone(self), backend, is_owned), ping),
            (None, Some(receiver)) => {
                // What a wait may be too long for; whoever waits looks for the end of its own time itself.
                if self.params.load().reserve > 0 {
                    self.nudge.notify_one();
                }
                Taken::Wait(Waiting::new(Arc::clone(self), ticket, receiver))
            }
            (None, None) => unreachable!("whoever was given nothing waits"),
        }
    }

    /// Whether a core may lend what it keeps, and keep what comes back.
    pub(crate) fn is_calm(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0 && !self.is_paused.load(Ordering::SeqCst)
    }

    /// Whether somebody who has no backend of its own could have one, as far as is known.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Whether there is no backend, nor one that is being opened, though there might be.
    pub(crate) fn has_none(&self) -> bool {
        !self.is_paused.load(Ordering::SeqCst) && self.state().decider.counts().total() == 0
    }

    /// Whether cores keep something that somebody waits for.
    pub(crate) fn is_kept_from_others(&self) -> bool {
        self.kept.load(Ordering::SeqCst) > 0
    }

    /// Takes a clean backend back.
    fn release(self: &Arc<Self>, backend: Box<Backend>) {
        let (now, id, core) = (Instant::now(), backend.id, Core(backend.core as u16));
        self.act_with(now, |state, out| {
            backend.whereabouts.set(At::Pool);
            state.parked.put(backend);
            state.decider.release(now, id, core, out);
        });
    }

    /// Whoever owned a backend does not want it any more.
    fn disown(self: &Arc<Self>, id: BackendId, stays: bool) {
        let now = Instant::now();
        self.act(now, |decider, out| decider.disown(now, id, stays, out));
    }

    /// Closes connections that are idle and nobody's.
    pub(crate) fn let_go(self: &Arc<Self>) {
        self.act(Instant::now(), |decider, out| decider.let_go(out));
    }

    /// A backend has gone.
    fn lost(self: &Arc<Self>, id: BackendId) {
        let now = Instant::now();
        self.act(now, |decider, out| decider.lost(now, id, out));
    }

    /// Whoever had this ticket does not want anything any more.
    fn cancel(&self, ticket: Ticket) {
        let mut state = self.state();
        state.decider.cancel(ticket);
        let _nobody = state.take_waiter(ticket);
        self.noted(&state, Instant::now());
    }

    /// A connection was made.
    fn opened(self: &Arc<Self>, mut backend: Box<Backend>, jitter: f64) {
        let (now, id, core) = (Instant::now(), backend.id, Core(backend.core as u16));
        *self.refusal() = None;
        self.roster.enter(&backend);
        // As the pool reckons it.
        let lifetime = self.params.load().lifetime;
        backend.dies_at = lifetime.map(|lifetime| now + lifetime.mul_f64(1.0 - jitter / 10.0));
        self.act_with(now, |state, out| {
            backend.whereabouts.set(At::Pool);
            state.parked.put(backend);
            state.decider.opened(now, id, core, jitter, out);
        });
    }

    /// None was made. When there is no other backend either, whoever waits is told why.
    fn open_failed(self: &Arc<Self>, id: BackendId, failure: Failure) {
        let now = Instant::now();
        let retry_at = now + self.target.load().reconnect_pause;
        // There is no such database, or the user may not enter it.
        if matches!(failure.code.class(), "28" | "3D") {
            *self.refusal() = Some((retry_at, failure.clone()));
        }
        let mut later = Later::default();
        self.act_with(now, |state, out| {
            state.decider.open_failed(now, id, retry_at, out);
            if state.decider.counts().total() == 0 {
                let failure = Arc::new(failure);
                for (ticket, sender) in state.waiters.drain(..) {
                    state.decider.cancel(ticket);
                    later.handed.push((sender, Err(NotLent::Failed(Arc::clone(&failure)))));
                }
            }
        });
        later.run(self);
    }

    /// Connections that are to be made, which whoever takes them does.
    fn take_opens(&self) -> Vec<BackendId> {
        std::mem::take(&mut self.state().opens)
    }

    /// Does what time asks for; when it has to be done again.
    fn sweep(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        self.act(now, |decider, out| decider.sweep(now, out));
        self.state().decider.next_deadline()
    }

    /// Closes what is idle here and was ended by its server, as at the server's restart: it is neither counted nor in anybody's way then.
    fn drop_ended(self: &Arc<Self>, now: Instant) {
        let mut ended = Vec::new();
        self.act_with(now, |state, out| {
            for backend in state.parked.take_ended() {
                state.decider.lost(now, backend.id, out);
                ended.push(backend);
            }
        });
        drop(ended);
    }

    /// Lends nothing from now on.
    pub(crate) fn pause(&self) {
        self.is_paused.store(true, Ordering::SeqCst);
        self.state().decider.pause();
    }

    /// Lends again.
    pub(crate) fn resume(self: &Arc<Self>) {
        self.is_paused.store(false, Ordering::SeqCst);
        let now = Instant::now();
        self.act(now, |decider, out| decider.resume(now, out));
    }

    /// Has all connections made anew.
    pub(crate) fn reconnect(self: &Arc<Self>) {
        let now = Instant::now();
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.act(now, |decider, out| decider.reconnect(now, out));
    }

    /// What a backend is that is made now.
    fn age(&self) -> Age {
        Age { generation: self.generation.load(Ordering::SeqCst), epoch: self.epoch.load(Ordering::SeqCst) }
    }

    /// The server must not be used any more: its connections are cut, those that are lent as soon as their clients look.
    pub(crate) fn fence(self: &Arc<Self>) {
        self.reconnect();
        self.fence.store(self.generation.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Whether it has any that are open.
    pub(crate) fn has_backends(&self) -> bool {
        let counts = self.state().decider.counts();
        counts.idle + counts.lent > 0
    }

    /// How many backends it has, those that cores keep among the idle ones.
    pub(crate) fn backends(&self) -> Backends {
        let state = self.state();
        let Counts { opening, idle, lent } = state.decider.counts();
        let kept = self.kept.load(Ordering::SeqCst).min(lent);
        Backends { opening, idle: idle + kept, lent: lent - kept, waiting: state.decider.waiting() }
    }

    /// What whoever waited in vain is told.
    pub(crate) fn timed_out(&self) -> Failure {
        let counts = self.backends();
        let message = format!(
            "no connection to the database was free within {:?} for user \"{}\"",
            self.acquire_timeout(),
            self.user
        );
        let detail = format!(
            "{} connections are lent, {} idle, {} are being opened; {} clients wait.",
            counts.lent, counts.idle, counts.opening, counts.waiting
        );
        Failure::new(SqlState::TOO_MANY_CONNECTIONS, message).with_detail(detail)
    }

    fn act(self: &Arc<Self>, now: Instant, decide: impl FnOnce(&mut Decider, &mut Vec<Action>)) {
        self.act_with(now, |state, out| decide(&mut state.decider, out));
    }

    fn act_with(self: &Arc<Self>, now: Instant, decide: impl FnOnce(&mut State, &mut Vec<Action>)) {
        let mut later = Later::default();
        {
            let mut state = self.state();
            let mut actions = std::mem::take(&mut state.actions);
            decide(&mut state, &mut actions);
            for action in actions.drain(..) {
                self.carry_out(&mut state, action, &mut later);
            }
            state.actions = actions;
            self.noted(&state, now);
        }
        later.run(self);
    }

    /// What those may know who have no lock.
    fn noted(&self, state: &State, now: Instant) {
        self.waiting.store(state.decider.pressing(), Ordering::SeqCst);
        self.has_room.store(state.decider.has_room(now), Ordering::Relaxed);
    }

    fn carry_out(self: &Arc<Self>, state: &mut State, action: Action, later: &mut Later) {
        match action {
            Action::Give { ticket, backend, ping, is_owned } => {
                let (sender, backend) = (state.take_waiter(ticket), state.parked.take(backend));
                if let (Some(sender), Some(backend)) = (sender, backend) {
                    later.handed.push((sender, Ok((Lent::new(Arc::clone(self), backend, is_owned), ping))));
                }
            }
            Action::Open(backend) => {
                state.opens.push(backend);
                later.opens = true;
            }
            Action::Close(backend) => later.closed.extend(state.parked.take(backend).map(|backend| *backend)),
            Action::TimeOut(ticket) => {
                if let Some(sender) = state.take_waiter(ticket) {
                    later.handed.push((sender, Err(NotLent::TimedOut)));
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_waiter(&mut self, ticket: Ticket) -> Option<oneshot::Sender<Handed>> {
        let at = self.waiters.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        self.waiters.remove(at).map(|(_, sender)| sender)
    }
}

impl Later {
    fn run(self, pool: &Pool) {
        if self.opens {
            pool.nudge.notify_one();
        }
        for (sender, handed) in self.handed {
            // Whoever has gone meanwhile gives back what it was handed.
            if let Err(Ok((lent, _))) = sender.send(handed) {
                lent.release();
            }
        }
        drop(self.closed);
    }
}
