//! Backends that are clients' own: their process numbers, and who is served by which.

use std::time::{Duration, Instant};

use pgproxy::*;
use testkit::{PgClient, PgMessages, PostgresOptions};

use crate::proxy::Proxy;

/// Larger than the number of any process of Linux.
const INVENTED: i32 = 4_194_304;

fn number(client: &mut PgClient, text: &str) -> i32 {
    client.query(text).unwrap().value().parse().unwrap()
}

const PID: &str = "SELECT pg_backend_pid()";

#[test]
fn clients_are_told_the_numbers_of_the_processes_that_serve_them() {
    for mode in [Mode::Transaction, Mode::Session] {
        let proxy = Proxy::start(|params| {
            params.mode = mode;
            params.pool.size = 6;
            // Whoever reads it has a connection for a moment.
            params.catalogue.read = false;
        });
        let mut clients: Vec<_> = (0..6).map(|_| proxy.client()).collect();
        for round in 0..20 {
            for client in &mut clients {
                let told = client.key.0;
                assert!((1..INVENTED).contains(&told), "{told}");
                assert_eq!(number(client, PID), told, "round {round} in {mode:?}");
            }
            // Longer than a core keeps what nobody asks for.
            if round % 7 == 3 {
                std::thread::sleep(Duration::from_millis(350));
            }
        }
        let mut pids: Vec<_> = clients.iter().map(|client| client.key.0).collect();
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), 6);
        // One more has none of its own, and is served all the same.
        if mode == Mode::Transaction {
            let mut late = proxy.client();
            assert!(late.key.0 > INVENTED, "{}", late.key.0);
            assert!(pids.contains(&number(&mut late, PID)));
        }
        // What one leaves is the next one's.
        let left = clients.pop().unwrap().key.0;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut next = proxy.client();
            if next.key.0 == left {
                assert_eq!(number(&mut next, PID), left);
                break;
            }
            assert!(Instant::now() < deadline, "{} is not {left}", next.key.0);
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(clients);
        proxy.check_accounts();
    }
}

