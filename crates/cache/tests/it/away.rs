//! What requests notice of a Redis that cuts connections, hangs, or is killed and started again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache::{Cache, Coherence, Reach};
use testkit::Redis;

use crate::redis::{name, two, until};
use crate::{Product, in_memory, product};

/// Requests do not get so much time by chance.
const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_on_a_connection_that_is_cut_does_not_wait_for_its_timeout() {
    let redis = Arc::new(Redis::start(&[]).unwrap());
    let builder = in_memory().redis(format!("redis://{}", redis.address())).redis_timeout(TIMEOUT);
    let cache = builder.build().await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let cutter = {
        let (redis, is_over) = (Arc::clone(&redis), Arc::clone(&is_over));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(fastrand::u64(1..60)));
                redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
            }
        })
    };
    let tasks = (0..16).map(|_| {
        let cache = cache.clone();
        tokio::spawn(async move {
            let (mut longest, began) = (Duration::ZERO, Instant::now());
            while began.elapsed() < Duration::from_secs(3) {
                let (key, asked) = (fastrand::u64(..8), Instant::now());
                match fastrand::u8(..4) {
                    0 => drop(cache.put(&key, product(key, "a")).await),
                    1 => drop(cache.invalidate(&key).await),
                    _ => drop(cache.get_or_load(&key, async || Ok::<Product, io::Error>(product(key, "a"))).await),
                }
                longest = longest.max(asked.elapsed());
            }
            longest
        })
    });
    let mut longest = Duration::ZERO;
    for task in tasks.collect::<Vec<_>>() {
        longest = longest.max(task.await.unwrap());
    }
    is_over.store(true, Ordering::SeqCst);
    cutter.join().unwrap();
    println!("the longest took {longest:?}; {:?}", cache.stats());
    assert!(longest < TIMEOUT / 2, "a request took {longest:?}");
}

const SECOND: Duration = Duration::from_secs(1);
/// Longer than it takes to notice.
const OUTAGE: Duration = Duration::from_secs(4);
/// Keys that are hit in memory all the time.
const HOT: u64 = 64;

/// How calls went, by what they were for.
#[derive(Debug, Default)]
struct Calls {
    hits: Vec<Duration>,
    misses: Vec<Duration>,
    loads: u64,
}

impl Calls {
    fn percentile(times: &mut [Duration], part: f64) -> Duration {
        times.sort_unstable();
        times[((times.len() - 1) as f64 * part) as usize]
    }
}

/// Asks for hot keys and for ones that nobody has asked for before, for some time.
async fn load(cache: &Cache<u64, Product>, next: &AtomicU64, time: Duration) -> Calls {
    let (mut calls, began, loads) = (Calls::default(), Instant::now(), AtomicU64::new(0));
    while began.elapsed() < time {
        for _ in 0..200 {
            let (key, asked) = (fastrand::u64(..HOT), Instant::now());
            let found =
                cache.get_or_load(&key, || async { panic!("a hot key is loaded") as io::Result<Product> }).await;
            calls.hits.push(asked.elapsed());
            assert_eq!(found.unwrap().id, key);
        }
        let (key, asked) = (HOT + next.fetch_add(1, Ordering::SeqCst), Instant::now());
        let found = cache.get_or_load(&key, || async {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, io::Error>(product(key, "loaded"))
        });
        assert_eq!(found.await.unwrap().id, key);
        calls.misses.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    calls.loads = loads.into_inner();
    calls
}

/// Has Redis away for some time under load.
async fn outage(name: &str, redis: &mut Redis, stop: fn(&mut Redis), start: fn(&mut Redis)) {
    let coherence = Coherence::BoundedStale(600 * SECOND);
    let builder = in_memory().ttl(600 * SECOND).redis(format!("redis://{}", redis.address()));
    let cache = builder.coherence(coherence).build().await.unwrap();
    for key in 0..HOT {
        cache.put(&key, product(key, "hot")).await.unwrap();
    }
    let next = AtomicU64::new(0);
    let mut before = load(&cache, &next, OUTAGE / 2).await;
    stop(redis);
    let mut during = load(&cache, &next, OUTAGE).await;
    start(redis);
    let began = Instant::now();
    until("Redis is back", async || cache.stats().redis_is_up).await;
    let back = began.elapsed();
    assert_eq!(during.loads, during.misses.len() as u64, "{name}: a miss is one load");
    // What is there again is shared again.
    until("values are shared", async || {
        let key = HOT + next.fetch_add(1, Ordering::SeqCst);
        cache.put(&key, product(key, "shared")).await.is_ok_and(|reach| reach == Reach::Everywhere)
    })
    .await;
    let hits = [&mut before.hits, &mut during.hits].map(|hits| Calls::percentile(hits, 0.99));
    let slow = during.misses.iter().filter(|time| **time > SECOND / 10).count();
    let misses = [&mut before.misses, &mut during.misses].map(|misses| Calls::percentile(misses, 0.5));
    let all = during.misses.len();
    println!("{name}: p99 of hits {hits:?}, median of misses {misses:?}, {slow} of {all} slow; back after {back:?}");
    // A hit takes less than a microsecond; what is more is the machine's.
    assert!(hits[1] < hits[0] * 3 + Duration::from_millis(1), "{name}: {hits:?}");
    // Those that find out, and the breaker's probes, wait for Redis; nobody else does.
    assert!(slow <= 12 + all / 20, "{name}: {slow} of {all} misses were slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_slows_no_hit_and_comes_back() {
    let mut redis = Redis::start(&[]).unwrap();
    outage("stopped", &mut redis, |redis| redis.hang().unwrap(), |redis| redis.go_on().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_slows_no_hit_and_comes_back() {
    let mut redis = Redis::start(&[]).unwrap();
    outage("killed", &mut redis, Redis::kill, |redis| redis.restart().unwrap()).await;
}

#[tokio::test]
async fn what_others_loaded_is_invalidated_by_tag_and_by_all_though_redis_is_away() {
    for by_tag in [true, false] {
        let mut redis = Redis::start(&[]).unwrap();
        let (a, b) = two(&redis).await;
        // Loads have versions, and nobody is told of them.
        for id in 0..40 {
            b.get_or_load(&id, async || Ok::<_, io::Error>(product(id, "old"))).await.unwrap();
        }
        for id in 0..40 {
            assert_eq!(name(&a, id).await.as_deref(), Some("old"));
        }
        redis.kill();
        until("the loss is known", async || !a.stats().redis_is_up).await;
        assert_eq!(name(&a, 37).await.as_deref(), Some("old"));
        let reach = if by_tag { a.invalidate_tag("category:7").await } else { a.invalidate_all().await };
        assert_eq!(reach, Reach::Here);
        for id in 0..40 {
            assert_eq!(a.get(&id).await.is_none(), !by_tag || id % 10 == 7, "{id}, by tag: {by_tag}");
        }
    }
}
