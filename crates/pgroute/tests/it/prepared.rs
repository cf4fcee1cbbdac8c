use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pgroute::prepared::{Changes, Held, Key, NameError, Named, Names, Need, Number, Shape, Shared, Texts};
use proptest::prelude::*;

fn key(text: &str, reading: &str) -> Key {
    Key { text: text.as_bytes().into(), types: [].into(), reading: reading.into() }
}

#[test]
fn the_same_statement_has_one_number_as_long_as_its_names_mean_the_same() {
    let mut shared = Shared::new(1 << 20);
    let first = shared.statement(key("SELECT * FROM t", "public"));
    assert_eq!(first.number.to_string(), "tf_0");
    assert_eq!(shared.statement(key("SELECT * FROM t", "public")).number, first.number);
    assert_ne!(shared.statement(key("SELECT * FROM t", "other, public")).number, first.number);
    assert_ne!(shared.statement(key("SELECT * FROM u", "public")).number, first.number);
    let typed = Key { types: [0, 0, 0, 23].into(), ..key("SELECT * FROM t", "public") };
    assert_ne!(shared.statement(typed).number, first.number);
    assert_eq!(shared.len(), 4);
}

#[test]
fn what_clients_have_stays_and_the_rest_is_bounded() {
    let mut shared = Shared::new(20_000);
    let held = shared.statement(key("SELECT 'held'", ""));
    for round in 0..5000 {
        shared.statement(key(&format!("SELECT {round}"), ""));
        assert!(shared.bytes() <= 20_000);
    }
    assert!(shared.len() > 50);
    assert_eq!(shared.statement(key("SELECT 'held'", "")).number, held.number);
    // When clients hold more than there is room for, it is bounded all the same, and no number comes twice.
    let all: Vec<_> = (0..500).map(|round| shared.statement(key(&format!("VALUES ({round})"), ""))).collect();
    assert!(shared.bytes() <= 20_000);
    let numbers: BTreeSet<_> = all.iter().map(|statement| statement.number).collect();
    assert_eq!(numbers.len(), 500);
    let huge = shared.statement(key(&"x".repeat(30_000), ""));
    assert!(shared.bytes() <= 20_000 && huge.key.text.len() == 30_000);
}

