//! A database.

use std::fmt;
use std::time::Duration;

use pgroute::pool::PoolParams;

use super::{
    AuthParams, CatalogueParams, CausalityParams, FailoverParams, ListenParams, Mode, Pid, PinPolicy, ReplicaParams,
    ReplicaPolicy, RoutePolicy, RuleParams, ServerParams, UserParams,
};

/// A database by the name that clients ask for: its servers, its users, and how it is served.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseParams {
    /// Its name.
    pub name: DatabaseName,
    /// The server that is written to, or that is expected to be.
    pub primary: ServerParams,
    /// Its replicas.
    pub replicas: Vec<ReplicaParams>,
    /// How long a client keeps a backend, where its user or rule says nothing else.
    pub mode: Mode,
    /// Bounds and times of each of its pools: one per user and server.
    pub pool: PoolParams,
    /// How clients prove who they are.
    pub auth: AuthParams,
    /// Its users, those of a userlist included.
    pub users: Vec<UserParams>,
    /// Rules, read from the top.
    pub rules: Vec<RuleParams>,
    /// Where statements go whatever their texts are.
    pub route: RoutePolicy,
    /// Reads on replicas.
    pub replica: ReplicaPolicy,
    /// Who sees whose writes.
    pub causality: CausalityParams,
    /// Changes of the primary.
    pub failover: FailoverParams,
    /// Prepared statements.
    pub prepared: PrepareParams,
    /// Bounds of clients.
    pub limits: LimitParams,
    /// Times of clients and backends.
    pub timeouts: TimeoutParams,
    /// `LISTEN`.
    pub listen: ListenParams,
    /// What happens when a session would have to keep its backend.
    pub pin: PinPolicy,
    /// Whose process numbers clients are told.
    pub pid: Pid,
    /// What is read of the database's catalogue.
    pub catalogue: CatalogueParams,
    /// Settings of startup messages, in lower case, that are dropped, such as `extra_float_digits`.
    pub ignored_settings: Vec<String>,
    /// Whether connections for replication are passed through.
    pub replication: bool,
}

impl DatabaseParams {
    /// A database on one server, with the defaults.
    pub fn new(name: DatabaseName, primary: ServerParams) -> Self {
        Self {
            name,
            primary,
            replicas: Vec::new(),
            mode: Mode::default(),
            pool: PoolParams::default(),
            auth: AuthParams::default(),
            users: Vec::new(),
            rules: Vec::new(),
            route: RoutePolicy::default(),
            replica: ReplicaPolicy::default(),
            causality: CausalityParams::default(),
            failover: FailoverParams::default(),
            prepared: PrepareParams::default(),
            limits: LimitParams::default(),
            timeouts: TimeoutParams::default(),
            listen: ListenParams::default(),
            pin: PinPolicy::default(),
            pid: Pid::default(),
            catalogue: CatalogueParams::default(),
            ignored_settings: Vec::new(),
            replication: false,
        }
    }
}

/// What clients ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DatabaseName {
    /// This name.
    Named(String),
    /// Any other name: `[database."*"]`.
    Any,
}

impl fmt::Display for DatabaseName {
    /// As the file, metrics and logs have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Prepared statements of clients that share backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareParams {
    /// Bytes of the texts that are shared, about.
    pub bytes_max: usize,
    /// Statements that a backend has at most.
    pub per_backend_max: usize,
    /// Names that a client has at most.
    pub names_max: usize,
}

impl Default for PrepareParams {
    /// A plan takes some tens of kilobytes of a backend's memory, so that two hundred are some megabytes of each.
    fn default() -> Self {
        Self { bytes_max: 64 << 20, per_backend_max: 200, names_max: 10_000 }
    }
}

/// Bounds of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitParams {
    /// Clients at once.
    pub clients_max: u32,
    /// Clients of one user at once; `None` for as many as there may be of all.
    pub clients_per_user_max: Option<u32>,
    /// Bytes of a statement's text.
    pub statement_bytes_max: usize,
    /// Bytes of questions of one client that are not answered yet, beyond which it is not read from.
    pub pipeline_bytes_max: usize,
}

impl Default for LimitParams {
    fn default() -> Self {
        let (statement_bytes_max, pipeline_bytes_max) = (16 << 20, 1 << 20);
        Self { clients_max: 5000, clients_per_user_max: None, statement_bytes_max, pipeline_bytes_max }
    }
}

/// Times of clients and backends, those of pools left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutParams {
    /// How long a connection to a server may take, its login included.
    pub connect: Duration,
    /// How long after a failed connection to a server the next one is tried.
    pub reconnect_pause: Duration,
    /// How long a statement may run; then it is cancelled (`57014`).
    pub statement: Option<Duration>,
    /// How long a client may leave its transaction idle; then it is cut off (`25P03`).
    pub idle_in_transaction: Option<Duration>,
    /// How long a client may be without a statement; then it is cut off (`57P05`).
    pub client_idle: Option<Duration>,
    /// How long a backend may take to be clean again; then it is closed.
    pub clean: Duration,
}

impl Default for TimeoutParams {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            reconnect_pause: Duration::from_millis(500),
            statement: None,
            idle_in_transaction: None,
            client_idle: None,
            clean: Duration::from_secs(5),
        }
    }
}
