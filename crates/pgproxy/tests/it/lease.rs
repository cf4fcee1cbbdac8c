//! Somebody outside says which server may be written to.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pgproxy::{DatabaseParams, LeaseParams};
use testkit::{Postgres, PostgresOptions, free_port};

use crate::proxy::Proxy;
use crate::replicas::{value, wait_until};

/// How long an answer is good.
const TTL: Duration = Duration::from_millis(1500);

/// Who holds the lease, by HTTP: it answers by the port of the server that is asked for, with a status, or not at all.
#[derive(Clone)]
struct Keeper {
    port: u16,
    statuses: Arc<Mutex<HashMap<u16, Option<u16>>>>,
}

impl Keeper {
    fn start() -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let keeper = Self { port, statuses: Arc::default() };
        let serving = keeper.clone();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let keeper = serving.clone();
                thread::spawn(move || keeper.answer(socket));
            }
        });
        keeper
    }

    fn answer(&self, mut socket: TcpStream) {
        let mut text = Vec::new();
        let mut chunk = [0; 512];
        while !text.ends_with(b"\r\n\r\n") {
            match socket.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(count) => text.extend_from_slice(&chunk[..count]),
            }
        }
        let text = String::from_utf8(text).unwrap();
        let port = text.strip_prefix("GET /primary/").unwrap().split(' ').next().unwrap().parse().unwrap();
        let status = self.statuses.lock().unwrap().get(&port).copied().unwrap_or(Some(503));
        match status {
            Some(status) => {
                let answer = format!(
                    "HTTP/1.0 {status} Word\r\nContent-Type: application/json\r\n\r\n{{\"state\": \"running\"}}"
                );
                let _gone = socket.write_all(answer.as_bytes());
            }
            // As a machine that hangs: until whoever asks gives up.
            None => drop(socket.read(&mut chunk)),
        }
    }

    fn say(&self, postgres: &Postgres, server: usize, status: Option<u16>) {
        self.statuses.lock().unwrap().insert(postgres.port(server), status);
    }

    fn params(&self) -> LeaseParams {
        let url = format!("http://127.0.0.1:{}/primary/{{port}}", self.port);
        LeaseParams { ttl: TTL, interval: Duration::from_millis(100), ..LeaseParams::new(url) }
    }

    fn set(&self, params: &mut DatabaseParams) {
        params.failover.lease = Some(self.params());
        params.failover.switch_wait = Duration::from_millis(600);
    }
}

/// A primary that holds the lease, and a replica.
fn two() -> (Proxy, Keeper) {
    let keeper = Keeper::start();
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    // Nobody holds it yet, so that the replica alone serves.
    let mut proxy = Proxy::before(Postgres::start(&options).unwrap(), |_, _| {});
    keeper.say(&proxy.postgres, 0, Some(200));
    let replica = pgproxy::ReplicaParams { server: crate::proxy::server(&proxy.postgres, 1), weight: 1, zone: None };
    proxy.params.replicas = vec![replica];
    proxy.params.failover.watch_interval = Duration::from_millis(200);
    keeper.set(&mut proxy.params);
    proxy.reload();
    wait_until("all are known", || states(&proxy) == [("primary", Some(true)), ("replica", Some(false))]);
    (proxy, keeper)
}

fn states(proxy: &Proxy) -> Vec<(&'static str, Option<bool>)> {
    proxy.database().servers.iter().map(|server| (server.state, server.has_lease)).collect()
}

fn count(proxy: &Proxy, server: usize) -> String {
    proxy.postgres.sql(server, "SELECT count(*) FROM t").unwrap().remove(0)
}