#[test]
fn a_lock_is_seen_to_block_whom_it_blocks() {
    let proxy = Proxy::start(|params| params.pool.size = 4);
    let (mut one, mut two, mut watcher) = (proxy.client(), proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    one.query("BEGIN; LOCK TABLE t").unwrap();
    two.send(&PgMessages::default().query("SELECT * FROM t").0).unwrap();
    let blocked = format!("SELECT pg_isolation_test_session_is_blocked({}, '{{{}}}')", two.key.0, one.key.0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while watcher.query(&blocked).unwrap().value() != "t" {
        assert!(Instant::now() < deadline, "it is not seen");
        std::thread::sleep(Duration::from_millis(10));
    }
    one.query("COMMIT").unwrap();
    assert_eq!(two.answer().unwrap().code(), "");
    assert_eq!(watcher.query(&blocked).unwrap().value(), "f");
}

#[test]
fn a_cancel_reaches_whoever_has_the_number_and_the_secret() {
    for pid in [Pid::Server, Pid::Tenfold] {
        let proxy = Proxy::start(|params| {
            params.pool.size = 2;
            params.pid = pid;
        });
        let (mut one, mut two) = (proxy.client(), proxy.client());
        assert_eq!(one.key.0 > INVENTED, pid == Pid::Tenfold, "{}", one.key.0);
        for client in [&mut one, &mut two] {
            client.send(&PgMessages::default().query("SELECT pg_sleep(30)").0).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        // Another one's number with this one's secret is nobody.
        let (right, wrong) = (one.key.clone(), (two.key.0, one.key.1.clone()));
        one.key = wrong;
        one.cancel().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        one.key = right;
        let begun = Instant::now();
        one.cancel().unwrap();
        assert_eq!(one.answer().unwrap().code(), "57014");
        assert!(begun.elapsed() < Duration::from_secs(10));
        two.cancel().unwrap();
        assert_eq!(two.answer().unwrap().code(), "57014");
        proxy.check_accounts();
    }
}

#[test]
fn who_has_none_to_own_is_told_nothing_of_a_process_and_opens_nothing() {
    let proxy = Proxy::start(|params| params.pid = Pid::Tenfold);
    let mut first = proxy.client();
    first.query("SELECT 1").unwrap();
    let before = proxy.backends();
    let clients: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    assert!(clients.iter().all(|client| client.key.0 > INVENTED));
    assert_eq!(proxy.backends(), before);
}

#[test]
fn a_backend_that_is_away_is_missed_by_nobody() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two, mut late) = (proxy.client(), proxy.client(), proxy.client());
    one.query("SET work_mem = '7MB'").unwrap();
    // Both are taken by others than their owners.
    two.query("BEGIN").unwrap();
    late.query("BEGIN").unwrap();
    one.send(&PgMessages::default().query("SHOW work_mem").0).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    two.query("COMMIT").unwrap();
    assert_eq!(one.answer().unwrap().value(), "7MB");
    late.query("COMMIT").unwrap();
    // Once the other has gone, each has its own again.
    drop(late);
    let deadline = Instant::now() + Duration::from_secs(10);
    while number(&mut one, PID) != one.key.0 || number(&mut two, PID) != two.key.0 {
        // What another core keeps comes back when nobody there asks for it.
        assert!(Instant::now() < deadline, "they never have");
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..5 {
        assert_eq!(number(&mut one, PID), one.key.0);
        assert_eq!(number(&mut two, PID), two.key.0);
    }
    // A process that was ended is nobody's number any more; what is served in its stead is the session's as before.
    let told = one.key.0;
    let text = format!("SELECT pg_terminate_backend({told})");
    assert_eq!(two.query(&text).unwrap().value(), "t");
    std::thread::sleep(Duration::from_millis(100));
    assert_ne!(number(&mut one, PID), told);
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "7MB");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn a_database_can_be_dropped_while_connections_to_it_are_idle() {
    let proxy = every_database();
    let client = |database: &str| PgClient::connect(proxy.port, "postgres", database, "").unwrap();
    let mut admin = client("postgres");
    for name in ["one", "two"] {
        assert_eq!(admin.query(&format!("CREATE DATABASE {name}")).unwrap().code(), "");
        let mut inside: Vec<_> = (0..3).map(|_| client(name)).collect();
        for client in &mut inside {
            client.query("SELECT 1").unwrap();
        }
        // Who is logged in is in the way, as without a proxy.
        if name == "two" {
            assert_eq!(admin.query(&format!("ALTER DATABASE {name} RENAME TO three")).unwrap().code(), "55006");
        }
        drop(inside);
        let begun = Instant::now();
        assert_eq!(admin.query(&format!("CREATE DATABASE {name}_copy TEMPLATE {name}")).unwrap().code(), "");
        assert_eq!(admin.query(&format!("DROP DATABASE {name}")).unwrap().code(), "");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        let gone = PgClient::connect(proxy.port, "postgres", name, "").unwrap_err().to_string();
        assert!(gone.starts_with("3D000"), "{gone}");
    }
}

/// Any database of the server, for its superuser.
fn every_database() -> Proxy {
    Proxy::start_with(&PostgresOptions::default(), |params, _| {
        params.name = DatabaseName::Any;
        (params.primary.dbname, params.primary.user) = (None, None);
    })
}

#[test]
fn what_a_database_or_a_role_begins_with_is_seen_by_whoever_comes() {
    let proxy = every_database();
    let client = |user: &str| PgClient::connect(proxy.port, user, "postgres", "").unwrap();
    let mut admin = client("postgres");
    let value = |client: &mut PgClient| client.query("SHOW work_mem").unwrap().value().to_owned();
    admin.query("CREATE ROLE web LOGIN; CREATE ROLE other LOGIN").unwrap();
    let mut early = client("web");
    assert_eq!(value(&mut early), "4MB");
    drop(client("web"));
    admin.query("ALTER ROLE web SET work_mem = '7MB'").unwrap();
    assert_eq!((value(&mut early), value(&mut client("web"))), ("4MB".into(), "7MB".into()));
    admin.query("BEGIN").unwrap();
    admin.query("ALTER DATABASE postgres SET work_mem = '9MB'").unwrap();
    drop(client("other"));
    admin.query("COMMIT").unwrap();
    assert_eq!((value(&mut early), value(&mut client("other"))), ("4MB".into(), "9MB".into()));
    admin.query("DROP ROLE other; CREATE ROLE other LOGIN SUPERUSER").unwrap();
    let mut again = client("other");
    assert_eq!(again.report("is_superuser"), Some("on"));
    assert_eq!(again.query("SHOW is_superuser").unwrap().value(), "on");
    admin.query("ALTER ROLE other NOLOGIN").unwrap();
    let refused = PgClient::connect(proxy.port, "other", "postgres", "").unwrap_err().to_string();
    assert!(refused.starts_with("28000"), "{refused}");
}

#[test]
fn whoever_comes_gets_no_connection_from_before_when_all_are_somebodys() {
    let proxy = Proxy::start_with(&PostgresOptions::default(), |params, _| {
        params.name = DatabaseName::Any;
        (params.primary.dbname, params.primary.user) = (None, None);
        params.pool.size = 1;
    });
    let client = |user: &str| PgClient::connect(proxy.port, user, "postgres", "").unwrap();
    let value = |client: &mut PgClient| client.query("SHOW work_mem").unwrap().value().to_owned();
    let mut admin = client("postgres");
    admin.query("CREATE ROLE web LOGIN").unwrap();
    let mut early = client("web");
    assert_eq!(value(&mut early), "4MB");
    admin.query("ALTER ROLE web SET work_mem = '7MB'").unwrap();
    let mut late = client("web");
    assert_eq!(value(&mut late), "7MB");
    assert_eq!(value(&mut late), "7MB");
}

#[test]
fn what_a_session_began_with_is_there_after_a_reset_within_a_transaction() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let parameters = [("user", "web"), ("database", "shop"), ("options", "-c work_mem=9MB --timezone=Asia/Tokyo")];
    let mut one = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
    let value = |client: &mut PgClient, text: &str| client.query(text).unwrap().value().to_owned();
    for end in ["COMMIT", "ROLLBACK"] {
        one.query("BEGIN").unwrap();
        one.query("SET timezone = 'UTC'; SET work_mem = '1MB'").unwrap();
        one.query("RESET ALL").unwrap();
        assert_eq!(value(&mut one, "SHOW work_mem"), "9MB");
        assert_eq!(value(&mut one, "SHOW timezone"), "Asia/Tokyo");
        one.query(end).unwrap();
        assert_eq!(value(&mut one, "SHOW work_mem"), "9MB");
        assert_eq!(one.report("TimeZone"), Some("Asia/Tokyo"));
        // And outside of one, the client is told so as well.
        one.query("RESET timezone").unwrap();
        assert_eq!(value(&mut one, "SHOW timezone"), "Asia/Tokyo");
        assert_eq!(one.report("TimeZone"), Some("Asia/Tokyo"));
    }
}

#[test]
fn a_session_that_changed_the_schema_leaves_its_connection_to_nobody() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let mut one = proxy.client();
    one.query("CREATE TABLE t (a int)").unwrap();
    one.query("SET my.setting = 'x'").unwrap();
    let pid = one.key.0;
    drop(one);
    let deadline = Instant::now() + Duration::from_secs(10);
    let text = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    while proxy.postgres.sql(0, &text).unwrap() != ["0"] {
        assert!(Instant::now() < deadline, "it is there still");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut two = proxy.client();
    assert_eq!(two.query("SHOW my.setting").unwrap().code(), "42704");
    drop(two);
    proxy.check_accounts();
}
