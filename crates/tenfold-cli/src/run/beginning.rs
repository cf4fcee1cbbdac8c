//! What the process begins with: sockets from a service manager, or all that the process before it hands over.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use gateway::Inheritance;
use net::handover::{Draining, Offer, Predecessor};
use net::inherit::{Inherited, OpenedFor, Unusable};
use serde_json::{Value, json};

/// What there was when the process began.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// Sockets that nobody has taken yet.
    pub(super) sockets: Inherited,
    /// What the gateway before this one knew.
    knowledge: String,
    unusable: Vec<Unusable>,
    before: Option<(Predecessor, Before)>,
}

/// The process before this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    pid: u64,
    version: String,
}

impl Beginning {
    /// Looks what there is. `take_over` says that a process makes an offer at standard input.
    ///
    /// # Errors
    /// When that is not so.
    pub(super) fn find(take_over: bool) -> anyhow::Result<Self> {
        if take_over {
            let (predecessor, offer) = Predecessor::at_stdin().context("nothing is handed over at standard input")?;
            return Ok(Self::of(predecessor, offer));
        }
        let env = |name: &str| std::env::var(name).ok();
        // SAFETY: the environment is as the process was started with, for nothing here changes it, and `run` begins with
        // this: standard streams aside, no descriptor has been opened yet.
        let (sockets, unusable) = unsafe { Inherited::from_manager(&env, std::process::id()) };
        Ok(Self { sockets, unusable, ..Self::default() })
    }

    fn of(predecessor: Predecessor, offer: Offer) -> Self {
        let state: Value = serde_json::from_slice(&offer.state).unwrap_or_default();
        let text = |key: &str| state[key].as_str().unwrap_or_default().to_owned();
        let before = Before { pid: state["pid"].as_u64().unwrap_or_default(), version: text("version") };
        let mut beginning =
            Self { knowledge: text("knowledge"), before: Some((predecessor, before)), ..Self::default() };
        for (name, socket) in offer.sockets {
            // What this version does not know stays the other's to serve until it ends.
            let Some(opened_for) = opened_for(&name) else { continue };
            beginning.unusable.extend(beginning.sockets.add(&name, Some(opened_for), socket).err());
        }
        beginning
    }

    /// Says in the log what was given and cannot be used.
    pub(super) fn warn(&mut self) {
        for unusable in self.unusable.drain(..) {
            tracing::warn!("{unusable}");
        }
    }

    /// What the gateway begins with: the sockets that are left, and what the one before knew.
    pub(super) fn inheritance(&mut self) -> Inheritance {
        let knowledge = std::mem::take(&mut self.knowledge);
        Inheritance { sockets: std::mem::take(&mut self.sockets), knowledge }
    }

    /// Tells the process before this one, if there is one, that this one cannot serve, and why.
    pub(super) fn failed(&mut self, reason: &str) {
        if let Some((predecessor, _)) = self.before.take() {
            predecessor.failed(reason);
        }
    }

    /// Tells the process before this one that this one serves; `None` when there is none.
    pub(super) fn ready(&mut self) -> Option<(Before, Option<Draining>)> {
        let (predecessor, before) = self.before.take()?;
        match predecessor.ready(env!("CARGO_PKG_VERSION"), u32::try_from(before.pid).ok()) {
            Ok(draining) => Some((before, Some(draining))),
            Err(error) => {
                tracing::warn!(pid = before.pid, %error, "the process before this one has ended early");
                Some((before, None))
            }
        }
    }
}

impl Before {
    /// As the admin listener shows it.
    pub(super) fn shown(&self, connections: usize) -> Value {
        json!({ "pid": self.pid, "version": self.version, "connections": connections })
    }
}

/// The name of a TCP socket that was opened for an address.
pub(super) fn tcp_name(address: SocketAddr) -> String {
    format!("tcp {address}")
}

/// The name of a Unix socket that was opened at a file.
pub(super) fn unix_name(path: &Path) -> String {
    format!("unix {}", path.display())
}

fn opened_for(name: &str) -> Option<OpenedFor> {
    if let Some(path) = name.strip_prefix("unix ") {
        return Some(OpenedFor::Unix(path.into()));
    }
    name.strip_prefix("tcp ")?.parse().ok().map(OpenedFor::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["127.0.0.1:80", "[::1]:0", "[2001:db8::1]:443"] {
            let address = text.parse().expect("an address");
            assert_eq!(opened_for(&tcp_name(address)), Some(OpenedFor::Tcp(address)));
        }
        let path = Path::new("/run/tenfold/a folder/.s.PGSQL.6432");
        assert_eq!(opened_for(&unix_name(path)), Some(OpenedFor::Unix(path.to_owned())));
        assert_eq!(opened_for("udp 127.0.0.1:80"), None);
        assert_eq!(opened_for("127.0.0.1:80"), None);
    }
}
