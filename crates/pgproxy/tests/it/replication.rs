//! Connections for replication, which pass through.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{PgClient, TempDir};

use crate::proxy::Proxy;

/// Connections for replication at the server.
fn senders(proxy: &Proxy) -> usize {
    let text = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    proxy.postgres.sql(0, text).unwrap()[0].parse().unwrap()
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_is_copied_and_its_log_streamed() {
    let proxy = Proxy::start(|params| {
        params.replication = true;
        params.limits.clients_max = 4;
    });
    proxy.psql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS a");
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("copy");
    let copied =
        proxy.tool("pg_basebackup", &["-D", copy.to_str().unwrap(), "--no-sync", "-c", "fast", "-X", "stream"]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let verified = proxy.tool("pg_verifybackup", &[copy.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    until("the copy's connections end", || senders(&proxy) == 0);
    // The log as it is written.
    let log = dir.path().join("log");
    std::fs::create_dir(&log).unwrap();
    let mut receiver = Command::new("/usr/lib/postgresql/15/bin/pg_receivewal");
    receiver.env("PGHOST", "127.0.0.1").env("PGPORT", proxy.port.to_string()).env("PGUSER", "web");
    receiver.args(["-D", log.to_str().unwrap(), "--no-sync", "--no-loop"]).stderr(Stdio::piped());
    let mut receiver = receiver.spawn().unwrap();
    until("it streams", || senders(&proxy) == 1);
    for _ in 0..3 {
        proxy.postgres.sql(0, "INSERT INTO t SELECT generate_series(1, 1000); SELECT pg_switch_wal()").unwrap();
    }
    let segments = || std::fs::read_dir(&log).unwrap().filter_map(Result::ok).count();
    until("segments have come", || segments() >= 3);
    assert_eq!(proxy.database().clients, 1, "it counts as a client");
    assert_eq!(proxy.view().iter().map(|pool| pool.lent).sum::<usize>(), 0, "it is of no pool");
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    until("its connection ends with it", || senders(&proxy) == 0);
    assert_eq!(proxy.database().clients, 0);
    proxy.check_accounts();
}

#[test]
fn a_logical_one_is_of_its_database_and_asks_questions() {
    let mut proxy = Proxy::start(|params| params.replication = true);
    let parameters = [("user", "web"), ("database", "shop"), ("replication", "database")];
    let mut client = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
    let answer = client.query("IDENTIFY_SYSTEM").unwrap();
    assert_eq!((answer.rows.len(), answer.rows[0][3].as_deref()), (1, Some("postgres")));
    assert_eq!(client.query("SELECT 1").unwrap().value(), "1");
    // What it does can be cancelled.
    let asleep = std::thread::scope(|scope| {
        let mut other = client.another_handle().unwrap();
        let slept = scope.spawn(move || other.query("SELECT pg_sleep(30)").unwrap());
        until("it sleeps", || {
            let text = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
            proxy.postgres.sql(0, text).unwrap() == ["1"]
        });
        client.cancel().unwrap();
        slept.join().unwrap()
    });
    assert_eq!(asleep.code(), "57014");
    // It goes when the proxy does.
    proxy.stop(Duration::from_secs(5));
    assert!(client.query("SELECT 1").is_err());
}

#[test]
fn without_leave_they_are_refused() {
    let proxy = Proxy::start(|_| ());
    for kind in ["true", "database"] {
        let parameters = [("user", "web"), ("database", "shop"), ("replication", kind)];
        let refused = PgClient::connect_with(proxy.port, &parameters, "").unwrap_err().to_string();
        assert!(refused.starts_with("0A000"), "{refused}");
    }
    // They are among the clients that there may be.
    let mut proxy = proxy;
    (proxy.params.replication, proxy.params.limits.clients_max) = (true, 1);
    proxy.reload();
    let parameters = [("user", "web"), ("database", "shop"), ("replication", "database")];
    let first = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
    let refused = PgClient::connect(proxy.port, "web", "shop", "").unwrap_err().to_string();
    assert!(refused.starts_with("53300"), "{refused}");
    drop(first);
}

#[test]
fn they_end_with_their_server_s_part_as_the_primary() {
    let options = testkit::PostgresOptions { replicas: 1, ..testkit::PostgresOptions::default() };
    let mut proxy = crate::replicas::cluster(&options, |params| params.replication = true);
    let parameters = [("user", "web"), ("database", "shop"), ("replication", "database")];
    let connect = |proxy: &Proxy| PgClient::connect_with(proxy.port, &parameters, "").unwrap();
    let mut client = connect(&proxy);
    client.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.wait_for_replay(1).unwrap();
    proxy.postgres.promote(1).unwrap();
    until("the other one is the primary", || proxy.database().servers[1].state == "primary");
    until("the old one is known as such", || proxy.database().servers[0].state == "old");
    // The old one lives, and would take what is written to it.
    assert!(client.query("INSERT INTO t VALUES (1)").is_err());
    assert_eq!(proxy.postgres.sql(0, "SELECT count(*) FROM t").unwrap(), ["0"]);
    let mut client = connect(&proxy);
    assert_eq!(client.query("INSERT INTO t VALUES (2)").unwrap().code(), "");
    assert_eq!(proxy.postgres.sql(1, "SELECT sum(a) FROM t").unwrap(), ["2"]);
    // The configuration names other servers.
    proxy.params.replicas.clear();
    proxy.reload();
    assert!(client.query("SELECT 1").is_err());
}
