//! How a database is served: modes, replicas, positions, failover, and what else has a choice.

use std::path::PathBuf;
use std::time::Duration;

use balance::Algorithm;

/// How long a client keeps a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// For a transaction.
    #[default]
    Transaction,
    /// From its first statement to its end.
    Session,
    /// For a statement: a transaction of several is refused.
    Statement,
}

impl Mode {
    /// How the file, metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Statement => "statement",
        }
    }
}

/// Where statements go whatever their texts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoutePolicy {
    /// As their texts say.
    #[default]
    Auto,
    /// To the primary.
    Primary,
    /// To a replica. What writes is refused by it.
    Replica,
}

/// Reads on replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaPolicy {
    /// How one is picked.
    pub balance: Algorithm,
    /// Where this process stands.
    pub zone: Option<String>,
    /// A replica that is further behind than this gets no statement; `None` for no such bound.
    pub lag_max: Option<Duration>,
    /// What happens to reads when no replica can serve.
    pub none: NoReplica,
}

impl Default for ReplicaPolicy {
    fn default() -> Self {
        Self {
            balance: Algorithm::LeastConnections,
            zone: None,
            lag_max: Some(Duration::from_secs(10)),
            none: NoReplica::Primary,
        }
    }
}

/// What happens to reads when no replica can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoReplica {
    /// They go to the primary.
    #[default]
    Primary,
    /// They fail with `57P03`.
    Error,
}

/// Who sees whose writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalityParams {
    /// Among whom a write is seen at once; `None` where replicas may show the past.
    pub scope: Option<CausalityScope>,
    /// How long a read waits for a replica before it goes to the primary.
    pub wait_max: Duration,
}

/// Among whom a write is seen at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CausalityScope {
    /// By the connection that wrote.
    Connection,
    /// By all clients of the database.
    #[default]
    Database,
    /// By whoever has the token of the write.
    Token,
}

impl Default for CausalityParams {
    fn default() -> Self {
        Self { scope: Some(CausalityScope::Database), wait_max: Duration::from_millis(200) }
    }
}

/// Changes of the primary.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverParams {
    /// How long statements for a primary wait when there is none.
    pub switch_wait: Duration,
    /// How often every server is asked what it is; an error wakes at once.
    pub watch_interval: Duration,
    /// How long an answer to that may take.
    pub watch_timeout: Duration,
    /// The file that keeps the newest timeline that was seen, over restarts.
    pub state: Option<PathBuf>,
    /// Who may be written to, by a key that others keep.
    pub lease: Option<LeaseParams>,
}

impl Default for FailoverParams {
    fn default() -> Self {
        let (switch_wait, watch_interval) = (Duration::from_secs(10), Duration::from_secs(1));
        Self { switch_wait, watch_interval, watch_timeout: Duration::from_secs(2), state: None, lease: None }
    }
}

/// A key that names the only server which may be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseParams {
    /// Where it is asked for, by HTTP: the status is 200 at the holder alone, as with Patroni's `/primary`. `{host}` and `{port}` stand for
    /// the server's.
    pub url: String,
    /// How long an answer is good, from when it was asked for.
    pub ttl: Duration,
    /// How often every server is asked for it.
    pub interval: Duration,
}

impl LeaseParams {
    /// A lease that is asked for at a URL every second, and whose answers are good for five.
    pub fn new(url: String) -> Self {
        Self { url, ttl: Duration::from_secs(5), interval: Duration::from_secs(1) }
    }
}

/// `LISTEN` of clients that share backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenParams {
    /// Whether it is served by a shared connection; if not, it pins the session.
    pub shared: bool,
    /// Notifications that wait for a client that is not idle; beyond them it is cut off.
    pub notifications_max: usize,
}

impl Default for ListenParams {
    fn default() -> Self {
        Self { shared: true, notifications_max: 1000 }
    }
}

/// What happens when a session would have to keep its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinPolicy {
    /// It keeps it, which is counted and logged.
    #[default]
    Pin,
    /// The statement is refused, for those who want to find them.
    Error,
}

/// Whose process numbers clients are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pid {
    /// That of the server's process behind the connection that is the client's own, as long as there is one for each.
    #[default]
    Server,
    /// One that Tenfold invents, and that no process has.
    Tenfold,
}

/// What is read of the database's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueParams {
    /// Whether it is read at all. Without it, functions that are not known to every database count as volatile.
    pub read: bool,
    /// How often, for changes that did not pass through this process.
    pub interval: Duration,
}

impl Default for CatalogueParams {
    fn default() -> Self {
        Self { read: true, interval: Duration::from_secs(60) }
    }
}
