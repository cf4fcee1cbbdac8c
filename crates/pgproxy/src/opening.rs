//! What comes before a session: TLS, questions for it, and requests to cancel.

use std::io;

use net::tls::ServerTls;
use pgroute::SqlState;
use pgroute::wire::startup::{self, Opening, Startup};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::backend::{receive, send};
use crate::client::{Refused, Talk};
use crate::core::{Fresh, Held, send_cancel};
use crate::failure::Failure;
use crate::socket::Socket;

/// First byte of a handshake of TLS.
const HANDSHAKE: u8 = 22;

/// First messages of one connection at most: GSSAPI, TLS, and a session.
const OPENINGS_MAX: usize = 4;

/// Why there is no session, and the socket to say so, if it is still there.
type Closed = (Refused, Option<Socket>);

/// The client's startup message, in clear or under TLS; `None` when there is nothing more to do.
pub(crate) async fn open(held: &Held, fresh: Fresh) -> Result<Option<(Startup, Talk)>, Closed> {
    let params = held.place.listener.params().clone();
    let tls = params.tls.as_ref();
    let (mut socket, may_encipher) = match (fresh, tls) {
        (Fresh::Unix(socket), _) => (Socket::Unix(socket), false),
        (Fresh::Tcp(socket), None) => (Socket::tcp(socket), false),
        (Fresh::Tcp(socket), Some(tls)) => {
            let mut first = [0];
            match socket.peek(&mut first).await {
                Ok(1) if first[0] == HANDSHAKE => (handshake(&tls.server, socket).await?, false),
                Ok(1) => (Socket::tcp(socket), true),
                _ => return Ok(None),
            }
        }
    };
    let is_required = tls.is_some_and(|tls| tls.required) && !matches!(socket, Socket::Unix(_));
    let mut input = Vec::new();
    for _ in 0..OPENINGS_MAX {
        let (opening, len) = match first(&mut socket, &mut input).await {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(None),
            Err(refused) => return Err((refused, Some(socket))),
        };
        input.drain(..len);
        match opening {
            Opening::SslRequest | Opening::GssRequest if !input.is_empty() => {
                // Somebody may have put it there who wants it to be taken for enciphered.
                let message = "something follows a question for encryption";
                let failure = Failure::new(SqlState::PROTOCOL_VIOLATION, message);
                return Err((failure.into(), Some(socket)));
            }
            Opening::SslRequest if may_encipher && !socket.is_tls() => {
                socket = agree(socket, tls.map(|tls| &tls.server)).await?;
            }
            Opening::SslRequest | Opening::GssRequest => {
                if send(&mut socket, b"N").await.is_err() {
                    return Ok(None);
                }
            }
            Opening::Cancel { pid, secret } => {
                let (heard, mut is_heard) = mpsc::channel(1);
                send_cancel(&held.core.process, pid, &secret, &heard);
                drop(heard);
                // With a server, the end of this connection says that the cancel has come: what is asked afterwards is not meant.
                let _nothing_is_sent = is_heard.recv().await;
                socket.shut_down();
                return Ok(None);
            }
            Opening::Startup(_) if is_required && !socket.is_tls() => {
                let failure = Failure::new(SqlState::NOT_AUTHORIZED, "this listener takes connections with TLS only");
                return Err((failure.into(), Some(socket)));
            }
            Opening::Startup(startup) => return Ok(Some((startup, Talk::new(socket, input)))),
            Opening::Tls => {
                let failure = Failure::new(SqlState::PROTOCOL_VIOLATION, "a handshake of TLS is not expected here");
                return Err((failure.into(), Some(socket)));
            }
        }
    }
    let failure = Failure::new(SqlState::PROTOCOL_VIOLATION, "too many questions before a session");
    Err((failure.into(), Some(socket)))
}

/// The first message of what is to come.
async fn first(socket: &mut Socket, input: &mut Vec<u8>) -> Result<Option<(Opening, usize)>, Refused> {
    loop {
        if let Some(found) = startup::read(input)? {
            return Ok(Some(found));
        }
        if receive(socket, input).await? == 0 {
            return Ok(None);
        }
    }
}

async fn agree(socket: Socket, tls: Option<&ServerTls>) -> Result<Socket, Closed> {
    match (socket, tls) {
        (mut socket @ Socket::Tcp(..), Some(tls)) => {
            send(&mut socket, b"S").await.map_err(|_| (Refused::Gone, None))?;
            match socket {
                Socket::Tcp(socket, _) => handshake(tls, socket.into_inner().map_err(|_| (Refused::Gone, None))?).await,
                other => Ok(other),
            }
        }
        (socket, _) => Ok(socket),
    }
}

async fn handshake(tls: &ServerTls, socket: TcpStream) -> Result<Socket, Closed> {
    let accepted: io::Result<Option<net::Stream>> = tls.accept(socket).await;
    match accepted {
        Ok(Some(stream)) => Ok(Socket::of_client(stream)),
        Ok(None) => Err((Refused::Gone, None)),
        Err(error) => {
            tracing::debug!(%error, "a handshake of TLS failed");
            Err((Refused::Gone, None))
        }
    }
}
