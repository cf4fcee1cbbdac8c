//! Rows of databases.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::counter;
use crate::family::{self, Family};

/// What a database did, and what its pools have.
#[derive(Clone, Debug, Default)]
pub struct DatabaseRow {
    /// Its name in the file.
    pub database: String,
    /// Clients that are logged in.
    pub clients: u64,
    /// Logins that succeeded and that failed.
    pub logins: [u64; 2],
    /// Connections to servers: that are made, that nobody has, that clients have.
    pub backends: [u64; 3],
    /// Clients that wait for a connection.
    pub waiting: u64,
    /// Times that one had to.
    pub waits: u64,
    /// Waits in vain.
    pub acquire_timeouts: u64,
    /// Statements.
    pub statements: u64,
    /// Transactions.
    pub transactions: u64,
    /// Errors that clients were told.
    pub errors: u64,
    /// Sessions that had to keep their connections, by reason.
    pub pins: Vec<(&'static str, u64)>,
    /// Sessions that keep theirs now.
    pub pinned: u64,
    /// Connections that were reset.
    pub resets: u64,
    /// Times that settings of a session were replayed.
    pub replays: u64,
    /// Statements that were parsed again.
    pub parses: u64,
    /// Statements that clients share.
    pub statements_shared: u64,
    /// Requests to cancel.
    pub cancels: u64,
    /// Connections closed because they were not clean.
    pub unclean: u64,
    /// Connections that went to another core.
    pub moves: u64,
    /// Clients that listen to channels by a shared connection.
    pub subscribers: u64,
    /// Notifications that were heard for clients.
    pub notifications: u64,
    /// Groups of messages that were run again after a change of the schema.
    pub healed: u64,
    /// Groups of messages that went to a replica.
    pub replica_reads: u64,
    /// Reads that a replica refused.
    pub replica_refusals: u64,
    /// Questions for the primary's position.
    pub probes: u64,
    /// Reads that waited for a replica, and those that did so in vain.
    pub causal_waits: [u64; 2],
    /// Reads that were run again because their connection broke.
    pub reruns: u64,
    /// Transactions that were cut because their connection broke.
    pub cut_transactions: u64,
    /// Its servers.
    pub servers: Vec<DatabaseServerRow>,
}

/// A server of a database.
#[derive(Clone, Debug, Default)]
pub struct DatabaseServerRow {
    /// Where it is.
    pub server: String,
    /// What it is: one of [`DatabaseServerRow::STATES`].
    pub state: &'static str,
    /// Whether reads go to it.
    pub takes_reads: bool,
    /// Whether it holds the lease, where there is one.
    pub has_lease: Option<bool>,
    /// How far it is behind the primary, in seconds.
    pub lag_seconds: Option<f64>,
    /// The same in bytes of the log.
    pub lag_bytes: Option<u64>,
}

impl DatabaseServerRow {
    /// What a server may be, from the best to the worst.
    pub const STATES: [&str; 5] = ["primary", "replica", "unknown", "foreign", "old"];
}

/// Writes the `database_*` families.
///
/// # Errors
/// Those of the encoder.
pub fn databases(rows: &[DatabaseRow], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::DATABASE_PINS.start(encoder)?;
    for row in rows {
        for (reason, count) in &row.pins {
            counter(&mut family, &[("database", row.database.as_str()), ("reason", *reason)], *count)?;
        }
    }
    let mut family = family::DATABASE_LOGINS.start(encoder)?;
    for row in rows {
        for (result, count) in ["success", "failure"].into_iter().zip(row.logins) {
            counter(&mut family, &[("database", row.database.as_str()), ("result", result)], count)?;
        }
    }
    let mut family = family::DATABASE_BACKENDS.start(encoder)?;
    for row in rows {
        for (state, count) in ["opening", "idle", "lent"].into_iter().zip(row.backends) {
            family.encode_family(&[("database", row.database.as_str()), ("state", state)])?.encode_gauge(&count)?;
        }
    }
    let mut count = |family: &Family, of: fn(&DatabaseRow) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter().try_for_each(|row| counter(&mut family, &[("database", row.database.as_str())], of(row)))
    };
    count(&family::DATABASE_WAITS, |row| row.waits)?;
    count(&family::DATABASE_ACQUIRE_TIMEOUTS, |row| row.acquire_timeouts)?;
    count(&family::DATABASE_STATEMENTS, |row| row.statements)?;
    count(&family::DATABASE_TRANSACTIONS, |row| row.transactions)?;
    count(&family::DATABASE_ERRORS, |row| row.errors)?;
    count(&family::DATABASE_RESETS, |row| row.resets)?;
    count(&family::DATABASE_REPLAYS, |row| row.replays)?;
    count(&family::DATABASE_PARSES, |row| row.parses)?;
    count(&family::DATABASE_CANCELS, |row| row.cancels)?;
    count(&family::DATABASE_UNCLEAN, |row| row.unclean)?;
    count(&family::DATABASE_MOVES, |row| row.moves)?;
    count(&family::DATABASE_NOTIFICATIONS, |row| row.notifications)?;
    count(&family::DATABASE_HEALED, |row| row.healed)?;
    count(&family::DATABASE_REPLICA_READS, |row| row.replica_reads)?;
    count(&family::DATABASE_REPLICA_REFUSALS, |row| row.replica_refusals)?;
    count(&family::DATABASE_PROBES, |row| row.probes)?;
    count(&family::DATABASE_CAUSAL_WAITS, |row| row.causal_waits[0])?;
    count(&family::DATABASE_CAUSAL_MISSES, |row| row.causal_waits[1])?;
    count(&family::DATABASE_RERUNS, |row| row.reruns)?;
    count(&family::DATABASE_CUT_TRANSACTIONS, |row| row.cut_transactions)?;
    let mut level = |family: &Family, of: fn(&DatabaseRow) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter()
            .try_for_each(|row| family.encode_family(&[("database", row.database.as_str())])?.encode_gauge(&of(row)))
    };
    level(&family::DATABASE_CLIENTS, |row| row.clients)?;
    level(&family::DATABASE_WAITING, |row| row.waiting)?;
    level(&family::DATABASE_PINNED, |row| row.pinned)?;
    level(&family::DATABASE_SUBSCRIBERS, |row| row.subscribers)?;
    level(&family::DATABASE_STATEMENTS_SHARED, |row| row.statements_shared)?;
    let mut family = family::DATABASE_PINNED_RATIO.start(encoder)?;
    for row in rows {
        let ratio = if row.clients > 0 { row.pinned as f64 / row.clients as f64 } else { 0.0 };
        family.encode_family(&[("database", row.database.as_str())])?.encode_gauge(&ratio)?;
    }
    servers(rows, encoder)
}

