//! A worker core's part: it accepts connections, serves those that are brought to it, and ends them when it is told to.
//!
//! A listening socket lives on one core, which brings each connection to the core that has the fewest. From there on it stays there.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::workers::{Cores, Inbox, Load};
use net::{Buffers, Deadline, Deadlines};
use slab::Slab;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::named::{NamedCache, Seat};
use crate::params::Protocol;
use crate::{connection, http};

/// Size of the buffers that commands are read into: a pipeline of a hundred short ones, or one with a value of some size.
const BUFFER_BYTES: usize = 16 * 1024;

/// Memory for answers that a core keeps for whoever has some next.
const OUTBOXES_KEPT_MAX: usize = 64;

/// Pause after an error that accepting again at once would only repeat.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections taken from the queue of a socket that ends: as many as the kernel holds.
const QUEUE_MAX: usize = 4096;

/// How long a connection that has just been made is waited for when everything ends: a command may be on its way.
pub(crate) const FRESH_GRACE: Duration = Duration::from_secs(1);

/// What a core is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this connection, accepted on another core.
    Connection(Accepted),
    /// Accept connections.
    Listen(Arc<Listener>, StdListener),
    /// Accept no more on a listener (`None` for all), and close its connections as soon as no command is under way. The sender is
    /// dropped when nothing more is accepted.
    Retire(Option<Arc<Listener>>, Waiting, mpsc::Sender<()>),
    /// Cut what is still open, and end.
    End,
}

/// What becomes of connections that the kernel has made, and nobody has accepted yet, when a listener goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// They are accepted, and end as the others do: their clients must not find them reset.
    Accepted,
    /// Somebody else goes on with the socket, and they are theirs: what these asked here would be done to entries that are gone.
    Left,
}

/// A socket that a cache is reached by.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) cache: Arc<NamedCache>,
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    /// Set before it is retired, so that a connection which reaches its core behind that ends as well.
    pub(crate) is_retired: AtomicBool,
}

/// A connection on its way to the core that serves it.
#[derive(Debug)]
pub(crate) struct Accepted {
    socket: StdStream,
    seat: Seat,
    listener: Arc<Listener>,
    load: Load<Message>,
}

/// What the tasks of a core share.
pub(crate) struct Core {
    pub(crate) id: usize,
    pub(crate) buffers: Buffers,
    pub(crate) deadlines: Deadlines,
    cores: Cores<Message>,
    memory: RefCell<Vec<Vec<u8>>>,
    connections: RefCell<Slab<Rc<Tether>>>,
    acceptors: RefCell<Vec<Acceptor>>,
    is_ending: Cell<bool>,
}

/// How a connection is told of its end.
pub(crate) struct Tether {
    listener: Arc<Listener>,
    /// When the client is out of time.
    pub(crate) deadline: Deadline,
    /// Whether it waits for a command.
    pub(crate) is_idle: Cell<bool>,
    /// Whether nothing has come on it yet, so that its client cannot know of an end.
    pub(crate) is_fresh: Cell<bool>,
    /// Whether it ends with what is under way.
    pub(crate) is_ending: Cell<bool>,
    /// Tells one of HTTP, whose waiting is not ours.
    pub(crate) told: Notify,
    abort: RefCell<Option<AbortHandle>>,
}

struct Acceptor {
    listener: Arc<Listener>,
    end: Rc<End>,
}

#[derive(Default)]
struct End {
    told: Notify,
    /// Whether those that wait are accepted, and what is dropped with the last of them.
    done: RefCell<Option<(Waiting, mpsc::Sender<()>)>>,
}

/// Runs a core's part until it is told to end.
pub(crate) async fn main(mut inbox: Inbox<Message>, cores: Cores<Message>) {
    let core = Rc::new(Core {
        id: inbox.core,
        buffers: Buffers::new(BUFFER_BYTES),
        deadlines: Deadlines::default(),
        cores,
        memory: RefCell::default(),
        connections: RefCell::default(),
        acceptors: RefCell::default(),
        is_ending: Cell::new(false),
    });
    tokio::task::spawn_local(core.deadlines.clone().scan());
    while let Some(message) = inbox.messages.recv().await {
        match message {
            Message::Connection(accepted) => core.serve(accepted),
            Message::Listen(listener, socket) => core.listen(listener, socket),
            Message::Retire(listener, waiting, done) => core.retire(listener.as_ref(), waiting, &done),
            Message::End => break,
        }
    }
    core.cut();
}

