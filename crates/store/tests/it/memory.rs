//! The memory tier keeps within its bounds, whatever comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use store::{Begin, Outcome};

use crate::streams::{Random, Zipf};
use crate::tier::{MIB, body, head, hit, put, run, store, text};

#[test]
fn bytes_stay_within_the_bound_and_popular_keys_stay() {
    let store = store(8 * MIB);
    let (mut random, law) = (Random::new(5), Zipf::new(20_000, 1.0));
    let mut hits = 0;
    for round in 0..60_000 {
        let key = format!("k{}", law.draw(&mut random));
        if hit(&store, &key).is_some() {
            hits += 1;
            continue;
        }
        let length = (random.below(8) * random.below(512)) as usize;
        put(&store, &key, head("meta", &["t"]), &body(&key, 1, length));
        if round % 100 == 0 {
            let stats = store.stats().memory;
            assert!(stats.bytes <= stats.bytes_max && stats.bytes_max <= 7 * MIB, "{stats:?}");
        }
    }
    let stats = store.stats().memory;
    assert!(hits > 30_000 && stats.evictions > 1_000, "{hits} hits, {stats:?}");
    assert_eq!((stats.hits, stats.entries), (hits, stats.inserts - stats.evictions));
    // The most popular key is the first.
    assert_eq!(store.top(3)[0].key, b"k0");
}

#[test]
fn the_bound_can_be_changed() {
    let store = store(64 * MIB);
    for number in 0..400 {
        put(&store, &format!("k{number}"), head("", &[]), &body("k", 1, 100_000));
    }
    let before = store.stats().memory;
    assert!(before.bytes > 38 * MIB, "{before:?}");
    store.set_memory_bytes(16 * MIB);
    let after = store.stats().memory;
    assert!(after.bytes <= 14 * MIB && after.bytes_max <= 14 * MIB && after.entries > 50, "{after:?}");
    store.set_memory_bytes(64 * MIB);
    assert_eq!(store.stats().memory.bytes_max, before.bytes_max);
}

#[test]
fn threads_that_read_write_and_purge_at_once_see_whole_values_only() {
    let store = store(4 * MIB);
    let stop = Arc::new(AtomicBool::new(false));
    let value = |key: u64| body(&format!("k{key}"), 1, 500 + key as usize % 300);
    let work = |seed: u64| {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let mut seen = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let number = random.below(20_000);
                let name = format!("k{number}");
                let key = store.key(name.as_bytes());
                if let Some(found) = hit(&store, &name) {
                    assert_eq!(text(&found), value(number));
                    seen += 1;
                } else if random.chance(0.01) {
                    let mark = store::Mark::tag(name.as_bytes());
                    store.purge(store::Purge::mark(mark, store::How::Hard)).expect("purges");
                } else {
                    match store.begin(key, &[]) {
                        Begin::Lead(lead) => {
                            let mut writer = lead.start(head("", &[&name])).expect("starts");
                            let whole = value(number);
                            writer.append(&whole[..100]);
                            writer.append(&whole[100..]);
                            writer.finish().expect("whole");
                        }
                        Begin::Follow(follower) => run(async {
                            match follower.head().await {
                                Outcome::Hit(found) => assert_eq!(text(&found), value(number)),
                                Outcome::Stream(reader) => {
                                    let found = crate::tier::read_all(reader).await;
                                    assert!(found.is_none_or(|found| found == value(number)));
                                }
                                Outcome::Declined(_) | Outcome::Nothing => {}
                            }
                        }),
                    }
                }
            }
            seen
        })
    };
    let threads: Vec<_> = (0..4).map(work).collect();
    while store.stats().memory.hits < 20_000 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    let seen: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    let stats = store.stats();
    assert_eq!(stats.memory.hits, seen);
    assert_eq!((stats.memory.fetching, stats.filling_bytes), (0, 0));
}
