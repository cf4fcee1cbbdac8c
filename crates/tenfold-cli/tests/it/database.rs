//! Databases of a running process: pools by hand, reloads, stops and upgrades, and what psql says.

use std::process::{Command, Output};
use std::time::Duration;

use testkit::{PgClient, PgMessages, Postgres, PostgresOptions, Signal, TempDir, Tenfold, free_port};

use crate::site::{apply, command, page, start};

const PASSWORD: &str = "not to be guessed";

/// What the client of these tests speaks. `psql` proves itself by SCRAM.
const AUTH: &str = "auth = { method = \"password\" }";

/// A configuration with the database `shop` at a port, and `more` in its table.
fn config(postgres: &Postgres, port: u16, more: &str) -> String {
    let (admin, server) = (free_port(), postgres.port(0));
    format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [database.shop]\nlisten = \"127.0.0.1:{port}\"\nprimary = \"postgres://postgres@127.0.0.1:{server}/postgres\"\n\
         {more}\n{AUTH}\n[database.shop.user.web]\npassword = \"{PASSWORD}\"\n"
    )
}

fn postgres() -> Postgres {
    Postgres::start(&PostgresOptions::default()).unwrap()
}

/// A site of this configuration, whose database listens at the port.
fn site(config: &str, port: u16) -> Tenfold {
    let mut site = start(config);
    site.process().wait_for_port(port, Duration::from_secs(20)).unwrap();
    site
}

fn client(port: u16) -> PgClient {
    PgClient::connect(port, "web", "shop", PASSWORD).unwrap()
}

