use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::message::Response;
use crate::{Process, RawConn, Signal, TempDir, procfs};

/// Time for Tenfold to listen, or to take a new configuration.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A running `tenfold run` on a configuration file of its own.
#[derive(Debug)]
pub struct Tenfold {
    process: Process,
    dir: TempDir,
    config: PathBuf,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    /// Processes that took over, which are nobody's children once those before them have ended.
    successors: Vec<u32>,
}

impl Tenfold {
    /// Starts on a configuration and waits until every address that it names is listened on.
    ///
    /// # Errors
    /// When the text is not TOML or has no `[admin]`, the binary cannot be built, or Tenfold ends or does not listen in
    /// time; the message holds what it printed.
    pub fn start(toml: &str) -> Result<Self> {
        Self::start_with(Self::command()?, toml)
    }

    /// Like [`start`](Self::start), with a command that ends in the program's name and its options, to which
    /// `run FILE` is added: one that sets variables, say, or pins it to a core.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(mut command: Command, toml: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        let config = dir.write("tenfold.toml", toml)?;
        let (admin, listeners) = addresses_in(toml)?;
        let says_admin = toml.parse::<toml::Table>()?.contains_key("admin");
        ensure!(says_admin, "give [admin] a port of its own, or two tests would meet at its default address");
        command.arg("run").arg(&config);
        let mut process = Process::spawn("tenfold", command)?;
        for address in admin.iter().chain(&listeners) {
            process.wait_for_port(address.port(), TIMEOUT)?;
        }
        Ok(Self { process, dir, config, addresses: listeners, admin, successors: Vec::new() })
    }

    /// The `tenfold` program without arguments: that of the variable `TENFOLD_BIN`, or that of the build which this
    /// program belongs to, brought up to date first.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn command() -> Result<Command> {
        Ok(Command::new(Self::binary()?))
    }

    /// Where the `tenfold` program is; see [`command`](Self::command).
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn binary() -> Result<&'static Path> {
        static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let found = BINARY.get_or_init(|| find_binary().map_err(|error| format!("{error:#}")));
        found.as_deref().map_err(|error| anyhow::anyhow!("tenfold binary: {error}"))
    }

    /// The first listener's address, with loopback for a wildcard.
    ///
    /// # Panics
    /// When the configuration has no listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The admin listener's address, if the configuration has one.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it printed so far: its log.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Replaces the configuration file in one step, and nothing else.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite(&self, toml: &str) -> Result<()> {
        self.dir.write("tenfold.toml", toml).map(drop)
    }

    /// Replaces the configuration file and sends SIGHUP. Whether and when it took is for the caller to see, by
    /// [`metric`](Self::metric) for one.
    ///
    /// # Errors
    /// When the file cannot be written or the process has ended.
    pub fn reload(&mut self, toml: &str) -> Result<()> {
        self.rewrite(toml)?;
        self.process.signal(Signal::HUP)
    }

    /// Has a new process take over, and gives its id. It is killed with this guard, and what it prints is part of the
    /// output.
    ///
    /// # Errors
    /// Why none took over.
    pub fn upgrade(&mut self) -> Result<u32> {
        let admin = self.admin.context("the configuration has no [admin] listen")?;
        let mut conn = RawConn::connect(admin)?;
        let json = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        conn.send(format!("POST /api/upgrade HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n{json}"))?;
        let response = conn.read_response("POST")?;
        ensure!(response.status == 200, "status {}: {}", response.status, response.text());
        let value: serde_json::Value = serde_json::from_slice(&response.body)?;
        let pid = value["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("no pid")?;
        self.succeeded_by(pid);
        Ok(pid)
    }

    /// Notes a process that took over, so that it is killed with this guard.
    pub fn succeeded_by(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// GETs a path of the admin listener on a connection of its own.
    ///
    /// # Errors
    /// When the configuration has no admin listener or it does not answer in time.
    pub fn admin_get(&self, path: &str) -> Result<Response> {
        let admin = self.admin.context("the configuration has no [admin] listen")?;
        let mut conn = RawConn::connect(admin)?;
        conn.send(format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"))?;
        conn.read_response("GET")
    }

    /// The sum of a metric's series whose labels hold each of `labels` (`status="200"`, say); 0 when there are none.
    ///
    /// # Errors
    /// As [`admin_get`](Self::admin_get).
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let response = self.admin_get("/metrics")?;
        ensure!(response.status == 200, "/metrics answers {}", response.status);
        Ok(sum_of(&response.text(), name, labels))
    }

    /// Asks until `done` or 10 s have passed.
    ///
    /// # Errors
    /// What `done` fails with, or that `what` did not come true; the message holds the log.
    pub fn wait_until(&self, what: &str, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while !done(self)? {
            if Instant::now() > deadline {
                bail!("{what}: not after {TIMEOUT:?}; tenfold printed:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Tenfold {
    fn drop(&mut self) {
        // Those that nobody has noted are still children of one that was.
        let known = self.successors.iter().copied().chain([self.process.pid()]);
        let all: Vec<u32> = known.flat_map(procfs::with_descendants).filter(|&pid| pid != self.process.pid()).collect();
        all.into_iter().for_each(crate::process::kill);
    }
}

fn sum_of(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = if let Some(labelled) = rest.strip_prefix('{') {
            labelled.rsplit_once("} ")?
        } else {
            ("", rest.strip_prefix(' ')?)
        };
        let matches = labels.iter().all(|label| series.contains(label));
        // A timestamp may follow the value.
        matches.then(|| value.split(' ').next()?.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(value).sum()
}

fn find_binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("TENFOLD_BIN") {
        let path = PathBuf::from(given);
        ensure!(path.is_file(), "TENFOLD_BIN is {}, which is no file", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe()?;
    // Tests are in TARGET/PROFILE/deps, programs in TARGET/PROFILE.
    let mut folder = own.parent().context("no folder")?;
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder = folder.parent().context("no folder")?;
    }
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => bail!("{} is not in a build folder", own.display()),
    };
    build(profile, folder.parent().context("no folder")?)?;
    Ok(folder.join("tenfold"))
}

fn build(profile: &str, target_dir: &Path) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "tenfold-cli", "--profile", profile]);
    command.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target_dir);
    let output = command.output().context("cargo build")?;
    ensure!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The admin's address and those of the listeners, in the file's order.
fn addresses_in(toml: &str) -> Result<(Option<SocketAddr>, Vec<SocketAddr>)> {
    let table: toml::Table = toml.parse().context("the configuration is not TOML")?;
    let listen = |value: &toml::Value| match value.get("listen").filter(|_| !is_udp(value)) {
        Some(toml::Value::Array(several)) => several.iter().filter_map(reachable).collect(),
        Some(one) => reachable(one).into_iter().collect::<Vec<_>>(),
        None => Vec::new(),
    };
    let admin = table.get("admin").and_then(|admin| listen(admin).first().copied());
    let listeners = table.get("listener").and_then(toml::Value::as_table);
    Ok((admin, listeners.into_iter().flat_map(toml::Table::values).flat_map(listen).collect()))
}

/// Whether a listener is for UDP, where there is nothing to connect to.
fn is_udp(listener: &toml::Value) -> bool {
    listener.get("kind").and_then(toml::Value::as_str) == Some("udp")
}

/// The address by which this machine reaches a listener; `None` for one written otherwise than as an address, and for
/// port 0, of which only the log knows what became.
fn reachable(value: &toml::Value) -> Option<SocketAddr> {
    let text = value.as_str()?;
    let wildcard = text.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
    let mut address: SocketAddr = wildcard.as_deref().unwrap_or(text).parse().ok()?;
    if address.port() == 0 {
        return None;
    }
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { "::1".parse().ok()? };
        address.set_ip(loopback);
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_configuration() {
        let toml = "[admin]\nlisten = \"127.0.0.1:9900\"\n\
                    [listener.b]\nlisten = [\"0.0.0.0:80\", \"[::]:80\"]\n[listener.a]\nlisten = \"10.0.0.1:81\"\n\
                    [listener.c]\nlisten = \":82\"\n[listener.d]\nlisten = \"127.0.0.1:0\"\n";
        let (admin, listeners) = addresses_in(toml).unwrap();
        assert_eq!(admin, Some("127.0.0.1:9900".parse().unwrap()));
        let expected =
            ["127.0.0.1:80", "[::1]:80", "10.0.0.1:81", "127.0.0.1:82"].map(|text| text.parse::<SocketAddr>().unwrap());
        assert_eq!(listeners, expected);
        assert!(addresses_in("[listener").is_err());
    }

    #[test]
    fn series_are_summed_by_their_labels() {
        let text = "# TYPE requests counter\nrequests_total{status=\"200\",path=\"a} b\"} 3\n\
                    requests_total{status=\"500\"} 2\nrequests_total_other 9\nplain 1.5\n# EOF\n";
        let check = |name: &str, labels: &[&str], expected: f64| assert_eq!(sum_of(text, name, labels), expected);
        check("requests_total", &[], 5.0);
        check("requests_total", &["status=\"200\""], 3.0);
        check("requests_total", &["status=\"404\""], 0.0);
        check("plain", &[], 1.5);
    }
}
