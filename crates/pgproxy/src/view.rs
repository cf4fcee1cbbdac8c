//! What there is, for metrics and the admin listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clients::Note;
use crate::metrics::PINS;
use crate::process::Process;

/// The databases, their pools and what was counted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DatabasesView(Arc<Process>);

/// A pool as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// The database, as clients ask for it.
    pub database: String,
    /// The user, as clients name it.
    pub user: String,
    /// The server that its connections are to.
    pub server: String,
    /// Connections that are being made.
    pub opening: usize,
    /// Connections that nobody has.
    pub idle: usize,
    /// Connections that clients have.
    pub lent: usize,
    /// Clients that wait for one.
    pub waiting: usize,
}

/// A database as it is now, and what was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseView {
    /// Its name, as clients ask for it.
    pub name: String,
    /// Clients that are logged in.
    pub clients: u64,
    /// Logins, and those that failed.
    pub logins: [u64; 2],
    /// Statements that were sent.
    pub statements: u64,
    /// Times that a backend was ready outside of a transaction.
    pub transactions: u64,
    /// Errors that clients were told.
    pub errors: u64,
    /// Waits for a backend, and those in vain.
    pub waits: [u64; 2],
    /// Sessions that were pinned, by reason.
    pub pins: Vec<(&'static str, u64)>,
    /// Sessions that are pinned now.
    pub pinned: u64,
    /// Backends that were made as they began.
    pub resets: u64,
    /// Times that settings were replayed.
    pub replays: u64,
    /// Statements that were parsed again, because a backend had not the client's.
    pub parses: u64,
    /// Groups of messages that were run again, because a plan was older than the schema.
    pub healed: u64,
    /// Statements that clients share.
    pub statements_shared: usize,
    /// Requests to cancel that were sent on.
    pub cancels: u64,
    /// Backends that moved to another core.
    pub moves: u64,
    /// Backends that were closed because they were not clean.
    pub unclean: u64,
    /// Its servers, the one that the configuration has as the primary first.
    pub servers: Vec<ServerView>,
    /// Several servers say that they are the primary, and nothing is written.
    pub is_disputed: bool,
    /// Groups of messages that went to a replica.
    pub replica_reads: u64,
    /// Questions for the primary's position.
    pub probes: u64,
    /// Reads that waited for a replica, and those of them that went to the primary in the end.
    pub causal_waits: [u64; 2],
    /// Reads that a replica refused, and that were run on the primary.
    pub refusals: u64,
    /// Reads that were run again because their connection broke.
    pub reruns: u64,
    /// Clients that listen to channels by a shared connection.
    pub subscribers: usize,
    /// Notifications that were heard for clients by a shared connection, once for each of them.
    pub notifications: u64,
    /// Transactions that were cut because their connection broke.
    pub cut_transactions: u64,
}

/// A server of a database as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Where it is.
    pub address: String,
    /// What it is: `unknown`, `primary`, `replica`, `foreign` or `old`.
    pub state: &'static str,
    /// How far behind the primary it is, if it is a replica: at most this.
    pub lag: Option<Duration>,
    /// Bytes of the primary's log that it has not replayed, if it is a replica.
    pub lag_bytes: Option<u64>,
    /// Whether reads go to it.
    pub is_usable: bool,
    /// Whether it holds the lease, where there is one.
    pub has_lease: Option<bool>,
}

/// A client as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// Its number, which no other client of the process ever has.
    pub number: u64,
    /// Its user.
    pub user: String,
    /// Where it is; `None` at a Unix socket.
    pub address: Option<SocketAddr>,
    /// What it called itself when it connected.
    pub application: String,
    /// When it logged in.
    pub since: SystemTime,
    /// How long it has waited for a connection, if it does.
    pub waits: Option<Duration>,
}

impl DatabasesView {
    pub(crate) fn new(process: Arc<Process>) -> Self {
        Self(process)
    }

