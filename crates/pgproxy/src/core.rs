//! A worker core's part: it accepts clients, serves those that are brought to it, and keeps backends for them.
//!
//! A listening socket lives on one core, which brings each connection to the core that is to serve it ([`crate::placement`]). From there on it
//! stays there.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use balance::Picker;
use net::workers::{Inbox, Load};
use net::{Buffers, Deadline, Deadlines};
use slab::Slab;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::accept::Acceptor;
use crate::asked::Users;
use crate::clients::Note;
use crate::control::{Orders, Whom};
use crate::database::Database;
use crate::listener::{ListenSocket, Listener, Place};
use crate::params::ServerAddress;
use crate::placement::Meter;
use crate::plans::AllPlans;
use crate::pool::{self, Local, Pool};
use crate::process::Process;
use crate::{asked, catalogue, client, console, notify, watch};

/// Size of the buffers that clients are read into. Most of what they say is short; a longer statement has one grow.
const CLIENT_BUFFER_BYTES: usize = 8 * 1024;

/// Size of the buffers that servers are read into: rows come in bulk, and a system call for each few is what costs.
const SERVER_BUFFER_BYTES: usize = 32 * 1024;

/// Pickers that a core has at most; those of databases that went are not looked for.
const PICKERS_MAX: usize = 1000;

/// How often a core gives up what it keeps and did not need.
const SPARE_INTERVAL: Duration = Duration::from_millis(100);

/// What a core is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this client, accepted on another core.
    Client(Accepted),
    /// Accept clients.
    Listen(Arc<Listener>, ListenSocket),
    /// Accept no more on a listener (`None` for all), and end its clients as soon as they have no transaction open. The sender is dropped
    /// when nothing more is accepted.
    Retire(Option<Arc<Listener>>, mpsc::Sender<()>),
    /// Make the connections of a pool.
    Home(Weak<Pool>),
    /// Listen for the clients of a database.
    Notify(Weak<Database>),
    /// Ask a server about users.
    Users(Arc<Users>),
    /// Servers must not be used any more: clients look whether they have backends of these.
    Fenced,
    /// End clients of a database, with what they have under way.
    Kill(Arc<str>, Arc<Whom>),
    /// Give back what is kept of a pool: somebody waits.
    Recall(u64),
    /// Cancel what the client in this slot does, if it has this secret.
    /// The sender is dropped when the server has heard of it, or nothing runs.
    Cancel { slot: usize, secret: Vec<u8>, heard: mpsc::Sender<()> },
    /// The configuration has changed.
    Configured,
    /// Cut what is still open, and end.
    End,
}

/// A client on its way to the core that serves it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: AcceptedSocket,
    pub(crate) place: Place,
    pub(crate) load: Load<Message>,
}

/// Its socket, which no event queue knows.
#[derive(Debug)]
pub(crate) enum AcceptedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A client's socket before anything was said.
#[derive(Debug)]
pub(crate) enum Fresh {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What the tasks of a core share.
pub(crate) struct Core {
    pub(crate) id: usize,
    pub(crate) process: Arc<Process>,
    pub(crate) client_buffers: Buffers,
    pub(crate) server_buffers: Buffers,
    pub(crate) deadlines: Deadlines,
    clients: RefCell<Slab<Rc<Tether>>>,
    acceptors: RefCell<Vec<Acceptor>>,
    locals: RefCell<HashMap<u64, Rc<Local>>>,
    pub(crate) plans: AllPlans,
    /// Who picks replicas, by the number of their cluster.
    pickers: RefCell<HashMap<u64, Picker>>,
    is_ending: Cell<bool>,
}

/// How a client is told of what concerns it, and found by whoever wants to cancel.
pub(crate) struct Tether {
    listener: Arc<Listener>,
    /// When the client is out of time.
    pub(crate) deadline: Deadline,
    /// Whether it ends when it has no transaction open.
    pub(crate) is_ending: Cell<bool>,
    /// What is known of it, once it is logged in.
    pub(crate) note: OnceCell<Arc<Note>>,
    /// Whether there is something in `killed` or `cancels`, for who looks with each statement.
    is_called: Cell<bool>,
    /// Whether it ends at once, whatever is under way: always, or while it has a connection to one of these servers.
    killed: RefCell<Orders>,
    /// Who wants what it does to be cancelled, and waits until the server has heard of it.
    cancels: RefCell<Vec<mpsc::Sender<()>>>,
    secret: RefCell<Vec<u8>>,
    waker: RefCell<Option<Waker>>,
    abort: RefCell<Option<AbortHandle>>,
}

impl Tether {
    /// Wakes this task when something is told.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Who wants what it does to be cancelled.
    pub(crate) fn take_cancels(&self) -> Vec<mpsc::Sender<()>> {
        if self.is_called.get() { self.cancels.take() } else { Vec::new() }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether it is to end at once. `server` is the one that it has a connection to.
    #[inline]
    pub(crate) fn is_killed(&self, server: Option<&ServerAddress>) -> bool {
        self.is_called.get() && self.is_meant(server)
    }

    #[cold]
    fn is_meant(&self, server: Option<&ServerAddress>) -> bool {
        let is_meant = self.killed.borrow_mut().is_meant(server);
        // What was not meant for it is forgotten.
        self.is_called.set(is_meant || !self.cancels.borrow().is_empty());
        is_meant
    }

    /// Waits until it is to end at once. Until then it has no connection to a server.
    pub(crate) async fn killed(&self) {
        let ended = |cx: &mut Context<'_>| {
            self.register(cx);
            if self.is_killed(None) { Poll::Ready(()) } else { Poll::Pending }
        };
        poll_fn(ended).await;
    }