fn servers(rows: &[DatabaseRow], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let all = || rows.iter().flat_map(|row| row.servers.iter().map(|server| (row.database.as_str(), server)));
    let labels = |(database, server): (&'_ str, &'_ DatabaseServerRow)| {
        [("database", database.to_owned()), ("server", server.server.clone())]
    };
    let mut family = family::DATABASE_SERVER_STATE.start(encoder)?;
    for (database, server) in all() {
        for state in DatabaseServerRow::STATES {
            let labels = [("database", database), ("server", server.server.as_str()), ("state", state)];
            family.encode_family(&labels)?.encode_gauge(&u64::from(server.state == state))?;
        }
    }
    let mut family = family::DATABASE_SERVER_READS.start(encoder)?;
    for one in all() {
        family.encode_family(&labels(one))?.encode_gauge(&u64::from(one.1.takes_reads))?;
    }
    let mut family = family::DATABASE_SERVER_LEASE.start(encoder)?;
    for one in all() {
        if let Some(has_lease) = one.1.has_lease {
            family.encode_family(&labels(one))?.encode_gauge(&u64::from(has_lease))?;
        }
    }
    let mut family = family::DATABASE_REPLICA_LAG.start(encoder)?;
    for one in all() {
        if let Some(lag) = one.1.lag_seconds {
            family.encode_family(&labels(one))?.encode_gauge(&lag)?;
        }
    }
    let mut family = family::DATABASE_REPLICA_LAG_BYTES.start(encoder)?;
    for one in all() {
        if let Some(lag) = one.1.lag_bytes {
            family.encode_family(&labels(one))?.encode_gauge(&lag)?;
        }
    }
    Ok(())
}
