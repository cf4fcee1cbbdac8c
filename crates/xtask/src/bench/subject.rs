use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use testkit::{Authority, Issued, Process, TempDir, Tenfold, free_port, haproxy, nginx, procfs};

use crate::repository::template;

/// Proxies that are measured.
pub(super) const SUBJECTS: &[&str] = &["tenfold", "nginx", "haproxy", "haproxy_splice"];
/// What only splices, for `bench l4`; measured when asked for.
pub(super) const BARE: &str = "bare";
/// Time for that to listen.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Tenfold with traces, and the share of requests that are sampled; measured when asked for.
pub(super) const TRACED: &[(&str, &str)] =
    &[("tenfold_trace_0", "0%"), ("tenfold_trace_1", "1%"), ("tenfold_trace_100", "100%")];
/// The core of the proxy in the judged form; the origin and the client share the other.
pub(super) const PROXY_CORE: usize = 0;
/// The core of everything else.
pub(super) const OTHER_CORE: usize = 1;

/// A running proxy or origin.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) port: u16,
    /// Where it speaks TLS, and HTTP/2 under it.
    pub(super) tls_port: u16,
    server: Server,
}

/// The certificate that every proxy presents: a key on the curve P-256, as public authorities issue them by default.
pub(super) struct Certificate {
    _authority: Authority,
    issued: Issued,
    /// Certificate and key in one file.
    joined: PathBuf,
    _dir: TempDir,
}

impl Certificate {
    pub(super) fn new() -> Result<Self> {
        let authority = Authority::new("bench")?;
        let issued = authority.issue("proxy", &["localhost"])?;
        let dir = TempDir::new()?;
        let both = [std::fs::read(&issued.certificate)?, std::fs::read(&issued.key)?].concat();
        let joined = dir.write("proxy.pem", both)?;
        Ok(Self { _authority: authority, issued, joined, _dir: dir })
    }
}

enum Server {
    Peer(Process, #[allow(dead_code, reason = "holds the folder for as long as the process runs")] TempDir),
    Tenfold(Box<Tenfold>),
}

/// Where proxies stand, and what of.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// The folder of their configurations.
    pub(super) folder: &'p str,
    /// What they stand before.
    pub(super) origin: &'p Subject,
    /// What they present.
    pub(super) certificate: &'p Certificate,
    /// The `tenfold` program, if it is among them.
    pub(super) binary: Option<&'p Path>,
}

/// How a proxy runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One worker on its own core.
    Pinned,
    /// Two workers, on whatever core the system gives them.
    Unpinned,
}

impl Form {
    fn workers(self) -> usize {
        match self {
            Self::Pinned => 1,
            Self::Unpinned => 2,
        }
    }
}

impl Subject {
    /// Starts the origin.
    pub(super) fn origin() -> Result<Self> {
        let port = free_port();
        let conf = template("bench/gateway/origin.conf", &[("{port}", port.to_string())])?;
        let (process, dir) = on_core(Some(OTHER_CORE), || nginx(&conf, port))?;
        dir.write("files/10KiB", vec![b'x'; 10 << 10])?;
        dir.write("files/1MiB", vec![b'x'; 1 << 20])?;
        Ok(Self { name: "origin".to_owned(), port, tls_port: 0, server: Server::Peer(process, dir) })
    }

