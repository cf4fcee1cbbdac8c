//! The disk tier: what survives, what is noticed when it is damaged, and what happens when the disk fails.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;

use store::{Begin, CHUNK_BYTES, DiskParams, How, Lookup, Mark, Outcome, Purge, ReadError, Store, StoreParams};
use testkit::TempDir;

use crate::tier::{MIB, body, head, hit, put, read, read_all, run, start};

fn params(folder: &Path, memory_bytes: u64, disk_bytes: u64) -> StoreParams {
    let disk = Some(DiskParams::new(folder, disk_bytes));
    StoreParams { disk, ..StoreParams::new(memory_bytes) }
}

fn open(folder: &Path) -> Store {
    Store::open(&params(folder, 4 * MIB, 64 * MIB)).expect("opens")
}

fn again(store: Store, folder: &Path) -> Store {
    assert!(store.close(), "nobody else holds it");
    open(folder)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    found.sort();
    found
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let mut store = open(folder.path());
        // In one record, and in chunks, at each edge.
        let lengths = [0, 1, 70_000, 4 * CHUNK_BYTES, 4 * CHUNK_BYTES + 1, 5 * CHUNK_BYTES, 40 * CHUNK_BYTES + 9];
        for length in lengths {
            let stored = put(&store, &format!("k{length}"), head("meta", &["a"]), &body("k", 7, length));
            assert!(stored.on_disk, "{length}");
        }
        for _ in 0..2 {
            store = again(store, folder.path());
            let stats = store.stats().disk.expect("a disk");
            assert_eq!(stats.entries, lengths.len() as u64);
            let all: u64 = segments(folder.path()).iter().map(|path| path.metadata().expect("a file").len()).sum();
            assert_eq!((stats.bytes, stats.bytes_written), (all, 0), "known before anything is written");
            for length in lengths {
                assert!(hit(&store, &format!("k{length}")).is_none(), "memory is empty");
                let found = read(&store, &format!("k{length}")).await.expect("on disk");
                assert!(found == (b"meta".to_vec(), body("k", 7, length)), "{length}");
            }
            assert!(hit(&store, "k70000").is_some(), "what is small is in memory from then on");
            assert!(matches!(store.lookup(store.key(b"k9")), Lookup::Miss));
        }
    });
}

#[test]
fn a_part_of_a_large_body_is_read_alone() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        let whole = body("large", 1, 30 * CHUNK_BYTES + 77);
        put(&store, "large", head("", &[]), &whole);
        let store = again(store, folder.path());
        for at in [0, 1, CHUNK_BYTES - 1, 3 * CHUNK_BYTES, 30 * CHUNK_BYTES + 70, whole.len(), whole.len() + 5] {
            let Lookup::Coming(follower) = store.lookup(store.key(b"large")) else { panic!("on disk") };
            let Outcome::Stream(mut reader) = follower.head().await else { panic!("large") };
            assert_eq!(reader.body_bytes(), Some(whole.len() as u64));
            reader.seek(at as u64);
            assert!(read_all(reader).await.as_deref() == Some(whole.get(at..).unwrap_or_default()), "{at}");
        }
    });
}

#[test]
fn a_slow_reader_of_a_large_fetch_reads_from_disk() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        let whole = body("large", 1, 60 * CHUNK_BYTES + 5);
        let mut writer = start(&store, "large", head("", &[]));
        let Lookup::Coming(follower) = store.lookup(store.key(b"large")) else { panic!("it is being fetched") };
        let Outcome::Stream(slow) = follower.head().await else { panic!("it has begun") };
        for piece in whole.chunks(CHUNK_BYTES) {
            writer.append(piece);
            store.flush().await;
        }
        assert!(writer.finish().expect("whole").on_disk);
        assert!(read_all(slow).await.as_deref() == Some(&whole[..]));
        store.flush().await;
        assert_eq!(store.stats().memory.fetching, 0);
        assert!(read(&store, "large").await.expect("on disk").1 == whole);
    });
}

