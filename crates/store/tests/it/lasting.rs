//! What must not come back: what was replaced or purged while the disk had other things to do.

use std::path::Path;
use std::time::Duration;

use store::{DiskParams, Head, How, Mark, Purge, Store, StoreParams};
use testkit::TempDir;

use crate::tier::{MIB, head, hit, put, read, run};

fn open(folder: &Path) -> Store {
    let disk = Some(DiskParams { queue_bytes: 4 * MIB, ..DiskParams::new(folder, 64 * MIB) });
    Store::open(&StoreParams { disk, ..StoreParams::new(16 * MIB) }).expect("opens")
}

async fn until_up(store: &Store) {
    while !store.stats().disk.expect("a disk").is_up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn what_is_purged_before_the_folder_can_be_read_is_purged_there() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let first = open(folder.path());
        let page = |name: &str| Mark::key(name.as_bytes());
        for name in ["page", "tagged", "stays"] {
            put(&first, name, Head { marks: vec![page(name), Mark::tag(name.as_bytes())], ..Head::default() }, b"body");
        }
        // Numbers in the folder are higher than those that come now.
        for _ in 0..10 {
            first.purge(Purge::mark(Mark::tag(b"other"), How::Hard)).expect("purges");
        }
        let second = open(folder.path());
        assert!(!second.stats().disk.expect("a disk").is_up, "another one has the folder");
        assert!(second.purge_if_there(page("page"), How::Hard).is_some(), "it may be there");
        second.purge(Purge::mark(Mark::tag(b"tagged"), How::Hard)).expect("purges");
        second.flush().await;
        assert!(first.close());
        until_up(&second).await;
        for name in ["page", "tagged"] {
            assert_eq!(read(&second, name).await, None, "{name}");
        }
        assert!(read(&second, "stays").await.is_some(), "nothing else is lost");
        // And after another start.
        assert!(second.close());
        let third = open(folder.path());
        assert_eq!(read(&third, "page").await, None);
        assert!(read(&third, "stays").await.is_some());
    });
}

#[test]
fn what_is_stored_before_the_folder_can_be_read_is_newer_than_what_is_there() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let first = open(folder.path());
        for _ in 0..10 {
            put(&first, "k", head("", &[]), b"old");
        }
        // Versions begin with the millisecond in which a store is opened: a later process has another one.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let second = open(folder.path());
        assert!(!second.stats().disk.expect("a disk").is_up, "another one has the folder");
        put(&second, "k", head("", &[]), b"new");
        second.flush().await;
        assert!(first.close());
        until_up(&second).await;
        assert_eq!(read(&second, "k").await.expect("stored").1, b"new");
        // Memory gives it up.
        second.set_memory_bytes(0);
        assert!(hit(&second, "k").is_none());
        assert_eq!(read(&second, "k").await, None, "what it replaced is not found");
    });
}

#[test]
fn what_came_late_takes_no_place_on_disk_that_it_has_not_in_memory() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let store = open(folder.path());
        let before = store.token();
        store.purge(Purge::mark(Mark::tag(b"other"), How::Hard)).expect("purges");
        put(&store, "k", head("new", &[]), b"new");
        let stored = store.put(store.key(b"k"), before, head("old", &[]), b"old").expect("small");
        assert!(!stored.in_memory && !stored.on_disk, "{stored:?}");
        assert_eq!(&hit(&store, "k").expect("stored").object.meta()[..], b"new");
        store.flush().await;
        assert!(store.close());
        let store = open(folder.path());
        assert_eq!(read(&store, "k").await.expect("stored").0, b"new");
    });
}
