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
    let mut level = |family: &Family, of: fn(&DatabaseRow) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter()
            .try_for_each(|row| family.encode_family(&[("database", row.database.as_str())])?.encode_gauge(&of(row)))
    };
    level(&family::DATABASE_CLIENTS, |row| row.clients)?;
    level(&family::DATABASE_WAITING, |row| row.waiting)?;
    level(&family::DATABASE_PINNED, |row| row.pinned)?;
    level(&family::DATABASE_STATEMENTS_SHARED, |row| row.statements_shared)
}
