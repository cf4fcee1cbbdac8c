//! What real drivers do: they ask for answers before their group ends, send on after an error, and cancel just before they go on.

use std::time::Duration;

use testkit::{PgClient, PgMessages};

use crate::proxy::Proxy;

/// One backend for everybody: whatever leaks is seen.
fn one_backend() -> Proxy {
    Proxy::start(|params| {
        params.pool.size = 1;
        params.pool.acquire_timeout = Duration::from_millis(300);
    })
}

/// A statement that runs, with its answers asked for, and no end of its group.
fn unfinished(text: &str) -> PgMessages {
    PgMessages::default().parse("", text).bind("", &[]).execute().raw(b'H', &[])
}

/// Hears answers up to the end of a statement.
fn hear_end(client: &mut PgClient) {
    while client.message().unwrap().tag != b'C' {}
}

#[test]
fn a_group_without_its_end_keeps_its_backend() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    one.send(&unfinished("INSERT INTO t VALUES (1)").0).unwrap();
    hear_end(&mut one);
    assert_eq!(two.query("SELECT 1").unwrap().code(), "53300", "nobody may commit what another one has begun");
    // The next statement of the group fails, and with it the first.
    let answer = one.ask(&PgMessages::default().parse("", "SELECT 1 / 0").bind("", &[]).execute().sync()).unwrap();
    assert_eq!(answer.code(), "22012");
    assert_eq!(two.query("SELECT count(*) FROM t").unwrap().value(), "0");
    // Its end commits it.
    one.send(&unfinished("INSERT INTO t VALUES (2)").0).unwrap();
    hear_end(&mut one);
    assert_eq!(one.ask(&PgMessages::default().sync()).unwrap().status, 'I');
    assert_eq!(two.query("SELECT count(*) FROM t").unwrap().value(), "1");
    proxy.check_accounts();
}

#[test]
fn a_group_without_its_end_is_taken_back_when_its_client_goes() {
    let proxy = one_backend();
    let mut two = proxy.client();
    two.query("CREATE TABLE t (a int)").unwrap();
    for goodbye in [false, true] {
        let mut one = proxy.client();
        one.send(&unfinished("INSERT INTO t VALUES (1)").0).unwrap();
        hear_end(&mut one);
        if goodbye {
            one.send(&PgMessages::default().raw(b'X', &[]).0).unwrap();
        }
        drop(one);
        proxy.check_accounts();
        assert_eq!(two.query("SELECT count(*) FROM t").unwrap().value(), "0");
    }
    // What it left was clean enough to stay.
    assert_eq!(proxy.backends(), 1);
}

#[test]
fn what_is_sent_after_an_error_is_passed_over_however_long_it_is() {
    let proxy = Proxy::start(|params| params.limits.pipeline_bytes_max = 64 * 1024);
    let mut client = proxy.client();
    // The answer comes while nothing more is sent, as it does to a driver that sends megabytes.
    client.send(&PgMessages::default().parse("", "SELECT 1 / 0").bind("", &[]).execute().raw(b'H', &[]).0).unwrap();
    while client.message().unwrap().tag != b'E' {}
    let long = "x".repeat(40_000);
    for _ in 0..20 {
        client.send(&PgMessages::default().bind("", &[&long]).execute().0).unwrap();
    }
    assert_eq!(client.ask(&PgMessages::default().sync()).unwrap().kinds, "Z");
    assert_eq!(client.query("SELECT 1").unwrap().value(), "1");
    proxy.check_accounts();
}

#[test]
fn a_cancel_has_come_when_its_connection_ends() {
    let proxy = one_backend();
    let mut one = proxy.client();
    one.query("BEGIN").unwrap();
    for _ in 0..20 {
        // It ends in the very moment in which it may be cancelled: either is right, but the next one must not be hit.
        one.send(&PgMessages::default().query("SAVEPOINT s; SELECT pg_sleep(0.002)").0).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        one.cancel().unwrap();
        let answer = one.answer().unwrap();
        assert!(["", "57014"].contains(&answer.code()), "{answer:?}");
        assert_eq!(one.query("ROLLBACK TO s").unwrap().code(), "");
        assert_eq!(one.query("SELECT pg_sleep(0.01)").unwrap().code(), "");
    }
    one.query("COMMIT").unwrap();
    // One that means nobody ends as well.
    let mut nobody = PgClient::begin(proxy.port).unwrap();
    nobody.key = (1 << 21, vec![0; 4]);
    nobody.cancel().unwrap();
    proxy.check_accounts();
}

