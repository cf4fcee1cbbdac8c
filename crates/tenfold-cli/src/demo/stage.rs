//! What the demo stands on: a folder, the sample instances, and the gateway, each in a process of its own.

mod config;
mod gateway;
mod proxy;

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::certificate::ThrowAway;
use super::http::Client;
use config::{CERTIFICATE, KEY, Layout};
use gateway::Gateway;
pub(super) use gateway::Watch;

/// The instances' names.
pub(super) const INSTANCES: [&str; 3] = ["api-1", "api-2", "api-3"];

/// Share of the canary's route that the new version gets.
pub(super) const CANARY_PERCENT: u32 = 10;

/// For how long what is cached is fresh.
pub(super) const FRESH_SECS: u64 = 2;

/// Time for the gateway to be ready, and for a request to the admin listener.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Stage {
    layout: Layout,
    instances: [Option<Child>; INSTANCES.len()],
    gateway: Gateway,
    // Dropped last: the others write into it.
    folder: Folder,
}

/// What the gateway counted, from its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Requests that were sent again.
    pub(super) retries: u64,
    /// Configurations applied while running.
    pub(super) reloads: u64,
    /// Requests of the route that was added.
    pub(super) new_route: u64,
    /// Answers of the new version as a service of its own.
    pub(super) next_responses: u64,
    /// Answers of the service whose pages are cached.
    pub(super) pages_responses: u64,
}

impl Stage {
    /// Starts everything and waits until the gateway is ready.
    pub(super) async fn build() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let layout = Layout::new(free_ports()?);
        let mut instances = [const { None }; INSTANCES.len()];
        for (at, slot) in instances.iter_mut().enumerate() {
            *slot = Some(spawn_instance(&layout, at, &folder)?);
        }
        let made = ThrowAway::new()?;
        fs::write(folder.0.join(CERTIFICATE), &made.certificate).context("demo: the certificate")?;
        fs::write(folder.0.join(KEY), &made.key).context("demo: the certificate's key")?;
        fs::write(folder.config(), layout.toml(&[1; INSTANCES.len()], false)).context("demo: the configuration")?;
        let gateway = Gateway::spawn(&folder.config(), &folder.log("gateway"))?;
        let mut stage = Self { layout, instances, gateway, folder };
        stage.wait_until_ready().await?;
        Ok(stage)
    }

    /// Where the gateway serves.
    pub(super) fn web(&self) -> SocketAddr {
        self.layout.web
    }

    /// Where it serves under TLS.
    pub(super) fn secure(&self) -> SocketAddr {
        self.layout.secure
    }

    /// The certificate that it shows there.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.0.join(CERTIFICATE)
    }

    /// Where its admin listener is.
    pub(super) fn admin(&self) -> SocketAddr {
        self.layout.admin
    }

    /// The instances' addresses.
    pub(super) fn instances(&self) -> [SocketAddr; INSTANCES.len()] {
        self.layout.instances
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.config()
    }

    /// Kills an instance as hard as the system can, and sees it dead.
    pub(super) async fn kill_instance(&mut self, at: usize) -> anyhow::Result<()> {
        let mut child = self.instances[at].take().context("demo: the instance does not run")?;
        child.kill().await.with_context(|| format!("demo: {} cannot be killed", INSTANCES[at]))
    }

    /// Starts an instance again. The gateway finds out by itself.
    pub(super) fn start_instance(&mut self, at: usize) -> anyhow::Result<()> {
        self.instances[at] = Some(spawn_instance(&self.layout, at, &self.folder)?);
        Ok(())
    }

    /// Writes the configuration anew, tells the gateway, and waits until it has taken it.
    pub(super) async fn reconfigure(
        &mut self,
        weights: &[u32; INSTANCES.len()],
        new_route: bool,
        within: Duration,
    ) -> anyhow::Result<()> {
        let before = self.counted().await?.reloads;
        let (path, new) = (self.folder.config(), self.folder.0.join("tenfold.toml.new"));
        // Renamed into place, so that the gateway never reads half a file.
        fs::write(&new, self.layout.toml(weights, new_route)).context("demo: the new configuration")?;
        fs::rename(&new, &path).context("demo: the new configuration")?;
        self.gateway.reload()?;
        let deadline = Instant::now() + within;
        while self.counted().await?.reloads == before {
            ensure!(
                Instant::now() < deadline,
                "demo: the gateway did not take the new configuration; {}",
                self.gateway.last_words()
            );
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Sends a request that the route added by [`Self::reconfigure`] serves.
    pub(super) async fn use_new_route(&self) -> anyhow::Result<()> {
        let answer =
            Client::new(self.layout.web).get("/reports/today", ADMIN_TIMEOUT).await.context("demo: the new route")?;
        ensure!(answer.status == 200, "demo: the new route answered {}", answer.status);
        Ok(())
    }

    /// What the gateway counted so far.
    pub(super) async fn counted(&self) -> anyhow::Result<Counted> {
        let answer =
            Client::new(self.layout.admin).get("/metrics", ADMIN_TIMEOUT).await.context("demo: the metrics")?;
        ensure!(answer.status == 200, "demo: the metrics answered {}", answer.status);
        let page = String::from_utf8(answer.body).context("demo: the metrics")?;
        Ok(Counted {
            retries: sum(&page, "service_retries_total", ""),
            reloads: sum(&page, "config_reloads_total", "result=\"success\""),
            new_route: sum(&page, "http_requests_total", "endpoint=\"reports\""),
            next_responses: sum(&page, "upstream_responses_total", "service=\"next\""),
            pages_responses: sum(&page, "upstream_responses_total", "service=\"pages\""),
        })
    }

    /// Runs this program on the running gateway, as an operator would, and gives what it printed.
    pub(super) async fn tell(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let admin = format!("http://{}", self.layout.admin);
        let output = command()?.args(arguments).args(["--admin", &admin]).output().await?;
        let shown = arguments.join(" ");
        ensure!(output.status.success(), "demo: tenfold {shown}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).with_context(|| format!("demo: tenfold {shown}"))
    }

    /// A view of the gateway's process that borrows nothing.
    pub(super) fn watch_gateway(&self) -> Watch {
        self.gateway.watch()
    }

    /// Waits until the gateway has ended, which it should not.
    pub(super) async fn gateway_ended(&self) -> anyhow::Error {
        self.gateway.watch().ended().await
    }

    /// Ends the gateway as an operator would, and everything else with it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop().await
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let watch = self.gateway.watch();
        let admin = self.layout.admin;
        let ready = async {
            let deadline = Instant::now() + READY_TIMEOUT;
            loop {
                match Client::new(admin).get("/readyz", ADMIN_TIMEOUT).await {
                    Ok(answer) if answer.status == 200 => return Ok(()),
                    Ok(answer) if Instant::now() >= deadline => {
                        let body = String::from_utf8_lossy(&answer.body).into_owned();
                        return Err(anyhow::anyhow!("demo: the gateway does not become ready: {body}"));
                    }
                    Err(error) if Instant::now() >= deadline => {
                        return Err(error.context("demo: the gateway does not answer"));
                    }
                    Ok(_) | Err(_) => sleep(LOOK).await,
                }
            }
        };
        tokio::select! {
            result = ready => result,
            error = watch.ended() => Err(error),
        }
    }
}

/// Adds up the rows of a family whose labels hold a text.
fn sum(page: &str, family: &str, labels: &str) -> u64 {
    let rows = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(family)?;
        let (found, value) = rest.rsplit_once(' ')?;
        let whole = found.is_empty() || found.starts_with('{');
        (whole && found.contains(labels)).then(|| value.parse::<f64>().ok())?
    });
    rows.sum::<f64>() as u64
}

