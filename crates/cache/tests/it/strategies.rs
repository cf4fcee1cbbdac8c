//! Strategies that go on without a caller: read-through, refreshes beside callers, and of hot keys.

use std::io;
use std::time::Duration;

use cache::{Cache, Error};
use tokio::time::{Instant, advance, sleep};

use crate::{Loads, Product, in_memory, product};

const SECOND: Duration = Duration::from_secs(1);

/// A cache that loads by itself, in so much time, with the number of the load as the name.
fn loading(loads: &Loads, time: Duration) -> cache::Builder<u64, Product> {
    let loads = loads.clone();
    in_memory().loader(move |id| {
        let loads = loads.clone();
        async move {
            let name = (loads.count() + 1).to_string();
            loads.load(id, &name, time).await.map(|found| Some(found).filter(|found| found.id != 404))
        }
    })
}

#[tokio::test]
async fn a_cache_reads_through_and_remembers_that_there_is_nothing() {
    let loads = Loads::default();
    let cache = loading(&loads, Duration::ZERO).negative_ttl(60 * SECOND).build().await.unwrap();
    for _ in 0..3 {
        assert_eq!(cache.read(&7).await.unwrap().unwrap().name, "1");
        assert_eq!(cache.read(&404).await.unwrap(), None);
    }
    assert_eq!(loads.count(), 2);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_times.iter().sum::<u64>(), stats.misses), (2, 2, 2));
    let without = in_memory().build().await.unwrap().read(&7).await.unwrap_err();
    assert_eq!(without.to_string(), "cache product: it was built without loader");
}

#[tokio::test]
async fn keys_are_read_back_for_the_loader() {
    let upper = |key: String| async move { Ok::<_, io::Error>(Some(key.to_uppercase())) };
    let cache = Cache::<str, String>::builder("text").memory(cache::MIB).loader(upper).build().await.unwrap();
    assert_eq!(cache.read("a key").await.unwrap().unwrap().as_str(), "A KEY");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_refresh_that_can_do_without_its_caller() {
    let loads = Loads::default();
    let cache = loading(&loads, SECOND).ttl(20 * SECOND).refresh_ahead().build().await.unwrap();
    cache.read(&7).await.unwrap();
    let own = in_memory().ttl(20 * SECOND).refresh_ahead().build().await.unwrap();
    let load = |loads: &Loads| {
        let loads = loads.clone();
        move || async move { loads.load(8, "own", SECOND).await }
    };
    own.get_or_load_detached(&8, load(&loads)).await.unwrap();
    // Loads take a second, so that they begin seconds before the end with near certainty.
    for _ in 0..4_000 {
        let began = Instant::now();
        cache.read(&7).await.unwrap();
        own.get_or_load_detached(&8, load(&loads)).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        advance(SECOND / 100).await;
    }
    for cache in [cache, own] {
        let stats = cache.stats();
        assert!((1..10).contains(&stats.refreshes) && stats.misses == 1, "{stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_panics_leaves_what_there_is() {
    let loader = |id| async move {
        // The first load is at the beginning of the clock.
        tokio::time::sleep(4 * SECOND).await;
        Ok::<_, io::Error>(Some(product(id, "a")))
    };
    let cache = in_memory().ttl(10 * SECOND).refresh_ahead().loader(loader).build().await.unwrap();
    cache.read(&7).await.unwrap();
    let panics = || async { panic!("a loader's bug, which is shown in this test's output") };
    for _ in 0..200 {
        let found = cache.get_or_load_detached::<_, _, io::Error>(&7, panics).await.unwrap();
        assert_eq!(found.name, "a");
        advance(SECOND / 50).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hot_keys_are_loaded_again_for_as_long_as_somebody_asks() {
    let loads = Loads::default();
    let cache = loading(&loads, SECOND / 10).refresh_hot(1, 10 * SECOND).build().await.unwrap();
    cache.read(&9).await.unwrap();
    for _ in 0..2_000 {
        cache.read(&7).await.unwrap();
    }
    assert_eq!(loads.count(), 2);
    sleep(11 * SECOND).await;
    assert_eq!((loads.count(), cache.stats().refreshes), (3, 1));
    assert_eq!(cache.read(&7).await.unwrap().unwrap().name, "3");
    assert_eq!(cache.get(&9).await.unwrap().name, "1");
    // What a few looks left in the sample is too young to be loaded, and then nobody asks.
    sleep(100 * SECOND).await;
    assert!(loads.count() <= 4, "{}", loads.count());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_before_it_begins_does_not_end_the_refreshes_of_hot_keys() {
    let loads = Loads::default();
    let counted = loads.clone();
    let load = move |id: u64| {
        let count = counted.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        assert_ne!(count, 2, "as planned");
        async move { Ok::<_, io::Error>(Some(product(id, &count.to_string()))) }
    };
    let cache = in_memory().ttl(600 * SECOND).loader(load).refresh_hot(1, 200 * SECOND).build().await.unwrap();
    for round in 1..=3 {
        for _ in 0..2_000 {
            cache.read(&7).await.unwrap();
        }
        sleep(201 * SECOND).await;
        assert_eq!(loads.count(), round + 1);
    }
    assert_eq!(cache.read(&7).await.unwrap().unwrap().name, "4");
}

#[tokio::test]
async fn what_was_loaded_is_bounded_and_what_has_to_go_is_counted() {
    let cache = in_memory().memory_entries(4).build().await.unwrap();
    for id in 0..4 {
        cache.put(&id, product(id, "a")).await.unwrap();
    }
    assert_eq!((cache.stats().memory_entries, cache.stats().evictions), (4, 0));
    for id in 4..100 {
        cache.put(&id, product(id, "a")).await.unwrap();
        assert!(cache.get(&id).await.is_some());
    }
    assert_eq!((cache.stats().memory_entries, cache.stats().evictions), (4, 96));
}

#[tokio::test]
async fn what_needs_a_sink_says_so() {
    let cache = in_memory().build().await.unwrap();
    let error = cache.write_behind(&7, product(7, "a")).await.unwrap_err();
    assert!(matches!(error, Error::Unequipped { lacks: "write_behind", .. }), "{error}");
    assert!(cache.flush(SECOND).await && cache.shutdown(SECOND).await.keys_left == 0 && cache.behind_stats().is_none());
}
