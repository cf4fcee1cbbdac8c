use pgroute::classify::{Access, Effects, Kind, Scope, Setting};
use pgroute::scan::is_safe_encoding;

use super::classify;

fn kind(text: &str) -> Kind {
    classify(text).single().unwrap_or_else(|| panic!("{text}")).kind.clone()
}

fn setting(scope: Scope, name: &str, value: Option<&str>) -> Setting {
    Setting { scope, name: name.to_owned(), value: value.map(str::to_owned) }
}

#[test]
fn transactions_are_told_apart() {
    let check = |text: &str, expected: Kind| assert_eq!(kind(text), expected, "{text}");
    let begin = |read_only, serializable| Kind::Begin(Access { read_only, serializable });
    check("BEGIN", begin(None, None));
    check("start transaction read only", begin(Some(true), None));
    check("BEGIN WORK ISOLATION LEVEL SERIALIZABLE, READ WRITE", begin(Some(false), Some(true)));
    check("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE", begin(Some(true), Some(false)));
    check("COMMIT", Kind::Commit { chain: false });
    check("END TRANSACTION AND CHAIN", Kind::Commit { chain: true });
    check("COMMIT AND NO CHAIN", Kind::Commit { chain: false });
    check("ROLLBACK", Kind::Rollback { chain: false });
    check("ABORT WORK AND CHAIN", Kind::Rollback { chain: true });
    check("ROLLBACK TO SAVEPOINT A", Kind::RollbackTo("a".to_owned()));
    check("ROLLBACK WORK TO \"A\"", Kind::RollbackTo("A".to_owned()));
    check("SAVEPOINT a", Kind::Savepoint("a".to_owned()));
    check("RELEASE SAVEPOINT a", Kind::Release("a".to_owned()));
    check("SET CONSTRAINTS ALL DEFERRED", Kind::SetConstraints);
    check("PREPARE TRANSACTION 'a'", Kind::PrepareTransaction);
    check("COMMIT PREPARED 'a'", Kind::FinishPrepared);
    check("ROLLBACK PREPARED 'a'", Kind::FinishPrepared);
    let read_only = Access { read_only: Some(true), serializable: None };
    check("SET TRANSACTION READ ONLY", Kind::SetTransaction(read_only));
}

#[test]
fn settings_are_read_in_all_their_forms() {
    let check = |text: &str, scope: Scope, name: &str, value: Option<&str>| {
        assert_eq!(kind(text), Kind::Set(vec![setting(scope, name, value)]), "{text}");
    };
    check("SET a = 1", Scope::Session, "a", Some("1"));
    check("SET SESSION A TO 'x, y'", Scope::Session, "a", Some("E'x, y'"));
    check("SET LOCAL a.B = on", Scope::Local, "a.b", Some("on"));
    check("SET search_path TO a, \"B\" -- c", Scope::Session, "search_path", Some("a, \"B\""));
    check("SET a TO DEFAULT", Scope::Session, "a", None);
    check("SET a TO 'default'", Scope::Session, "a", Some("E'default'"));
    check("SET TIME ZONE 'UTC'", Scope::Session, "timezone", Some("E'UTC'"));
    check("SET TIME ZONE LOCAL", Scope::Session, "timezone", None);
    check("SET LOCAL TIME ZONE INTERVAL '1' HOUR", Scope::Local, "timezone", Some("INTERVAL E'1' HOUR"));
    check("SET NAMES 'LATIN1'", Scope::Session, "client_encoding", Some("E'LATIN1'"));
    check("SET ROLE ada", Scope::Session, "role", Some("ada"));
    check("SET role = ada", Scope::Session, "role", Some("ada"));
    check("SET SCHEMA 's'", Scope::Session, "search_path", Some("E's'"));
    check("SET SESSION AUTHORIZATION ada", Scope::Session, "session_authorization", Some("ada"));
    check("SET tenfold.route = 'primary'", Scope::Session, "tenfold.route", Some("E'primary'"));
    check("SET x = -5", Scope::Session, "x", Some("-5"));
    check("SET x = 1e-1", Scope::Session, "x", Some("1e-1"));
    check("SET x=.5", Scope::Session, "x", Some(".5"));
    check("SET x TO 0x1_0", Scope::Session, "x", Some("0x1_0"));
    check("SET transaction_isolation = 'serializable'", Scope::Local, "transaction_isolation", Some("E'serializable'"));
    check("RESET transaction_read_only", Scope::Local, "transaction_read_only", None);
    check("RESET a.b", Scope::Session, "a.b", None);
    check("RESET TIME ZONE", Scope::Session, "timezone", None);
    check("RESET SESSION AUTHORIZATION", Scope::Session, "session_authorization", None);
    assert_eq!(kind("RESET ALL"), Kind::ResetAll);
    let text = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE";
    let settings = vec![
        setting(Scope::Session, "default_transaction_isolation", Some("E'repeatable read'")),
        setting(Scope::Session, "default_transaction_read_only", Some("on")),
        setting(Scope::Session, "default_transaction_deferrable", Some("on")),
    ];
    assert_eq!(kind(text), Kind::Set(settings));
    for text in ["SET", "SET a", "SET a FROM CURRENT", "SET XML OPTION DOCUMENT", "RESET", "SET a.= 1"] {
        let plan = classify(text);
        assert_eq!(plan.single().map(|one| &one.kind), Some(&Kind::Other), "{text}");
        assert!(plan.effects.opaque, "{text}: what is not understood may do anything");
    }
    assert_eq!(kind("SHOW TIME ZONE"), Kind::Show("timezone".to_owned()));
    assert_eq!(kind("SHOW tenfold.Position"), Kind::Show("tenfold.position".to_owned()));
}

