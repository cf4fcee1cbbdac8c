//! Instances that share a Redis, in one process.

use std::io;
use std::time::{Duration, Instant};

use cache::{Builder, Cache, Codec, Error, Reach};
use testkit::Redis;

use crate::{Loads, Product, in_memory, product};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than an answer takes on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn shared(redis: &Redis) -> Builder<u64, Product> {
    let url = format!("redis://{}", redis.address());
    let tags = |product: &Product| vec![format!("category:{}", product.category)];
    Cache::builder("product").memory(cache::MIB).redis(url).redis_timeout(PATIENCE).ttl(60 * SECOND).tags(tags)
}

pub(crate) async fn two(redis: &Redis) -> (Cache<u64, Product>, Cache<u64, Product>) {
    (shared(redis).build().await.unwrap(), shared(redis).build().await.unwrap())
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn name(cache: &Cache<u64, Product>, id: u64) -> Option<String> {
    cache.get(&id).await.map(|found| found.name.clone())
}

#[tokio::test]
async fn what_one_loads_the_other_has() {
    let redis = Redis::start(&[]).unwrap();
    let ((a, b), loads) = (two(&redis).await, Loads::default());
    assert!(a.stats().redis_is_up && b.stats().redis_is_up);
    a.get_or_load(&7, || loads.now(7, "a")).await.unwrap();
    assert_eq!(b.get_or_load(&7, || loads.now(7, "b")).await.unwrap().name, "a");
    assert_eq!((loads.count(), b.stats().redis_hits), (1, 1));
    a.put(&8, product(8, "eight")).await.unwrap();
    let found = b.get_many(&[6, 7, 8]).await;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
}

#[tokio::test]
async fn a_change_reaches_the_other_instance() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    for id in [7, 17, 8] {
        a.put(&id, product(id, "old")).await.unwrap();
        assert_eq!(name(&b, id).await.as_deref(), Some("old"));
    }
    a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap();
    assert_eq!(name(&a, 7).await.as_deref(), Some("new"));
    until("b has the new value", async || name(&b, 7).await.as_deref() == Some("new")).await;
    assert_eq!(a.invalidate(&7).await, Reach::Everywhere);
    until("b has no value", async || name(&b, 7).await.is_none()).await;
    assert_eq!(b.invalidate_tag("category:7").await, Reach::Everywhere);
    assert_eq!(name(&b, 17).await, None);
    until("a has lost the tag's", async || name(&a, 17).await.is_none()).await;
    assert_eq!(name(&a, 8).await.as_deref(), Some("old"));
    assert_eq!(a.invalidate_all().await, Reach::Everywhere);
    until("b has nothing", async || name(&b, 8).await.is_none()).await;
    // A third, which has heard none of it.
    let c = shared(&redis).build().await.unwrap();
    assert_eq!(c.get_many(&[7, 17, 8]).await, [None, None, None]);
}

#[tokio::test]
async fn a_reader_elsewhere_does_not_put_the_old_value_back() {
    let redis = Redis::start(&[]).unwrap();
    let ((a, b), loads) = (two(&redis).await, Loads::default());
    let change = async |how: usize| match how {
        0 => assert_eq!(a.put(&7, product(7, "new")).await.unwrap(), Reach::Everywhere),
        1 => drop(a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap()),
        2 => assert_eq!(a.invalidate(&7).await, Reach::Everywhere),
        _ => assert_eq!(a.invalidate_tag("category:7").await, Reach::Everywhere),
    };
    for how in 0..4 {
        let _everywhere = a.invalidate(&7).await;
        until("b has nothing", async || name(&b, 7).await.is_none()).await;
        let loading = b.get_or_load(&7, async || {
            change(how).await;
            Ok::<_, io::Error>(product(7, "old"))
        });
        assert_eq!(loading.await.unwrap().name, "old");
        let c = shared(&redis).build().await.unwrap();
        for cache in [&a, &b, &c] {
            assert_eq!(cache.get_or_load(&7, || loads.now(7, "new")).await.unwrap().name, "new", "{how}");
        }
    }
}

