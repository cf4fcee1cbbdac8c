//! What real drivers do: they ask for answers before their group ends, send on after an error, and cancel just before they go on.

use std::time::Duration;

use testkit::PgMessages;

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
fn hear_end(client: &mut testkit::PgClient) {
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
    let mut nobody = testkit::PgClient::begin(proxy.port).unwrap();
    nobody.key = (1 << 21, vec![0; 4]);
    nobody.cancel().unwrap();
    proxy.check_accounts();
}
