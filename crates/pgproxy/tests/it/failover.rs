//! The primary goes, and another one comes.

use std::time::{Duration, Instant};

use pgproxy::{DatabaseParams, ReplicaParams, ServerAddress, Whom};
use testkit::{PgClient, PgMessages, Postgres, PostgresOptions, TempDir};

use crate::proxy::Proxy;
use crate::replicas::{cluster, value, wait_until};

fn synchronous() -> Proxy {
    let options = PostgresOptions { replicas: 1, synchronous: true, ..PostgresOptions::default() };
    cluster(&options, |params| params.pool.size = 8)
}

fn states(proxy: &Proxy) -> Vec<&'static str> {
    proxy.database().servers.iter().map(|server| server.state).collect()
}

#[test]
fn a_promotion_is_followed_and_the_old_primary_gets_nothing() {
    let mut proxy = synchronous();
    let (mut one, mut idle, mut open) = (proxy.client(), proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    assert_eq!(value(&mut idle, "SELECT 1"), "1");
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO t VALUES (100)").unwrap();
    proxy.postgres.kill(0);
    // Reads go on while there is no primary.
    assert_eq!(value(&mut one, "SELECT count(*) FROM t"), "0");
    // The transaction is cut by what drivers try again after, and its client stays.
    let cut = open.query("INSERT INTO t VALUES (101)").unwrap();
    assert_eq!((cut.code(), cut.status), ("40001", 'I'));
    proxy.postgres.promote(1).unwrap();
    proxy.postgres.sql(1, "ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    proxy.postgres.sql(1, "SELECT pg_reload_conf()").unwrap();
    let begun = Instant::now();
    // It waits for the new one.
    assert_eq!(one.query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(open.query("BEGIN").unwrap().status, 'T');
    open.query("INSERT INTO t VALUES (2)").unwrap();
    assert_eq!(open.query("COMMIT").unwrap().tags, ["COMMIT"]);
    assert_eq!(value(&mut idle, "SELECT sum(a) FROM t"), "3");
    assert_eq!(states(&proxy), ["unknown", "primary"]);
    // The old one comes back, and believes in itself.
    proxy.postgres.restart(0).unwrap();
    wait_until("it is seen to be old", || states(&proxy) == ["old", "primary"]);
    for _ in 0..10 {
        one.query("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(value(&mut proxy.client(), "SELECT current_setting('cluster_name')"), "replica1");
    }
    assert_eq!(proxy.postgres.sql(0, "SELECT count(*) FROM t").unwrap(), ["0"]);
    assert_eq!(proxy.postgres.sql(1, "SELECT count(*) FROM t").unwrap(), ["12"]);
    assert!(!proxy.database().is_disputed);
}

#[test]
fn without_a_primary_writes_wait_and_are_refused() {
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let mut proxy = cluster(&options, |params| params.failover.switch_wait = Duration::from_millis(800));
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.wait_for_replay(1).unwrap();
    // What has to be seen is known from this read on.
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
    proxy.postgres.kill(0);
    let begun = Instant::now();
    let refused = client.query("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!((refused.code(), refused.status), ("57P03", 'I'));
    assert!((800..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "0");
    proxy.postgres.restart(0).unwrap();
    wait_until("it is written again", || client.query("INSERT INTO t VALUES (1)").unwrap().errors.is_empty());
    assert_eq!(value(&mut client, "SELECT count(*) FROM t"), "1");
}

#[test]
fn a_primary_that_hangs_is_cut_off_by_the_next_one() {
    let mut proxy = synchronous();
    let (mut hangs, mut one) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    hangs.query("BEGIN").unwrap();
    proxy.postgres.hang(0).unwrap();
    let waits = std::thread::spawn(move || hangs.query("INSERT INTO t VALUES (100)"));
    proxy.postgres.promote(1).unwrap();
    proxy.postgres.sql(1, "ALTER SYSTEM SET synchronous_standby_names = ''").unwrap();
    proxy.postgres.sql(1, "SELECT pg_reload_conf()").unwrap();
    wait_until("it is followed", || states(&proxy)[1] == "primary");
    assert_eq!(one.query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
    // It goes on, and its timeline shows what it is: whoever waited for it is told.
    proxy.postgres.go_on(0).unwrap();
    let answer = waits.join().unwrap().unwrap();
    assert!(answer.code() == "40001" || answer.errors.is_empty(), "{answer:?}");
    wait_until("it is seen to be old", || states(&proxy) == ["old", "primary"]);
    assert_eq!(value(&mut one, "SELECT sum(a) FROM t"), "1");
}

#[test]
fn a_commit_that_is_killed_is_not_hurried() {
    let mut proxy = synchronous();
    let mut clients = [proxy.client(), proxy.client()];
    clients[0].query("CREATE TABLE t (a int)").unwrap();
    for client in &mut clients {
        client.query("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    }
    proxy.postgres.hang(1).unwrap();
    let [mut plain, mut messages] = clients;
    plain.send(&PgMessages::default().query("COMMIT").0).unwrap();
    // The server answers none of these before the last.
    messages.send(&PgMessages::default().parse("", "COMMIT").bind("", &[]).execute().sync().0).unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    proxy.postgres.wait_for(0, waiting, "2").unwrap();
    proxy.kill(&Whom::All);
    for client in [&mut plain, &mut messages] {
        assert_eq!(client.message().unwrap().field(b'C'), "08007");
    }
    // A cancel would have them seen although nobody else has them.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(proxy.postgres.sql(0, waiting).unwrap(), ["2"]);
    assert_eq!(proxy.postgres.sql(0, "SELECT count(*) FROM t").unwrap(), ["0"]);
    proxy.postgres.go_on(1).unwrap();
    proxy.postgres.wait_for(0, "SELECT count(*) FROM t", "2").unwrap();
}

#[test]
fn reads_that_were_under_way_run_again_elsewhere() {
    let options = PostgresOptions { replicas: 2, ..PostgresOptions::default() };
    let mut proxy = cluster(&options, |params| params.causality.scope = None);
    let clients: Vec<_> = (0..6).map(|_| proxy.client()).collect();
    let threads = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || client.query("SELECT count(*) FROM generate_series(1, 20000000)").unwrap())
    });
    let threads: Vec<_> = threads.collect();
    wait_until("they are under way", || proxy.database().replica_reads > 6);
    std::thread::sleep(Duration::from_millis(200));
    proxy.postgres.kill(1);
    for thread in threads {
        assert_eq!(thread.join().unwrap().value(), "20000000");
    }
    assert!(proxy.database().reruns > 0, "{:?}", proxy.database());
}

#[test]
fn the_file_is_written_when_it_can_be_and_followed_when_it_comes() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("later").join("shop.seen");
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let mut proxy = cluster(&options, |params| params.failover.switch_wait = Duration::from_millis(800));
    // A reload names a file, in a folder that is not there.
    proxy.params.failover.state = Some(file.clone());
    proxy.reload();
    std::thread::sleep(Duration::from_millis(600));
    proxy.client().query("SELECT 1").unwrap();
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let read = |file: &std::path::Path| std::fs::read_to_string(file).unwrap_or_default();
    wait_until("it is written", || read(&file).ends_with("\ntimeline 1\n"));
    // One that has more than this process has seen.
    let other = folder.path().join("shop.seen");
    std::fs::write(&other, read(&file).replace("timeline 1", "timeline 9")).unwrap();
    proxy.params.failover.state = Some(other.clone());
    proxy.reload();
    wait_until("the primary is known to be old", || states(&proxy)[0] == "old");
    assert!(read(&other).ends_with("\ntimeline 9\n"));
    // Alone, a replica says nothing of what the primary is: no file outlasts that.
    let fresh = folder.path().join("fresh.seen");
    proxy.params.failover.state = Some(fresh.clone());
    proxy.postgres.kill(0);
    proxy.restart();
    wait_until("the replica is known", || states(&proxy)[1] == "replica");
    std::thread::sleep(Duration::from_millis(600));
    assert!(!fresh.exists());
    proxy.postgres.restart(0).unwrap();
    wait_until("it is written", || read(&fresh).ends_with("\ntimeline 1\n"));
}

#[test]
fn an_old_primary_that_is_alone_after_a_restart_gets_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("shop.seen");
    let options = PostgresOptions { replicas: 1, ..PostgresOptions::default() };
    let keep = |params: &mut DatabaseParams| {
        params.failover.state = Some(file.clone());
        params.failover.switch_wait = Duration::from_millis(800);
    };
    let mut proxy = cluster(&options, keep);
    let mut client = proxy.client();
    client.query("CREATE TABLE t (a int)").unwrap();
    proxy.postgres.wait_for_replay(1).unwrap();
    proxy.postgres.kill(0);
    proxy.postgres.promote(1).unwrap();
    wait_until("the new one is written to", || client.query("INSERT INTO t VALUES (1)").unwrap().errors.is_empty());
    assert!(std::fs::read_to_string(&file).unwrap().ends_with("\ntimeline 2\n"));
    // Whoever comes next finds the old one alone.
    proxy.restart();
    proxy.postgres.kill(1);
    proxy.postgres.restart(0).unwrap();
    wait_until("it is known to be old", || states(&proxy)[0] == "old");
    let refused = PgClient::connect(proxy.port, "web", "shop", "").unwrap_err();
    assert!(format!("{refused:#}").contains("57P03"), "{refused:#}");
    assert_eq!(proxy.postgres.sql(0, "SELECT count(*) FROM t").unwrap(), ["0"]);
    // Nothing tells it from the newest one for whoever has forgotten.
    proxy.params.failover.state = None;
    proxy.restart();
    wait_until("it is believed", || states(&proxy)[0] == "primary");
    assert_eq!(proxy.client().query("INSERT INTO t VALUES (1)").unwrap().tags, ["INSERT 0 1"]);
}

/// A network before a server that breaks behind an answer with a certain word, in the middle of the next message.
fn breaking(server: std::net::SocketAddr) -> std::net::SocketAddr {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    fn pass(mut from: TcpStream, mut to: TcpStream) {
        let mut piece = [0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let mut piece = piece[..count].to_vec();
            let breaks = piece.windows(9).any(|word| word == b"breaks up") && piece.ends_with(b"Z\0\0\0\x05I");
            if breaks {
                piece.extend(b"N\0\0\0\x64SNOT");
            }
            if to.write_all(&piece).is_err() || breaks {
                break;
            }
        }
        let _ended = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(server) else { continue };
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass(client, server));
            std::thread::spawn(move || pass(forth, back));
        }
    });
    address
}

#[test]
fn what_a_lost_server_had_begun_to_say_is_no_part_of_what_the_next_one_says() {
    let postgres = Postgres::start(&PostgresOptions { replicas: 1, ..PostgresOptions::default() }).unwrap();
    let address = breaking(([127, 0, 0, 1], postgres.port(1)).into());
    let proxy = Proxy::before(postgres, |params, _| {
        let mut behind = params.primary.clone();
        behind.address = ServerAddress::Tcp { host: "127.0.0.1".into(), port: address.port() };
        params.replicas = vec![ReplicaParams { server: behind, weight: 1, zone: None }];
        params.failover.watch_interval = Duration::from_millis(200);
        params.causality.scope = None;
    });
    let mut client = proxy.client();
    let whose = "SELECT current_setting('cluster_name')";
    wait_until("the replica is known", || value(&mut client, whose) != "primary");
    for _ in 0..3 {
        // The next message has begun as well, so that the session does not rest in between.
        let mut ahead = PgMessages::default().query("SELECT 'breaks ' || 'up'").0;
        let next = PgMessages::default().query("/* tenfold: primary */ SELECT 'whole'").0;
        ahead.extend(&next[..3]);
        client.send(&ahead).unwrap();
        assert_eq!(client.answer().unwrap().value(), "breaks up");
        std::thread::sleep(Duration::from_millis(100));
        client.send(&next[3..]).unwrap();
        assert_eq!(client.answer().unwrap().value(), "whole");
        wait_until("the replica is asked again", || value(&mut client, whose) != "primary");
    }
}
