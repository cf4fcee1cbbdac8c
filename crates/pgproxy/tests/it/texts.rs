//! Statements that are prepared by texts, in transaction mode.

use testkit::{PgAnswer, PgClient, PgMessages};

use crate::drivers::hold;
use crate::proxy::Proxy;

/// Two backends, of which a client has now this one and now that one.
fn two_backends() -> Proxy {
    Proxy::start(|params| params.pool.size = 2)
}

fn value(client: &mut PgClient, text: &str) -> String {
    client.query(text).unwrap().value().to_owned()
}

/// Runs a text by a message of its own for each step.
fn extended(client: &mut PgClient, text: &str) -> PgAnswer {
    client.ask(&PgMessages::default().parse("", text).bind("", &[]).execute().sync()).unwrap()
}

#[test]
fn prepare_follows_its_client_to_any_backend() {
    let proxy = two_backends();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(one.query("PREPARE q (int) AS SELECT 'one' || $1").unwrap().tags, ["PREPARE"]);
    assert_eq!(two.query("PREPARE q (int) AS SELECT 'two' || $1").unwrap().tags, ["PREPARE"]);
    for number in 0..4 {
        assert_eq!(value(&mut one, &format!("EXECUTE q({number})")), format!("one{number}"));
        assert_eq!(value(&mut two, &format!("EXECUTE q({number})")), format!("two{number}"));
        // The other one has this one's backend.
        two.query("BEGIN").unwrap();
        assert_eq!(value(&mut one, "EXECUTE q(9)"), "one9");
        assert_eq!(extended(&mut one, "EXECUTE q(8)").value(), "one8");
        assert_eq!(value(&mut two, "EXECUTE q(9)"), "two9");
        two.query("COMMIT").unwrap();
        // By messages, too.
        let bound = one.ask(&PgMessages::default().bind("q", &["7"]).execute().sync()).unwrap();
        assert_eq!(bound.value(), "one7");
    }
    // One of a message, by texts.
    assert_eq!(one.ask(&PgMessages::default().parse("m", "SELECT 'message'").sync()).unwrap().kinds, "1Z");
    for _ in 0..2 {
        assert_eq!(extended(&mut one, "EXECUTE m").value(), "message");
        two.query("BEGIN").unwrap();
        assert_eq!(value(&mut one, "EXECUTE m"), "message");
        assert_eq!(two.query("EXECUTE m").unwrap().errors[0].1, "prepared statement \"m\" does not exist");
        two.query("ROLLBACK").unwrap();
    }
    assert_eq!(one.query("DEALLOCATE m").unwrap().tags, ["DEALLOCATE"]);
    assert_eq!(one.ask(&PgMessages::default().bind("m", &[]).execute().sync()).unwrap().code(), "26000");
    assert!(one.query("EXPLAIN EXECUTE q(1)").unwrap().rows.len() == 1);
    assert_eq!(two.query("CREATE TABLE t AS EXECUTE q(1)").unwrap().tags, ["SELECT 1"]);
    assert_eq!(value(&mut one, "SELECT * FROM t"), "two1");
    let mut three = proxy.client();
    assert_eq!(three.query("EXECUTE q(1)").unwrap().code(), "26000");
    assert_eq!(proxy.database().pinned, 0);
    drop((one, two, three));
    proxy.check_accounts();
}

