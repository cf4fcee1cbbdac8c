use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout_at};

use crate::Histogram;

/// Requests that come when they come, whatever becomes of those before them, as those of many people do.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    /// Where to.
    pub address: SocketAddr,
    /// Requests per second, at random moments.
    pub rate: u32,
    /// For how long.
    pub time: Duration,
    /// What came of requests that were due within this time from the beginning is left out.
    pub warm_up: Duration,
    /// How long a client waits from when its request was due. Then it closes its connection.
    pub deadline: Duration,
    /// Paths, and their shares of the requests.
    pub paths: Vec<(String, u32)>,
    /// By which the moments are drawn.
    pub seed: u64,
}

/// What came of the requests for a path.
#[derive(Clone, Debug, Default)]
pub struct Offered {
    /// Requests that were due.
    pub due: u64,
    /// Those answered with 200 within the deadline.
    pub good: u64,
    /// Those answered with 503, and of them those that were told when to come again.
    pub refused: u64,
    /// See `refused`.
    pub told_when: u64,
    /// Those that had no answer within the deadline.
    pub missed: u64,
    /// All others.
    pub failed: u64,
    /// The first of them in words.
    pub failure: Option<String>,
    /// Times from when requests were due to the end of the answer, of those that were answered with 200 in time; those that
    /// missed the deadline count with it. In microseconds.
    pub latency: Histogram,
    /// How late requests were begun, because this client was busy, in microseconds.
    pub late: Histogram,
}

/// A client's answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    retry_after: bool,
    /// Whether the connection stays.
    pub(crate) keeps: bool,
}

type Pool = Rc<RefCell<Vec<TcpStream>>>;

impl OpenLoop {
    /// Sends all of it, and waits for the end: what came of each path.
    ///
    /// # Errors
    /// When no runtime can be made, or there are no paths.
    pub fn run(&self) -> Result<Vec<Offered>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        ensure!(self.paths.iter().any(|(_, share)| *share > 0), "there is nothing to ask for");
        Ok(LocalSet::new().block_on(&runtime, self.send()))
    }

    async fn send(&self) -> Vec<Offered> {
        let results = Rc::new(RefCell::new(vec![Offered::default(); self.paths.len()]));
        let (pool, mut random) = (Pool::default(), fastrand::Rng::with_seed(self.seed));
        let total: u32 = self.paths.iter().map(|(_, share)| share).sum();
        let start = Instant::now();
        let (mut due, mut tasks) = (start, Vec::new());
        loop {
            // Times between independent events are distributed exponentially.
            due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / f64::from(self.rate));
            if due >= start + self.time {
                break;
            }
            let mut drawn = random.u32(..total);
            let path = self.paths.iter().position(|(_, share)| match drawn.checked_sub(*share) {
                Some(rest) => {
                    drawn = rest;
                    false
                }
                None => true,
            });
            sleep_until(due.into()).await;
            let path = path.unwrap_or(0);
            let request = format!("GET {} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", self.paths[path].0);
            let (address, deadline) = (self.address, self.deadline);
            let (pool, results) = (Rc::clone(&pool), Rc::clone(&results));
            let counts = due >= start + self.warm_up;
            tasks.push(tokio::task::spawn_local(async move {
                let begun = Instant::now();
                let asked = timeout_at((due + deadline).into(), ask(address, &pool, &request)).await;
                if counts {
                    results.borrow_mut()[path].add(due, begun, deadline, asked.ok());
                }
            }));
            tasks.retain(|task| !task.is_finished());
        }
        for task in tasks {
            // A task that panicked has said so.
            let _ended = task.await;
        }
        results.take()
    }
}

impl Offered {
    fn add(&mut self, due: Instant, begun: Instant, deadline: Duration, asked: Option<Result<Answer>>) {
        let micros = |time: Duration| time.as_micros() as u64;
        self.due += 1;
        self.late.record(micros(begun.saturating_duration_since(due)));
        match asked {
            None => {
                self.missed += 1;
                self.latency.record(micros(deadline));
            }
            Some(Ok(Answer { status: 200, .. })) => {
                self.good += 1;
                self.latency.record(micros(due.elapsed()));
            }
            Some(Ok(Answer { status: 503, retry_after, .. })) => {
                self.refused += 1;
                self.told_when += u64::from(retry_after);
            }
            Some(other) => {
                self.failed += 1;
                self.failure.get_or_insert_with(|| match other {
                    Ok(answer) => format!("status {}", answer.status),
                    Err(error) => format!("{error:#}"),
                });
            }
        }
    }
}

async fn ask(address: SocketAddr, pool: &Pool, request: &str) -> Result<Answer> {
    let kept = pool.borrow_mut().pop();
    let mut socket = match kept {
        Some(socket) => socket,
        None => {
            let socket = TcpStream::connect(address).await.context("connect")?;
            socket.set_nodelay(true)?;
            socket
        }
    };
    socket.write_all(request.as_bytes()).await.context("send")?;
    let answer = read(&mut socket).await?;
    if answer.keeps {
        pool.borrow_mut().push(socket);
    }
    Ok(answer)
}

/// Reads an answer to its end: a head, and a body of a known length.
pub(crate) async fn read(socket: &mut TcpStream) -> Result<Answer> {
    let mut bytes = Vec::with_capacity(1024);
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(socket.read_buf(&mut bytes).await.context("receive")? > 0, "the connection ended before the answer");
    };
    let head = std::str::from_utf8(&bytes[..head_len])?.to_ascii_lowercase();
    let status = head.get(9..12).and_then(|status| status.parse().ok()).context("no status")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let Some(length) = field("content-length:").and_then(|length| length.parse::<usize>().ok()) else {
        bail!("no length: {head}")
    };
    while bytes.len() < head_len + length {
        ensure!(socket.read_buf(&mut bytes).await.context("receive")? > 0, "the connection ended within the answer");
    }
    ensure!(bytes.len() == head_len + length, "more than the answer has come");
    Ok(Answer { status, retry_after: field("retry-after:").is_some(), keeps: field("connection:") != Some("close") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SlotServer;

    fn offer(address: SocketAddr, rate: u32) -> Offered {
        let load = OpenLoop {
            address,
            rate,
            time: Duration::from_millis(800),
            warm_up: Duration::from_millis(200),
            deadline: Duration::from_secs(1),
            paths: vec![("/a".to_owned(), 1), ("/b".to_owned(), 0)],
            seed: 7,
        };
        let mut offered = load.run().unwrap();
        assert_eq!(offered.pop().unwrap().due, 0, "it has no share");
        offered.remove(0)
    }

    #[test]
    fn a_server_with_slots_does_what_it_can_and_queues_the_rest() {
        let server = SlotServer::start(4, Duration::from_millis(20)).unwrap();
        let calm = offer(server.address(), 60);
        assert!((20..=60).contains(&calm.due) && calm.good == calm.due, "{calm:?}");
        assert!(calm.latency.percentile(0.5) >= 20_000, "{calm:?}");
        // Five times its 200 per second: the queue is longer than the deadline after a quarter of a second.
        let busy = offer(server.address(), 1000);
        assert!(busy.missed > 0 && busy.good < busy.due / 2, "{busy:?}");
        assert!(server.requests() >= busy.good + calm.good);
    }

    #[test]
    fn what_fails_is_said() {
        let none = offer(SocketAddr::from(([127, 0, 0, 1], crate::free_port())), 50);
        assert!(none.failed == none.due && none.failure.is_some(), "{none:?}");
    }
}
