//! `[database.NAME]` and listeners of kind `postgres` to the parameters of the database proxy.

mod auth;
mod console;
mod listener;
mod pool;
mod rule;
mod server;
mod url;
mod value;
mod warnings;

use balance::Algorithm;
use pgproxy::{
    CatalogueParams, CausalityParams, CausalityScope, DatabaseName, DatabaseParams, FailoverParams, LeaseParams,
    LimitParams, ListenParams, Mode, NoReplica, PgListenerParams, Pid, PinPolicy, PrepareParams, ReplicaPolicy,
    RoutePolicy, TimeoutParams,
};

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::NamedTable;
use crate::grammar::Field;
use crate::raw::{
    CausalityWord, NoReplicaWord, PidWord, PinWord, PoolModeWord, RawCausality, RawConfig, RawDatabase,
    RawDatabaseUser, RawFailover, ReplicaBalanceWord, StatementRouteWord,
};
use crate::taken::Taken;
use crate::tls::Files;
use crate::value::Or;

pub use pool::PoolEstimate;
pub(crate) use url::ServerUrl;
pub(crate) use value::{AuthQueryText, LeaseUrl, Password, PgName, Query, Replica, SettingName};
pub(crate) use warnings::report as warn;

/// What tables of any name stand for.
const ANY: &str = "*";

/// Names under which the proxy itself is asked about its pools.
const OWN_NAMES: [&str; 2] = ["tenfold", "pgbouncer"];

impl NamedTable for RawDatabase {
    const HEADER: &str = "database";
    const KEYS: &[&str] = Self::KEYS;
}

impl NamedTable for RawDatabaseUser {
    const HEADER: &str = "database.NAME.user";
    const KEYS: &[&str] = Self::KEYS;
}

/// What the tables come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Databases {
    pub(crate) databases: Vec<DatabaseParams>,
    pub(crate) listeners: Vec<PgListenerParams>,
    /// What is expected of their pools.
    pub(crate) estimates: Vec<PoolEstimate>,
}

/// Fills in what can be derived.
pub(crate) fn resolve(raw: &mut RawConfig) {
    raw.database.value.tables.iter_mut().for_each(|(_, database)| pool::resolve(database));
}

/// The parameters of all databases and of where they listen. What is wrong with them is reported.
pub(crate) fn params(raw: &RawConfig, files: &mut Files<'_>, taken: &mut Taken, sink: &mut Sink) -> Databases {
    let mut found = Databases { listeners: listener::params(raw, files, sink), ..Databases::default() };
    for (name, table) in &raw.database.value.tables {
        found.listeners.extend(listener::of_database(raw, (name, table), taken, sink));
        found.databases.extend(database(raw, (name, table), files, sink));
        found.estimates.extend(pool::estimate_of(name, table));
    }
    states(raw, &found, sink);
    auth::exposed(raw, &found, sink);
    found
}

/// Databases of different servers that would keep what they see in one file.
fn states(raw: &RawConfig, found: &Databases, sink: &mut Sink) {
    for (at, params) in found.databases.iter().enumerate() {
        let Some(path) = &params.failover.state else { continue };
        let is_same = |other: &&DatabaseParams| other.failover.state.as_ref() == Some(path);
        let table = raw.database.value.tables.iter().find(|(name, _)| database_name(&name.value) == params.name);
        let field = table.and_then(|(_, table)| table.failover.value.state.as_ref());
        if let (Some(first), Some(field)) = (found.databases[..at].iter().find(is_same), field) {
            let key = format!("database.{}.failover.state", params.name);
            let message = format!("database.{} keeps what it sees in the same file", first.name);
            let diagnostic = Diagnostic::error(field.place, key, message);
            sink.push(diagnostic.fix("give each a file of its own".to_owned()));
        }
    }
}

/// How messages name a table of a database.
fn key_of(name: &PgName) -> String {
    format!("database.{name}")
}

fn database_name(name: &PgName) -> DatabaseName {
    if name.0 == ANY { DatabaseName::Any } else { DatabaseName::Named(name.0.clone()) }
}

