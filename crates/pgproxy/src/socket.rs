//! A connection's socket, bare or under TLS, which can move from one core to another.
//!
//! TLS is driven here and not by a wrapper around the runtime's socket, because such a wrapper cannot be taken apart and put
//! together again elsewhere: a backend's socket leaves the event queue of one core for that of another, and its session goes along.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use net::Gathered;
use net::bare::{self, Watched};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// With the task that the runtime knows to wake when something has come.
    Tcp(Gathered, Watched),
    Unix(UnixStream),
    Tls(Box<Tls>),
}

/// A session of TLS whose handshake is done, and the socket under it.
#[derive(Debug)]
pub(crate) struct Tls {
    socket: TcpStream,
    session: rustls::Connection,
    /// The other side has ended the bytes below the session.
    has_ended: bool,
}

impl Socket {
    /// A client's session, after the handshake.
    pub(crate) fn of_client(stream: net::Stream) -> Self {
        match stream {
            net::Stream::Bare(socket) => Self::tcp(socket),
            net::Stream::Tls(session) => match session.into_inner() {
                tokio_rustls::TlsStream::Server(stream) => {
                    let (socket, session) = stream.into_inner();
                    Self::tls(socket, session.into())
                }
                tokio_rustls::TlsStream::Client(stream) => Self::of_server(stream),
            },
        }
    }

    /// A session with a server, after the handshake.
    pub(crate) fn of_server(stream: tokio_rustls::client::TlsStream<TcpStream>) -> Self {
        let (socket, session) = stream.into_inner();
        Self::tls(socket, session.into())
    }

    /// A connection without TLS.
    pub(crate) fn tcp(socket: TcpStream) -> Self {
        Self::Tcp(Gathered::new(socket), Watched::default())
    }

    fn tls(socket: TcpStream, session: rustls::Connection) -> Self {
        Self::Tls(Box::new(Tls { socket, session, has_ended: false }))
    }

    /// Whether what passes is enciphered.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The other side's address, where it has one.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket, _) => socket.socket().peer_addr().ok(),
            Self::Tls(tls) => tls.socket.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// This side's address, where it has one.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket, _) => socket.socket().local_addr().ok(),
            Self::Tls(tls) => tls.socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Version and cipher of TLS, or nothing.
    pub(crate) fn tls_version(&self) -> String {
        let Self::Tls(tls) = self else { return String::new() };
        let version = tls.session.protocol_version().and_then(|version| version.as_str());
        let cipher = tls.session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        format!("{}/{}", version.unwrap_or_default(), cipher.unwrap_or_default())
    }

