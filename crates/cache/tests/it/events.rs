//! Changes that others tell of on a channel of Redis.

use std::time::{Duration, Instant};

use cache::{Builder, Cache, Invalidation};
use testkit::Redis;

use crate::{Product, in_memory, product};

const PATIENCE: Duration = Duration::from_secs(20);

/// `product 7`, `category 3` or `all`.
fn read(message: &[u8]) -> Vec<Invalidation> {
    let text = std::str::from_utf8(message).unwrap_or_default();
    match text.split_once(' ') {
        Some(("product", id)) => id.parse::<u64>().iter().map(Invalidation::key).collect(),
        Some(("category", id)) => vec![Invalidation::Tag(format!("category:{id}"))],
        _ if text == "all" => vec![Invalidation::Everything],
        _ => Vec::new(),
    }
}

fn following(redis: &Redis) -> Builder<u64, Product> {
    let tags = |product: &Product| vec![format!("category:{}", product.category)];
    in_memory().tags(tags).invalidate_on(format!("redis://{}", redis.address()), "changes", read)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Publishes when somebody listens.
async fn publish(redis: &Redis, message: &str) {
    until("somebody listens", async || redis.command(&["PUBLISH", "changes", message]).unwrap() != ["0"]).await;
}

async fn fill(cache: &Cache<u64, Product>) {
    for id in [3, 7, 13] {
        cache.put(&id, product(id, "a")).await.unwrap();
    }
}

#[tokio::test]
async fn messages_name_what_is_no_longer_true() {
    let redis = Redis::start(&[]).unwrap();
    let cache = following(&redis).build().await.unwrap();
    fill(&cache).await;
    publish(&redis, "product 7").await;
    until("the key is gone", async || cache.get(&7).await.is_none()).await;
    assert!(cache.get(&3).await.is_some());
    publish(&redis, "category 3").await;
    until("the tag's are gone", async || cache.get(&3).await.is_none() && cache.get(&13).await.is_none()).await;
    fill(&cache).await;
    publish(&redis, "something else").await;
    publish(&redis, "all").await;
    until("all are gone", async || cache.get(&7).await.is_none() && cache.get(&3).await.is_none()).await;
    let stats = cache.stats();
    assert_eq!((stats.events, stats.events_foreign, stats.events_missed), (3, 1, 0));
}

#[tokio::test]
async fn what_may_have_been_missed_empties_the_cache() {
    let redis = Redis::start(&[]).unwrap();
    let cache = following(&redis).build().await.unwrap();
    publish(&redis, "nothing").await;
    fill(&cache).await;
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    until("all are gone", async || cache.stats().events_missed == 1 && cache.get(&7).await.is_none()).await;
    fill(&cache).await;
    publish(&redis, "product 7").await;
    until("it follows again", async || cache.get(&7).await.is_none()).await;
    assert!(cache.get(&3).await.is_some());
}

#[tokio::test]
async fn events_of_another_source_are_applied_by_hand() {
    let cache = in_memory().build().await.unwrap();
    cache.put(&7, product(7, "a")).await.unwrap();
    let _everywhere = cache.apply(&Invalidation::key(&7_u64)).await;
    assert!(cache.get(&7).await.is_none());
}

#[tokio::test]
async fn a_flood_of_messages_is_followed_or_known_to_be_missed() {
    let redis = Redis::start(&[]).unwrap();
    let cache = following(&redis).build().await.unwrap();
    publish(&redis, "nothing").await;
    fill(&cache).await;
    let script = "for i = 1, 20000 do redis.call('PUBLISH', 'changes', 'product 1' .. i) end redis.call('PUBLISH', 'changes', 'product 7') return 1";
    redis.command(&["EVAL", script, "0"]).unwrap();
    until("the last one was heard", async || cache.get(&7).await.is_none()).await;
}

#[tokio::test]
async fn a_message_that_makes_its_reader_panic_empties_the_cache_and_the_next_one_is_read() {
    let redis = Redis::start(&[]).unwrap();
    let read = |message: &[u8]| if message == b"panic" { panic!("as planned") } else { read(message) };
    let cache = in_memory().invalidate_on(format!("redis://{}", redis.address()), "changes", read);
    let cache = cache.build().await.unwrap();
    fill(&cache).await;
    publish(&redis, "panic").await;
    until("all are gone", async || cache.get(&7).await.is_none() && cache.get(&3).await.is_none()).await;
    fill(&cache).await;
    publish(&redis, "product 7").await;
    until("it follows on", async || cache.get(&7).await.is_none()).await;
    assert!(cache.get(&3).await.is_some());
    assert_eq!((cache.stats().events_foreign, cache.stats().events_missed), (1, 1));
}

fn tracking(redis: &Redis) -> Builder<u64, Product> {
    let read = |key: &[u8]| {
        let id = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix("product:")?.parse::<u64>().ok());
        id.iter().map(Invalidation::key).collect()
    };
    in_memory().invalidate_tracked(format!("redis://{}", redis.address()), "product:", read)
}

/// Waits until Redis tells a client of keys.
async fn tracked(redis: &Redis) {
    let tells = async || redis.command(&["INFO", "clients"]).unwrap().join("\n").contains("tracking_clients:1");
    until("keys are tracked", tells).await;
}

#[tokio::test]
async fn keys_that_strangers_change_in_redis_are_invalidated_though_nobody_tells() {
    let redis = Redis::start(&[]).unwrap();
    let cache = tracking(&redis).build().await.unwrap();
    tracked(&redis).await;
    let changes: [&[&str]; 5] = [
        &["SET", "product:7", "new"],
        &["APPEND", "product:7", "er"],
        &["DEL", "product:7"],
        &["HSET", "product:7", "name", "new"],
        &["PEXPIRE", "product:7", "1"],
    ];
    for change in changes {
        fill(&cache).await;
        redis.command(change).unwrap();
        redis.command(&["SET", "order:3", "another prefix"]).unwrap();
        until("the key is gone", async || cache.get(&7).await.is_none()).await;
        assert!(cache.get(&3).await.is_some(), "{change:?}");
    }
    // The end of its time is heard of too.
    until("its time is over", async || {
        redis.command(&["EXISTS", "product:7"]).unwrap() == ["0"] && cache.stats().events == 6
    })
    .await;
    fill(&cache).await;
    redis.command(&["SET", "product:no number", "1"]).unwrap();
    until("a name that means nothing was counted", async || cache.stats().events_foreign == 1).await;
    assert!(cache.get(&7).await.is_some());
    redis.command(&["FLUSHALL"]).unwrap();
    until("a Redis that was emptied empties the cache", async || cache.get(&3).await.is_none()).await;
    assert_eq!(cache.stats().events_missed, 0);
}

#[tokio::test]
async fn keys_that_may_have_been_changed_unheard_empty_the_cache() {
    let mut redis = Redis::start(&[]).unwrap();
    let cache = tracking(&redis).build().await.unwrap();
    tracked(&redis).await;
    fill(&cache).await;
    redis.kill();
    redis.restart().unwrap();
    until("all are gone", async || cache.stats().events_missed == 1 && cache.get(&7).await.is_none()).await;
    tracked(&redis).await;
    fill(&cache).await;
    redis.command(&["SET", "product:7", "new"]).unwrap();
    until("keys are tracked again", async || cache.get(&7).await.is_none()).await;
    assert!(cache.get(&3).await.is_some());
}