/// A client in a transaction on the backend of this process number, which only it can have meanwhile; the other one of two is free.
pub(crate) fn hold(proxy: &Proxy, pid: &str) -> PgClient {
    let mut others = [proxy.client(), proxy.client()];
    for client in &mut others {
        client.query("BEGIN").unwrap();
        if client.query("SELECT pg_backend_pid()").unwrap().value() == pid {
            break;
        }
    }
    let [mut one, mut two] = others;
    if one.query("SELECT pg_backend_pid()").unwrap().value() == pid {
        return one;
    }
    one.query("ROLLBACK").unwrap();
    assert_eq!(two.query("SELECT pg_backend_pid()").unwrap().value(), pid);
    two
}

#[test]
fn who_knows_its_columns_from_before_a_change_hears_that_they_are_others() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let prepare = PgMessages::default().parse("s", "SELECT * FROM t").describe("s").sync();
    let run = PgMessages::default().bind("s", &[]).execute().sync();
    one.query("BEGIN").unwrap();
    one.ask(&prepare).unwrap();
    let pid = one.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    one.query("COMMIT").unwrap();
    let holder = hold(&proxy, &pid);
    // A change that does not concern it is none.
    two.query("CREATE TABLE other (a int)").unwrap();
    assert_eq!(one.ask(&run).unwrap().value(), "1");
    two.query("ALTER TABLE t ALTER a TYPE text").unwrap();
    drop(holder);
    // On both it has to hear of it, also from one that has never had the statement, or has a newer one.
    for _ in 0..3 {
        let holder = hold(&proxy, &pid);
        let mut fresh = proxy.client();
        assert_eq!(fresh.ask(&prepare).unwrap().kinds, "1tTZ");
        let answer = one.ask(&run).unwrap();
        let wanted = ("0A000".to_owned(), "cached plan must not change result type".to_owned());
        assert_eq!((answer.errors, answer.status), (vec![wanted], 'I'));
        // So must one within a transaction, which fails.
        one.query("BEGIN").unwrap();
        assert_eq!(one.ask(&run).unwrap().code(), "0A000");
        assert_eq!(one.query("SELECT 1").unwrap().code(), "25P02");
        one.query("ROLLBACK").unwrap();
        drop(holder);
    }
    // Another change makes stale what others have prepared on that backend since the first.
    let holder = hold(&proxy, &pid);
    two.query("ALTER TABLE t ALTER a TYPE int USING a::int").unwrap();
    assert_eq!(one.ask(&run).unwrap().value(), "1", "it gives again what it gave at first");
    two.query("ALTER TABLE t ALTER a TYPE text").unwrap();
    assert_eq!(one.ask(&run).unwrap().code(), "0A000");
    drop(holder);
    // It prepares it again, and knows.
    one.ask(&PgMessages::default().close("s").sync()).unwrap();
    assert_eq!(one.ask(&prepare).unwrap().code(), "");
    assert_eq!(one.ask(&run).unwrap().value(), "1");
    // What cannot be prepared any more is the server's own error.
    two.query("DROP TABLE t").unwrap();
    assert_eq!(one.ask(&run).unwrap().code(), "42P01");
    assert_eq!(one.query("SELECT 1").unwrap().value(), "1");
    proxy.check_accounts();
}

#[test]
fn who_asks_what_portals_give_hears_of_other_columns_too() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    // As node-postgres does it: it never asks what the statement gives, only what the portal does.
    let run = |messages: PgMessages| messages.bind("s", &[]).raw(b'D', b"P\0").execute().sync();
    let prepare = run(PgMessages::default().parse("s", "SELECT * FROM t"));
    let again = run(PgMessages::default());
    one.query("BEGIN").unwrap();
    assert_eq!(one.ask(&prepare).unwrap().kinds, "12TDCZ");
    let pid = one.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    one.query("COMMIT").unwrap();
    drop(hold(&proxy, &pid));
    // A portal of something else, which says nothing of it.
    let other = PgMessages::default().parse("", "SELECT 'x', 'y'").bind("", &[]).raw(b'D', b"P\0").execute().sync();
    assert_eq!(one.ask(&other).unwrap().kinds, "12TDCZ");
    two.query("CREATE TABLE other (a int)").unwrap();
    let holder = hold(&proxy, &pid);
    assert_eq!(one.ask(&again).unwrap().value(), "1", "a change that does not concern it is none");
    two.query("ALTER TABLE t ADD COLUMN b text DEFAULT 'b'").unwrap();
    // Another client parses the text anew there.
    let mut fresh = proxy.client();
    assert_eq!(fresh.ask(&prepare).unwrap().rows[0].len(), 2);
    for _ in 0..2 {
        let told = one.ask(&again).unwrap();
        let wanted = ("0A000".to_owned(), "cached plan must not change result type".to_owned());
        assert_eq!((told.errors, told.status), (vec![wanted], 'I'));
    }
    drop(holder);
    assert_eq!(one.ask(&again).unwrap().code(), "0A000", "nor on any other");
    one.ask(&PgMessages::default().close("s").sync()).unwrap();
    assert_eq!(one.ask(&prepare).unwrap().rows[0].len(), 2);
    assert_eq!(one.ask(&again).unwrap().rows[0].len(), 2);
    drop((one, two, fresh));
    proxy.check_accounts();
}

