//! The traffic: requests at fixed moments, whatever the answers do.
//!
//! Each request has a moment at which it is due, and its latency counts from then. A slow answer thus shows in the
//! latency of the requests that had to wait behind it, as it would for people, and not as less traffic.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::http::Client;
use super::stage::INSTANCES;
use super::tally::Tally;

/// Connections that are kept all the time.
pub(super) const CONNECTIONS: usize = 16;

/// Requests per second, over all connections.
pub(super) const RATE: u32 = 2000;

/// A request without an answer after this time has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests that may be due on one connection and not sent: twice what comes due while one runs out of patience.
const BACKLOG_MAX: usize = 2 * PATIENCE.as_secs() as usize * RATE as usize / CONNECTIONS;

/// Traffic under way.
#[derive(Debug)]
pub(super) struct Load(Vec<JoinHandle<()>>);

impl Load {
    /// Sends requests to `web` from `start` on, for `length`.
    pub(super) fn start(
        web: SocketAddr,
        start: Instant,
        length: Duration,
        tally: &Rc<RefCell<Tally>>,
    ) -> anyhow::Result<Self> {
        let (queues, received): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| channel(BACKLOG_MAX)).unzip();
        // A thread of its own, because the runtime's timers are only good for milliseconds.
        std::thread::Builder::new()
            .name("pace".to_owned())
            .spawn(move || pace(start.into_std(), length, &queues))
            .context("demo: the thread that paces the traffic did not start")?;
        let connections =
            received.into_iter().map(|due| tokio::task::spawn_local(connection(web, due, Rc::clone(tally))));
        Ok(Self(connections.collect()))
    }

    /// Waits for the last answer.
    pub(super) async fn finish(self) {
        for connection in self.0 {
            connection.await.expect("a connection's task does not panic");
        }
    }
}

fn pace(start: std::time::Instant, length: Duration, queues: &[Sender<Instant>]) {
    let total = (length.as_secs_f64() * f64::from(RATE)) as u32;
    for n in 0..total {
        let due = start + Duration::from_secs(1) * n / RATE;
        std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
        // A full queue makes the pace wait; the requests keep the moments at which they were due.
        if queues[n as usize % queues.len()].blocking_send(due.into()).is_err() {
            return;
        }
    }
}

async fn connection(web: SocketAddr, mut due: Receiver<Instant>, tally: Rc<RefCell<Tally>>) {
    let mut client = Client::new(web);
    while let Some(due) = due.recv().await {
        let result = ask(&mut client, "/hello").await;
        let latency = due.elapsed();
        let mut tally = tally.borrow_mut();
        match result {
            Ok(instance) => tally.answered(instance, latency),
            Err(error) => tally.failed_with(&format!("{error:#}")),
        }
    }
}

/// Sends one request and says which instance answered.
pub(super) async fn ask(client: &mut Client, path: &str) -> anyhow::Result<usize> {
    let answer = client.get(path, PATIENCE).await?;
    anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    let body: Value = serde_json::from_slice(&answer.body).context("the answer is not JSON")?;
    let name = body["instance"].as_str().context("the answer names no instance")?;
    INSTANCES.iter().position(|instance| *instance == name).context("an unknown instance answered")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    /// Runs a second of traffic against a server and returns what it saw.
    fn run(router: axum::Router) -> Tally {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let web = listener.local_addr().expect("an address");
            tokio::spawn(axum::serve(listener, router).into_future());
            let tally = Rc::new(RefCell::new(Tally::new(INSTANCES.len())));
            let load = Load::start(web, Instant::now(), Duration::from_secs(1), &tally).expect("a thread");
            load.finish().await;
            tally.borrow().clone()
        })
    }

    #[test]
    fn every_request_is_sent_and_counted_once() {
        let tally = run(axum::Router::new().fallback(async || "{\"instance\":\"api-3\"}"));
        assert_eq!((tally.answers(), tally.failed()), (u64::from(RATE), 0));
        assert_eq!(tally.scenes(), [vec![0, 0, u64::from(RATE)]]);
    }

    #[test]
    fn a_pause_shows_in_the_latency_of_all_that_were_due_meanwhile() {
        let begin = std::time::Instant::now();
        let pause = Duration::from_millis(500);
        // For its first half second the server answers nobody.
        let tally = run(axum::Router::new().fallback(async move || {
            tokio::time::sleep(pause.saturating_sub(begin.elapsed())).await;
            "{\"instance\":\"api-1\"}"
        }));
        assert_eq!(tally.answers(), u64::from(RATE));
        let [quarter] = tally.quantiles([0.75]).expect("answers");
        // Half of the requests were due in the pause, evenly, so a quarter waited for more than half of it.
        assert!(quarter > pause * 2 / 5, "{quarter:?}");
    }

    #[test]
    fn wrong_answers_are_failures_with_a_reason() {
        let check = |router: axum::Router, reason: &str| {
            let tally = run(router);
            assert_eq!((tally.answers(), tally.failed()), (0, u64::from(RATE)), "{reason}");
            assert_eq!(tally.reasons().collect::<Vec<_>>(), [(reason, u64::from(RATE))]);
        };
        let busy = axum::http::StatusCode::SERVICE_UNAVAILABLE;
        check(axum::Router::new().fallback(async move || busy), "status 503");
        check(axum::Router::new().fallback(async || "{\"instance\":\"x\"}"), "an unknown instance answered");
    }
}
