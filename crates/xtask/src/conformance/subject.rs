use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use testkit::{Process, RawUpstream, TempDir, Tenfold, free_port, haproxy, nginx};

/// A proxy in front of several upstreams, each with a listener of its own, so that rows run side by side.
pub(super) struct Subject {
    pub(super) listeners: Vec<SocketAddr>,
    server: Server,
}

enum Server {
    Peer(Process, #[allow(dead_code, reason = "holds the folder for as long as the process runs")] TempDir),
    Tenfold(Box<Tenfold>),
}

impl Subject {
    /// Starts `tenfold`, `nginx` or `haproxy`, with short timeouts and bodies of at most 1 MiB.
    pub(super) fn start(name: &str, binary: Option<&Path>, upstreams: &[RawUpstream]) -> Result<Self> {
        let ports: Vec<u16> = upstreams.iter().map(|_| free_port()).collect();
        let pairs: Vec<(u16, SocketAddr)> =
            ports.iter().copied().zip(upstreams.iter().map(RawUpstream::address)).collect();
        let server = match (name, binary) {
            ("tenfold", Some(binary)) => {
                let tenfold = Tenfold::start_with(Command::new(binary), &tenfold_toml(&pairs))?;
                Server::Tenfold(Box::new(tenfold))
            }
            ("nginx", _) => nginx(&nginx_conf(&pairs), ports[0]).map(|(process, dir)| Server::Peer(process, dir))?,
            ("haproxy", _) => {
                haproxy(&haproxy_cfg(&pairs), ports[0]).map(|(process, dir)| Server::Peer(process, dir))?
            }
            _ => bail!("no subject {name}; there are tenfold, nginx, haproxy"),
        };
        let listeners = ports.into_iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        Ok(Self { listeners, server })
    }

    /// An error when it has ended.
    pub(super) fn still_runs(&mut self) -> Result<(), String> {
        let process = match &mut self.server {
            Server::Peer(process, _) => process,
            Server::Tenfold(tenfold) => tenfold.process(),
        };
        if process.is_running() { Ok(()) } else { Err(format!("it ended: {}", process.output())) }
    }
}

fn tenfold_toml(pairs: &[(u16, SocketAddr)]) -> String {
    let mut text = format!("[admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nlevel = \"warn\"\n", free_port());
    for (index, (port, upstream)) in pairs.iter().enumerate() {
        // One endpoint is never taken out and nothing is retried, so that each row stands alone.
        text += &format!(
            "[listener.l{index}]\nlisten = \"127.0.0.1:{port}\"\nbody_bytes_max = \"1MiB\"\n\
             head_timeout = \"1s\"\nbody_timeout = \"1s\"\n\
             [[route]]\nlistener = \"l{index}\"\nservice = \"s{index}\"\n\
             [service.s{index}]\nendpoints = [\"{upstream}\"]\npassive_health = \"off\"\nretry = \"off\"\n\
             response_timeout = \"5s\"\n"
        );
    }
    text
}

fn nginx_conf(pairs: &[(u16, SocketAddr)]) -> String {
    let servers: String = pairs
        .iter()
        .map(|(port, upstream)| {
            format!(
                "upstream u{port} {{ server {upstream} max_fails=0; keepalive 8; }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u{port}; }} }}\n"
            )
        })
        .collect();
    format!(
        "events {{}}\nhttp {{ access_log off; client_max_body_size 1m; client_header_timeout 1s; client_body_timeout 1s;\n\
         large_client_header_buffers 4 32k; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;\n\
         proxy_request_buffering off;\n{servers} }}"
    )
}

fn haproxy_cfg(pairs: &[(u16, SocketAddr)]) -> String {
    let proxies: String = pairs
        .iter()
        .map(|(port, upstream)| {
            format!("listen l{port}\n bind 127.0.0.1:{port}\n option forwardfor\n server a {upstream}\n")
        })
        .collect();
    format!(
        "defaults\n mode http\n timeout http-request 1s\n timeout connect 5s\n timeout client 2s\n timeout server 5s\n{proxies}"
    )
}