#[tokio::test]
async fn writes_that_overlap_elsewhere_leave_no_value() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    let inner = async |_| {
        // While the first is under way: what is loaded now is not kept, and the second write ends before the first.
        let loaded = b.get_or_load(&7, async || Ok::<_, io::Error>(product(7, "between"))).await;
        assert_eq!(loaded.unwrap().name, "between");
        assert_eq!(name(&b, 7).await, None);
        b.write_through(&7, product(7, "second"), async |_| Ok::<_, io::Error>(())).await.unwrap();
        Ok::<_, io::Error>(())
    };
    a.write_through(&7, product(7, "first"), inner).await.unwrap();
    let c = shared(&redis).build().await.unwrap();
    for cache in [&a, &b, &c] {
        until("nobody has a value", async || name(cache, 7).await.is_none()).await;
    }
    a.write_through(&7, product(7, "third"), async |_| Ok::<_, io::Error>(())).await.unwrap();
    assert_eq!(name(&c, 7).await.as_deref(), Some("third"));
    let failed = a.write_through(&7, product(7, "fourth"), async |_| Err::<(), _>(io::Error::other("no"))).await;
    assert!(matches!(failed, Err(Error::Save { .. })));
    let d = shared(&redis).build().await.unwrap();
    assert_eq!(name(&d, 7).await, None);
}

#[tokio::test]
async fn compare_and_set_sees_the_changes_of_others() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    let first = a.compare_and_set(&7, None, product(7, "a")).await.unwrap().unwrap();
    assert_eq!(b.compare_and_set(&7, None, product(7, "b")).await.unwrap(), None);
    assert_eq!(b.versioned(&7).await.unwrap().unwrap().version, first);
    let second = b.compare_and_set(&7, Some(first), product(7, "b")).await.unwrap();
    assert!(second > Some(first));
    assert_eq!(a.compare_and_set(&7, Some(first), product(7, "c")).await.unwrap(), None);
    assert_eq!(a.versioned(&7).await.unwrap().unwrap().value.name, "b");
}

#[tokio::test]
async fn strangers_bytes_are_counted_misses() {
    let redis = Redis::start(&[]).unwrap();
    let (a, loads) = (shared(&redis).build().await.unwrap(), Loads::default());
    let stored = "{tenfold:product}:v:7";
    for (round, bytes) in ["", "x", "a string that somebody else has put here"].into_iter().enumerate() {
        redis.command(&["SET", stored, bytes, "PX", "60000"]).unwrap();
        assert_eq!(a.get(&7).await, None);
        assert_eq!(a.get_or_load(&7, || loads.now(7, "a")).await.unwrap().name, "a");
        assert_eq!(loads.count(), round as u64 + 1, "{bytes:?}");
        assert!(a.stats().foreign > round as u64);
        let _everywhere = a.invalidate(&7).await;
    }
    // Another schema's entries are misses for both, and what the codec was does not matter.
    a.put(&7, product(7, "a")).await.unwrap();
    let other = shared(&redis).schema(1).build().await.unwrap();
    assert_eq!(other.get(&7).await, None);
    assert_eq!(other.stats().foreign, 1);
    let json = shared(&redis).codec(Codec::Json).build().await.unwrap();
    assert_eq!(name(&json, 7).await.as_deref(), Some("a"));
    let large = "x".repeat(10_000);
    json.put(&8, product(8, &large)).await.unwrap();
    assert!(redis.command(&["STRLEN", "{tenfold:product}:v:8"]).unwrap()[0].parse::<u64>().unwrap() < 1000);
    assert_eq!(name(&a, 8).await, Some(large));
}

#[tokio::test]
async fn that_there_is_nothing_is_known_elsewhere_too() {
    let redis = Redis::start(&[]).unwrap();
    let build = async || shared(&redis).negative_ttl(30 * SECOND).stale_on_error(30 * SECOND).build().await.unwrap();
    let (a, b) = (build().await, build().await);
    assert_eq!(a.find_or_load(&7, async || Ok::<_, io::Error>(None)).await.unwrap(), None);
    let not_asked = async || -> io::Result<Option<Product>> { panic!("it is known") };
    assert_eq!(b.find_or_load(&7, not_asked).await.unwrap(), None);
    let c = build().await;
    assert_eq!((c.get(&7).await, c.get_many(&[7, 8]).await), (None, vec![None, None]));
    let stats = c.stats();
    assert_eq!((stats.redis_hits, stats.memory_hits, stats.misses), (1, 1, 1));
    assert_eq!(b.get_or_load(&7, async || Ok::<_, io::Error>(product(7, "b"))).await.unwrap().name, "b");
}

