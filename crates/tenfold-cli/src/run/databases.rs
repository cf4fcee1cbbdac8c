//! Databases, as metrics and the admin listener show them, and their pools as it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use admin::{DatabaseChange, KillOrder, Reason, Refused};
use pgproxy::{ClientView, ControlError, DatabaseView, Databases, DatabasesView, PoolView, ServerView, Whom};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use telemetry::encode::{DatabaseRow, DatabaseServerRow, databases};

/// How the file names what any other name stands for.
const ANY: &str = "*";

/// Databases as rows of metrics. Names that only clients have given are one row, that of the wildcard.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    view: DatabasesView,
    /// Names of the file.
    names: Arc<Mutex<Vec<String>>>,
}

impl Rows {
    pub(super) fn new(view: DatabasesView, effective: &Value) -> Self {
        let rows = Self { view, names: Arc::default() };
        rows.follow(effective);
        rows
    }

    /// Another configuration is in effect.
    pub(super) fn follow(&self, effective: &Value) {
        let names = effective["database"].as_object().map(|tables| tables.keys().cloned().collect());
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names.unwrap_or_default();
    }

    fn rows(&self) -> Vec<DatabaseRow> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let label = |name: &str| if names.iter().any(|known| known == name) { name.to_owned() } else { ANY.to_owned() };
        let mut rows = BTreeMap::<String, DatabaseRow>::new();
        for view in self.view.databases() {
            let label = label(&view.name);
            add(
                rows.entry(label.clone()).or_insert_with(|| DatabaseRow { database: label, ..DatabaseRow::default() }),
                &view,
            );
        }
        for pool in self.view.pools() {
            if let Some(row) = rows.get_mut(&label(&pool.database)) {
                let counts = [pool.opening, pool.idle, pool.lent].map(|count| count as u64);
                row.backends.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                row.waiting += pool.waiting as u64;
            }
        }
        rows.into_values().collect()
    }
}

/// Adds what a database did to its row.
fn add(row: &mut DatabaseRow, view: &DatabaseView) {
    row.clients += view.clients;
    row.logins.iter_mut().zip(view.logins).for_each(|(sum, count)| *sum += count);
    row.statements += view.statements;
    row.transactions += view.transactions;
    row.errors += view.errors;
    let [waits, timeouts] = view.waits;
    row.waits += waits;
    row.acquire_timeouts += timeouts;
    for (reason, count) in &view.pins {
        match row.pins.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += count,
            None => row.pins.push((reason, *count)),
        }
    }
    row.pinned += view.pinned;
    row.resets += view.resets;
    row.replays += view.replays;
    row.parses += view.parses;
    row.statements_shared += view.statements_shared as u64;
    row.cancels += view.cancels;
    row.unclean += view.unclean;
    row.moves += view.moves;
    row.subscribers += view.subscribers as u64;
    row.notifications += view.notifications;
    row.healed += view.healed;
    row.replica_reads += view.replica_reads;
    row.replica_refusals += view.refusals;
    row.probes += view.probes;
    row.causal_waits.iter_mut().zip(view.causal_waits).for_each(|(sum, count)| *sum += count);
    row.reruns += view.reruns;
    row.cut_transactions += view.cut_transactions;
    for server in &view.servers {
        add_server(&mut row.servers, server);
    }
}

/// Adds a server to those of a row. Databases that a wildcard stands for have the same ones: what is worst is told of each.
fn add_server(rows: &mut Vec<DatabaseServerRow>, view: &ServerView) {
    let (lag_seconds, lag_bytes) = (view.lag.map(|lag| lag.as_secs_f64()), view.lag_bytes);
    match rows.iter_mut().find(|row| row.server == view.address) {
        Some(row) => {
            row.state = worse(row.state, view.state);
            row.takes_reads &= view.is_usable;
            row.has_lease = row.has_lease.zip(view.has_lease).map(|(one, other)| one && other);
            row.lag_seconds = [row.lag_seconds, lag_seconds].into_iter().flatten().reduce(f64::max);
            row.lag_bytes = row.lag_bytes.max(lag_bytes);
        }
        None => {
            let (server, state) = (view.address.clone(), view.state);
            let (takes_reads, has_lease) = (view.is_usable, view.has_lease);
            rows.push(DatabaseServerRow { server, state, takes_reads, has_lease, lag_seconds, lag_bytes });
        }
    }
}

/// What is worse of a server. Some hear of a change before others, and none of them is the one that is told first.
fn worse(one: &'static str, other: &'static str) -> &'static str {
    let rank = |state| DatabaseServerRow::STATES.iter().position(|known| *known == state);
    if rank(other) > rank(one) { other } else { one }
}

