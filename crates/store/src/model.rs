//! Every order in which threads can meet in the store, by the model checker.

use bytes::Bytes;
use loom::sync::Arc;
use loom::thread;

use crate::disk::{Disk, DiskObject, Job};
use crate::fill::Writer;
use crate::growing::{Growing, Step};
use crate::key::{KeyHasher, Mark};
use crate::memory::{Found, Joining, Memory};
use crate::noted::Filter;
use crate::object::{CHUNK_BYTES, Head, Identity, Object};
use crate::pending::{Past, Pending, Source, Stage};
use crate::pool::Pool;
use crate::purges::{How, Judgement, Purge, Purges, Token};
use crate::reader::{Begin, Kept};
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
            let object =
                Object { identity, meta: Bytes::new(), chunks: Box::default(), body_bytes: 0, body_version: version };
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
    std::sync::Arc::new(Object {
        identity,
        meta: Bytes::new(),
        chunks: Box::default(),
        body_bytes,
        body_version: version,
    })
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

/// What is on disk alone, as one who has read it has it.
fn on_disk(store: &Store, version: u64) -> Kept {
    let object = object(store, version, 1024 * 1024);
    store.0.disk.iter().for_each(|disk| disk.pretend(&object));
    let (identity, meta, body_bytes) = (object.identity.clone(), Bytes::new(), object.body_bytes);
    let object = DiskObject { identity, meta, body_bytes, body_version: version, chunks: [].into() };
    Kept(Source::OnDisk(std::sync::Arc::new(object)))
}

/// What is found of the key beside what is in memory as an entry.
fn coming(store: &Store) -> Option<Kept> {
    match store.0.base.memory.lookup(store.key(b"k"), &store.0.base.purges) {
        Found::Pending(joined) => match joined.pending.stage() {
            Stage::Started(source) => Some(Kept(source)),
            stage => panic!("{stage:?}"),
        },
        Found::Whole(..) | Found::Nothing => None,
    }
}

#[test]
fn what_has_yet_to_be_written_and_a_fetch_do_not_hide_each_other() {
    loom::model(|| {
        let (store, jobs) = Store::idle();
        let (key, base) = (store.key(b"k"), &store.0.base);
        let begin = |known: &Kept| store.begin_past(key, &[], Past { known: Some(known), reads: true });
        let Begin::Lead(lead) = store.begin(key, &[]) else { panic!("nothing is there") };
        drop(lead);
        let first = on_disk(&store, 1);
        // Somebody reads it from a disk that hangs.
        let reads = base.memory.join_or_begin(key, &base.purges, (Past::default(), false), Pending::read);
        assert!(matches!(reads, Joining::First(_)));
        let head = || Head { meta: Bytes::from_static(b"0123456789"), ..Head::default() };
        assert!(store.refresh(&first, store.token(), head()));
        // The key, what comes with it, and where its 17 chunks are.
        let queued = store.stats().disk.map(|disk| disk.queued_bytes);
        assert_eq!(queued, Some(1 + 10 + 17 * 32), "what waits is counted");
        let known = coming(&store).expect("it is shown though it is read");
        assert!(known.version() > 1);
        // It does not do for one who has it, and does for others, also while the one fetches.
        let Begin::Lead(lead) = begin(&known) else { panic!("what it has is no use to it") };
        assert!(matches!(begin(&known), Begin::Follow(_)), "one fetches");
        assert_eq!(coming(&store).map(|found| found.version()), Some(known.version()));
        drop(lead);
        assert_eq!(coming(&store).map(|found| found.version()), Some(known.version()), "nothing came of it");
        assert!(matches!(begin(&first), Begin::Follow(_)), "it is newer than that");
        let Begin::Lead(lead) = begin(&known) else { panic!("it is free") };
        assert!(lead.refresh(&known, head()));
        let newer = coming(&store).expect("shown").version();
        assert!(newer > known.version());
        assert!(matches!(begin(&known), Begin::Follow(_)));
        // The first one is written.
        drop(jobs.recv());
        assert_eq!(coming(&store).map(|found| found.version()), Some(newer));
        base.purges.purge(Purge::prefix(b"k", How::Soft));
        assert!(coming(&store).is_some(), "what is stale may be found to be good");
        store.remove(key);
        assert!(coming(&store).is_none(), "what is removed is not there, written or not");
    });
}

