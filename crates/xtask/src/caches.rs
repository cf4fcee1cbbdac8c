//! Caches that are held to something beside each other: how each is started before an origin.
//!
//! What a peer is told stands in files with placeholders, a folder for each purpose; what Tenfold is told stands in
//! `bench/cache/tenfold.toml` for all of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{Process, TempDir, Tenfold, free_port, haproxy, nginx, procfs, varnish};

use crate::repository;

/// All of them.
pub(crate) const CACHES: &[&str] = &["tenfold", "varnish", "nginx", "haproxy"];
const TENFOLD: &str = "bench/cache/tenfold.toml";

/// A running cache.
pub(crate) struct Cache {
    pub(crate) name: String,
    pub(crate) port: u16,
    server: Server,
}

enum Server {
    Peer(Process, #[allow(dead_code, reason = "holds the folder for as long as the process runs")] TempDir),
    Tenfold(Box<Tenfold>),
}

/// What a cache is told.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'s> {
    /// The folder of the peers' configurations.
    pub(crate) folder: &'s str,
    pub(crate) origin: SocketAddr,
    pub(crate) workers: usize,
    /// Its bound, where the configuration has a place for one.
    pub(crate) memory_mib: u64,
    /// A bound on its answers besides, where there is one.
    pub(crate) answers: u64,
    /// Options of `varnishd` besides the bound.
    pub(crate) varnish: &'s [&'s str],
    /// The `tenfold` program, if it is among them.
    pub(crate) binary: Option<&'s Path>,
}

impl Cache {
    /// Starts one by its name.
    pub(crate) fn start(name: &str, setting: Setting<'_>) -> Result<Self> {
        let port = free_port();
        let values = [
            ("{port}", port.to_string()),
            ("{admin}", free_port().to_string()),
            ("{origin}", setting.origin.to_string()),
            ("{origin_host}", setting.origin.ip().to_string()),
            ("{origin_port}", setting.origin.port().to_string()),
            ("{workers}", setting.workers.to_string()),
            ("{memory_mib}", setting.memory_mib.to_string()),
            ("{answers}", setting.answers.to_string()),
            ("{keys_kib}", nginx_keys_kib(setting.answers).to_string()),
        ];
        let text = |file: &str| repository::template(&format!("{}/{file}", setting.folder), &values);
        let peer = |(process, dir)| Server::Peer(process, dir);
        let server = match name {
            "tenfold" => {
                let binary = setting.binary.context("no tenfold program was built")?;
                let toml = repository::template(TENFOLD, &values)?;
                Tenfold::start_with(Command::new(binary), &toml).map(|tenfold| Server::Tenfold(Box::new(tenfold)))
            }
            "nginx" => nginx(&text("nginx.conf")?, port).map(peer),
            "haproxy" => haproxy(&text("haproxy.cfg")?, port).map(peer),
            "varnish" => {
                let bound = format!("malloc,{}m", setting.memory_mib);
                let words = ["-s", &bound].into_iter().chain(setting.varnish.iter().copied());
                let options: Vec<String> = words.map(str::to_owned).collect();
                varnish(&text("varnish.vcl")?, &options, port).map(peer)
            }
            other => bail!("no subject {other}; there are {}", CACHES.join(", ")),
        };
        let server = server.with_context(|| format!("subject {name}"))?;
        Ok(Self { name: name.to_owned(), port, server })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Time that it has spent on a CPU, with all its processes.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let pids = match &self.server {
            Server::Peer(process, _) => process.pids(),
            Server::Tenfold(tenfold) => procfs::with_descendants(tenfold.pid()),
        };
        procfs::cpu_time(&pids).with_context(|| format!("{}: {}", self.name, self.output()))
    }

    /// What it printed.
    pub(crate) fn output(&self) -> String {
        match &self.server {
            Server::Peer(process, _) => process.output(),
            Server::Tenfold(tenfold) => tenfold.output(),
        }
    }
}

/// How large nginx's zone of keys is for about so many answers: 128 bytes for each, and some pages for itself. What is beyond its bound on bytes
/// goes only every ten seconds; what there is no room for in the zone has another one go at once, and an eighth of all at the next ten
/// seconds.
fn nginx_keys_kib(answers: u64) -> u64 {
    answers / 8 + answers / 64 + 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cache_has_its_configurations_and_knows_all_placeholders_in_them() {
        let known = [
            "port",
            "admin",
            "origin",
            "origin_host",
            "origin_port",
            "workers",
            "memory_mib",
            "answers",
            "keys_kib",
            "dir",
        ];
        for folder in ["bench/cache", "tests/cache"] {
            for file in ["nginx.conf", "varnish.vcl", "haproxy.cfg"] {
                check(&format!("{folder}/{file}"), &known);
            }
        }
        check(TENFOLD, &known);
    }

    fn check(file: &str, known: &[&str]) {
        let text = repository::template(file, &[]).unwrap();
        for part in text.split('{').skip(1) {
            let Some((word, _)) = part.split_once('}') else { continue };
            let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            assert!(!is_word || known.contains(&word), "{file}: {{{word}}}");
        }
    }
}
