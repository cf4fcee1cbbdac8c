//! A client's session: what it says goes to a backend while it has one, and what the backend answers comes back.
//!
//! Without a backend a session holds no buffer and waits for a byte. With one, [`relay`] moves bytes both ways until every question has its
//! answer and no transaction is open; then the backend goes back, unless something pins it. What the messages say is looked at in
//! [`request`] and [`answer`]; [`statement`] has the names of prepared statements, and [`effect`] what a question does when it is answered. What
//! depends on an answer that has not come waits for it, by [`ahead`].

mod ahead;
mod answer;
mod ear;
mod effect;
mod end;
mod global;
mod heal;
mod peek;
mod peer;
mod place;
mod refuse;
mod relay;
mod request;
mod rescue;
mod shape;
mod sight;
mod statement;
mod take;
mod texts;
mod unnamed;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use foldhash::fast::RandomState;
use net::Buffer;
use pgroute::classify::Plan;
use pgroute::prepared::{Changes, Names};
use pgroute::session::{Pin, Settings};
use slab::Slab;
use tokio::sync::Notify;

use crate::core::{Held, Tether, after};
use crate::database::Seat;
use crate::failure::Failure;
use crate::login::Login;
use crate::params::{DatabaseParams, Mode, RoutePolicy};
use crate::plans::Plans;
use crate::pool::{Lent, Local, Own};
use crate::socket::Socket;

use ahead::Ahead;
use ear::Ear;
use effect::Effect;
use global::Changed;
use heal::Group;
use peer::{Out, Peer};
use place::Place;
use shape::{Bound, Told};
use unnamed::Unnamed;

/// The setting that says what the session must see.
const POSITION: &str = "tenfold.position";

/// A client's session.
///
/// What each statement looks at stands first, and what few have to do with last: of many sessions none is in a processor's cache when its turn comes.
pub(crate) struct Session {
    held: Held,
    tether: Rc<Tether>,
    seat: Seat,
    /// What the configuration says, looked at anew between statements.
    params: Arc<DatabaseParams>,
    /// How often the database had been configured then.
    configured: u64,
    local: Rc<Local>,
    plans: Rc<RefCell<Plans>>,
    cancels: Rc<Cancels>,

    client: Peer,
    /// What goes to the client before what comes from the server.
    to_client: Out,
    /// What goes to the server before what comes from the client.
    to_server: Out,
    /// Messages that are put in between, while one is looked at.
    scratch: Vec<u8>,
    backend: Option<Lent>,
    /// The one that it gets whenever that is free.
    own: Option<Own>,
    server_input: Option<Buffer>,
    /// Bytes at its beginning that are for the client.
    server_pass: usize,
    /// Bytes that the next message from the server needs.
    server_wants: usize,
    /// Bytes of questions that have no answer yet, about.
    unanswered: usize,
    /// Its number, which no other one of the process has.
    number: u64,
    /// Counts what changes its settings, so that a backend which is as they were is known.
    settings_number: u64,
    /// The number of the settings that the backend was told.
    applied_number: u64,
    /// What it listens by, once it has.
    ear: Option<Box<Ear>>,
    /// How often it was said to the backend that it listens, of which no answer is known to be the last.
    listens_ahead: Cell<usize>,
    place: Place,
    unnamed: Unnamed,
    /// The group of messages that is under way, in case that it is run again.
    group: Group,
    settings: Settings,
    /// What was sent ahead of answers.
    ahead: Ahead,
    /// What it has changed that others have to do with.
    changed: Changed,
    /// What portals run, where that does more than read or write rows.
    portals: HashMap<Box<[u8]>, Arc<Plan>>,

