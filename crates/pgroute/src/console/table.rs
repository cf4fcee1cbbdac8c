//! The console's tables.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::Show;
use super::snapshot::{ClientLine, Counts, DatabaseLine, ServerLine, Snapshot};
use super::time::utc;

/// What a column holds, as PgBouncer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `text`.
    Text,
    /// `integer`.
    Int,
    /// `numeric`, for what only grows.
    Numeric,
}

use Kind::{Int, Numeric, Text};

/// Columns and rows, all of texts or NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Names and kinds of its columns.
    pub columns: &'static [(&'static str, Kind)],
    /// Its rows, as long as there are columns.
    pub rows: Vec<Vec<Option<String>>>,
}

type Columns = &'static [(&'static str, Kind)];
type Row = Vec<Option<String>>;

const POOLS: Columns = &[
    ("database", Text),
    ("user", Text),
    ("cl_active", Int),
    ("cl_waiting", Int),
    ("cl_active_cancel_req", Int),
    ("cl_waiting_cancel_req", Int),
    ("sv_active", Int),
    ("sv_active_cancel", Int),
    ("sv_being_canceled", Int),
    ("sv_idle", Int),
    ("sv_used", Int),
    ("sv_tested", Int),
    ("sv_login", Int),
    ("maxwait", Int),
    ("maxwait_us", Int),
    ("pool_mode", Text),
];

/// Of `SHOW CLIENTS` and `SHOW SERVERS`.
const CONNECTIONS: Columns = &[
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int),
    ("local_addr", Text),
    ("local_port", Int),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int),
    ("wait_us", Int),
    ("close_needed", Int),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int),
    ("tls", Text),
    ("application_name", Text),
];

const STATS: Columns = &[
    ("database", Text),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
];

/// Of `SHOW STATS_TOTALS` and `SHOW STATS_AVERAGES`.
const HALF_STATS: Columns = &[
    ("database", Text),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
];

const DATABASES: Columns = &[
    ("name", Text),
    ("host", Text),
    ("port", Int),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int),
    ("min_pool_size", Int),
    ("reserve_pool", Int),
    ("pool_mode", Text),
    ("max_connections", Int),
    ("current_connections", Int),
    ("paused", Int),
    ("disabled", Int),
];

const LISTS: Columns = &[("list", Text), ("items", Int)];
const CONFIG: Columns = &[("key", Text), ("value", Text), ("default", Text), ("changeable", Text)];
const USERS: Columns = &[("name", Text), ("pool_mode", Text)];
const REPLICAS: Columns =
    &[("database", Text), ("server", Text), ("state", Text), ("lag_us", Numeric), ("takes_reads", Int)];

