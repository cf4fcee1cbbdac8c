//! Every order in which threads can meet in the store, by the model checker.

use bytes::Bytes;
use loom::sync::Arc;
use loom::thread;

use crate::growing::{Growing, Step};
use crate::key::{KeyHasher, Mark};
use crate::memory::{Found, Joining, Memory};
use crate::noted::Filter;
use crate::object::{CHUNK_BYTES, Identity, Object};
use crate::pending::Pending;
use crate::pool::Pool;
use crate::purges::{How, Judgement, Purge, Purges, Token};
use crate::store::Store;

/// Threads are stopped in the middle of a step at most so often, which bounds the number of orders.
fn every_order(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn tag() -> Mark {
    Mark::tag(b"a")
}

#[test]
fn no_lookup_after_a_purge_finds_what_was_fetched_before() {
    every_order(|| {
        let shared = Arc::new((Memory::new(1024 * 1024), Purges::new(4, 4), KeyHasher::new()));
        let store = |shared: &(Memory, Purges, KeyHasher), version: u64| {
            let (memory, purges, hasher) = shared;
            let since = Token(purges.latest());
            let key = hasher.key(b"k");
            let marks = Filter::new(0).note([tag()]);
            let identity = Identity { key: b"k"[..].into(), hash: key.hash(), marks, since, version };
            let object = Object { identity, meta: Bytes::new(), chunks: Box::default(), body_bytes: 0 };
            memory.insert(std::sync::Arc::new(object), since, None);
        };
        let other = Arc::clone(&shared);
        let writer = thread::spawn(move || store(&other, 1));
        let (memory, purges, hasher) = &*shared;
        let number = purges.purge(Purge::mark(tag(), How::Hard)).number;
        // Found now is only what took its number after the purge.
        if let Found::Whole(object, _) = memory.lookup(hasher.key(b"k"), purges) {
            assert!(object.identity.since.0 >= number);
        }
        writer.join().expect("joined");
        if let Found::Whole(object, _) = memory.lookup(hasher.key(b"k"), purges) {
            assert!(object.identity.since.0 >= number);
        }
    });
}

#[test]
fn two_purges_at_once_are_both_heard_of() {
    every_order(|| {
        let purges = Arc::new(Purges::new(4, 4));
        let other = Arc::clone(&purges);
        let thread = thread::spawn(move || other.purge(Purge::prefix(b"k", How::Soft)).number);
        let own = purges.purge(Purge::mark(tag(), How::Hard)).number;
        assert_eq!(purges.judge(own - 1, b"k", &[tag()]).0, Judgement::Gone);
        let number = thread.join().expect("joined");
        assert_ne!(number, own);
        assert_eq!(purges.judge(number - 1, b"k", &[]).0, Judgement::Stale(0));
        assert_eq!(purges.judge(0, b"k", &[tag()]).0, Judgement::Gone);
        assert_eq!(purges.judge(2, b"k", &[tag()]).0, Judgement::Valid);
    });
}

#[test]
fn what_was_purged_stays_gone_while_its_mark_is_forgotten() {
    let check = |first: fn() -> Purge, second: fn() -> Purge| {
        every_order(move || {
            let purges = Arc::new(Purges::new(1, 1));
            purges.purge(first());
            let other = Arc::clone(&purges);
            // There is room for one.
            let thread = thread::spawn(move || other.purge(second()));
            assert_eq!(purges.judge(0, b"k", &[tag()]).0, Judgement::Gone);
            thread.join().expect("joined");
            assert_eq!(purges.judge(0, b"k", &[tag()]).0, Judgement::Gone);
        });
    };
    check(|| Purge::mark(tag(), How::Hard), || Purge::mark(Mark::tag(b"b"), How::Hard));
    check(|| Purge::prefix(b"k", How::Hard), || Purge::prefix(b"other", How::Hard));
}

/// An object of a key, which says that it has so many bytes.
fn object(store: &Store, version: u64, body_bytes: u64) -> std::sync::Arc<Object> {
    let (key, marks) = (store.key(b"k"), Filter::new(0).note([]));
    let identity = Identity { key: b"k"[..].into(), hash: key.hash(), marks, since: Token(0), version };
    std::sync::Arc::new(Object { identity, meta: Bytes::new(), chunks: Box::default(), body_bytes })
}

#[test]
fn what_is_read_while_it_is_removed_or_replaced_does_not_stay_in_memory() {
    let check = |change: fn(&Store)| {
        every_order(move || {
            let (store, _jobs) = Store::idle();
            let old = object(&store, 1, 10);
            let disk = |store: &Store| store.0.disk.as_ref().map(|disk| disk.has_read(&old));
            store.0.disk.iter().for_each(|disk| disk.pretend(&old));
            let other = store.clone();
            let thread = thread::spawn(move || change(&other));
            disk(&store);
            thread.join().expect("joined");
            let found = store.0.base.memory.lookup(store.key(b"k"), &store.0.base.purges);
            assert!(!matches!(found, Found::Whole(found, _) if found.identity.version == 1));
        });
    };
    check(|store| store.remove(store.key(b"k")));
    check(|store| {
        let new = object(store, 2, 10);
        store.0.keep(new, (Token(0), None), store.0.disk.as_ref());
    });
    // It is on disk alone.
    check(|store| {
        let new = object(store, 2, 1024 * 1024);
        store.0.keep(new, (Token(0), None), store.0.disk.as_ref());
    });
}

#[test]
fn one_leads_a_fetch() {
    every_order(|| {
        let shared = Arc::new((Memory::new(1024 * 1024), Purges::new(4, 4), KeyHasher::new()));
        let begin = |shared: &(Memory, Purges, KeyHasher)| {
            let (memory, purges, hasher) = shared;
            let joining =
                memory.join_or_begin(hasher.key(b"k"), purges, || Pending::fetch(Token(0), Filter::new(0).note([])));
            u32::from(matches!(joining, Joining::First(_)))
        };
        let other = Arc::clone(&shared);
        let thread = thread::spawn(move || begin(&other));
        let leaders = begin(&shared) + thread.join().expect("joined");
        assert_eq!(leaders, 1);
    });
}

#[test]
fn a_reader_has_what_was_appended_in_order_and_its_end() {
    every_order(|| {
        let growing = Arc::new(Growing::new());
        let other = Arc::clone(&growing);
        let writer = thread::spawn(move || {
            let pool = Pool::new(0);
            other.append(b"ab", 0, &pool);
            other.append(b"c", 0, &pool);
            other.finish();
        });
        let read = |from: u64| match growing.step(from) {
            Step::Bytes(bytes) => bytes.to_vec(),
            Step::Later => Vec::new(),
            Step::End => b".".to_vec(),
            step => panic!("{step:?}"),
        };
        let first = read(0);
        assert!(b"abc".starts_with(&first[..]) && first.len() != 1, "{first:?}");
        let second = read(2);
        assert!(second.is_empty() || second == b"c", "{second:?}");
        writer.join().expect("joined");
        assert_eq!((read(0), read(2), read(3)), (b"abc".to_vec(), b"c".to_vec(), b".".to_vec()));
    });
}

#[test]
fn whoever_may_still_join_has_the_whole_body() {
    every_order(|| {
        let growing = std::sync::Arc::new(Growing::new());
        growing.append(&[1; CHUNK_BYTES], 0, &Pool::new(0));
        let other = std::sync::Arc::clone(&growing);
        let writer = thread::spawn(move || {
            other.keep_latest(0, false);
        });
        let seat = growing.enter();
        let first = growing.step(0);
        writer.join().expect("joined");
        assert_eq!(seat.is_some(), matches!(growing.step(0), Step::Bytes(_)), "what it needs stays there");
        assert!(seat.is_none() || matches!(first, Step::Bytes(_)));
        drop(seat);
        growing.keep_latest(0, false);
        assert!(matches!(growing.step(0), Step::Lagged), "nobody needs it");
    });
}
