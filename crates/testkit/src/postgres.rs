use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{Process, Signal, TempDir, free_port, procfs};

/// Where Debian keeps the programs of its PostgreSQL.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Time for a server to start, stop, be promoted, or answer. A busy machine with two cores takes some seconds for a copy.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Time to quit at once, before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a cluster is to be like.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// How many replicas stream from the primary.
    pub replicas: usize,
    /// Whether a commit waits until a replica has it on its disk.
    pub synchronous: bool,
    /// Lines for `postgresql.conf` of all servers.
    pub settings: Vec<String>,
    /// Lines for `pg_hba.conf`, which come before the one that trusts everybody.
    pub rules: Vec<String>,
}

/// A real PostgreSQL: a primary, and replicas that stream from it, each on a port of its own. As root they run as the user `postgres`, since
/// the server refuses to run as root. Nothing is synced to the disk: a kill loses nothing, since the machine goes on.
#[derive(Debug)]
pub struct Postgres {
    servers: Vec<Server>,
    /// Goes after the servers, whose folders are in it.
    dir: TempDir,
}

#[derive(Debug)]
struct Server {
    name: String,
    port: u16,
    data: PathBuf,
    process: Option<Process>,
}

impl Postgres {
    /// Makes the cluster and starts it. Server 0 is the primary.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start in time.
    pub fn start(options: &PostgresOptions) -> Result<Self> {
        let dir = TempDir::new()?;
        own(dir.path())?;
        let mut cluster = Self { servers: Vec::new(), dir };
        let mut primary = cluster.server("primary");
        let password = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"];
        run(program("initdb").args(password).arg(&primary.data))?;
        let mut settings = vec![
            "fsync = off".to_owned(),
            "shared_buffers = 16MB".to_owned(),
            "max_wal_senders = 10".to_owned(),
            "wal_keep_size = 64MB".to_owned(),
            // What a promotion needs to leave behind for the old primary to be rewound.
            "wal_log_hints = on".to_owned(),
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("unix_socket_directories = '{}'", cluster.dir.path().display()),
        ];
        if options.synchronous {
            settings.push("synchronous_standby_names = 'ANY 1 (*)'".to_owned());
        }
        settings.extend(options.settings.iter().cloned());
        append(&primary.data.join("postgresql.conf"), &settings)?;
        let mut rules = options.rules.clone();
        rules.extend(["all", "replication"].map(|what| format!("host {what} all 127.0.0.1/32 trust")));
        rules.push("local all all trust".to_owned());
        let rules = rules.join("\n") + "\n";
        std::fs::write(primary.data.join("pg_hba.conf"), rules)?;
        primary.start()?;
        cluster.servers.push(primary);
        for number in 1..=options.replicas {
            cluster.add_replica(&format!("replica{number}"))?;
        }
        Ok(cluster)
    }

    fn server(&self, name: &str) -> Server {
        Server { name: name.to_owned(), port: free_port(), data: self.dir.path().join(name), process: None }
    }

