//! Bodies that no tier keeps reach everybody who reads along, at the pace of the slowest.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use store::{Begin, CHUNK_BYTES, DiskParams, Follower, Head, Lookup, Outcome, ReadError, Reader, Store, StoreParams};
use testkit::TempDir;

use crate::tier::{MIB, body, head, hit, put, read, read_all, run, start, store, text};

/// Bytes that come again and again, at places that no chunk has twice.
fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| body("pattern", 1, 1_000_003))
}

fn follow(store: &Store, key: &str) -> Follower {
    match store.begin(store.key(key.as_bytes()), &[]) {
        Begin::Follow(follower) => follower,
        Begin::Lead(_) => panic!("{key}: nobody fetches it"),
    }
}

async fn stream(follower: Follower) -> Reader {
    match follower.head().await {
        Outcome::Stream(reader) => reader,
        _ => panic!("it has begun"),
    }
}

/// Reads so many bytes or to the end, and yields so often after each chunk. Says how many bytes came.
async fn read_slowly(mut reader: Reader, yields: usize, most: usize) -> usize {
    let mut at = 0;
    while at < most {
        let Some(bytes) = reader.next().await.expect("goes on") else { break };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let expected = &pattern()[at % pattern().len()..];
            let count = rest.len().min(expected.len());
            assert!(rest[..count] == expected[..count], "at {at}");
            rest = &rest[count..];
            at += count;
        }
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
    }
    at
}

/// What a future gives at once, if it is ready.
async fn at_once<T>(future: &mut Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// 100 MB of unknown length through a store of a few MiB, to readers of different speeds, one of whom goes.
async fn long_body(store: Store) {
    const REPEATS: usize = 100;
    let whole = pattern().len() * REPEATS;
    let mut writer = start(&store, "long", head("", &[]));
    let mut readers = Vec::new();
    for yields in [0, 1, 7, 40] {
        readers.push(tokio::spawn(read_slowly(stream(follow(&store, "long")).await, yields, usize::MAX)));
    }
    let goes = tokio::spawn(read_slowly(stream(follow(&store, "long")).await, 100, 3_000_000));
    // Nobody waits for one who looks at the head alone.
    drop(stream(follow(&store, "long")).await);
    let watched = store.clone();
    let writes = tokio::spawn(async move {
        for _ in 0..REPEATS {
            for piece in pattern().chunks(40_000) {
                writer.write(piece).await;
                let filling = watched.stats().filling_bytes;
                assert!(filling < 8 * CHUNK_BYTES as u64 + 17 * MIB * u64::from(watched.stats().disk.is_some()));
            }
        }
        writer.finish().expect("whole")
    });
    assert!(!writes.await.expect("no panic").in_memory);
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), whole);
    }
    assert!(goes.await.expect("no panic") >= 3_000_000);
    let stats = store.stats();
    assert_eq!((stats.readers_cut, stats.filling_bytes), (0, 0));
}

#[test]
fn readers_of_different_speeds_have_all_of_a_body_that_is_not_kept() {
    run(long_body(store(4 * MIB)));
}

#[test]
fn readers_have_all_of_a_body_that_a_disk_cannot_take() {
    let folder = TempDir::new().expect("a folder");
    // Larger than a quarter of the disk, and more than may wait for it.
    let disk = Some(DiskParams { queue_bytes: 200_000, ..DiskParams::new(folder.path(), 64 * MIB) });
    run(long_body(Store::open(&StoreParams { disk, ..StoreParams::new(4 * MIB) }).expect("opens")));
}

