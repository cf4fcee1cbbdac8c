//! A worker core: what its tasks share, and what it is told.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::workers::{Cores, Inbox, Load};
use net::{Buffers, Deadline, Deadlines, Pipes};
use slab::Slab;
use telemetry::trace::CoreTracer;
use telemetry::{CoreAccessLog, RefusedReason};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::accept::{self, Acceptor};
use super::connection;
use super::datagram::{self, Receiver};
use super::disk::Disk;
use super::http2::worker::Workers;
use super::local::Local;
use super::scratch::Scratch;
use crate::action::Checks;
use crate::state::{ListenerState, Place, Shared};

/// Size of the buffers that heads are read into: most heads, and the responses of most APIs, fit with room to spare.
const HEAD_BUFFER_BYTES: usize = 16 * 1024;

/// Size of the buffers that bodies are copied through. Against 8 KiB they halve the cost of a large body.
const BODY_BUFFER_BYTES: usize = 64 * 1024;

/// Pause between two rounds of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Time for a request of a connection that ends: what has come already is served, for its client cannot know.
const IDLE_GRACE_MIN: Duration = Duration::from_millis(1);

/// Scratch kept for reuse at most.
const SCRATCH_KEPT_MAX: usize = 512;

/// What a core is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this connection, accepted on another core.
    Connection(Accepted<std::net::TcpStream>),
    /// Accept connections.
    Listen {
        /// For this listener.
        listener: Arc<ListenerState>,
        /// From this socket.
        socket: TcpListener,
    },
    /// Accept no more from one of a listener's sockets.
    StopAccepting {
        /// The listener.
        listener: Arc<ListenerState>,
        /// The socket's address.
        address: SocketAddr,
    },
    /// Receive datagrams.
    Receive {
        /// For this listener.
        listener: Arc<ListenerState>,
        /// From this socket.
        socket: UdpSocket,
    },
    /// Receive no more on one of a listener's sockets.
    StopReceiving {
        /// The listener.
        listener: Arc<ListenerState>,
        /// The socket's address.
        address: SocketAddr,
    },
    /// Accept no more on a listener (`None` for all), and close its connections as soon as no request is under way.
    Retire {
        /// The listener.
        listener: Option<Arc<ListenerState>>,
        /// When another process accepts on the same sockets: time in which an idle connection may still bring a request,
        /// so that its client is told of the end with the answer. Otherwise idle connections are closed at once.
        idle_grace: Option<Duration>,
        /// Dropped when it was done, and nothing more is accepted.
        heard: Option<mpsc::Sender<()>>,
    },
    /// Cut the connections of a listener that has been retired.
    Cut(Arc<ListenerState>),
    /// Begin with something that is not the gateway's, as a task of this core.
    Begin(Job),
    /// End, whatever is under way.
    Stop,
}

/// What starts a task on the core that runs it.
pub(crate) struct Job(pub(crate) Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// Where a core records what requests did.
#[derive(Debug)]
pub(crate) struct Records {
    /// The access log's end.
    pub(crate) access: CoreAccessLog,
    /// The traces' end.
    pub(crate) traces: CoreTracer,
}

/// A connection on its way to the core that serves it.
#[derive(Debug)]
pub(crate) struct Accepted<S> {
    /// The socket, not blocking.
    pub(crate) socket: S,
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// Its place under the listener's cap.
    pub(crate) place: Place,
    /// Its weight on the core.
    pub(crate) load: Load<Message>,
}

/// What the tasks of a core share.
pub(crate) struct Core {
    /// The core's number.
    pub(crate) id: usize,
    /// What all cores share.
    pub(crate) shared: Arc<Shared>,
    /// All cores, to hand connections over.
    pub(crate) cores: Cores<Message>,
    /// Buffers for heads.
    pub(crate) heads: Buffers,
    /// Buffers for bodies.
    pub(crate) bodies: Buffers,
    /// Pipes for splicing.
    pub(crate) pipes: Pipes,
    /// Deadlines.
    pub(crate) deadlines: Deadlines,
    /// Mirrored requests under way.
    pub(crate) copies: Cell<usize>,
    /// Bodies that are being compressed.
    pub(crate) encoders: Cell<usize>,
    /// Fetches for the cache under way that no client waits for.
    pub(crate) refreshes: Cell<usize>,
    /// Tasks for streams of HTTP/2.
    pub(crate) stream_workers: Workers,
    /// Random numbers.
    pub(crate) random: RefCell<fastrand::Rng>,
    /// Passwords that were checked.
    pub(crate) checks: Checks,
    /// Threads that may wait for a disk.
    pub(crate) disk: Disk,
    /// The access log's end.
    pub(crate) access: RefCell<CoreAccessLog>,
    /// The traces' end.
    pub(crate) traces: RefCell<CoreTracer>,
    local: RefCell<Rc<Local>>,
    connections: RefCell<Slab<Rc<ConnectionState>>>,
    #[allow(clippy::vec_box, reason = "it moves in and out of here for every request")]
    scratch: RefCell<Vec<Box<Scratch>>>,
    acceptors: RefCell<Vec<Acceptor>>,
    receivers: RefCell<Vec<Receiver>>,
    /// Whether the gateway is stopping. Connections may still arrive from other cores.
    draining: Cell<bool>,
    /// How long a connection of a listener that ends waits for a request.
    idle_grace: Cell<Duration>,
}

/// A connection, as its core sees it.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// Where it came in.
    pub(crate) listener: Arc<ListenerState>,
    /// When the client is out of time.
    pub(crate) deadline: Deadline,
    /// Whether it waits for a request.
    pub(crate) idle: Cell<bool>,
    /// Whether it ends with the request under way.
    pub(crate) closing: Cell<bool>,
    /// Whether it carries several requests at once, and is told of its end at once.
    pub(crate) multiplexed: Cell<bool>,
    abort: RefCell<Option<AbortHandle>>,
}

