//! A database with two replicas behind the proxy: reads are spread, one's own writes stay visible, and a failover passes.
//!
//! Clients write a number each, and read it back on another connection, as applications with a pool do. Each read that does not see the number
//! is counted, and so is each statement that fails.

mod client;
mod servers;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use super::stage::Stage;
use client::Session;
use servers::{NAMES, Servers};

/// Clients, each with a connection to write on and one to read on.
const CLIENTS: usize = 8;

/// How long the clients go on in each scene.
const SCENE: Duration = Duration::from_secs(2);

/// Time for writes to go on after the primary was killed.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(20);

const LOOK: Duration = Duration::from_millis(10);

/// What the clients saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Reads, by the server that answered.
    reads: [u64; NAMES.len()],
    /// Reads that did not see what had been written before.
    stale: u64,
    /// The last number of each client that was acknowledged.
    written: [u64; CLIENTS],
    failed: u64,
}

/// Shows it line by line, and gives the number of promises that were broken.
pub(super) async fn show(stage: &Stage) -> anyhow::Result<u64> {
    let Some(programs) = servers::programs() else {
        println!(
            "\na database behind the proxy is not shown: PostgreSQL is not installed (apt-get install postgresql)"
        );
        return Ok(0);
    };
    println!(
        "\na database with two replicas, {CLIENTS} clients that write, and read what they wrote on another connection:"
    );
    let mut servers = Servers::start(programs).await?;
    let proxy = stage.start_proxy(&[0, 1, 2].map(|at| servers.address(at))).await?;
    let mut session = connect(proxy.address()).await?;
    session.run("CREATE TABLE number (client int PRIMARY KEY, value bigint)").await?;
    session
        .run(&format!("INSERT INTO number SELECT client, 0 FROM generate_series(0, {}) client", CLIENTS - 1))
        .await?;
    let clients = Clients::start(proxy.address());

    let spread = clients.scene().await;
    println!("  reads     {}", spread_line(&spread));
    servers.run(1, "SELECT pg_wal_replay_pause()").await?;
    let paused = clients.scene().await;
    println!("  lag       {} stood still: {}", NAMES[1], spread_line(&paused));
    servers.run(1, "SELECT pg_wal_replay_resume()").await?;

    let begun = Instant::now();
    servers.kill(0).await?;
    servers.run(2, "SELECT pg_promote()").await?;
    let back = writes_again(proxy.address(), begun).await?;
    sleep(SCENE).await;
    let seen = clients.stop().await;
    let lost = lost(&mut session_after(proxy.address()).await?, &seen).await?;
    println!(
        "  failover  the primary was killed and {} promoted: writes went on after {:.2} s, {} statements failed meanwhile; {lost} \
         acknowledged writes are lost",
        NAMES[2],
        back.as_secs_f64(),
        seen.failed - paused.failed - spread.failed,
    );
    proxy.stop().await?;
    Ok(seen.stale + lost + spread.failed + paused.failed)
}

fn spread_line(seen: &Seen) -> String {
    let [primary, first, second] = seen.reads;
    let total = primary + first + second;
    format!(
        "{total} reads, {first} by {}, {second} by {}, {primary} by the {}; {} did not see their own write, {} failed",
        NAMES[1], NAMES[2], NAMES[0], seen.stale, seen.failed
    )
}

/// Waits until the primary's place is taken; how long that was.
async fn writes_again(proxy: SocketAddr, begun: Instant) -> anyhow::Result<Duration> {
    loop {
        let written = async { connect(proxy).await?.run("UPDATE number SET value = value").await };
        match written.await {
            Ok(_) => return Ok(begun.elapsed()),
            Err(error) => {
                ensure!(begun.elapsed() < FAILOVER_TIMEOUT, "demo: nothing is written after the failover: {error:#}");
            }
        }
        sleep(LOOK).await;
    }
}

async fn session_after(proxy: SocketAddr) -> anyhow::Result<Session> {
    connect(proxy).await.context("demo: after the failover")
}

/// How many of the last acknowledged numbers are not there.
async fn lost(session: &mut Session, seen: &Seen) -> anyhow::Result<u64> {
    let mut lost = 0;
    for (client, written) in seen.written.iter().enumerate() {
        let row = session.run(&format!("/* tenfold: primary */ {}", reading(client))).await?;
        lost += u64::from(value(row.as_deref()) < *written);
    }
    Ok(lost)
}

async fn connect(proxy: SocketAddr) -> anyhow::Result<Session> {
    Session::connect(proxy).await
}

fn reading(client: usize) -> String {
    format!("SELECT value, current_setting('cluster_name') FROM number WHERE client = {client}")
}

fn value(row: Option<&[String]>) -> u64 {
    row.and_then(|row| row.first()?.parse().ok()).unwrap_or(0)
}

/// The clients.
struct Clients {
    seen: Rc<RefCell<Seen>>,
    is_over: Rc<Cell<bool>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    fn start(proxy: SocketAddr) -> Self {
        let (seen, is_over) = (Rc::<RefCell<Seen>>::default(), Rc::new(Cell::new(false)));
        let client = |client| {
            let (seen, is_over) = (Rc::clone(&seen), Rc::clone(&is_over));
            tokio::task::spawn_local(async move {
                while !is_over.get() {
                    if serve(proxy, client, &seen, &is_over).await.is_err() {
                        seen.borrow_mut().failed += 1;
                        sleep(LOOK).await;
                    }
                }
            })
        };
        Self { tasks: (0..CLIENTS).map(client).collect(), seen, is_over }
    }

    /// What they see within a scene.
    async fn scene(&self) -> Seen {
        let before = self.seen.borrow().clone();
        sleep(SCENE).await;
        let mut seen = self.seen.borrow().clone();
        seen.reads.iter_mut().zip(before.reads).for_each(|(now, before)| *now -= before);
        seen.stale -= before.stale;
        seen.failed -= before.failed;
        seen
    }

    async fn stop(self) -> Seen {
        self.is_over.set(true);
        for task in self.tasks {
            task.await.expect("a client's task does not panic");
        }
        self.seen.borrow().clone()
    }
}

/// A client, until something fails.
async fn serve(proxy: SocketAddr, client: usize, seen: &RefCell<Seen>, is_over: &Cell<bool>) -> anyhow::Result<()> {
    let (mut writer, mut reader) = (connect(proxy).await?, connect(proxy).await?);
    while !is_over.get() {
        let number = seen.borrow().written[client] + 1;
        writer.run(&format!("UPDATE number SET value = {number} WHERE client = {client}")).await?;
        seen.borrow_mut().written[client] = number;
        let row = reader.run(&reading(client)).await?;
        let mut seen = seen.borrow_mut();
        seen.stale += u64::from(value(row.as_deref()) < number);
        let server = row.as_ref().and_then(|row| NAMES.iter().position(|name| row.get(1).is_some_and(|by| by == name)));
        seen.reads[server.context("demo: a row of no server")?] += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_told() {
        let seen = Seen { reads: [3, 20, 21], stale: 0, failed: 1, ..Seen::default() };
        let expected =
            "44 reads, 20 by replica-1, 21 by replica-2, 3 by the primary; 0 did not see their own write, 1 failed";
        assert_eq!(spread_line(&seen), expected);
        assert_eq!(value(Some(&["12".to_owned()])), 12);
    }
}