#[test]
fn writes_go_to_who_holds_the_lease_and_to_nobody_else() {
    let (proxy, keeper) = two();
    let (mut one, mut open, mut runs) = (proxy.client(), proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    assert_eq!(one.query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
    // What has to be seen is known from this read on.
    assert_eq!(value(&mut one, "SELECT count(*) FROM t"), "1");
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO t VALUES (2)").unwrap();
    let runs = thread::spawn(move || {
        let begun = Instant::now();
        runs.query("BEGIN").unwrap();
        (runs.query("INSERT INTO t SELECT 3 FROM pg_sleep(10)").unwrap(), begun.elapsed())
    });
    thread::sleep(Duration::from_millis(300));
    proxy.postgres.wait_for_replay(1).unwrap();
    // It says no, and is the primary by everything that PostgreSQL says.
    keeper.say(&proxy.postgres, 0, Some(503));
    wait_until("it is known", || states(&proxy)[0] == ("unknown", Some(false)));
    let begun = Instant::now();
    let refused = one.query("INSERT INTO t VALUES (4)").unwrap();
    assert_eq!((refused.code(), refused.status), ("57P03", 'I'));
    let text = format!("{:?}", refused.errors);
    assert!(text.contains("no server is known to hold the lease"), "{text}");
    assert!((600..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    // What is under way is cut, that which runs at once.
    let (cut, after) = runs.join().unwrap();
    assert_eq!((cut.code(), after < Duration::from_secs(5)), ("40001", true), "{after:?}");
    let cut = open.query("INSERT INTO t VALUES (5)").unwrap();
    assert_eq!((cut.code(), cut.status), ("40001", 'I'));
    let told = proxy.tool("psql", &["-X", "-c", "INSERT INTO t VALUES (4)"]);
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("HINT:  Look at what the URL of failover.lease answers"), "{told}");
    // Reads go on.
    assert_eq!(value(&mut one, "SELECT count(*) FROM t"), "1");
    // A statement that waits goes on when somebody has the lease.
    let (waits, tell) = (thread::spawn(move || one.query("INSERT INTO t VALUES (6)").unwrap()), keeper.clone());
    thread::sleep(Duration::from_millis(100));
    tell.say(&proxy.postgres, 0, Some(200));
    assert_eq!(waits.join().unwrap().tags, ["INSERT 0 1"]);
    assert_eq!(count(&proxy, 0), "2");
}

#[test]
fn silence_ends_the_lease_and_a_promotion_gives_it_to_another() {
    let (mut proxy, keeper) = two();
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    let silent_from = Instant::now();
    keeper.say(&proxy.postgres, 0, None);
    let mut last = silent_from;
    let refused = loop {
        let begun = Instant::now();
        match client.query("INSERT INTO t VALUES (1)") {
            Ok(answer) if answer.errors.is_empty() => last = begun,
            Ok(answer) => break answer,
            // Nobody knows whether the one that was under way is done.
            Err(_) => client = proxy.client(),
        }
        assert!(last - silent_from < TTL + Duration::from_millis(20), "{:?}", last - silent_from);
        assert!(begun - silent_from < 3 * TTL, "it never ends");
    };
    assert_eq!(refused.code(), "57P03");
    // Not at the first question without an answer either.
    assert!(last - silent_from > TTL / 2, "{:?}", last - silent_from);
    thread::sleep(Duration::from_millis(200));
    let written: usize = count(&proxy, 0).parse().unwrap();
    proxy.postgres.wait_for_replay(1).unwrap();
    // The other one is promoted, and is not written to before it holds the lease. The old one never hears of any of it.
    proxy.postgres.promote(1).unwrap();
    wait_until("it is promoted", || proxy.postgres.sql(1, "SELECT pg_is_in_recovery()").unwrap() == ["f"]);
    assert_eq!(client.query("INSERT INTO t VALUES (1)").unwrap().code(), "57P03");
    assert_eq!(count(&proxy, 1), written.to_string());
    keeper.say(&proxy.postgres, 1, Some(200));
    wait_until("it is known", || states(&proxy)[1] == ("primary", Some(true)));
    assert_eq!(client.query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
    // One that says that it holds the lease is not believed against its timeline.
    keeper.say(&proxy.postgres, 0, Some(200));
    wait_until("both say so", || states(&proxy)[0].1 == Some(true));
    assert_eq!(client.query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
    assert_eq!((count(&proxy, 0), count(&proxy, 1)), (written.to_string(), (written + 2).to_string()));
    proxy.postgres.kill(0);
}

#[test]
fn a_server_that_is_alone_needs_the_lease_too() {
    let keeper = Keeper::start();
    let mut proxy = Proxy::start(|params| keeper.set(params));
    assert!(testkit::PgClient::connect(proxy.port, "web", "shop", "").is_err());
    keeper.say(&proxy.postgres, 0, Some(200));
    wait_until("it is known", || states(&proxy) == [("primary", Some(true))]);
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    // A session that keeps its connection is cut off with it.
    let mut keeps = proxy.client();
    keeps.query("CREATE TEMPORARY TABLE s (a int)").unwrap();
    keeper.say(&proxy.postgres, 0, Some(503));
    wait_until("it is known", || states(&proxy) == [("unknown", Some(false))]);
    let cut = keeps.query("INSERT INTO t VALUES (1)");
    assert!(cut.as_ref().map_or(true, |answer| answer.code() == "08006"), "{cut:?}");
    assert_eq!(count(&proxy, 0), "0");
    assert_eq!(client.query("INSERT INTO t VALUES (1)").unwrap().code(), "57P03");
    // Without one it is what there is.
    proxy.params.failover.lease = None;
    proxy.reload();
    assert_eq!(client.query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
    assert_eq!((states(&proxy), count(&proxy, 0)), (vec![("primary", None)], "1".to_owned()));
}

#[test]
fn a_lease_that_comes_by_a_reload_is_for_those_too_who_keep_their_connections() {
    let keeper = Keeper::start();
    let mut proxy = Proxy::before(Postgres::start(&PostgresOptions::default()).unwrap(), |_, _| {});
    let mut open = proxy.client();
    open.query("CREATE TABLE t (a int)").unwrap();
    open.query("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    keeper.set(&mut proxy.params);
    proxy.reload();
    let written = open.query("INSERT INTO t VALUES (2); COMMIT");
    assert!(written.is_err() || !written.as_ref().unwrap().errors.is_empty(), "{written:?}");
    assert_eq!(count(&proxy, 0), "0");
}

#[test]
fn who_is_under_way_under_a_lease_that_stays_outlives_a_reload_of_other_servers() {
    let (mut proxy, keeper) = two();
    let mut open = proxy.client();
    open.query("CREATE TABLE t (a int)").unwrap();
    open.query("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    proxy.params.replicas.clear();
    proxy.reload();
    std::thread::sleep(2 * TTL);
    assert_eq!(open.query("INSERT INTO t VALUES (2)").unwrap().tags, ["INSERT 0 1"]);
    assert_eq!(open.query("COMMIT").unwrap().tags, ["COMMIT"]);
    assert_eq!(count(&proxy, 0), "2");
    // It ends for them, too.
    open.query("BEGIN").unwrap();
    keeper.say(&proxy.postgres, 0, Some(503));
    wait_until("it has ended", || states(&proxy).iter().all(|(_, has_lease)| *has_lease != Some(true)));
    let written = open.query("INSERT INTO t VALUES (3)");
    assert!(written.is_err() || !written.as_ref().unwrap().errors.is_empty(), "{written:?}");
    assert_eq!(count(&proxy, 0), "2");
}