#[test]
fn what_is_on_disk_is_read_while_it_is_fetched_again_until_something_comes() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        let (old, new) = (body("k", 1, 6 * CHUNK_BYTES), body("k", 2, 5 * CHUNK_BYTES));
        put(&store, "k", head("old", &[]), &old);
        let store = again(store, folder.path());
        let Begin::Lead(lead) = store.begin(store.key(b"k"), &[]) else { panic!("nobody fetches it") };
        for _ in 0..3 {
            assert!(read(&store, "k").await.expect("on disk") == (b"old".to_vec(), old.clone()));
        }
        assert!(store.in_memory(store.key(b"k")).is_none() && store.stats().memory.fetching == 1);
        let mut writer = lead.start(head("new", &[])).expect("starts");
        let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("it is being fetched") };
        let Outcome::Stream(reader) = follower.head().await else { panic!("it has begun") };
        assert_eq!((&reader.meta()[..], reader.is_growing()), (&b"new"[..], true));
        writer.append(&new);
        writer.finish().expect("whole");
        assert!(read_all(reader).await.as_deref() == Some(&new[..]));
        // What was purged is not read.
        store.flush().await;
        store.purge(Purge::all(How::Hard)).expect("purges");
        let Begin::Lead(lead) = store.begin(store.key(b"k"), &[]) else { panic!("nobody fetches it") };
        let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("it may be there") };
        assert!(matches!(follower.head().await, Outcome::Nothing));
        drop(lead);
    });
}

#[test]
fn a_disk_that_has_too_much_to_do_says_so_and_loses_nothing() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        let whole = body("k", 1, 6 * CHUNK_BYTES);
        put(&store, "k", head("", &[]), &whole);
        let store = again(store, folder.path());
        let mut readers = Vec::new();
        for _ in 0..3_000 {
            let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("on disk") };
            let Outcome::Stream(reader) = follower.head().await else { panic!("large") };
            readers.push(reader);
        }
        // Each has its first chunk read, and asks for it anew before it is there.
        let busy = 'busy: loop {
            for (at, reader) in readers.iter_mut().enumerate() {
                reader.seek(0);
                let mut next = pin!(reader.next());
                let asked = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
                if matches!(asked, Poll::Ready(Err(ReadError::Busy))) {
                    break 'busy at;
                }
            }
        };
        let mut late = readers.swap_remove(busy);
        let read = loop {
            match late.next().await {
                Err(ReadError::Busy) => tokio::task::yield_now().await,
                read => break read,
            }
        };
        assert!(read.expect("good").expect("more") == whole[..CHUNK_BYTES]);
        assert!(store.stats().disk.expect("a disk").reads_dropped > 0);
    });
}

#[test]
fn what_was_purged_does_not_come_back() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let mut store = open(folder.path());
        for (key, tag) in [("a1", "a"), ("b1", "b"), ("c1", "c"), ("d1", "d")] {
            put(&store, key, head("", &[tag]), &body(key, 1, 1_000));
        }
        let tag = |name: &str| Mark::tag(name.as_bytes());
        assert!(store.purge(Purge::mark(tag("a"), How::Hard)).expect("purges").lasts().await);
        assert!(store.purge(Purge::prefix(b"b", How::Hard)).expect("purges").lasts().await);
        let soft = Purge::mark(tag("c"), How::Soft).at(17);
        assert!(store.follow(3, soft).expect("purges").expect("new").lasts().await);
        for _ in 0..2 {
            store = again(store, folder.path());
            assert_eq!(store.position(), Some(3));
            assert_eq!(read(&store, "a1").await, None);
            assert_eq!(read(&store, "b1").await, None);
            assert!(
                read(&store, "c1").await.is_some() && hit(&store, "c1").expect("read before").stale_since == Some(17)
            );
            assert!(read(&store, "d1").await.is_some() && !hit(&store, "d1").expect("read before").is_stale());
        }
        put(&store, "a1", head("", &["a"]), b"new");
        let store = again(store, folder.path());
        assert_eq!(read(&store, "a1").await.expect("stored after the purge").1, b"new");
    });
}