    /// Reads what has come: how many bytes, 0 at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket, watched) => {
                *watched = Watched::default();
                let mut room = ReadBuf::new(room);
                ready!(bare::poll_read(socket.socket(), cx, &mut room))?;
                Poll::Ready(Ok(room.filled().len()))
            }
            Self::Unix(socket) => read(socket, cx, room),
            Self::Tls(tls) => tls.poll_read(cx, room),
        }
    }

    /// Writes of two pieces what is taken at once. What TLS has taken and not sent yet goes with [`Socket::poll_flush`].
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket, _) => socket.poll_write(cx, pieces),
            Self::Unix(socket) => write(socket, cx, pieces),
            Self::Tls(tls) => tls.poll_write(cx, pieces),
        }
    }

    /// As [`Socket::poll_write`], of what may wait until others have written as well: nobody parts from the socket after it.
    pub(crate) fn poll_write_soon(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket, _) => socket.poll_write_soon(cx, pieces),
            Self::Unix(_) | Self::Tls(_) => self.poll_write(cx, pieces),
        }
    }

    /// Sends what counts as sent and was not taken, of TLS or of what went together with that of others.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket, _) => socket.poll_flush(cx),
            Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Has what waits for others to write as well sent now.
    pub(crate) fn settle(&self) {
        if let Self::Tcp(socket, _) = self {
            socket.settle();
        }
    }

    /// Whether something counts as sent that was not taken. It may be found out after a write, whose task is woken then.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Tcp(socket, _) => socket.has_rest(),
            Self::Unix(_) => false,
            Self::Tls(tls) => tls.session.wants_write(),
        }
    }

    /// Ready once something can be read, without taking it: bytes, the end, or an error.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket, watched) => watched.poll_readable(socket.socket(), cx),
            Self::Unix(socket) => socket.poll_read_ready(cx),
            // What was deciphered already is not announced by the socket again.
            Self::Tls(tls) if !tls.wants_more() => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.socket.poll_read_ready(cx),
        }
    }

    /// Whether nothing has come that would be read next: neither bytes nor the end. Nothing is taken, and whoever waits for it is woken as before.
    ///
    /// What TLS sends for itself is something, such as a ticket: servers send theirs before they answer a login.
    pub(crate) fn is_silent(&mut self) -> bool {
        match self {
            Self::Tcp(socket, watched) => {
                *watched = Watched::default();
                bare::is_silent(socket.socket())
            }
            Self::Unix(socket) => bare::is_silent_unix(socket),
            Self::Tls(tls) => tls.wants_more() && bare::is_silent(&tls.socket),
        }
    }

    /// The same, asked of the kernel, for a socket that the runtime does not know yet.
    pub(crate) fn is_silent_below(&self) -> bool {
        match self {
            Self::Tcp(socket, _) => bare::is_silent_below(socket.socket()),
            Self::Unix(socket) => bare::is_silent_below(socket),
            Self::Tls(tls) => tls.wants_more() && bare::is_silent_below(&tls.socket),
        }
    }

    /// Whether the other side has ended it, asked of the kernel: so whatever was said before is still there, and whoever's event queue it is in hears of
    /// nothing.
    pub(crate) fn has_ended_below(&self) -> bool {
        match self {
            Self::Tcp(socket, _) => bare::has_ended(socket.socket()),
            Self::Unix(socket) => bare::has_ended(socket),
            Self::Tls(tls) => bare::has_ended(&tls.socket),
        }
    }

    /// Moves it from the event queue where it is to that of this thread's runtime.
    ///
    /// # Errors
    /// Those of the system; the connection is closed then.
    pub(crate) fn move_here(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket, _) => Self::tcp(TcpStream::from_std(socket.into_inner()?.into_std()?)?),
            Self::Unix(socket) => Self::Unix(UnixStream::from_std(socket.into_std()?)?),
            Self::Tls(tls) => {
                let Tls { socket, session, has_ended } = *tls;
                let socket = TcpStream::from_std(socket.into_std()?)?;
                Self::Tls(Box::new(Tls { socket, session, has_ended }))
            }
        })
    }

    /// Says that nothing more is sent.
    pub(crate) fn shut_down(&mut self) {
        let end = std::net::Shutdown::Write;
        let _gone = match self {
            Self::Tcp(socket, _) => {
                socket.settle();
                socket2::SockRef::from(socket.socket()).shutdown(end)
            }
            Self::Unix(socket) => socket2::SockRef::from(&*socket).shutdown(end),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                let _sent = tls.poll_flush(&mut Context::from_waker(Waker::noop()));
                socket2::SockRef::from(&tls.socket).shutdown(end)
            }
        };
    }
}

fn read(socket: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut room = ReadBuf::new(room);
    ready!(Pin::new(socket).poll_read(cx, &mut room))?;
    Poll::Ready(Ok(room.filled().len()))
}

fn write(socket: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
    match pieces {
        [one, []] | [[], one] => Pin::new(socket).poll_write(cx, one),
        [first, second] => Pin::new(socket).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
    }
}