    /// Takes the secret by which it can be cancelled.
    pub(crate) fn set_secret(&self, secret: Vec<u8>) {
        *self.secret.borrow_mut() = secret;
    }
}

/// Runs a core's part until it is told to end.
pub(crate) async fn main(mut inbox: Inbox<Message>, process: Arc<Process>) {
    let core = Rc::new(Core {
        id: inbox.core,
        process,
        client_buffers: Buffers::new(CLIENT_BUFFER_BYTES),
        server_buffers: Buffers::new(SERVER_BUFFER_BYTES),
        deadlines: Deadlines::default(),
        clients: RefCell::default(),
        acceptors: RefCell::default(),
        locals: RefCell::default(),
        plans: AllPlans::default(),
        pickers: RefCell::default(),
        is_ending: Cell::new(false),
    });
    tokio::task::spawn_local(core.deadlines.clone().scan());
    let spare = tokio::task::spawn_local(Rc::clone(&core).give_spare());
    while let Some(message) = inbox.messages.recv().await {
        match message {
            Message::Client(accepted) => core.serve(accepted),
            Message::Listen(listener, socket) => core.listen(listener, socket),
            Message::Retire(listener, done) => core.retire(listener.as_ref(), &done),
            Message::Home(pool) => {
                tokio::task::spawn_local(pool::run_home(pool, Rc::clone(&core)));
            }
            Message::Notify(database) => {
                tokio::task::spawn_local(notify::run(Rc::clone(&core), database));
            }
            Message::Users(users) => {
                tokio::task::spawn_local(asked::run(Rc::clone(&core), users));
            }
            Message::Recall(pool) => {
                let local = core.locals.borrow().get(&pool).map(Rc::clone);
                local.into_iter().for_each(|local| local.give_up());
            }
            Message::Kill(database, whom) => core.kill(&database, &whom),
            Message::Fenced => core.clients.borrow().iter().for_each(|(_, tether)| tether.wake()),
            Message::Cancel { slot, secret, heard } => core.cancel(slot, &secret, heard),
            Message::Configured => core.look_again(),
            Message::End => break,
        }
    }
    spare.abort();
    core.cut();
}

impl Core {
    /// What this core keeps of a pool.
    pub(crate) fn local(&self, pool: &Arc<Pool>) -> Rc<Local> {
        let mut locals = self.locals.borrow_mut();
        let local = locals.entry(pool.number).or_insert_with(|| Rc::new(Local::new(Arc::clone(pool), self.id)));
        Rc::clone(local)
    }

    /// Has whoever picks replicas of a database do so.
    pub(crate) fn with_picker<T>(&self, cluster: u64, pick: impl FnOnce(&mut Picker) -> T) -> T {
        let mut pickers = self.pickers.borrow_mut();
        if pickers.len() > PICKERS_MAX {
            pickers.clear();
        }
        pick(pickers.entry(cluster).or_insert_with(|| Picker::new(self.id as u64)))
    }

