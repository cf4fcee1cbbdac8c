//! A client connection, from its first byte to its last.
//!
//! While it is idle its task holds a socket, a deadline and little else: a wait for readability, without a buffer. What
//! a request needs is allocated when its first byte has come, and freed when nothing more has come after the last.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use net::tls::ServerTls;
use net::{Buffer, Deadline, Expired, Stream};
use preface::proxy::Addresses;
use telemetry::RefusedReason;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::core::{Accepted, ConnectionState, Core, Entry};
use super::ends::{ClientSink, ClientSource};
use super::exchange;
use super::http2;
use super::preamble;
use super::secure;
use super::stream;
use crate::clients::ClientPlace;

/// How long, and for how many bytes, a client that is still sending is listened to after its answer. Closing at once
/// would reset the connection, and the reset can overtake the answer.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(2);
pub(crate) const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Time for the first request of a connection whose listener is gone, and so has no setting.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(1);

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for another request.
    KeepAlive,
    /// It is closed, as an end in order.
    Close,
    /// It is closed once the client has heard the answer, although it may still be sending.
    Linger,
    /// It is closed in the middle of something, and must not look like an end in order.
    Cut,
    /// It has begun with HTTP/2's preface.
    Http2,
}

/// Who is at the other end of a connection, and where it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Who connected.
    pub(crate) address: SocketAddr,
    /// Where it connected to.
    pub(crate) to: SocketAddr,
    /// Whether the connection is under TLS.
    pub(crate) tls: bool,
    /// Whether it is within this machine and may be paced all the same, since its listener is not of a loopback address.
    pub(crate) paced_within: bool,
}

impl Peer {
    /// Both ends, as the PROXY protocol tells of them.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses { source: self.address, destination: self.to }
    }
}

/// A connection that is not idle, or one of its streams.
pub(crate) struct Link<'s> {
    pub(crate) core: &'s Rc<Core>,
    pub(crate) state: &'s ConnectionState,
    pub(crate) source: ClientSource<'s>,
    pub(crate) sink: ClientSink<'s>,
    /// When the client is out of time.
    pub(crate) deadline: &'s Deadline,
    /// What was read and belongs to no finished request.
    pub(crate) buffer: Buffer,
    pub(crate) peer: Peer,
    /// Whether nothing was served on it yet, so that it may turn out to speak HTTP/2.
    pub(crate) fresh: bool,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(entry: Entry, state: Rc<ConnectionState>, accepted: Accepted<TcpStream>) {
    let Accepted { socket, peer, place, load } = accepted;
    let core = Rc::clone(&entry.core);
    // Without it small messages wait for an acknowledgement; a socket that refuses works all the same.
    let _slower = socket.set_nodelay(true);
    state.listener.metrics.opened(core.id);
    let _closed = Closed { core: &core, state: &state };
    let to = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let Some(terms) = Terms::of(&core, &state, (peer, to)) else { return };
    let mut peer = Peer { address: peer, to, tls: terms.tls.is_some(), paced_within: terms.paced_within };
    if let Some(timeout) = terms.proxied {
        match Box::pin(preamble::proxied(&state, &socket, timeout)).await {
            Ok(None) => {}
            Ok(Some(of)) => (peer.address, peer.to) = (of.source, of.destination),
            Err(reason) => return state.listener.metrics.refused(core.id, reason),
        }
    }
    let Some(client) = terms.admit(&core, &state, peer.address.ip()) else { return };
    let tls = terms.tls;
    let stream = match tls {
        None => Some(Stream::Bare(socket)),
        Some(tls) => Box::pin(secure::accept(&core, &state, &tls, socket)).await,
    };
    // What only some connections need is apart, or all would be as large when they are idle.
    match stream {
        Some(stream) if terms.passes => Box::pin(stream::run(&core, &state, stream, peer)).await,
        Some(stream) if stream.speaks_http2() => {
            Box::pin(http2::serve::run(&core, &state, stream, Vec::new(), peer)).await;
        }
        Some(stream) => requests(&core, &state, stream, peer).await,
        None => {}
    }
    // Held to the end: the connection counts until its socket is closed.
    drop((client, place, load));
}

/// On which terms a connection is served.
struct Terms {
    /// TLS, if it is under it.
    tls: Option<ServerTls>,
    /// Whether it is passed through, and speaks no HTTP.
    passes: bool,
    /// Time for the PROXY header that it must begin with, if it comes from a proxy that is to say whose it is.
    proxied: Option<Duration>,
    /// Most connections of a client, if they have a cap.
    client_max: Option<NonZeroU32>,
    paced_within: bool,
}

