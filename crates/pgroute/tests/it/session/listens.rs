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
    let heard = listens.take_due();
    let named = |sign: char, channels: Vec<String>| channels.into_iter().map(move |channel| format!("{sign}{channel}"));
    named('-', heard.unlistens).chain(named('+', heard.listens)).collect()
}

#[test]
fn what_a_commit_changes_is_due() {
    let check = |texts: &[&str], due: &[&str], count: usize| {
        let mut listens = Listens::default();
        assert_eq!(say(&mut listens, texts), due, "{texts:?}");
        assert_eq!(listens.len(), count, "{texts:?}");
    };
    check(&["LISTEN a", "LISTEN b", "UNLISTEN a"], &["+b"], 1);
    check(&["LISTEN a", "LISTEN a", "UNLISTEN *"], &[], 0);
    check(&["LISTEN a", "DISCARD ALL"], &[], 0);
    check(&["BEGIN", "LISTEN a"], &[], 1);
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
    assert!(!listens.is_changing() && listens.is_empty());
    assert_eq!(listens.take_due(), Heard::default());
}

#[test]
fn only_what_is_otherwise_than_before_is_due() {
    let check = |texts: &[&str], due: &[&str]| {
        let mut listens = Listens::default();
        assert_eq!(say(&mut listens, &["LISTEN a", "LISTEN b"]), ["+a", "+b"]);
        assert_eq!(say(&mut listens, texts), due, "{texts:?}");
    };
    check(&["LISTEN a", "UNLISTEN c"], &[]);
    check(&["UNLISTEN a"], &["-a"]);
    check(&["UNLISTEN *"], &["-a", "-b"]);
    // Whoever takes back and listens again goes on listening.
    check(&["BEGIN", "UNLISTEN a", "LISTEN a", "COMMIT"], &[]);
    check(&["BEGIN", "UNLISTEN *", "LISTEN a", "LISTEN c", "COMMIT"], &["-b", "+c"]);
    check(&["BEGIN", "LISTEN c", "UNLISTEN c", "COMMIT"], &[]);
    check(&["BEGIN", "UNLISTEN a", "SAVEPOINT s", "LISTEN a", "RELEASE s", "COMMIT"], &[]);
    check(&["BEGIN", "UNLISTEN a", "SAVEPOINT s", "LISTEN a", "ROLLBACK TO s", "COMMIT"], &["-a"]);
    check(&["BEGIN", "LISTEN c", "SAVEPOINT s", "UNLISTEN *", "ROLLBACK TO s", "COMMIT"], &["+c"]);
    check(&["BEGIN", "LISTEN c", "SAVEPOINT s", "UNLISTEN *", "LISTEN b", "RELEASE s", "COMMIT"], &["-a"]);
}

#[test]
fn what_is_open_counts_and_repeats_do_not() {
    let mut listens = Listens::default();
    let check = |listens: &mut Listens, texts: &[&str], len: usize| {
        texts.iter().for_each(|text| {
            let plan = classify(text.as_bytes(), true, &Catalogue::default());
            listens.succeeded(&plan.statements[0].kind, b"LISTEN");
        });
        assert_eq!(listens.len(), len, "{texts:?}");
    };
    check(&mut listens, &["LISTEN a", "LISTEN b", "LISTEN a", "UNLISTEN c"], 2);
    listens.ready(Idle);
    check(&mut listens, &["BEGIN", "LISTEN a", "LISTEN c", "SAVEPOINT s", "LISTEN c", "LISTEN d", "UNLISTEN a"], 3);
    check(&mut listens, &["SAVEPOINT t", "UNLISTEN *", "LISTEN e"], 1);
    check(&mut listens, &["ROLLBACK TO t"], 3);
    check(&mut listens, &["ROLLBACK TO s"], 3);
    check(&mut listens, &["UNLISTEN b", "LISTEN b", "UNLISTEN b"], 2);
    // As PostgreSQL has it, a word that changed nothing cannot be prepared either.
    listens.succeeded(&classify(b"ROLLBACK", true, &Catalogue::default()).statements[0].kind, b"ROLLBACK");
    assert!(!listens.is_changing());
    check(&mut listens, &["BEGIN", "LISTEN a"], 2);
    assert!(listens.is_changing());
}