/// The table that is asked for. Help is none.
pub fn table(show: Show, snapshot: &Snapshot) -> Option<Table> {
    let of = |columns, rows| Some(Table { columns, rows });
    let databases = snapshot.databases.iter();
    match show {
        Show::Help => None,
        Show::Version => of(&[("version", Text)], vec![vec![text(&snapshot.version)]]),
        Show::Pools => of(POOLS, pools(snapshot)),
        Show::Clients => of(CONNECTIONS, snapshot.clients.iter().map(client).collect()),
        Show::Servers => of(CONNECTIONS, snapshot.servers.iter().map(server).collect()),
        Show::Stats => of(STATS, databases.map(stats).collect()),
        Show::StatsTotals => of(HALF_STATS, databases.map(|line| half(&line.name, &line.counts)).collect()),
        Show::StatsAverages => of(HALF_STATS, databases.map(|line| half(&line.name, &line.averages)).collect()),
        Show::Databases => of(DATABASES, databases.map(|line| database(line, snapshot)).collect()),
        Show::Lists => of(LISTS, lists(snapshot)),
        Show::Config => {
            let settings = snapshot.settings.iter();
            of(
                CONFIG,
                settings.map(|one| vec![text(one.key), text(&one.value), text(one.default), text("no")]).collect(),
            )
        }
        Show::Users => {
            of(USERS, snapshot.users.iter().map(|user| vec![text(&user.name), user.mode.map(str::to_owned)]).collect())
        }
        Show::Replicas => of(REPLICAS, replicas(snapshot)),
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn number(number: impl Into<u64>) -> Option<String> {
    Some(number.into().to_string())
}

fn count(count: usize) -> Option<String> {
    Some(count.to_string())
}

/// A row per database and user, whatever servers their pools are of: tools take the two for a pool's name.
fn pools(snapshot: &Snapshot) -> Vec<Row> {
    #[derive(Default)]
    struct Sum {
        clients: usize,
        waiting: usize,
        longest: Duration,
        lent: usize,
        idle: usize,
        opening: usize,
        mode: &'static str,
    }
    let mut sums = BTreeMap::<(&str, &str), Sum>::new();
    for pool in &snapshot.pools {
        let sum = sums.entry((&pool.database, &pool.user)).or_default();
        sum.lent += pool.lent;
        sum.idle += pool.idle;
        sum.opening += pool.opening;
        sum.mode = pool.mode;
    }
    for client in &snapshot.clients {
        // One that has no pool yet asks for none: the console's, and those for replication.
        let Some(sum) = sums.get_mut(&(client.database.as_str(), client.user.as_str())) else { continue };
        match client.waits {
            Some(waits) => {
                sum.waiting += 1;
                sum.longest = sum.longest.max(waits);
            }
            None => sum.clients += 1,
        }
    }
    let row = |((database, user), sum): ((&str, &str), Sum)| {
        let (zero, longest) = (|| count(0), sum.longest);
        vec![
            text(database),
            text(user),
            count(sum.clients),
            count(sum.waiting),
            None,
            None,
            count(sum.lent),
            None,
            None,
            count(sum.idle),
            zero(),
            zero(),
            count(sum.opening),
            number(longest.as_secs()),
            number(longest.subsec_micros()),
            text(sum.mode),
        ]
    };
    sums.into_iter().map(row).collect()
}

fn client(line: &ClientLine) -> Row {
    let state = if line.waits.is_some() { "waiting" } else { "active" };
    let mut row = vec![text("C"), text(&line.user), text(&line.database), text(state)];
    row.extend(addresses(line.peer, line.local));
    let waits = line.waits.unwrap_or_default();
    row.extend([text(&utc(line.since)), None, number(waits.as_secs()), number(waits.subsec_micros()), count(0)]);
    row.extend([Some(line.number.to_string()), None, count(0), text(&line.tls), text(&line.application)]);
    row
}

fn server(line: &ServerLine) -> Row {
    let state = if line.is_active { "active" } else { "idle" };
    let mut row = vec![text("S"), text(&line.user), text(&line.database), text(state)];
    row.extend(addresses(line.peer, line.local));
    row.extend([text(&utc(line.since)), None, count(0), count(0), count(usize::from(line.is_old))]);
    row.extend([text(&line.id), None, Some(line.pid.to_string()), text(&line.tls), None]);
    row
}

/// Both ends of a connection. Those of a Unix socket have no ports.
fn addresses(peer: Option<SocketAddr>, local: Option<SocketAddr>) -> [Option<String>; 4] {
    let ip = |address: Option<SocketAddr>| {
        Some(address.map_or_else(|| "unix".to_owned(), |address| address.ip().to_canonical().to_string()))
    };
    let port = |address: Option<SocketAddr>| number(address.map_or(0, |address| address.port()));
    [ip(peer), port(peer), ip(local), port(local)]
}

/// Counts as `SHOW STATS` has them: bytes, and times of transactions and statements, are not counted.
fn half(name: &str, counts: &Counts) -> Row {
    let mut row = vec![text(name)];
    row.extend(values(counts));
    row
}

fn values(counts: &Counts) -> [Option<String>; 7] {
    [number(counts.transactions), number(counts.statements), None, None, None, None, number(counts.wait_micros)]
}

fn stats(line: &DatabaseLine) -> Row {
    let mut row = half(&line.name, &line.counts);
    row.extend(values(&line.averages));
    row
}

fn database(line: &DatabaseLine, snapshot: &Snapshot) -> Row {
    let pools = snapshot.pools.iter().filter(|pool| pool.database == line.name);
    let connections = pools.map(|pool| pool.lent + pool.idle + pool.opening).sum();
    let [size, min, reserve] = line.pool;
    vec![
        text(&line.name),
        text(&line.host),
        line.port.and_then(number),
        text(&line.dbname),
        line.server_user.clone(),
        count(size),
        count(min),
        count(reserve),
        text(line.mode),
        // Bounds are those of pools.
        count(0),
        count(connections),
        count(usize::from(line.is_paused)),
        count(usize::from(line.is_disabled)),
    ]
}

fn lists(snapshot: &Snapshot) -> Vec<Row> {
    let sum = |of: fn(&super::PoolLine) -> usize| snapshot.pools.iter().map(of).sum::<usize>();
    let pools = pools(snapshot).len();
    let lists = [
        ("databases", snapshot.databases.len()),
        ("users", snapshot.users.len()),
        ("pools", pools),
        // Nothing is kept for clients and servers to come.
        ("free_clients", 0),
        ("used_clients", snapshot.clients.len()),
        ("login_clients", snapshot.login_clients),
        ("free_servers", 0),
        ("used_servers", sum(|pool| pool.lent + pool.idle + pool.opening)),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    lists.into_iter().map(|(list, items)| vec![text(list), count(items)]).collect()
}

fn replicas(snapshot: &Snapshot) -> Vec<Row> {
    let micros = |lag: Duration| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
    let row = |line: &super::ReplicaLine| {
        vec![
            text(&line.database),
            text(&line.server),
            text(line.state),
            line.lag.and_then(|lag| number(micros(lag))),
            count(usize::from(line.is_usable)),
        ]
    };
    snapshot.replicas.iter().map(row).collect()
}
