//! Reads on replicas, and what they must show.

use std::time::{Duration, Instant};

use pgproxy::*;
use testkit::{PgClient, PgMessages, Postgres, PostgresOptions};

use crate::proxy::{Proxy, server};

/// Which server a read ran on.
const WHERE: &str = "SELECT current_setting('cluster_name')";

/// A proxy before a primary and replicas, which knows who is what.
pub(crate) fn cluster(options: &PostgresOptions, change: impl FnOnce(&mut DatabaseParams)) -> Proxy {
    let postgres = Postgres::start(options).unwrap();
    let replica = |number: usize| ReplicaParams { server: server(&postgres, number), weight: 1, zone: None };
    let replicas = (1..=options.replicas).map(replica).collect();
    let proxy = Proxy::before(postgres, |params, _| {
        params.replicas = replicas;
        params.failover.watch_interval = Duration::from_millis(200);
        change(params);
    });
    let mut client = proxy.client();
    wait_until("replicas are known", || value(&mut client, WHERE) != "primary");
    wait_until("all are known", || proxy.database().servers.iter().all(|server| server.state != "unknown"));
    proxy
}

pub(crate) fn two(change: impl FnOnce(&mut DatabaseParams)) -> Proxy {
    cluster(&PostgresOptions { replicas: 2, ..PostgresOptions::default() }, change)
}

pub(crate) fn value(client: &mut PgClient, text: &str) -> String {
    client.query(text).unwrap().value().to_owned()
}