impl Core {
    /// Memory for answers.
    pub(crate) fn take_memory(&self) -> Vec<u8> {
        self.memory.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives it back.
    pub(crate) fn keep_memory(&self, memory: Vec<u8>) {
        let mut kept = self.memory.borrow_mut();
        if kept.len() < OUTBOXES_KEPT_MAX && memory.capacity() > 0 {
            kept.push(memory);
        }
    }

    fn listen(self: &Rc<Self>, listener: Arc<Listener>, socket: StdListener) {
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                let (cache, address) = (&listener.cache.name, listener.address);
                tracing::error!(%cache, %address, %error, "the cache cannot accept connections");
                return;
            }
        };
        let end = Rc::new(End::default());
        tokio::task::spawn_local(accept(Rc::clone(self), Arc::clone(&listener), socket, Rc::clone(&end)));
        self.acceptors.borrow_mut().push(Acceptor { listener, end });
    }

    /// Brings a connection to the core with the fewest.
    fn place(self: &Rc<Self>, listener: &Arc<Listener>, socket: StdStream) {
        let cells = listener.cache.metrics.core(self.id);
        let Some(seat) = listener.cache.admit() else {
            cells.refused.increment();
            if listener.protocol == Protocol::Resp {
                // By these words clients know, and people. They fit into any socket's buffer.
                let _gone = (&socket).write(b"-ERR max number of clients reached\r\n");
            }
            return;
        };
        cells.accepted.increment();
        let core = self.cores.least_loaded(self.id);
        let load = self.cores.add_load(core);
        let accepted = Accepted { socket, seat, listener: Arc::clone(listener), load };
        if core == self.id {
            self.serve(accepted);
        } else if let Err(Message::Connection(unsent)) = self.cores.try_send(core, Message::Connection(accepted)) {
            // The other core is so far behind that its inbox is full; this one is not.
            self.serve(unsent);
        }
    }

    fn serve(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { socket, seat, listener, load } = accepted;
        let _no_matter = socket.set_nodelay(true);
        let Ok(socket) = TcpStream::from_std(socket) else { return };
        let protocol = listener.protocol;
        let is_ending = self.is_ending.get() || listener.is_retired.load(Ordering::Relaxed);
        let tether = Rc::new(Tether {
            listener,
            deadline: self.deadlines.register(),
            is_idle: Cell::new(false),
            is_fresh: Cell::new(true),
            is_ending: Cell::new(is_ending),
            told: Notify::new(),
            abort: RefCell::default(),
        });
        let key = self.connections.borrow_mut().insert(Rc::clone(&tether));
        let held = Held { core: Rc::clone(self), key, seat, _load: load };
        held.cells().open.add(1);
        let task = match protocol {
            Protocol::Resp => tokio::task::spawn_local(connection::serve(held, Rc::clone(&tether), socket)),
            Protocol::Http => tokio::task::spawn_local(http::serve(held, Rc::clone(&tether), socket)),
        };
        *tether.abort.borrow_mut() = Some(task.abort_handle());
    }

    fn retire(&self, listener: Option<&Arc<Listener>>, waiting: Waiting, done: &mpsc::Sender<()>) {
        let concerned = |other: &Arc<Listener>| listener.is_none_or(|listener| Arc::ptr_eq(listener, other));
        if listener.is_none() {
            self.is_ending.set(true);
        }
        self.acceptors.borrow_mut().retain(|acceptor| {
            if concerned(&acceptor.listener) {
                *acceptor.end.done.borrow_mut() = Some((waiting, done.clone()));
                acceptor.end.told.notify_one();
            }
            !concerned(&acceptor.listener)
        });
        let now = Instant::now();
        for (_, tether) in self.connections.borrow().iter().filter(|(_, tether)| concerned(&tether.listener)) {
            tether.is_ending.set(true);
            tether.told.notify_one();
            if tether.is_idle.get() {
                tether.deadline.set(if tether.is_fresh.get() { now + FRESH_GRACE } else { now });
            }
        }
    }

    fn cut(&self) {
        // Aborting only marks the task; it is dropped, and its entry removed, once this one yields.
        for (_, tether) in self.connections.borrow().iter() {
            if let Some(task) = &*tether.abort.borrow() {
                task.abort();
            }
        }
    }
}

/// A connection's entry in its core's table, its place and its weight; given back when dropped.
pub(crate) struct Held {
    pub(crate) core: Rc<Core>,
    pub(crate) seat: Seat,
    key: usize,
    _load: Load<Message>,
}

impl Held {
    /// What its core counts for its cache.
    pub(crate) fn cells(&self) -> &crate::metrics::Cells {
        self.seat.cache.metrics.core(self.core.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.core.connections.borrow_mut().remove(self.key);
        self.cells().open.add(-1);
    }
}

async fn accept(core: Rc<Core>, listener: Arc<Listener>, socket: TcpListener, end: Rc<End>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.told.notified() => break,
            accepted = socket.accept() => accepted,
        };
        // Only this core's event queue knows the socket yet, and that forgets it here.
        match accepted.and_then(|(socket, _)| socket.into_std()) {
            Ok(socket) => core.place(&listener, socket),
            Err(error) => {
                // Mostly descriptors have run out; what is of one connection alone does not wait for long either.
                listener.cache.metrics.core(core.id).refused.increment();
                tracing::warn!(cache = %listener.cache.name, %error, "a connection was not accepted");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
    let is_left = end.done.borrow().as_ref().is_some_and(|(waiting, _)| *waiting == Waiting::Left);
    if !is_left && let Ok(socket) = socket.into_std() {
        drain(&core, &listener, &socket);
    }
}

/// Accepts what waits, asking the kernel itself: the event queue may not have heard of it yet.
fn drain(core: &Rc<Core>, listener: &Arc<Listener>, socket: &StdListener) {
    for _ in 0..QUEUE_MAX {
        let Ok((accepted, _)) = socket.accept() else { return };
        if accepted.set_nonblocking(true).is_ok() {
            core.place(listener, accepted);
        }
    }
}