/// A message of a server.
fn told(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A column of a `RowDescription`: its name, where it comes from, and the number of its type.
fn column(name: &str, table: u32, kind: u32) -> Vec<u8> {
    let origin = [&table.to_be_bytes()[..], &[0, 1]].concat();
    [name.as_bytes(), &[0], &origin, &kind.to_be_bytes(), &[0, 4, 255, 255, 255, 255, 0, 0]].concat()
}

#[test]
fn a_shape_is_what_a_statement_takes_and_gives() {
    let columns = |columns: &[Vec<u8>]| {
        let mut shape = Shape::default();
        let body = [&(columns.len() as u16).to_be_bytes()[..], &columns.concat()].concat();
        assert!(shape.told(&told(b'T', &body)).unwrap());
        shape
    };
    let plain = columns(&[column("a", 7, 23), column("b", 7, 25)]);
    assert_eq!(columns(&[column("a", 8, 23), column("b", 8, 25)]), plain, "where they come from does not matter");
    for other in [
        vec![column("a", 7, 23)],
        vec![column("b", 7, 25), column("a", 7, 23)],
        vec![column("a", 7, 25), column("b", 7, 25)],
        vec![column("c", 7, 23), column("b", 7, 25)],
        vec![],
    ] {
        assert_ne!(columns(&other), plain);
    }
    let mut none = Shape::default();
    assert!(none.told(&told(b'n', &[])).unwrap());
    assert_ne!(none, columns(&[]), "no rows are something else than rows without columns");
    let mut shape = Shape::default();
    assert!(!shape.told(&told(b't', &[0, 2, 0, 0, 0, 23, 0, 0, 0, 25])).unwrap());
    assert_eq!(*shape.types, [0, 0, 0, 23, 0, 0, 0, 25]);
    assert!(!shape.told(&told(b'C', b"SELECT 1\0")).unwrap());
    for broken in [told(b't', &[0, 2, 0, 0, 0, 23]), told(b'T', &[0, 1, b'a', 0]), told(b'T', &[0, 0, 1])] {
        assert!(shape.told(&broken).is_err(), "{broken:?}");
    }
}

#[test]
fn a_name_can_stand_for_what_it_would_if_it_had_been_prepared_later() {
    let (mut shared, mut names) = (Shared::new(1 << 20), Names::new(10));
    let statement = shared.statement(key("SELECT $1", ""));
    names
        .take(b"s", Named { statement, prepared_at: Changes(1), plan: Arc::default(), by_text: false, taken: 0 })
        .unwrap();
    let typed = shared.statement(Key { types: [0, 0, 0, 23].into(), ..key("SELECT $1", "") });
    names.renew(b"s", Arc::clone(&typed), Changes(5));
    names.renew(b"none", Arc::clone(&typed), Changes(5));
    let named = names.find(b"s").unwrap();
    assert_eq!((named.statement.number, named.prepared_at), (typed.number, Changes(5)));
    // Its bytes are counted as what they are.
    assert!(names.close(b"s").is_some() && names.is_empty());
}

#[test]
fn what_a_client_keeps_is_bounded() {
    let mut shared = Shared::new(1 << 10);
    let mut names = Names::new(1000);
    let mut take = |names: &mut Names, number: usize| {
        let statement = shared.statement(key(&format!("{number}{}", " ".repeat(16 << 20)), ""));
        names.take(
            number.to_string().as_bytes(),
            Named { statement, prepared_at: Changes(0), plan: Arc::default(), by_text: false, taken: 0 },
        )
    };
    for number in 0..3 {
        take(&mut names, number).unwrap();
    }
    assert_eq!(take(&mut names, 3), Err(NameError::TooLarge(64 << 20)));
    assert!(names.close(b"1").is_some());
    take(&mut names, 3).unwrap();
    names.clear();
    take(&mut names, 4).unwrap();
}

#[test]
fn a_backend_knows_statements_of_texts_by_clients_names() {
    let (one, two) = (Number(1), Number(2));
    let mut texts = Texts::new(2);
    assert!(!texts.has(b"q", one, Changes(0)));
    assert_eq!(texts.prepare(b"q", one, Changes(3)), None);
    assert!(texts.has(b"q", one, Changes(3)) && !texts.has(b"q", two, Changes(0)));
    assert!(!texts.has(b"q", one, Changes(4)), "the schema has changed since");
    // Another client means something else by it.
    assert_eq!(texts.prepare(b"q", two, Changes(4)), None);
    assert!(texts.has(b"q", two, Changes(4)) && !texts.has(b"q", one, Changes(0)));
    assert_eq!(texts.prepare(b"r", one, Changes(4)), None);
    assert!(texts.has(b"q", two, Changes(0)));
    assert_eq!(texts.prepare(b"s", one, Changes(4)).as_deref(), Some(&b"r"[..]), "the one that was not used goes");
    assert_eq!(texts.len(), 2);
    assert_eq!(texts.keep_only(|name| name == b"s"), [Box::from(&b"q"[..])]);
    // An error has dropped something: anything may be there, and has to go.
    texts.doubt(b"s");
    assert!(!texts.has(b"s", one, Changes(0)));
    assert_eq!(texts.prepare(b"t", one, Changes(4)), None);
    assert_eq!(texts.prepare(b"u", one, Changes(4)).as_deref(), Some(&b"s"[..]), "before those that are known");
    assert!(texts.forget(b"t") && texts.forget(b"u") && !texts.forget(b"s"));
    assert!(texts.is_empty());
}

#[test]
fn names_are_a_clients_own() {
    let mut shared = Shared::new(1 << 20);
    let mut names = Names::new(2);
    let mut named = |text: &str| Named {
        statement: shared.statement(key(text, "")),
        prepared_at: Changes(0),
        plan: Arc::default(),
        by_text: false,
        taken: 0,
    };
    names.take(b"a", named("SELECT 1")).unwrap();
    assert_eq!(names.take(b"a", named("SELECT 1")), Err(NameError::Taken));
    names.take(b"", named("SELECT 2")).unwrap();
    names.take(b"", named("SELECT 3")).unwrap();
    assert_eq!(&*names.find(b"").unwrap().statement.key.text, b"SELECT 3");
    let text = Named { by_text: true, ..named("SELECT 1") };
    assert_eq!(names.by_text().count(), 0);
    names.take(b"b", text).unwrap();
    assert!(names.by_text().eq([&b"b"[..]]));
    // Another reading may be longer.
    let longer = Shared::new(1 << 20).statement(key("SELECT 1", &"x".repeat(100)));
    names.read_as(b"b", longer);
    assert!(names.close(b"b").is_some() && names.by_text().next().is_none());
    // What took the name before does not have it forgotten.
    let numbers = [names.number(), names.number()];
    names.take(b"b", Named { taken: numbers[1], ..named("SELECT 1") }).unwrap();
    assert!(!names.untake(b"b", numbers[0]) && names.find(b"b").is_some());
    assert!(names.untake(b"b", numbers[1]) && names.find(b"b").is_none());
    names.take(b"b", named("SELECT 1")).unwrap();
    assert_eq!(names.take(b"c", named("SELECT 1")), Err(NameError::TooMany(2)));
    let (a, b) = (names.find(b"a").unwrap(), names.find(b"b").unwrap());
    assert!(Arc::ptr_eq(&a.statement, &b.statement));
    assert!(names.close(b"a").is_some() && names.close(b"a").is_none() && names.find(b"a").is_none());
    names.clear();
    assert!(names.is_empty() && names.find(b"").is_none());
}

#[test]
fn a_plan_is_stale_by_sharing_when_nothing_changed_since_its_client_prepared_it() {
    let mut changes = Changes::default();
    let before = changes;
    changes.advance();
    assert!(!before.is_stale_by_sharing(changes));
    assert!(changes.is_stale_by_sharing(changes));
}

const THERE: Changes = Changes(0);

/// What a use asks for when nothing changes.
fn used(held: &mut Held, number: u64) -> Need {
    held.use_of(Number(number), THERE, THERE)
}

#[test]
fn what_errors_drop_is_sent_again() {
    let mut held = Held::new(1);
    assert_eq!(used(&mut held, 1), Need::Parse { anew: false, close: None });
    assert_eq!(used(&mut held, 1), Need::Nothing);
    held.unparsed(held.sent(Number(1)));
    assert_eq!(used(&mut held, 1), Need::Parse { anew: false, close: None });
    assert_eq!(used(&mut held, 2), Need::Parse { anew: false, close: Some(Number(1)) });
    // Both were dropped by an error, the last one first: the backend has what it had, and nobody knows from when.
    let (parse, close) = (held.sent(Number(2)), held.sent(Number(1)));
    held.unparsed(parse);
    held.unclosed(close);
    assert!(!held.has(Number(1), THERE) && held.parsed_at(Number(1)).is_none());
    assert_eq!((held.len(), held.numbers()), (1, vec![Number(1)]));
    assert_eq!(used(&mut held, 1), Need::Parse { anew: true, close: None });
    assert_eq!(used(&mut held, 1), Need::Nothing);
    // One that nobody is certain of is the first to go.
    held.kept(Number(1));
    assert_eq!(used(&mut held, 2), Need::Parse { anew: false, close: Some(Number(1)) });
    held.clear();
    assert_eq!(used(&mut held, 1), Need::Parse { anew: false, close: None });
}

#[test]
fn what_was_sent_since_is_not_taken_back() {
    let mut held = Held::new(2);
    used(&mut held, 1);
    let first = held.sent(Number(1));
    // It is not known to be there, so the next group has it closed, and parsed again.
    held.kept(Number(1));
    assert_eq!(used(&mut held, 1), Need::Parse { anew: true, close: None });
    let second = held.sent(Number(1));
    held.unparsed(first);
    assert_eq!(used(&mut held, 1), Need::Nothing);
    held.closed(Held::overtaken(Number(1)));
    held.parsed(second);
    assert!(held.has(Number(1), THERE));
    // An error of the second group drops both.
    held.unparsed(second);
    held.unclosed(Held::overtaken(Number(1)));
    assert_eq!(used(&mut held, 1), Need::Parse { anew: true, close: None });
    // What is being closed may stay, so it is closed once more; the first answer says nothing then.
    let close = held.close(Number(1));
    assert_eq!((held.len(), held.has(Number(1), THERE)), (0, false));
    assert_eq!(used(&mut held, 1), Need::Parse { anew: true, close: None });
    held.closed(close);
    held.unclosed(close);
    assert!(held.has(Number(1), THERE));
    let close = held.close(Number(1));
    held.closed(close);
    assert!(held.numbers().is_empty());
    // Whatever was believed, it is there when the server says so.
    held.parsed(second);
    assert_eq!(used(&mut held, 1), Need::Parse { anew: true, close: None });
}

#[test]
fn who_has_to_go_is_found_without_a_walk() {
    let begun = std::time::Instant::now();
    let count = 20_000;
    let mut held = Held::new(count as usize);
    // With all that it may have, and as many again, none of whose `Close` is answered before all are sent.
    for number in 0..2 * count {
        used(&mut held, number);
    }
    assert_eq!(held.len(), count as usize);
    // What is used again goes last.
    used(&mut held, count);
    for number in 2 * count..3 * count {
        let gone = if number + 1 == 3 * count { count } else { number + 1 - count };
        assert_eq!(used(&mut held, number), Need::Parse { anew: false, close: Some(Number(gone)) });
    }
    // A walk for each took minutes.
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

proptest! {
    /// Against a model that keeps the uses in order.
    #[test]
    fn the_least_used_goes(max in 1_usize..6, uses in prop::collection::vec(0_u64..10, 0..200)) {
        let mut held = Held::new(max);
        let mut model: BTreeMap<Number, usize> = BTreeMap::new();
        for (at, number) in uses.into_iter().map(Number).enumerate() {
            let expected = if model.contains_key(&number) {
                Need::Nothing
            } else {
                let oldest = model.iter().min_by_key(|(_, used)| **used).map(|(number, _)| *number);
                let close = oldest.filter(|_| model.len() == max);
                close.map(|close| model.remove(&close));
                Need::Parse { anew: false, close }
            };
            model.insert(number, at);
            prop_assert_eq!(held.use_of(number, THERE, THERE), expected);
            if let Need::Parse { close: Some(close), .. } = expected {
                held.closed(held.sent(close));
            }
            prop_assert_eq!(held.len(), model.len());
        }
    }
}

#[test]
fn a_statement_from_before_a_change_is_parsed_anew_for_who_came_after_it() {
    let mut held = Held::new(10);
    let (before, after) = (Changes(3), Changes(4));
    assert_eq!(held.use_of(Number(1), before, before), Need::Parse { anew: false, close: None });
    assert!(held.has(Number(1), before) && !held.has(Number(1), after));
    // Who prepared it before the change hears of it from the server, as without a proxy.
    assert_eq!(held.use_of(Number(1), before, after), Need::Nothing);
    assert_eq!(held.use_of(Number(1), after, after), Need::Parse { anew: true, close: None });
    assert_eq!(held.use_of(Number(1), after, after), Need::Nothing);
    assert_eq!(held.len(), 1);
}