#[test]
fn one_who_does_not_read_is_cut_and_the_others_go_on() {
    let params = StoreParams { reader_wait: Duration::from_secs(2), ..StoreParams::new(4 * MIB) };
    let store = Store::open(&params).expect("opens");
    run(async {
        let mut writer = start(&store, "k", head("", &[]));
        let mut stalled = stream(follow(&store, "k")).await;
        let reader = tokio::spawn(read_slowly(stream(follow(&store, "k")).await, 0, usize::MAX));
        for _ in 0..3 {
            writer.write(pattern()).await;
        }
        assert_eq!(store.stats().readers_cut, 1);
        writer.finish().expect("whole");
        assert_eq!(reader.await.expect("no panic"), 3 * pattern().len());
        assert!(matches!(stalled.next().await, Err(ReadError::Lagged)));
    });
}

#[test]
fn the_writer_goes_on_once_a_reader_moves_or_goes() {
    let store = store(4 * MIB);
    run(async {
        let mut writer = start(&store, "k", head("", &[]));
        let (early, also) = (follow(&store, "k"), stream(follow(&store, "k")).await);
        let mut reader = stream(follow(&store, "k")).await;
        let mut write = pin!(writer.write(pattern()));
        assert!(at_once(&mut write).await.is_none());
        drop(also);
        reader.seek(600_000);
        assert!(at_once(&mut write).await.is_none(), "one waits for the head still");
        // It has waited since before the beginning, and has all of it.
        let mut early = stream(early).await;
        let first = early.next().await.expect("goes on").expect("more");
        assert!(first[..] == pattern()[..first.len()]);
        assert!(at_once(&mut write).await.is_none());
        drop(early);
        assert!(at_once(&mut write).await.is_none(), "600,000 and the window");
        reader.seek(pattern().len() as u64);
        assert!(at_once(&mut write).await.is_some());
    });
}

#[test]
fn who_comes_too_late_for_the_beginning_does_not_join() {
    let store = store(4 * MIB);
    run(async {
        let mut writer = start(&store, "k", head("", &[]));
        writer.write(&pattern()[..300_000]).await;
        drop(follow(&store, "k"));
        writer.write(pattern()).await;
        assert!(matches!(store.lookup(store.key(b"k")), Lookup::Miss));
        // It is fetched anew, and the one that is under way goes on.
        put(&store, "k", head("new", &[]), b"new");
        writer.finish().expect("whole");
        assert_eq!(text(&hit(&store, "k").expect("stored")), b"new");
    });
}

#[test]
fn many_that_wait_hold_little_each() {
    let store = store(16 * MIB);
    run(async {
        let mut fetches = Vec::new();
        for number in 0.. {
            let key = format!("k{number}");
            let Begin::Lead(lead) = store.begin(store.key(key.as_bytes()), &[]) else { panic!("free") };
            let Ok(writer) = lead.start(Head::default()) else { break };
            fetches.push((writer, stream(follow(&store, &key)).await));
        }
        let (count, share) = (fetches.len() as u64, 2 * MIB);
        assert!(count > 20, "{count}");
        let mut writers = Vec::new();
        for (mut writer, reader) in fetches {
            let write = tokio::spawn(async move {
                writer.write(pattern()).await;
                writer.finish().expect("whole");
            });
            writers.push((write, reader));
        }
        // All of them get as far as they can.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let filling = store.stats().filling_bytes;
        assert!(filling <= share + count * 4 * CHUNK_BYTES as u64, "{filling} bytes of {count}");
        for (write, reader) in writers {
            assert_eq!(read_all(reader).await.as_deref(), Some(pattern()));
            write.await.expect("no panic");
        }
        assert_eq!(store.stats().filling_bytes, 0);
    });
}

