use pgroute::classify::{Catalogue, Kind, classify};
use pgroute::session::{Applied, Pin, Settings, Value};
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
    let startup = [("DateStyle", "ISO"), ("search_path", r"a, b\c 'd'")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let mut settings = Settings::new(&startup);
    let mut applied = Applied::default();
    let text = settings.difference(&mut applied).unwrap();
    let expected = "SELECT pg_catalog.set_config('datestyle', 'ISO', false);\
                    SELECT pg_catalog.set_config('search_path', E'a, b\\\\c ''d''', false);";
    assert_eq!(text, expected);
    assert_eq!(settings.difference(&mut applied), None);
    run(&mut settings, &["SET my.x = 'y'", "SET ROLE ada", "SET TIME ZONE 'UTC'"]);
    let text = settings.difference(&mut applied).unwrap();
    assert_eq!(text, "SET \"my\".\"x\" TO 'y';SET TIME ZONE 'UTC';SET \"role\" TO ada;");
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
    let mut settings = after(&["SET timezone = 'utc'"]);
    settings.reported("TimeZone", "UTC");
    assert_eq!(settings.value("timezone"), Some(&Value::Plain("UTC".to_owned())));
    settings.reported("is_superuser", "on");
    assert_eq!(settings.value("is_superuser"), None, "what was not set is not the session's");
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
