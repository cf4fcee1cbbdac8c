use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{Histogram, RawConn};

/// How many failures of a window are kept word by word.
const FAILURES_MAX: usize = 5;

/// What load to send, and how often.
#[derive(Clone, Debug)]
pub struct SteadyParams {
    /// Where to.
    pub address: SocketAddr,
    /// The path.
    pub path: String,
    /// Requests per second, over all connections.
    pub rate: u32,
    /// Connections, each a thread. Enough of them that none has to wait for its own last answer.
    pub connections: u32,
    /// Every so many requests a connection is given up for a new one, so that those who come are measured beside those
    /// who are there; 0 for never.
    pub fresh_every: u32,
    /// The file of the authority that vouches for the server, and the server's name, under TLS.
    pub tls: Option<(PathBuf, String)>,
}

/// GETs at fixed moments, whatever becomes of the answers. Each has a moment at which it is due, and its latency counts
/// from then: a server that stands still shows in the latency of all that were due meanwhile.
#[derive(Debug)]
pub struct Steady {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What came of the requests that ended within a time.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Latencies of the requests answered with 200, in microseconds.
    pub latency: Histogram,
    /// Requests that failed, or were answered otherwise.
    pub failed: u64,
    /// The first of them in words.
    pub failures: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    params: SteadyParams,
    start: Instant,
    stopping: AtomicBool,
    window: Mutex<Window>,
}

impl Steady {
    /// Starts to send.
    pub fn start(params: SteadyParams) -> Self {
        let count = params.connections;
        let (stopping, window) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { params, start: Instant::now(), stopping, window });
        let client = |at| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.send(at))
        };
        Self { threads: (0..count).map(client).collect(), shared }
    }

    /// What came of the requests that ended since the last call, or the start.
    pub fn window(&self) -> Window {
        std::mem::take(&mut *self.shared.window())
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().expect("a load thread panicked")
    }

    fn send(&self, at: u32) {
        let SteadyParams { rate, connections, fresh_every, .. } = self.params;
        let mut conn = None;
        // The connections give theirs up at different moments.
        for turn in at.. {
            let due = self.start + Duration::from_secs(1) * ((turn - at) * connections + at) / rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if fresh_every > 0 && turn % fresh_every == 0 {
                conn = None;
            }
            let outcome = self.exchange(&mut conn);
            let mut window = self.window();
            match outcome {
                Ok(()) => window.latency.record(due.elapsed().as_micros() as u64),
                Err(error) => {
                    conn = None;
                    window.failed += 1;
                    if window.failures.len() < FAILURES_MAX {
                        window.failures.push(format!("{error:#}"));
                    }
                }
            }
        }
    }

    fn exchange(&self, conn: &mut Option<RawConn>) -> Result<()> {
        let SteadyParams { address, path, tls, .. } = &self.params;
        let conn = match conn {
            Some(conn) => conn,
            None => conn.insert(match tls {
                None => RawConn::connect(*address)?,
                Some((authority, name)) => RawConn::connect_tls(*address, authority, name, &["http/1.1"])?,
            }),
        };
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
        let response = conn.read_response("GET")?;
        ensure!(response.status == 200, "status {}: {}", response.status, response.text().trim_end());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    fn params(address: SocketAddr, path: &str) -> SteadyParams {
        SteadyParams { address, path: path.to_owned(), rate: 200, connections: 4, fresh_every: 10, tls: None }
    }

    #[test]
    fn windows_are_told_apart_and_failures_are_counted() {
        let origin = Origin::start("a").unwrap();
        let load = Steady::start(params(origin.address(), "/"));
        std::thread::sleep(Duration::from_millis(500));
        let first = load.window();
        assert!(first.failed == 0 && (20..=110).contains(&first.latency.count()), "{first:?}");
        origin.stop();
        std::thread::sleep(Duration::from_millis(300));
        let second = load.window();
        assert!(second.failed > 0 && !second.failures.is_empty(), "{second:?}");
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let origin = Origin::start("a").unwrap();
        // Each connection can answer two requests a second, and is to send fifty.
        let load = Steady::start(params(origin.address(), "/delay/500"));
        std::thread::sleep(Duration::from_millis(1700));
        let window = load.window();
        assert!(window.latency.percentile(1.0) > 1_200_000, "{window:?}");
    }
}