#[test]
fn prepare_says_what_a_server_says() {
    let proxy = two_backends();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("PREPARE q AS SELECT 1").unwrap();
    let again = one.query("PREPARE q AS SELECT 2").unwrap();
    assert_eq!(again.errors, [("42P05".to_owned(), "prepared statement \"q\" already exists".to_owned())]);
    let parsed = one.ask(&PgMessages::default().parse("q", "SELECT 3").sync()).unwrap();
    assert_eq!(parsed.errors, again.errors);
    assert_eq!(value(&mut one, "EXECUTE q"), "1");
    // What fails prepares nothing.
    assert_eq!(one.query("PREPARE r AS SELECT nothing").unwrap().code(), "42703");
    assert_eq!(one.query("EXECUTE r").unwrap().errors[0].1, "prepared statement \"r\" does not exist");
    assert_eq!(one.query("PREPARE r AS SELECT 4").unwrap().code(), "");
    // What was prepared in a transaction that is taken back stays.
    one.query("BEGIN").unwrap();
    one.query("PREPARE s AS SELECT 5").unwrap();
    one.query("ROLLBACK").unwrap();
    two.query("BEGIN").unwrap();
    assert_eq!(value(&mut one, "EXECUTE s"), "5");
    two.query("COMMIT").unwrap();
    let list = "SELECT name || ':' || statement || ':' || from_sql FROM pg_prepared_statements ORDER BY 1";
    two.query("PREPARE other AS SELECT 'other'").unwrap();
    let named = |answer: PgAnswer| answer.rows.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>();
    let all = ["q:PREPARE q AS SELECT 1:true", "r:PREPARE r AS SELECT 4:true", "s:PREPARE s AS SELECT 5:true"];
    assert_eq!(named(one.query(list).unwrap()), all);
    assert_eq!(named(two.query(list).unwrap()), ["other:PREPARE other AS SELECT 'other':true"]);
    assert_eq!(one.query("DEALLOCATE q").unwrap().tags, ["DEALLOCATE"]);
    assert_eq!(one.query("DEALLOCATE q").unwrap().code(), "26000");
    assert_eq!(one.query("EXECUTE q").unwrap().code(), "26000");
    assert_eq!(one.ask(&PgMessages::default().close("r").sync()).unwrap().kinds, "3Z");
    assert_eq!(one.query("EXECUTE r").unwrap().code(), "26000");
    one.query("DEALLOCATE ALL").unwrap();
    assert_eq!(one.query("EXECUTE s").unwrap().code(), "26000");
    assert_eq!(value(&mut two, "EXECUTE other"), "other");
    assert_eq!(one.query("PREPARE tf_1 AS SELECT 1").unwrap().code(), "42939");
    assert_eq!(proxy.database().pinned, 0);
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn why_a_statement_is_not_there_any_more_is_told() {
    let proxy = two_backends();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    one.query("PREPARE q AS SELECT * FROM t").unwrap();
    one.query("PREPARE r AS SELECT * FROM t").unwrap();
    two.query("DROP TABLE t").unwrap();
    // On either backend, in a transaction and without, and by messages.
    for _ in 0..2 {
        let told = one.query("EXECUTE q").unwrap();
        assert_eq!(told.errors, [("42P01".to_owned(), "relation \"t\" does not exist".to_owned())]);
        assert_eq!(told.status, 'I');
        assert_eq!(extended(&mut one, "EXECUTE q").code(), "42P01");
        one.query("BEGIN").unwrap();
        let told = one.query("EXECUTE q").unwrap();
        assert_eq!((told.code(), told.status, told.kinds.as_str()), ("42P01", 'E', "EZ"));
        one.query("ROLLBACK").unwrap();
        two.query("BEGIN").unwrap();
        assert_eq!(one.query("EXECUTE q").unwrap().code(), "42P01");
        two.query("COMMIT").unwrap();
    }
    // Where the backend never had it, what is prepared for it fails the transaction.
    let pid = value(&mut one, "SELECT pg_backend_pid()");
    let holder = hold(&proxy, &pid);
    one.query("BEGIN").unwrap();
    assert_eq!(one.query("EXECUTE r").unwrap().code(), "42P01");
    assert_eq!(one.query("EXECUTE r").unwrap().code(), "25P02");
    one.query("ROLLBACK").unwrap();
    drop(holder);
    // What cannot be run can be forgotten.
    two.query("BEGIN").unwrap();
    assert_eq!(one.query("DEALLOCATE q").unwrap().tags, ["DEALLOCATE"]);
    two.query("COMMIT").unwrap();
    assert_eq!(one.query("DEALLOCATE r").unwrap().tags, ["DEALLOCATE"]);
    assert_eq!(one.query("EXECUTE r").unwrap().code(), "26000");
    two.query("CREATE TABLE t (a int, b int)").unwrap();
    one.query("PREPARE q AS SELECT * FROM t").unwrap();
    assert_eq!(one.query("EXECUTE q").unwrap().code(), "");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_is_prepared_again_under_other_settings_is_nobody_elses() {
    let proxy = two_backends();
    let (mut one, mut two, mut other) = (proxy.client(), proxy.client(), proxy.client());
    let text = "SELECT '2026-01-01'::timestamptz AT TIME ZONE 'UTC'";
    let run = |client: &mut PgClient| client.ask(&PgMessages::default().bind("m", &[]).execute().sync()).unwrap();
    for client in [&mut one, &mut two] {
        client.query("SET timezone TO 'America/New_York'").unwrap();
        client.query(&format!("PREPARE q AS {text}")).unwrap();
        client.ask(&PgMessages::default().parse("m", text).sync()).unwrap();
        assert_eq!(value(client, "EXECUTE q"), "2026-01-01 05:00:00");
    }
    one.query("SET timezone TO 'UTC'").unwrap();
    // On either backend, before the one whose settings are what they were.
    for _ in 0..2 {
        other.query("BEGIN").unwrap();
        one.query("EXECUTE q").unwrap();
        run(&mut one);
        assert_eq!(value(&mut two, "EXECUTE q"), "2026-01-01 05:00:00");
        assert_eq!(run(&mut two).value(), "2026-01-01 05:00:00");
        two.query("BEGIN").unwrap();
        other.query("COMMIT").unwrap();
        one.query("EXECUTE q").unwrap();
        run(&mut one);
        two.query("COMMIT").unwrap();
    }
    drop((one, two, other));
    proxy.check_accounts();
}

#[test]
fn many_texts_are_bounded_and_those_of_a_string_of_several_pin() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 2;
        params.prepared.per_backend_max = 3;
        params.prepared.names_max = 12;
    });
    let mut one = proxy.client();
    for number in 0..12 {
        assert_eq!(one.query(&format!("PREPARE q{number} AS SELECT {number}")).unwrap().code(), "");
    }
    assert_eq!(one.query("PREPARE more AS SELECT 1").unwrap().code(), "54000");
    for number in 0..12 {
        assert_eq!(value(&mut one, &format!("EXECUTE q{number}")), number.to_string());
    }
    assert_eq!(proxy.postgres.sql(0, "SELECT 1").unwrap(), ["1"]);
    one.query("DEALLOCATE q0").unwrap();
    assert_eq!(proxy.database().pinned, 0);
    one.query("PREPARE a AS SELECT 'a'; PREPARE b AS SELECT 'b'").unwrap();
    assert!(proxy.database().pins.contains(&("prepare", 1)));
    assert_eq!(value(&mut one, "EXECUTE b"), "b");
    assert_eq!(value(&mut one, "EXECUTE q7"), "7");
    one.query("DISCARD ALL").unwrap();
    assert_eq!(proxy.database().pinned, 0);
    assert_eq!(one.query("EXECUTE q7").unwrap().code(), "26000");
    drop(one);
    proxy.check_accounts();
}

