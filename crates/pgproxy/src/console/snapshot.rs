//! The process as the console shows it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pgroute::console::{
    Averages, ClientLine, Counts, DatabaseLine, PERIOD, PoolLine, ReplicaLine, ServerLine, Setting, Snapshot, UserLine,
};

use crate::database::{Database, find_user};
use crate::listener::Listener;
use crate::params::{DatabaseParams, Listen, ServerAddress};
use crate::pool::Pool;
use crate::process::Process;

/// Counts of databases are kept for averages, when it is time.
pub(crate) fn look(process: &Process) {
    let now = Instant::now();
    let mut averages = averages(process);
    if averages.is_due(now) {
        let databases = process.databases();
        averages.end(now, databases.iter().map(|database| (database.name.clone(), counts(database))).collect());
    }
}

/// The process at this moment, as a listener's console shows it.
pub(super) fn take(process: &Process, listener: &Listener) -> Snapshot {
    let mut databases = process.databases();
    databases.sort_by(|one, other| one.name.cmp(&other.name));
    let pools: Vec<_> =
        databases.iter().flat_map(|database| database.pools().into_iter().map(move |pool| (database, pool))).collect();
    let known: HashMap<_, _> =
        databases.iter().map(|database| (database.name.clone(), averages(process).of(&database.name))).collect();
    let clients = clients(process);
    let cores = &process.cores;
    let connected: usize = (0..cores.len()).map(|core| cores.load(core)).sum();
    Snapshot {
        version: format!("Tenfold {}", env!("CARGO_PKG_VERSION")),
        databases: databases.iter().map(|database| line(database, known[&database.name])).collect(),
        pools: pools.iter().map(|(database, pool)| pool_line(database, pool)).collect(),
        login_clients: connected.saturating_sub(clients.len()),
        clients,
        servers: pools.iter().flat_map(|(database, pool)| server_lines(database, pool)).collect(),
        users: users(&databases, listener),
        replicas: databases.iter().flat_map(replica_lines).collect(),
        settings: settings(listener),
    }
}

fn averages(process: &Process) -> MutexGuard<'_, Averages> {
    process.averages.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counts(database: &Database) -> Counts {
    let metrics = &database.metrics;
    Counts {
        transactions: metrics.sum(|cells| &cells.transactions),
        statements: metrics.sum(|cells| &cells.statements),
        wait_micros: metrics.sum(|cells| &cells.wait_micros),
        waits: metrics.sum(|cells| &cells.waits),
    }
}

fn line(database: &Database, averages: Counts) -> DatabaseLine {
    let (params, cluster) = (database.settings(), database.cluster());
    let primary = cluster.view().primary.unwrap_or(0);
    let server = &cluster.members[primary].params;
    let (host, port) = match &server.address {
        ServerAddress::Tcp { host, port } => (host.clone(), Some(*port)),
        ServerAddress::Unix(path) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let folder = path.parent().map(|folder| folder.display().to_string());
            (folder.unwrap_or_default(), name.strip_prefix(".s.PGSQL.").and_then(|port| port.parse().ok()))
        }
    };
    DatabaseLine {
        name: database.name.clone(),
        host,
        port,
        dbname: server.dbname.clone().unwrap_or_else(|| database.name.clone()),
        server_user: server.user.clone(),
        pool: [params.pool.size, params.pool.min, params.pool.reserve],
        mode: params.mode.as_str(),
        is_paused: database.is_paused(),
        is_disabled: database.is_disabled(),
        counts: counts(database),
        averages,
    }
}

fn pool_line(database: &Database, pool: &Pool) -> PoolLine {
    let backends = pool.backends();
    PoolLine {
        database: database.name.clone(),
        user: pool.user.clone(),
        lent: backends.lent,
        idle: backends.idle,
        opening: backends.opening,
        mode: mode(&database.settings(), &pool.user),
    }
}

fn mode(params: &DatabaseParams, user: &str) -> &'static str {
    find_user(params, user).and_then(|user| user.mode).unwrap_or(params.mode).as_str()
}

fn clients(process: &Process) -> Vec<ClientLine> {
    let now = Instant::now();
    let notes = process.clients.all().into_iter();
    notes
        .map(|note| ClientLine {
            number: note.number,
            user: note.user.clone(),
            database: note.database.clone(),
            peer: note.peer,
            local: note.local,
            since: second(note.since),
            waits: note.waits(now),
            tls: note.tls.clone(),
            application: note.application.clone(),
        })
        .collect()
}

fn second(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn server_lines(database: &Database, pool: &Pool) -> Vec<ServerLine> {
    let shown = pool.shown().into_iter();
    shown
        .map(|shown| ServerLine {
            id: format!("{}.{}", pool.number, shown.id),
            user: pool.user.clone(),
            database: database.name.clone(),
            is_active: shown.is_lent,
            peer: shown.peer,
            local: shown.local,
            since: second(shown.since),
            is_old: shown.is_old,
            pid: shown.pid,
            tls: shown.tls,
        })
        .collect()
}

fn users(databases: &[Arc<Database>], listener: &Listener) -> Vec<UserLine> {
    let mut users = BTreeMap::new();
    for database in databases {
        for user in &database.settings().users {
            let mode = users.entry(user.name.clone()).or_insert(None);
            *mode = mode.or(user.mode.map(crate::params::Mode::as_str));
        }
    }
    for user in listener.params().console.iter().flat_map(|console| &console.users) {
        users.entry(user.name.clone()).or_insert(None);
    }
    users.into_iter().map(|(name, mode)| UserLine { name, mode }).collect()
}

fn replica_lines(database: &Arc<Database>) -> Vec<ReplicaLine> {
    let cluster = database.cluster();
    let view = cluster.view();
    let line = |(at, member): (usize, &crate::cluster::Member)| ReplicaLine {
        database: database.name.clone(),
        server: member.params.address.to_string(),
        state: view.servers[at].0.as_str(),
        lag: view.servers[at].1,
        is_usable: view.is_usable(at),
    };
    cluster.members.iter().enumerate().map(line).collect()
}

/// What a listener goes by, under PgBouncer's names.
fn settings(listener: &Listener) -> Vec<Setting> {
    let params = listener.params();
    let setting = |key, value: String, default| Setting { key, value, default };
    let names = |is_admin: bool| {
        let users = params.console.iter().flat_map(|console| &console.users);
        let names = users.filter(|user| user.is_admin == is_admin).map(|user| user.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let mut settings = vec![
        setting("admin_users", names(true), ""),
        setting("client_login_timeout", params.login_timeout.as_secs().to_string(), "60"),
        setting("max_client_conn", params.clients_max.to_string(), "10000"),
        setting("stats_period", PERIOD.as_secs().to_string(), "60"),
        setting("stats_users", names(false), ""),
    ];
    match &listener.listen {
        Listen::Tcp(address) => {
            settings.push(setting("listen_addr", address.ip().to_string(), ""));
            settings.push(setting("listen_port", address.port().to_string(), ""));
        }
        Listen::Unix(path) => {
            let folder = path.parent().map(|folder| folder.display().to_string());
            settings.push(setting("unix_socket_dir", folder.unwrap_or_default(), ""));
        }
    }
    settings.sort_by_key(|setting| setting.key);
    settings
}
