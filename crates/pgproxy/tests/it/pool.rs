//! Pools: who gets what, and that every backend is accounted for.

use std::time::{Duration, Instant};

use pgproxy::ServerAddress;
use testkit::{PgClient, PgMessages, Postgres, PostgresOptions, Relay, Way};

use crate::proxy::Proxy;

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn backends_move_to_whoever_waits() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for number in 0..200 {
                    let text = format!("SELECT {number}");
                    assert_eq!(client.query(&text).unwrap().value(), number.to_string());
                }
            });
        }
    });
    proxy.check_accounts();
    let (view, database) = (proxy.view(), proxy.database());
    assert_eq!(proxy.backends(), 2, "{view:?}");
    assert!(database.moves > 0 && database.waits[0] > 0 && database.waits[1] == 0, "{database:?}");
}

#[test]
fn a_core_that_keeps_everything_gives_it_up() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.pool.acquire_timeout = Duration::from_secs(2);
    });
    // Clients go to the cores in turns, so two of them are on different ones.
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    for round in 0..50 {
        for client in &mut clients {
            assert_eq!(client.query("SELECT 'mine'").unwrap().value(), "mine", "round {round}");
        }
    }
    proxy.check_accounts();
}

#[test]
fn who_has_not_sent_a_whole_message_has_no_backend() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.pool.acquire_timeout = Duration::from_secs(5);
    });
    let (mut slow, mut other) = (proxy.client(), proxy.client());
    let whole = PgMessages::default().query("SELECT 'slow'").0;
    for at in 1..whole.len() {
        slow.send(&whole[..at]).unwrap();
        // What was sent is read before this one has its answer, or a little later.
        assert_eq!(other.query("SELECT 'other'").unwrap().value(), "other");
        assert_eq!(other.query("SELECT 'other'").unwrap().value(), "other");
        slow.send(&whole[at..]).unwrap();
        assert_eq!(slow.answer().unwrap().value(), "slow");
    }
    proxy.check_accounts();
}

#[test]
fn idle_backends_go_down_to_the_minimum() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 4;
        params.pool.min = 2;
        params.pool.idle_timeout = Some(Duration::from_millis(300));
    });
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.query("BEGIN").unwrap().status, 'T'));
    assert_eq!(proxy.view()[0].lent, 4);
    clients.iter_mut().for_each(|client| assert_eq!(client.query("END").unwrap().status, 'I'));
    wait_for("two are kept", || proxy.backends() == 2);
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(proxy.backends(), 2);
    proxy.check_accounts();
}

#[test]
fn backends_that_were_ended_are_made_anew() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 3;
        params.pool.ping_after = Some(Duration::from_millis(50));
    });
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for _ in 0..5 {
        clients.iter_mut().for_each(|client| assert_eq!(client.query("BEGIN; SELECT 1").unwrap().status, 'T'));
        clients.iter_mut().for_each(|client| assert_eq!(client.query("END").unwrap().status, 'I'));
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        proxy.postgres.sql(0, end).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        for client in &mut clients {
            assert_eq!(client.query("SELECT 'still'").unwrap().value(), "still");
        }
    }
    // One that is ended at its work takes its client with it, in the server's own words.
    clients[0].query("BEGIN").unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    proxy.postgres.sql(0, end).unwrap();
    assert_eq!(clients[0].message().unwrap().field(b'C'), "57P01");
    assert!(clients[0].message().is_err());
    assert_eq!(clients[1].query("SELECT 1").unwrap().value(), "1");
    proxy.check_accounts();
}

#[test]
fn what_a_server_ends_while_nobody_has_it_is_counted_no_more() {
    let proxy = Proxy::start(|params| (params.pool.size, params.pool.min) = (4, 1));
    let mut clients: Vec<_> = (0..4).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.query("BEGIN; SELECT 1").unwrap().status, 'T'));
    clients.iter_mut().for_each(|client| assert_eq!(client.query("END").unwrap().status, 'I'));
    assert_eq!(proxy.backends(), 4);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    proxy.postgres.sql(0, end).unwrap();
    // The one that is kept though nobody wants it is opened anew.
    wait_for("all are noticed", || proxy.backends() == 1);
    proxy.check_accounts();
    for client in &mut clients {
        assert_eq!(client.query("SELECT 'still'").unwrap().value(), "still");
    }
}

/// What takes a server some time, and calls nothing that nobody sees into.
const SOME_TIME: &str = "SELECT 1 FROM pg_class a, pg_attribute b WHERE a.relnatts * b.attnum = 1000003";

