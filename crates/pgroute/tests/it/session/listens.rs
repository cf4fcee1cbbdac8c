use pgroute::classify::{Catalogue, classify};
use pgroute::session::{Heard, Listens};
use pgroute::wire::backend::TransactionStatus::{Idle, Open};

/// Says statements one by one, each of which succeeds or, with `!` before it, fails; what is due then.
fn say(listens: &mut Listens, texts: &[&str]) -> Vec<String> {
    let mut is_open = false;
    for text in texts {
        if text.starts_with('!') {
            listens.failed();
        } else {
            let plan = classify(text.as_bytes(), true, &Catalogue::default());
            let tag = if *text == "COMMIT AS ROLLBACK" { "ROLLBACK" } else { text.split(' ').next().unwrap() };
            for statement in &plan.statements {
                listens.succeeded(&statement.kind, tag.as_bytes());
            }
            is_open = (is_open || *text == "BEGIN") && !text.starts_with("COMMIT") && *text != "ROLLBACK";
        }
        listens.ready(if is_open { Open } else { Idle });
    }
    let name = |heard: Heard| match heard {
        Heard::Listen(channel) => format!("+{channel}"),
        Heard::Unlisten(Some(channel)) => format!("-{channel}"),
        Heard::Unlisten(None) => "-".to_owned(),
    };
    listens.take_due().into_iter().map(name).collect()
}

#[test]
fn what_commits_is_due_in_its_order() {
    let check = |texts: &[&str], due: &[&str], count: usize| {
        let mut listens = Listens::default();
        assert_eq!(say(&mut listens, texts), due, "{texts:?}");
        assert_eq!(listens.len(), count, "{texts:?}");
    };
    check(&["LISTEN a", "LISTEN b", "UNLISTEN a"], &["+a", "+b", "-a"], 1);
    check(&["LISTEN a", "LISTEN a", "UNLISTEN *"], &["+a", "+a", "-"], 0);
    check(&["LISTEN a", "DISCARD ALL"], &["+a", "-"], 0);
    check(&["BEGIN", "LISTEN a"], &[], 0);
    check(&["BEGIN", "LISTEN a", "COMMIT"], &["+a"], 1);
    check(&["BEGIN", "LISTEN a", "ROLLBACK"], &[], 0);
    check(&["LISTEN a", "BEGIN", "UNLISTEN a", "ROLLBACK"], &["+a"], 1);
    check(&["BEGIN", "LISTEN a", "!SELECT 1/0", "COMMIT AS ROLLBACK"], &[], 0);
    // A group of messages without a transaction of its own.
    check(&["!LISTEN a", "LISTEN b"], &["+b"], 1);
}

#[test]
fn savepoints_take_back_what_came_after_them() {
    let check = |texts: &[&str], due: &[&str]| assert_eq!(say(&mut Listens::default(), texts), due, "{texts:?}");
    check(&["BEGIN", "LISTEN a", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "COMMIT"], &["+a"]);
    check(&["BEGIN", "SAVEPOINT s", "LISTEN b", "!SELECT 1/0", "ROLLBACK TO s", "LISTEN c", "COMMIT"], &["+c"]);
    check(&["BEGIN", "SAVEPOINT s", "LISTEN b", "RELEASE s", "COMMIT"], &["+b"]);
    check(&["BEGIN", "SAVEPOINT s", "SAVEPOINT t", "LISTEN b", "RELEASE t", "ROLLBACK TO s", "COMMIT"], &[]);
    // The innermost of the same name.
    let twice = ["BEGIN", "SAVEPOINT s", "LISTEN a", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "COMMIT"];
    check(&twice, &["+a"]);
    // One that was made before anything was listened to is not known.
    check(&["LISTEN a", "ROLLBACK TO older", "LISTEN b"], &["+a", "+b"]);
    let mut listens = Listens::default();
    listens.succeeded(&classify(b"LISTEN a", true, &Catalogue::default()).statements[0].kind, b"LISTEN");
    assert!(listens.is_changing());
    listens.succeeded(&classify(b"ROLLBACK TO older", true, &Catalogue::default()).statements[0].kind, b"ROLLBACK");
    listens.ready(Idle);
    assert!(!listens.is_changing() && listens.is_empty() && listens.take_due().is_empty());
}