#[test]
fn what_is_on_disk_alone_is_stale_since_its_purge() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let mut store = open(folder.path());
        put(&store, "k", head("", &["a"]), &body("k", 1, 30 * CHUNK_BYTES));
        store.flush().await;
        assert!(store.purge(Purge::mark(Mark::tag(b"a"), How::Soft).at(17)).expect("purges").lasts().await);
        for _ in 0..2 {
            // Each look reads it from disk.
            for _ in 0..2 {
                let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("on disk alone") };
                let Outcome::Stream(reader) = follower.head().await else { panic!("kept") };
                assert_eq!(reader.stale_since(), Some(17));
            }
            store = again(store, folder.path());
        }
    });
}

#[test]
fn a_journal_that_was_damaged_takes_everything_with_it() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        put(&store, "k", head("", &["a"]), b"body");
        assert!(store.purge(Purge::mark(Mark::tag(b"a"), How::Hard)).expect("purges").lasts().await);
        assert!(store.close());
        let journal = folder.path().join("purges");
        let mut bytes = std::fs::read(&journal).expect("a journal");
        bytes[20] ^= 1;
        std::fs::write(&journal, bytes).expect("written");
        let store = open(folder.path());
        assert_eq!(read(&store, "k").await, None);
        put(&store, "k", head("", &[]), b"new");
        let store = again(store, folder.path());
        assert!(read(&store, "k").await.is_some());
        assert!(store.close());
        std::fs::remove_file(&journal).expect("removed");
        assert_eq!(read(&open(folder.path()), "k").await, None, "nor without a journal");
    });
}

#[test]
fn a_newer_version_replaces_an_older_one_for_good() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let mut store = open(folder.path());
        for (version, length) in [(1, 1_000), (2, 300_000), (3, 10), (4, 400_000)] {
            put(&store, "k", head(&version.to_string(), &[]), &body("k", version, length));
            store = again(store, folder.path());
            let found = read(&store, "k").await.expect("on disk");
            assert!(found == (version.to_string().into_bytes(), body("k", version, length)), "{version}");
        }
        // What comes with it changes, and the body stays.
        for round in 5..8 {
            let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("on disk") };
            let Outcome::Stream(reader) = follower.head().await else { panic!("large") };
            assert!(store.refresh(&reader.kept(), store.token(), head(&round.to_string(), &["x"])));
            // It is found at once, and the one before is known to be that.
            assert_eq!(read(&store, "k").await.expect("comes").0, round.to_string().into_bytes());
            store.flush().await;
            assert!(store.has_newer_on_disk(&reader.kept()));
            drop(reader);
            store = again(store, folder.path());
            let found = read(&store, "k").await.expect("on disk");
            assert!(found == (round.to_string().into_bytes(), body("k", 4, 400_000)), "{round}");
        }
    });
}