#[test]
fn parameters_keep_the_types_that_their_client_was_told() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    one.query("BEGIN").unwrap();
    one.ask(&PgMessages::default().parse("s", "INSERT INTO t VALUES ($1)").describe("s").sync()).unwrap();
    let pid = one.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    one.query("COMMIT").unwrap();
    let holder = hold(&proxy, &pid);
    two.query("ALTER TABLE t ALTER a TYPE text").unwrap();
    // Seven, as the bytes of an integer.
    let seven = PgMessages::default().raw(b'B', b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\0").execute().sync();
    for _ in 0..2 {
        assert_eq!(one.ask(&seven).unwrap().code(), "");
    }
    assert_eq!(two.query("SELECT string_agg(a, ',') FROM t").unwrap().value(), "7,7");
    drop(holder);
    proxy.check_accounts();
}

#[test]
fn a_client_that_looks_sees_its_own_statements_and_no_others() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let look = "SELECT string_agg(name || ': ' || statement, ', ' ORDER BY prepare_time) FROM pg_prepared_statements";
    let prepare = |name: &str, text: &str| PgMessages::default().parse(name, text).sync();
    one.ask(&prepare("first", "SELECT 1")).unwrap();
    one.ask(&prepare("second", "SELECT 2")).unwrap();
    two.ask(&prepare("first", "SELECT 3")).unwrap();
    for _ in 0..2 {
        assert_eq!(one.query(look).unwrap().value(), "first: SELECT 1, second: SELECT 2");
        assert_eq!(two.query(look).unwrap().value(), "first: SELECT 3");
    }
    // What looks may itself be prepared, and the statements can still be used.
    one.ask(&prepare("third", "SELECT count(*) FROM pg_prepared_statements")).unwrap();
    let count = PgMessages::default().bind("third", &[]).execute().sync();
    assert_eq!(one.ask(&count).unwrap().value(), "3");
    let unnamed = prepare("", "SELECT count(*) FROM pg_prepared_statements");
    let run = |name: &str| PgMessages::default().bind(name, &[]).execute().sync();
    one.query("BEGIN").unwrap();
    assert_eq!(one.ask(&unnamed).unwrap().code(), "");
    assert_eq!(one.ask(&run("")).unwrap().value(), "3");
    assert_eq!(one.ask(&run("second")).unwrap().value(), "2");
    one.ask(&PgMessages::default().close("second").sync()).unwrap();
    assert_eq!(one.ask(&count).unwrap().value(), "2");
    one.query("COMMIT").unwrap();
    one.query("DEALLOCATE ALL").unwrap();
    assert_eq!(one.query("SELECT count(*) FROM pg_prepared_statements").unwrap().value(), "0");
    assert_eq!(two.ask(&run("first")).unwrap().value(), "3");
    proxy.check_accounts();
}

#[test]
fn a_statement_without_a_name_outlives_what_is_set_for_others() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("SET work_mem = '7MB'").unwrap();
    two.ask(&PgMessages::default().parse("s", "SELECT 'two'").sync()).unwrap();
    one.ask(&PgMessages::default().parse("", "SELECT 'one'").sync()).unwrap();
    // Neither of them says anything that forgets it; what sets and resets in between does.
    let run = |name: &str| PgMessages::default().bind(name, &[]).execute().sync();
    for _ in 0..3 {
        assert_eq!(two.ask(&run("s")).unwrap().value(), "two");
        assert_eq!(one.ask(&run("")).unwrap().value(), "one");
    }
    proxy.check_accounts();
}