#[test]
fn what_is_forgone_reaches_those_who_read_along_and_nobody_else() {
    let folder = TempDir::new().expect("a folder");
    let disk = Some(DiskParams::new(folder.path(), 64 * MIB));
    for params in [StoreParams::new(8 * MIB), StoreParams { disk, ..StoreParams::new(8 * MIB) }] {
        let store = Store::open(&params).expect("opens");
        run(async {
            put(&store, "k", head("old", &[]), b"old");
            let mut writer = start(&store, "k", head("", &[]));
            let waits = follow(&store, "k");
            let reader = tokio::spawn(read_slowly(stream(follow(&store, "k")).await, 3, usize::MAX));
            writer.write(&pattern()[..400_000]).await;
            writer.forgo();
            assert!(matches!(store.lookup(store.key(b"k")), Lookup::Miss), "the old one was replaced");
            let late = tokio::spawn(read_slowly(stream(waits).await, 0, usize::MAX));
            writer.write(&pattern()[400_000..]).await;
            writer.write(pattern()).await;
            let stored = writer.finish().expect("whole");
            assert!(!stored.in_memory && !stored.on_disk);
            assert_eq!(reader.await.expect("no panic"), 2 * pattern().len());
            assert_eq!(late.await.expect("no panic"), 2 * pattern().len());
            store.flush().await;
            assert_eq!(read(&store, "k").await, None);
            assert_eq!((store.stats().memory.fetching, store.stats().filling_bytes), (0, 0));
        });
        assert!(store.close());
        let store = Store::open(&params).expect("opens");
        assert_eq!(run(read(&store, "k")), None);
    }
}

/// While fetches have more than their part of memory, a body gives up its beginning before it is known to be one for the disk.
#[test]
fn a_body_that_was_crowded_before_it_was_large_is_never_read_from_a_wrong_place() {
    let folder = TempDir::new().expect("a folder");
    let disk = Some(DiskParams::new(folder.path(), 64 * MIB));
    let store = Store::open(&StoreParams { disk, ..StoreParams::new(4 * MIB) }).expect("opens");
    run(async {
        let mut writer = start(&store, "k", head("", &[]));
        let mut reader = stream(follow(&store, "k")).await;
        let mut others: Vec<_> = (0..3).map(|number| start(&store, &format!("other{number}"), head("", &[]))).collect();
        others.iter_mut().for_each(|other| other.append(&pattern()[..200_000]));
        assert!(store.stats().filling_bytes > 4 * MIB / 8, "more than an eighth of the memory");
        let mut at = 0;
        for (index, piece) in pattern().chunks_exact(CHUNK_BYTES).enumerate() {
            if index < 4 {
                writer.write(piece).await;
            } else {
                writer.append(piece);
            }
            // It is three chunks on when it stops.
            if index < 3 {
                let bytes = reader.next().await.expect("goes on").expect("more");
                assert!(bytes[..] == *piece);
                at += bytes.len();
            }
            store.flush().await;
        }
        // Whoever comes now has its beginning or does not join.
        if let Begin::Follow(follower) = store.begin(store.key(b"k"), &[]) {
            read_what_there_is(stream(follower).await, 0).await;
        }
        read_what_there_is(reader, at).await;
    });
}

/// Reads from a place on for as long as there is something.
async fn read_what_there_is(mut reader: Reader, mut at: usize) {
    while let Ok(Some(bytes)) = reader.next().await {
        assert!(bytes[..] == pattern()[at..at + bytes.len()], "at {at}");
        at += bytes.len();
        if at >= pattern().len() / CHUNK_BYTES * CHUNK_BYTES {
            return;
        }
    }
}

#[test]
fn threads_that_write_and_read_at_once_miss_nothing() {
    let store = Arc::new(store(4 * MIB));
    let mut writer = start(&store, "k", head("", &[]));
    let followers: Vec<_> = (0..4).map(|_| follow(&store, "k")).collect();
    let readers: Vec<_> = followers
        .into_iter()
        .map(|follower| std::thread::spawn(|| run(async { read_slowly(stream(follower).await, 0, usize::MAX).await })))
        .collect();
    run(async {
        for _ in 0..10 {
            writer.write(pattern()).await;
        }
        writer.finish().expect("whole");
    });
    for reader in readers {
        assert_eq!(reader.join().expect("no panic"), 10 * pattern().len());
    }
}
