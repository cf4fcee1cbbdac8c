//! What the console's tables are made of.

use std::net::SocketAddr;
use std::time::Duration;

/// The proxy at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The program and its version, such as `Tenfold 1.2.3`.
    pub version: String,
    /// Databases, as they were asked for or as the file has them.
    pub databases: Vec<DatabaseLine>,
    /// Pools, one per database, user and server.
    pub pools: Vec<PoolLine>,
    /// Clients that are logged in.
    pub clients: Vec<ClientLine>,
    /// Clients that are being logged in.
    pub login_clients: usize,
    /// Connections to servers.
    pub servers: Vec<ServerLine>,
    /// Users that are known by name.
    pub users: Vec<UserLine>,
    /// Servers by their roles.
    pub replicas: Vec<ReplicaLine>,
    /// Settings of the listener.
    pub settings: Vec<Setting>,
}

/// A database.
#[derive(Clone, Debug, Default)]
pub struct DatabaseLine {
    /// Its name.
    pub name: String,
    /// Where its primary is: a host, or the folder of a Unix socket.
    pub host: String,
    /// The primary's port.
    pub port: Option<u16>,
    /// The database on the server.
    pub dbname: String,
    /// Who everybody is for the server, if that is one.
    pub server_user: Option<String>,
    /// Connections that a pool keeps, keeps at least, and opens in need.
    pub pool: [usize; 3],
    /// How long clients keep a connection.
    pub mode: &'static str,
    /// Whether it lends no connections.
    pub is_paused: bool,
    /// Whether it takes no new clients.
    pub is_disabled: bool,
    /// What was counted.
    pub counts: Counts,
    /// What was counted per second of the last period; `wait_micros` per wait.
    pub averages: Counts,
}

/// What is counted for a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions.
    pub transactions: u64,
    /// Statements.
    pub statements: u64,
    /// Time that clients waited for connections, in microseconds.
    pub wait_micros: u64,
    /// Such waits.
    pub waits: u64,
}

/// A pool.
#[derive(Clone, Debug, Default)]
pub struct PoolLine {
    /// The database.
    pub database: String,
    /// The user, as clients name it.
    pub user: String,
    /// Connections that clients have.
    pub lent: usize,
    /// Connections that nobody has.
    pub idle: usize,
    /// Connections that are being made.
    pub opening: usize,
    /// How long clients of this user keep a connection.
    pub mode: &'static str,
}

/// A client.
#[derive(Clone, Debug)]
pub struct ClientLine {
    /// Its number, which no other one of the process ever has.
    pub number: u64,
    /// Its user.
    pub user: String,
    /// Its database.
    pub database: String,
    /// Where it is; `None` at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Where it connected to.
    pub local: Option<SocketAddr>,
    /// Since when it is logged in, in seconds since 1970.
    pub since: u64,
    /// How long it has waited for a connection, if it does.
    pub waits: Option<Duration>,
    /// Version and cipher of TLS, or nothing.
    pub tls: String,
    /// What it called itself at its beginning.
    pub application: String,
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub struct ServerLine {
    /// The pool and its number there.
    pub id: String,
    /// The user, as clients name it.
    pub user: String,
    /// The database.
    pub database: String,
    /// Whether a client has it.
    pub is_active: bool,
    /// Where the server is; `None` at a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Where the connection comes from.
    pub local: Option<SocketAddr>,
    /// Since when it is there, in seconds since 1970.
    pub since: u64,
    /// Whether it is closed when it comes back.
    pub is_old: bool,
    /// The server's process.
    pub pid: i32,
    /// Version and cipher of TLS, or nothing.
    pub tls: String,
}

/// A user of a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserLine {
    /// Its name.
    pub name: String,
    /// Its mode, where it has one of its own.
    pub mode: Option<&'static str>,
}

/// A server of a database, by its role.
#[derive(Clone, Debug)]
pub struct ReplicaLine {
    /// The database.
    pub database: String,
    /// Where it is.
    pub server: String,
    /// What it is.
    pub state: &'static str,
    /// How far it is behind, if it is a replica.
    pub lag: Option<Duration>,
    /// Whether reads go to it.
    pub is_usable: bool,
}

/// A setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// PgBouncer's name of it.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Its default.
    pub default: &'static str,
}
