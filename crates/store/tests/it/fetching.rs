//! One fetches, others read along.

use store::{Begin, CHUNK_BYTES, Head, How, Lookup, Mark, Outcome, Purge, ReadError};

use crate::tier::{MIB, body, head, hit, put, read, read_all, run, start, store, text};

#[test]
fn what_is_stored_is_found_with_what_came_with_it() {
    let store = store(8 * MIB);
    for length in [0, 1, 1_000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5] {
        let (key, expected) = (format!("example.com/{length}"), body("k", 1, length));
        assert!(hit(&store, &key).is_none());
        assert!(put(&store, &key, head("meta", &["a"]), &expected).in_memory);
        let found = hit(&store, &key).expect("stored");
        assert_eq!(text(&found), expected, "{length}");
        assert_eq!((&found.object.meta()[..], found.is_stale()), (&b"meta"[..], false));
        assert!(found.object.chunks().iter().rev().skip(1).all(|chunk| chunk.len() == CHUNK_BYTES), "{length}");
    }
}

#[test]
fn followers_have_each_piece_as_it_comes() {
    let store = store(16 * MIB);
    run(async {
        let key = store.key(b"example.com/stream");
        let Begin::Lead(lead) = store.begin(key, &[]) else { panic!("nobody fetches") };
        let Lookup::Coming(early) = store.lookup(key) else { panic!("it is being fetched") };
        let Begin::Follow(also) = store.begin(key, &[]) else { panic!("there is one leader") };
        let mut writer = lead.start(head("meta", &[])).expect("starts");
        let Outcome::Stream(mut reader) = early.head().await else { panic!("it has begun") };
        assert_eq!(&reader.meta()[..], b"meta");
        let whole = body("stream", 1, 3 * CHUNK_BYTES + 777);
        // Pieces of odd sizes, so that chunks end within them.
        for piece in whole.chunks(50_001) {
            writer.append(piece);
            let mut got = Vec::new();
            while got.len() < piece.len() {
                got.extend_from_slice(&reader.next().await.expect("goes on").expect("more"));
            }
            assert_eq!(got, piece);
        }
        let Outcome::Stream(late) = also.head().await else { panic!("it has begun") };
        writer.finish().expect("whole");
        assert!(reader.next().await.expect("ends").is_none());
        assert_eq!(read_all(late).await.as_deref(), Some(&whole[..]));
        assert_eq!(text(&hit(&store, "example.com/stream").expect("stored")), whole);
        assert_eq!(store.stats().memory.fetching, 0);
        assert_eq!(store.stats().filling_bytes, 0);
    });
}

#[test]
fn many_tiny_pieces_take_no_more_than_few_large_ones() {
    let store = store(16 * MIB);
    let whole = body("tiny", 1, 100_000);
    let mut writer = start(&store, "tiny", head("", &[]));
    for byte in whole.chunks(1) {
        writer.append(byte);
    }
    writer.finish().expect("whole");
    let found = hit(&store, "tiny").expect("stored");
    assert_eq!((text(&found), found.object.chunks().len()), (whole, 2));
}

#[test]
fn a_leader_that_goes_leaves_nobody_waiting() {
    let store = store(8 * MIB);
    run(async {
        let key = store.key(b"k");
        let follow = || match store.begin(key, &[]) {
            Begin::Follow(follower) => follower,
            Begin::Lead(_) => panic!("somebody leads"),
        };
        // Before anything came.
        let Begin::Lead(lead) = store.begin(key, &[]) else { panic!("free") };
        let follower = follow();
        drop(lead);
        assert!(matches!(follower.head().await, Outcome::Nothing));
        // It is not for others.
        let Begin::Lead(lead) = store.begin(key, &[]) else { panic!("free") };
        let follower = follow();
        lead.decline(7);
        assert!(matches!(follower.head().await, Outcome::Declined(7)));
        // Half-way.
        let mut writer = start(&store, "k", head("", &[]));
        let Outcome::Stream(mut reader) = follow().head().await else { panic!("it has begun") };
        writer.append(b"half");
        drop(writer);
        assert_eq!(reader.next().await.expect("what came").as_deref(), Some(&b"half"[..]));
        assert!(matches!(reader.next().await, Err(ReadError::Broken)));
        assert!(matches!(store.lookup(key), Lookup::Miss));
        // Another length than was announced.
        let mut writer = start(&store, "k", Head { body_bytes: Some(5), ..head("", &[]) });
        let Outcome::Stream(reader) = follow().head().await else { panic!("it has begun") };
        writer.append(b"half");
        assert!(writer.finish().is_err());
        assert_eq!(read_all(reader).await, None);
        assert!(matches!(store.lookup(key), Lookup::Miss));
        assert_eq!((store.stats().memory.fetching, store.stats().filling_bytes), (0, 0));
    });
}

