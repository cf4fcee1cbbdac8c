//! Accepting connections and spreading them over the cores.
//!
//! A listening socket lives on one core, which hands every connection to the core that serves the fewest. Several
//! sockets with `SO_REUSEPORT` would spare the hand-over but spread connections by a hash of their addresses: with few
//! and long connections, as behind another balancer, some cores stay idle while others are busy, and connections that
//! wait in the queue of a socket die when it is closed. `docs/architecture/accepting.md` has the measurement.
//!
//! When the process is out of descriptors, a connection would wait in the kernel's queue and wake its socket for ever.
//! A descriptor kept in reserve is given up for a moment to accept and close it, so that the client hears at once.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::net::SocketFlags;
use telemetry::RefusedReason;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::core::{Accepted, Core, Message};
use crate::state::ListenerState;

/// Shortest time between two warnings about connections that were refused.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Pause after an error that accepting again at once would only repeat.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Connections taken from the queue of a socket that ends: as many as the kernel holds. Another process may accept on the
/// same socket, so that the queue need not have an end.
const QUEUE_MAX: usize = 4096;

/// A listening socket's task.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Arc<ListenerState>,
    address: Option<SocketAddr>,
    end: Rc<End>,
}

/// The end of accepting.
#[derive(Debug, Default)]
struct End {
    told: Notify,
    /// Dropped with the last of what waited.
    done: RefCell<Option<mpsc::Sender<()>>>,
}

impl Acceptor {
    /// Whose connections it accepts.
    pub(crate) fn listener(&self) -> &Arc<ListenerState> {
        &self.listener
    }

    /// Where its socket listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Accepts what waits already, and then no more; `done` is dropped then.
    pub(crate) fn stop(self, done: Option<mpsc::Sender<()>>) {
        *self.end.done.borrow_mut() = done;
        self.end.told.notify_one();
    }
}

struct Accepting {
    core: Rc<Core>,
    listener: Arc<ListenerState>,
    socket: TcpListener,
    /// Given up to accept one connection when descriptors have run out.
    reserve: Option<File>,
    warned: Option<Instant>,
    refused_since_warning: u64,
}

/// Starts to accept.
///
/// # Errors
/// When the socket cannot be watched.
pub(crate) fn start(core: &Rc<Core>, listener: Arc<ListenerState>, socket: StdListener) -> io::Result<Acceptor> {
    let end = Rc::new(End::default());
    let address = socket.local_addr().ok();
    let accepting = Accepting {
        core: Rc::clone(core),
        listener: Arc::clone(&listener),
        socket: TcpListener::from_std(socket)?,
        reserve: File::open("/dev/null").ok(),
        warned: None,
        refused_since_warning: 0,
    };
    tokio::task::spawn_local(accepting.run(Rc::clone(&end)));
    Ok(Acceptor { listener, address, end })
}

impl Accepting {
    async fn run(mut self, end: Rc<End>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = end.told.notified() => break,
            };
            match accepted {
                Ok((socket, peer)) => self.place(socket, peer),
                // The client has gone before it was accepted.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    if is_out_of_resources(&error) {
                        self.shed();
                    }
                    self.refused(RefusedReason::ResourceLimit, &error);
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
        // Clients whose connections the kernel has made already must not find them reset.
        for _ in 0..QUEUE_MAX {
            // Unconstrained, as a task that has had its share of the runtime would take the queue for empty.
            let next = poll_fn(|cx| Poll::Ready(accepted_now(&self.socket, cx)));
            let Some(Ok((socket, peer))) = tokio::task::unconstrained(next).await else { return };
            self.place(socket, peer);
        }
    }

    /// Brings a connection to the core with the fewest.
    fn place(&mut self, socket: TcpStream, peer: SocketAddr) {
        let Some(place) = self.listener.admit() else {
            self.refused(RefusedReason::ConnectionsMax, &"connections_max is reached");
            return;
        };
        let cores = &self.core.cores;
        let core = cores.least_loaded(self.core.id);
        let load = cores.add_load(core);
        if core == self.core.id {
            self.core.serve(Accepted { socket, peer, place, load });
            return;
        }
        // Only this core's event queue knows the socket yet, and that forgets it here.
        let Ok(socket) = socket.into_std() else { return };
        let accepted = Accepted { socket, peer, place, load };
        if let Err(Message::Connection(unsent)) = cores.try_send(core, Message::Connection(accepted)) {
            // The other core is so far behind that its inbox is full; this one is not.
            self.core.serve_std(unsent);
        }
    }

    /// Accepts a connection by the descriptor in reserve and closes it.
    fn shed(&mut self) {
        if self.reserve.take().is_some() {
            drop(rustix::net::acceptfrom_with(&self.socket, SocketFlags::CLOEXEC));
        }
        self.reserve = File::open("/dev/null").ok();
    }

    fn refused(&mut self, reason: RefusedReason, cause: &dyn std::fmt::Display) {
        self.listener.metrics.refused(self.core.id, reason);
        self.refused_since_warning += 1;
        if self.warned.is_some_and(|warned| warned.elapsed() < WARN_INTERVAL) {
            return;
        }
        tracing::warn!(
            listener = %self.listener.name,
            reason = reason.as_str(),
            refused = self.refused_since_warning,
            %cause,
            "connections refused"
        );
        self.warned = Some(Instant::now());
        self.refused_since_warning = 0;
    }
}

/// What waits to be accepted, if anything does.
fn accepted_now(socket: &TcpListener, cx: &mut Context<'_>) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    match socket.poll_accept(cx) {
        Poll::Ready(accepted) => Some(accepted),
        Poll::Pending => None,
    }
}

fn is_out_of_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Errors that belong to the connection and say nothing about the socket: accept(2).
fn is_of_connection(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
}
