//! Asks who holds the lease of a database, where the configuration says that somebody outside keeps one. `pgroute::lease` decides.
//!
//! A stalled task must not let a write through, nor a process that was stopped: so what is decided is a time, which everybody looks at who sends
//! something to a primary, right before that. The task cuts what is under way at that time, and has others wait.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pgroute::lease::{Answer, LINE_BYTES_MAX, Lease, Target, read};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::core::Core;
use crate::database::Database;
use crate::params::{LeaseParams, ServerAddress};
use crate::watch;

/// How often servers are asked while none is written to: whoever has the lease next is to be seen soon.
const URGENT_INTERVAL: Duration = Duration::from_millis(200);

/// What is read of an answer beyond its first line, so that who gives it is not cut off, and for how long.
const REST_BYTES_MAX: u64 = 64 * 1024;
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// The port of a server at a Unix socket whose file does not name one.
const PORT: u16 = 5432;

/// Until when a server holds the lease, in nanoseconds of the clock that counts suspended time; 0 if it does not.
#[derive(Debug, Default)]
pub(crate) struct Deadline(AtomicU64);

impl Deadline {
    /// Whether the server holds it now.
    pub(crate) fn holds(&self) -> bool {
        now().as_nanos() < u128::from(self.0.load(Ordering::Acquire))
    }

    fn set(&self, until: Option<Duration>) {
        let until = until.map_or(0, |until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(until, Ordering::Release);
    }
}

/// The time of the clock that counts suspended time.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Who asks for a server's lease.
struct Asker {
    core: Rc<Core>,
    server: usize,
    lease: Lease,
    was_held: bool,
}

/// Asks for a server's lease, as long as the database has these servers.
pub(crate) async fn keep(
    core: Rc<Core>,
    database: Weak<Database>,
    cluster: Weak<Cluster>,
    server: usize,
    params: LeaseParams,
) {
    let mut asker = Asker { core, server, lease: Lease::new(params.ttl), was_held: false };
    loop {
        let (Some(database), Some(cluster)) = (database.upgrade(), cluster.upgrade()) else { return };
        let is_over = !Arc::ptr_eq(&database.cluster(), &cluster) || database.is_retired();
        if is_over && !asker.is_needed(&database, &cluster, &params) {
            // Nobody would end it any more.
            asker.write(&cluster, None);
            return;
        }
        let begun = Instant::now();
        asker.turn(&database, &cluster, &params).await;
        let interval = match cluster.view().primary {
            Some(_) => params.interval,
            None => params.interval.min(URGENT_INTERVAL),
        };
        drop((database, cluster));
        let pause = interval.saturating_sub(begun.elapsed());
        tokio::time::sleep(asker.remaining().map_or(pause, |remaining| remaining.min(pause))).await;
    }
}

impl Asker {
    /// Asks once.
    async fn turn(&mut self, database: &Database, cluster: &Cluster, params: &LeaseParams) {
        self.settle(database, cluster);
        let address = &cluster.members[self.server].params.address;
        let timeout = database.settings().failover.watch_timeout.min(params.ttl);
        // What comes to an end is seen to at that time, whoever is still being asked.
        let timeout = self.remaining().map_or(timeout, |remaining| remaining.min(timeout));
        let asked_at = now();
        let asked = match target(params, address) {
            Some(target) => tokio::time::timeout(timeout, ask(&target)).await.unwrap_or_else(|late| Err(late.into())),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        let answer = asked.unwrap_or_else(|error| {
            tracing::debug!(database = %database.name, server = %address, %error, "nobody says whether the server holds the lease");
            Answer::Silence
        });
        // One that ended meanwhile ended, though it may begin again with this answer.
        self.settle(database, cluster);
        self.lease.answered(asked_at, answer);
        self.write(cluster, self.lease.until());
        self.settle(database, cluster);
    }

    /// Whether transactions go on under the lease, which is the same still, though there are other servers now or none: they must not be cut.
    fn is_needed(&self, database: &Database, cluster: &Cluster, params: &LeaseParams) -> bool {
        let is_same = database.settings().failover.lease.as_ref() == Some(params);
        is_same && cluster.members[self.server].lease.as_ref().is_some_and(|deadline| Arc::strong_count(deadline) > 1)
    }

    fn write(&self, cluster: &Cluster, until: Option<Duration>) {
        if let Some(deadline) = &cluster.members[self.server].lease {
            deadline.set(until);
        }
    }

    /// How long it still lasts, if it is held.
    fn remaining(&self) -> Option<Duration> {
        let now = now();
        self.lease.until().and_then(|until| until.checked_sub(now)).filter(|remaining| !remaining.is_zero())
    }

    /// Does what follows when it has begun or ended.
    fn settle(&mut self, database: &Database, cluster: &Cluster) {
        let is_held = self.lease.holds(now());
        if is_held == self.was_held {
            return;
        }
        self.was_held = is_held;
        let server = &cluster.members[self.server].params.address;
        let mut out = cluster.lease_changed(&database.settings());
        if is_held {
            tracing::info!(database = %database.name, %server, "a server holds the lease: it may be written to");
        } else {
            tracing::warn!(database = %database.name, %server, "a server holds the lease no more: what is connected to it is cut");
            out.push(self.server);
        }
        watch::put_out(&self.core, database, cluster, &out);
    }
}

/// Where a server's lease is asked for. A server at a Unix socket is on this machine.
fn target(params: &LeaseParams, address: &ServerAddress) -> Option<Target> {
    match address {
        ServerAddress::Tcp { host, port } => Target::new(&params.url, host, *port),
        ServerAddress::Unix(path) => {
            let port = path.extension().and_then(|port| port.to_str()?.parse().ok()).unwrap_or(PORT);
            Target::new(&params.url, "localhost", port)
        }
    }
}

/// Asks, and hears no more than the first line.
async fn ask(target: &Target) -> io::Result<Answer> {
    let mut socket = TcpStream::connect((target.host.as_str(), target.port)).await?;
    socket.write_all(&target.request()).await?;
    let (mut line, mut filled) = ([0; LINE_BYTES_MAX], 0);
    loop {
        if let Some(answer) = read(&line[..filled]) {
            tokio::task::spawn_local(tokio::time::timeout(REST_TIMEOUT, async move {
                let mut rest = socket.take(REST_BYTES_MAX);
                // Whatever it is, nobody reads it.
                let _read = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
            }));
            return Ok(answer);
        }
        match socket.read(&mut line[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_holds_until_its_time_and_not_at_it() {
        let deadline = Deadline::default();
        assert!(!deadline.holds());
        deadline.set(Some(now() + Duration::from_secs(60)));
        assert!(deadline.holds());
        deadline.set(Some(now()));
        assert!(!deadline.holds());
        deadline.set(Some(now() + Duration::from_secs(60)));
        deadline.set(None);
        assert!(!deadline.holds());
    }

    #[test]
    fn a_server_at_a_unix_socket_is_asked_for_on_this_machine() {
        let params = LeaseParams::new("http://{host}:8008/primary?port={port}".to_owned());
        let at = |path: &str| target(&params, &ServerAddress::Unix(path.into()));
        assert_eq!(at("/run/.s.PGSQL.5433"), Target::new("http://localhost:8008/primary?port=5433", "", 0));
        assert_eq!(at("/run/pg"), Target::new("http://localhost:8008/primary?port=5432", "", 0));
    }
}
