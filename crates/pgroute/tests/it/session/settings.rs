use pgroute::classify::{Catalogue, Kind, classify};
use pgroute::session::{Applied, Pin, Sequences, Settings, Value};
use pgroute::wire::backend::TransactionStatus;
use proptest::prelude::*;

/// Runs texts as a server would that does not fail, and says where the transaction stands after each. A text that begins with `!`
/// fails in its last statement.
fn run(settings: &mut Settings, texts: &[&str]) {
    let mut status = TransactionStatus::Idle;
    for text in texts {
        let (text, fails) = text.strip_prefix('!').map_or((*text, false), |text| (text, true));
        let plan = classify(text.as_bytes(), true, &Catalogue::default());
        let count = plan.statements.len();
        for (at, statement) in plan.statements.iter().enumerate() {
            if fails && at + 1 == count {
                settings.failed();
                if status == TransactionStatus::Open {
                    status = TransactionStatus::Failed;
                }
                break;
            }
            let mut tag: &[u8] = b"SET";
            match statement.kind {
                Kind::Begin(_) => status = TransactionStatus::Open,
                Kind::Commit { chain } => {
                    tag = if status == TransactionStatus::Failed { b"ROLLBACK" } else { b"COMMIT" };
                    status = if chain { TransactionStatus::Open } else { TransactionStatus::Idle };
                }
                Kind::Rollback { .. } => status = TransactionStatus::Idle,
                Kind::RollbackTo(_) => status = TransactionStatus::Open,
                _ => {}
            }
            settings.succeeded(&statement.kind, tag);
        }
        settings.ready(status);
    }
}

fn after(texts: &[&str]) -> Settings {
    let mut settings = Settings::new(&[]);
    run(&mut settings, texts);
    settings
}

#[test]
fn settings_follow_transactions() {
    let check = |texts: &[&str], expected: Option<&str>| {
        let value = after(texts).value("a").cloned();
        assert_eq!(value, expected.map(|value| Value::Written(value.to_owned())), "{texts:?}");
    };
    check(&["SET a = 1"], Some("1"));
    check(&["SET a = 1", "SET a = 2"], Some("2"));
    check(&["SET a = 1", "RESET a"], None);
    check(&["SET a = 1", "RESET ALL"], None);
    check(&["SET a = 1", "DISCARD ALL"], None);
    check(&["SET LOCAL a = 1"], None);
    check(&["BEGIN", "SET a = 1"], None);
    check(&["BEGIN", "SET a = 1", "COMMIT"], Some("1"));
    check(&["BEGIN", "SET a = 1", "ROLLBACK"], None);
    check(&["SET a = 0", "BEGIN", "SET a = 1", "!SELECT x", "COMMIT"], Some("0"));
    check(&["BEGIN", "SET a = 1", "SAVEPOINT s", "SET a = 2", "ROLLBACK TO s", "COMMIT"], Some("1"));
    check(&["BEGIN", "SAVEPOINT s", "SET a = 2", "RELEASE s", "COMMIT"], Some("2"));
    check(&["BEGIN", "SAVEPOINT s", "SET a = 2", "RELEASE s", "ROLLBACK"], None);
    check(&["BEGIN", "SAVEPOINT s", "SET a = 1", "SAVEPOINT s", "SET a = 2", "ROLLBACK TO s", "COMMIT"], Some("1"));
    check(&["BEGIN", "SET a = 1", "SAVEPOINT s", "!SET a = 2", "ROLLBACK TO s", "COMMIT"], Some("1"));
    check(&["BEGIN", "SAVEPOINT s", "SAVEPOINT t", "SET a = 3", "RELEASE s", "COMMIT"], Some("3"));
    // Texts of several statements are one transaction.
    check(&["SET a = 1; SELECT 1"], Some("1"));
    check(&["!SET a = 1; SELECT 1/0"], None);
    check(&["!SET a = 1; COMMIT; SET a = 2; SELECT 1/0"], Some("1"));
    check(&["!SET a = 1"], None);
    check(&["BEGIN", "SET a = 1; COMMIT AND CHAIN", "SET a = 2", "ROLLBACK"], Some("1"));
}