/// This program again, with arguments, as a child that never outlives it.
fn command() -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("demo: this program cannot find itself")?;
    let mut command = Command::new(program);
    command
        .arg(format!("--parent={}", std::process::id()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        // Ctrl-C is for the demo, which then ends the others in their order.
        .process_group(0);
    Ok(command)
}

fn spawn_instance(layout: &Layout, at: usize, folder: &Folder) -> anyhow::Result<Child> {
    let name = INSTANCES[at];
    command()?
        .args(["demo-instance", "--name", name, "--port", &layout.instances[at].port().to_string()])
        .stdout(Stdio::null())
        .stderr(log_file(&folder.log(name))?)
        .spawn()
        .with_context(|| format!("demo: {name} cannot be started"))
}

fn log_file(path: &Path) -> anyhow::Result<File> {
    File::options().append(true).create(true).open(path).with_context(|| format!("demo: {}", path.display()))
}

/// Ports that are free now. They are asked for together, so that they differ.
pub(super) fn free_ports<const COUNT: usize>() -> anyhow::Result<[SocketAddr; COUNT]> {
    let mut held = Vec::new();
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).context("demo: no free port")?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

/// A folder for the configuration and the logs, removed at the end.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("tenfold-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("demo: {}", path.display()))?;
        Ok(Self(path))
    }

    fn config(&self) -> PathBuf {
        self.0.join("tenfold.toml")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.log"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing can be done about a folder that stays; it is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_up_by_family_and_label() {
        let page = "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"2\",y=\"2\"} 4\n\
                    a_total_more{x=\"1\"} 100\nb_total 5\n";
        let check = |family: &str, labels: &str, expected: u64| {
            assert_eq!(sum(page, family, labels), expected, "{family} {labels}");
        };
        check("a_total", "", 7);
        check("a_total", "x=\"1\"", 3);
        check("b_total", "", 5);
        check("c_total", "", 0);
    }

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports::<6>().expect("free ports").map(|address| address.port());
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "{ports:?}");
    }
}
