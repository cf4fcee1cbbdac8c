use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// A service that can do so much and no more: it has slots, each works on one request for the same time, and what comes
/// beyond waits in their order, however long. It works on what it was given even when nobody waits for it any more, as
/// most services do.
///
/// Which slot takes a request, and when it is done, is computed when the request comes, so that the capacity is exact
/// whatever the machine's timers do.
#[derive(Debug)]
pub struct SlotServer {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    stop: watch::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Slots {
    /// When each slot is free again, the earliest first.
    free: Mutex<BinaryHeap<Reverse<Instant>>>,
    time: Duration,
    requests: Arc<AtomicU64>,
}

impl SlotServer {
    /// Starts on a free port, with so many slots, each of which takes this time for a request.
    ///
    /// # Errors
    /// When no socket can be bound, or no thread be made.
    pub fn start(slots: usize, time: Duration) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("slots: bind")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(());
        let requests = Arc::new(AtomicU64::new(0));
        let free = (0..slots).map(|_| Reverse(Instant::now())).collect();
        let slots = Arc::new(Slots { free: Mutex::new(free), time, requests: Arc::clone(&requests) });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || LocalSet::new().block_on(&runtime, accept(listener, slots, stopped)));
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

impl Drop for SlotServer {
    fn drop(&mut self) {
        let _nobody_listens = self.stop.send(());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: std::net::TcpListener, slots: Arc<Slots>, mut stopped: watch::Receiver<()>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => {
                // Who cannot be accepted has gone.
                let Ok((socket, _)) = accepted else { continue };
                let slots = Arc::clone(&slots);
                tokio::task::spawn_local(async move {
                    // However it ends, so does the connection.
                    let _ended = serve(socket, &slots).await;
                });
            }
        }
    }
}

async fn serve(mut socket: TcpStream, slots: &Slots) -> std::io::Result<()> {
    let _slower = socket.set_nodelay(true);
    let mut head = Vec::new();
    loop {
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if socket.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        // Requests have no bodies, and their client waits for each answer.
        head.clear();
        tokio::time::sleep_until(slots.take(Instant::now()).into()).await;
        socket.write_all(ANSWER).await?;
    }
}

impl Slots {
    /// When a request that has come now is done.
    fn take(&self, now: Instant) -> Instant {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut free = self.free.lock().expect("another request has panicked");
        let Some(Reverse(first)) = free.pop() else { return now };
        let done = first.max(now) + self.time;
        free.push(Reverse(done));
        done
    }
}
