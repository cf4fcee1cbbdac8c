//! What there is, for metrics and the admin listener.

use std::sync::Arc;

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
    /// Statements that clients share.
    pub statements_shared: usize,
    /// Requests to cancel that were sent on.
    pub cancels: u64,
    /// Backends that moved to another core.
    pub moves: u64,
    /// Backends that were closed because they were not clean.
    pub unclean: u64,
}

impl DatabasesView {
    pub(crate) fn new(process: Arc<Process>) -> Self {
        Self(process)
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
                statements_shared: database.statements(),
                cancels: metrics.sum(|cells| &cells.cancels),
                moves: metrics.sum(|cells| &cells.moves),
                unclean: metrics.sum(|cells| &cells.unclean),
            }
        };
        self.0.databases().into_iter().map(view).collect()
    }
}
