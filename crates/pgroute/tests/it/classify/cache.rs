use pgroute::classify::{Cache, Catalogue, Route, classify};
use proptest::prelude::*;

#[test]
fn a_text_is_kept_when_it_comes_again() {
    let catalogue = Catalogue::default();
    let mut cache = Cache::new(1 << 20);
    for times in 1..5 {
        assert_eq!(cache.plan(b"SELECT '1'", true, &catalogue, 0).route, Route::Replica);
        assert_eq!(cache.len(), usize::from(times > 1));
    }
    assert_eq!(cache.plan(&[b'x'; 20_000], true, &catalogue, 0).route, Route::Primary);
    cache.plan(&[b'x'; 20_000], true, &catalogue, 0);
    assert_eq!(cache.len(), 1, "long texts are not kept");
    assert_eq!(cache.plan(b"SELECT '1'", false, &catalogue, 0).route, Route::Replica);
    assert_eq!(cache.len(), 2, "another reading of strings is kept apart, and drops nothing");
    cache.plan(b"SELECT '2'", true, &catalogue, 1);
    assert_eq!(cache.len(), 0, "another catalogue makes all of it void");
}

#[test]
fn texts_that_differ_by_numbers_alone_are_one() {
    let catalogue = Catalogue::default();
    let mut cache = Cache::new(1 << 20);
    for number in 0..100 {
        for text in [
            format!("SELECT a FROM t1 WHERE id = {number} AND x < -{number}.{number}e3;"),
            format!("UPDATE t SET a={number},b=a+{number} WHERE id IN({number},{number})"),
        ] {
            cache.plan(text.as_bytes(), true, &catalogue, 0);
        }
    }
    assert_eq!(cache.len(), 2);
    for text in [
        "SELECT a FROM t1 WHERE id = '1'",
        "SELECT a FROM t1 -- 1",
        "SELECT a FROM t1 /* 1 */",
        "SET a = 1",
        "SET a = 0",
    ] {
        for _ in 0..2 {
            assert_eq!(*cache.plan(text.as_bytes(), true, &catalogue, 0), classify(text.as_bytes(), true, &catalogue));
        }
    }
    assert_eq!(cache.len(), 7, "other texts are kept as they are");
}

#[test]
fn it_stays_within_its_bytes() {
    let catalogue = Catalogue::default();
    let mut cache = Cache::new(10_000);
    for round in 0..2000 {
        let text = format!("SELECT a{}", round / 2);
        cache.plan(text.as_bytes(), true, &catalogue, 0);
        cache.plan(b"SELECT 'often'", true, &catalogue, 0);
        assert!(cache.len() <= 10_000 / 160);
    }
    assert!(cache.len() > 5);
    // Many statements take more than their text.
    let mut cache = Cache::new(1 << 20);
    for round in 0..500 {
        let text = format!("SELECT a{round};{}", "a;".repeat(900));
        cache.plan(text.as_bytes(), true, &catalogue, 0);
        cache.plan(text.as_bytes(), true, &catalogue, 0);
    }
    let each = 900 * std::mem::size_of::<pgroute::classify::Statement>();
    assert!(cache.len() > 1 && cache.len() <= (1 << 20) / each, "{}", cache.len());
    let mut none = Cache::new(0);
    none.plan(b"SELECT 1", true, &catalogue, 0);
    none.plan(b"SELECT 1", true, &catalogue, 0);
    assert!(none.is_empty());
}

/// Pieces of texts that numbers stand between, in and before.
const PIECES: [&str; 20] = [
    "SELECT ",
    "1",
    "20",
    "300",
    "f",
    "(",
    ")",
    " ",
    ".",
    "e",
    "SET a = ",
    "; ",
    "'",
    "$",
    "--",
    "/*",
    "*/",
    "pg_advisory_lock",
    "FOR UPDATE",
    "_",
];

proptest! {
    #[test]
    fn numbers_do_not_matter_where_it_says_so(
        texts in prop::collection::vec(prop::collection::vec(0..PIECES.len(), 1..8), 1..6),
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 1..60),
    ) {
        let catalogue = Catalogue::default();
        let mut cache = Cache::new(1 << 20);
        for (index, other, standard) in order {
            let choices = index.get(&texts);
            // The same pieces with other numbers.
            let text: String =
                choices.iter().map(|at| if other && (1..4).contains(at) { "4711" } else { PIECES[*at] }).collect();
            let plan = cache.plan(text.as_bytes(), standard, &catalogue, 0);
            prop_assert_eq!(&*plan, &classify(text.as_bytes(), standard, &catalogue), "{}", text);
        }
    }
}

proptest! {
    #[test]
    fn it_says_what_looking_anew_says(choices in prop::collection::vec((0_usize..6, any::<bool>()), 1..60)) {
        const TEXTS: [&str; 6] =
            ["SELECT 1", "SELECT f(1)", r"SELECT '\'; DELETE FROM t; --'", "SET a = 1", "SELECT '", "BEGIN READ ONLY"];
        let catalogue = Catalogue::default();
        let mut cache = Cache::new(900);
        for (choice, standard) in choices {
            let text = TEXTS[choice].as_bytes();
            prop_assert_eq!(&*cache.plan(text, standard, &catalogue, 0), &classify(text, standard, &catalogue));
        }
    }
}
