use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::message;

/// How many failures are kept word by word.
const FAILURES_MAX: usize = 20;
/// Sub-buckets per power of two, so that a latency is known to better than 1 %.
const SUB_BUCKETS: usize = 128;

/// What load to send.
#[derive(Clone, Debug)]
pub struct LoadParams {
    /// Where to.
    pub address: SocketAddr,
    /// Keep-alive connections, each a thread that sends one GET after another.
    pub connections: usize,
    /// The path.
    pub path: String,
    /// The `Host` field.
    pub host: String,
    /// Pause of a connection between an answer and its next request.
    pub pause: Duration,
    /// Time for one request, connecting included.
    pub timeout: Duration,
    /// Requests carry `X-Key`, one of so many, in no order; none with 0.
    pub keys: usize,
}

impl LoadParams {
    /// 64 connections to `address` asking for `/` with a pause of 2 ms, which leaves room for what is tested.
    pub fn new(address: SocketAddr) -> Self {
        let (path, host) = ("/".to_owned(), "load.test".to_owned());
        let (pause, timeout) = (Duration::from_millis(2), Duration::from_secs(10));
        Self { address, connections: 64, path, host, pause, timeout, keys: 0 }
    }
}

/// Requests counted by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered wholly, with a status of 200 to 299.
    pub ok: u64,
    /// Failed before a byte of an answer came, or answered with another status: nothing that could not be sent again.
    pub failed_before_head: u64,
    /// Failed after the answer had begun.
    pub failed_after_head: u64,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Outcomes.
    pub counts: Counts,
    /// Latencies of the requests answered well, in microseconds.
    pub latency: Histogram,
    /// Connections made, which is one for each of the load's own when none was lost.
    pub connections: u64,
    /// Answers by `X-Instance`.
    pub instances: BTreeMap<String, u64>,
    /// The first 20 failures in words.
    pub failures: Vec<String>,
}

/// A load under way. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Report>>,
}

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    ok: AtomicU64,
    failed_before_head: AtomicU64,
    failed_after_head: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Counts of values in buckets that grow with the value, so that percentiles need no sorting and memory is bounded.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: BTreeMap<u32, u64>,
    count: u64,
}

impl Load {
    /// Starts to send.
    pub fn start(params: &LoadParams) -> Self {
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            ok: AtomicU64::new(0),
            failed_before_head: AtomicU64::new(0),
            failed_after_head: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
        });
        let client = |number| {
            let (params, shared) = (params.clone(), Arc::clone(&shared));
            std::thread::spawn(move || Client::new(params, shared, number).run())
        };
        let threads = (0..params.connections).map(client).collect();
        Self { shared, threads }
    }

    /// The outcomes so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            ok: read(&self.shared.ok),
            failed_before_head: read(&self.shared.failed_before_head),
            failed_after_head: read(&self.shared.failed_after_head),
        }
    }

    /// Lets requests under way finish, closes the connections, and gives what came of it.
    pub fn stop(mut self) -> Report {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut report = Report::default();
        for thread in self.threads.drain(..) {
            let part = thread.join().expect("a load thread panicked");
            report.latency.merge(&part.latency);
            report.connections += part.connections;
            for (name, count) in part.instances {
                *report.instances.entry(name).or_default() += count;
            }
        }
        report.counts = self.counts();
        report.failures.append(&mut self.shared.failures.lock().expect("a load thread panicked"));
        report
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        *self.buckets.entry(bucket_of(value)).or_default() += 1;
        self.count += 1;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value below which this share (0 to 1) of the values lies, to 1 %; 0 when nothing was counted.
    pub fn percentile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (&bucket, &count) in &self.buckets {
            seen += count;
            if seen >= rank {
                return value_of(bucket);
            }
        }
        0
    }

    /// Counts what another has counted as well.
    pub fn merge(&mut self, other: &Self) {
        for (&bucket, &count) in &other.buckets {
            *self.buckets.entry(bucket).or_default() += count;
        }
        self.count += other.count;
    }
}

fn bucket_of(value: u64) -> u32 {
    let sub = SUB_BUCKETS as u64;
    if value < sub {
        return value as u32;
    }
    // The value's seven bits below the leading one, and how far they are shifted.
    let shift = value.ilog2() - sub.ilog2();
    shift * SUB_BUCKETS as u32 + (value >> shift) as u32
}

fn value_of(bucket: u32) -> u64 {
    let sub = SUB_BUCKETS as u32;
    if bucket < sub {
        return u64::from(bucket);
    }
    let shift = bucket / sub - 1;
    u64::from(bucket - shift * sub) << shift
}

