//! A second `tenfold run`: a proxy before a database.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::gateway::Gateway;
use super::{LOOK, READY_TIMEOUT, Stage, free_ports};

/// The proxy.
#[derive(Debug)]
pub(in crate::demo) struct Proxy {
    address: SocketAddr,
    gateway: Gateway,
}

impl Stage {
    /// Starts it before servers of PostgreSQL, the primary first, and waits until it is ready.
    pub(in crate::demo) async fn start_proxy(&self, servers: &[SocketAddr]) -> anyhow::Result<Proxy> {
        let [address, admin]: [SocketAddr; 2] = free_ports()?;
        let url = |server: &SocketAddr| format!("\"postgres://postgres@{server}/postgres\"");
        let (primary, replicas) = servers.split_first().context("demo: no server")?;
        let replicas: Vec<_> = replicas.iter().map(url).collect();
        let text = format!(
            "# Made by `tenfold demo`.\n\n[admin]\nlisten = \"{admin}\"\n\n[database.postgres]\nlisten = \"{address}\"\n\
             primary = {}\nreplicas = [{}]\nauth = {{ method = \"trust\" }}\n",
            url(primary),
            replicas.join(", ")
        );
        let path = self.folder.0.join("database.toml");
        fs::write(&path, text).context("demo: the proxy's configuration")?;
        let proxy = Proxy { address, gateway: Gateway::spawn(&path, &self.folder.log("proxy"))? };
        let deadline = Instant::now() + READY_TIMEOUT;
        while TcpStream::connect(address).await.is_err() {
            ensure!(Instant::now() < deadline, "demo: the proxy does not become ready; {}", proxy.gateway.last_words());
            sleep(LOOK).await;
        }
        Ok(proxy)
    }
}

impl Proxy {
    /// Where it serves.
    pub(in crate::demo) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as an operator would.
    pub(in crate::demo) async fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop().await
    }
}
