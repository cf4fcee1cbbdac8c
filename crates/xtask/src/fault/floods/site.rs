use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use testkit::{Authority, Steady, SteadyParams, Tenfold, free_port};

use crate::fault::Origins;
use crate::proof;

/// The load beside which harm is done: light, so that what is measured is a wait for the gateway and not for a core.
const RATE: u32 = 1000;
/// Its connections.
pub(super) const CONNECTIONS: u32 = 16;
/// Every so many requests one of them is given up for a new one: fifty newcomers a second.
const FRESH_EVERY: u32 = 20;

/// What offenders ask for. It has an origin of its own, which runs only when nobody else wants to, so that what harm they do
/// to it is not taken for the gateway's.
pub(super) const HARMED: &str = "harmed.test";

/// A listener that is flooded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// HTTP in clear.
    Web,
    /// HTTPS.
    Secure,
    /// TLS that is passed through by its server name, to the listener for HTTPS.
    Passed,
    /// TCP behind a proxy that says whose each connection is.
    Announced,
}

/// A gateway with listeners of all these kinds, before an origin for the others and one for the offenders.
pub(super) struct Site {
    pub(super) tenfold: Tenfold,
    pub(super) authority: Authority,
    addresses: [SocketAddr; 4],
    _origins: Origins,
}

impl Entry {
    /// The listener's name.
    fn listener(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Secure => "secure",
            Self::Passed => "passed",
            Self::Announced => "announced",
        }
    }

    /// Where the others go meanwhile: there too, or where the same core serves clients that can be had.
    fn of_others(self) -> Self {
        if self == Self::Announced { Self::Web } else { self }
    }

    /// Connections that the others have there.
    pub(super) fn connections(self) -> u64 {
        if self.of_others() == self { u64::from(CONNECTIONS) } else { 0 }
    }
}

impl Site {
    /// Starts it. `patience` is how long it waits for heads, handshakes, readers and idle clients.
    pub(super) fn start(binary: &Path, patience: Duration) -> Result<Self> {
        let origins = Origins::start(2)?;
        proof::give_way(origins.pids()[1])?;
        let authority = Authority::new("floods")?;
        let issued = authority.issue("site", &["localhost"])?;
        let [admin, web, secure, passed, announced] = std::array::from_fn(|_| free_port());
        let ([origin, harmed], seconds) = ([0, 1].map(|at| origins.addresses()[at]), patience.as_secs());
        let listener =
            format!("head_timeout = \"{seconds}s\"\nwrite_timeout = \"{seconds}s\"\nidle_timeout = \"{seconds}s\"");
        let toml = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [listener.web]\nlisten = \"127.0.0.1:{web}\"\n{listener}\n\
             [listener.secure]\nlisten = \"127.0.0.1:{secure}\"\n{listener}\nhandshake_timeout = \"{seconds}s\"\n\
             tls = {{ certificate = \"{}\", key = \"{}\" }}\n\
             [listener.passed]\nkind = \"tcp\"\nlisten = \"127.0.0.1:{passed}\"\nhandshake_timeout = \"{seconds}s\"\n\
             [listener.announced]\nkind = \"tcp\"\nlisten = \"127.0.0.1:{announced}\"\nservice = \"api\"\n\
             proxy_protocol = {{ accept_from = [\"127.0.0.0/8\"] }}\nhandshake_timeout = \"{seconds}s\"\n\
             [[route]]\nname = \"passed\"\nlistener = \"passed\"\nsni = \"localhost\"\nservice = \"secure\"\n\
             [service.secure]\nendpoints = [\"127.0.0.1:{secure}\"]\n\
             [[route]]\nname = \"web\"\nlistener = \"web\"\nservice = \"api\"\n\
             [[route]]\nname = \"secure\"\nlistener = \"secure\"\nservice = \"api\"\n\
             [[route]]\nname = \"harmed\"\nhost = \"{HARMED}\"\nlistener = \"web\"\nservice = \"harmed\"\n\
             [service.api]\nendpoints = [\"{origin}\"]\npool = {{ idle_timeout = \"1s\" }}\n\
             [service.harmed]\nendpoints = [\"{harmed}\"]\npool = {{ connections_max = 4096, idle_timeout = \"1s\" }}\n",
            issued.certificate.display(),
            issued.key.display(),
        );
        let tenfold = Tenfold::start_with(Command::new(binary), &toml)?;
        let addresses = [web, secure, passed, announced].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(Self { tenfold, authority, addresses, _origins: origins })
    }

    /// A listener's address.
    pub(super) fn address(&self, entry: Entry) -> SocketAddr {
        self.addresses[entry as usize]
    }

    /// Starts the load of clients that mean well.
    pub(super) fn load(&self, entry: Entry) -> Steady {
        let entry = entry.of_others();
        let secure = entry != Entry::Web;
        Steady::start(SteadyParams {
            address: self.address(entry),
            path: "/".to_owned(),
            rate: RATE,
            connections: CONNECTIONS,
            fresh_every: FRESH_EVERY,
            tls: secure.then(|| (self.authority.file(), "localhost".to_owned())),
        })
    }

    /// Client connections that a listener has.
    pub(super) fn clients(&self, entry: Entry) -> Result<u64> {
        let listener = format!("service=\"{}\"", entry.listener());
        Ok(self.tenfold.metric("active_connections", &[&listener, "type=\"client\""])? as u64)
    }
}
