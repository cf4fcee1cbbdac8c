//! What clients see of prepared statements, their own and others'.

use testkit::PgMessages;

use crate::drivers::hold;
use crate::proxy::Proxy;

/// One backend for everybody: whatever leaks is seen.
fn one_backend() -> Proxy {
    Proxy::start(|params| params.pool.size = 1)
}

fn parse(name: &str, text: &str) -> PgMessages {
    PgMessages::default().parse(name, text)
}

fn run(name: &str) -> PgMessages {
    PgMessages::default().bind(name, &[]).execute().sync()
}

const COUNT: &str = "SELECT count(*) FROM pg_prepared_statements";

#[test]
fn nobody_sees_the_statements_of_others_however_it_looks() {
    let proxy = Proxy::start(|params| params.pool.size = 2);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let secret = parse("other", "SELECT 'a secret'").sync();
    // On both backends.
    let pid = two.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    two.ask(&secret).unwrap();
    let holder = hold(&proxy, &pid);
    let mut three = proxy.client();
    three.ask(&secret).unwrap();
    drop(holder);
    assert_eq!(one.query(&COUNT.replace("pg_prepared", "Pg_PREPARED")).unwrap().value(), "0", "in capitals");
    let unquoted = COUNT.replace("pg_prepared_statements", "PG_PREPARED_STATEMENT()");
    two.ask(&run("other")).unwrap();
    assert_eq!(one.query(&unquoted).unwrap().value(), "0", "by the function");
    let tell = "SELECT coalesce(string_agg(statement, ','), '') FROM pg_prepared_statements";
    for name in ["", "named"] {
        two.ask(&run("other")).unwrap();
        let at_once = one.ask(&parse(name, tell).bind(name, &[]).execute().sync()).unwrap();
        assert!(!at_once.value().contains("secret"), "{name}: {}", at_once.value());
        two.ask(&run("other")).unwrap();
        // Behind something else of the same group.
        let behind = parse("first", "SELECT 1").bind("first", &[]).execute().parse("second", tell);
        let behind = one.ask(&behind.bind("second", &[]).execute().close("first").close("second").sync()).unwrap();
        assert_eq!(behind.code(), "", "{behind:?}");
        assert!(!behind.rows[1][0].as_ref().unwrap().contains("secret"), "{behind:?}");
        two.ask(&run("other")).unwrap();
        assert!(!one.ask(&run(name)).unwrap().value().contains("secret"), "{name}, later");
        one.ask(&PgMessages::default().close(name).sync()).unwrap();
    }
    // Without a name, and bound where another one has been.
    one.query("BEGIN").unwrap();
    one.ask(&parse("", COUNT).sync()).unwrap();
    let pid = one.query("SELECT pg_backend_pid()").unwrap().value().to_owned();
    one.ask(&parse("", COUNT).sync()).unwrap();
    one.ask(&PgMessages::default().parse("commit", "COMMIT").bind("commit", &[]).execute().close("commit").sync())
        .unwrap();
    let holder = hold(&proxy, &pid);
    two.ask(&run("other")).unwrap();
    assert_eq!(one.ask(&run("")).unwrap().value(), "0");
    drop((one, two, three, holder));
    proxy.check_accounts();
}