    /// The clients of a database, in the order in which they came; `None` when there is no such database.
    pub fn clients(&self, database: &str) -> Option<Vec<ClientView>> {
        let now = Instant::now();
        let view = |note: Arc<Note>| ClientView {
            number: note.number,
            user: note.user.clone(),
            address: note.peer,
            application: note.application.clone(),
            since: note.since,
            waits: note.waits(now),
        };
        let is_there = self.0.databases().iter().any(|known| known.name == database);
        let clients = self.0.clients.all().into_iter().filter(|note| note.database == database);
        is_there.then(|| clients.map(view).collect())
    }

    /// All pools, in no order.
    pub fn pools(&self) -> Vec<PoolView> {
        let mut views = Vec::new();
        for database in self.0.databases() {
            for pool in database.pools() {
                let backends = pool.backends();
                views.push(PoolView {
                    database: database.name.clone(),
                    user: pool.user.clone(),
                    server: pool.target().server.address.to_string(),
                    opening: backends.opening,
                    idle: backends.idle,
                    lent: backends.lent,
                    waiting: backends.waiting,
                });
            }
        }
        views
    }

    /// All databases that were asked for, in no order.
    pub fn databases(&self) -> Vec<DatabaseView> {
        let view = |database: Arc<crate::database::Database>| {
            let metrics = &database.metrics;
            let (servers, is_disputed) = servers(&database);
            DatabaseView {
                name: database.name.clone(),
                clients: metrics.level(|cells| &cells.clients),
                logins: [metrics.sum(|cells| &cells.logins), metrics.sum(|cells| &cells.logins_failed)],
                statements: metrics.sum(|cells| &cells.statements),
                transactions: metrics.sum(|cells| &cells.transactions),
                errors: metrics.sum(|cells| &cells.errors),
                waits: [metrics.sum(|cells| &cells.waits), metrics.sum(|cells| &cells.acquire_timeouts)],
                pins: PINS
                    .iter()
                    .enumerate()
                    .map(|(at, pin)| (pin.as_str(), metrics.sum(|cells| &cells.pins[at])))
                    .collect(),
                pinned: metrics.level(|cells| &cells.pinned),
                resets: metrics.sum(|cells| &cells.resets),
                replays: metrics.sum(|cells| &cells.replays),
                parses: metrics.sum(|cells| &cells.parses),
                healed: metrics.sum(|cells| &cells.healed),
                statements_shared: database.statements(),
                cancels: metrics.sum(|cells| &cells.cancels),
                moves: metrics.sum(|cells| &cells.moves),
                unclean: metrics.sum(|cells| &cells.unclean),
                servers,
                is_disputed,
                replica_reads: metrics.sum(|cells| &cells.replica_reads),
                probes: metrics.sum(|cells| &cells.probes),
                causal_waits: [metrics.sum(|cells| &cells.causal_waits), metrics.sum(|cells| &cells.causal_misses)],
                refusals: metrics.sum(|cells| &cells.refusals),
                reruns: metrics.sum(|cells| &cells.reruns),
                subscribers: database.hub.subscribers(),
                notifications: metrics.sum(|cells| &cells.notifications),
                cut_transactions: metrics.sum(|cells| &cells.cut_transactions),
            }
        };
        self.0.databases().into_iter().map(view).collect()
    }
}

/// Its servers, and whether several say that they are the primary, both at the same moment.
fn servers(database: &crate::database::Database) -> (Vec<ServerView>, bool) {
    let cluster = database.cluster();
    let view = cluster.view();
    let server = |(at, member): (usize, &crate::cluster::Member)| ServerView {
        address: member.params.address.to_string(),
        state: view.servers[at].0.as_str(),
        lag: view.servers[at].1,
        lag_bytes: view.lag_bytes[at],
        is_usable: view.is_usable(at),
        has_lease: member.lease.as_ref().map(|lease| lease.holds()),
    };
    (cluster.members.iter().enumerate().map(server).collect(), view.is_disputed)
}
