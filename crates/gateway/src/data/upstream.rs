//! Connections to endpoints, and the idle ones that a core keeps.
//!
//! The connection used last is taken first, so that in quiet times few are kept warm and the rest time out. A kept
//! connection that has become readable is dead or out of step, since nothing was asked of it: it is dropped without
//! being used. An endpoint that closes just as a request is sent is met by a free retry, see [`super::retry`].

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use net::Stream;
use net::tls::{ClientTls, ServerName};
use preface::proxy::{self, Addresses};
use tokio::net::TcpStream;

use super::io::{Stalled, Wait};
use super::local::LocalEndpoint;
use crate::params::PoolParams;
use crate::state::EndpointState;

/// A core's idle connections to an endpoint, the latest last.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections(RefCell<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Counted,
    since: Instant,
}

/// A connection, and its place among those of its endpoint.
#[derive(Debug)]
struct Counted {
    stream: Stream,
    place: Place,
}

/// A connection's place under its endpoint's bound, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<EndpointState>);

impl Place {
    /// Takes a place for a connection that is to be made, if there is one.
    pub(crate) fn take(endpoint: &LocalEndpoint, pool: &PoolParams) -> Option<Self> {
        let open = &endpoint.state.connections;
        if open.fetch_add(1, Ordering::Relaxed) < pool.connections_max.get() {
            return Some(Self(Arc::clone(&endpoint.state)));
        }
        open.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
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
    /// The endpoint accepted, and then there was no agreement on TLS.
    Insecure(io::Error),
    /// The endpoint did not accept in time.
    TimedOut,
    /// This machine is out of descriptors, ports or memory: not the endpoint's fault.
    Exhausted(io::Error),
    /// The endpoint has as many connections as it may.
    Full,
}

impl NoConnection {
    pub(crate) fn of(stalled: Stalled) -> Self {
        match stalled {
            Stalled::TimedOut => Self::TimedOut,
            Stalled::Broken(error) if is_exhaustion(&error) => Self::Exhausted(error),
            Stalled::Broken(error) => Self::Refused(error),
        }
    }
}

impl IdleConnections {
    fn take(&self, core: usize, idle_timeout: Duration, now: Instant) -> Option<Counted> {
        let mut idle = self.0.borrow_mut();
        while let Some(Idle { mut connection, since }) = idle.pop() {
            connection.place.0.idle.core(core).add(-1);
            if now.saturating_duration_since(since) < idle_timeout && connection.stream.is_silent() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes what has been idle for too long or was closed by the endpoint.
    pub(crate) fn sweep(&self, core: usize, idle_timeout: Duration) {
        let now = Instant::now();
        self.0.borrow_mut().retain_mut(|idle| {
            let keep = now.saturating_duration_since(idle.since) < idle_timeout && idle.connection.stream.is_silent();
            if !keep {
                idle.connection.place.0.idle.core(core).add(-1);
            }
            keep
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self, core: usize) {
        for idle in self.0.take() {
            idle.connection.place.0.idle.core(core).add(-1);
        }
    }
}

/// How a connection is to be had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    /// The pool's bounds.
    pub(crate) pool: &'a PoolParams,
    /// TLS, and the name to verify.
    pub(crate) tls: Option<(&'a ClientTls, &'a ServerName<'static>)>,
    /// Whether a kept connection will not do.
    pub(crate) fresh: bool,
    /// Whether what is spoken is between endpoint and client alone.
    pub(crate) through: bool,
    /// Whose connection it is, and how that is said, if the endpoint is to hear of it.
    pub(crate) announced: Option<(proxy::Version, Addresses)>,
}

impl Upstream {
    /// A connection to the endpoint: an idle one unless a fresh one is asked for, or a new one. It is `now`.
    pub(crate) async fn to(
        endpoint: &Rc<LocalEndpoint>,
        core: usize,
        how: How<'_>,
        now: Instant,
        wait: Wait<'_>,
    ) -> Result<Self, NoConnection> {
        if how.fresh {
            endpoint.idle.clear(core);
        } else if let Some(connection) = endpoint.idle.take(core, how.pool.idle_timeout, now) {
            endpoint.state.metrics.reused(core);
            return Ok(Self { connection, reused: true });
        }
        let place = Place::take(endpoint, how.pool).ok_or(NoConnection::Full)?;
        let stream = connect(endpoint, how, wait).await?;
        endpoint.state.metrics.connected(core);
        Ok(Self { connection: Counted { stream, place }, reused: false })
    }

    /// The socket.
    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
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

/// Makes a connection to the endpoint.
pub(crate) async fn connect(endpoint: &LocalEndpoint, how: How<'_>, wait: Wait<'_>) -> Result<Stream, NoConnection> {
    let mut connecting = std::pin::pin!(net::connect(endpoint.state.address));
    let socket = wait.until_ready(|cx| connecting.as_mut().poll(cx)).await.map_err(NoConnection::of)?;
    // Without it small messages wait for an acknowledgement; a socket that refuses works all the same.
    let _slower = socket.set_nodelay(true);
    if let Some((version, addresses)) = how.announced {
        announce(&socket, version, addresses, wait).await.map_err(NoConnection::of)?;
    }
    let Some((tls, name)) = how.tls else { return Ok(Stream::Bare(socket)) };
    let secured = super::secure::connect(tls, name.clone(), socket, how.through, wait).await;
    secured.map_err(|stalled| match NoConnection::of(stalled) {
        NoConnection::Refused(error) => NoConnection::Insecure(error),
        other => other,
    })
}

/// Tells an endpoint whose connection it gets. Nothing else was sent, so there is room for all of it.
async fn announce(
    socket: &TcpStream,
    version: proxy::Version,
    addresses: Addresses,
    wait: Wait<'_>,
) -> Result<(), Stalled> {
    let mut header = Vec::with_capacity(128);
    proxy::write(version, Some(addresses), &mut header);
    wait.until_ready(|cx| socket.poll_write_ready(cx)).await?;
    match socket.try_write(&header) {
        Ok(count) if count == header.len() => Ok(()),
        Ok(_) => Err(Stalled::Broken(io::ErrorKind::WriteZero.into())),
        Err(error) => Err(Stalled::Broken(error)),
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL))
}
