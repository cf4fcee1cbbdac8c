use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use testkit::RawConn;
use testkit::http2::{Http2Conn, frame, hpack};

/// The handshake over HTTP/1.1, with the key of RFC 6455 section 1.3.
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The stream of a tunnel over HTTP/2.
const STREAM: u32 = 1;
/// Windows that never hold up a row.
const WINDOW_MAX: u32 = (1 << 31) - 1;
const WINDOW_DEFAULT: u32 = 65_535;

/// What a tunnel goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Bare1,
    Tls1,
    Bare2,
    Tls2,
}

impl Over {
    pub(super) const ALL: [Self; 4] = [Self::Bare1, Self::Tls1, Self::Bare2, Self::Tls2];

    pub(super) fn is_tls(self) -> bool {
        matches!(self, Self::Tls1 | Self::Tls2)
    }

    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Bare1 => "HTTP/1.1",
            Self::Tls1 => "HTTP/1.1 and TLS",
            Self::Bare2 => "HTTP/2",
            Self::Tls2 => "HTTP/2 and TLS",
        }
    }
}

/// A client's end of a WebSocket's connection, as octets.
pub(super) enum Tunnel {
    Conn(RawConn),
    Stream(Box<Http2Conn>),
}

impl Tunnel {
    /// Does the handshake. `early` is sent without waiting for its answer.
    pub(super) fn open(over: Over, address: SocketAddr, authority: &Path, early: &[u8]) -> Result<Self> {
        let is_http2 = matches!(over, Over::Bare2 | Over::Tls2);
        let protocol = if is_http2 { "h2" } else { "http/1.1" };
        let mut conn = match over.is_tls() {
            true => RawConn::connect_tls(address, authority, "localhost", &[protocol])?,
            false => RawConn::connect(address)?,
        };
        if is_http2 {
            return Self::open_stream(Http2Conn::new(conn), early);
        }
        conn.send([UPGRADE.as_bytes(), early].concat())?;
        let response = conn.read_response("GET")?;
        ensure!(response.status == 101, "answered {}", response.status);
        Ok(Self::Conn(conn))
    }

    fn open_stream(mut conn: Http2Conn, early: &[u8]) -> Result<Self> {
        const TIMEOUT: Duration = Duration::from_secs(5);
        conn.begin(&[(frame::setting::INITIAL_WINDOW_SIZE, WINDOW_MAX)], TIMEOUT)?;
        let allowed = conn.heard().setting(frame::setting::ENABLE_CONNECT_PROTOCOL);
        ensure!(allowed == Some(1), "extended CONNECT is not offered");
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/chat"),
            (":authority", "localhost"),
            ("sec-websocket-version", "13"),
        ];
        let head = frame::headers(STREAM, false, &hpack::literals(&fields));
        conn.send(&[frame::window(0, WINDOW_MAX - WINDOW_DEFAULT), head].concat())?;
        conn.upload(STREAM, early, (1 << 14, None), false)?;
        let answered = conn.receive_until(TIMEOUT, |heard| heard.answer(STREAM).is_some())?;
        let status = conn.heard().answer(STREAM).map(|head| head.status);
        ensure!(answered && status == Some(200), "answered {status:?}, {:?}", conn.wrong());
        Ok(Self::Stream(Box::new(conn)))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Conn(conn) => conn.send(bytes),
            Self::Stream(conn) => conn.upload(STREAM, bytes, (1 << 14, None), false),
        }
    }

    /// Receives until so many octets have come in all; false when they do not in time, or the end comes first.
    pub(super) fn receive(&mut self, count: usize, time: Duration) -> Result<bool> {
        match self {
            Self::Conn(conn) => {
                let deadline = Instant::now() + time;
                while conn.unread().len() < count && !conn.has_ended() && Instant::now() < deadline {
                    conn.ends_within(Duration::from_millis(2))?;
                }
                Ok(conn.unread().len() >= count)
            }
            Self::Stream(conn) => conn.receive_until(time, |heard| heard.data_len(STREAM) >= count),
        }
    }

    /// All that was received.
    pub(super) fn received(&self) -> &[u8] {
        match self {
            Self::Conn(conn) => conn.unread(),
            Self::Stream(conn) => conn.heard().data.get(&STREAM).map_or(&[], Vec::as_slice),
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self {
            Self::Conn(conn) => conn.finish(),
            Self::Stream(conn) => conn.send(&frame::data(STREAM, true, &[])),
        }
    }

    /// Ends abruptly.
    pub(super) fn reset(self) -> Result<()> {
        match self {
            Self::Conn(conn) => conn.reset(),
            Self::Stream(mut conn) => {
                conn.send(&frame::reset(STREAM, frame::code::CANCEL))?;
                // The connection lives on, so that it is the reset of the stream that the upstream learns of.
                conn.receive_until(Duration::from_millis(300), |_| false)?;
                ensure!(!conn.has_ended(), "the connection ended with the stream");
            }
        }
        Ok(())
    }

    /// Receives until the other side has ended; false when it does not in time.
    pub(super) fn ends_within(&mut self, time: Duration) -> Result<bool> {
        match self {
            Self::Conn(conn) => conn.ends_within(time),
            Self::Stream(conn) => {
                conn.receive_until(time, |heard| heard.ended.contains(&STREAM) || heard.resets.contains_key(&STREAM))
            }
        }
    }
}