#[tokio::test]
async fn without_redis_calls_go_on_and_nothing_from_before_survives() {
    let mut redis = Redis::start(&[]).unwrap();
    let ((a, b), loads) = (two(&redis).await, Loads::default());
    for id in [7, 8] {
        a.put(&id, product(id, "old")).await.unwrap();
        assert_eq!(name(&b, id).await.as_deref(), Some("old"));
    }
    redis.kill();
    until("the loss is known", async || !a.stats().redis_is_up && !b.stats().redis_is_up).await;
    // Memory serves, misses load, changes are made here.
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    assert_eq!(a.get_or_load(&9, || loads.now(9, "loaded")).await.unwrap().name, "loaded");
    let written = a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await;
    assert_eq!(written.unwrap().name, "new");
    assert_eq!(name(&a, 7).await, None);
    assert_eq!(a.invalidate(&8).await, Reach::Here);
    assert_eq!(name(&a, 8).await, None);
    assert!(matches!(a.compare_and_set(&9, None, product(9, "c")).await, Err(Error::Away { .. })));
    redis.restart().unwrap();
    until("both are back", async || a.stats().redis_is_up && b.stats().redis_is_up).await;
    for cache in [&a, &b] {
        assert_eq!(cache.get_many(&[7, 8, 9]).await, [None, None, None]);
    }
    assert_eq!(b.get_or_load(&7, || loads.now(7, "new")).await.unwrap().name, "new");
    assert_eq!(a.get_or_load(&7, || loads.now(7, "no")).await.unwrap().name, "new");
}

#[tokio::test]
async fn a_redis_that_hung_hears_of_changes_before_it_is_read_again() {
    let mut redis = Redis::start(&[]).unwrap();
    let url = format!("redis://{}", redis.address());
    let build = async || {
        let builder = Cache::<u64, Product>::builder("product").memory(cache::MIB).redis(&url);
        builder.redis_timeout(Duration::from_millis(100)).build().await.unwrap()
    };
    let (a, b) = (build().await, build().await);
    a.put(&7, product(7, "old")).await.unwrap();
    assert_eq!(redis.command(&["EXISTS", "{tenfold:product}:v:7"]).unwrap(), ["1"]);
    redis.hang().unwrap();
    let began = Instant::now();
    let written = a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await;
    assert_eq!(written.unwrap().name, "new");
    assert_eq!(b.get_or_load(&8, async || Ok::<_, io::Error>(product(8, "b"))).await.unwrap().name, "b");
    assert!(began.elapsed() < 5 * SECOND);
    redis.go_on().unwrap();
    until("a is back", async || a.stats().redis_is_up).await;
    // It has kept the old value all the time, and nobody gets it.
    until("b is back", async || b.stats().redis_is_up).await;
    assert_eq!(name(&a, 7).await, None);
    until("b has heard", async || name(&b, 7).await.is_none()).await;
}

#[tokio::test]
async fn a_cache_is_built_without_redis_and_finds_it_later() {
    let mut redis = Redis::start(&[]).unwrap();
    redis.kill();
    let a = shared(&redis).build().await.unwrap();
    assert!(!a.stats().redis_is_up);
    assert_eq!(a.get_or_load(&7, async || Ok::<_, io::Error>(product(7, "a"))).await.unwrap().name, "a");
    redis.restart().unwrap();
    until("Redis is there", async || a.stats().redis_is_up).await;
    a.put(&7, product(7, "b")).await.unwrap();
    assert_eq!(redis.command(&["EXISTS", "{tenfold:product}:v:7"]).unwrap(), ["1"]);
    // A Redis that forgets all, scripts included.
    redis.command(&["FLUSHALL"]).unwrap();
    redis.command(&["SCRIPT", "FLUSH"]).unwrap();
    a.put(&8, product(8, "c")).await.unwrap();
    assert_eq!(redis.command(&["EXISTS", "{tenfold:product}:v:8"]).unwrap(), ["1"]);
}

