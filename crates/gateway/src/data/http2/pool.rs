//! Connections to endpoints that speak HTTP/2. Each carries many requests at once, so a core has few of them.
//!
//! A request takes the first connection that has room for a stream. Requests that find none wait for the one that is
//! being made instead of each making its own. A connection on which a request ran out of time gets no further ones: it
//! may be dead without anybody knowing.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use net::Stream;
use tokio::sync::Notify;

use crate::data::io::{Stalled, Wait};
use crate::data::local::LocalEndpoint;
use crate::data::upstream::{How, NoConnection, Place};

/// Most streams at once on a connection, whatever the endpoint allows: one connection has one window and one socket.
const STREAMS_MAX: usize = 250;

/// Bytes of an answer, and of all answers of a connection, that an endpoint may send before they are taken. Enough for
/// a gigabit at two milliseconds each.
const WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Most bytes of a request's body that wait for the connection.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// A core's connections to an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    live: RefCell<Vec<Rc<Live>>>,
    connecting: Cell<bool>,
    connected: Notify,
}

/// A connection.
struct Live {
    sender: SendRequest<Bytes>,
    streams: Cell<usize>,
    /// Whether it gets no further streams.
    closing: Cell<bool>,
    /// When its last stream ended.
    since: Cell<Instant>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("streams", &self.streams).field("closing", &self.closing).finish_non_exhaustive()
    }
}

impl Live {
    fn has_room(&self) -> bool {
        !self.closing.get() && self.streams.get() < self.sender.current_max_send_streams().min(STREAMS_MAX)
    }
}

/// A place for one request on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    live: Rc<Live>,
    /// Whether the connection has carried a request before.
    pub(crate) reused: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.live.streams.set(self.live.streams.get() - 1);
        self.live.since.set(Instant::now());
    }
}

/// Whether an endpoint says that it has not looked at a request, so that it may be sent again whatever its method.
pub(crate) fn is_unseen(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

impl Multiplexed {
    /// Gives no further streams to the connections there are.
    pub(crate) fn clear(&self) {
        for live in self.live.take() {
            live.closing.set(true);
        }
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self, idle_timeout: Duration) {
        let now = Instant::now();
        self.live.borrow_mut().retain(|live| {
            let is_idle = live.streams.get() == 0 && now.saturating_duration_since(live.since.get()) >= idle_timeout;
            !is_idle && !live.closing.get()
        });
    }

    fn find(&self) -> Option<Lease> {
        let live = self.live.borrow();
        let live = live.iter().find(|live| live.has_room())?;
        live.streams.set(live.streams.get() + 1);
        Some(Lease { live: Rc::clone(live), reused: true })
    }
}

/// A place on a connection to the endpoint.
pub(crate) async fn lease(
    endpoint: &Rc<LocalEndpoint>,
    core: usize,
    how: How<'_>,
    head_bytes_max: u32,
    wait: Wait<'_>,
) -> Result<Lease, NoConnection> {
    let pool = &endpoint.multiplexed;
    if how.fresh {
        pool.clear();
    }
    loop {
        if let Some(lease) = pool.find() {
            endpoint.state.metrics.reused(core);
            return Ok(lease);
        }
        if !pool.connecting.get() {
            break;
        }
        let mut connected = std::pin::pin!(pool.connected.notified());
        let awaited = wait.until_ready(|cx| std::future::Future::poll(connected.as_mut(), cx).map(Ok)).await;
        awaited.map_err(NoConnection::of)?;
    }
    let _connecting = Connecting::begin(pool);
    let place = Place::take(endpoint, how.pool).ok_or(NoConnection::Full)?;
    let stream = crate::data::upstream::connect(endpoint, how, wait).await?;
    let live = handshake(stream, place, head_bytes_max, wait).await.map_err(NoConnection::of)?;
    endpoint.state.metrics.connected(core);
    live.streams.set(1);
    if !endpoint.retired.get() {
        pool.live.borrow_mut().push(Rc::clone(&live));
    }
    Ok(Lease { live, reused: false })
}

/// Tells that a connection is being made, until dropped.
struct Connecting<'p>(&'p Multiplexed);

impl<'p> Connecting<'p> {
    fn begin(pool: &'p Multiplexed) -> Self {
        pool.connecting.set(true);
        Self(pool)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

async fn handshake(stream: Stream, place: Place, head_bytes_max: u32, wait: Wait<'_>) -> Result<Rc<Live>, Stalled> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(head_bytes_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_push(false);
    let mut handshake = Box::pin(builder.handshake::<_, Bytes>(stream));
    let (sender, connection) =
        wait.until_ready(|cx| std::future::Future::poll(handshake.as_mut(), cx).map_err(io::Error::other)).await?;
    let (streams, closing, since) = (Cell::new(0), Cell::new(false), Cell::new(Instant::now()));
    let live = Rc::new(Live { sender, streams, closing, since });
    let known: Weak<Live> = Rc::downgrade(&live);
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an endpoint ended");
        }
        if let Some(live) = known.upgrade() {
            live.closing.set(true);
        }
        drop(place);
    });
    Ok(live)
}

impl Lease {
    /// Sends a request's head. `ended` tells that no body follows.
    pub(crate) async fn send(
        &self,
        request: http::Request<()>,
        ended: bool,
        wait: Wait<'_>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), SendError> {
        let mut sender = self.live.sender.clone();
        match wait.until_ready(|cx| sender.poll_ready(cx).map(Ok)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(SendError::of(&error)),
            Err(_) => return Err(SendError::TimedOut),
        }
        sender.send_request(request, ended).map_err(|error| SendError::of(&error))
    }

    /// Gives the connection no further streams.
    pub(crate) fn condemn(&self) {
        self.live.closing.set(true);
    }
}

/// Why a head did not go out. The endpoint has not seen it.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection has no room in time.
    TimedOut,
    /// The connection has ended.
    Closed,
}

impl SendError {
    fn of(error: &h2::Error) -> Self {
        tracing::debug!(%error, "a request cannot be sent");
        Self::Closed
    }
}
