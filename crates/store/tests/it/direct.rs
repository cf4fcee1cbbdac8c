//! What is stored and removed at once.

use store::{Begin, DiskParams, How, Lookup, Mark, Outcome, Purge, StartError, Store, StoreParams};
use testkit::TempDir;

use crate::tier::{MIB, head, hit, put, read, run, store, text};

#[test]
fn a_word_is_put_beside_a_fetch_of_the_same_key() {
    let store = store(8 * MIB);
    run(async {
        let key = store.key(b"page");
        let Begin::Lead(lead) = store.begin(key, &[]) else { panic!("free") };
        assert!(store.put(key, lead.token(), head("varies", &["a"]), b"").expect("small").in_memory);
        assert_eq!(&hit(&store, "page").expect("stored").object.meta()[..], b"varies");
        let Begin::Follow(follower) = store.begin(key, &[]) else { panic!("it is being fetched") };
        let mut writer = lead.start_as(b"page gzip", head("", &[])).expect("starts");
        let Outcome::Stream(reader) = follower.head().await else { panic!("it has begun") };
        assert_eq!(reader.key(), b"page gzip");
        writer.write(b"body").await;
        writer.finish().expect("whole");
        assert_eq!(&hit(&store, "page").expect("stored").object.meta()[..], b"varies");
        assert_eq!(text(&hit(&store, "page gzip").expect("stored")), b"body");
    });
}

#[test]
fn a_word_from_before_a_purge_is_not_put() {
    let store = store(8 * MIB);
    let (key, since) = (store.key(b"k"), store.token());
    store.purge(Purge::mark(Mark::tag(b"a"), How::Hard)).expect("purges");
    assert!(!store.put(key, since, head("old", &["a"]), b"").expect("small").in_memory);
    assert!(hit(&store, "k").is_none());
    assert!(store.put(key, store.token(), head("new", &["a"]), b"").expect("small").in_memory);
    // What is older does not take its place.
    assert!(!store.put(key, since, head("old", &[]), b"").expect("small").in_memory);
    assert_eq!(&hit(&store, "k").expect("stored").object.meta()[..], b"new");
    let large = vec![0; 300_000];
    assert!(matches!(store.put(key, store.token(), head("", &[]), &large), Err(StartError::TooLarge { .. })));
    assert!(hit(&store, "k").is_some(), "nothing has changed");
}

#[test]
fn what_is_removed_is_gone_from_disk_too() {
    let folder = TempDir::new().expect("a folder");
    let open = || {
        let disk = Some(DiskParams::new(folder.path(), 64 * MIB));
        Store::open(&StoreParams { disk, ..StoreParams::new(4 * MIB) }).expect("opens")
    };
    run(async {
        let store = open();
        for key in ["written", "waiting", "large", "stays"] {
            let length = if key == "large" { 500_000 } else { 10 };
            put(&store, key, head("", &[]), &vec![1; length]);
            if key != "waiting" {
                store.flush().await;
            }
        }
        // Of this one, an older version is on disk, and a newer one waits for it.
        put(&store, "written", head("2", &[]), b"2");
        for key in ["written", "waiting", "large", "none"] {
            store.remove(store.key(key.as_bytes()));
            assert!(matches!(store.lookup(store.key(key.as_bytes())), Lookup::Miss), "{key}");
        }
        store.flush().await;
        for key in ["written", "waiting", "large"] {
            assert_eq!(read(&store, key).await, None, "{key}");
        }
        put(&store, "waiting", head("", &[]), b"new");
        assert!(store.close());
        let store = open();
        for key in ["written", "large"] {
            assert_eq!(read(&store, key).await, None, "{key}");
        }
        assert_eq!(read(&store, "waiting").await.expect("stored later").1, b"new");
        assert!(read(&store, "stays").await.is_some());
    });
}
