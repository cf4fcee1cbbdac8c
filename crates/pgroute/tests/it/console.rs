//! The console: texts in, rows out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgroute::console::{
    Averages, Change, ClientLine, Command, Counts, DatabaseLine, PERIOD, PoolLine, ReplicaLine, ServerLine, Setting,
    Show, Snapshot, UserLine, table,
};

#[test]
fn texts_are_commands() {
    let check = |text: &str, expected: Command| assert_eq!(Command::parse(text), Ok(expected), "{text:?}");
    let some = |name: &str| Some(name.to_owned());
    for empty in ["", " ", ";", " ; ", "\n\t;"] {
        check(empty, Command::Nothing);
    }
    check("SHOW POOLS", Command::Show(Show::Pools));
    check("show pools;", Command::Show(Show::Pools));
    check("  Show\n\"pools\" ; ", Command::Show(Show::Pools));
    check("SHOW STATS_AVERAGES;", Command::Show(Show::StatsAverages));
    check("PAUSE", Command::Change(Change::Pause(None)));
    check("pause Shop;", Command::Change(Change::Pause(some("Shop"))));
    check("PAUSE \"my \"\"own\"\" shop\"", Command::Change(Change::Pause(some("my \"own\" shop"))));
    check("RESUME 'it''s'", Command::Change(Change::Resume(some("it's"))));
    check("RESUME ';'", Command::Change(Change::Resume(some(";"))));
    check("RECONNECT", Command::Change(Change::Reconnect(None)));
    check("KILL shop", Command::Change(Change::Kill("shop".into())));
    check("DISABLE shop", Command::Change(Change::Disable("shop".into())));
    check("ENABLE shop", Command::Change(Change::Enable("shop".into())));
    check("RELOAD;", Command::Change(Change::Reload));
}

#[test]
fn what_is_no_command_is_said_so() {
    let check = |text: &str, code: &str, message: &str| {
        let wrong = Command::parse(text).unwrap_err();
        assert_eq!((wrong.sqlstate().as_str(), wrong.to_string().contains(message)), (code, true), "{text:?}: {wrong}");
    };
    check("SELECT 1", "42601", "invalid command 'SELECT 1', use SHOW HELP;");
    check("SHOW", "42601", "invalid command");
    check("SHOW TABLES", "42601", "invalid command");
    check("SHOW POOLS; SHOW STATS", "42601", "invalid command");
    check("SHOW POOLS STATS", "42601", "invalid command");
    check("PAUSE one two", "42601", "invalid command");
    check("PAUSE \"shop", "42601", "invalid command");
    check("RELOAD shop", "42601", "invalid command");
    check("KILL", "42601", "a database is required");
    check("SHOW MEM", "0A000", "SHOW MEM is not possible here");
    check("SET stats_period = 1", "0A000", "change the file");
    check("SHUTDOWN;", "0A000", "stop the process");
    check("suspend", "0A000", "PAUSE");
    let long = Command::parse(&"x ".repeat(10_000)).unwrap_err().to_string();
    assert!(long.len() < 200, "{long}");
}

fn snapshot() -> Snapshot {
    let client = |number, user: &str, waits: Option<u64>| ClientLine {
        number,
        user: user.into(),
        database: "shop".into(),
        peer: Some("192.0.2.7:5000".parse().unwrap()),
        local: Some("192.0.2.1:6432".parse().unwrap()),
        since: 60,
        waits: waits.map(Duration::from_micros),
        tls: String::new(),
        application: "worker".into(),
    };
    let pool = |user: &str, lent, idle, opening| PoolLine {
        database: "shop".into(),
        user: user.into(),
        lent,
        idle,
        opening,
        mode: "transaction",
    };
    Snapshot {
        version: "Tenfold 1.2.3".into(),
        databases: vec![DatabaseLine {
            name: "shop".into(),
            host: "db.example.com".into(),
            port: Some(5432),
            dbname: "store".into(),
            pool: [20, 1, 5],
            mode: "transaction",
            is_paused: true,
            counts: Counts { transactions: 7, statements: 9, wait_micros: 11, waits: 2 },
            averages: Counts { transactions: 1, statements: 2, wait_micros: 3, waits: 1 },
            ..DatabaseLine::default()
        }],
        // Of two servers.
        pools: vec![pool("web", 2, 1, 0), pool("web", 1, 0, 1), pool("report", 0, 3, 0)],
        clients: vec![
            client(1, "web", None),
            client(2, "web", Some(1_500_000)),
            client(3, "web", Some(2_000_007)),
            client(4, "nobody", None),
        ],
        login_clients: 5,
        servers: vec![ServerLine {
            id: "3.1".into(),
            user: "web".into(),
            database: "shop".into(),
            is_active: true,
            peer: None,
            local: None,
            since: 0,
            is_old: true,
            pid: 4711,
            tls: String::new(),
        }],
        users: vec![UserLine { name: "web".into(), mode: Some("session") }],
        replicas: vec![ReplicaLine {
            database: "shop".into(),
            server: "db2.example.com:5432".into(),
            state: "replica",
            lag: Some(Duration::from_millis(3)),
            is_usable: true,
        }],
        settings: vec![Setting { key: "max_client_conn", value: "10000".into(), default: "10000" }],
    }
}

