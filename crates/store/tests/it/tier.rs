//! What tests share: a store with known sizes, and entries whose bodies tell what they are.

use std::time::Duration;

use store::{Begin, Head, Hit, Lookup, Mark, Outcome, Reader, Store, StoreParams, Stored, Writer};

pub(crate) const MIB: u64 = 1024 * 1024;

pub(crate) fn store(memory_bytes: u64) -> Store {
    Store::open(&StoreParams::new(memory_bytes)).expect("opens")
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Runs a test that waits, but never for ever.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    runtime().block_on(async { tokio::time::timeout(limit, test).await.expect("within a minute") })
}

/// A body of a length, made of its key and version, so that each byte proves where it comes from.
pub(crate) fn body(key: &str, version: u64, length: usize) -> Vec<u8> {
    let mut state = key
        .bytes()
        .fold(version ^ 0x9e37_79b9_7f4a_7c15, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(crate) fn head(meta: &str, tags: &[&str]) -> Head {
    let marks = tags.iter().map(|tag| Mark::tag(tag.as_bytes())).collect();
    Head { meta: bytes::Bytes::copy_from_slice(meta.as_bytes()), marks, body_bytes: None }
}

/// The right to fetch, which must be free.
pub(crate) fn start(store: &Store, key: &str, head: Head) -> Writer {
    match store.begin(store.key(key.as_bytes()), &[]) {
        Begin::Lead(lead) => lead.start(head).expect("starts"),
        Begin::Follow(_) => panic!("{key}: somebody else fetches it"),
    }
}

pub(crate) fn put(store: &Store, key: &str, head: Head, body: &[u8]) -> Stored {
    let mut writer = start(store, key, head);
    writer.append(body);
    writer.finish().expect("whole")
}

pub(crate) fn hit(store: &Store, key: &str) -> Option<Hit> {
    match store.lookup(store.key(key.as_bytes())) {
        Lookup::Hit(hit) => Some(hit),
        Lookup::Coming(_) | Lookup::Miss => None,
    }
}

pub(crate) fn text(hit: &Hit) -> Vec<u8> {
    hit.object.chunks().concat()
}

/// What is there of a key, be it in memory or on disk: what came with it, and its body.
pub(crate) async fn read(store: &Store, key: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    loop {
        let follower = match store.lookup(store.key(key.as_bytes())) {
            Lookup::Hit(hit) => return Some((hit.object.meta().to_vec(), text(&hit))),
            Lookup::Miss => return None,
            Lookup::Coming(follower) => follower,
        };
        match follower.head().await {
            Outcome::Hit(hit) => return Some((hit.object.meta().to_vec(), text(&hit))),
            Outcome::Stream(reader) => {
                let meta = reader.meta().to_vec();
                return read_all(reader).await.map(|body| (meta, body));
            }
            Outcome::Declined(_) => return None,
            Outcome::Nothing => {}
        }
    }
}

/// The whole body, or nothing if it broke off.
pub(crate) async fn read_all(mut reader: Reader) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(bytes)) => all.extend_from_slice(&bytes),
            Ok(None) => return Some(all),
            Err(_) => return None,
        }
    }
}
