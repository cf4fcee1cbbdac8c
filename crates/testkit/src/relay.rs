use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a side that is silent is asked whether it was cut.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What clients send.
    ToServer,
    /// What the server sends.
    ToClient,
}

/// A network between clients and a server that can be slow, either way by itself, or break.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    is_over: AtomicBool,
    /// How often everything was cut.
    cuts: AtomicU64,
    slow: [Mutex<Option<Slow>>; 2],
}

/// How slow it is one way, and until when.
#[derive(Clone, Copy, Debug)]
struct Slow {
    piece: Duration,
    until: Instant,
}

impl Relay {
    /// Listens on a port of its own, and passes on to a server.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let slow = [Mutex::new(None), Mutex::new(None)];
        let shared = Shared { server, is_over: AtomicBool::new(false), cuts: AtomicU64::new(0), slow };
        let shared = Arc::new(shared);
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps back all that goes one way, for some time from now on.
    pub fn stall(&self, way: Way, time: Duration) {
        self.slow(way, time, time);
    }

    /// Has each piece of what goes one way wait so long, for some time from now on; what comes meanwhile is the next piece.
    pub fn slow(&self, way: Way, piece: Duration, time: Duration) {
        let slow = Slow { piece, until: Instant::now() + time };
        *self.shared.slow[way as usize].lock().expect("a relay panicked") = Some(slow);
    }

    /// Breaks all connections; what is on its way is lost.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.cut();
        if let Some(accepting) = self.accepting.take() {
            let _ended = accepting.join();
        }
    }
}

impl Shared {
    fn is_cut(&self, since: u64) -> bool {
        self.cuts.load(Ordering::SeqCst) != since
    }

    /// Whether a piece that has come at some time has to wait.
    fn is_waiting(&self, way: Way, came: Instant) -> bool {
        let (slow, now) = (*self.slow[way as usize].lock().expect("a relay panicked"), Instant::now());
        slow.is_some_and(|slow| now < slow.until && now < came + slow.piece)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.is_over.load(Ordering::SeqCst) {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(LOOK_AGAIN);
            continue;
        };
        // Without a server the client's connection ends here, as it would there.
        let Ok(server) = TcpStream::connect(shared.server) else { continue };
        let since = shared.cuts.load(Ordering::SeqCst);
        for (from, to, way) in [(&client, &server, Way::ToServer), (&server, &client, Way::ToClient)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { break };
            let shared = Arc::clone(shared);
            std::thread::spawn(move || pass(from, to, way, &shared, since));
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, way: Way, shared: &Shared, since: u64) {
    let mut buffer = vec![0; 64 * 1024];
    let _defaults_do = (from.set_nonblocking(false), from.set_read_timeout(Some(LOOK_AGAIN)), to.set_nodelay(true));
    while !shared.is_cut(since) {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        let came = Instant::now();
        while shared.is_waiting(way, came) && !shared.is_cut(since) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if shared.is_cut(since) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ended = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_are_kept_back_and_are_lost() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(server.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(relay.address()).unwrap();
        let (mut served, _) = server.accept().unwrap();
        let mut word = [0; 4];
        client.write_all(b"ping").unwrap();
        served.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ping");
        relay.stall(Way::ToClient, Duration::from_millis(300));
        let began = Instant::now();
        served.write_all(b"pong").unwrap();
        client.read_exact(&mut word).unwrap();
        assert!(&word == b"pong" && began.elapsed() >= Duration::from_millis(250));
        relay.slow(Way::ToServer, Duration::from_millis(200), Duration::from_secs(60));
        let began = Instant::now();
        for _ in 0..2 {
            client.write_all(b"ping").unwrap();
            served.read_exact(&mut word).unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(350));
        relay.cut();
        assert_eq!(client.read(&mut word).unwrap_or(0), 0);
        assert_eq!(served.read(&mut word).unwrap_or(0), 0);
    }
}