impl Tls {
    /// Whether all that was deciphered has been read, and it has not ended: what comes next is announced by the socket.
    fn wants_more(&self) -> bool {
        self.session.wants_read() && !self.has_ended
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.session.reader().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Without a word before it, as servers that were killed do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                done => return Poll::Ready(done),
            }
            match self.session.read_tls(&mut Raw { socket: &mut self.socket, cx }) {
                Ok(0) => self.has_ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Err(error) = self.session.process_new_packets() {
                let _alert = self.poll_flush(cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, [first, second]: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        loop {
            let rest = if taken < first.len() { &first[taken..] } else { &second[taken - first.len()..] };
            if !rest.is_empty() {
                // It takes a bounded number of bytes at once.
                taken += self.session.writer().write(rest)?;
            }
            let is_sent = self.poll_flush(cx)?.is_ready();
            if !is_sent || taken == first.len() + second.len() {
                return if taken > 0 || is_sent { Poll::Ready(Ok(taken)) } else { Poll::Pending };
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Raw { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The socket under a session, as the session wants it: it says that it would block where a task is to be woken.
struct Raw<'r, 'w> {
    socket: &'r mut TcpStream,
    cx: &'r mut Context<'w>,
}

impl Read for Raw<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match read(self.socket, self.cx, room) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Raw<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, bytes) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::{Duration, Instant, SystemTime};

    use net::tls::{Certificate, ClientTls, ClientTlsParams, MinVersion, ServerTls, ServerTlsParams, Trust};
    use testkit::Authority;
    use tokio::net::TcpListener;
    use tokio::task::coop;

    use super::*;

    /// Both ends of a session: whoever asked for it first.
    async fn under_tls() -> (Socket, Socket) {
        let authority = Authority::new("the shop's own").unwrap();
        let issued = authority.issue("db", &["db.example.com"]).unwrap();
        let certificates = vec![Certificate::load(&issued.certificate, &issued.key, SystemTime::now()).unwrap()];
        let (min_version, managed, protocols) = (MinVersion::Tls12, Vec::new(), Vec::new());
        let params = ServerTlsParams { certificates, managed, min_version, client_auth: None, protocols };
        let server = ServerTls::new(params).unwrap();
        let (trust, protocol) = (Trust::Anyone, net::tls::HTTP11);
        let params = ClientTlsParams { trust, server_name: None, certificate: None, min_version, protocol };
        let client = ClientTls::new(params).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asks = async {
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.connect_whole("db.example.com".try_into().unwrap(), socket).await.unwrap()
        };
        let answers = async { server.accept(listener.accept().await.unwrap().0).await.unwrap().unwrap() };
        let (asked, answered) = tokio::join!(asks, answers);
        (Socket::of_server(asked), Socket::of_client(answered))
    }

    async fn bare() -> (Socket, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Socket::tcp(asked), Socket::tcp(listener.accept().await.unwrap().0))
    }

    /// Both ends of a connection of each kind.
    async fn pairs() -> [(Socket, Socket); 3] {
        let (own, other) = UnixStream::pair().unwrap();
        [bare().await, (Socket::Unix(own), Socket::Unix(other)), under_tls().await]
    }

    async fn write(socket: &mut Socket, bytes: &[u8]) {
        assert_eq!(poll_fn(|cx| socket.poll_write(cx, [bytes, &[]])).await.unwrap(), bytes.len());
        poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
    }

    async fn read(socket: &mut Socket, count: usize) -> Vec<u8> {
        let mut room = vec![0; count];
        let count = poll_fn(|cx| socket.poll_read(cx, &mut room)).await.unwrap();
        room.truncate(count);
        room
    }

    /// What both ways of asking say when the turn of the task is over, and the runtime takes nothing for ready.
    async fn is_silent(socket: &mut Socket) -> bool {
        poll_fn(|cx| {
            while let Poll::Ready(turn) = coop::poll_proceed(cx) {
                turn.made_progress();
            }
            assert_eq!(socket.is_silent(), socket.is_silent_below());
            Poll::Ready(socket.is_silent())
        })
        .await
    }

    #[tokio::test]
    async fn what_has_come_is_no_silence_and_is_there_afterwards() {
        for (mut own, mut other) in pairs().await {
            write(&mut other, b"hello").await;
            assert_eq!(read(&mut own, 5).await, b"hello");
            assert!(is_silent(&mut own).await);
            write(&mut other, b"ab").await;
            poll_fn(|cx| own.poll_readable(cx)).await.unwrap();
            assert!(!is_silent(&mut own).await);
            assert_eq!(read(&mut own, 1).await, b"a");
            // Under TLS the rest is not in the socket any more.
            assert!(!is_silent(&mut own).await);
            assert_eq!(read(&mut own, 1).await, b"b");
            assert!(is_silent(&mut own).await);
            other.shut_down();
            poll_fn(|cx| own.poll_readable(cx)).await.unwrap();
            assert!(!is_silent(&mut own).await && own.has_ended_below());
            assert_eq!(read(&mut own, 1).await, b"");
            assert!(!is_silent(&mut own).await);
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_after_it_was_silent() {
        for (mut own, mut other) in pairs().await {
            write(&mut other, b"hello").await;
            assert_eq!(read(&mut own, 5).await, b"hello");
            let mut is_asked = false;
            let waits = poll_fn(|cx| {
                let polled = own.poll_readable(cx);
                // The first look may be left from the read before.
                if !is_asked && polled.is_ready() && own.is_silent() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                is_asked = true;
                assert_eq!(polled.is_pending(), own.is_silent());
                polled
            });
            let late = async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                write(&mut other, b"a").await;
            };
            let woken = async { tokio::join!(waits, late) };
            // What ends the wait would have it looked at once more.
            let (begun, at_most) = (Instant::now(), Duration::from_secs(5));
            tokio::time::timeout(at_most, woken).await.unwrap().0.unwrap();
            assert!(begun.elapsed() < at_most);
        }
    }

    /// Has a byte come and be read, as a task would that waits for it.
    async fn waits(own: &mut Socket, other: &mut Socket) {
        let reads = async {
            let mut byte = [0];
            loop {
                poll_fn(|cx| own.poll_readable(cx)).await.unwrap();
                let read = poll_fn(|cx| Poll::Ready(own.poll_read(cx, &mut byte))).await;
                if read.is_ready() {
                    return byte;
                }
            }
        };
        let writes = async {
            tokio::task::yield_now().await;
            write(other, b"x").await;
        };
        let both = async { tokio::join!(reads, writes) };
        // Whoever is not woken at all would be polled by the end of the time as well.
        let (begun, at_most) = (Instant::now(), Duration::from_secs(5));
        let read = tokio::time::timeout(at_most, both).await.expect("it was not woken").0;
        assert!(read == *b"x" && begun.elapsed() < at_most);
    }

    #[tokio::test]
    async fn who_waits_is_woken_whatever_was_asked_before() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for (mut own, mut other) in pairs().await {
            waits(&mut own, &mut other).await;
            for _ in 0..60 {
                for _ in 0..random.u8(0..6) {
                    let (asks, has_come, is_own) = (random.u8(0..3), random.bool(), random.bool());
                    if has_come {
                        poll_fn(|cx| {
                            drop(own.poll_readable(cx));
                            Poll::Ready(())
                        })
                        .await;
                        write(&mut other, b"x").await;
                        // The runtime is told of it, and nobody asks whether it is there.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        assert_eq!(read(&mut own, 1).await, b"x");
                    }
                    poll_fn(|cx| {
                        let mut another = Context::from_waker(Waker::noop());
                        let cx = if is_own { cx } else { &mut another };
                        match asks {
                            0 => assert!(own.is_silent()),
                            1 => assert!(own.poll_read(cx, &mut [0]).is_pending()),
                            _ => drop(own.poll_readable(cx)),
                        }
                        Poll::Ready(())
                    })
                    .await;
                }
                waits(&mut own, &mut other).await;
            }
        }
    }
}
