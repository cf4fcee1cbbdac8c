//! What is said ahead of answers, and by those who are only about to come, is nobody else's either.

use testkit::{PgClient, PgMessages};

use crate::proxy::Proxy;

/// One backend for everybody: whatever leaks is seen.
fn one_backend() -> Proxy {
    Proxy::start(|params| params.pool.size = 1)
}

#[test]
fn a_login_leaves_nothing_of_its_settings_on_a_backend() {
    let proxy = one_backend();
    let mut one = proxy.client();
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "4MB");
    for size in ["5MB", "6MB"] {
        let options = format!("-c work_mem={size}");
        let parameters = [("user", "web"), ("database", "shop"), ("options", options.as_str())];
        let mut two = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
        assert_eq!(one.query("SHOW work_mem").unwrap().value(), "4MB", "as it was before the other one came");
        assert_eq!(two.query("SHOW work_mem").unwrap().value(), size);
    }
}

#[test]
fn a_login_that_is_refused_spoils_none() {
    let proxy = one_backend();
    let connect = |options: &str| {
        let parameters = [("user", "web"), ("database", "shop"), ("client_encoding", "LATIN1"), ("options", options)];
        PgClient::connect_with(proxy.port, &parameters, "")
    };
    for wrong in ["-c statement_timeout=abc", "-c no.such=1 -c nonsense=2"] {
        assert!(connect(wrong).is_err());
        let mut client = connect("").unwrap();
        assert_eq!(client.report("client_encoding"), Some("LATIN1"));
        assert_eq!(client.query("SHOW client_encoding").unwrap().value(), "LATIN1");
    }
    assert_eq!(proxy.client().query("SHOW client_encoding").unwrap().value(), "UTF8");
    proxy.check_accounts();
}

#[test]
fn what_is_sent_behind_a_discard_is_not_forgotten_with_it() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let messages = PgMessages::default().query("DISCARD ALL");
    let make = messages.parse("", "CREATE TEMPORARY TABLE own (a int)").bind("", &[]).execute().sync();
    one.send(&make.0).unwrap();
    assert_eq!(one.answer().unwrap().tags, ["DISCARD ALL"]);
    assert_eq!(one.answer().unwrap().tags, ["CREATE TABLE"]);
    // The table keeps its session's backend, so that the other one waits for it in vain, or gets a clean one.
    let seen = two.query("SELECT count(*) FROM own").unwrap();
    assert!(["42P01", "53300"].contains(&seen.code()), "{seen:?}");
    // The same name twice, with the first one forgotten in between.
    one.query("DISCARD ALL").unwrap();
    let again =
        PgMessages::default().query("PREPARE a AS SELECT 1").query("DEALLOCATE ALL").query("PREPARE a AS SELECT 2");
    one.send(&again.query("EXECUTE a").0).unwrap();
    let answers = [0; 4].map(|_| one.answer().unwrap());
    assert!(answers.iter().all(|answer| answer.errors.is_empty()), "{answers:?}");
    assert_eq!(answers[3].value(), "2");
}

#[test]
fn a_group_that_is_under_way_when_another_one_ends_has_its_effects() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let flush = |messages: PgMessages| messages.raw(b'H', &[]);
    let first = PgMessages::default().parse("", "SELECT pg_sleep(0.2)").bind("", &[]).execute().sync();
    let begun = first.parse("", "SET work_mem = '9MB'").bind("", &[]);
    one.send(&flush(begun).0).unwrap();
    // The first group's end, and what the second has been told.
    assert_eq!(one.answer().unwrap().tags, ["SELECT 1"]);
    one.send(&PgMessages::default().execute().sync().0).unwrap();
    assert_eq!(one.answer().unwrap().tags, ["SET"]);
    assert_eq!(two.query("SHOW work_mem").unwrap().value(), "4MB", "it is another session's");
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "9MB");
    proxy.check_accounts();
}
