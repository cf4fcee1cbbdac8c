//! A server, and Tenfold before it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testkit::{Authority, Postgres, PostgresOptions, Process, Tenfold, free_port, procfs};

/// Connections to the server that all clients share.
const BACKENDS: u32 = 4;
const CLIENTS: u32 = 64;
const PASSWORD: &str = "a-password-of-the-test";
const PGBENCH: &str = "/usr/lib/postgresql/15/bin/pgbench";
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Time for connections to be cleaned after their clients went.
const CLEAN: Duration = Duration::from_secs(10);

/// A server, and Tenfold before it, or nothing.
pub(super) struct Site {
    port: u16,
    tenfold: Option<Tenfold>,
    server: Postgres,
    authority: Authority,
}

/// What sessions there were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// How many logged in.
    pub(super) sessions: f64,
    /// How many of them had to keep their connections.
    pinned: f64,
}

impl Load {
    pub(super) fn since(self, before: Self) -> Self {
        Self { sessions: self.sessions - before.sessions, pinned: self.pinned - before.pinned }
    }

    /// How many of a hundred kept their connections.
    pub(super) fn pinned_percent(&self) -> f64 {
        self.pinned * 100.0 / self.sessions.max(1.0)
    }
}

impl Site {
    pub(super) fn start(program: Option<&Path>) -> Result<Self> {
        let settings = ["max_connections = 200", "max_prepared_transactions = 64", "shared_buffers = 64MB"];
        let settings = settings.map(str::to_owned).to_vec();
        // As without a proxy, who gives a wrong password is refused.
        let rules = vec!["host all web 127.0.0.1/32 scram-sha-256".to_owned()];
        let server = Postgres::start(&PostgresOptions { settings, rules, ..PostgresOptions::default() })?;
        server.sql(0, &format!("CREATE ROLE web LOGIN PASSWORD '{PASSWORD}'"))?;
        server.sql(0, "CREATE DATABASE shop OWNER web")?;
        let authority = Authority::new("drivers")?;
        let issued = authority.issue("shop", &["localhost", "127.0.0.1"])?;
        let port = free_port();
        let toml = format!(
            "[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.db]\nkind = \"postgres\"\nlisten = \"127.0.0.1:{port}\"\n\
             tls = {{ certificate = \"{}\", key = \"{}\", required = false }}\n[database.shop]\n\
             primary = \"postgres://web:{PASSWORD}@127.0.0.1:{}/shop\"\n\
             pool = {{ size = {BACKENDS}, acquire_timeout = \"60s\" }}\n",
            free_port(),
            issued.certificate.display(),
            issued.key.display(),
            server.port(0),
        );
        let tenfold = program.map(|program| Tenfold::start_with(Command::new(program), &toml)).transpose()?;
        let port = if tenfold.is_some() { port } else { server.port(0) };
        Ok(Self { port, tenfold, server, authority })
    }

    /// What programs are told of where to connect.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        // The server has no TLS.
        let authority = self.tenfold.as_ref().map(|_| self.authority.file().display().to_string());
        vec![
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", "web".to_owned()),
            ("PGPASSWORD", PASSWORD.to_owned()),
            ("PGDATABASE", "shop".to_owned()),
            ("AUTHORITY", authority.unwrap_or_default()),
        ]
    }

    /// The sessions that there were so far, where Tenfold counts them.
    pub(super) fn load(&self) -> Result<Option<Load>> {
        let Some(tenfold) = &self.tenfold else { return Ok(None) };
        let sessions = tenfold.metric("database_logins_total", &["result=\"success\""])?;
        let pinned = tenfold.metric("database_pins_total", &[])?;
        Ok(Some(Load { sessions, pinned }))
    }

    /// pgbench in its three protocols, as many clients as elsewhere: what went wrong, if anything.
    pub(super) fn pgbench(&self, quick: bool) -> Result<Option<String>> {
        let run = |arguments: &[&str]| -> Result<(bool, String)> {
            let mut command = Command::new(PGBENCH);
            command.args(arguments).envs(self.variables());
            let mut process = Process::spawn("pgbench", command)?;
            let status = process.wait(Duration::from_secs(120))?;
            Ok((status.success(), process.output()))
        };
        let (is_made, said) = run(&["--initialize", "--quiet", "--scale", "2"])?;
        if !is_made {
            return Ok(Some(said));
        }
        let (seconds, clients) = (if quick { "2" } else { "10" }, CLIENTS.to_string());
        // It waits for the answer of what it prepares without looking after its other clients, whose transactions then stand still: so these
        // have no transactions.
        for options in [&["simple"][..], &["extended"], &["prepared", "--select-only"]] {
            let mut arguments =
                vec!["--no-vacuum", "--jobs", "2", "--client", &clients, "--time", seconds, "--protocol"];
            arguments.extend(options);
            let (is_well, said) = run(&arguments)?;
            if !is_well || !said.contains("number of failed transactions: 0 ") {
                return Ok(Some(format!("{}: {said}", options[0])));
            }
        }
        let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)";
        let mut command = Command::new("/usr/lib/postgresql/15/bin/psql");
        command.args(["-XAtqc", sums]).envs(self.variables());
        let output = command.output().context("psql")?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok((said.trim() != "t").then(|| format!("balances and their history differ: {said}")))
    }

    /// What a driver has left at the server that it ought not to have, if anything.
    pub(super) fn left_behind(&self) -> Result<Option<String>> {
        let text = "SELECT (SELECT count(*) FROM pg_prepared_xacts), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), \
                    count(*) FILTER (WHERE state <> 'idle'), count(*) > 5 \
                    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + CLEAN;
        loop {
            let found = self.server.sql(0, text)?.join(" ");
            if found == "0|0|0|f" {
                return Ok(None);
            }
            if Instant::now() > deadline {
                let what = "prepared transactions, advisory locks, busy connections, more than the pool's";
                return Ok(Some(format!("{what}: {found}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Looks at how Tenfold's memory grows from now on.
    pub(super) fn watch_memory(&self) -> Option<Growth> {
        let pid = self.tenfold.as_ref()?.pid();
        let (is_over, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let first = procfs::rss_bytes(pid).unwrap_or_default();
        let (over, peak) = (Arc::clone(&is_over), Arc::clone(&most));
        let watcher = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(procfs::rss_bytes(pid).unwrap_or_default(), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Some(Growth { first, most, is_over, watcher })
    }
}

/// How memory grows.
pub(super) struct Growth {
    first: u64,
    most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    watcher: JoinHandle<()>,
}

impl Growth {
    /// By how many bytes at most.
    pub(super) fn end(self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.watcher.join().ok().context("whoever looked at memory panicked")?;
        Ok(self.most.load(Ordering::Relaxed).saturating_sub(self.first))
    }
}