impl Terms {
    /// The terms of a connection; `None` when it is refused.
    fn of(core: &Core, state: &ConnectionState, (peer, to): (SocketAddr, SocketAddr)) -> Option<Self> {
        let local = core.local();
        let passes = !state.listener.is_http();
        // A listener that is gone still answers what speaks HTTP.
        let Some(view) = local.listener(&state.listener) else {
            let paced_within = false;
            return (!passes).then_some(Self { tls: None, passes, proxied: None, client_max: None, paced_within });
        };
        let params = &view.params;
        let address = peer.ip().to_canonical();
        let is_within = to.ip().is_loopback() || to.ip() == peer.ip();
        let proxied = params.proxy_protocol.iter().any(|network| network.contains(&address));
        Some(Self {
            tls: params.tls.clone(),
            passes,
            proxied: proxied.then_some(params.handshake_timeout),
            client_max: params.connections_per_client_max,
            paced_within: is_within && !(to.ip().is_loopback() && view.bound.contains(&to)),
        })
    }

    /// Takes the connection's place among those of its client, if these have a cap; `None` when it is refused.
    fn admit(&self, core: &Core, state: &ConnectionState, client: IpAddr) -> Option<Option<ClientPlace>> {
        let Some(max) = self.client_max else { return Some(None) };
        let place = ClientPlace::take(&state.listener, client, max.get());
        if place.is_none() {
            state.listener.metrics.refused(core.id, RefusedReason::ClientConnectionsMax);
        }
        place.map(Some)
    }
}

/// Serves the requests of a connection.
async fn requests(core: &Rc<Core>, state: &Rc<ConnectionState>, mut stream: Stream, peer: Peer) {
    let (mut early, mut fresh) = (Vec::new(), true);
    while wait_for_request(core, state, &stream).await {
        // The memory of a request lives as long as this future, so an idle connection does not have it. It is large, and
        // made where it stays: moved there, all of it would be copied for each request.
        let request = Box::write(Box::new_uninit(), busy(core, state, &mut stream, peer, (&mut fresh, &mut early)));
        match Box::into_pin(request).await {
            Next::KeepAlive => {}
            Next::Http2 => return Box::pin(http2::serve::run(core, state, stream, early, peer)).await,
            Next::Linger => {
                linger(core, state, &mut stream).await;
                return;
            }
            Next::Close => break,
            Next::Cut => return,
        }
    }
    say_goodbye(&mut stream).await;
}

/// Counts the end of a connection, however its task ends.
struct Closed<'s> {
    core: &'s Core,
    state: &'s ConnectionState,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.state.listener.metrics.closed(self.core.id);
    }
}

/// Waits without a buffer; false when the connection ends instead.
async fn wait_for_request(core: &Core, state: &ConnectionState, stream: &Stream) -> bool {
    let readable = poll_fn(|cx| stream.poll_readable(cx));
    if state.closing.get() {
        state.deadline.set(Instant::now() + core.idle_grace());
    } else {
        let idle_timeout =
            core.local().listener(&state.listener).map_or(ORPHAN_TIMEOUT, |view| view.params.idle_timeout);
        state.deadline.set(Instant::now() + idle_timeout);
    }
    state.idle.set(true);
    let waited = state.deadline.guard(readable).await;
    state.idle.set(false);
    matches!(waited, Ok(Ok(())))
}

/// Serves requests until the connection is idle or ends. What belongs to HTTP/2 is left in `early`.
async fn busy(
    core: &Rc<Core>,
    state: &ConnectionState,
    stream: &mut Stream,
    peer: Peer,
    (fresh, early): (&mut bool, &mut Vec<u8>),
) -> Next {
    let (reader, writer) = stream.split();
    let (source, sink) = (ClientSource::Wire(reader), ClientSink::Wire(writer));
    let buffer = core.heads.take();
    let mut link = Link { core, state, source, sink, deadline: &state.deadline, buffer, peer, fresh: *fresh };
    let mut scratch = core.take_scratch();
    let mut next = Next::KeepAlive;
    while next == Next::KeepAlive {
        next = exchange::run(&mut link, &mut scratch).await;
        *fresh = link.fresh;
        if link.buffer.is_empty() {
            break;
        }
    }
    if next == Next::Http2 {
        early.extend_from_slice(link.buffer.filled());
    }
    core.keep_scratch(scratch);
    next
}

/// Tells a client under TLS that the connection ends in order, if it can be told at once.
async fn say_goodbye(stream: &mut Stream) {
    if matches!(stream, Stream::Tls(_)) {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_shutdown(cx).is_ready())).await;
    }
}

/// Ends the connection's sending side and reads what still comes, for a while.
pub(crate) async fn linger(core: &Core, state: &ConnectionState, stream: &mut Stream) {
    state.deadline.set(Instant::now() + LINGER_TIME);
    let shutdown = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx));
    if !matches!(state.deadline.guard(shutdown).await, Ok(Ok(()))) {
        return;
    }
    let mut buffer = core.heads.take();
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        let read = poll_fn(|cx| buffer.poll_fill(Pin::new(&mut *stream), left, cx));
        match state.deadline.guard(read).await {
            Ok(Ok(count)) if count > 0 => {
                left -= count;
                buffer.clear();
            }
            Ok(_) | Err(Expired) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of_future<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_holds_little() {
        let bytes = bytes_of_future(serve);
        assert!(bytes <= 1024, "{bytes} bytes are held for each connection, whatever it does");
    }
}