impl Collector for Rows {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        databases(&self.rows(), &mut encoder)
    }
}

/// All databases with their pools, by name.
pub(super) fn list(view: &DatabasesView) -> Value {
    let mut pools = view.pools();
    pools.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
    let mut found = view.databases();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.iter().map(|database| shown(database, pools.iter().filter(|pool| pool.database == database.name))).collect()
}

fn shown<'p>(view: &DatabaseView, pools: impl Iterator<Item = &'p PoolView>) -> Value {
    let pool = |pool: &PoolView| {
        json!({
            "user": pool.user,
            "opening": pool.opening,
            "idle": pool.idle,
            "lent": pool.lent,
            "waiting": pool.waiting,
        })
    };
    json!({
        "name": view.name,
        "clients": view.clients,
        "logins": view.logins[0],
        "logins_failed": view.logins[1],
        "statements": view.statements,
        "transactions": view.transactions,
        "errors": view.errors,
        "waits": view.waits[0],
        "acquire_timeouts": view.waits[1],
        "sessions_pinned": view.pinned,
        "pins": view.pins.iter().map(|(reason, count)| json!({ "reason": reason, "sessions": count })).collect::<Vec<_>>(),
        "resets": view.resets,
        "statements_shared": view.statements_shared,
        "cancels": view.cancels,
        "pools": pools.map(pool).collect::<Vec<_>>(),
    })
}

/// The clients of a database; `None` when there is no such database.
pub(super) fn clients(view: &DatabasesView, name: &str) -> Option<Value> {
    let client = |client: ClientView| {
        json!({
            "number": client.number,
            "user": client.user,
            "address": client.address.map(|address| address.to_string()),
            "application": client.application,
            "since": client.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "waits_seconds": client.waits.map(|waits| waits.as_secs_f64()),
        })
    };
    Some(view.clients(name)?.into_iter().map(client).collect())
}

/// Whether there is a database of this name.
pub(super) fn is_known(view: &DatabasesView, name: &str) -> bool {
    view.databases().iter().any(|database| database.name == name)
}

/// Has a database do something, and gives what it is afterwards.
pub(super) async fn change(databases: &Databases, name: &str, change: &DatabaseChange) -> Result<Value, Refused> {
    let (done, told) = match change {
        DatabaseChange::Pause => (databases.pause(Some(name)), "paused"),
        DatabaseChange::Resume => (databases.resume(Some(name)), "resumed"),
        DatabaseChange::Reconnect => (databases.reconnect(Some(name)), "reconnecting"),
        DatabaseChange::Disable => (databases.set_disabled(name, true), "disabled"),
        DatabaseChange::Enable => (databases.set_disabled(name, false), "enabled"),
        DatabaseChange::Kill(order) => (kill(databases, name, order).await, "killed"),
    };
    done.map_err(|error| match error {
        ControlError::NoDatabase(_) | ControlError::NoClient(..) | ControlError::NoServer(..) => {
            Refused::new(Reason::NotFound, error.to_string())
        }
    })?;
    tracing::info!(database = name, "the pools of the database were told: {told}");
    Ok(json!({ "database": name, "state": told }))
}

async fn kill(databases: &Databases, name: &str, order: &KillOrder) -> Result<(), ControlError> {
    let whom = match (order.client, &order.server) {
        (Some(client), _) => Whom::Client(client),
        (None, Some(server)) => Whom::Server(server.clone()),
        (None, None) => Whom::All,
    };
    databases.kill(name, &whom, order.refuse).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_many_databases_is_what_is_worst_in_whatever_order_they_come() {
        let view = |state, is_usable| ServerView {
            address: "db1.example.com:5432".to_owned(),
            state,
            lag: None,
            lag_bytes: None,
            is_usable,
            has_lease: None,
        };
        let cases = [
            ("primary", "primary", "primary"),
            ("primary", "replica", "replica"),
            ("replica", "unknown", "unknown"),
            ("unknown", "old", "old"),
            ("foreign", "primary", "foreign"),
        ];
        for (one, other, expected) in cases {
            for order in [[one, other], [other, one]] {
                let mut rows = Vec::new();
                order.iter().for_each(|state| add_server(&mut rows, &view(state, *state == "replica")));
                let [row] = &rows[..] else { panic!("{rows:?}") };
                assert_eq!((row.state, row.takes_reads), (expected, false), "{order:?}");
            }
        }
    }
}