#[test]
fn what_replaces_what_has_yet_to_be_written_is_found_in_its_place() {
    loom::model(|| {
        let (store, _jobs) = Store::idle();
        let (key, first) = (store.key(b"k"), on_disk(&store, 1));
        let again = || {
            assert!(store.refresh(&first, store.token(), Head::default()));
            assert!(coming(&store).is_some());
        };
        again();
        store.put(key, store.token(), Head::default(), b"new").expect("small");
        store.0.base.memory.remove(key);
        assert!(coming(&store).is_none(), "it was replaced, and memory gave up what replaced it");
        again();
        store.purge(Purge::prefix(b"k", How::Hard)).expect("purges");
        assert!(coming(&store).is_none(), "it was purged");
    });
}

/// Has a body fetched that memory does not keep, and of which nothing is written.
fn fetched(store: &Store, known: Option<&Kept>, meta: &'static str) {
    let begun = store.begin_past(store.key(b"k"), &[], Past { known, reads: false });
    let Begin::Lead(lead) = begun else { panic!("it is free") };
    let body = vec![7; 5 * CHUNK_BYTES];
    let head = Head { meta: meta.into(), body_bytes: Some(body.len() as u64), ..Head::default() };
    let mut writer = lead.start(head).expect("starts");
    writer.append(&body);
    assert!(writer.finish().expect("whole").on_disk);
}

fn is_growing(kept: &Kept) -> bool {
    matches!(kept.0, Source::Growing(_))
}

#[test]
fn what_is_whole_is_nothing_that_comes_though_its_disk_has_yet_to_write_it() {
    loom::model(|| {
        let (store, jobs) = Store::idle();
        let (key, head) = (store.key(b"k"), || Head { meta: "good".into(), ..Head::default() });
        let begin = |known: &Kept| store.begin_past(key, &[], Past { known: Some(known), reads: false });
        fetched(&store, None, "first");
        let first = coming(&store).expect("it waits to be written");
        assert!(!is_growing(&first), "it is as old as it is");
        assert!(matches!(store.begin(key, &[]), Begin::Follow(_)), "it is of use to who knows nothing");
        // It does not do for one who has it. What comes to nothing hides it from nobody, and neither does what comes.
        let Begin::Lead(lead) = begin(&first) else { panic!("what it has is no use to it") };
        assert_eq!(coming(&store).map(|found| found.version()), Some(first.version()));
        drop(lead);
        assert_eq!(coming(&store).map(|found| found.version()), Some(first.version()));
        // It can be found good again and again.
        let Begin::Lead(lead) = begin(&first) else { panic!("it is free") };
        assert!(lead.refresh(&first, head()));
        let second = coming(&store).expect("found good");
        assert!(second.version() > first.version() && !is_growing(&second));
        assert!(store.refresh(&second, store.token(), head()));
        let third = coming(&store).expect("found good");
        assert!(third.version() > second.version());
        // A purge makes it stale, and it is there still; what is fetched then takes its place.
        store.purge(Purge::prefix(b"k", How::Soft)).expect("purges");
        assert!(coming(&store).is_some());
        fetched(&store, Some(&third), "new");
        let new = coming(&store).expect("whole");
        assert!(new.version() > third.version());
        // The ones before are written.
        for _ in 0..3 {
            drop(jobs.recv());
        }
        assert_eq!(coming(&store).map(|found| found.version()), Some(new.version()));
        store.remove(key);
        assert!(coming(&store).is_none());
    });
}

#[test]
fn one_that_waits_to_be_written_is_found_until_it_is() {
    loom::model(|| {
        let (store, jobs) = Store::idle();
        fetched(&store, None, "");
        assert!(coming(&store).is_some());
        drop(store.lookup(store.key(b"k")));
        while let Ok(job) = jobs.try_recv() {
            drop(job);
        }
        assert!(coming(&store).is_none(), "it is where it stands, or nowhere");
    });
}