    /// Has the other cores give back what they keep of a pool.
    pub(crate) fn recall(&self, pool: &Pool) {
        if !pool.is_kept_from_others() {
            return;
        }
        for core in (0..self.process.cores.len()).filter(|core| *core != self.id) {
            // A core that is far behind gives back what it keeps when it looks for what it did not need.
            let _behind = self.process.cores.try_send(core, Message::Recall(pool.number));
        }
    }

    /// Has all cores give back what they keep of a pool.
    pub(crate) fn recall_all(&self, pool: &Pool) {
        let local = self.locals.borrow().get(&pool.number).map(Rc::clone);
        local.into_iter().for_each(|local| local.give_up());
        self.recall(pool);
    }

    async fn give_spare(self: Rc<Self>) {
        let mut meter = Meter::start();
        loop {
            tokio::time::sleep(SPARE_INTERVAL).await;
            meter.tell(&self.process.placement, self.id);
            let locals: Vec<_> = self.locals.borrow().values().map(Rc::clone).collect();
            locals.iter().for_each(|local| local.give_spare());
            drop(locals);
            if self.id == 0 {
                catalogue::look(&self);
                watch::look(&self);
                console::look(&self.process);
            }
            self.locals.borrow_mut().retain(|_, local| Rc::strong_count(local) > 1 || !local.is_empty());
        }
    }

    fn listen(self: &Rc<Self>, listener: Arc<Listener>, socket: ListenSocket) {
        let (name, listen) = (listener.params().name.clone(), listener.listen.clone());
        match Acceptor::start(self, listener, socket) {
            Ok(acceptor) => self.acceptors.borrow_mut().push(acceptor),
            Err(error) => tracing::error!(listener = %name, %listen, %error, "the listener cannot accept clients"),
        }
    }

    /// Brings a client to the core that is to serve it.
    pub(crate) fn place(self: &Rc<Self>, place: Place, socket: AcceptedSocket) {
        let cores = &self.process.cores;
        let core = self.process.placement.choose(self.id, |core| cores.load(core));
        let accepted = Accepted { socket, place, load: cores.add_load(core) };
        if core == self.id {
            self.serve(accepted);
        } else if let Err(Message::Client(unsent)) = cores.try_send(core, Message::Client(accepted)) {
            // The other core is so far behind that its inbox is full; this one is not.
            self.serve(unsent);
        }
    }

    fn serve(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { socket, place, load } = accepted;
        let socket = match socket {
            AcceptedSocket::Tcp(socket) => {
                let _no_matter = socket.set_nodelay(true);
                TcpStream::from_std(socket).map(Fresh::Tcp)
            }
            AcceptedSocket::Unix(socket) => UnixStream::from_std(socket).map(Fresh::Unix),
        };
        let Ok(socket) = socket else { return };
        let tether = Rc::new(Tether {
            listener: Arc::clone(&place.listener),
            deadline: self.deadlines.register(),
            is_ending: Cell::new(self.is_ending.get()),
            note: OnceCell::new(),
            is_called: Cell::new(false),
            killed: RefCell::default(),
            cancels: RefCell::default(),
            secret: RefCell::default(),
            waker: RefCell::default(),
            abort: RefCell::default(),
        });
        let slot = self.clients.borrow_mut().insert(Rc::clone(&tether));
        let held =
            Held { core: Rc::clone(self), place, slot, told: Cell::new(None), number: Cell::new(0), _load: load };
        let task = tokio::task::spawn_local(client::serve(held, Rc::clone(&tether), socket));
        *tether.abort.borrow_mut() = Some(task.abort_handle());
    }

    fn cancel(&self, slot: usize, secret: &[u8], heard: mpsc::Sender<()>) {
        let tether = self.clients.borrow().get(slot).map(Rc::clone);
        let Some(tether) = tether else { return };
        let is_right = {
            let known = tether.secret.borrow();
            !known.is_empty() && is_same(&known, secret)
        };
        if is_right {
            tether.cancels.borrow_mut().push(heard);
            tether.is_called.set(true);
            tether.wake();
        }
    }