/// The rows of a table as `psql -A` prints them, NULL as `-`.
fn rows(show: Show) -> Vec<String> {
    let table = table(show, &snapshot()).unwrap();
    let value = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows = table.rows.into_iter();
    rows.map(|row| {
        assert_eq!(row.len(), table.columns.len(), "{show:?}");
        row.into_iter().map(value).collect::<Vec<_>>().join("|")
    })
    .collect()
}

#[test]
fn tables_say_what_there_is() {
    let check = |show, expected: &[&str]| assert_eq!(rows(show), expected, "{show:?}");
    check(Show::Version, &["Tenfold 1.2.3"]);
    check(
        Show::Pools,
        &["shop|report|0|0|-|-|0|-|-|3|0|0|0|0|0|transaction", "shop|web|1|2|-|-|3|-|-|1|0|0|1|2|7|transaction"],
    );
    check(Show::StatsTotals, &["shop|7|9|-|-|-|-|11"]);
    check(Show::StatsAverages, &["shop|1|2|-|-|-|-|3"]);
    check(Show::Stats, &["shop|7|9|-|-|-|-|11|1|2|-|-|-|-|3"]);
    check(Show::Databases, &["shop|db.example.com|5432|store|-|20|1|5|transaction|0|8|1|0"]);
    check(Show::Users, &["web|session"]);
    check(Show::Config, &["max_client_conn|10000|10000|no"]);
    check(Show::Replicas, &["shop|db2.example.com:5432|replica|3000|1"]);
    check(Show::Servers, &["S|web|shop|active|unix|0|unix|0|1970-01-01 00:00:00 UTC|-|0|0|1|3.1|-|4711||-"]);
    let clients = rows(Show::Clients);
    let place = "192.0.2.7|5000|192.0.2.1|6432|1970-01-01 00:01:00 UTC|-";
    assert_eq!(clients[0], format!("C|web|shop|active|{place}|0|0|0|1|-|0||worker"));
    assert_eq!(clients[2], format!("C|web|shop|waiting|{place}|2|7|0|3|-|0||worker"));
    let lists = rows(Show::Lists);
    for expected in ["databases|1", "users|1", "pools|2", "used_clients|4", "login_clients|5", "used_servers|8"] {
        assert!(lists.contains(&expected.to_owned()), "{expected}: {lists:?}");
    }
    assert!(table(Show::Help, &snapshot()).is_none());
}

#[test]
fn averages_are_those_of_the_last_period() {
    let counts = |transactions, wait_micros, waits| Counts { transactions, statements: 0, wait_micros, waits };
    let begin = Instant::now();
    let mut averages = Averages::default();
    assert!(averages.is_due(begin));
    averages.end(begin, HashMap::from([("shop".to_owned(), counts(100, 0, 0))]));
    assert_eq!((averages.of("shop"), averages.is_due(begin + PERIOD / 2)), (Counts::default(), false));
    averages.end(begin + PERIOD, HashMap::from([("shop".to_owned(), counts(700, 5000, 10))]));
    assert_eq!((averages.of("shop").transactions, averages.of("shop").wait_micros), (10, 500));
    // One that began within the period, and one that has gone.
    let next = HashMap::from([("stock".to_owned(), counts(120, 0, 0))]);
    averages.end(begin + PERIOD * 2, next);
    assert_eq!((averages.of("stock").transactions, averages.of("shop")), (2, Counts::default()));
    assert_eq!(averages.of("stock").wait_micros, 0);
}