#[test]
fn several_texts_in_one_string_are_where_they_were_prepared_whatever_pinned_before() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    for first in ["SELECT 1", "CREATE TEMPORARY TABLE own (a int)", "SELECT pg_advisory_lock(1)"] {
        let mut one = proxy.client();
        one.query(first).unwrap();
        assert_eq!(one.query("PREPARE a AS SELECT 'a'; PREPARE b AS SELECT 'b'").unwrap().code(), "", "{first}");
        let run = |name: &str| PgMessages::default().bind(name, &[]).execute().sync();
        assert_eq!(one.ask(&run("a")).unwrap().value(), "a", "{first}");
        assert_eq!(one.query("PREPARE a AS SELECT 'other'").unwrap().code(), "42P05", "{first}");
        assert_eq!(value(&mut one, "EXECUTE a"), "a");
        assert_eq!(one.query("PREPARE c AS SELECT 'c'").unwrap().code(), "", "{first}");
        assert_eq!(one.ask(&PgMessages::default().close("a").sync()).unwrap().kinds, "3Z");
        assert_eq!(one.query("EXECUTE a").unwrap().code(), "26000", "{first}");
        assert_eq!(value(&mut one, "EXECUTE c"), "c");
        one.query("DISCARD ALL").unwrap();
        assert_eq!(one.ask(&run("b")).unwrap().code(), "26000", "{first}");
        assert_eq!(one.query("PREPARE b AS SELECT 'b'").unwrap().code(), "");
        assert_eq!(proxy.database().pinned, 0, "{first}");
    }
    proxy.check_accounts();
}

#[test]
fn nobody_hears_of_anothers_sequences() {
    let proxy = Proxy::start(|params| params.pool.size = 1);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE SEQUENCE s").unwrap();
    assert_eq!(value(&mut one, "SELECT nextval('s')"), "1");
    for text in ["SELECT lastval()", "SELECT currval('s')"] {
        assert_eq!(two.query(text).unwrap().code(), "55000", "{text}");
        two.query("DISCARD ALL").unwrap();
        assert_eq!(value(&mut one, "SELECT nextval('s') IS NOT NULL"), "t");
        two.query("BEGIN").unwrap();
        assert_eq!(extended(&mut two, text).code(), "55000", "{text}");
        two.query("ROLLBACK").unwrap();
        two.query("DISCARD ALL").unwrap();
        assert_eq!(value(&mut one, "SELECT nextval('s') IS NOT NULL"), "t");
    }
    // Its own numbers are told, and it keeps its connection from then on.
    assert_eq!(value(&mut one, "SELECT nextval('s')"), "6");
    assert_eq!(proxy.database().pinned, 0);
    assert_eq!(value(&mut one, "SELECT currval('s')"), "6");
    assert!(proxy.database().pins.iter().any(|(reason, count)| *reason == "recall" && *count > 0));
    assert_eq!(value(&mut one, "SELECT lastval()"), "6");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_was_prepared_before_a_change_says_so_each_time() {
    let proxy = two_backends();
    let mut one = proxy.client();
    one.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    one.query("PREPARE p AS SELECT * FROM t").unwrap();
    one.query("PREPARE q (int) AS SELECT * FROM t WHERE a = $1").unwrap();
    let both = ["EXECUTE p", "EXECUTE q(1)"];
    for text in both {
        assert_eq!(value(&mut one, text), "1");
    }
    one.query("ALTER TABLE t ADD b int").unwrap();
    for text in both.repeat(2) {
        assert_eq!(one.query(text).unwrap().errors[0].1, "cached plan must not change result type", "{text}");
        assert_eq!(extended(&mut one, text).code(), "0A000", "{text}");
    }
    one.query("ALTER TABLE t DROP b").unwrap();
    for text in both {
        assert_eq!(value(&mut one, text), "1");
    }
    drop(one);
    proxy.check_accounts();
}