#[test]
fn what_is_found_good_twice_at_once_stays() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        put(&store, "k", head("1", &[]), &body("k", 1, 300_000));
        // Both are of the same version, and both are good.
        let in_memory = hit(&store, "k").expect("stored").kept();
        for round in ["2", "3"] {
            assert!(store.refresh(&in_memory, store.token(), head(round, &[])), "{round}");
        }
        store.flush().await;
        assert_eq!(store.stats().disk.expect("a disk").queued_bytes, 0);
        let store = again(store, folder.path());
        assert_eq!(read(&store, "k").await.expect("on disk").0, b"3");
        let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("on disk") };
        let Outcome::Stream(reader) = follower.head().await else { panic!("large") };
        for round in ["4", "5"] {
            assert!(store.refresh(&reader.kept(), store.token(), head(round, &[])), "{round}");
        }
        drop(reader);
        store.flush().await;
        assert_eq!(store.stats().disk.expect("a disk").queued_bytes, 0);
        let store = again(store, folder.path());
        let found = read(&store, "k").await.expect("on disk");
        assert_eq!((&found.0[..], found.1 == body("k", 1, 300_000)), (&b"5"[..], true));
        // What another body has taken the place of is not brought back.
        let Lookup::Coming(follower) = store.lookup(store.key(b"k")) else { panic!("on disk") };
        let Outcome::Stream(reader) = follower.head().await else { panic!("large") };
        put(&store, "k", head("6", &[]), &body("k", 6, 300_001));
        assert!(!store.refresh(&reader.kept(), store.token(), head("7", &[])), "the two do not belong together");
        drop(reader);
        let store = again(store, folder.path());
        assert_eq!(read(&store, "k").await.expect("on disk").0, b"6");
    });
}

#[test]
fn the_oldest_goes_when_the_bytes_are_used_up() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let open = || Store::open(&params(folder.path(), 4 * MIB, 16 * MIB)).expect("opens");
        let store = open();
        for number in 0..400 {
            put(&store, &format!("k{number}"), head("", &[]), &body("k", number, 100_000));
            store.flush().await;
            let stats = store.stats().disk.expect("a disk");
            assert!(stats.bytes <= 16 * MIB, "{} bytes after {number}", stats.bytes);
        }
        assert!(store.stats().disk.expect("a disk").segments_removed > 10);
        assert!(store.close());
        let store = open();
        let mut there = Vec::new();
        for number in 0..400 {
            if let Some(found) = read(&store, &format!("k{number}")).await {
                assert!(found.1 == body("k", number, 100_000), "{number}");
                there.push(number);
            }
        }
        assert!(there.len() > 100, "{}", there.len());
        assert_eq!(there, (400 - there.len() as u64..400).collect::<Vec<_>>(), "the latest");
        let all: u64 = segments(folder.path()).iter().map(|path| path.metadata().expect("a file").len()).sum();
        assert!(all <= 16 * MIB, "{all}");
    });
}

#[test]
fn damage_costs_what_it_hit_and_nothing_else() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        for number in 0..200 {
            put(&store, &format!("k{number}"), head("", &[]), &body("k", number, 200 + number as usize * 20));
        }
        assert!(store.close());
        let path = segments(folder.path()).remove(0);
        let whole = std::fs::read(&path).expect("a segment");
        for seed in 0..40_usize {
            let mut bad = whole.clone();
            match seed % 4 {
                // A flipped bit anywhere, behind the beginning: records, bodies, the index.
                0 | 1 => bad[64 + seed * 7_919 * 13 % (whole.len() - 64)] ^= 1 << (seed % 8),
                // The file cut short, as after a crash.
                2 => bad.truncate(whole.len() / 2 + seed * 1_001),
                // A hole of zeros.
                _ => bad[whole.len() / 3..][..5_000].fill(0),
            }
            let copy = TempDir::new().expect("a folder");
            std::fs::copy(folder.path().join("purges"), copy.path().join("purges")).expect("copied");
            std::fs::write(copy.path().join(path.file_name().expect("a name")), bad).expect("written");
            let store = open(copy.path());
            let mut there = 0;
            for number in 0..200 {
                if let Some((_, found)) = read(&store, &format!("k{number}")).await {
                    assert!(found == body("k", number, 200 + number as usize * 20), "seed {seed}: k{number}");
                    there += 1;
                }
            }
            assert!(there >= if seed % 4 == 2 { 90 } else { 195 }, "seed {seed}: {there} left");
        }
    });
}