/// Runs a core until it is told to stop.
pub(crate) async fn main(mut inbox: Inbox<Message>, shared: Arc<Shared>, cores: Cores<Message>, records: Records) {
    let core = Rc::new(Core::new(inbox.core, shared, cores, records));
    tokio::task::spawn_local(core.deadlines.clone().scan());
    tokio::task::spawn_local(housekeep(Rc::clone(&core)));
    while let Some(message) = inbox.messages.recv().await {
        match message {
            Message::Connection(accepted) => core.serve_std(accepted),
            Message::Listen { listener, socket } => core.listen(&listener, socket),
            Message::Receive { listener, socket } => core.receive(&listener, socket),
            Message::StopReceiving { listener, address } => {
                core.stop_receiving(|receiver| {
                    Arc::ptr_eq(receiver.listener(), &listener) && receiver.address() == Some(address)
                });
            }
            Message::Retire { listener, idle_grace, heard } => {
                core.retire(listener.as_ref(), idle_grace, heard.as_ref());
            }
            Message::StopAccepting { listener, address } => {
                let concerned = |acceptor: &Acceptor| {
                    Arc::ptr_eq(acceptor.listener(), &listener) && acceptor.address() == Some(address)
                };
                core.stop_accepting(concerned, None);
            }
            Message::Cut(listener) => core.cut(&listener),
            Message::Begin(Job(begin)) => begin(),
            Message::Stop => break,
        }
    }
    core.local().give_leases_back().await;
    core.access.borrow_mut().flush();
    core.traces.borrow_mut().flush();
}

async fn housekeep(core: Rc<Core>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        core.local().sweep(core.id);
        core.access.borrow_mut().flush();
        core.traces.borrow_mut().flush();
    }
}

impl ConnectionState {
    /// A connection of a listener that nothing has happened on.
    pub(crate) fn new(deadline: Deadline, listener: &Arc<ListenerState>, closing: bool) -> Self {
        Self {
            listener: Arc::clone(listener),
            deadline,
            idle: Cell::new(false),
            closing: Cell::new(closing),
            multiplexed: Cell::new(false),
            abort: RefCell::default(),
        }
    }
}

impl Core {
    fn new(id: usize, shared: Arc<Shared>, cores: Cores<Message>, records: Records) -> Self {
        Self {
            id,
            shared,
            cores,
            heads: Buffers::new(HEAD_BUFFER_BYTES),
            bodies: Buffers::new(BODY_BUFFER_BYTES),
            pipes: Pipes::default(),
            deadlines: Deadlines::default(),
            copies: Cell::new(0),
            encoders: Cell::new(0),
            refreshes: Cell::new(0),
            stream_workers: Workers::default(),
            random: RefCell::default(),
            checks: Checks::default(),
            disk: Disk::default(),
            access: RefCell::new(records.access),
            traces: RefCell::new(records.traces),
            local: RefCell::default(),
            connections: RefCell::default(),
            scratch: RefCell::default(),
            acceptors: RefCell::default(),
            receivers: RefCell::default(),
            draining: Cell::new(false),
            idle_grace: Cell::new(IDLE_GRACE_MIN),
        }
    }

    /// What is served now. Costs one read of a shared number when nothing has changed.
    pub(crate) fn local(&self) -> Rc<Local> {
        let local = Rc::clone(&self.local.borrow());
        if local.generation() == self.shared.generation() {
            return local;
        }
        let mut seed = || self.random.borrow_mut().u64(..);
        let fresh = Rc::new(Local::adopt(self.shared.snapshot(), &local, (self.id, self.shared.epoch), &mut seed));
        *self.local.borrow_mut() = Rc::clone(&fresh);
        fresh
    }

