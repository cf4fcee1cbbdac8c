//! Datagrams of a listener for UDP: what a client sends goes to one endpoint, and what that answers goes back from the
//! socket that the client sent to.
//!
//! A client's address has a session, with a socket of its own towards the endpoint; it ends when nothing has come either
//! way for the idle time. Every core has a socket for each address, and the system gives what a client sends to the same
//! one of them, so that a session is its core's alone. Nothing here waits: a datagram that finds no room is dropped, as
//! networks do, and counted.
//!
//! A session is bound to its endpoint for as long as that may be used. Once its health says otherwise, or it is gone, or
//! its machine says that nobody listens there, the next datagram begins another session.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balance::health::{FailureKind as HealthFailure, Outcome};
use balance::{Availability, Request as Pick};
use net::Deadline;
use rustix::net::SendFlags;
use telemetry::{FailureKind, RefusedReason};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use vocab::ErrorCode;

use super::attempt::Attempt;
use super::core::Core;
use super::head;
use super::passage::{InFlight, Passage};
use super::tunnel::Way;
use super::upstream::Place;
use crate::clients::ClientPlace;
use crate::state::{self, ListenerState};

/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams taken in one go, so that other tasks of the core have their turn.
const TURN: usize = 64;

/// Pause after an error of the listening socket that would only be repeated.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket's task and its sessions, which end when this is dropped.
pub(crate) struct Receiver {
    shared: Rc<Shared>,
    task: AbortHandle,
}

/// What a listening socket and its sessions share.
struct Shared {
    core: Rc<Core>,
    listener: Arc<ListenerState>,
    socket: UdpSocket,
    sessions: RefCell<HashMap<SocketAddr, Rc<Session>>>,
    /// Where datagrams stand between being received and being sent, which is at once.
    datagram: RefCell<Box<[u8]>>,
}

/// A client's session.
struct Session {
    client: SocketAddr,
    upstream: UdpSocket,
    deadline: Deadline,
    idle: Duration,
    /// The snapshot by which its endpoint may be used.
    generation: Cell<u64>,
    heard: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
    in_flight: InFlight,
    passage: Passage,
    _places: (state::Place, Option<ClientPlace>, Place),
}

impl Receiver {
    /// Whose datagrams it receives.
    pub(crate) fn listener(&self) -> &Arc<ListenerState> {
        &self.shared.listener
    }

    /// Where its socket listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.shared.socket.local_addr().ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
        let sessions: Vec<_> = self.shared.sessions.borrow_mut().drain().collect();
        for (_, session) in sessions {
            if let Some(task) = session.task.take() {
                task.abort();
            }
        }
    }
}

/// Starts to receive.
///
/// # Errors
/// When the socket cannot be watched.
pub(crate) fn start(core: &Rc<Core>, listener: Arc<ListenerState>, socket: StdUdpSocket) -> io::Result<Receiver> {
    let shared = Rc::new(Shared {
        core: Rc::clone(core),
        listener,
        socket: UdpSocket::from_std(socket)?,
        sessions: RefCell::default(),
        datagram: RefCell::new(vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice()),
    });
    let task = tokio::task::spawn_local(Rc::clone(&shared).receive()).abort_handle();
    Ok(Receiver { shared, task })
}

