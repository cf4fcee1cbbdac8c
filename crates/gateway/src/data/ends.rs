//! The ends of an exchange, by the version that each side speaks: bytes on a wire, or a stream among others.

use net::{Reader, Writer};

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
            Self::Nobody => Ok(()),
        }
    }

    /// Sends an interim head.
    pub(crate) async fn interim(&mut self, bytes: &[u8], wait: Wait<'_>) -> Result<(), Stalled> {
        match self {
            Self::Wire(writer) => io::write_all(writer, bytes, &[], wait).await,
            Self::Stream(responder) => responder.interim(bytes),
            Self::Nobody => Ok(()),
        }
    }

    /// Whether the client has said that it does not want the answer any more. On a wire nobody can say that.
    pub(crate) fn is_gone(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        match self {
            Self::Wire(_) | Self::Nobody => false,
            Self::Stream(responder) => responder.poll_gone(cx).is_ready(),
        }
    }

    /// Has the client know that the answer broke off, where it could take it for whole. `bare` tells that only the
    /// connection's end would tell where it ends.
    pub(crate) fn cut(&mut self, bare: bool) {
        match self {
            Self::Wire(writer) if bare => writer.end_abruptly(),
            Self::Wire(_) | Self::Nobody => {}
            Self::Stream(responder) => responder.cut(),
        }
    }
}
