use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The handshake, with the key of RFC 6455 section 1.3, and its answer.
const ASK: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Pause of a socket between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for a message to come back.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Open WebSockets, on each of which one message after another goes to and fro.
#[derive(Debug)]
pub(super) struct Sockets {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    messages: AtomicU64,
    dropped: Mutex<Vec<String>>,
}

/// Starts a server that answers handshakes and sends back what it gets, for as long as this process lives.
pub(super) fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // One whose client goes ends, whichever way.
            std::thread::spawn(move || echo(stream).ok());
        }
    });
    Ok(address)
}

fn echo(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    read_head(&mut stream)?;
    stream.write_all(ANSWER.as_bytes())?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

/// Reads a head octet by octet, so that nothing after it is read.
fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).context("the head")?;
        head.push(octet[0]);
        ensure!(head.len() < 8192, "the head has no end");
    }
    Ok(String::from_utf8(head)?)
}

impl Sockets {
    /// Opens so many.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(super) fn open(address: SocketAddr, count: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(ASK.as_bytes())?;
            let head = read_head(&mut stream)?;
            ensure!(head.starts_with("HTTP/1.1 101 "), "socket {number}: {head}");
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || shared.converse(number, stream)));
        }
        Ok(Self { shared, threads })
    }

    /// Messages that have come back so far.
    pub(super) fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// Closes them, and gives why some were dropped before.
    pub(super) fn close(self) -> Vec<String> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a socket's thread panicked");
        }
        std::mem::take(&mut self.shared.dropped.lock().expect("a socket's thread panicked"))
    }
}

impl Shared {
    fn converse(&self, number: usize, mut stream: TcpStream) {
        let mut count = 0_u64;
        while !self.stopping.load(Ordering::Relaxed) {
            count += 1;
            if let Err(error) = exchange(&mut stream, count) {
                let mut dropped = self.dropped.lock().expect("a socket's thread panicked");
                dropped.push(format!("socket {number}, message {count}: {error:#}"));
                return;
            }
            self.messages.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Sends one message, and awaits it back.
fn exchange(stream: &mut TcpStream, count: u64) -> Result<()> {
    // A whole binary message of 8 octets, masked with zeros: RFC 6455 section 5.2.
    let mut frame = vec![0x82, 0x88, 0, 0, 0, 0];
    frame.extend(count.to_be_bytes());
    stream.write_all(&frame).context("send")?;
    let mut back = vec![0; frame.len()];
    stream.read_exact(&mut back).context("receive")?;
    ensure!(back == frame, "another message came back");
    Ok(())
}