    /// Starts a proxy before the origin.
    pub(super) fn start(name: &str, form: Form, place: Place<'_>) -> Result<Self> {
        let Place { folder, origin, certificate, binary } = place;
        let template = |file: &str, values: &[(&str, String)]| template(&format!("{folder}/{file}"), values);
        let (port, tls_port) = (free_port(), free_port());
        let values = [
            ("{tls_port}", tls_port.to_string()),
            ("{certificate}", certificate.issued.certificate.display().to_string()),
            ("{key}", certificate.issued.key.display().to_string()),
            ("{joined}", certificate.joined.display().to_string()),
            ("{port}", port.to_string()),
            ("{admin}", free_port().to_string()),
            ("{origin}", format!("127.0.0.1:{}", origin.port)),
            ("{workers}", form.workers().to_string()),
        ];
        let core = (form == Form::Pinned).then_some(PROXY_CORE);
        let server = on_core(core, || match name {
            name if is_tenfold(name) => {
                let binary = binary.context("no tenfold program was built")?;
                let mut config = template("tenfold.toml", &values)?;
                if let Some((_, share)) = TRACED.iter().find(|(traced, _)| *traced == name) {
                    // The origin takes the spans as well; it reads them, and answers 200.
                    let collector = origin.port;
                    config += &format!("[trace]\nendpoint = \"http://127.0.0.1:{collector}\"\nsample = \"{share}\"\n");
                }
                let started = Tenfold::start_with(Command::new(binary), &config)?;
                Ok(Server::Tenfold(Box::new(started)))
            }
            "nginx" => nginx(&template("nginx.conf", &values)?, port).map(|(process, dir)| Server::Peer(process, dir)),
            "haproxy" | "haproxy_splice" => {
                let conf = template(&format!("{name}.cfg"), &values)?;
                haproxy(&conf, port).map(|(process, dir)| Server::Peer(process, dir))
            }
            BARE => bare(port, origin.port),
            other => {
                let traced: Vec<_> = TRACED.iter().map(|(name, _)| *name).collect();
                bail!("no subject {other}; there are {}, {BARE}, {}", SUBJECTS.join(", "), traced.join(", "))
            }
        })
        .with_context(|| format!("subject {name}"))?;
        let suffix = if form == Form::Unpinned { "_2w" } else { "" };
        Ok(Self { name: format!("{name}{suffix}"), port, tls_port, server })
    }

    /// The ids of all its processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        match &self.server {
            Server::Peer(process, _) => process.pids(),
            Server::Tenfold(tenfold) => procfs::with_descendants(tenfold.pid()),
        }
    }

    /// Time that it has spent on a CPU.
    pub(super) fn cpu_time(&self) -> Result<Duration> {
        procfs::cpu_time(&self.pids()).with_context(|| format!("{}: {}", self.name, self.output()))
    }

    /// Spans that were exported and that were not, if it is Tenfold with traces.
    pub(super) fn spans(&self) -> Result<Option<(u64, u64)>> {
        let Server::Tenfold(tenfold) = &self.server else { return Ok(None) };
        if !TRACED.iter().any(|(name, _)| self.name.starts_with(name)) {
            return Ok(None);
        }
        let count = |name| Ok::<_, anyhow::Error>(tenfold.metric(name, &[])? as u64);
        Ok(Some((count("trace_spans_total")?, count("trace_spans_dropped_total")?)))
    }

    /// What it printed.
    pub(super) fn output(&self) -> String {
        match &self.server {
            Server::Peer(process, _) => process.output(),
            Server::Tenfold(tenfold) => tenfold.output(),
        }
    }
}

/// Whether a subject is Tenfold, in whichever form.
pub(super) fn is_tenfold(name: &str) -> bool {
    name == "tenfold" || TRACED.iter().any(|(traced, _)| *traced == name)
}

/// Starts the proxy that only splices.
fn bare(port: u16, origin: u16) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("splice-connections").stdin(Stdio::piped());
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--upstream", &format!("127.0.0.1:{origin}")]);
    let mut process = Process::spawn(BARE, command)?;
    process.wait_for_port(port, START_TIMEOUT)?;
    Ok(Server::Peer(process, TempDir::new()?))
}

/// Starts something on one core: a child process inherits the cores of the thread that starts it.
pub(super) fn on_core<T>(core: Option<usize>, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(core) = core else { return start() };
    let all = sched_getaffinity(None)?;
    if !all.is_set(core) {
        bail!("core {core} is not this process's to use; the bench needs two cores");
    }
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one)?;
    let started = start();
    sched_setaffinity(None, &all)?;
    started
}