impl Shared {
    async fn receive(self: Rc<Self>) {
        loop {
            if self.socket.readable().await.is_err() {
                tokio::time::sleep(ERROR_PAUSE).await;
            }
            for _ in 0..TURN {
                let received = self.socket.try_recv_from(&mut self.datagram.borrow_mut());
                match received {
                    Ok((len, client)) => self.pass(client, len),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes on the datagram that was received.
    fn pass(self: &Rc<Self>, client: SocketAddr, len: usize) {
        let known = self.sessions.borrow().get(&client).map(Rc::clone);
        let session = match known {
            Some(session) if self.may_go_on(&session) => session,
            Some(session) => {
                self.end(&session);
                let Some(session) = self.begin(client) else { return };
                session
            }
            None => {
                let Some(session) = self.begin(client) else { return };
                session
            }
        };
        // Past the runtime, which has not heard yet that a socket of a moment ago may be written to.
        let sent = rustix::net::send(&session.upstream, &self.datagram.borrow()[..len], SendFlags::DONTWAIT);
        match sent {
            Ok(_) => session.moved(Way::Up, len),
            Err(error) => self.failed(&session, &error.into()),
        }
    }

    /// Whether a session's endpoint may still be used.
    fn may_go_on(&self, session: &Session) -> bool {
        let local = self.core.local();
        if session.generation.get() == local.generation() {
            return true;
        }
        session.generation.set(local.generation());
        let Some(view) = local.listener(&self.listener) else { return false };
        let Some(route) = view.streams.routes().first() else { return false };
        let service = &local.service(route.service).view;
        let position = service.plan.position(session.in_flight.endpoint().id);
        Arc::ptr_eq(&service.state, session.in_flight.service())
            && position
                .is_some_and(|at| service.plan.candidates()[usize::from(at)].availability != Availability::Unavailable)
    }

    /// Begins a session, if there is room for it and an endpoint.
    fn begin(self: &Rc<Self>, client: SocketAddr) -> Option<Rc<Session>> {
        let (core, metrics) = (&self.core, &self.listener.metrics);
        let local = core.local();
        let view = local.listener(&self.listener)?;
        let refused = |reason| metrics.refused(core.id, reason);
        let Some(place) = self.listener.admit() else {
            refused(RefusedReason::ConnectionsMax);
            return None;
        };
        let of_client = match view.params.connections_per_client_max {
            None => None,
            Some(max) => match ClientPlace::take(&self.listener, client.ip(), max.get()) {
                None => {
                    refused(RefusedReason::ClientConnectionsMax);
                    return None;
                }
                taken => taken,
            },
        };
        let service = local.service(view.streams.routes().first()?.service);
        metrics.opened(core.id);
        let passage = Passage::begin(core, &self.listener, client.ip(), "UDP");
        passage.found.borrow_mut().service = Some(Arc::clone(&service.view.state));
        service.view.state.requests.core(core.id).increment();
        let (upstream, in_flight, at_endpoint) = match self.reach(service, &passage) {
            Ok(reached) => reached,
            Err(code) => {
                passage.failed(code);
                metrics.closed(core.id);
                return None;
            }
        };
        let session = Rc::new(Session {
            client,
            upstream,
            deadline: core.deadlines.register(),
            idle: view.params.idle_timeout,
            generation: Cell::new(local.generation()),
            heard: Cell::new(false),
            task: RefCell::default(),
            in_flight,
            passage,
            _places: (place, of_client, at_endpoint),
        });
        let task = tokio::task::spawn_local(Rc::clone(self).answer(Rc::clone(&session)));
        *session.task.borrow_mut() = Some(task.abort_handle());
        self.sessions.borrow_mut().insert(client, Rc::clone(&session));
        Some(session)
    }

    /// A socket towards an endpoint of the service.
    fn reach(
        &self,
        service: &Rc<super::local::LocalService>,
        passage: &Passage,
    ) -> Result<(UdpSocket, InFlight, Place), ErrorCode> {
        let (core, view) = (&self.core, &service.view);
        let (key, mut tried) = (head::address_key(passage.client()), Vec::new());
        loop {
            let pick = Pick { key, tried: &tried };
            let picked = Attempt::pick(core, service, pick, None, Instant::now());
            let full = |code| if tried.is_empty() { code } else { ErrorCode::Overloaded };
            let attempt = picked.map_err(|why| full(why.count(core, &view.state)))?;
            let endpoint = attempt.endpoint();
            {
                let mut found = passage.found.borrow_mut();
                found.tries += 1;
                found.upstream = Some(endpoint.state.address);
            }
            let Some(place) = Place::take(endpoint, &view.params.pool) else {
                tried.push(attempt.index);
                continue;
            };
            let socket = towards(endpoint.state.address).map_err(|_| ErrorCode::Overloaded)?;
            endpoint.state.metrics.streamed(core.id);
            return Ok((socket, InFlight::begin(core, &view.state, &endpoint.state), place));
        }
    }

    /// Passes back what the endpoint answers, until the session ends.
    async fn answer(self: Rc<Self>, session: Rc<Session>) {
        session.deadline.set(Instant::now() + session.idle);
        loop {
            let Ok(readable) = session.deadline.guard(session.upstream.readable()).await else { break };
            let received = readable.and_then(|()| session.upstream.try_recv(&mut self.datagram.borrow_mut()));
            match received {
                Ok(len) => self.back(&session, len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return self.failed(&session, &error),
            }
        }
        self.end(&session);
    }

    fn back(&self, session: &Session, len: usize) {
        if !session.heard.replace(true) {
            session.in_flight.report(Outcome::Success);
        }
        let sent = self.socket.try_send_to(&self.datagram.borrow()[..len], session.client);
        match sent {
            Ok(_) => session.moved(Way::Down, len),
            // The client is out of reach, or sends are slower than answers.
            Err(_) => self.listener.metrics.error(self.core.id, ErrorCode::Overloaded),
        }
    }

    /// A socket towards an endpoint has failed. Only what says that nobody listens is held against the endpoint.
    fn failed(&self, session: &Rc<Session>, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock => return self.listener.metrics.error(self.core.id, ErrorCode::Overloaded),
            io::ErrorKind::ConnectionRefused => {
                session.in_flight.endpoint().metrics.failure(self.core.id, FailureKind::Connect);
                session.in_flight.report(Outcome::Failure(HealthFailure::Connection));
                session.passage.failed(ErrorCode::UpstreamConnect);
            }
            _ => session.passage.failed(ErrorCode::Overloaded),
        }
        self.end(session);
    }

    /// Ends a session, unless it has ended.
    fn end(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.get(&session.client).is_some_and(|known| Rc::ptr_eq(known, session)) {
            sessions.remove(&session.client);
        }
        if let Some(task) = session.task.take() {
            task.abort();
        }
    }
}

impl Session {
    fn moved(&self, way: Way, bytes: usize) {
        self.passage.moved(way, bytes);
        self.deadline.set(Instant::now() + self.idle);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.passage.closed();
    }
}

/// A socket that speaks with one address alone.
fn towards(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = StdUdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
