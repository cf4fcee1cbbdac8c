//! Databases of a running process: pools by hand, reloads, stops and upgrades, and what psql says.

use std::process::{Command, Output};
use std::time::Duration;

use testkit::{PgClient, PgMessages, Postgres, PostgresOptions, Signal, Tenfold, free_port};

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
