//! Purges by key, group, tag and prefix, hard and soft, and what races with them.

use std::time::{Duration, Instant};

use store::{Begin, Head, How, Lookup, Mark, Outcome, Purge, Store, StoreParams};

use crate::tier::{MIB, body, head, hit, put, read_all, run, start, store};

fn tag(name: &str) -> Mark {
    Mark::tag(name.as_bytes())
}

fn purge(store: &Store, purge: Purge) {
    store.purge(purge).expect("purges");
}

#[test]
fn each_kind_takes_what_it_names_and_nothing_else() {
    let check = |what: Purge, expected: &[bool; 4]| {
        let store = store(8 * MIB);
        let keys = ["https://a.example/x/1", "https://a.example/x/2", "https://a.example/y", "https://b.example/x/1"];
        for (key, tags) in keys.iter().zip([&["red", "all"][..], &["blue", "all"], &["red"], &[]]) {
            let mut head = head("", tags);
            head.marks.push(Mark::key(key.as_bytes()));
            head.marks.push(Mark::group(&key.as_bytes()[8..17]));
            put(&store, key, head, b"body");
        }
        purge(&store, what.clone());
        let left = keys.map(|key| hit(&store, key).is_some());
        assert_eq!(left, *expected, "{what:?}");
        // What is stored afterwards is not concerned.
        put(&store, keys[0], head("", &["red", "all"]), b"new");
        assert!(hit(&store, keys[0]).is_some(), "{what:?}");
    };
    check(Purge::mark(tag("red"), How::Hard), &[false, true, false, true]);
    check(Purge::mark(tag("all"), How::Hard), &[false, false, true, true]);
    check(Purge::mark(tag("none"), How::Hard), &[true, true, true, true]);
    check(Purge::mark(Mark::key(b"https://a.example/x/2"), How::Hard), &[true, false, true, true]);
    check(Purge::mark(Mark::group(b"a.example"), How::Hard), &[false, false, false, true]);
    check(Purge::prefix(b"https://a.example/x/", How::Hard), &[false, false, true, true]);
    check(Purge::prefix(b"", How::Hard), &[false, false, false, false]);
    check(Purge::all(How::Hard), &[false, false, false, false]);
}

#[test]
fn what_is_purged_softly_is_stale() {
    let store = store(8 * MIB);
    put(&store, "k", head("", &["a"]), b"body");
    for what in [Purge::mark(tag("a"), How::Soft), Purge::prefix(b"k", How::Soft), Purge::all(How::Soft)] {
        put(&store, "k", head("", &["a"]), b"body");
        assert!(!hit(&store, "k").expect("stored").is_stale());
        purge(&store, what);
        assert!(hit(&store, "k").expect("kept").is_stale());
        assert!(hit(&store, "k").expect("kept").is_stale(), "it stays so");
        let kept = hit(&store, "k").expect("kept").kept();
        assert!(store.refresh(&kept, store.token(), head("", &["a"])));
        assert!(!hit(&store, "k").expect("kept").is_stale(), "until it is validated");
    }
}

#[test]
fn what_is_stale_says_since_when() {
    let store = store(8 * MIB);
    let since = |key: &str| hit(&store, key).expect("kept").stale_since;
    let soft = |what: Purge, at: u32| purge(&store, what.at(at));
    let (by_tag, by_prefix) = (|| Purge::mark(tag("a"), How::Soft), || Purge::prefix(b"k", How::Soft));
    for key in ["k", "l", "m"] {
        put(&store, key, head("", &["a"]), b"body");
    }
    soft(by_tag(), 10);
    assert_eq!((since("k"), since("l")), (Some(10), Some(10)));
    // What is stale already stays so since the first purge, whether anybody has looked at it since then or not.
    soft(by_tag(), 20);
    soft(by_prefix(), 30);
    assert_eq!((since("k"), since("l"), since("m")), (Some(10), Some(10), Some(10)));
    put(&store, "k", head("", &["a"]), b"body");
    assert_eq!(since("k"), None);
    // Of several that concern it, the one that came first.
    soft(by_prefix(), 40);
    soft(by_tag(), 50);
    soft(Purge::all(How::Soft), 60);
    assert_eq!(since("k"), Some(40));
    put(&store, "n", head("", &[]), b"body");
    soft(Purge::all(How::Soft), 70);
    assert_eq!(since("n"), Some(70));
}