#[tokio::test]
async fn what_the_loader_says_is_gone_goes_from_redis_too() {
    let redis = Redis::start(&[]).unwrap();
    let build = || shared(&redis).ttl(SECOND / 100).stale_on_error(600 * SECOND).build();
    let (a, b, loads) = (build().await.unwrap(), build().await.unwrap(), Loads::default());
    a.put(&7, product(7, "old")).await.unwrap();
    until("it is stale", async || name(&a, 7).await.is_none()).await;
    assert_eq!(a.find_or_load(&7, async || Ok::<_, io::Error>(None)).await.unwrap(), None);
    assert!(b.get_or_load(&7, || loads.fail()).await.is_err());
}

#[tokio::test]
async fn a_redis_that_is_full_is_there_and_takes_changes_but_no_values() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    for id in [7, 8, 9] {
        a.put(&id, product(id, "old")).await.unwrap();
        assert_eq!(name(&b, id).await.as_deref(), Some("old"));
    }
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(a.invalidate(&7).await, Reach::Everywhere);
    assert_eq!(a.put(&8, product(8, "new")).await.unwrap(), Reach::Everywhere);
    until("b has heard", async || name(&b, 7).await.is_none() && name(&b, 8).await.is_none()).await;
    assert_eq!(name(&a, 8).await.as_deref(), Some("new"));
    a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap();
    assert!(matches!(a.compare_and_set(&18, None, product(18, "new")).await, Err(Error::Away { .. })));
    assert_eq!(a.invalidate_tag("category:1").await, Reach::Everywhere);
    // Loads do without it, and it is read for all that.
    for id in 20..40 {
        b.get_or_load(&id, async || Ok::<_, io::Error>(product(id, "loaded"))).await.unwrap();
    }
    let c = shared(&redis).build().await.unwrap();
    assert!(a.stats().redis_is_up && b.stats().redis_is_up && c.stats().redis_is_up);
    assert_eq!(name(&c, 9).await.as_deref(), Some("old"));
    assert_eq!(b.invalidate_all().await, Reach::Everywhere);
    until("all are gone", async || name(&a, 9).await.is_none()).await;
}

#[tokio::test]
async fn tags_of_many_keys_are_asked_for_at_once() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    for id in 0..40 {
        a.put(&id, product(id, "a")).await.unwrap();
    }
    a.invalidate_tag("category:3").await;
    redis.command(&["CONFIG", "RESETSTAT"]).unwrap();
    let found = b.get_many(&Vec::from_iter(0..40_u64)).await;
    for (id, found) in (0..40_u64).zip(found) {
        assert_eq!(found.is_some(), id % 10 != 3, "{id}");
    }
    let asked = redis.command(&["INFO", "commandstats"]).unwrap().join("\n");
    assert!(asked.contains("cmdstat_mget:calls=2,"), "values and tags are a question each: {asked}");
}

#[tokio::test]
async fn a_load_goes_on_for_all_when_others_tags_are_invalidated() {
    let redis = Redis::start(&[]).unwrap();
    let (shared, away) =
        (shared(&redis).build().await.unwrap(), in_memory().tags(|found| vec![format!("category:{}", found.category)]));
    for cache in [shared, away.build().await.unwrap()] {
        for (tag, expected) in [("category:3", ["first", "first"]), ("category:7", ["first", "second"])] {
            let (key, began, goes_on) = (17, tokio::sync::Notify::new(), tokio::sync::Notify::new());
            let first = cache.get_or_load(&key, async || {
                began.notify_one();
                goes_on.notified().await;
                Ok::<_, io::Error>(product(key, "first"))
            });
            let second = async {
                began.notified().await;
                let _everywhere = cache.invalidate_tag(tag).await;
                let found = cache.get_or_load(&key, async || Ok::<_, io::Error>(product(key, "second")));
                let mut found = std::pin::pin!(found);
                // It has joined the load, and waits for it.
                assert!(tokio::time::timeout(SECOND / 10, found.as_mut()).await.is_err(), "{tag}");
                goes_on.notify_one();
                found.await
            };
            let (first, second) = tokio::join!(first, second);
            let found = [first, second].map(|found| found.unwrap().name.clone());
            assert_eq!(found, expected, "{tag}");
            let _everywhere = cache.invalidate(&key).await;
        }
    }
}