#[test]
fn whatever_is_said_it_is_as_if_it_was_kept_as_it_was_said() {
    // A model that keeps all words, and goes through them again at each commit.
    let words = ["LISTEN a", "LISTEN b", "UNLISTEN a", "UNLISTEN b", "UNLISTEN *", "SAVEPOINT s", "SAVEPOINT t"];
    let ends = ["RELEASE s", "RELEASE t", "ROLLBACK TO s", "ROLLBACK TO t"];
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..2000 {
        let (mut listens, mut done, mut known) = (Listens::default(), Vec::new(), std::collections::BTreeSet::new());
        for _ in 0..3 {
            let (mut said, mut marks): (Vec<&str>, Vec<(&str, usize)>) = (Vec::new(), Vec::new());
            let mut texts = vec!["BEGIN"];
            for _ in 0..random(12) {
                let word = if random(3) == 0 { ends[random(ends.len())] } else { words[random(words.len())] };
                let name = word.rsplit(' ').next().unwrap();
                let mark = marks.iter().rposition(|(known, _)| *known == name);
                match (word.split(' ').next().unwrap(), mark) {
                    ("SAVEPOINT", _) => marks.push((name, said.len())),
                    ("RELEASE", Some(mark)) => marks.truncate(mark),
                    ("ROLLBACK", Some(mark)) => {
                        said.truncate(marks[mark].1);
                        marks.truncate(mark + 1);
                    }
                    ("RELEASE" | "ROLLBACK", None) => continue,
                    _ => said.push(word),
                }
                texts.push(word);
            }
            let is_kept = random(4) > 0;
            texts.push(if is_kept { "COMMIT" } else { "ROLLBACK" });
            for word in said.iter().filter(|_| is_kept) {
                match *word {
                    "UNLISTEN *" => known.clear(),
                    word if word.starts_with('U') => drop(known.remove(&word[9..])),
                    word => drop(known.insert(&word[7..])),
                }
            }
            for due in say(&mut listens, &texts) {
                match due.split_at(1) {
                    ("+", channel) => {
                        assert!(!done.contains(&channel.to_owned()), "{round}: {texts:?}");
                        done.push(channel.to_owned());
                    }
                    (_, channel) => done.retain(|known| known != channel),
                }
            }
            done.sort();
            assert!(
                done.iter().map(String::as_str).eq(known.iter().copied()),
                "{round}: {texts:?}: {done:?}, {known:?}"
            );
            assert_eq!(listens.len(), known.len(), "{round}: {texts:?}");
        }
    }
}

#[test]
fn what_is_kept_of_a_transaction_is_bounded() {
    let kind = |text: &str| classify(text.as_bytes(), true, &Catalogue::default()).statements[0].kind.clone();
    let (savepoint, listen, unlisten) = (kind("SAVEPOINT s"), kind("LISTEN a"), kind("UNLISTEN a"));
    let mut listens = Listens::default();
    let mut rounds = 0;
    while !listens.is_full() {
        listens.succeeded(&savepoint, b"SAVEPOINT");
        listens.succeeded(if rounds % 2 == 0 { &listen } else { &unlisten }, b"LISTEN");
        assert!(listens.is_changing() && listens.is_heard("a") == (rounds % 2 == 0));
        rounds += 1;
    }
    assert_eq!(rounds, 1000);
    // Savepoints alone are none of its business, and what is taken back or becomes one counts no more.
    (0..10_000).for_each(|_| listens.succeeded(&savepoint, b"SAVEPOINT"));
    (0..=10_000).for_each(|_| listens.succeeded(&kind("RELEASE s"), b"RELEASE"));
    assert!(!listens.is_full());
    assert_eq!(listens.len(), 0);
    listens.succeeded(&kind("ROLLBACK"), b"ROLLBACK");
    assert!(!listens.is_changing() && !listens.is_full());
    // Many channels, time and again.
    let many: Vec<_> = (0..10_000).map(|number| kind(&format!("LISTEN c{number}"))).collect();
    for round in 1..=5 {
        listens.succeeded(&savepoint, b"SAVEPOINT");
        listens.succeeded(&kind("UNLISTEN *"), b"UNLISTEN");
        many.iter().for_each(|listen| listens.succeeded(listen, b"LISTEN"));
        assert_eq!((listens.len(), listens.is_full()), (10_000, round == 5));
    }
    listens.succeeded(&kind("RELEASE s"), b"RELEASE");
    assert_eq!((listens.len(), listens.is_full()), (10_000, false));
}
