//! Where clients connect.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use net::tls::ServerTls;
use pgroute::auth::{Method, Stored};
use vocab::Name;

/// A listener that speaks PostgreSQL's protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct PgListenerParams {
    /// Its name.
    pub name: Name,
    /// Where it listens.
    pub listen: Listen,
    /// The TLS that it offers.
    pub tls: Option<PgTls>,
    /// The console, if it has one: a database of its own that is the proxy itself.
    pub console: Option<ConsoleParams>,
    /// Names of the databases that are served there, as the file has them (`*` for [`crate::DatabaseName::Any`]); all if it is empty.
    pub databases: Vec<String>,
    /// Clients at once, those that have not proved who they are included.
    pub clients_max: u32,
    /// How long a client may take from its first byte to the end of its login, the handshake of TLS included.
    pub login_timeout: Duration,
    /// How long a client may take nothing of its answers, or send nothing of a message that it has begun.
    pub stall_timeout: Duration,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a Unix socket: its file, which is replaced if it is there and nobody listens. Every user of the machine may connect.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    /// As a log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// TLS as a listener of PostgreSQL offers it.
#[derive(Clone, Debug, PartialEq)]
pub struct PgTls {
    /// What is offered.
    pub server: ServerTls,
    /// Whether a client that does not speak it is refused. Unix sockets do without.
    pub required: bool,
}

/// Who may look at the pools, and change them, by a client of PostgreSQL.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsoleParams {
    /// By what they prove who they are. There is no way without.
    pub method: Method,
    /// Who they are.
    pub users: Vec<ConsoleUser>,
}

/// Somebody who may use the console.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsoleUser {
    /// The name.
    pub name: String,
    /// What is known of the password.
    pub stored: Stored,
    /// Whether changes are allowed: otherwise everything is only shown.
    pub is_admin: bool,
}

impl ConsoleParams {
    /// The user of a name.
    pub fn user(&self, name: &str) -> Option<&ConsoleUser> {
        self.users.iter().find(|user| user.name == name)
    }
}

impl PgListenerParams {
    /// A listener with the defaults: no TLS, all databases, 10,000 clients, a minute for a login as PostgreSQL's
    /// `authentication_timeout`, and five minutes for who stalls: longer than most networks forget a connection.
    pub fn new(name: Name, listen: Listen) -> Self {
        Self {
            name,
            listen,
            tls: None,
            console: None,
            databases: Vec::new(),
            clients_max: 10_000,
            login_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(300),
        }
    }
}
