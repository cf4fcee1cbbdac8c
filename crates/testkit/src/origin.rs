use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;

use crate::message::{self, Request};

/// A sample service within this process: HTTP/1.1 with keep-alive, a thread per connection. Every answer names the
/// instance in `X-Instance`.
///
/// | path | answer |
/// |---|---|
/// | `/bytes/N` | N bytes |
/// | `/stream/N` | N bytes, which are made as they are taken |
/// | `/delay/MS` | the default answer after so many milliseconds |
/// | `/status/N` | status N |
/// | `/echo` | the request's body |
/// | `/fields` | the request line and fields as they arrived, one per line |
/// | any other | `{"instance":"NAME"}` |
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    stopping: AtomicBool,
    requests: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
}

impl Origin {
    /// Starts an instance of this name on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0), name)
    }

    /// Starts an instance at an address, such as that of one that was stopped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start_at(address: impl Into<SocketAddr>, name: &str) -> Result<Self> {
        let address = address.into();
        let listener = TcpListener::bind(address).with_context(|| format!("origin {name}: bind {address}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(name));
        let accepting = Arc::clone(&shared);
        let acceptor = Some(std::thread::spawn(move || accept(&listener, &accepting)));
        Ok(Self { address, shared, acceptor })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests answered so far, health checks included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Stops at once, as a process that is killed does: nothing listens any more, and every connection is reset.
    /// [`start_at`](Self::start_at) with the same address brings it back.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::Relaxed);
        // A connection of its own wakes the acceptor, which then sees that it has to stop.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let _ = acceptor.join();
        for connection in self.shared.connections.lock().expect("a connection's thread panicked").drain(..) {
            let _ = SockRef::from(&connection).set_linger(Some(Duration::ZERO));
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves as an instance of this name until the process ends; what a child process runs that is to be killed.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve(address: SocketAddr, name: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("origin {name}: bind {address}"))?;
    accept(&listener, &Arc::new(Shared::new(name)));
    Ok(())
}

impl Shared {
    fn new(name: &str) -> Self {
        let (stopping, requests) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { name: name.to_owned(), stopping, requests, connections: Mutex::new(Vec::new()) }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(own) = stream.try_clone() else { continue };
        let Ok(mut connections) = shared.connections.lock() else { return };
        connections.push(stream);
        drop(connections);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let peer = own.peer_addr().ok();
            converse(own, &shared);
            // The record's handle goes too, so that the connection closes.
            if let Ok(mut connections) = shared.connections.lock() {
                connections.retain(|connection| connection.peer_addr().is_ok_and(|address| Some(address) != peer));
            }
        });
    }
}

fn converse(mut stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut pending = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match message::request(&pending) {
            Ok(message::Read::Whole(request, len)) => {
                pending.drain(..len);
                shared.requests.fetch_add(1, Ordering::Relaxed);
                let sent = match request.target.strip_prefix("/stream/").and_then(|text| text.parse().ok()) {
                    Some(count) => send_stream(&mut stream, &shared.name, count),
                    None => stream.write_all(&answer(&request, &shared.name)),
                };
                if sent.is_err() || !keeps(&request) {
                    return;
                }
            }
            Ok(message::Read::Partial) => match stream.read(&mut buffer) {
                Ok(count @ 1..) => pending.extend_from_slice(&buffer[..count]),
                _ => return,
            },
            Err(_) => {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return;
            }
        }
    }
}

fn keeps(request: &Request) -> bool {
    request.is_http11 && !request.fields.has_token("connection", "close")
}

/// Sends so many bytes without ever having them.
fn send_stream(stream: &mut TcpStream, name: &str, count: u64) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nX-Instance: {name}\r\nContent-Length: {count}\r\n\r\n");
    // Little of it is on its way at any time, so that many streams which nobody reads cost nothing.
    SockRef::from(&*stream).set_send_buffer_size(64 << 10)?;
    stream.write_all(head.as_bytes())?;
    let piece = [b'x'; 16 << 10];
    let mut rest = count;
    while rest > 0 {
        let len = rest.min(piece.len() as u64);
        stream.write_all(&piece[..len as usize])?;
        rest -= len;
    }
    Ok(())
}

fn answer(request: &Request, name: &str) -> Vec<u8> {
    let path = request.target.split('?').next().unwrap_or_default();
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|text| text.parse::<u32>().ok());
    let named = || format!("{{\"instance\":\"{name}\"}}\n").into_bytes();
    let mut status = 200;
    let body = if let Some(count) = number("/bytes/") {
        vec![b'x'; count as usize]
    } else if let Some(millis) = number("/delay/") {
        std::thread::sleep(Duration::from_millis(u64::from(millis)));
        named()
    } else if let Some(wanted @ 200..=599) = number("/status/") {
        status = wanted;
        named()
    } else if path == "/echo" {
        request.body.clone()
    } else if path == "/fields" {
        let mut lines = format!("{} {}\n", request.method, request.target);
        request.fields.iter().for_each(|(field, value)| lines.extend([field, ": ", value, "\n"]));
        lines.into_bytes()
    } else {
        named()
    };
    let close = if keeps(request) { "" } else { "Connection: close\r\n" };
    let head =
        format!("HTTP/1.1 {status} Status\r\nX-Instance: {name}\r\nContent-Length: {}\r\n{close}\r\n", body.len());
    let mut answer = head.into_bytes();
    if request.method != "HEAD" {
        answer.extend(body);
    }
    answer
}