    fn add_replica(&mut self, name: &str) -> Result<()> {
        let mut server = self.server(name);
        let mut copy = program("pg_basebackup");
        let source = format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.servers[0].port);
        copy.args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf", "--dbname", &source, "-D"]);
        run(copy.arg(&server.data))?;
        server.start()?;
        self.servers.push(server);
        Ok(())
    }

    /// The folder with the servers' Unix sockets.
    pub fn socket_folder(&self) -> &Path {
        self.dir.path()
    }

    /// A server's port on the loopback address.
    pub fn port(&self, server: usize) -> u16 {
        self.servers[server].port
    }

    /// Runs statements on a server as its superuser, by `psql`: rows, each with its columns behind a bar.
    ///
    /// # Errors
    /// When one fails; the message holds what the server said.
    pub fn sql(&self, server: usize, text: &str) -> Result<Vec<String>> {
        let mut command = Command::new(Path::new(PROGRAMS).join("psql"));
        let port = self.servers[server].port.to_string();
        command.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-U", "postgres", "-p", &port]);
        command.args(["-v", "ON_ERROR_STOP=1", "-c", text, "postgres"]);
        let output = command.output().context("psql")?;
        ensure!(output.status.success(), "{}: {}", self.servers[server].name, said(&output));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// Kills a server (SIGKILL), as a crash would.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].end();
    }

    /// Starts a server that was killed. A primary comes back as one, even if another one was promoted meanwhile.
    ///
    /// # Errors
    /// When it does not start in time.
    pub fn restart(&mut self, server: usize) -> Result<()> {
        self.servers[server].end();
        self.servers[server].start()
    }

    /// Makes a server hang: connections stay open, and nothing is answered.
    ///
    /// # Errors
    /// When it has ended.
    pub fn hang(&mut self, server: usize) -> Result<()> {
        self.servers[server].signal_all(Signal::STOP)
    }

    /// Has it go on where it hung.
    ///
    /// # Errors
    /// When it has ended.
    pub fn go_on(&mut self, server: usize) -> Result<()> {
        self.servers[server].signal_all(Signal::CONT)
    }

    /// Makes a primary of a replica, and waits until it is one.
    ///
    /// # Errors
    /// When it does not become one in time.
    pub fn promote(&self, server: usize) -> Result<()> {
        let promoted = self.sql(server, "SELECT pg_promote(true, 60)")?;
        ensure!(promoted == ["t"], "{}: was not promoted", self.servers[server].name);
        Ok(())
    }

    /// Has a replica take the log and not replay it.
    ///
    /// # Errors
    /// When the server is no replica.
    pub fn pause_replay(&self, server: usize) -> Result<()> {
        self.sql(server, "SELECT pg_wal_replay_pause()")?;
        self.wait_for(server, "SELECT pg_get_wal_replay_pause_state()", "paused")
    }

    /// Has it replay the log again.
    ///
    /// # Errors
    /// When the server is no replica.
    pub fn resume_replay(&self, server: usize) -> Result<()> {
        self.sql(server, "SELECT pg_wal_replay_resume()").map(|_| ())
    }

    /// Waits until a replica has replayed what the primary that it streams from has written by now.
    ///
    /// # Errors
    /// When it does not come so far in time, or streams from none of the cluster's servers.
    pub fn wait_for_replay(&self, server: usize) -> Result<()> {
        let position = self.sql(self.source(server)?, "SELECT pg_current_wal_flush_lsn()")?.concat();
        self.wait_for(server, &format!("SELECT pg_last_wal_replay_lsn() >= '{position}'"), "t")
    }

    /// The server that a replica streams from, as soon as it does.
    fn source(&self, server: usize) -> Result<usize> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let port = self.sql(server, "SELECT sender_port FROM pg_stat_wal_receiver")?.concat();
            if let Some(source) = self.servers.iter().position(|other| other.port.to_string() == port) {
                return Ok(source);
            }
            ensure!(Instant::now() < deadline, "{}: streams from nobody", self.servers[server].name);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until a statement gives one row with this value.
    ///
    /// # Errors
    /// When it fails, or does not give it in time.
    pub fn wait_for(&self, server: usize, text: &str, value: &str) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let found = self.sql(server, text)?;
            if found == [value] {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{}: {text}: {found:?}, not {value}", self.servers[server].name);
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Server {
    fn start(&mut self) -> Result<()> {
        let mut command = program("postgres");
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]);
        command.args(["-c", &format!("cluster_name={}", self.name)]);
        let mut process = Process::spawn(&self.name, command)?;
        process.wait_for_output("ready to accept", TIMEOUT)?;
        self.process = Some(process);
        Ok(())
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pids = process.pids();
            process.kill();
            // As long as one of its processes is there, the server does not start again in this folder.
            let is_there = |pid: &u32| procfs::state(*pid).is_some_and(|state| state != 'Z');
            let deadline = Instant::now() + TIMEOUT;
            while pids.iter().any(is_there) && Instant::now() < deadline {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    }

    /// Signals the server's first process, so that it makes no more of them, and then all that it has. One that ends meanwhile is none of them.
    fn signal_all(&mut self, signal: Signal) -> Result<()> {
        let Some(process) = &self.process else { bail!("{}: does not run", self.name) };
        crate::process::send(process.pid(), signal)?;
        let deadline = Instant::now() + TIMEOUT;
        while signal == Signal::STOP && procfs::state(process.pid()) != Some('T') && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
        }
        for pid in process.pids() {
            let is_there = || procfs::state(pid).is_some_and(|state| state != 'Z');
            if let Err(error) = crate::process::send(pid, signal)
                && is_there()
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    /// Lets it end by itself first: one that is killed leaves its piece of shared memory behind, and a machine has only so many of them.
    fn drop(&mut self) {
        let _stopped = self.signal_all(Signal::CONT);
        if let Some(process) = &mut self.process {
            let _asked = process.signal(Signal::QUIT);
            let _slow = process.wait(QUIT_TIMEOUT);
        }
        self.end();
    }
}

/// A program of PostgreSQL's, run by somebody who is not root.
fn program(name: &str) -> Command {
    let path = Path::new(PROGRAMS).join(name);
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(path);
    command
}

/// Gives a folder to whoever runs the servers.
fn own(folder: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("postgres:postgres").arg(folder))?;
    }
    Ok(())
}

fn append(path: &Path, lines: &[String]) -> Result<()> {
    let before = std::fs::read_to_string(path)?;
    Ok(std::fs::write(path, before + &lines.join("\n") + "\n")?)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("{:?}: is postgresql-15 installed? `make test` installs it", command.get_program()))?;
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), said(&output));
    Ok(())
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned()).join(" ")
}
