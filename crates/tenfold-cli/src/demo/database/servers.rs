//! A primary and two replicas of PostgreSQL, in a folder of their own.

use std::fs::{self, DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant, sleep};

use super::client::Session;
use crate::demo::stage::free_ports;

/// What the servers call themselves.
pub(super) const NAMES: [&str; 3] = ["primary", "replica-1", "replica-2"];

/// Where Debian keeps a folder for each of PostgreSQL's versions.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Time for a server to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// The servers. Whatever of them runs ends with this.
#[derive(Debug)]
pub(super) struct Servers {
    programs: PathBuf,
    folder: PathBuf,
    addresses: [SocketAddr; NAMES.len()],
    running: [Option<Child>; NAMES.len()],
}

/// Where PostgreSQL's programs are, if it is installed: those of the newest version.
pub(super) fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(Result::ok);
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let all = versions.filter_map(|entry| Some((number(&entry.path())?, entry.path().join("bin"))));
    let (_, newest) = all.filter(|(_, bin)| bin.join("initdb").is_file()).max()?;
    Some(newest)
}

impl Servers {
    /// Makes them and starts them.
    pub(super) async fn start(programs: PathBuf) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tenfold-demo-db-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("demo: {}", folder.display()))?;
        let mut servers = Self { programs, folder, addresses: free_ports()?, running: [const { None }; NAMES.len()] };
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(&servers.folder)).await?;
        }
        let made = ["--auth=trust", "--username=postgres", "--no-sync", "-D"];
        run(servers.program("initdb").args(made).arg(servers.data(0))).await?;
        let settings = servers.data(0).join("postgresql.conf");
        let before = fs::read_to_string(&settings)?;
        // A commit waits until a replica has it, so that the loss of the primary loses nothing.
        let own = format!(
            "fsync = off\nshared_buffers = 16MB\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             synchronous_standby_names = 'ANY 1 (*)'\n",
            servers.folder.display()
        );
        fs::write(&settings, before + &own)?;
        servers.start_one(0).await?;
        for at in 1..NAMES.len() {
            let source = format!("host=127.0.0.1 port={} user=postgres", servers.addresses[0].port());
            let copied = ["--no-sync", "--checkpoint=fast", "--write-recovery-conf", "--dbname", &source, "-D"];
            run(servers.program("pg_basebackup").args(copied).arg(servers.data(at))).await?;
            servers.start_one(at).await?;
        }
        Ok(servers)
    }

    /// Where a server listens.
    pub(super) fn address(&self, at: usize) -> SocketAddr {
        self.addresses[at]
    }

    /// Runs a statement on one of them, past the proxy.
    pub(super) async fn run(&self, at: usize, text: &str) -> anyhow::Result<()> {
        let mut session = Session::connect(self.address(at)).await?;
        session.run(text).await.map(drop).with_context(|| format!("demo: {}", NAMES[at]))
    }

    /// Kills one, as a crash would.
    pub(super) async fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        let mut child = self.running[at].take().context("demo: the server does not run")?;
        child.kill().await.with_context(|| format!("demo: {} cannot be killed", NAMES[at]))
    }

    fn data(&self, at: usize) -> PathBuf {
        self.folder.join(NAMES[at])
    }

    /// A program of PostgreSQL's, which refuses to run as root, and ends when this one does.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        command.arg(self.programs.join(name)).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn start_one(&mut self, at: usize) -> anyhow::Result<()> {
        let log = self.folder.join(format!("{}.log", NAMES[at]));
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data(at)).args(["-p", &self.addresses[at].port().to_string()]);
        command.args(["-c", &format!("cluster_name={}", NAMES[at])]);
        if at > 0 {
            // Promoted, it has no replica that it could wait for.
            command.args(["-c", "synchronous_standby_names="]);
        }
        command.stdout(Stdio::null()).stderr(File::create(&log)?).process_group(0);
        self.running[at] = Some(command.spawn().with_context(|| format!("demo: {}", NAMES[at]))?);
        let deadline = Instant::now() + READY_TIMEOUT;
        while self.run(at, "SELECT 1").await.is_err() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            ensure!(Instant::now() < deadline, "demo: {} does not become ready:\n{}", NAMES[at], said());
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Killed, and not waited for: a server that finds its folder gone ends by itself.
        self.running = [const { None }; NAMES.len()];
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.as_std().get_program().to_owned();
    let output = command.output().await.with_context(|| format!("demo: {}", name.display()))?;
    ensure!(output.status.success(), "demo: {}: {}", name.display(), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
