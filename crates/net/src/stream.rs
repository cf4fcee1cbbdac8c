//! A connection, bare or under TLS, as the data path sees it.
//!
//! Both kinds are split into a reader and a writer for one task. A bare connection's halves are the system's own, so
//! its bytes can be spliced; those of one under TLS go through the session, which both halves borrow in turns.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::bare::{self, Watched};

/// A session that both halves of a connection use. One task polls both, so that a borrow never meets another.
type Session = RefCell<tokio_rustls::TlsStream<TcpStream>>;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Bytes as they are.
    Bare(TcpStream),
    /// Bytes under TLS; its handshake is done.
    Tls(Box<Session>),
}

/// The receiving half.
#[derive(Debug)]
pub enum Reader<'s> {
    /// Of a bare connection.
    Bare(ReadHalf<'s>),
    /// Of one under TLS.
    Tls(&'s Session),
}

/// The sending half.
#[derive(Debug)]
pub enum Writer<'s> {
    /// Of a bare connection.
    Bare(WriteHalf<'s>),
    /// Of one under TLS.
    Tls(&'s Session),
}

impl Stream {
    /// A connection whose handshake is done.
    pub fn tls(stream: tokio_rustls::TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(RefCell::new(stream)))
    }

    /// Whether HTTP/2 was agreed on with the TLS handshake.
    pub fn speaks_http2(&self) -> bool {
        match self {
            Self::Bare(_) => false,
            Self::Tls(session) => session.borrow().get_ref().1.alpn_protocol() == Some(crate::tls::HTTP2),
        }
    }

    /// The host that a client has named in its TLS handshake with this process.
    pub fn server_name(&self) -> Option<String> {
        let Self::Tls(session) = self else { return None };
        match &*session.borrow() {
            tokio_rustls::TlsStream::Server(stream) => stream.get_ref().1.server_name().map(str::to_ascii_lowercase),
            tokio_rustls::TlsStream::Client(_) => None,
        }
    }

    /// Both halves.
    pub fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        match self {
            Self::Bare(socket) => {
                let (reader, writer) = socket.split();
                (Reader::Bare(reader), Writer::Bare(writer))
            }
            Self::Tls(session) => (Reader::Tls(session), Writer::Tls(session)),
        }
    }

    /// The address that the connection was made to.
    ///
    /// # Errors
    /// When the system does not know it any more.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Bare(socket) => socket.local_addr(),
            Self::Tls(session) => session.borrow().get_ref().0.local_addr(),
        }
    }

    /// Ready once something can be read, without taking it: bytes, the end, or an error.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bare(socket) => socket.poll_read_ready(cx),
            Self::Tls(session) => session_readable(session, cx),
        }
    }

    /// Whether nothing has come that would be read next: neither bytes nor the connection's end. Records that carry no
    /// bytes, as a server's session tickets, are taken in.
    pub fn is_silent(&mut self) -> bool {
        match self {
            Self::Bare(socket) => bare::is_silent(socket),
            Self::Tls(session) => {
                let mut cx = Context::from_waker(Waker::noop());
                let mut byte = [0];
                Pin::new(session.get_mut()).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }
}

fn session_readable(session: &Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let session = session.borrow();
    let (socket, connection) = session.get_ref();
    // What was deciphered already is not announced by the socket again.
    if !connection.wants_read() {
        return Poll::Ready(Ok(()));
    }
    socket.poll_read_ready(cx)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(socket) => bare::poll_read(socket, cx, buf),
            Self::Tls(session) => Pin::new(session.get_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(socket) => bare::poll_write(socket, cx, bytes),
            Self::Tls(session) => Pin::new(session.get_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(socket) => bare::poll_write_vectored(socket, cx, parts),
            Self::Tls(session) => Pin::new(session.get_mut()).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(_) => Poll::Ready(Ok(())),
            Self::Tls(session) => Pin::new(session.get_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(session) => Pin::new(session.get_mut()).poll_shutdown(cx),
        }
    }
}

impl Reader<'_> {
    /// The socket, where its bytes are those of the connection and may be spliced.
    pub fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Bare(half) => Some(half.as_ref()),
            Self::Tls(_) => None,
        }
    }

    /// Whether the peer has ended its sending side, or the connection is broken, even if there is something to read before
    /// that. Asks the kernel.
    pub fn has_ended(&self) -> bool {
        self.asked(|socket| bare::has_ended(socket))
    }

    /// Whether the connection is broken, so that nothing can be sent any more. Asks the kernel.
    pub fn is_broken(&self) -> bool {
        self.asked(|socket| bare::is_broken(socket))
    }

    fn asked(&self, ask: impl FnOnce(&TcpStream) -> bool) -> bool {
        match self {
            Self::Bare(half) => ask(half.as_ref()),
            Self::Tls(session) => ask(session.borrow().get_ref().0),
        }
    }

    /// Ready once something can be read, without taking it.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bare(half) => half.as_ref().poll_read_ready(cx),
            Self::Tls(session) => session_readable(session, cx),
        }
    }

    /// As [`Reader::poll_readable`], for who asks often in vain. It has to have been ready before anything is read.
    pub fn poll_watched(&self, watched: &mut Watched, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Bare(half) => watched.poll_readable(half.as_ref(), cx),
            Self::Tls(session) => session_readable(session, cx),
        }
    }
}

impl AsyncRead for Reader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(half) => bare::poll_read(half.as_ref(), cx, buf),
            Self::Tls(session) => {
                let mut session = session.borrow_mut();
                // A session hands out one record at a time; a buffer takes all that was deciphered.
                ready!(Pin::new(&mut *session).poll_read(cx, buf))?;
                while !buf.filled().is_empty() && buf.remaining() > 0 && !session.get_ref().1.wants_read() {
                    let before = buf.filled().len();
                    match Pin::new(&mut *session).poll_read(cx, buf) {
                        Poll::Ready(Ok(())) if buf.filled().len() > before => {}
                        // The end, or an error, is found again by the next read.
                        Poll::Ready(_) | Poll::Pending => break,
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Writer<'_> {
    /// The socket, where its bytes are those of the connection and may be spliced.
    pub fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Bare(half) => Some(half.as_ref()),
            Self::Tls(_) => None,
        }
    }

    /// Whether what was written may still be held back, so that it wants a flush.
    pub fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Has the connection's end look like a failure and not like an end, for a peer that could take it for the end of
    /// a message. Under TLS an end without a closing alert does that anyway.
    pub fn end_abruptly(&self) {
        if let Self::Bare(half) = self {
            // Who cannot be reset is closed, which is all that is left to do.
            let _closed_anyway =
                rustix::net::sockopt::set_socket_linger(half.as_ref(), Some(std::time::Duration::ZERO));
        }
    }
}

impl AsyncWrite for Writer<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(half) => bare::poll_write(half.as_ref(), cx, bytes),
            Self::Tls(session) => Pin::new(&mut *session.borrow_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(half) => bare::poll_write_vectored(half.as_ref(), cx, parts),
            Self::Tls(session) => Pin::new(&mut *session.borrow_mut()).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(_) => Poll::Ready(Ok(())),
            Self::Tls(session) => Pin::new(&mut *session.borrow_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(half) => Pin::new(half).poll_shutdown(cx),
            Self::Tls(session) => Pin::new(&mut *session.borrow_mut()).poll_shutdown(cx),
        }
    }
}