#[test]
fn a_fetch_from_before_a_purge_is_not_stored() {
    let store = store(8 * MIB);
    run(async {
        for what in [Purge::mark(tag("a"), How::Hard), Purge::prefix(b"ke", How::Hard), Purge::all(How::Hard)] {
            let mut writer = start(&store, "key", head("", &["a"]));
            let Lookup::Coming(before) = store.lookup(store.key(b"key")) else { panic!("it is being fetched") };
            let Outcome::Stream(before) = before.head().await else { panic!("it has begun") };
            writer.append(b"old");
            purge(&store, what);
            // Who comes now begins anew; the one from before runs to its end for those who were there.
            assert!(matches!(store.lookup(store.key(b"key")), Lookup::Miss));
            let mut new = start(&store, "key", head("", &["a"]));
            new.append(b"new");
            assert!(new.finish().expect("whole").in_memory);
            assert!(!writer.finish().expect("whole").in_memory);
            assert_eq!(read_all(before).await.as_deref(), Some(&b"old"[..]));
            assert_eq!(crate::tier::text(&hit(&store, "key").expect("the new one")), b"new");
            purge(&store, Purge::all(How::Hard));
        }
    });
}

#[test]
fn a_fetch_whose_marks_were_purged_before_they_were_known_is_not_shown() {
    let store = store(8 * MIB);
    run(async {
        let key = store.key(b"key");
        let Begin::Lead(lead) = store.begin(key, &[Mark::group(b"g")]) else { panic!("free") };
        purge(&store, Purge::mark(tag("late"), How::Hard));
        // Nobody knows yet that it will carry this tag.
        let Lookup::Coming(follower) = store.lookup(key) else { panic!("it is being fetched") };
        let writer = lead.start(head("", &["late"])).expect("starts");
        assert!(matches!(follower.head().await, Outcome::Nothing));
        drop(writer);
        let Begin::Lead(lead) = store.begin(key, &[Mark::group(b"g")]) else { panic!("free") };
        purge(&store, Purge::mark(Mark::group(b"g"), How::Hard));
        assert!(matches!(store.lookup(key), Lookup::Miss), "this one was known");
        drop(lead);
    });
}

