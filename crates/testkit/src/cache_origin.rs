use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

/// Connections that may wait to be accepted.
const WAITING_MAX: i32 = 4096;
/// The largest answer, so that a path cannot ask for all of the memory.
const BYTES_MAX: usize = 64 << 20;
/// Bytes of a block that DEFLATE stores as they are, at most (RFC 1951 section 3.2.4), and of its header.
const BLOCK_BYTES_MAX: usize = 65_535;
const BLOCK_HEADER: usize = 5;
/// Bytes that a member of gzip has around its blocks (RFC 1952 section 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const GZIP_TRAILER: usize = 8;

/// An origin for caches, whose paths say how their answers may be kept: `/BYTES/DELAY_MS/MAX_AGE/KIND/KEY`.
///
/// | kind | answer |
/// |---|---|
/// | `plain` | fresh for `MAX_AGE` seconds |
/// | `vary` | the same, by `Vary: Accept-Encoding`: gzip for who understands it, of as many bytes |
/// | `private` | `no-store` |
///
/// Each has an `ETag`, by which it is confirmed with 304. Any number of requests is answered at once, each after its
/// delay, and all are counted.
#[derive(Debug)]
pub struct CacheOrigin {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl CacheOrigin {
    /// Starts on a free port, on a thread of its own, which has the cores of the one that calls.
    ///
    /// # Errors
    /// When no socket can be bound, or no runtime be made.
    pub fn start() -> Result<Self> {
        let listener = listen().context("cache origin: bind")?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(());
        let requests = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = Arc::clone(&requests);
        let thread = std::thread::spawn(move || LocalSet::new().block_on(&runtime, accept(listener, counted, stopped)));
        Ok(Self { address, requests, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that have come so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for CacheOrigin {
    fn drop(&mut self) {
        let _nobody_listens = self.stop.send(());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A socket on which as many connections may wait as caches make at once: who is turned away tries again after a second.
fn listen() -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(WAITING_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept(listener: std::net::TcpListener, requests: Arc<AtomicU64>, mut stopped: watch::Receiver<()>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => {
                // Who cannot be accepted has gone.
                let Ok((socket, _)) = accepted else { continue };
                let requests = Arc::clone(&requests);
                tokio::task::spawn_local(async move {
                    // However it ends, so does the connection.
                    let _ended = serve(socket, &requests).await;
                });
            }
        }
    }
}

async fn serve(mut socket: TcpStream, requests: &AtomicU64) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut head = Vec::new();
    loop {
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if socket.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        // Requests have no bodies, and the cache waits for each answer.
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let Some(asked) = Asked::read(&text) else {
            socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
            continue;
        };
        tokio::time::sleep(asked.delay).await;
        socket.write_all(&asked.answer(SystemTime::now())).await?;
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked<'r> {
    bytes: usize,
    delay: Duration,
    max_age: u32,
    kind: &'r str,
    key: &'r str,
    understands_gzip: bool,
    if_none_match: Option<&'r str>,
    wants_body: bool,
}

impl<'r> Asked<'r> {
    fn read(head: &'r str) -> Option<Self> {
        let mut lines = head.lines();
        let mut line = lines.next()?.split(' ');
        let (method, target) = (line.next()?, line.next()?);
        let mut parts = target.strip_prefix('/')?.splitn(5, '/');
        let mut number = || parts.next()?.parse::<u32>().ok();
        let (bytes, delay, max_age) = (number()? as usize, number()?, number()?);
        let (kind, key) = (parts.next()?, parts.next()?);
        let is_known = ["plain", "vary", "private"].contains(&kind);
        let field = |name: &str| {
            let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
            fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        (is_known && bytes <= BYTES_MAX).then_some(Self {
            bytes,
            delay: Duration::from_millis(delay.into()),
            max_age,
            kind,
            key,
            understands_gzip: field("accept-encoding").is_some_and(|value| value.contains("gzip")),
            if_none_match: field("if-none-match"),
            wants_body: method != "HEAD",
        })
    }

    fn answer(&self, now: SystemTime) -> Vec<u8> {
        let is_gzip = self.kind == "vary" && self.understands_gzip;
        let etag = format!("\"{}{}\"", self.key, if is_gzip { "-gzip" } else { "" });
        let freshness = match self.kind {
            "private" => "no-store".to_owned(),
            _ => format!("max-age={}", self.max_age),
        };
        let mut fields =
            format!("Date: {}\r\nCache-Control: {freshness}\r\nETag: {etag}\r\n", httpdate::fmt_http_date(now));
        if self.kind == "vary" {
            fields += "Vary: Accept-Encoding\r\n";
        }
        if self.if_none_match == Some(etag.as_str()) {
            return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n").into_bytes();
        }
        if is_gzip {
            fields += "Content-Encoding: gzip\r\n";
        }
        let body = if is_gzip { gzip(self.bytes) } else { vec![b'x'; self.bytes] };
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}Content-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        if self.wants_body {
            answer.extend_from_slice(&body);
        }
        answer
    }
}

/// A member of gzip of exactly so many bytes, or of the fewest that there can be. It stores its content as it is, so that
/// its length is known before it is made.
fn gzip(bytes: usize) -> Vec<u8> {
    let room = bytes.saturating_sub(GZIP_HEADER.len() + GZIP_TRAILER).max(BLOCK_HEADER);
    let blocks = room.div_ceil(BLOCK_BYTES_MAX + BLOCK_HEADER);
    let content = vec![b'z'; room - blocks * BLOCK_HEADER];
    let mut member = GZIP_HEADER.to_vec();
    for at in 0..blocks {
        let (from, to) = (at * BLOCK_BYTES_MAX, content.len().min((at + 1) * BLOCK_BYTES_MAX));
        let block = content.get(from..to).unwrap_or_default();
        let len = block.len() as u16;
        member.push(u8::from(at + 1 == blocks));
        member.extend_from_slice(&len.to_le_bytes());
        member.extend_from_slice(&(!len).to_le_bytes());
        member.extend_from_slice(block);
    }
    member.extend_from_slice(&crc32(&content).to_le_bytes());
    member.extend_from_slice(&(content.len() as u32).to_le_bytes());
    member
}

/// The checksum of RFC 1952 section 8, bit by bit: contents are few and short.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum: u32, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_answered() {
        let answer = |head: &str| {
            let asked = Asked::read(head)?;
            Some(String::from_utf8_lossy(&asked.answer(SystemTime::UNIX_EPOCH)).into_owned())
        };
        let plain = answer("GET /4/0/60/plain/a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(
            plain.starts_with("HTTP/1.1 200 OK\r\n") && plain.ends_with("Content-Length: 4\r\n\r\nxxxx"),
            "{plain}"
        );
        assert!(plain.contains("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n"));
        let confirmed = answer("GET /4/0/60/plain/a HTTP/1.1\r\nIf-None-Match: \"a\"\r\n\r\n").unwrap();
        assert!(confirmed.starts_with("HTTP/1.1 304 ") && confirmed.ends_with("\r\n\r\n"), "{confirmed}");
        let private = answer("HEAD /4/0/60/private/a HTTP/1.1\r\n\r\n").unwrap();
        assert!(private.contains("Cache-Control: no-store") && private.ends_with("\r\n\r\n"), "{private}");
        let vary = answer("GET /99/0/60/vary/a HTTP/1.1\r\nAccept-Encoding: br, gzip\r\n\r\n").unwrap();
        assert!(vary.contains("Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\n"), "{vary}");
        for path in ["/", "/4/0/60/plain", "/4/0/60/other/a", "/4/0/x/plain/a", "/4000000000/0/60/plain/a"] {
            assert_eq!(answer(&format!("GET {path} HTTP/1.1\r\n\r\n")), None, "{path}");
        }
        let asked = Asked::read("GET /4/200/60/plain/a HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(asked.delay, Duration::from_millis(200));
    }

    #[test]
    fn members_of_gzip_are_as_long_as_they_are_to_be() {
        // What python3 -c "import zlib; print(zlib.crc32(b'123456789'))" prints, as every table of checksums.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        for bytes in [23, 24, 1024, 65_535 + 23, 65_535 + 28, 100 << 10, 1 << 20] {
            assert_eq!(gzip(bytes).len(), bytes);
        }
        assert_eq!(gzip(0).len(), 23, "an empty one is the shortest");
    }
}