/// A client of one backend, which is ended as soon as it has answered: the answer, which begins with a notice, and its last words come at once.
fn ended_behind(answer_to: &str) -> ((Proxy, Relay), PgClient, String) {
    let postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let relay = Relay::start(([127, 0, 0, 1], postgres.port(0)).into()).unwrap();
    let proxy = Proxy::before(postgres, |params, _| {
        params.pool.size = 1;
        params.catalogue.read = false;
        params.primary.address = ServerAddress::Tcp { host: "127.0.0.1".into(), port: relay.address().port() };
    });
    let mut client = proxy.client();
    assert_eq!(client.query("SELECT 0").unwrap().kinds, "TDCZ");
    // The notice is kept back, and what comes meanwhile comes at once behind it.
    relay.stall(Way::ToClient, Duration::from_secs(2));
    client.send(&PgMessages::default().query(&format!("{answer_to}; {SOME_TIME}")).0).unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND state = 'idle'";
    std::thread::sleep(Duration::from_millis(50));
    wait_for("the statement has ended", || proxy.postgres.sql(0, end).unwrap() == ["t"]);
    let answer = client.answer().unwrap().kinds;
    ((proxy, relay), client, answer)
}

#[test]
fn a_backend_that_is_ended_as_it_goes_back_says_nothing_to_its_last_client() {
    let ((proxy, _relay), mut client, answer) = ended_behind("COMMIT");
    assert_eq!(answer, "NCTCZ");
    let begun = client.query("BEGIN").unwrap();
    assert_eq!((begun.kinds.as_str(), begun.status), ("CZ", 'T'));
    assert_eq!(client.query("COMMIT").unwrap().kinds, "CZ");
    proxy.check_accounts();
}

#[test]
fn a_backend_that_is_ended_with_what_nobody_has_seen_takes_its_client_with_it() {
    // What it sets is asked for when it has run, and can be asked for no more.
    let hidden = "DO $$BEGIN RAISE NOTICE 'it sets something'; SET search_path = 'hidden'; END$$";
    let ((proxy, _relay), mut client, answer) = ended_behind(hidden);
    assert_eq!(answer, "NCTCZ");
    assert_eq!(client.message().unwrap().field(b'C'), "57P01");
    let end = client.message().unwrap_err();
    let kind = end.downcast_ref().map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::UnexpectedEof), "{end}");
    proxy.check_accounts();
}

#[test]
fn pause_holds_statements_and_resume_lets_them_go() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 2;
        // Nobody else waits.
        params.catalogue.read = false;
    });
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(one.query("BEGIN").unwrap().status, 'T');
    proxy.databases().pause(Some("shop")).unwrap();
    // What is open goes on.
    assert_eq!(one.query("SELECT 1").unwrap().value(), "1");
    assert_eq!(one.query("END").unwrap().status, 'I');
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let begun = Instant::now();
            assert_eq!(two.query("SELECT 2").unwrap().value(), "2");
            begun.elapsed()
        });
        wait_for("one waits", || proxy.view()[0].waiting == 1);
        std::thread::sleep(Duration::from_millis(200));
        proxy.databases().resume(Some("shop")).unwrap();
        assert!(waits.join().unwrap() >= Duration::from_millis(150));
    });
    let pid = one.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    proxy.databases().reconnect(None).unwrap();
    assert_ne!(one.query("SELECT pg_backend_pid()").unwrap().value(), pid);
    proxy.check_accounts();
}

#[test]
fn lifetimes_end_between_statements() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.pool.lifetime = Some(Duration::from_millis(300));
    });
    let mut client = proxy.client();
    let mut pids = std::collections::BTreeSet::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        pids.insert(client.query("SELECT pg_backend_pid()").unwrap().value().to_owned());
    }
    assert!((3..=6).contains(&pids.len()), "{pids:?}");
    proxy.check_accounts();
}

#[test]
fn a_client_that_leaves_the_queue_is_not_waited_for() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 1;
        // Nobody else waits.
        params.catalogue.read = false;
    });
    let mut one = proxy.client();
    one.query("BEGIN").unwrap();
    let mut gone: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut gone {
        client.send(&testkit::PgMessages::default().query("SELECT 1").0).unwrap();
    }
    wait_for("all wait", || proxy.view()[0].waiting == 5);
    drop(gone);
    wait_for("nobody waits", || proxy.view()[0].waiting == 0);
    one.query("END").unwrap();
    proxy.check_accounts();
    assert_eq!(proxy.backends(), 1);
}

