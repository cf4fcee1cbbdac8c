use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;

use crate::message::{self, Malformed, Request};
use crate::script::{Script, Step};

/// How often a waiting connection looks whether the upstream was told to stop.
const POLL: Duration = Duration::from_millis(20);

/// A server that records exactly the bytes that arrive on each connection and answers from a [`Script`].
#[derive(Debug)]
pub struct RawUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    script: Script,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    id: u64,
    /// A second handle, by which the connection can be ended from outside; its own thread takes it to reset.
    stream: Option<TcpStream>,
    received: Vec<u8>,
    /// Whether the peer has ended it, one way or another.
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a connection's thread panicked")
    }
}

impl RawUpstream {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start(script: Script) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0), script)
    }

    /// Starts at an address; port 0 asks the system for a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start_at(address: impl Into<SocketAddr>, script: Script) -> Result<Self> {
        let listener = TcpListener::bind(address.into()).context("upstream: bind")?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State { script, connections: Vec::new() });
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), state });
        let accepting = Arc::clone(&shared);
        let acceptor = Some(std::thread::spawn(move || accept(&listener, &accepting)));
        Ok(Self { address, shared, acceptor })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the script for connections that are accepted from now on, and for those that repeat theirs.
    pub fn set_script(&self, script: Script) {
        self.shared.state().script = script;
    }

    /// The bytes received since the start or the last [`clear`](Self::clear), one entry per connection in order of
    /// acceptance, connections without bytes included.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.shared.state().connections.iter().map(|connection| connection.received.clone()).collect()
    }

    /// Whether there were connections and their peers have ended them all, as far as the script has received.
    pub fn all_ended(&self) -> bool {
        let state = self.shared.state();
        !state.connections.is_empty() && state.connections.iter().all(|connection| connection.ended)
    }

    /// The requests received, read strictly, in order of connection and arrival. A request that has not fully arrived
    /// is left out.
    ///
    /// # Errors
    /// [`Malformed`] when bytes of some connection are not a well-formed request.
    pub fn requests(&self) -> Result<Vec<Request>, Malformed> {
        let mut all = Vec::new();
        for bytes in self.received() {
            all.extend(message::requests(&bytes)?.0);
        }
        Ok(all)
    }

    /// Ends every connection and forgets what was received.
    pub fn clear(&self) {
        for connection in self.shared.state().connections.drain(..) {
            let _ = connection.stream.map(|stream| stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // A connection of its own wakes the acceptor, which then sees that it has to stop.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        self.clear();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (id, stream) in (0..).zip(listener.incoming()) {
        if shared.stopping.load(Ordering::Relaxed) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let Ok(own) = stream.try_clone() else { continue };
        shared.state().connections.push(Connection { id, stream: Some(stream), received: Vec::new(), ended: false });
        let shared = Arc::clone(shared);
        threads.retain(|thread| !thread.is_finished());
        threads.push(std::thread::spawn(move || {
            Player { stream: own, id, shared, pending: Vec::new(), target: String::new() }.play();
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Plays the script on one connection.
struct Player {
    stream: TcpStream,
    id: u64,
    shared: Arc<Shared>,
    /// Received and not yet taken by an awaiting step.
    pending: Vec<u8>,
    /// Target of the request awaited last; empty when it was malformed.
    target: String,
}

impl Player {
    fn play(mut self) {
        let _ = self.stream.set_nodelay(true);
        let _ = self.stream.set_read_timeout(Some(POLL));
        'again: loop {
            let script = self.shared.state().script.clone();
            for step in script.steps() {
                let goes_on = match step {
                    Step::AwaitHead => self.await_head(),
                    Step::AwaitRequest => self.await_request(),
                    Step::AwaitBytes(count) => self.await_bytes(*count),
                    Step::Send(bytes) => self.stream.write_all(bytes).is_ok(),
                    Step::SendFor(target, bytes) => *target != self.target || self.stream.write_all(bytes).is_ok(),
                    Step::Pause(time) => {
                        std::thread::sleep(*time);
                        true
                    }
                    Step::Finish => self.stream.shutdown(Shutdown::Write).is_ok(),
                    Step::Drain => {
                        while self.receive() {}
                        true
                    }
                    Step::Close => break 'again,
                    Step::Reset => {
                        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                        // Only the last handle's closing is what the peer sees.
                        self.with_own(|connection| connection.stream = None);
                        return;
                    }
                    Step::Repeat => continue 'again,
                };
                if !goes_on {
                    break 'again;
                }
            }
            break;
        }
        // The record holds a second handle, so dropping this one alone would not close the connection.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn await_head(&mut self) -> bool {
        loop {
            if let Some(end) = self.pending.windows(4).position(|window| window == b"\r\n\r\n") {
                self.pending.drain(..end + 4);
                return true;
            }
            if !self.receive() {
                return false;
            }
        }
    }

    fn await_request(&mut self) -> bool {
        loop {
            match message::request(&self.pending) {
                Ok(message::Read::Whole(request, len)) => {
                    self.pending.drain(..len);
                    self.target = request.target;
                    return true;
                }
                Err(_) => {
                    self.pending.clear();
                    self.target.clear();
                    return true;
                }
                Ok(message::Read::Partial) if !self.receive() => return false,
                Ok(message::Read::Partial) => {}
            }
        }
    }

    fn await_bytes(&mut self, count: usize) -> bool {
        while self.pending.len() < count {
            if !self.receive() {
                return false;
            }
        }
        self.pending.drain(..count);
        true
    }

    /// Receives and records; false when the connection has ended or the upstream stops.
    fn receive(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            if self.shared.stopping.load(Ordering::Relaxed) {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.with_own(|connection| connection.ended = true);
                    return false;
                }
                Ok(count) => {
                    self.pending.extend_from_slice(&buffer[..count]);
                    self.record(&buffer[..count]);
                    return true;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => {
                    self.with_own(|connection| connection.ended = true);
                    return false;
                }
            }
        }
    }

    fn record(&self, bytes: &[u8]) {
        self.with_own(|connection| connection.received.extend_from_slice(bytes));
    }

    /// Nothing happens when the connection was cleared from the record meanwhile.
    fn with_own(&self, change: impl FnOnce(&mut Connection)) {
        let mut state = self.shared.state();
        if let Some(connection) = state.connections.iter_mut().find(|connection| connection.id == self.id) {
            change(connection);
        }
    }
}