#[test]
fn other_statements_are_told_apart() {
    let check = |text: &str, expected: Kind| assert_eq!(kind(text), expected, "{text}");
    let prepare = |name: &str, is_read| Kind::Prepare { name: name.to_owned(), is_read };
    check("PREPARE a AS SELECT 1", prepare("a", true));
    check("PREPARE \"A b\" (int, numeric(3, 2)) AS DELETE FROM t", prepare("A b", false));
    check("EXECUTE a (1)", Kind::Execute("a".to_owned()));
    check("DEALLOCATE PREPARE a", Kind::Deallocate(Some("a".to_owned())));
    check("DEALLOCATE ALL", Kind::Deallocate(None));
    check("DISCARD ALL", Kind::DiscardAll);
    check("DISCARD PLANS", Kind::Discard);
    check("LISTEN Jobs", Kind::Listen("jobs".to_owned()));
    check("LISTEN jobs now", Kind::Other);
    check("LISTEN public.jobs", Kind::Other);
    check("UNLISTEN \"Jobs\"", Kind::Unlisten(Some("Jobs".to_owned())));
    check("UNLISTEN *", Kind::Unlisten(None));
    check("NOTIFY a, 'b'", Kind::Notify);
    check("COPY t FROM STDIN", Kind::Copy);
    check("FETCH 5 FROM c", Kind::Cursor);
    check("ALTER TABLE t ADD b int", Kind::Definition);
    check("EXPLAIN EXECUTE a(1)", Kind::Execute("a".to_owned()));
    check("SET seed TO 0.5", Kind::Set(vec![]));
    check("EXPLAIN CREATE TABLE x AS SELECT 1", Kind::Definition);
    check("SELECT 1", Kind::Query);
    check("SELECT nextval('s')", Kind::Query);
}

#[test]
fn texts_of_several_statements_are_taken_apart() {
    let kinds = |text: &str| classify(text).statements.iter().map(|one| one.kind.clone()).collect::<Vec<_>>();
    let begin = Kind::Begin(Access::default());
    let commit = Kind::Commit { chain: false };
    assert_eq!(kinds("BEGIN; SELECT ';' ; COMMIT;;"), [begin, Kind::Query, commit]);
    assert_eq!(
        kinds("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3"),
        [Kind::Definition, Kind::Query]
    );
    // The body's own END is no end of a transaction, and what follows cannot be told from it.
    let text = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SET a = 1";
    assert_eq!(kinds(text), [Kind::Definition]);
    assert!(classify(text).effects.opaque);
    let many = "SELECT 1;".repeat(1001);
    assert_eq!(kinds(&many), [Kind::Other]);
    assert!(classify(&many).effects.unknown);
    assert_eq!(classify("SELECT 1; SELECT 'a").effects, Effects { opaque: true, ..Effects::default() });
}

#[test]
fn encodings_that_hide_quotes_are_known() {
    for name in ["UTF8", "utf-8", "LATIN1", "SQL_ASCII", "EUC_JP", "WIN1252"] {
        assert!(is_safe_encoding(name), "{name}");
    }
    for name in ["SJIS", "Big5", "GBK", "GB18030", "UHC", "SHIFT_JIS_2004", "johab", "WIN932"] {
        assert!(!is_safe_encoding(name), "{name}");
    }
}

#[test]
fn prepared_statements_are_known_by_their_names() {
    let check = |text: &str, names: &[&str], prepares: bool| {
        let plan = classify(text);
        assert_eq!(plan.executes, names, "{text}");
        assert_eq!(plan.prepares.as_deref(), prepares.then_some(text.as_bytes()), "{text}");
    };
    check("SELECT 1", &[], false);
    check("PREPARE q (int) AS SELECT $1", &[], true);
    // Elsewhere it would be said again as a whole.
    check("PREPARE q AS SELECT 1; SELECT 2", &[], false);
    check("EXECUTE q(1, 'x')", &["q"], false);
    check("EXECUTE \"Q\"; EXECUTE r", &["Q", "r"], false);
    check("EXPLAIN (ANALYZE) EXECUTE q", &["q"], false);
    check("CREATE TABLE t AS EXECUTE q(1)", &["q"], false);
    check("DEALLOCATE PREPARE q", &["q"], false);
    check("DEALLOCATE ALL", &[], false);
    let effects = classify("EXECUTE q").effects;
    assert!(effects.executes && !effects.opaque, "whoever knows the name knows what it does");
}

#[test]
fn who_looks_at_prepared_statements_is_known_by_any_letters() {
    for text in [
        "SELECT * FROM pg_prepared_statements",
        "SELECT * FROM U&\"pg\\005fprepared_statements\"",
        "SELECT * FROM PG_Prepared_Statements",
        "SELECT PG_PREPARED_STATEMENT()",
        "SELECT 1 FROM pg_catalog.pg_prepared_statement",
        "SELECT p, P, 'pg_prep' FROM \"pg_prepared_statements\"",
    ] {
        assert!(classify(text).shows_prepared, "{text}");
    }
    for text in ["SELECT * FROM pg_prepared_xacts", "SELECT 1", "", "p", "SELECT pg_prepared_statemen"] {
        assert!(!classify(text).shows_prepared, "{text}");
    }
}