#[test]
fn a_variant_is_found_under_its_own_key() {
    let store = store(8 * MIB);
    run(async {
        let Begin::Lead(lead) = store.begin(store.key(b"page"), &[]) else { panic!("free") };
        let Lookup::Coming(follower) = store.lookup(store.key(b"page")) else { panic!("it is being fetched") };
        let mut writer = lead.start_as(b"page gzip", head("", &[])).expect("starts");
        let Outcome::Stream(reader) = follower.head().await else { panic!("it has begun") };
        assert_eq!(reader.key(), b"page gzip");
        assert!(matches!(store.lookup(store.key(b"page gzip")), Lookup::Coming(_)));
        writer.append(b"body");
        writer.finish().expect("whole");
        assert!(hit(&store, "page").is_none());
        assert_eq!(text(&hit(&store, "page gzip").expect("stored")), b"body");
        assert_eq!(store.stats().memory.fetching, 0);
    });
}

#[test]
fn a_body_beyond_the_share_of_memory_streams_through_a_window() {
    // A shard of 7/8 MiB: an entry may have an eighth of that.
    let store = store(MIB);
    run(async {
        let whole = body("large", 1, 20 * CHUNK_BYTES);
        let mut writer = start(&store, "large", head("", &[]));
        let follower = || match store.lookup(store.key(b"large")) {
            Lookup::Coming(follower) => follower,
            _ => panic!("it is being fetched"),
        };
        let Outcome::Stream(mut keeps_up) = follower().head().await else { panic!("it has begun") };
        let Outcome::Stream(mut slow) = follower().head().await else { panic!("it has begun") };
        let mut got = Vec::new();
        for piece in whole.chunks(CHUNK_BYTES) {
            writer.append(piece);
            got.extend_from_slice(&keeps_up.next().await.expect("goes on").expect("more"));
            assert!(store.stats().filling_bytes < 8 * CHUNK_BYTES as u64);
        }
        assert_eq!(got, whole);
        assert!(!writer.finish().expect("whole").in_memory);
        assert!(matches!(slow.next().await, Err(ReadError::Lagged)));
        assert_eq!(read(&store, "large").await, None);
    });
}

#[test]
fn fetches_beyond_their_part_of_memory_are_not_stored() {
    let store = store(MIB);
    let first = (start(&store, "first", head("", &[])), start(&store, "also", head("", &[])));
    let Begin::Lead(lead) = store.begin(store.key(b"second"), &[]) else { panic!("free") };
    assert_eq!(lead.start(head("", &[])).err(), Some(store::StartError::Busy));
    assert_eq!(store.stats().fills_refused, 1);
    drop(first);
    drop(start(&store, "second", head("", &[])));
    let Begin::Lead(lead) = store.begin(store.key(b"third"), &[]) else { panic!("free") };
    assert!(lead.start(head(&"m".repeat(300_000), &[])).is_err(), "metadata has a bound");
}

#[test]
fn a_validation_keeps_the_body() {
    let store = store(8 * MIB);
    put(&store, "k", head("old", &["a"]), b"body");
    let found = hit(&store, "k").expect("stored");
    assert!(store.refresh(&found.kept(), store.token(), head("new", &["b"])));
    let fresh = hit(&store, "k").expect("stored");
    assert_eq!((&fresh.object.meta()[..], text(&fresh)), (&b"new"[..], b"body".to_vec()));
    assert_eq!(fresh.object.chunks()[0].as_ptr(), found.object.chunks()[0].as_ptr(), "no copy is made");
}

#[test]
fn a_leader_follows_its_own_fetch_though_another_one_has_begun_since() {
    let store = store(8 * MIB);
    run(async {
        let key = store.key(b"k");
        let Begin::Lead(first) = store.begin(key, &[Mark::tag(b"a")]) else { panic!("free") };
        let own = first.follow();
        store.purge(Purge::mark(Mark::tag(b"a"), How::Hard)).expect("purges");
        let Begin::Lead(second) = store.begin(key, &[Mark::tag(b"a")]) else { panic!("the first one is too old") };
        let (other, of_other) = (first.follow(), second.follow());
        assert!(own.is_of(&first.fetch()) && !own.is_of(&second.fetch()) && of_other.is_of(&second.fetch()));
        let mut writer = second.start(head("second", &[])).expect("starts");
        writer.append(b"second");
        drop(first.start(head("first", &[])).expect("starts"));
        for own in [own, other] {
            let Outcome::Stream(reader) = own.head().await else { panic!("it has begun") };
            assert_eq!(&reader.meta()[..], b"first");
        }
        let Outcome::Stream(mut reader) = of_other.head().await else { panic!("it has begun") };
        assert_eq!(&reader.meta()[..], b"second");
        assert_eq!(reader.next().await.expect("goes on").as_deref(), Some(&b"second"[..]));
    });
}