/// Has the server count the letters of a text that it is sent, by a call of a function outside of SQL.
pub(crate) fn call(client: &mut PgClient, letters: usize) -> String {
    const TEXTLEN: u32 = 1257;
    let mut body = TEXTLEN.to_be_bytes().to_vec();
    // No formats, one argument, its length, and the format of the answer.
    body.extend([0, 0, 0, 1]);
    body.extend((letters as u32).to_be_bytes());
    body.resize(body.len() + letters, b'a');
    body.extend([0, 0]);
    client.send(&PgMessages::default().raw(b'F', &body).0).unwrap();
    let told = client.message().unwrap();
    assert_eq!((told.tag, client.answer().unwrap().kinds.as_str()), (b'V', "Z"), "{told:?}");
    String::from_utf8(told.body[4..].to_vec()).unwrap()
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn reads_go_to_replicas_and_all_else_to_the_primary() {
    let proxy = two(|params| params.causality.scope = None);
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    let names: std::collections::BTreeSet<_> = (0..20).map(|at| value(&mut clients[at % 4], WHERE)).collect();
    assert_eq!(names, ["replica1", "replica2"].map(str::to_owned).into());
    let client = &mut clients[0];
    // As messages, with and without a name.
    let messages = PgMessages::default().parse("", WHERE).bind("", &[]).execute().sync();
    assert!(client.ask(&messages).unwrap().value().starts_with("replica"));
    client.ask(&PgMessages::default().parse("s", WHERE).sync()).unwrap();
    let named = PgMessages::default().bind("s", &[]).execute().sync();
    assert!(client.ask(&named).unwrap().value().starts_with("replica"));
    // The strictest member decides.
    client.query("CREATE TABLE t (a int)").unwrap();
    let group = PgMessages::default().parse("", WHERE).bind("", &[]).execute();
    let group = group.parse("", "INSERT INTO t VALUES (1)").bind("", &[]).execute().sync();
    assert_eq!(client.ask(&group).unwrap().rows, [[Some("primary".to_owned())]]);
    assert_eq!(value(client, &format!("{WHERE} FOR UPDATE")), "primary");
    // Sent ahead, a write behind a read.
    let ahead = PgMessages::default().query(WHERE).query("INSERT INTO t VALUES (2)").query(WHERE);
    client.send(&ahead.0).unwrap();
    assert!(client.answer().unwrap().value().starts_with("replica"));
    assert_eq!(client.answer().unwrap().tags, ["INSERT 0 1"]);
    assert!(client.answer().unwrap().errors.is_empty());
    // Transactions stay where they began.
    client.query("BEGIN").unwrap();
    assert_eq!(value(client, WHERE), "primary");
    client.query("COMMIT").unwrap();
    (1..=2).for_each(|replica| proxy.postgres.wait_for_replay(replica).unwrap());
    client.query("BEGIN READ ONLY").unwrap();
    let name = value(client, WHERE);
    assert!(name.starts_with("replica"));
    assert_eq!(value(client, WHERE), name);
    assert_eq!(client.query("INSERT INTO t VALUES (1)").unwrap().code(), "25006");
    client.query("ROLLBACK").unwrap();
    client.query("BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE").unwrap();
    assert_eq!(value(client, WHERE), "primary");
    client.query("COMMIT").unwrap();
    // By hints, and by the session.
    assert_eq!(value(client, &format!("/* tenfold: primary */ {WHERE}")), "primary");
    assert_eq!(client.query("/* tenfold: replica */ INSERT INTO t VALUES (1)").unwrap().code(), "25006");
    client.query("SET tenfold.route = 'primary'").unwrap();
    assert_eq!(value(client, WHERE), "primary");
    client.query("RESET tenfold.route").unwrap();
    assert!(value(client, WHERE).starts_with("replica"));
    assert!(proxy.database().replica_reads > 20);
}

#[test]
fn own_writes_are_seen_though_replicas_are_behind() {
    let proxy = two(|_| ());
    let mut one = proxy.client();
    let mut two = proxy.client();
    one.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.pause_replay(1).unwrap();
    for number in 1..=20 {
        one.query("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(value(&mut one, "SELECT count(*) FROM t"), number.to_string());
        // By another connection as well.
        assert_eq!(value(&mut two, "SELECT count(*) FROM t"), number.to_string());
    }
    let before = proxy.database();
    assert!(before.probes > 0, "{before:?}");
    assert!(before.replica_reads > 0, "{before:?}");
    // Both are behind: the primary serves, after a bounded wait.
    proxy.postgres.pause_replay(2).unwrap();
    one.query("INSERT INTO t VALUES (1)").unwrap();
    let begun = Instant::now();
    assert_eq!(value(&mut one, "SELECT count(*) FROM t"), "21");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(proxy.database().causal_waits[1] > before.causal_waits[1]);
    proxy.postgres.resume_replay(1).unwrap();
    proxy.postgres.resume_replay(2).unwrap();
    wait_until("reads are on replicas again", || value(&mut one, WHERE) != "primary");
}

#[test]
fn without_causality_replicas_show_the_past() {
    let proxy = two(|params| params.causality.scope = None);
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.wait_for_replay(1).unwrap();
    proxy.postgres.wait_for_replay(2).unwrap();
    proxy.postgres.pause_replay(1).unwrap();
    proxy.postgres.pause_replay(2).unwrap();
    client.query("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
}

#[test]
fn a_token_carries_what_must_be_seen() {
    let proxy = two(|params| params.causality.scope = Some(CausalityScope::Token));
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.wait_for_replay(1).unwrap();
    proxy.postgres.wait_for_replay(2).unwrap();
    proxy.postgres.pause_replay(1).unwrap();
    proxy.postgres.pause_replay(2).unwrap();
    one.query("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(value(&mut two, "SELECT count(*) FROM t"), "0");
    let token = value(&mut one, "SHOW tenfold.position");
    assert_eq!(token.split('.').count(), 3, "{token}");
    assert_eq!(two.query(&format!("SET tenfold.position = '{token}'")).unwrap().tags, ["SET"]);
    assert_eq!(value(&mut two, "SELECT count(*) FROM t"), "1");
    // As messages.
    let show = PgMessages::default().parse("", "SHOW tenfold.position").bind("", &[]).execute().sync();
    assert_eq!(one.ask(&show).unwrap().value().split('.').count(), 3);
    assert_eq!(two.query("SET tenfold.position = 'nonsense'").unwrap().code(), "22023");
    let foreign = format!("SET tenfold.position = '1{token}'");
    assert_eq!(two.query(&foreign).unwrap().code(), "22023");
    proxy.postgres.resume_replay(1).unwrap();
    proxy.postgres.resume_replay(2).unwrap();
}

#[test]
fn what_a_replica_refuses_runs_on_the_primary() {
    let proxy = two(|_| ());
    let mut client = proxy.client();
    // It says that it is stable, and writes.
    let text = "CREATE TABLE t (a int); CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS \
                $$INSERT INTO t VALUES (1)$$; CREATE FUNCTION lies(t text) RETURNS int LANGUAGE plpgsql STABLE AS \
                $$BEGIN PERFORM writes(); RETURN 7; END$$";
    assert_eq!(client.query(text).unwrap().errors, []);
    // As long as the catalogue is not read again, the primary has it.
    wait_until("it is taken for a read", || {
        assert_eq!(client.query("SELECT lies('x'::text)").unwrap().value(), "7");
        proxy.database().refusals > 0
    });
    client.query("DELETE FROM t").unwrap();
    let before = proxy.database().refusals;
    let messages = PgMessages::default().parse("s", "SELECT lies($1::text)").describe("s").bind("s", &["x"]).execute();
    let answer = client.ask(&messages.sync()).unwrap();
    assert_eq!((answer.kinds.as_str(), answer.value()), ("1tT2DCZ", "7"));
    assert_eq!(proxy.database().refusals, before + 1);
    assert_eq!(client.ask(&PgMessages::default().bind("s", &["x"]).execute().sync()).unwrap().value(), "7");
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "2");
}

#[test]
fn replicas_that_lag_or_are_away_get_nothing() {
    let proxy = two(|params| {
        params.causality.scope = None;
        params.replica.lag_max = Some(Duration::from_millis(700));
    });
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.pause_replay(1).unwrap();
    wait_until("it lags", || {
        client.query("INSERT INTO t VALUES (1)").unwrap();
        !proxy.database().servers[1].is_usable
    });
    for _ in 0..10 {
        assert_eq!(value(&mut client, WHERE), "replica2");
    }
    proxy.postgres.pause_replay(2).unwrap();
    wait_until("both lag", || {
        client.query("INSERT INTO t VALUES (1)").unwrap();
        !proxy.database().servers[2].is_usable
    });
    assert_eq!(value(&mut client, WHERE), "primary");
    proxy.postgres.resume_replay(1).unwrap();
    proxy.postgres.resume_replay(2).unwrap();
    wait_until("they serve again", || value(&mut client, WHERE) != "primary");
}

#[test]
fn a_client_outlives_the_server_that_was_to_look_at_its_statement() {
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let proxy = cluster(&options, |params| {
        params.pool.size = 1;
        params.pid = Pid::Tenfold;
    });
    let (mut one, mut two, mut fresh) = (proxy.client(), proxy.client(), proxy.client());
    two.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let run = PgMessages::default().bind("s", &[]).execute().sync();
    // On the replica, where a group that only reads is kept to be done again; on the primary; and there in a transaction.
    for (round, text) in
        ["SELECT a FROM t", "SELECT a FROM t FOR UPDATE", "SELECT a FROM t FOR UPDATE"].iter().enumerate()
    {
        let (server, is_open) = (usize::from(round == 0), round == 2);
        let prepare = PgMessages::default().parse("s", text).describe("s").sync();
        one.ask(&PgMessages::default().close("s").sync()).unwrap();
        one.ask(&prepare).unwrap();
        assert_eq!(one.ask(&run).unwrap().value(), "1");
        two.query(&format!("CREATE TABLE other{round} (a int)")).unwrap();
        proxy.postgres.wait_for_replay(1).unwrap();
        // It is parsed anew for one that comes after the change.
        fresh.ask(&PgMessages::default().close("s").sync()).unwrap();
        fresh.ask(&prepare).unwrap();
        if is_open {
            one.query("BEGIN").unwrap();
        }
        let mut locker = PgClient::connect(proxy.postgres.port(0), "postgres", "postgres", "").unwrap();
        locker.query("BEGIN; LOCK TABLE t; SELECT pg_switch_wal()").unwrap();
        proxy.postgres.wait_for_replay(1).unwrap();
        one.send(&run.0).unwrap();
        let of = "FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
        let waits = format!("SELECT count(*) {of}");
        wait_until("it is looked at", || proxy.postgres.sql(server, &waits).unwrap() == ["1"]);
        proxy.postgres.sql(server, &format!("SELECT pg_terminate_backend(pid) {of}")).unwrap();
        locker.query("ROLLBACK; SELECT pg_switch_wal()").unwrap();
        let answer = one.answer().unwrap();
        if is_open {
            assert_eq!((answer.code(), answer.status), ("40001", 'I'));
        } else {
            assert_eq!((answer.code(), answer.value()), ("", "1"), "{text}");
        }
        // It is in step.
        assert_eq!(value(&mut one, "SELECT 'next'"), "next");
        assert_eq!(one.ask(&run).unwrap().value(), "1");
    }
    drop((one, two, fresh));
    proxy.check_accounts();
}

#[test]
fn a_long_call_of_a_function_goes_through_on_a_replica() {
    let proxy = two(|_| ());
    let mut client = proxy.client();
    client.query("SET tenfold.route = 'replica'").unwrap();
    assert_eq!(call(&mut client, 256 * 1024), "262144");
    assert!(value(&mut client, WHERE).starts_with("replica"));
}

#[test]
fn what_is_held_back_for_a_replica_does_not_hold_up_what_is_long() {
    let mut proxy = two(|params| params.causality.scope = None);
    proxy.listener.stall_timeout = Duration::from_secs(1);
    proxy.reload();
    let columns: Vec<_> = (0..1500).map(|at| format!("{at:a>60} int")).collect();
    let wide = format!("CREATE TABLE wide ({})", columns.join(", "));
    let noisy = "CREATE FUNCTION noisy(secs text) RETURNS text LANGUAGE plpgsql STABLE AS \
                 $$BEGIN RAISE NOTICE 'it begins'; PERFORM pg_sleep(secs::float); RETURN current_setting('cluster_name'); END$$";
    let mut client = proxy.client();
    assert_eq!(client.query(&format!("{wide}; {noisy}")).unwrap().errors, []);
    (1..=2).for_each(|replica| proxy.postgres.wait_for_replay(replica).unwrap());
    // Before there is any row: one answer that is longer than a buffer, or many.
    let reads = proxy.database().replica_reads;
    assert_eq!(client.query("SELECT * FROM wide").unwrap().kinds, "TCZ");
    let mut messages = PgMessages::default();
    for _ in 0..3 {
        messages = messages.parse("", "SELECT * FROM wide").describe("").bind("", &[]).raw(b'D', b"P\0");
    }
    assert_eq!(client.ask(&messages.execute().sync()).unwrap().kinds, "1tT2T1tT2T1tT2TCZ");
    assert_eq!(proxy.database().replica_reads, reads + 2);
    // The client does not have to take what it has not been given.
    wait_until("it is taken for a read", || value(&mut client, "SELECT noisy('0'::text)") != "primary");
    assert!(value(&mut client, "SELECT noisy('3'::text)").starts_with("replica"));
}
