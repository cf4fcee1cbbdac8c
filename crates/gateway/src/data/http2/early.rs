//! A connection of which some bytes were read before it was known what it speaks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that is read from its beginning.
#[derive(Debug)]
pub(crate) struct Early {
    early: Vec<u8>,
    stream: Stream,
}

impl Early {
    /// A connection whose first bytes are `early`.
    pub(crate) fn new(early: Vec<u8>, stream: Stream) -> Self {
        Self { early, stream }
    }
}

impl AsyncRead for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, room);
        }
        let count = self.early.len().min(room.remaining());
        room.put_slice(&self.early[..count]);
        self.early.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
