//! The ends of an exchange, by the version that each side speaks: bytes on a wire, or a stream among others.

use http1::Version;
use net::{Reader, Writer};

use super::cache::Fill;
use super::http2::flow::{Answer, Inflow, Outflow, Responder};
use super::io::{self, Stalled, Wait};

/// What a client sends.
#[derive(Debug)]
pub(crate) enum ClientSource<'s> {
    /// HTTP/1.1: the connection's bytes.
    Wire(Reader<'s>),
    /// HTTP/2: the body; the head has come.
    Stream(Inflow),
    /// The gateway itself: all of the request is there.
    Whole,
}

/// What goes to a client.
#[derive(Debug)]
pub(crate) enum ClientSink<'s> {
    /// HTTP/1.1: the connection's bytes.
    Wire(Writer<'s>),
    /// HTTP/2: one answer.
    Stream(Responder),
    /// Nobody: what is said is lost.
    Nobody,
    /// The gateway itself, which looks at all of it.
    Kept(Kept),
    /// The cache.
    Fill(&'s Fill),
}

/// An answer that is kept: its head, and a body that is not longer than it may be.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    /// How much of a body there is still room for.
    room: usize,
}

impl Kept {
    /// Nothing yet, and room for a body of so many bytes.
    pub(crate) fn new(body_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), room: body_bytes_max }
    }

    /// Keeps a head, or nothing, and then a piece of the body. False when that is too long.
    pub(crate) fn push(&mut self, head: &[u8], piece: &[u8]) -> bool {
        let Some(room) = self.room.checked_sub(piece.len()) else { return false };
        self.room = room;
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(piece);
        true
    }

    /// Head and body.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What an endpoint sends.
#[derive(Debug)]
pub(crate) enum EndpointSource<'u> {
    /// HTTP/1.1: the connection's bytes.
    Wire(Reader<'u>),
    /// HTTP/2: one answer.
    Stream(Answer),
}

/// What goes to an endpoint.
#[derive(Debug)]
pub(crate) enum EndpointSink<'u> {
    /// HTTP/1.1: the connection's bytes.
    Wire(Writer<'u>),
    /// HTTP/2: the body; the head has gone.
    Stream(Outflow),
}

impl ClientSink<'_> {
    /// Sends a whole message, head and body.
    pub(crate) async fn whole(&mut self, bytes: &[u8], wait: Wait<'_>) -> Result<(), Stalled> {
        match self {
            Self::Wire(writer) => io::write_all(writer, bytes, &[], wait).await,
            Self::Stream(responder) => responder.whole(bytes, wait).await,
            Self::Nobody | Self::Kept(_) | Self::Fill(_) => Ok(()),
        }
    }

    /// Sends an interim head.
    pub(crate) async fn interim(&mut self, bytes: &[u8], wait: Wait<'_>) -> Result<(), Stalled> {
        match self {
            Self::Wire(writer) => io::write_all(writer, bytes, &[], wait).await,
            Self::Stream(responder) => responder.interim(bytes),
            Self::Fill(fill) => {
                fill.interim(bytes);
                Ok(())
            }
            Self::Nobody | Self::Kept(_) => Ok(()),
        }
    }

    /// Whether the client, which speaks a version, takes interim heads. One of HTTP/1.0 would take them for the final one.
    pub(crate) fn takes_interim(&self, version: Version) -> bool {
        match self {
            // The version is that of the cache's own request.
            Self::Fill(fill) => fill.takes_interim(),
            _ => version == Version::Http11,
        }
    }

    /// Whether the client has said that it does not want the answer any more. On a wire nobody can say that.
    pub(crate) fn is_gone(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        match self {
            Self::Wire(_) | Self::Nobody | Self::Kept(_) | Self::Fill(_) => false,
            Self::Stream(responder) => responder.poll_gone(cx).is_ready(),
        }
    }

    /// Has the client know that the answer broke off, where it could take it for whole. `bare` tells that only the
    /// connection's end would tell where it ends.
    pub(crate) fn cut(&mut self, bare: bool) {
        match self {
            Self::Wire(writer) if bare => writer.end_abruptly(),
            Self::Wire(_) | Self::Nobody | Self::Kept(_) | Self::Fill(_) => {}
            Self::Stream(responder) => responder.cut(),
        }
    }
}
