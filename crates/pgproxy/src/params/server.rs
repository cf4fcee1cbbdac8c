//! The servers of a database.

use std::fmt;
use std::path::PathBuf;

use net::tls::ClientTls;
use vocab::Secret;

/// A PostgreSQL server, and how it is logged in to.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerParams {
    /// Where it is.
    pub address: ServerAddress,
    /// The database on it. `None` for that of the name that the client asked for.
    pub dbname: Option<String>,
    /// The user that backends log in as. `None` for the client's own, with the password that is stored for it or the key that it
    /// left when it proved its password.
    pub user: Option<String>,
    /// The password of that user.
    pub password: Option<Secret>,
    /// Whether TLS is spoken with it.
    pub tls: BackendTls,
    /// Settings that every backend begins with, by name, as in `options=-c name=value`.
    pub settings: Vec<(String, String)>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddress {
    /// A host, which is looked up at every connection, and a port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket: its file, such as `/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

impl fmt::Display for ServerAddress {
    /// As a log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether TLS is spoken with a server. `verify-full` is [`BackendTls::Require`] with authorities; libpq's `require` trusts
/// [anyone](net::tls::Trust::Anyone).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum BackendTls {
    /// Never.
    #[default]
    Off,
    /// If the server does. It never does over a Unix socket.
    Prefer(ClientTls),
    /// Always: a server that does not is not used.
    Require(ClientTls),
}

/// A replica.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaParams {
    /// The server.
    pub server: ServerParams,
    /// Its share of the reads, beside those of the others; 1 is usual.
    pub weight: u32,
    /// Where it stands; replicas in another zone than this process serve when there is no other.
    pub zone: Option<String>,
}