#[test]
fn a_server_that_hangs_times_out_whoever_waits() {
    let mut proxy = Proxy::start(|params| {
        params.pool.size = 1;
        params.pool.acquire_timeout = Duration::from_millis(500);
        params.timeouts.connect = Duration::from_millis(200);
        params.timeouts.clean = Duration::from_millis(300);
        // Who reads it would be cut by the same, and another connection tried.
        params.catalogue.read = false;
    });
    let (mut one, mut two) = (proxy.client(), proxy.client());
    proxy.postgres.hang(0).unwrap();
    one.send(&testkit::PgMessages::default().query("SELECT 1").0).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(two.query("SELECT 2").unwrap().code(), "53300");
    drop(one);
    proxy.postgres.go_on(0).unwrap();
    wait_for("it serves again", || two_works(&proxy));
    proxy.check_accounts();
}

fn two_works(proxy: &Proxy) -> bool {
    proxy.client().query("SELECT 3").is_ok_and(|answer| answer.code().is_empty())
}

#[test]
fn a_reload_changes_what_is_served_and_cuts_nobody() {
    let mut proxy = Proxy::start(|params| params.pool.size = 4);
    let mut client = proxy.client();
    assert_eq!(client.query("BEGIN").unwrap().status, 'T');
    proxy.params.pool.size = 1;
    proxy.params.mode = pgproxy::Mode::Session;
    proxy.params.primary.settings = vec![("work_mem".into(), "6MB".into())];
    proxy.reload();
    // What is open goes on; what comes is served in the new way.
    assert_eq!(client.query("SHOW work_mem").unwrap().value(), "4MB");
    assert_eq!(client.query("END").unwrap().status, 'I');
    assert_eq!(client.query("SHOW work_mem").unwrap().value(), "6MB");
    let mut new = proxy.client();
    assert_eq!(new.query("SHOW work_mem").unwrap().value(), "6MB");
    assert_eq!(new.query("PREPARE mine AS SELECT 1; SELECT 2").unwrap().code(), "");
    drop((client, new));
    proxy.check_accounts();
    assert_eq!(proxy.backends(), 1);
}

#[test]
fn a_stop_waits_for_transactions_and_for_nothing_else() {
    let mut proxy = Proxy::start(|params| params.pool.size = 4);
    let (mut idle, mut busy, mut late) = (proxy.client(), proxy.client(), proxy.client());
    for client in [&mut busy, &mut late] {
        assert_eq!(client.query("BEGIN").unwrap().status, 'T');
    }
    let cut = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| proxy.stop(Duration::from_secs(2)));
        assert_eq!(idle.message().unwrap().field(b'C'), "57P01");
        assert_eq!(busy.query("SELECT 'still'").unwrap().value(), "still");
        assert_eq!(busy.query("COMMIT").unwrap().status, 'I');
        assert_eq!(busy.message().unwrap().field(b'C'), "57P01");
        stopped.join().unwrap()
    });
    assert_eq!(cut, 1);
    let there = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    wait_for("all backends are closed", || proxy.postgres.sql(0, there).unwrap() == ["1"]);
}

#[test]
fn a_database_that_goes_ends_its_clients_between_transactions() {
    let mut proxy = Proxy::start(|params| params.pool.size = 4);
    let (mut idle, mut busy) = (proxy.client(), proxy.client());
    assert_eq!(busy.query("BEGIN").unwrap().status, 'T');
    proxy.params.name = pgproxy::DatabaseName::Named("other".into());
    proxy.reload();
    assert_eq!(idle.message().unwrap().field(b'C'), "57P01");
    assert_eq!(busy.query("SELECT 'still'").unwrap().value(), "still");
    assert_eq!(busy.query("COMMIT").unwrap().status, 'I');
    assert_eq!(busy.message().unwrap().field(b'C'), "57P01");
    assert!(testkit::PgClient::connect(proxy.port, "web", "shop", "").is_err());
    let mut other = testkit::PgClient::connect(proxy.port, "web", "other", "").unwrap();
    assert_eq!(other.query("SELECT 1").unwrap().value(), "1");
    drop((idle, busy, other));
    proxy.check_accounts();
}

#[test]
fn a_statement_that_waits_for_a_backend_is_cancelled() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("BEGIN").unwrap();
    two.send(&testkit::PgMessages::default().query("SELECT 2").0).unwrap();
    wait_for("one waits", || proxy.view()[0].waiting == 1);
    two.cancel().unwrap();
    assert_eq!(two.answer().unwrap().code(), "57014");
    one.query("END").unwrap();
    assert_eq!(two.query("SELECT 2").unwrap().value(), "2");
    proxy.check_accounts();
}