/// What `tenfold db` says of this site.
fn db(site: &Tenfold, arguments: &[&str]) -> Output {
    command().arg("db").args(arguments).arg("--config").arg(site.config()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn by_hand_pools_are_looked_into_and_held() {
    let (postgres, port) = (postgres(), free_port());
    let site = site(&config(&postgres, port, ""), port);
    let mut first = client(port);
    assert_eq!(first.query("SELECT 41 + 1").unwrap().value(), "42");
    let status = said(&db(&site, &["status"]));
    assert!(status.contains("shop") && status.contains("web"), "{status}");
    let listed = page(&site, "/api/databases");
    assert_eq!((&listed[0]["name"], &listed[0]["clients"]), (&"shop".into(), &1.into()));
    assert_eq!((&listed[0]["pools"][0]["user"], &listed[0]["pools"][0]["idle"]), (&"web".into(), &1.into()));
    let row = ["database=\"shop\""];
    assert_eq!(site.metric("database_clients", &row).unwrap(), 1.0);
    assert_eq!(site.metric("database_statements_total", &row).unwrap(), 1.0);
    assert_eq!(site.metric("database_backends", &[row[0], "state=\"idle\""]).unwrap(), 1.0);
    assert_eq!(said(&db(&site, &["pause", "shop"])), "shop: paused\n");
    first.send(&PgMessages::default().query("SELECT 2").0).unwrap();
    site.wait_until("the client waits", |site| Ok(site.metric("database_waiting", &row)? == 1.0)).unwrap();
    assert_eq!(said(&db(&site, &["resume", "shop"])), "shop: resumed\n");
    assert_eq!(first.answer().unwrap().value(), "2");
    let pid = |client: &mut PgClient| client.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    let before = pid(&mut first);
    assert_eq!(pid(&mut first), before);
    assert_eq!(said(&db(&site, &["reconnect", "shop"])), "shop: reconnecting\n");
    assert_ne!(pid(&mut first), before);
    let unknown = db(&site, &["pause", "nope"]);
    assert!(
        !unknown.status.success() && said(&unknown).contains("no database is named \"nope\""),
        "{}",
        said(&unknown)
    );
    let wrong = PgClient::connect(port, "web", "shop", "guessed").unwrap_err();
    assert!(format!("{wrong:#}").contains("28P01"), "{wrong:#}");
    assert_eq!(site.metric("database_logins_total", &[row[0], "result=\"failure\""]).unwrap(), 1.0);
    assert!(!site.output().contains(PASSWORD), "{}", site.output());
}

#[test]
fn psql_sees_a_server() {
    let (postgres, port) = (postgres(), free_port());
    let _site = site(&config(&postgres, port, "").replace(AUTH, ""), port);
    let psql = |text: &str| {
        let url = format!("postgres://web@127.0.0.1:{port}/shop");
        let output = Command::new("psql").args([&url, "-XAtc", text]).env("PGPASSWORD", PASSWORD).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    };
    assert_eq!(psql("SELECT current_database(), 1 + 1"), "postgres|2\n");
    assert_eq!(psql("SELECT count(*) FROM generate_series(1, 100000)"), "100000\n");
}

#[test]
fn a_reload_changes_databases_by_name() {
    let (postgres, port, other) = (postgres(), free_port(), free_port());
    let first = config(&postgres, port, "");
    let mut site = site(&first, port);
    let mut kept = client(port);
    assert_eq!(kept.query("SELECT 1").unwrap().value(), "1");
    let stock = format!(
        "{first}[database.stock]\nlisten = \"127.0.0.1:{other}\"\n\
         primary = \"postgres://postgres@127.0.0.1:{}/postgres\"\nauth = {{ method = \"trust\" }}\n",
        postgres.port(0)
    );
    apply(&mut site, &stock);
    let mut second = PgClient::connect(other, "anybody", "stock", "").unwrap();
    assert_eq!(second.query("SELECT 2").unwrap().value(), "2");
    assert_eq!(kept.query("SELECT 3").unwrap().value(), "3");
    // What cannot be had changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    site.reload(&stock.replace(&format!("127.0.0.1:{other}"), &address)).unwrap();
    site.wait_until("refused", |site| Ok(crate::site::reloads(site, "failure") > 0.0)).unwrap();
    assert_eq!(second.query("SELECT 4").unwrap().value(), "4");
    apply(&mut site, &first);
    PgClient::connect(other, "anybody", "stock", "").unwrap_err();
    assert_eq!(kept.query("SELECT 5").unwrap().value(), "5");
}

#[test]
fn an_upgrade_hands_a_unix_socket_on() {
    let (postgres, port, folder) = (postgres(), free_port(), TempDir::new().unwrap());
    let file = folder.path().join(".s.PGSQL.6432");
    let listener = format!("[listener.db]\nkind = \"postgres\"\nlisten = \"{}\"\n", file.display());
    let mut site = site(&format!("{}{listener}", config(&postgres, port, "")), port);
    let psql = || {
        let url = format!("postgres://web@/shop?host={}&port=6432", folder.path().display());
        let output =
            Command::new("psql").args([&url, "-XAtc", "SELECT 7"]).env("PGPASSWORD", PASSWORD).output().unwrap();
        said(&output)
    };
    assert_eq!(psql(), "7\n");
    let number = |file: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
    let before = number(&file);
    for _ in 0..2 {
        let pid = page(&site, "/api/status")["pid"].as_u64().unwrap();
        let output = command().args(["upgrade", "--wait", "20s", "--config"]).arg(site.config()).output().unwrap();
        assert!(output.status.success(), "{}{}", said(&output), site.output());
        let next = page(&site, "/api/status")["pid"].as_u64().unwrap();
        assert_ne!(next, pid);
        site.succeeded_by(u32::try_from(next).unwrap());
        assert_eq!((psql().as_str(), number(&file)), ("7\n", before));
    }
}

#[test]
fn replicas_and_subscribers_are_metrics() {
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let (postgres, port) = (Postgres::start(&options).unwrap(), free_port());
    let replica = format!("127.0.0.1:{}", postgres.port(1));
    let site =
        site(&config(&postgres, port, &format!("replicas = [\"postgres://postgres@{replica}/postgres\"]\n")), port);
    let (row, server) = ("database=\"shop\"", format!("server=\"{replica}\""));
    let of_server = |site: &Tenfold, name: &str| site.metric(name, &[row, &server]);
    site.wait_until("reads go there", |site| Ok(of_server(site, "database_server_takes_reads")? == 1.0)).unwrap();
    assert_eq!(site.metric("database_server_state", &[row, &server, "state=\"replica\""]).unwrap(), 1.0);
    assert_eq!(site.metric("database_server_state", &[row, &server, "state=\"primary\""]).unwrap(), 0.0);
    postgres.pause_replay(1).unwrap();
    postgres.sql(0, "CREATE TABLE lagging AS SELECT generate_series(1, 1000) AS x").unwrap();
    site.wait_until("it is behind", |site| {
        Ok(of_server(site, "database_replica_lag_bytes")? > 10_000.0
            && of_server(site, "database_replica_lag_seconds")? > 0.0)
    })
    .unwrap();
    postgres.resume_replay(1).unwrap();
    site.wait_until("it has caught up", |site| Ok(of_server(site, "database_replica_lag_bytes")? == 0.0)).unwrap();
    let mut listens = client(port);
    assert_eq!(listens.query("LISTEN news").unwrap().tags, ["LISTEN"]);
    assert_eq!(site.metric("database_subscribers", &[row]).unwrap(), 1.0);
    client(port).query("NOTIFY news").unwrap();
    site.wait_until("it is heard", |site| Ok(site.metric("database_notifications_total", &[row])? == 1.0)).unwrap();
    assert_eq!(listens.query("CREATE TEMPORARY TABLE mine (x int)").unwrap().code(), "");
    let pinned = site.metric("database_sessions_pinned_ratio", &[row]).unwrap();
    assert!(pinned > 0.0 && pinned <= 1.0, "{pinned}");
}

#[test]
fn clients_are_killed_by_hand() {
    let (postgres, port) = (postgres(), free_port());
    let site = site(&config(&postgres, port, ""), port);
    let [mut one, mut two, mut three] = [client(port), client(port), client(port)];
    for client in [&mut one, &mut two, &mut three] {
        assert_eq!(client.query("SELECT 1").unwrap().value(), "1");
    }
    let clients = page(&site, "/api/databases/shop/clients");
    let numbers: Vec<_> = clients.as_array().unwrap().iter().map(|client| client["number"].to_string()).collect();
    assert_eq!(numbers.len(), 3, "{clients}");
    let shown = said(&db(&site, &["clients", "shop"]));
    assert!(shown.contains("127.0.0.1:") && shown.contains("web"), "{shown}");
    // What somebody calls himself says nothing to the terminal of whoever looks.
    let named = [("user", "web"), ("database", "shop"), ("application_name", "a\u{1b}]0;b\u{7}\u{9b}2Jc")];
    let named = PgClient::connect_with(port, &named, PASSWORD).unwrap();
    let shown = said(&db(&site, &["clients", "shop"]));
    assert!(shown.contains("a?]0;b??2Jc"), "{shown:?}");
    drop(named);
    // Where nobody is meant, nothing is done.
    let nobody = db(&site, &["kill", "shop", "--client", "99999999", "--and-refuse"]);
    assert!(!nobody.status.success() && said(&nobody).contains("no client has number"), "{}", said(&nobody));
    drop(client(port));
    site.wait_until("they have gone", |site| {
        Ok(page(site, "/api/databases/shop/clients").as_array().unwrap().len() == 3)
    })
    .unwrap();
    // One that is in a transaction, and none of the others.
    assert_eq!(one.query("BEGIN").unwrap().status, 'T');
    assert_eq!(said(&db(&site, &["kill", "shop", "--client", &numbers[0]])), "shop: killed\n");
    assert_eq!(one.message().unwrap().field(b'C'), "57P01");
    assert!(one.message().is_err());
    assert_eq!(two.query("BEGIN; SELECT 2").unwrap().rows.len(), 1);
    drop(one);
    let count = |site: &Tenfold| page(site, "/api/databases/shop/clients").as_array().unwrap().len();
    site.wait_until("it has gone", |site| Ok(count(site) == 2)).unwrap();
    let gone = db(&site, &["kill", "shop", "--client", &numbers[0]]);
    assert!(!gone.status.success() && said(&gone).contains("no client has number"), "{}", said(&gone));
    // Who has a connection to a server; the other one asks for nothing just now.
    let server = format!("127.0.0.1:{}", postgres.port(0));
    assert_eq!(said(&db(&site, &["kill", "shop", "--server", &server])), "shop: killed\n");
    assert_eq!(two.message().unwrap().field(b'C'), "57P01");
    assert_eq!(three.query("SELECT 3").unwrap().value(), "3");
    let unknown = db(&site, &["kill", "shop", "--server", "db9.example.com:5432"]);
    assert!(!unknown.status.success() && said(&unknown).contains(&server), "{}", said(&unknown));
    // A statement that runs is cancelled, and nobody comes in.
    three.send(&PgMessages::default().query("SELECT pg_sleep(60)").0).unwrap();
    postgres.wait_for(0, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'", "1").unwrap();
    assert_eq!(said(&db(&site, &["kill", "shop", "--and-refuse"])), "shop: killed\n");
    assert_eq!(three.message().unwrap().field(b'C'), "57P01");
    postgres
        .wait_for(
            0,
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'",
            "0",
        )
        .unwrap();
    let refused = PgClient::connect(port, "web", "shop", PASSWORD).unwrap_err();
    assert!(format!("{refused:#}").contains("57P03"), "{refused:#}");
    assert_eq!(said(&db(&site, &["enable", "shop"])), "shop: enabled\n");
    assert_eq!(client(port).query("SELECT 4").unwrap().value(), "4");
}

#[test]
fn the_console_has_the_configuration_read_again() {
    let (postgres, port, other) = (postgres(), free_port(), free_port());
    let listener = format!(
        "[listener.db]\nkind = \"postgres\"\nlisten = \"127.0.0.1:{other}\"\n[listener.db.console]\nmethod = \"password\"\n\
         user.ops = {{ password = \"{PASSWORD}\", admin = true }}\n"
    );
    let first = format!("{}{listener}", config(&postgres, port, ""));
    let site = site(&first, port);
    let mut console = PgClient::connect(other, "ops", "pgbouncer", PASSWORD).unwrap();
    assert_eq!(console.query("SHOW DATABASES").unwrap().rows.len(), 1);
    let second = format!(
        "{first}[database.stock]\nprimary = \"postgres://postgres@127.0.0.1:{}/postgres\"\nauth = {{ method = \"trust\" }}\n",
        postgres.port(0)
    );
    site.rewrite("not toml").unwrap();
    let refused = console.query("RELOAD").unwrap();
    assert_eq!(refused.code(), "22023", "{refused:?}");
    site.rewrite(&second).unwrap();
    assert_eq!(console.query("RELOAD").unwrap().tags, ["RELOAD"]);
    assert_eq!(console.query("SHOW DATABASES").unwrap().rows.len(), 2);
    assert!(!site.output().contains(PASSWORD), "{}", site.output());
}

#[test]
fn a_stop_waits_for_transactions_and_ends_the_rest() {
    let (postgres, port) = (postgres(), free_port());
    let mut site = site(&config(&postgres, port, ""), port);
    let (mut busy, mut idle) = (client(port), client(port));
    assert_eq!(idle.query("SELECT 1").unwrap().value(), "1");
    assert_eq!(busy.query("BEGIN").unwrap().status, 'T');
    site.process().signal(Signal::TERM).unwrap();
    assert_eq!(idle.message().unwrap().field(b'C'), "57P01");
    // The one with a transaction goes on to its end.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(busy.query("SELECT 2").unwrap().value(), "2");
    assert_eq!(busy.query("COMMIT").unwrap().tags, ["COMMIT"]);
    assert!(site.process().wait(Duration::from_secs(20)).unwrap().success(), "{}", site.output());
}

#[test]
fn an_upgrade_hands_the_socket_on() {
    let (postgres, port) = (postgres(), free_port());
    let mut site = site(&config(&postgres, port, ""), port);
    let mut before = client(port);
    assert_eq!(before.query("SELECT 1").unwrap().value(), "1");
    let output = command().args(["upgrade", "--wait", "20s", "--config"]).arg(site.config()).output().unwrap();
    assert!(output.status.success(), "{}{}", said(&output), site.output());
    site.succeeded_by(u32::try_from(page(&site, "/api/status")["pid"].as_u64().unwrap()).unwrap());
    assert_eq!(before.message().unwrap().field(b'C'), "57P01");
    assert_eq!(client(port).query("SELECT 2").unwrap().value(), "2");
}
