//! What comes before the conversation: whose connection a proxy passes on, and where a client of TLS wants to go.
//!
//! Whoever has connected and says nothing costs a socket and a deadline. What is read grows with what comes, up to the
//! bounds of [`preface`], and all of it has one deadline.

use std::time::{Duration, Instant};

use net::Stream;
use preface::hello::{BYTES_MAX, Hello, HelloReader};
use preface::proxy::{self, Addresses};
use telemetry::RefusedReason;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::core::ConnectionState;

/// Room to read the beginning of a hello into: most hellos fit.
const HELLO_STEP_BYTES: usize = 2048;

/// Reads the header of the PROXY protocol, and nothing that follows it: whose connection it is, unless the proxy speaks
/// for itself.
///
/// What comes is looked at before it is taken, as only its reader knows where it ends.
pub(crate) async fn proxied(
    state: &ConnectionState,
    socket: &TcpStream,
    timeout: Duration,
) -> Result<Option<Addresses>, RefusedReason> {
    state.deadline.set(Instant::now() + timeout);
    let read = state.deadline.guard(read_header(socket)).await.map_err(|_| RefusedReason::ProxyTimeout)?;
    read.map_err(|error| {
        tracing::debug!(listener = %state.listener.name, %error, "no PROXY header");
        RefusedReason::ProxyInvalid
    })
}

async fn read_header(socket: &TcpStream) -> std::io::Result<Option<Addresses>> {
    let mut held = Vec::new();
    loop {
        socket.readable().await?;
        let before = held.len();
        held.resize(proxy::BYTES_MAX, 0);
        let come = socket.peek(&mut held[before..]).await?;
        if come == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let header = proxy::read(&held[..before + come]).map_err(std::io::Error::other)?;
        let end = header.map_or(before + come, |header| header.len);
        let taken = socket.try_read(&mut held[before..end])?;
        held.truncate(before + taken);
        if let Some(header) = header.filter(|_| held.len() == end) {
            return Ok(header.addresses);
        }
    }
}

/// Reads the hello of a client of TLS, and gives all that was read with it: that goes on to the endpoint.
pub(crate) async fn hello(
    state: &ConnectionState,
    stream: &mut Stream,
    timeout: Duration,
) -> Result<(Hello, Vec<u8>), RefusedReason> {
    state.deadline.set(Instant::now() + timeout);
    let read = state.deadline.guard(read_hello(stream)).await.map_err(|_| RefusedReason::HelloTimeout)?;
    read.map_err(|error| {
        tracing::debug!(listener = %state.listener.name, %error, "no TLS hello");
        RefusedReason::HelloInvalid
    })
}

async fn read_hello(stream: &mut Stream) -> std::io::Result<(Hello, Vec<u8>)> {
    std::future::poll_fn(|cx| stream.poll_readable(cx)).await?;
    let (mut bytes, mut reader) = (Vec::new(), HelloReader::default());
    loop {
        bytes.reserve_exact(HELLO_STEP_BYTES);
        // A hello that is read to its end has fewer bytes; what follows it is taken with it, up to the room that is left.
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(hello) = reader.advance(&bytes).map_err(std::io::Error::other)? {
            return Ok((hello, bytes));
        }
        debug_assert!(bytes.len() <= BYTES_MAX + HELLO_STEP_BYTES + (1 << 14), "the reader bounds what it asks for");
    }
}