#[test]
fn a_tag_of_a_hundred_thousand_entries_is_purged_at_once() {
    let store = store(256 * MIB);
    for number in 0..100_000 {
        put(&store, &format!("key {number}"), head("", &["all"]), b"");
    }
    let there = store.stats().memory.entries;
    assert_eq!(there, 100_000);
    // That it takes no time is what is promised. A hundred, so that a machine with other work to do is no matter.
    let start = Instant::now();
    (0..100).for_each(|_| purge(&store, Purge::mark(tag("all"), How::Hard)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!((0..100_000).all(|number| hit(&store, &format!("key {number}")).is_none()));
}

#[test]
fn more_purges_than_are_remembered_take_too_much_and_never_too_little() {
    let params = StoreParams { marks_max: 10, prefixes_max: 3, ..StoreParams::new(8 * MIB) };
    let store = Store::open(&params).expect("opens");
    for number in 0..20 {
        put(&store, &format!("old {number}"), head("", &[&format!("tag {number}")]), b"");
    }
    for number in 0..20 {
        purge(&store, Purge::mark(tag(&format!("tag {number}")), How::Hard));
    }
    for number in 0..20 {
        assert!(hit(&store, &format!("old {number}")).is_none(), "{number}");
    }
    put(&store, "new", head("", &["tag 1"]), b"");
    assert!(hit(&store, "new").is_some());
    for number in 0..4 {
        purge(&store, Purge::prefix(format!("prefix {number}").as_bytes(), How::Hard));
    }
    assert!(hit(&store, "new").is_none(), "as old as a prefix that was dropped");
    assert!(store.stats().purge_rules <= 13);
}

#[test]
fn a_stream_of_purges_is_followed_from_where_it_was_left() {
    let store = store(8 * MIB);
    assert_eq!(store.position(), None);
    put(&store, "k", head("", &["a"]), b"");
    assert!(store.follow(7, Purge::mark(tag("a"), How::Hard)).expect("purges").is_some());
    assert!(hit(&store, "k").is_none());
    put(&store, "k", head("", &["a"]), b"");
    assert!(store.follow(7, Purge::mark(tag("a"), How::Hard)).expect("purges").is_none());
    assert!(hit(&store, "k").is_some(), "it was applied before");
    assert_eq!(store.position(), Some(7));
    // Out of contact, it answers nothing.
    store.set_blind(true);
    assert!(hit(&store, "k").is_none());
    store.set_blind(false);
    assert!(hit(&store, "k").is_some());
    assert!(store.purge(Purge::prefix(&[b'a'; 5_000], How::Hard)).is_err());
}

#[test]
fn an_older_fetch_that_ends_late_does_not_put_its_value_back() {
    let store = store(8 * MIB);
    let mut old = start(&store, "key", Head { marks: vec![], ..head("old", &[]) });
    old.append(&body("old", 1, 100));
    // Not its own marks, so that it is not gone; but who asks now may not follow it.
    purge(&store, Purge::prefix(b"other", How::Hard));
    let found = store.begin(store.key(b"key"), &[]);
    assert!(matches!(found, Begin::Follow(_)), "it is good still");
    old.finish().expect("whole");
    assert!(hit(&store, "key").is_some());
}

#[test]
fn marks_that_are_purged_again_and_again_take_no_place_of_others() {
    let params = StoreParams { marks_max: 10, ..StoreParams::new(8 * MIB) };
    let store = Store::open(&params).expect("opens");
    purge(&store, Purge::mark(tag("once"), How::Hard));
    put(&store, "k", head("", &["a"]), b"");
    for _ in 0..1_000 {
        purge(&store, Purge::mark(tag("often"), How::Hard));
        purge(&store, Purge::mark(tag("also"), How::Soft));
    }
    assert!(hit(&store, "k").is_some(), "nothing was forgotten of what was purged");
    assert_eq!(store.stats().purge_rules, 3);
}

#[test]
fn a_purge_of_what_is_not_there_leaves_nothing_behind() {
    let store = store(8 * MIB);
    let page = |number: u32| Mark::key(format!("page {number}").as_bytes());
    for number in 0..1_000 {
        assert!(store.purge_if_there(page(number), How::Hard).is_none(), "{number}");
    }
    assert_eq!((store.stats().purges, store.stats().purge_rules), (0, 0));
    // Stored, and being fetched: before anything has come, and while it comes.
    put(&store, "page 1", Head { marks: vec![page(1)], ..head("", &[]) }, b"");
    assert!(store.purge_if_there(page(1), How::Hard).is_some());
    assert!(hit(&store, "page 1").is_none());
    let Begin::Lead(lead) = store.begin(store.key(b"page 2"), &[page(2)]) else { panic!("free") };
    assert!(store.purge_if_there(page(2), How::Hard).is_some());
    let mut writer = lead.start(Head { marks: vec![page(2)], ..head("", &[]) }).expect("starts");
    writer.append(b"old");
    assert!(!writer.finish().expect("whole").in_memory);
    assert!(store.purge_if_there(page(2), How::Hard).is_none(), "it was not stored");
    let Begin::Lead(lead) = store.begin(store.key(b"page 3"), &[page(3)]) else { panic!("free") };
    drop(lead);
    assert!(store.purge_if_there(page(3), How::Hard).is_none());
    assert_eq!(store.stats().purges, 2);
}

#[test]
fn a_purge_of_what_is_on_disk_is_remembered_and_others_are_not() {
    let folder = testkit::TempDir::new().expect("a folder");
    let disk = Some(store::DiskParams::new(folder.path(), 16 * MIB));
    let params = StoreParams { disk, ..StoreParams::new(4 * MIB) };
    let (page, other) = (Mark::key(b"page"), Mark::key(b"other"));
    let store = Store::open(&params).expect("opens");
    assert!(store.purge_if_there(page, How::Hard).is_none());
    put(&store, "page", Head { marks: vec![page], ..head("", &[]) }, b"");
    put(&store, "other", Head { marks: vec![other], ..head("", &[]) }, b"");
    let nothing = |store: &Store| {
        let some = (0..1_000_u32).filter(|n| store.purge_if_there(Mark::key(&n.to_be_bytes()), How::Hard).is_some());
        assert_eq!(some.count(), 0);
    };
    // It waits for the disk, and is there, known by what was written and by what was read.
    nothing(&store);
    run(store.flush());
    nothing(&store);
    assert!(store.close());
    let store = Store::open(&params).expect("opens");
    nothing(&store);
    assert!(store.close());
    // As after a kill: its end is missing.
    let segment = folder.path().join("0000000001.segment");
    let bytes = std::fs::read(&segment).expect("a segment");
    std::fs::write(&segment, &bytes[..bytes.len() - 1]).expect("written");
    let store = Store::open(&params).expect("opens");
    nothing(&store);
    assert!(store.purge_if_there(page, How::Hard).is_some());
    run(async {
        assert_eq!(crate::tier::read(&store, "page").await, None);
        assert!(crate::tier::read(&store, "other").await.is_some());
    });
}