    /// Serves a connection that another core has accepted.
    pub(crate) fn serve_std(self: &Rc<Self>, accepted: Accepted<std::net::TcpStream>) {
        let Accepted { socket, peer, place, load } = accepted;
        match TcpStream::from_std(socket) {
            Ok(socket) => self.serve(Accepted { socket, peer, place, load }),
            Err(error) => {
                place.0.metrics.refused(self.id, RefusedReason::ResourceLimit);
                tracing::warn!(listener = %place.0.name, %error, "a connection cannot be watched");
            }
        }
    }

    /// Serves a connection on this core.
    pub(crate) fn serve(self: &Rc<Self>, accepted: Accepted<TcpStream>) {
        let listener = Arc::clone(&accepted.place.0);
        let closing = self.draining.get() || self.local().listener(&listener).is_none();
        let state = Rc::new(ConnectionState::new(self.deadlines.register(), &listener, closing));
        let key = self.connections.borrow_mut().insert(Rc::clone(&state));
        let entry = Entry { core: Rc::clone(self), key };
        let task = tokio::task::spawn_local(connection::serve(entry, Rc::clone(&state), accepted));
        *state.abort.borrow_mut() = Some(task.abort_handle());
    }

    fn listen(self: &Rc<Self>, listener: &Arc<ListenerState>, socket: TcpListener) {
        match accept::start(self, Arc::clone(listener), socket) {
            Ok(acceptor) => self.acceptors.borrow_mut().push(acceptor),
            Err(error) => tracing::error!(listener = %listener.name, %error, "cannot accept connections"),
        }
    }

    fn retire(
        &self,
        listener: Option<&Arc<ListenerState>>,
        idle_grace: Option<Duration>,
        heard: Option<&mpsc::Sender<()>>,
    ) {
        let concerned = |other: &Arc<ListenerState>| listener.is_none_or(|listener| Arc::ptr_eq(listener, other));
        if listener.is_none() {
            self.draining.set(true);
            self.idle_grace.set(idle_grace.unwrap_or(IDLE_GRACE_MIN));
        }
        self.stop_accepting(|acceptor| concerned(acceptor.listener()), heard);
        self.stop_receiving(|receiver| concerned(receiver.listener()));
        let now = Instant::now();
        for (_, connection) in self.connections.borrow().iter().filter(|(_, c)| concerned(&c.listener)) {
            let was_closing = connection.closing.replace(true);
            if connection.multiplexed.get() {
                // Its client is told at once, and what is under way goes on; to be told again would cut that.
                if !was_closing || connection.idle.get() {
                    connection.deadline.set(now);
                }
            } else if connection.idle.get() {
                connection.deadline.set(now + idle_grace.unwrap_or_default());
            }
        }
    }

    fn receive(self: &Rc<Self>, listener: &Arc<ListenerState>, socket: UdpSocket) {
        match datagram::start(self, Arc::clone(listener), socket) {
            Ok(receiver) => self.receivers.borrow_mut().push(receiver),
            Err(error) => tracing::error!(listener = %listener.name, %error, "cannot receive datagrams"),
        }
    }

    fn stop_receiving(&self, concerned: impl Fn(&Receiver) -> bool) {
        let (stopped, kept) = self.receivers.take().into_iter().partition::<Vec<_>, _>(concerned);
        *self.receivers.borrow_mut() = kept;
        drop(stopped);
    }

    /// How long a connection that ends waits for a request.
    pub(crate) fn idle_grace(&self) -> Duration {
        self.idle_grace.get()
    }

    fn stop_accepting(&self, concerned: impl Fn(&Acceptor) -> bool, heard: Option<&mpsc::Sender<()>>) {
        let (stopped, kept) = self.acceptors.take().into_iter().partition::<Vec<_>, _>(concerned);
        *self.acceptors.borrow_mut() = kept;
        stopped.into_iter().for_each(|acceptor| acceptor.stop(heard.cloned()));
    }

    fn cut(&self, listener: &Arc<ListenerState>) {
        // Aborting only marks the task; it is dropped, and its entry removed, once this one yields.
        for (_, connection) in self.connections.borrow().iter().filter(|(_, c)| Arc::ptr_eq(listener, &c.listener)) {
            if let Some(task) = &*connection.abort.borrow() {
                task.abort();
            }
        }
    }

    /// Working memory for exchanges.
    pub(crate) fn take_scratch(&self) -> Box<Scratch> {
        let kept = self.scratch.borrow_mut().pop();
        kept.unwrap_or_else(|| Box::new(Scratch::new(&self.deadlines)))
    }

    /// Gives working memory back.
    pub(crate) fn keep_scratch(&self, scratch: Box<Scratch>) {
        let mut kept = self.scratch.borrow_mut();
        if kept.len() < SCRATCH_KEPT_MAX && !scratch.is_large() {
            kept.push(scratch);
        }
    }
}

/// A connection's entry in its core's table, removed when dropped.
pub(crate) struct Entry {
    /// The core.
    pub(crate) core: Rc<Core>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.core.connections.borrow_mut().remove(self.key);
    }
}
