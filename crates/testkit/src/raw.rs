use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::message::{self, Response};
use crate::wire::Wire;

/// Time for one step of a test; a machine that also compiles is slow, a proxy that hangs is endless.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client connection that sends any bytes and reads responses strictly. Every step has a deadline, 10 s unless
/// [`timeout`](Self::timeout) says otherwise.
#[derive(Debug)]
pub struct RawConn {
    stream: Wire,
    timeout: Duration,
    /// What arrived and was not read as part of a response.
    received: Vec<u8>,
    ended: bool,
    /// Whether the end was none that the peer has said: a reset, or under TLS the end of the connection below.
    broken: bool,
}

impl RawConn {
    /// Connects.
    ///
    /// # Errors
    /// When no connection is made in time.
    pub fn connect(address: impl Into<SocketAddr>) -> Result<Self> {
        Self::connect_within(address, TIMEOUT)
    }

    /// Connects within a time, which is then the connection's timeout for every step.
    ///
    /// # Errors
    /// When no connection is made in time.
    pub fn connect_within(address: impl Into<SocketAddr>, timeout: Duration) -> Result<Self> {
        let address = address.into();
        let stream = TcpStream::connect_timeout(&address, timeout).with_context(|| format!("connect to {address}"))?;
        Self::over(stream, timeout)
    }

    /// Connects from a given source address, of which loopback has many (127.0.0.2 and so on).
    ///
    /// # Errors
    /// When no connection is made in time.
    pub fn connect_from(source: IpAddr, address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(source, 0).into()).with_context(|| format!("bind {source}"))?;
        socket.connect_timeout(&address.into(), TIMEOUT).with_context(|| format!("connect to {address}"))?;
        Self::over(socket.into(), TIMEOUT)
    }

    /// Connects and speaks TLS: the server has to show a certificate for `name` from `authority`, a file in PEM. What
    /// it picks of the protocols is told by [`alpn`](Self::alpn).
    ///
    /// # Errors
    /// When no connection is made in time, or the handshake fails.
    pub fn connect_tls(
        address: impl Into<SocketAddr>,
        authority: &Path,
        name: &str,
        protocols: &[&str],
    ) -> Result<Self> {
        let mut conn = Self::connect(address)?;
        conn.stream.tcp().set_read_timeout(Some(TIMEOUT))?;
        conn.stream = Wire::tls(conn.stream.tcp().try_clone()?, authority, name, protocols)?;
        Ok(conn)
    }

    /// The protocol that was agreed on in a handshake.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.alpn()
    }

    fn over(stream: TcpStream, timeout: Duration) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream: Wire::Tcp(stream), timeout, received: Vec::new(), ended: false, broken: false })
    }

    /// Changes the time for each further step.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The client's own address.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_address()?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer has closed the connection or reads nothing in time.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.stream.tcp().set_write_timeout(Some(self.timeout))?;
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).context("send")
    }

    /// Says that nothing more will be sent, and goes on receiving.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn finish(&mut self) -> Result<()> {
        Ok(self.stream.finish()?)
    }

    /// Ends the connection with a reset instead of an orderly close.
    pub fn reset(self) {
        let _ = SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Reads the final response to a request of this method, with the interim ones before it.
    ///
    /// # Errors
    /// When the response breaks the strict grammar of [`message`], the connection ends before it does, or the time is up.
    pub fn read_response(&mut self, method: &str) -> Result<Response> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let message::Read::Whole(response, len) = message::response(&self.received, method, self.ended)
                .with_context(|| format!("received {:?}", shown(&self.received)))?
            {
                self.received.drain(..len);
                return Ok(response);
            }
            if self.ended {
                bail!("the connection ended within a response; received {:?}", shown(&self.received));
            }
            if !self.receive(deadline)? {
                bail!("no whole response after {:?}; received {:?}", self.timeout, shown(&self.received));
            }
        }
    }

    /// Receives until the peer ends the connection, and gives all bytes that were not part of a response read before.
    /// A reset counts as an end.
    ///
    /// # Errors
    /// When the connection is still open when the time is up.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.timeout;
        while !self.ended {
            if !self.receive(deadline)? {
                bail!("still open after {:?}; received {:?}", self.timeout, shown(&self.received));
            }
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// Receives for this long or until the peer ends the connection, and says whether it did. Bytes that came are kept
    /// for the next read.
    ///
    /// # Errors
    /// When the socket fails otherwise than by an end.
    pub fn ends_within(&mut self, time: Duration) -> Result<bool> {
        let deadline = Instant::now() + time;
        while !self.ended && self.receive(deadline)? {}
        Ok(self.ended)
    }

    /// Bytes that arrived and were not read as part of a response.
    pub fn unread(&self) -> &[u8] {
        &self.received
    }

    /// Whether the peer has ended the connection, as far as was received.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the end was abrupt: a reset, or under TLS one that was not said within TLS.
    pub fn ended_abruptly(&self) -> bool {
        self.broken
    }

    /// Drops the first bytes of what is unread.
    pub(crate) fn drop_unread(&mut self, count: usize) {
        self.received.drain(..count);
    }

    /// Receives once; false when the deadline passed first.
    ///
    /// # Errors
    /// Those of the system; an end is none, see [`RawConn::has_ended`].
    pub fn receive_by(&mut self, deadline: Instant) -> Result<bool> {
        self.receive(deadline)
    }

    fn receive(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.stream.tcp().set_read_timeout(Some(left))?;
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(false),
                ErrorKind::Interrupted => {}
                // Under TLS an end that was not announced is an unexpected one, and receiving may have to send first.
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof => {
                    (self.ended, self.broken) = (true, true);
                }
                _ => return Err(error).context("receive"),
            },
        }
        Ok(true)
    }
}

/// The first bytes as text, for messages.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]).into_owned()
}