    mode: Mode,
    pin: Option<Pin>,
    armed: Armed,
    standard_strings: bool,
    is_readable: bool,
    /// The client does not listen any more: what is for it goes nowhere.
    is_client_gone: bool,
    /// The rest of a message from the server goes nowhere.
    server_drops: bool,
    was_pinned: bool,
    /// Its backend has statements by texts that nothing is known of: those of a string of several.
    has_own_texts: bool,
    /// Something may have been set that nobody saw: it has to be asked for.
    is_opaque: bool,
    /// Something was reset to what the backend began with, and not the session.
    is_reset: bool,
    /// It asked for what makes it as it began, and has no answer yet.
    is_discarding: bool,
    /// The group of messages has failed here: what is left of it is dropped, up to its end.
    skips: bool,
    /// Rows are copied in.
    is_copying: bool,
    /// The server was asked for what it buffers.
    has_flushed: bool,
    /// Questions were sent that nothing ends yet: a group without its `Sync`.
    is_group_open: bool,
    /// Something was asked of the backend.
    is_used: bool,
    /// Others wait for the backend, and the client's next message waits for them.
    gives_way: bool,
    /// Something doubtful happened on the backend: it is closed and not given back.
    is_doubtful: bool,
    /// The server has said that it goes.
    has_farewell: bool,

    names: Names,
    /// What it was told of statements, by its names.
    told: HashMap<Box<[u8]>, Told, RandomState>,
    bound: Bound,
    effects: Slab<Effect>,
    /// What its texts mean, as far as settings say so, by the number of those.
    reading: Option<(u64, Arc<str>)>,
    /// Statements that were prepared before this are old, whatever they say.
    floor: Changes,
    /// The name of a statement that has to be looked at before it is used, and why it cannot be.
    doubted: Option<(Box<[u8]>, Option<Failure>)>,
    /// What the server said to something of ours that the client's query needs: the client hears this, and not what came of it.
    instead: Option<Box<[u8]>>,
    /// Why the next message fails: there is no backend for it.
    fails: Option<Failure>,
    user: String,
    /// Where its statements go, if it does not say so itself.
    route: RoutePolicy,
    stall_timeout: Duration,
}

/// Requests to cancel that are on their way.
#[derive(Default)]
struct Cancels {
    count: Cell<usize>,
    /// One was sent, and nobody knows when the server heeds it.
    is_astray: Cell<bool>,
    done: Notify,
}

/// What the deadline is set for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Armed {
    #[default]
    Nothing,
    /// The client takes or sends nothing of something that has begun.
    Stall,
    /// A statement runs.
    Statement,
    /// A transaction is idle.
    Transaction,
    /// The client is idle.
    Client,
}

/// Why a session ends.
#[derive(Debug)]
enum Cut {
    /// The client said good-bye.
    Goodbye,
    /// The client has gone, or the connection to it broke.
    Gone,
    /// It is told why.
    Told(Failure),
    /// The server has told it why.
    Ended,
    /// The connection to the server is lost. The session may outlive that.
    Lost(Failure),
}

/// What comes after moving bytes for a while.
enum Turn {
    /// Every question has its answer, and nothing keeps the backend.
    Idle,
    /// A message waits for a backend.
    Need,
    /// Nothing has moved for too long.
    Expired,
}

impl Session {
    /// Of a client that has just been greeted. What it has said meanwhile is in `input`.
    pub(crate) fn new(held: Held, tether: Rc<Tether>, login: Login, socket: Socket, input: &[u8]) -> Self {
        let Login { seat, user, local, own, settings, mode, route, standard_strings, is_readable } = login;
        let (configured, params) = (seat.database.configured(), Arc::clone(&seat.database.settings()));
        let number = tether.note.get().map_or_else(|| held.core.process.next_session(), |note| note.number);
        seat.database.metrics.core(held.core.id).clients.add(1);
        Self {
            plans: held.core.plans.of(&seat.database),
            client: Peer::new(socket, &held.core.client_buffers, input),
            names: Names::new(params.prepared.names_max),
            stall_timeout: held.place.listener.params().stall_timeout,
            held,
            tether,
            params,
            configured,
            seat,
            number,
            user,
            mode,
            route,
            place: Place::default(),
            local,
            to_client: Out::default(),
            is_client_gone: false,
            backend: None,
            own,
            to_server: Out::default(),
            server_input: None,
            server_pass: 0,
            server_wants: 0,
            server_drops: false,
            settings,
            settings_number: 0,
            reading: None,
            standard_strings,
            is_readable,
            pin: None,
            was_pinned: false,
            has_own_texts: false,
            is_opaque: false,
            is_reset: false,
            is_discarding: false,
            changed: Changed::default(),
            told: HashMap::default(),
            bound: Bound::default(),
            doubted: None,
            floor: Changes(0),
            unnamed: Unnamed::default(),
            ahead: Ahead::default(),
            portals: HashMap::new(),
            effects: Slab::new(),
            group: Group::default(),
            scratch: Vec::new(),
            skips: false,
            is_copying: false,
            unanswered: 0,
            has_flushed: false,
            armed: Armed::Nothing,
            is_group_open: false,
            is_used: false,
            gives_way: false,
            ear: None,
            listens_ahead: Cell::new(0),
            instead: None,
            fails: None,
            applied_number: 0,
            is_doubtful: false,
            has_farewell: false,
            cancels: Rc::default(),
        }
    }