fn database(
    config: &RawConfig,
    (name, raw): (&Field<PgName>, &RawDatabase),
    files: &mut Files<'_>,
    sink: &mut Sink,
) -> Option<DatabaseParams> {
    let key = key_of(&name.value);
    if OWN_NAMES.contains(&name.value.0.as_str()) {
        let message = "under this name the proxy itself is asked about its pools";
        let diagnostic = Diagnostic::error(name.place, &*key, message);
        let fix = format!("give it another name; the server's own stays: primary = \"postgres://HOST/{}\"", name.value);
        sink.push(diagnostic.fix(fix));
    }
    let servers = server::params(&key, raw, files, sink);
    let pool = pool::params(&key, raw, sink);
    let (auth, users) = auth::params(&key, raw, &pool, files, sink);
    let rules = rule::params(&key, (&name.value, raw), &users, sink);
    let (primary, replicas) = servers?;
    let zone = config.runtime.value.zone.as_ref().and_then(|zone| zone.value.0.as_ref());
    Some(DatabaseParams {
        replicas,
        mode: mode(raw.mode.value),
        pool,
        auth,
        users,
        rules,
        route: route(raw.route.value),
        replica: ReplicaPolicy { zone: zone.map(|zone| zone.as_str().to_owned()), ..replica_policy(raw) },
        causality: causality(raw.causality.value.value()),
        failover: failover(&key, &raw.failover.value, files, sink),
        prepared: PrepareParams {
            bytes_max: raw.prepared.value.bytes_max.value.0 as usize,
            per_backend_max: raw.prepared.value.per_backend_max.value.0 as usize,
            names_max: raw.prepared.value.names_max.value.0 as usize,
        },
        limits: limits(raw),
        timeouts: timeouts(raw),
        listen: ListenParams {
            shared: raw.notifications.value.shared.value.0,
            notifications_max: raw.notifications.value.queue_max.value.0 as usize,
        },
        pin: match raw.pin.value {
            PinWord::Allow => PinPolicy::Pin,
            PinWord::Error => PinPolicy::Error,
        },
        pid: match raw.pid.value {
            PidWord::Server => Pid::Server,
            PidWord::Tenfold => Pid::Tenfold,
        },
        catalogue: match &raw.catalogue.value {
            Or::Word(_) => CatalogueParams { read: false, ..CatalogueParams::default() },
            Or::Value(table) => CatalogueParams { read: true, interval: table.interval.value.0 },
        },
        ignored_settings: raw.ignored_settings.value.0.iter().map(|field| field.value.0.to_ascii_lowercase()).collect(),
        replication: raw.replication.value.0,
        ..DatabaseParams::new(database_name(&name.value), primary)
    })
}

fn mode(word: PoolModeWord) -> Mode {
    match word {
        PoolModeWord::Transaction => Mode::Transaction,
        PoolModeWord::Session => Mode::Session,
        PoolModeWord::Statement => Mode::Statement,
    }
}

fn route(word: StatementRouteWord) -> RoutePolicy {
    match word {
        StatementRouteWord::Auto => RoutePolicy::Auto,
        StatementRouteWord::Primary => RoutePolicy::Primary,
        StatementRouteWord::Replica => RoutePolicy::Replica,
    }
}

fn replica_policy(raw: &RawDatabase) -> ReplicaPolicy {
    let raw = &raw.replica.value;
    ReplicaPolicy {
        balance: match raw.balance.value {
            ReplicaBalanceWord::LeastConnections => Algorithm::LeastConnections,
            ReplicaBalanceWord::RoundRobin => Algorithm::RoundRobin,
            ReplicaBalanceWord::Random => Algorithm::Random,
            ReplicaBalanceWord::PowerOfTwo => Algorithm::PowerOfTwo,
            ReplicaBalanceWord::PeakEwma => Algorithm::PeakEwma,
        },
        zone: None,
        lag_max: match &raw.lag_max.value {
            Or::Word(_) => None,
            Or::Value(time) => Some(time.0),
        },
        none: match raw.none.value {
            NoReplicaWord::Primary => NoReplica::Primary,
            NoReplicaWord::Error => NoReplica::Error,
        },
    }
}

fn causality(raw: Option<&RawCausality>) -> CausalityParams {
    let Some(raw) = raw else { return CausalityParams { scope: None, ..CausalityParams::default() } };
    let scope = match raw.scope.value {
        CausalityWord::Connection => CausalityScope::Connection,
        CausalityWord::Database => CausalityScope::Database,
        CausalityWord::Token => CausalityScope::Token,
    };
    CausalityParams { scope: Some(scope), wait_max: raw.wait_max.value.0 }
}

fn failover(key: &str, raw: &RawFailover, files: &Files<'_>, sink: &mut Sink) -> FailoverParams {
    let lease = raw.lease.as_ref().and_then(|field| {
        let url = field.value.url.as_ref()?.value.0.clone();
        let (ttl, interval) = (field.value.ttl.value.0, field.value.interval.value.0);
        if interval * 2 > ttl {
            let message = "an answer is not good for two intervals: the lease ends whenever one is late";
            let place = field.value.interval.place;
            let diagnostic = Diagnostic::error(place, format!("{key}.failover.lease.interval"), message);
            sink.push(diagnostic.fix("lower it, or raise ttl".to_owned()));
        }
        Some(LeaseParams { url, ttl, interval })
    });
    FailoverParams {
        switch_wait: raw.switch_wait.value.0,
        watch_interval: raw.watch_interval.value.0,
        watch_timeout: raw.watch_timeout.value.0,
        state: raw.state.as_ref().map(|field| files.folder(field)),
        lease,
    }
}

fn limits(raw: &RawDatabase) -> LimitParams {
    let raw = &raw.limits.value;
    LimitParams {
        clients_max: raw.clients_max.value.0,
        clients_per_user_max: raw.clients_per_user_max.as_ref().map(|field| field.value.0),
        statement_bytes_max: raw.statement_bytes_max.value.0 as usize,
        pipeline_bytes_max: raw.pipeline_bytes_max.value.0 as usize,
    }
}

fn timeouts(raw: &RawDatabase) -> TimeoutParams {
    let raw = &raw.timeouts.value;
    TimeoutParams {
        connect: raw.connect.value.0,
        reconnect_pause: raw.reconnect_pause.value.0,
        statement: raw.statement.as_ref().map(|field| field.value.0),
        idle_in_transaction: raw.idle_in_transaction.as_ref().map(|field| field.value.0),
        client_idle: raw.client_idle.as_ref().map(|field| field.value.0),
        clean: raw.clean.value.0,
    }
}