#[test]
fn what_is_known_takes_the_place_of_an_older_read_and_blind_ones_do_without_it() {
    loom::model(|| {
        let (store, _jobs) = Store::idle();
        let (key, first) = (store.key(b"k"), on_disk(&store, 1));
        let base = &store.0.base;
        let reads = base.memory.join_or_begin(key, &base.purges, (Past::default(), false), Pending::read);
        assert!(matches!(reads, Joining::First(_)), "it is read, of what nobody ever hears");
        assert!(store.refresh(&first, store.token(), Head::default()));
        let begin = |known| store.begin_past(key, &[], Past { known, reads: false });
        let Begin::Follow(follower) = begin(Some(&first)) else { panic!("it is newer") };
        assert!(follower.given_up_at().is_none(), "nothing is waited for");
        let known = coming(&store).expect("known");
        let Begin::Lead(lead) = begin(Some(&known)) else { panic!("the read is of no use") };
        drop(lead);
        // Purges may be missing: what is there may be gone.
        store.set_blind(true);
        let Begin::Lead(lead) = begin(None) else { panic!("only what comes is good") };
        assert!(matches!(begin(None), Begin::Follow(_)), "one fetches");
        drop(lead);
        store.set_blind(false);
        assert!(matches!(begin(None), Begin::Follow(_)));
    });
}

#[test]
fn what_a_snapshot_has_is_all_that_was_purged_whatever_is_forgotten_meanwhile() {
    let check = |first: fn() -> Purge, second: fn() -> Purge| {
        every_order(move || {
            let purges = Arc::new(Purges::new(1, 1));
            let number = purges.purge(first()).number;
            let other = Arc::clone(&purges);
            // There is room for one.
            let thread = thread::spawn(move || other.purge(second()));
            let restored = Purges::new(1, 1);
            purges.snapshot().for_each(|numbered| restored.restore(&numbered));
            assert_ne!(restored.judge(number - 1, b"k", &[tag()]).0, Judgement::Valid);
            thread.join().expect("joined");
        });
    };
    check(|| Purge::mark(tag(), How::Hard), || Purge::mark(Mark::tag(b"b"), How::Hard));
    check(|| Purge::prefix(b"k", How::Soft), || Purge::prefix(b"other", How::Hard));
    check(|| Purge::all(How::Soft), || Purge::all(How::Hard));
}

#[test]
fn whatever_a_refresh_has_to_write_counts_as_what_waits() {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 1_000_000;
    builder.check(|| {
        let (store, _jobs) = Store::idle();
        let first = on_disk(&store, 1);
        let marks: Vec<_> = (0..4_000_u32).map(|number| Mark::tag(&number.to_le_bytes())).collect();
        let bytes = marks.len() as u64 * 8;
        let mut sent = 0;
        while sent < 2_000 && store.refresh(&first, store.token(), Head { marks: marks.clone(), ..Head::default() }) {
            sent += 1;
        }
        let most = 16 * 1024 * 1024;
        assert!(sent > 0);
        assert!(sent * bytes <= most, "{sent} wait, of {bytes} bytes each");
        assert!(store.stats().disk.is_some_and(|disk| disk.queued_bytes >= sent * bytes));
    });
}

