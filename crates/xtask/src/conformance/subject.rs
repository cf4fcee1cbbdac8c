use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use testkit::{Process, TempDir, Tenfold, haproxy, nginx};

/// A proxy in front of upstreams.
pub(super) enum Subject {
    /// nginx or HAProxy.
    Peer(Process, #[allow(dead_code, reason = "holds the folder for as long as the process runs")] TempDir),
    /// Tenfold.
    Tenfold(Box<Tenfold>),
}

/// A listening port and the upstream behind it.
pub(super) type Pair = (u16, SocketAddr);

/// The configurations of the three for one proof.
pub(super) struct Texts {
    pub(super) tenfold: fn(&Setting) -> String,
    pub(super) nginx: fn(&Setting) -> String,
    pub(super) haproxy: fn(&Setting) -> String,
}

/// What a configuration is to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    /// Listeners without TLS, so that rows run side by side.
    pub(super) bare: Vec<Pair>,
    /// Listeners with TLS.
    pub(super) tls: Vec<Pair>,
    /// Files of the certificate and its key, and one that holds both.
    pub(super) certificate: [String; 3],
}

impl Subject {
    /// Starts `tenfold`, of which the program is given, `nginx` or `haproxy`.
    pub(super) fn start(name: &str, binary: Option<&Path>, texts: &Texts, setting: &Setting) -> Result<Self> {
        let port = setting.bare.first().context("no listener")?.0;
        match (name, binary) {
            ("tenfold", Some(binary)) => {
                let tenfold = Tenfold::start_with(Command::new(binary), &(texts.tenfold)(setting))?;
                Ok(Self::Tenfold(Box::new(tenfold)))
            }
            ("nginx", _) => nginx(&(texts.nginx)(setting), port).map(|(process, dir)| Self::Peer(process, dir)),
            ("haproxy", _) => haproxy(&(texts.haproxy)(setting), port).map(|(process, dir)| Self::Peer(process, dir)),
            _ => bail!("no subject {name}; there are tenfold, nginx, haproxy"),
        }
    }

    /// An error when it has ended.
    pub(super) fn still_runs(&mut self) -> Result<(), String> {
        let process = match self {
            Self::Peer(process, _) => process,
            Self::Tenfold(tenfold) => tenfold.process(),
        };
        if process.is_running() { Ok(()) } else { Err(format!("it ended: {}", process.output())) }
    }
}