    /// Serves it to its end.
    // As an `async fn` it would have room for a session twice: where it is handed over, and where it is used.
    #[allow(clippy::manual_async_fn)]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> {
        async move {
            let Err(cut) = self.converse().await;
            self.boxed_end(cut).await;
        }
    }

    async fn converse(&mut self) -> Result<std::convert::Infallible, Cut> {
        loop {
            let mut needs = false;
            if self.is_quiet() {
                (self.client.input, self.server_input) = (None, None);
                self.wait().await?;
                needs = self.hears_question()?;
            }
            match self.turn(needs).await {
                Err(Cut::Lost(failure)) => self.survive(failure)?,
                turn => turn?,
            }
        }
    }

    /// Moves bytes for a while, unless it is known that a message `needs` a backend, and does what has to be done then.
    async fn turn(&mut self, needs: bool) -> Result<(), Cut> {
        match if needs { Turn::Need } else { self.relay().await? } {
            Turn::Idle => self.release().await,
            // It has one, which is to be asked something first.
            Turn::Need if self.backend.is_some() => Box::pin(self.verify()).await,
            Turn::Need => self.engage().await,
            Turn::Expired => Box::pin(self.expired()).await,
        }
    }

    /// Waits for the next message, without a backend and without a buffer.
    async fn wait(&mut self) -> Result<(), Cut> {
        self.armed = Armed::Nothing;
        self.refresh();
        match self.params.timeouts.client_idle {
            Some(idle) => self.tether.deadline.set(after(idle)),
            None => self.tether.deadline.clear(),
        }
        poll_fn(|cx| {
            let is_heard = self.poll_heard(cx);
            let (tether, client, database) = (&self.tether, &mut self.client, &self.seat.database);
            tether.register(cx);
            if tether.is_killed(None) {
                return Poll::Ready(Err(Cut::Told(killed())));
            }
            // What was written last was not taken after all.
            if client.socket.has_unsent() {
                return Poll::Ready(Ok(()));
            }
            if tether.is_ending.get() || database.is_retired() {
                return Poll::Ready(Err(Cut::Told(stopping())));
            }
            // Nothing runs that could be cancelled.
            drop(tether.take_cancels());
            if is_heard {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(ready) = client.socket.poll_readable(cx) {
                return Poll::Ready(ready.map_err(|_| Cut::Gone));
            }
            tether.deadline.poll_expired(cx).map(|_| Err(Cut::Told(idle_for_too_long())))
        })
        .await?;
        self.tell_heard()?;
        Ok(())
    }

    /// Goes by the configuration as it is now.
    fn refresh(&mut self) {
        let configured = self.seat.database.configured();
        if configured != self.configured {
            self.configured = configured;
            self.params = Arc::clone(&self.seat.database.settings());
            self.stall_timeout = self.held.place.listener.params().stall_timeout;
        }
    }

    async fn relay(&mut self) -> Result<Turn, Cut> {
        poll_fn(|cx| self.poll_turn(cx)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<Turn, Cut>> {
        self.tether.register(cx);
        let cancels = self.tether.take_cancels();
        if !cancels.is_empty() {
            self.cancel_for(cancels);
        }
        if self.tether.is_killed(self.backend.as_ref().map(|backend| &backend.key.address)) {
            return Poll::Ready(Err(self.killed()));
        }
        if let Some(failure) = self.fenced() {
            return Poll::Ready(Err(self.lost(failure)));
        }
        if let Poll::Ready(turn) = self.poll_relay(cx) {
            return Poll::Ready(turn);
        }
        if self.poll_heard(cx) {
            if let Some(failure) = self.cannot_listen() {
                return Poll::Ready(Err(Cut::Told(failure)));
            }
            // A session that keeps its backend is told while nothing is under way there.
            if self.is_between_transactions()
                && self.tell_heard()?
                && let Poll::Ready(turn) = self.poll_relay(cx)
            {
                return Poll::Ready(turn);
            }
        }
        let is_ending = self.tether.is_ending.get() || self.seat.database.is_retired();
        if is_ending && self.is_between_transactions() {
            return Poll::Ready(Err(Cut::Told(stopping())));
        }
        self.arm();
        match self.armed {
            Armed::Nothing => Poll::Pending,
            _ => self.tether.deadline.poll_expired(cx).map(|_| Ok(Turn::Expired)),
        }
    }

    /// Whether nothing of the client's is under way.
    fn is_between_transactions(&self) -> bool {
        self.to_client.is_empty()
            && self.server_pass == 0
            && !self.client.socket.has_unsent()
            && self.client.is_between()
            && !self.is_group_open
            && self.backend.as_ref().is_none_or(|backend| backend.is_clean())
    }

    /// Sets the deadline for what is waited for now.
    fn arm(&mut self) {
        let times = &self.params.timeouts;
        let stall = self.stall_timeout;
        // What is held back the client cannot take.
        let is_given = !self.holds() || self.is_client_gone;
        let (armed, time) = match &self.backend {
            _ if self.client.socket.has_unsent() => (Armed::Stall, Some(stall)),
            _ if is_given && (!self.to_client.is_empty() || self.server_pass > 0) => (Armed::Stall, Some(stall)),
            Some(backend) if backend.ledger.is_empty() && !self.client.is_between() => (Armed::Stall, Some(stall)),
            Some(backend) if backend.is_clean() && !self.is_group_open => (Armed::Client, times.client_idle),
            Some(backend) if backend.ledger.is_empty() => (Armed::Transaction, times.idle_in_transaction),
            Some(_) => (Armed::Statement, times.statement),
            None if !self.client.is_between() => (Armed::Stall, Some(stall)),
            None => (Armed::Client, times.client_idle),
        };
        self.set_armed(armed, time);
    }

    fn set_armed(&mut self, armed: Armed, time: Option<Duration>) {
        match time {
            Some(time) if self.armed != armed => {
                self.armed = armed;
                self.tether.deadline.set(after(time));
            }
            Some(_) => {}
            None => self.armed = Armed::Nothing,
        }
    }

    /// Why nothing may be sent to the server any more: it is the primary no more, or never was.
    fn fenced(&self) -> Option<Failure> {
        let backend = self.backend.as_ref().filter(|backend| backend.is_fenced())?;
        let message = match backend.has_lease_ended() {
            true => "the server's lease has ended",
            false => "the server is the primary no more",
        };
        Some(Failure::new(pgroute::SqlState::CONNECTION_FAILURE, message))
    }

    fn cells(&self) -> &crate::metrics::Cells {
        self.seat.database.metrics.core(self.held.core.id)
    }
}

fn stopping() -> Failure {
    Failure::new(pgroute::SqlState::ADMIN_SHUTDOWN, "terminating connection: the database is not served here any more")
}

/// Somebody wants it to end.
pub(crate) fn killed() -> Failure {
    Failure::new(pgroute::SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

fn idle_for_too_long() -> Failure {
    let code = pgroute::SqlState::parse(b"57P05").expect("it is one");
    Failure::new(code, "terminating connection: it was idle for too long")
}