#[test]
fn one_leads_a_fetch() {
    every_order(|| {
        let shared = Arc::new((Memory::new(1024 * 1024), Purges::new(4, 4), KeyHasher::new()));
        let begin = |shared: &(Memory, Purges, KeyHasher)| {
            let (memory, purges, hasher) = shared;
            let joining = memory.join_or_begin(hasher.key(b"k"), purges, (Past::default(), false), || {
                Pending::fetch(Token(0), Filter::new(0).note([]))
            });
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

#[test]
fn a_body_whose_disk_failed_midway_is_shown_to_nobody_who_comes_after_it() {
    loom::model(|| {
        let (store, _jobs) = Store::idle();
        let queued = || store.stats().disk.map_or(0, |disk| disk.queued_bytes);
        let Begin::Lead(lead) = store.begin(store.key(b"k"), &[]) else { panic!("nothing is there") };
        let head = Head { body_bytes: Some(9 * CHUNK_BYTES as u64), ..Head::default() };
        let mut writer = lead.start(head).expect("starts");
        let chunk = vec![7; CHUNK_BYTES];
        (0..3).for_each(|_| writer.append(&chunk));
        assert_eq!(queued(), 3 * CHUNK_BYTES as u64, "they are on their way to disk");
        let Some(Kept(Source::Growing(flow))) = coming(&store) else { panic!("it is fetched") };
        // What the thread that writes does when the disk refuses a chunk.
        flow.growing.set_on_disk(false);
        (0..6).for_each(|_| writer.append(&chunk));
        let sent = queued();
        assert!(matches!(flow.growing.step(0), Step::Lagged), "its beginning is gone");
        let stored = writer.finish().expect("whole");
        assert!(coming(&store).is_none(), "nobody could read it");
        assert!(!stored.in_memory && !stored.on_disk, "{stored:?}");
        assert_eq!([sent, queued()], [3 * CHUNK_BYTES as u64; 2], "nothing more is sent");
    });
}

#[test]
fn where_more_comes_than_a_disk_takes_large_bodies_are_dropped_first() {
    loom::model(|| {
        let (store, _jobs) = Store::idle();
        let begin = |key: &'static [u8]| {
            let Begin::Lead(lead) = store.begin(store.key(key), &[]) else { panic!("nothing is there") };
            lead.start(Head { body_bytes: Some(9 * CHUNK_BYTES as u64), ..Head::default() }).expect("starts")
        };
        // Whether a further chunk of a body waits to be written.
        let goes_on = |writer: &mut Writer| {
            let queued = || store.stats().disk.map_or(0, |disk| disk.queued_bytes);
            let before = queued();
            writer.append(&[7; CHUNK_BYTES]);
            queued() > before
        };
        let disk = store.0.disk.as_ref().expect("it has one");
        let takes = |mib: u64| disk.send(Job::Store(object(&store, 1, mib << 20)));
        let (mut early, mut late) = (begin(b"early"), begin(b"late"));
        assert!(goes_on(&mut early));
        assert!(takes(8), "half of what may wait");
        assert!(!goes_on(&mut late), "it would begin");
        assert!(goes_on(&mut early), "it has begun");
        assert!(takes(4), "three quarters");
        assert!(!goes_on(&mut early));
        assert!(takes(3), "what takes no more than this has room still");
        assert!(!takes(1), "all of it");
    });
}

#[test]
fn a_purge_whose_number_is_seen_waits_to_be_written() {
    every_order(|| {
        let (store, _jobs) = Store::idle();
        let other = store.clone();
        let thread = thread::spawn(move || other.purge(Purge::mark(tag(), How::Hard)).expect("purges").number);
        // Always looked at, so that the checker stops the other one in between.
        let (seen, waits) = (store.token(), store.0.disk.as_ref().is_some_and(Disk::has_purges));
        assert!(seen == Token(0) || waits, "what is stored now could be written before it");
        assert_eq!(thread.join().expect("joined"), 1);
    });
}

#[test]
fn an_older_body_that_was_found_good_does_not_take_the_place_of_a_newer_one() {
    loom::model(|| {
        let (store, _jobs) = Store::idle();
        let (key, first) = (store.key(b"k"), on_disk(&store, 1));
        let good = || Head { meta: "good".into(), ..Head::default() };
        store.put(key, store.token(), Head::default(), b"new").expect("small");
        assert!(!store.refresh(&first, store.token(), good()), "another one is in memory");
        let Found::Whole(new, _) = store.0.base.memory.lookup(key, &store.0.base.purges) else { panic!("it stays") };
        assert!(coming(&store).is_none() && new.body_bytes == 3);
        // The same of one that waits to be written.
        store.remove(key);
        fetched(&store, None, "");
        let new = coming(&store).expect("it waits to be written");
        assert!(!store.refresh(&first, store.token(), good()));
        assert_eq!(coming(&store).map(|found| found.version()), Some(new.version()));
        assert!(store.refresh(&new, store.token(), good()) && store.refresh(&new, store.token(), good()), "one body");
    });
}