#[test]
fn a_statement_that_cannot_be_parsed_any_more_is_in_nobodys_way() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    two.query("CREATE TABLE t (a int)").unwrap();
    one.query("PREPARE text AS SELECT * FROM t").unwrap();
    one.query("PREPARE word AS SELECT 'word'").unwrap();
    one.ask(&parse("a", "SELECT * FROM t").sync()).unwrap();
    one.ask(&parse("b", COUNT).sync()).unwrap();
    one.ask(&parse("c", "SELECT 'c'").sync()).unwrap();
    two.query("DROP TABLE t").unwrap();
    for _ in 0..2 {
        let seen = one.ask(&run("b")).unwrap();
        assert_eq!((seen.code(), seen.value()), ("", "3"), "b, c, and the word");
        assert_eq!(one.ask(&run("c")).unwrap().value(), "c");
        assert_eq!(one.query("EXECUTE word").unwrap().value(), "word");
        assert_eq!(one.query(COUNT).unwrap().value(), "3");
        two.query("SELECT 1").unwrap();
    }
    // What goes wrong is told as what it is.
    one.ask(&parse("", COUNT).bind("", &[]).execute().sync()).unwrap();
    assert_eq!(one.query("SELECT 1 / 0").unwrap().code(), "22012");
    assert_eq!(one.query("SELECT 1 / 0 FROM pg_prepared_statements").unwrap().code(), "22012");
    assert_eq!(one.query("EXECUTE text").unwrap().code(), "42P01");
    assert_eq!(one.ask(&run("a")).unwrap().code(), "42P01");
    one.ask(&parse("d", "SELECT 'd'").sync()).unwrap();
    two.query("CREATE TABLE gone AS SELECT 1 AS a").unwrap();
    one.ask(&parse("e", &format!("{COUNT}, gone")).sync()).unwrap();
    two.query("DROP TABLE gone").unwrap();
    assert_eq!(one.ask(&run("e")).unwrap().code(), "42P01", "it looks itself, and cannot be parsed");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn who_looks_within_a_transaction_does_not_break_it() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE TABLE t (a int)").unwrap();
    one.ask(&parse("gone", "SELECT a FROM t").sync()).unwrap();
    two.ask(&parse("other", "SELECT 'a secret'").sync()).unwrap();
    one.query("DROP TABLE t").unwrap();
    one.query("BEGIN").unwrap();
    let tell = "SELECT coalesce(string_agg(statement, ','), '') FROM pg_prepared_statements";
    let told = one.query(tell).unwrap();
    assert!(told.code().is_empty() && !told.value().contains("secret"), "{told:?}");
    assert_eq!(one.query("SELECT 'alive'").unwrap().value(), "alive");
    one.query("COMMIT").unwrap();
    let escaped = "SELECT coalesce(string_agg(statement, ','), '') FROM U&\"pg\\005fprepared_statements\"";
    two.ask(&run("other")).unwrap();
    assert!(!one.query(escaped).unwrap().value().contains("secret"));
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn what_sequences_gave_is_not_asked_for_within_a_group_where_others_have_asked() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.query("CREATE SEQUENCE s").unwrap();
    two.query("SELECT nextval('s')").unwrap();
    one.query("BEGIN").unwrap();
    let begun = parse("", "SELECT 1 / 0").bind("", &[]).execute().sync();
    assert_eq!(one.ask(&begun).unwrap().code(), "22012");
    // The transaction has failed: what would be put before the query fails, and the query is passed over.
    let within = parse("", "ROLLBACK").bind("", &[]).execute();
    let answer = one.ask(&within.query("SELECT lastval()")).unwrap();
    assert_eq!(answer.code(), "0A000", "{answer:?}");
    assert_eq!(one.query("ROLLBACK").unwrap().code(), "");
    assert_eq!(one.query("SELECT lastval()").unwrap().code(), "55000");
    drop((one, two));
    proxy.check_accounts();
}

#[test]
fn a_name_that_was_shown_is_still_its_clients_when_something_else_has_had_it_since() {
    let proxy = one_backend();
    let mut one = proxy.client();
    let look = "SELECT 1 FROM pg_prepared_statements WHERE false";
    one.ask(&parse("a", look).bind("a", &[]).execute().sync()).unwrap();
    one.ask(&parse("b", "SELECT 'b'").sync()).unwrap();
    assert_eq!(one.query(look).unwrap().code(), "");
    assert_eq!(one.query("PREPARE a AS SELECT 'other'").unwrap().code(), "42P05");
    one.query("BEGIN").unwrap();
    assert_eq!(one.ask(&PgMessages::default().describe("a").sync()).unwrap().kinds, "tTZ");
    one.query("COMMIT").unwrap();
    // Closed by a message, it is not there for a text either.
    one.ask(&PgMessages::default().close("b").sync()).unwrap();
    assert_eq!(one.query("EXECUTE b").unwrap().code(), "26000");
    assert_eq!(one.query("DEALLOCATE b").unwrap().code(), "26000");
    drop(one);
    proxy.check_accounts();
}

#[test]
fn what_runs_by_its_name_does_what_it_does_without() {
    let proxy = one_backend();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask(&parse("set", "SET work_mem = '5MB'").sync()).unwrap();
    assert_eq!(one.query("EXECUTE set").unwrap().tags, ["SET"]);
    assert_eq!(two.query("SHOW work_mem").unwrap().value(), "4MB");
    assert_eq!(one.query("SHOW work_mem").unwrap().value(), "5MB");
    drop((one, two));
    proxy.check_accounts();
}
