//! The TLS handshake, on both sides.
//!
//! A client that connects and says nothing costs a socket and a deadline, as an idle connection does: the session is
//! made when its first bytes have come. The whole handshake has one deadline.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use net::Stream;
use net::tls::{ClientTls, ServerName, ServerTls};
use rustix::net::SendFlags;
use telemetry::RefusedReason;
use tokio::net::TcpStream;

use super::connection;
use super::core::{ConnectionState, Core};
use super::io::{Stalled, Wait};

/// First byte of every handshake: the type of its record.
const HANDSHAKE: u8 = 0x16;

/// What a client hears that speaks HTTP where TLS is wanted.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 24\r\n\
Connection: close\r\n\r\nThis port speaks HTTPS.\n";

/// Does the handshake with a client; `None` when there is nothing to serve: there was none, which is counted, or it was
/// an authority's challenge.
pub(crate) async fn accept(
    core: &Rc<Core>,
    state: &ConnectionState,
    tls: &ServerTls,
    socket: TcpStream,
) -> Option<Stream> {
    let speaks_http = state.listener.is_http();
    let timeout = core.local().listener(&state.listener)?.params.handshake_timeout;
    state.deadline.set(Instant::now() + timeout);
    let refuse = |reason| state.listener.metrics.refused(core.id, reason);
    let mut first = [0];
    match state.deadline.guard(socket.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == HANDSHAKE || !first[0].is_ascii_uppercase() || !speaks_http => {}
        Ok(peeked) => {
            refuse(RefusedReason::TlsFailed);
            if matches!(peeked, Ok(1)) {
                let _told_or_gone = rustix::net::send(&socket, NOT_TLS, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                connection::linger(core, state, &mut Stream::Bare(socket)).await;
            }
            return None;
        }
        Err(_) => {
            refuse(RefusedReason::TlsTimeout);
            return None;
        }
    }
    // Boxed, so that idle connections do not carry the memory of their handshakes.
    match state.deadline.guard(Box::pin(tls.accept(socket))).await {
        // No stream where it was an authority that asked who holds a host, and has its answer.
        Ok(Ok(stream)) => return stream,
        Ok(Err(error)) => {
            tracing::debug!(listener = %state.listener.name, %error, "a TLS handshake failed");
            refuse(RefusedReason::TlsFailed);
        }
        Err(_) => refuse(RefusedReason::TlsTimeout),
    }
    None
}

/// Does the handshake with an endpoint. `through` tells that what is spoken under it is not this process's to agree on.
pub(crate) async fn connect(
    tls: &ClientTls,
    name: ServerName<'static>,
    socket: TcpStream,
    through: bool,
    wait: Wait<'_>,
) -> Result<Stream, Stalled> {
    let mut handshake: Pin<Box<dyn Future<Output = io::Result<Stream>>>> =
        if through { Box::pin(tls.connect_through(name, socket)) } else { Box::pin(tls.connect(name, socket)) };
    wait.until_ready(|cx| handshake.as_mut().poll(cx)).await
}