/// How one request went wrong.
enum Failure {
    BeforeHead(anyhow::Error),
    AfterHead(anyhow::Error),
}

struct Client {
    params: LoadParams,
    shared: Arc<Shared>,
    request: Vec<u8>,
    /// Which key comes next.
    turn: u64,
    stream: Option<TcpStream>,
    report: Report,
}

impl Client {
    fn new(params: LoadParams, shared: Arc<Shared>, number: usize) -> Self {
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", params.path, params.host).into_bytes();
        Self { params, shared, request, turn: number as u64, stream: None, report: Report::default() }
    }

    /// Writes the next key into the request.
    fn turn(&mut self) {
        // A linear congruential generator (Knuth, MMIX): clients meet at keys, but do not go from one to the next together.
        self.turn = self.turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (self.turn >> 33) as usize % self.params.keys;
        let LoadParams { path, host, .. } = &self.params;
        self.request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Key: {key}\r\n\r\n").into_bytes();
    }

    fn run(mut self) -> Report {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            if self.params.keys > 0 {
                self.turn();
            }
            let start = Instant::now();
            match self.exchange(start + self.params.timeout) {
                Ok(()) => {
                    self.shared.ok.fetch_add(1, Ordering::Relaxed);
                    self.report.latency.record(start.elapsed().as_micros() as u64);
                }
                Err(failure) => {
                    self.note(&failure);
                }
            }
            std::thread::sleep(self.params.pause);
        }
        self.report
    }

    fn note(&self, failure: &Failure) {
        let (counter, text) = match failure {
            Failure::BeforeHead(error) => (&self.shared.failed_before_head, format!("before the answer: {error:#}")),
            Failure::AfterHead(error) => (&self.shared.failed_after_head, format!("within the answer: {error:#}")),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.shared.failures.lock().expect("a load thread panicked");
        if failures.len() < FAILURES_MAX {
            failures.push(text);
        }
    }

    fn exchange(&mut self, deadline: Instant) -> Result<(), Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect(deadline).map_err(Failure::BeforeHead)?,
        };
        let mut received = Vec::new();
        let response = match roundtrip(&mut stream, &self.request, &mut received, deadline) {
            Ok(response) => response,
            Err(error) if received.is_empty() => return Err(Failure::BeforeHead(error)),
            Err(error) => return Err(Failure::AfterHead(error)),
        };
        if !response.closes() {
            self.stream = Some(stream);
        }
        if !(200..300).contains(&response.status) {
            let error = anyhow::anyhow!("status {}: {}", response.status, response.text().trim_end());
            return Err(Failure::BeforeHead(error));
        }
        if let Some(name) = response.fields.get("x-instance") {
            *self.report.instances.entry(name.to_owned()).or_default() += 1;
        }
        Ok(())
    }

    fn connect(&mut self, deadline: Instant) -> Result<TcpStream> {
        self.report.connections += 1;
        let stream = TcpStream::connect_timeout(&self.params.address, left(deadline)?).context("connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn roundtrip(
    stream: &mut TcpStream,
    request: &[u8],
    received: &mut Vec<u8>,
    deadline: Instant,
) -> Result<message::Response> {
    stream.write_all(request).context("send")?;
    let mut buffer = [0; 64 * 1024];
    let mut ended = false;
    loop {
        if let message::Read::Whole(response, len) = message::response(received, "GET", ended)? {
            anyhow::ensure!(len == received.len(), "{} bytes after the answer", received.len() - len);
            return Ok(response);
        }
        anyhow::ensure!(!ended, "the connection ended after {} bytes", received.len());
        stream.set_read_timeout(Some(left(deadline)?))?;
        let count = stream.read(&mut buffer).context("receive")?;
        received.extend_from_slice(&buffer[..count]);
        ended = count == 0;
    }
}

fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    anyhow::ensure!(!left.is_zero(), "timed out");
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_percent() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), 0);
        (1..=100_000).for_each(|value| histogram.record(value));
        for (share, exact) in [(0.0, 1.0), (0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = histogram.percentile(share) as f64;
            assert!(found <= exact && found >= exact * 0.99, "{share}: {found}");
        }
        for value in [0, 1, 31, 32, 33, 63, 64, 1000, u64::MAX] {
            let lower = value_of(bucket_of(value));
            assert!(lower <= value && lower >= value - value / 128, "{value}: {lower}");
        }
    }
}