#[test]
fn a_body_cannot_pass_for_records() {
    let folder = TempDir::new().expect("a folder");
    let other = TempDir::new().expect("a folder");
    run(async {
        // A whole segment of somebody else, with a record for a key of ours.
        let foreign = open(other.path());
        put(&foreign, "victim", head("", &[]), b"planted");
        assert!(foreign.close());
        let planted = std::fs::read(segments(other.path()).remove(0)).expect("a segment");
        let store = open(folder.path());
        put(&store, "bait", head("", &[]), &planted.repeat(20));
        assert!(store.close());
        // Everything is looked at record by record, and the bait's own header is broken.
        let path = segments(folder.path()).remove(0);
        let mut bytes = std::fs::read(&path).expect("a segment");
        bytes[64 + 12] ^= 1;
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, bytes).expect("written");
        let store = open(folder.path());
        assert_eq!(read(&store, "victim").await, None);
        assert_eq!(read(&store, "bait").await, None);
    });
}

#[test]
fn a_folder_is_one_process_at_a_time_and_is_taken_over_when_it_is_free() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let first = open(folder.path());
        put(&first, "k", head("", &[]), b"body");
        let second = open(folder.path());
        assert!(!second.stats().disk.expect("a disk").is_up);
        put(&second, "other", head("", &[]), b"in memory");
        assert!(hit(&second, "other").is_some());
        assert!(first.close());
        while !second.stats().disk.expect("a disk").is_up {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(read(&second, "k").await.expect("of the first one").1, b"body");
    });
}

#[test]
fn a_folder_that_goes_away_is_done_without_and_comes_back() {
    let parent = TempDir::new().expect("a folder");
    let (folder, aside) = (parent.path().join("cache"), parent.path().join("aside"));
    run(async {
        let store = Store::open(&params(&folder, 4 * MIB, 16 * MIB)).expect("opens");
        put(&store, "k", head("", &[]), &body("k", 1, 1_000));
        store.flush().await;
        std::fs::rename(&folder, &aside).expect("moved");
        // The segment that is open goes on; there is no place for a new one.
        let mut number = 0;
        while store.stats().disk.expect("a disk").is_up {
            number += 1;
            put(&store, &format!("k{number}"), head("", &[]), &body("k", number, 100_000));
            assert!(hit(&store, &format!("k{number}")).is_some() || number > 20, "memory goes on");
            store.flush().await;
        }
        assert!(store.stats().disk.expect("a disk").errors > 0);
        std::fs::rename(&aside, &folder).expect("moved back");
        while !store.stats().disk.expect("a disk").is_up {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        put(&store, "late", head("", &[]), &body("late", 1, 1_000));
        store.flush().await;
        assert!(store.close());
        let store = Store::open(&params(&folder, 4 * MIB, 16 * MIB)).expect("opens");
        for (key, version) in [("k", 1), ("late", 1)] {
            assert!(read(&store, key).await.expect("on disk").1 == body(key, version, 1_000), "{key}");
        }
    });
}

#[test]
fn a_queue_that_is_full_drops_writes_and_keeps_nothing_old() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let disk = Some(DiskParams { queue_bytes: 10_000, ..DiskParams::new(folder.path(), 16 * MIB) });
        let store = Store::open(&StoreParams { disk, ..StoreParams::new(4 * MIB) }).expect("opens");
        assert!(put(&store, "k", head("1", &[]), &body("k", 1, 5_000)).on_disk);
        store.flush().await;
        assert!(!put(&store, "k", head("2", &[]), &body("k", 2, 50_000)).on_disk, "more than may wait");
        assert!(!put(&store, "large", head("", &[]), &body("k", 2, 500_000)).on_disk);
        store.flush().await;
        let stats = store.stats().disk.expect("a disk");
        assert!(stats.writes_dropped >= 2 && stats.queued_bytes == 0, "{stats:?}");
        assert!(store.close());
        let store = open(folder.path());
        assert_eq!(read(&store, "k").await, None, "the old one was replaced, though by nothing on disk");
        assert_eq!(read(&store, "large").await, None);
    });
}
