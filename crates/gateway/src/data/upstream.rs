//! Connections to endpoints, and the idle ones that a core keeps.
//!
//! The connection used last is taken first, so that in quiet times few are kept warm and the rest time out. A kept
//! connection that has become readable is dead or out of step, since nothing was asked of it: it is dropped without
//! being used. An endpoint that closes just as a request is sent is met by a free retry, see [`super::retry`].

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::io::{Stalled, Wait};
use super::local::LocalEndpoint;
use crate::params::PoolParams;

/// A core's idle connections to an endpoint, the latest last.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections(RefCell<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Counted,
    since: Instant,
}

/// A connection that is counted at its endpoint while it is open.
#[derive(Debug)]
struct Counted {
    stream: TcpStream,
    endpoint: std::sync::Arc<crate::state::EndpointState>,
}

/// A connection that carries a request.
#[derive(Debug)]
pub(crate) struct Upstream {
    connection: Counted,
    /// Whether it has carried a request before.
    pub(crate) reused: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// The endpoint refused or is out of reach.
    Refused(io::Error),
    /// The endpoint did not accept in time.
    TimedOut,
    /// This machine is out of descriptors, ports or memory: not the endpoint's fault.
    Exhausted(io::Error),
    /// The endpoint has as many connections as it may.
    Full,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl IdleConnections {
    fn take(&self, core: usize, idle_timeout: Duration, now: Instant) -> Option<Counted> {
        let mut idle = self.0.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            connection.endpoint.idle.core(core).add(-1);
            if now.saturating_duration_since(since) < idle_timeout && is_silent(&connection.stream) {
                return Some(connection);
            }
        }
        None
    }

    /// Closes what has been idle for too long or was closed by the endpoint.
    pub(crate) fn sweep(&self, core: usize, idle_timeout: Duration) {
        let now = Instant::now();
        self.0.borrow_mut().retain(|idle| {
            let keep = now.saturating_duration_since(idle.since) < idle_timeout && is_silent(&idle.connection.stream);
            if !keep {
                idle.connection.endpoint.idle.core(core).add(-1);
            }
            keep
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self, core: usize) {
        for idle in self.0.take() {
            idle.connection.endpoint.idle.core(core).add(-1);
        }
    }
}

/// Whether nothing has come on a connection since its last response. Asks the runtime, and the kernel only if the
/// runtime is not sure: the last read may have taken exactly what there was.
fn is_silent(stream: &TcpStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    if stream.poll_read_ready(&mut cx).is_pending() {
        return true;
    }
    let peeked = stream.try_io(Interest::READABLE, || {
        let mut byte = [0];
        Ok(rustix::net::recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)?)
    });
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Upstream {
    /// A connection to the endpoint: an idle one unless `fresh` is asked for, or a new one. It is `now`.
    pub(crate) async fn to(
        endpoint: &Rc<LocalEndpoint>,
        core: usize,
        pool: &PoolParams,
        fresh: bool,
        now: Instant,
        wait: Wait<'_>,
    ) -> Result<Self, NoConnection> {
        if fresh {
            endpoint.idle.clear(core);
        } else if let Some(connection) = endpoint.idle.take(core, pool.idle_timeout, now) {
            endpoint.state.metrics.reused(core);
            return Ok(Self { connection, reused: true });
        }
        let opened = Opening::begin(endpoint, pool).ok_or(NoConnection::Full)?;
        let mut connecting = std::pin::pin!(TcpStream::connect(endpoint.state.address));
        let stream = match wait.until_ready(|cx| connecting.as_mut().poll(cx)).await {
            Ok(stream) => stream,
            Err(Stalled::TimedOut) => return Err(NoConnection::TimedOut),
            Err(Stalled::Broken(error)) if is_exhaustion(&error) => return Err(NoConnection::Exhausted(error)),
            Err(Stalled::Broken(error)) => return Err(NoConnection::Refused(error)),
        };
        // Without it small messages wait for an acknowledgement; a socket that refuses works all the same.
        let _slower = stream.set_nodelay(true);
        endpoint.state.metrics.connected(core);
        Ok(Self { connection: opened.complete(stream), reused: false })
    }

    /// The socket.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.connection.stream
    }

    /// Keeps the connection, at `now`, for another request.
    pub(crate) fn keep(self, endpoint: &LocalEndpoint, core: usize, pool: &PoolParams, now: Instant) {
        let mut idle = endpoint.idle.0.borrow_mut();
        if !endpoint.retired.get() && idle.len() < pool.idle_max as usize {
            endpoint.state.idle.core(core).add(1);
            idle.push(Idle { connection: self.connection, since: now });
        }
    }
}

/// A connection that is counted but not open yet.
struct Opening(Option<std::sync::Arc<crate::state::EndpointState>>);

impl Opening {
    fn begin(endpoint: &LocalEndpoint, pool: &PoolParams) -> Option<Self> {
        let open = &endpoint.state.connections;
        if open.fetch_add(1, Ordering::Relaxed) < pool.connections_max.get() {
            return Some(Self(Some(std::sync::Arc::clone(&endpoint.state))));
        }
        open.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn complete(mut self, stream: TcpStream) -> Counted {
        let endpoint = self.0.take().expect("completed once");
        Counted { stream, endpoint }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.take() {
            endpoint.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL))
}
