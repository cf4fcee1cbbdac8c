//! Databases: reads on replicas that stop replaying, primaries that are killed, and many clients who share few connections.

mod failover;
mod isolation;
mod reads;
mod storm;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use testkit::{PgClient, Postgres, free_port};

use super::subject::Subject;

pub use failover::FailoverArgs;
pub use isolation::IsolationArgs;
pub use reads::ReadsArgs;
pub use storm::StormArgs;

pub(super) use failover::run as run_failover;
pub(super) use isolation::run as run_isolation;
pub(super) use reads::run as run_reads;
pub(super) use storm::run as run_storm;

/// How long it may take until all servers are known.
const READY: Duration = Duration::from_secs(20);

/// A cluster with a proxy before it.
struct Site {
    cluster: Postgres,
    proxy: Subject,
    port: u16,
}

impl Site {
    fn start(program: &Path, cluster: Postgres, scope: &str, servers: usize) -> Result<Self> {
        let port = free_port();
        let mut words = vec![port.to_string(), scope.to_owned()];
        words.extend((0..servers).map(|server| cluster.port(server).to_string()));
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut proxy = Subject::start(program, &words)?;
        proxy.wait_for("ready")?;
        let mut site = Self { cluster, proxy, port };
        let deadline = Instant::now() + READY;
        while site.told()?.contains("unknown") {
            ensure!(Instant::now() < deadline, "not all servers are known");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(site)
    }

    /// What the proxy counts.
    fn told(&mut self) -> Result<String> {
        self.proxy.tell("tell")?;
        self.proxy.line()
    }

    /// One of its counters.
    fn count(&mut self, name: &str) -> Result<u64> {
        let told = self.told()?;
        let mut words = told.split(' ').skip_while(|word| *word != name);
        match words.nth(1).map(str::parse) {
            Some(Ok(count)) => Ok(count),
            _ => bail!("no {name} in {told:?}"),
        }
    }
}

/// A client of the proxy's.
fn connect(port: u16) -> Result<PgClient> {
    PgClient::connect(port, "web", "shop", "")
}