    fn kill(&self, database: &str, whom: &Arc<Whom>) {
        for (_, tether) in self.clients.borrow().iter() {
            let is_meant = tether.note.get().is_some_and(|note| {
                note.database == database && !matches!(**whom, Whom::Client(number) if number != note.number)
            });
            if is_meant {
                tether.killed.borrow_mut().add(whom);
                tether.is_called.set(true);
                tether.wake();
            }
        }
    }

    fn retire(&self, listener: Option<&Arc<Listener>>, done: &mpsc::Sender<()>) {
        let concerned = |other: &Arc<Listener>| listener.is_none_or(|listener| Arc::ptr_eq(listener, other));
        if listener.is_none() {
            self.is_ending.set(true);
        }
        let acceptors = std::mem::take(&mut *self.acceptors.borrow_mut());
        for acceptor in acceptors {
            if concerned(acceptor.listener()) {
                acceptor.stop(done.clone());
            } else {
                self.acceptors.borrow_mut().push(acceptor);
            }
        }
        for (_, tether) in self.clients.borrow().iter().filter(|(_, tether)| concerned(&tether.listener)) {
            tether.is_ending.set(true);
            tether.wake();
        }
    }

    /// Has every client look whether its database is still served.
    fn look_again(&self) {
        self.plans.forget_gone();
        self.clients.borrow().iter().for_each(|(_, tether)| tether.wake());
    }

    fn cut(&self) {
        // Aborting only marks the task; it is dropped, and its entry removed, once this one yields.
        for (_, tether) in self.clients.borrow().iter() {
            if let Some(task) = &*tether.abort.borrow() {
                task.abort();
            }
        }
    }
}

/// Whether two secrets are the same, in a time that depends on their lengths alone.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let difference = known.iter().zip(given).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    known.len() == given.len() && difference == 0
}

/// A client's entry in its core's table, its place and its weight; given back when dropped.
pub(crate) struct Held {
    pub(crate) core: Rc<Core>,
    pub(crate) place: Place,
    slot: usize,
    /// The number of a server's process that the client was told.
    told: Cell<Option<i32>>,
    /// The number that the client was told, whosever it is.
    number: Cell<i32>,
    _load: Load<Message>,
}

/// Bits of an invented process number that are the client's slot on its core. Those above are the core, counted from one: with that, such a
/// number is larger than any process of Linux has, whose numbers have 22 bits. So it is no stranger's, whatever is done with it.
const SLOT_BITS: u32 = 22;

impl Held {
    /// The number that the client is told for that of its server's process: that of its own backend, or one by which it is found itself.
    pub(crate) fn tell(&self, pid: Option<i32>) -> i32 {
        if let Some(pid) = pid.filter(|pid| (1..1 << SLOT_BITS).contains(pid)) {
            self.core.process.tell(pid, (self.core.id, self.slot));
            self.told.set(Some(pid));
            self.number.set(pid);
            return pid;
        }
        // Neither is zero, which is nobody's.
        self.number.set(((self.core.id as i32 + 1) << SLOT_BITS) | (self.slot as i32 + 1));
        self.number.get()
    }

    /// The number that the client was told.
    pub(crate) fn number(&self) -> i32 {
        self.number.get()
    }
}

/// Has the clients of a process number told that what they do is to be cancelled, if they know the secret. `heard` is dropped when the servers have
/// heard of it.
pub(crate) fn send_cancel(process: &Process, pid: i32, secret: &[u8], heard: &mpsc::Sender<()>) {
    let found = match (pid >> SLOT_BITS, pid & ((1 << SLOT_BITS) - 1)) {
        (0, _) => process.told(pid),
        (core @ 1.., slot @ 1..) if core as usize <= process.cores.len() => {
            vec![(core as usize - 1, slot as usize - 1)]
        }
        _ => Vec::new(),
    };
    for (core, slot) in found {
        let message = Message::Cancel { slot, secret: secret.to_vec(), heard: heard.clone() };
        if process.cores.try_send(core, message).is_err() {
            tracing::warn!("a cancel was dropped: its core is too far behind");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(pid) = self.told.get() {
            self.core.process.untell(pid, (self.core.id, self.slot));
        }
        let tether = self.core.clients.borrow_mut().remove(self.slot);
        if let Some(note) = tether.note.get() {
            self.core.process.clients.leave(note.number);
        }
    }
}

/// A moment from now on, for a deadline.
pub(crate) fn after(duration: Duration) -> Instant {
    Instant::now() + duration
}