#[test]
fn a_backend_is_made_like_the_session() {
    let startup = [("DateStyle", "ISO"), ("search_path", "A, \"b\\c 'd'\"")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let mut settings = Settings::new(&startup);
    let mut applied = Applied::default();
    let text = settings.difference(&mut applied).unwrap();
    assert_eq!(text, r#"SET "datestyle" TO E'ISO';SET "search_path" TO E'a', E'b\\c ''d''';"#);
    assert_eq!(settings.difference(&mut applied), None);
    run(&mut settings, &["SET my.x = 'y'", "SET ROLE ada", "SET TIME ZONE 'UTC'"]);
    let text = settings.difference(&mut applied).unwrap();
    assert_eq!(text, "SET \"my\".\"x\" TO E'y';SET TIME ZONE E'UTC';SET \"role\" TO ada;");
    run(&mut settings, &["RESET my.x", "SET SESSION AUTHORIZATION bob"]);
    let text = settings.difference(&mut applied).unwrap();
    assert_eq!(text, "RESET \"role\";RESET \"my\".\"x\";SET SESSION AUTHORIZATION bob;");
    // Another client's session on the same backend.
    let text = Settings::new(&[]).difference(&mut applied).unwrap();
    let expected = "RESET SESSION AUTHORIZATION;RESET \"datestyle\";RESET \"search_path\";RESET \"timezone\";";
    assert_eq!(text, expected);
    assert!(applied.is_empty());
}

#[test]
fn what_a_session_began_with_comes_back_by_a_reset() {
    let startup = [("a".to_owned(), "0".to_owned())];
    let mut settings = Settings::new(&startup);
    let zero = Some(Value::Plain("0".to_owned()));
    for text in ["RESET a", "RESET ALL", "DISCARD ALL", "SET a TO DEFAULT"] {
        run(&mut settings, &["SET a = 1", "SET role = ada", text]);
        assert_eq!(settings.value("a").cloned(), zero, "{text}");
        let keeps_role = text != "DISCARD ALL";
        assert_eq!(settings.value("role").is_some(), keeps_role, "{text}");
    }
}

#[test]
fn reports_correct_what_was_tracked() {
    let idle = TransactionStatus::Idle;
    let plain = |value: &str| Some(Value::Plain(value.to_owned()));
    let mut settings = after(&["SET timezone = 'utc'"]);
    settings.reported("TimeZone", "UTC", Some("UTC"));
    settings.ready(idle);
    assert_eq!(settings.value("timezone").cloned(), plain("UTC"));
    settings.reported("is_superuser", "on", Some("off"));
    settings.reported("DateStyle", "ISO, MDY", Some("ISO, MDY"));
    settings.ready(idle);
    assert_eq!(settings.value("is_superuser"), None, "nobody sets that");
    assert_eq!(settings.value("datestyle"), None, "as every backend has it");
    // A function has set it: nothing but the report says so.
    settings.reported("DateStyle", "SQL, DMY", Some("ISO, MDY"));
    settings.ready(TransactionStatus::Open);
    assert_eq!(settings.value("datestyle"), None, "it may be taken back");
    settings.ready(idle);
    assert_eq!(settings.value("datestyle").cloned(), plain("SQL, DMY"));
    settings.reported("DateStyle", "German, DMY", Some("ISO, MDY"));
    settings.ready(TransactionStatus::Open);
    settings.reported("DateStyle", "SQL, DMY", Some("ISO, MDY"));
    settings.ready(idle);
    assert_eq!(settings.value("datestyle").cloned(), plain("SQL, DMY"), "it was taken back");
}

fn kind(text: &str) -> Kind {
    classify(text.as_bytes(), true, &Catalogue::default()).statements[0].kind.clone()
}

/// What a reset gives on a backend is not what the session began with.
#[test]
fn a_reset_takes_from_the_backend_what_the_session_began_with() {
    let startup = [("a", "0"), ("search_path", "tenant")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    for text in ["RESET ALL", "DISCARD ALL", "RESET a; SET search_path TO DEFAULT"] {
        let mut settings = Settings::new(&startup);
        let mut applied = Applied::default();
        while settings.difference(&mut applied).is_some() {}
        run(&mut settings, &[text]);
        assert!(settings.clone().applied().is_empty(), "{text}");
        let expected = r#"SET "a" TO E'0';SET "search_path" TO E'tenant';"#;
        assert_eq!(settings.difference(&mut settings.clone().applied()).as_deref(), Some(expected), "{text}");
        assert_eq!(settings.restore().as_deref(), Some(expected), "{text}");
        assert_eq!(settings.restore(), None, "it counts as set");
        assert!(!settings.applied().is_empty(), "{text}");
    }
    // Within a transaction as well, and what is taken back is there without being set.
    let mut settings = Settings::new(&startup);
    settings.succeeded(&kind("BEGIN"), b"BEGIN");
    settings.succeeded(&kind("RESET a"), b"RESET");
    settings.ready(TransactionStatus::Open);
    assert_eq!(settings.restore().as_deref(), Some(r#"SET "a" TO E'0';"#));
    assert_eq!(settings.restore(), None);
    settings.succeeded(&kind("ROLLBACK"), b"ROLLBACK");
    settings.ready(TransactionStatus::Idle);
    assert_eq!((settings.restore(), settings.applied()), (None, Settings::new(&startup).applied()));
}

#[test]
fn a_role_goes_with_the_sessions_user() {
    let check = |before: &[&str], now: &[&str], expected: &str| {
        let mut applied = after(before).applied();
        assert_eq!(after(now).difference(&mut applied).unwrap_or_default(), expected, "{before:?} {now:?}");
    };
    let (a, b, r) = ("SET SESSION AUTHORIZATION a", "SET SESSION AUTHORIZATION b", "SET ROLE r");
    check(&[a, r], &[r], r#"RESET SESSION AUTHORIZATION;SET "role" TO r;"#);
    check(&[a, r], &[b, r], r#"RESET SESSION AUTHORIZATION;SET SESSION AUTHORIZATION b;SET "role" TO r;"#);
    check(&[r], &[b, r], r#"RESET "role";SET SESSION AUTHORIZATION b;SET "role" TO r;"#);
    check(&[a, r], &[a], r#"RESET "role";"#);
    check(&[a, r], &[], "RESET SESSION AUTHORIZATION;");
    check(&[r], &[r], "");
}

/// A backend reads the whole text under what its last client left.
#[test]
fn what_a_backend_is_told_means_the_same_to_all_of_them() {
    let mut settings = Settings::new(&[]);
    let classify = |text: &str, standard| classify(text.as_bytes(), standard, &Catalogue::default());
    for (text, standard) in [
        ("SET standard_conforming_strings = off", true),
        (r"SET application_name = '\\; SET search_path TO evil; --'", false),
        ("SET a.b = 'it''s' -- and\n '\\\\ more'", false),
        ("SET a.c = $x$o'k$x$", true),
        (r"SET a.d = E'\u00e9\t\x41\101\'\q'", true),
    ] {
        let plan = classify(text, standard);
        assert_eq!(plan.statements.len(), 1, "{text}");
        settings.succeeded(&plan.statements[0].kind, b"SET");
        settings.ready(TransactionStatus::Idle);
    }
    let text = settings.difference(&mut Applied::default()).unwrap();
    let expected = [
        r#"SET "a"."b" TO E'it''s\\ more';SET "a"."c" TO E'o''k';SET "a"."d" TO E'"#,
        "\u{e9}\tA",
        r#"A''q';SET "application_name" TO E'\\; SET search_path TO evil; --';"#,
        r#"SET "standard_conforming_strings" TO off;"#,
    ];
    assert_eq!(text, expected.concat());
    for text in
        [r"SET a.b = U&'\0041'", r"SET a.b = E'\xe9'", r#"SET U&"a" = 1"#, "SET a.b = $1", "SET \"\u{e9}.x\" = 1"]
    {
        let plan = classify(text, true);
        assert!(plan.effects.opaque && plan.statements[0].kind == Kind::Other, "{text}");
    }
}

#[test]
fn the_encoding_goes_before_what_is_written_in_it() {
    let mut applied = after(&["SET a.x = 'caf\u{e9}'", "SET a.y = '\u{e9}'", "SET a.z = 'z'"]).applied();
    let settings = after(&["SET client_encoding = latin1", "SET a.x = 'caf\u{e9}'"]);
    assert_eq!(settings.difference(&mut applied).as_deref(), Some(r#"SET "client_encoding" TO latin1;"#));
    let text = settings.difference(&mut applied).unwrap();
    assert_eq!(text, "RESET \"a\".\"y\";RESET \"a\".\"z\";SET \"a\".\"x\" TO E'caf\u{e9}';");
    assert_eq!(settings.difference(&mut applied), None);
    let text = Settings::new(&[]).difference(&mut applied).unwrap();
    assert_eq!(text, r#"RESET "client_encoding";RESET "a"."x";"#);
}

#[test]
fn the_reading_of_a_text_has_all_that_changes_it() {
    let reading = |texts: &[&str]| after(texts).reading(None);
    let plain = reading(&[]);
    assert_eq!(reading(&["SET application_name = 'x'", "SET statement_timeout = 5"]), plain);
    let settings =
        ["SET timezone = 'UTC'", "SET datestyle = german", "SET search_path = x", "SET transform_null_equals = on"];
    for text in settings {
        assert_ne!(reading(&[text]), plain, "{text}");
        assert_eq!(reading(&["BEGIN", text, "ROLLBACK"]), plain, "{text}");
    }
    assert_ne!(after(&[]).reading(Some(1)), plain);
    assert_ne!(after(&[]).reading(Some(1)), after(&[]).reading(Some(2)));
    // What ends with the transaction changes what is parsed within it.
    let mut settings = after(&[]);
    settings.succeeded(&kind("BEGIN"), b"BEGIN");
    settings.succeeded(&kind("SET LOCAL timezone = 'UTC'"), b"SET");
    settings.ready(TransactionStatus::Open);
    assert_ne!(settings.reading(None), plain);
    settings.succeeded(&kind("COMMIT"), b"COMMIT");
    settings.ready(TransactionStatus::Idle);
    assert_eq!(settings.reading(None), plain);
    assert!(settings.applied().is_empty());
}

#[test]
fn what_a_session_sets_is_bounded() {
    let value = "x".repeat(200_000);
    let settings = after(&[&format!("SET a.b = '{value}'"), "SET a.c = 1"]);
    assert_eq!(settings.pin(), None);
    let settings = after(&[&format!("SET a.b = '{value}'"), &format!("SET a.c = '{value}'")]);
    assert_eq!((settings.pin(), settings.value("a.c")), (Some(Pin::Unknown), None));
    let startup = [("search_path".to_owned(), "\"pg_temp\", public".to_owned())];
    assert_eq!(Settings::new(&startup).pin(), Some(Pin::TemporaryTable));
}

#[test]
fn a_backend_tells_nobody_of_anothers_numbers() {
    let mut backend = Sequences::default();
    assert!(!backend.is_foreign(1), "it knows none");
    backend.used(1);
    assert!(!backend.is_foreign(1) && backend.is_foreign(2));
    backend.lent();
    assert!(!backend.is_foreign(1), "nobody else was there");
    backend.lent();
    backend.used(2);
    assert!(!backend.is_foreign(2), "it has used it since it was lent to it");
    assert!(backend.is_foreign(1));
    backend.lent();
    assert!(backend.is_foreign(2), "the other one's numbers are still there");
    backend.clear();
    assert!(!backend.is_foreign(2));
}

#[test]
fn pins_have_reasons() {
    let pin = |text: &str| Pin::of(classify(text.as_bytes(), true, &Catalogue::default()).effects);
    assert_eq!(pin("CREATE TEMP TABLE t (a int)"), Some(Pin::TemporaryTable));
    assert_eq!(pin("SELECT pg_advisory_lock(1)"), Some(Pin::AdvisoryLock));
    assert_eq!(pin("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), Some(Pin::HeldCursor));
    assert_eq!(pin("LOAD 'x'"), Some(Pin::Irreversible));
    assert_eq!(pin("SELECT lastval()"), Some(Pin::Recall));
    assert_eq!(pin("INSERT INTO t VALUES (1)"), None);
    assert_eq!(pin("SET seed = 0.5"), Some(Pin::Irreversible));
    // What nothing takes back is the reason, whatever else there is.
    assert_eq!(pin("CREATE TEMP TABLE t (); LOAD 'x'"), Some(Pin::Irreversible));
    assert_eq!(pin(&"SELECT 1;".repeat(1001)), Some(Pin::Unknown));
    assert_eq!(Pin::of(pgroute::classify::Plan::unknown().effects), Some(Pin::Unknown));
    assert_eq!(Pin::TemporaryTable.graver(Pin::Irreversible), Pin::Irreversible);
    assert!(Pin::TemporaryTable.ends_with(&Kind::DiscardAll) && !Pin::Irreversible.ends_with(&Kind::DiscardAll));
}

proptest! {
    /// Against a model of a server: the whole state is copied at each savepoint, and put back.
    #[test]
    fn it_is_what_a_server_would_have(steps in prop::collection::vec((0_u8..9, 0_usize..3), 0..60)) {
        let mut settings = Settings::new(&[]);
        let mut state = [0_usize; 3];
        let (mut is_open, mut has_failed) = (false, false);
        let mut saved: Vec<(Option<usize>, [usize; 3])> = Vec::new();
        let mut number = 0;
        for (step, which) in steps {
            number += 1;
            let text = match step {
                0 => "BEGIN".to_owned(),
                1 => "COMMIT".to_owned(),
                2 => "ROLLBACK".to_owned(),
                3 => format!("SAVEPOINT s{which}"),
                4 => format!("ROLLBACK TO s{which}"),
                5 => format!("RELEASE s{which}"),
                6 => format!("RESET x{which}"),
                7 => "fail".to_owned(),
                _ => format!("SET x{which} = {number}"),
            };
            let plan = classify(text.as_bytes(), true, &Catalogue::default());
            let at = saved.iter().rposition(|(name, _)| *name == Some(which));
            let fails = match step {
                3 => !is_open || has_failed,
                4 => at.is_none(),
                5 => at.is_none() || has_failed,
                6 | 8 => has_failed,
                7 => true,
                0 => has_failed,
                _ => false,
            };
            if fails {
                settings.failed();
                has_failed = is_open;
            } else {
                let tag: &[u8] = if step == 1 && has_failed { b"ROLLBACK" } else { b"COMMIT" };
                settings.succeeded(&plan.statements[0].kind, tag);
                match step {
                    0 if !is_open => { is_open = true; saved = vec![(None, state)]; }
                    1 | 2 if is_open => {
                        if step == 2 || has_failed { state = saved[0].1; }
                        (is_open, has_failed) = (false, false);
                        saved.clear();
                    }
                    3 => saved.push((Some(which), state)),
                    4 => { let at = at.unwrap(); state = saved[at].1; saved.truncate(at + 1); has_failed = false; }
                    5 => saved.truncate(at.unwrap()),
                    6 => state[which] = 0,
                    8 => state[which] = number,
                    _ => {}
                }
            }
            let status = match (is_open, has_failed) {
                (false, _) => TransactionStatus::Idle,
                (true, false) => TransactionStatus::Open,
                (true, true) => TransactionStatus::Failed,
            };
            settings.ready(status);
            if !is_open {
                for (which, value) in state.iter().enumerate() {
                    let expected = (*value > 0).then(|| Value::Written(value.to_string()));
                    prop_assert_eq!(settings.value(&format!("x{which}")), expected.as_ref(), "after {}", text);
                }
            }
        }
    }
}

#[test]
fn a_written_value_says_what_it_did_before_it_was_written() {
    for (written, said) in
        [("E'primary'", "primary"), (" E'it''s \\\\ so'", "it's \\ so"), ("on", "on"), ("'x'", "'x'")]
    {
        assert_eq!(pgroute::session::written_text(written), said, "{written}");
    }
}
