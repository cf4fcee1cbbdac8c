//! Memory that is held by leases: what a change waits for, and what becomes of everything when Redis goes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use cache::{Builder, Cache, Coherence, Error, Reach};
use testkit::{Redis, Relay, Way};
use tokio::sync::oneshot;

use crate::redis::{name, until};
use crate::{Loads, Product, mistakes, product};

const LEASE: Duration = Duration::from_secs(2);
/// A wait that no lease explains.
const LONG: Duration = Duration::from_secs(30);

fn leased(url: &str, lease: Duration) -> Builder<u64, Product> {
    let tags = |product: &Product| vec![format!("category:{}", product.category)];
    let builder = Cache::builder("product").memory(cache::MIB).ttl(Duration::from_secs(600)).tags(tags);
    builder.redis(url).redis_timeout(LEASE).lease(LEASE).coherence(Coherence::Leased(lease))
}

fn url(address: std::net::SocketAddr) -> String {
    format!("redis://{address}")
}

/// A Redis that the cache has known for long, so that nothing from before it can be under way.
fn known() -> Redis {
    mistakes::plant();
    let redis = Redis::start(&[]).unwrap();
    let info = redis.command(&["INFO", "server"]).unwrap().join("\n");
    let run = info.split_once("run_id:").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap();
    redis.command(&["SET", "{tenfold:product}:run", run]).unwrap();
    redis
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_returns_when_all_who_serve_from_memory_have_heard() {
    let redis = known();
    let relay = Relay::start(redis.address()).unwrap();
    let (a, b) = (leased(&url(redis.address()), LONG), leased(&url(relay.address()), LONG));
    let (a, b) = (a.build().await.unwrap(), b.build().await.unwrap());
    let change = async |how: usize| match how {
        0 => assert_eq!(a.put(&7, product(7, "new")).await.unwrap(), Reach::Everywhere),
        1 => drop(a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap()),
        2 => assert_eq!(a.invalidate(&7).await, Reach::Everywhere),
        3 => assert_eq!(a.invalidate_tag("category:7").await, Reach::Everywhere),
        4 => assert_eq!(a.invalidate_all().await, Reach::Everywhere),
        _ => {
            let found = a.versioned(&7).await.unwrap().map(|found| found.version);
            assert!(a.compare_and_set(&7, found, product(7, "new")).await.unwrap().is_some());
        }
    };
    for how in 0..6 {
        a.put(&7, product(7, "old")).await.unwrap();
        // What the change before has said may come behind what was read since.
        until("b serves from memory", async || {
            let before = b.stats().memory_hits;
            name(&b, 7).await.as_deref() == Some("old") && b.stats().memory_hits > before
        })
        .await;
        let stall = Duration::from_millis(400);
        let began = Instant::now();
        relay.stall(Way::ToClient, stall);
        change(how).await;
        assert!(began.elapsed() >= stall / 2 && began.elapsed() < LONG / 2, "{how}: {:?}", began.elapsed());
        assert_ne!(name(&b, 7).await.as_deref(), Some("old"), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_gone_costs_no_more_than_its_lease() {
    let redis = known();
    let relay = Relay::start(redis.address()).unwrap();
    let a = leased(&url(redis.address()), LEASE).build().await.unwrap();
    let b = leased(&url(relay.address()), LEASE).build().await.unwrap();
    a.put(&7, product(7, "old")).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    relay.stall(Way::ToClient, LONG);
    relay.stall(Way::ToServer, LONG);
    let began = Instant::now();
    assert_eq!(a.invalidate(&7).await, Reach::Everywhere);
    let waited = began.elapsed();
    assert!(waited >= LEASE / 2 && waited < LONG / 2, "{waited:?}");
    // Its memory has the old value, and it may not be served. Redis cannot be asked.
    assert!(!b.stats().memory_is_held);
    let loads = Loads::default();
    assert_eq!(b.get_or_load(&7, || loads.now(7, "new")).await.unwrap().name, "new");
    // From here on nobody waits for it, and it comes back by itself.
    assert_eq!(a.invalidate(&7).await, Reach::Everywhere);
    assert_eq!(redis.command(&["ZCARD", "{tenfold:product}:holders"]).unwrap(), ["1"]);
    relay.stall(Way::ToClient, Duration::ZERO);
    relay.stall(Way::ToServer, Duration::ZERO);
    relay.cut();
    until("b holds a lease again", async || b.stats().memory_is_held).await;
    a.put(&7, product(7, "newer")).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_or_connects_again_is_not_waited_for() {
    let redis = known();
    let relay = Relay::start(redis.address()).unwrap();
    let a = leased(&url(redis.address()), LONG).build().await.unwrap();
    let b = leased(&url(relay.address()), LONG).build().await.unwrap();
    let ended = leased(&url(redis.address()), LONG).build().await.unwrap();
    drop(ended);
    until("one has left", async || redis.command(&["ZCARD", "{tenfold:product}:holders"]).unwrap() == ["2"]).await;
    // While the message is on its way the connection breaks: what b says of the new one is not about the old one.
    relay.stall(Way::ToClient, LONG);
    let change = {
        let a = a.clone();
        tokio::spawn(async move { a.invalidate(&7).await })
    };
    until("the change is made", async || a.stats().invalidations == 1).await;
    relay.stall(Way::ToClient, Duration::ZERO);
    relay.cut();
    let began = Instant::now();
    assert_eq!(change.await.unwrap(), Reach::Everywhere);
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_memory_ends_with_its_lease_and_writes_fail_before_the_database() {
    let mut redis = known();
    let a = leased(&url(redis.address()), LEASE).build().await.unwrap();
    let loads = Loads::default();
    a.put(&7, product(7, "old")).await.unwrap();
    redis.kill();
    until("the loss is known", async || !a.stats().redis_is_up).await;
    until("the lease has ended", async || !a.stats().memory_is_held).await;
    assert_eq!(name(&a, 7).await, None);
    assert_eq!(a.get_or_load(&7, || loads.now(7, "loaded")).await.unwrap().name, "loaded");
    assert_eq!(a.get_or_load(&7, || loads.now(7, "loaded again")).await.unwrap().name, "loaded again");
    let is_saved = AtomicBool::new(false);
    let write = a.write_through(&7, product(7, "new"), async |_| {
        is_saved.store(true, Ordering::SeqCst);
        Ok::<_, io::Error>(())
    });
    assert!(matches!(write.await, Err(Error::Away { .. })) && !is_saved.load(Ordering::SeqCst));
    assert_eq!(a.invalidate(&7).await, Reach::Here);
    assert_eq!(a.put(&7, product(7, "new")).await.unwrap(), Reach::Here);
    redis.restart().unwrap();
    until("it has come back by itself", async || a.stats().memory_is_held).await;
    until("writes are kept again", async || {
        a.write_through(&7, product(7, "newer"), async |_| Ok::<_, io::Error>(())).await.is_ok()
            && name(&a, 7).await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_want_one_key_without_redis_load_one_after_the_other() {
    let mut redis = known();
    let a = leased(&url(redis.address()), LEASE).build().await.unwrap();
    redis.kill();
    until("the lease has ended", async || !a.stats().redis_is_up && !a.stats().memory_is_held).await;
    let loads = Loads::default();
    let calls = (0..1000).map(|_| a.get_or_load(&7, || loads.load(7, "a", Duration::from_millis(50))));
    assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
    assert!(loads.count() <= 3, "{}", loads.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_lost_after_the_database_write_leaves_nothing_old() {
    let mut redis = known();
    redis.command(&["CONFIG", "SET", "save", ""]).unwrap();
    let build = async || leased(&url(redis.address()), LEASE).build().await.unwrap();
    let (a, b) = (build().await, build().await);
    a.put(&7, product(7, "old")).await.unwrap();
    a.put(&8, product(8, "old")).await.unwrap();
    // What it will have when it comes back.
    redis.command(&["SAVE"]).unwrap();
    a.write_through(&8, product(8, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    let began = Instant::now();
    let write = a.write_through(&7, product(7, "new"), async |_| {
        redis.kill();
        Ok::<_, io::Error>(())
    });
    assert_eq!(write.await.unwrap().name, "new");
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!((name(&a, 7).await, name(&b, 7).await), (None, None));
    redis.restart().unwrap();
    assert_eq!(redis.command(&["EXISTS", "{tenfold:product}:v:8"]).unwrap(), ["1"]);
    until("both are back", async || a.stats().memory_is_held && b.stats().memory_is_held).await;
    for cache in [&a, &b] {
        assert_eq!(cache.get_many(&[7, 8]).await, [None, None], "it is from before the restart");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_write_is_under_way_the_old_value_is_served_and_not_kept() {
    let redis = known();
    let build = async || leased(&url(redis.address()), LONG).build().await.unwrap();
    let (a, b) = (build().await, build().await);
    a.put(&7, product(7, "old")).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    let loads = Loads::default();
    let write = a.write_through(&7, product(7, "new"), async |_| {
        let before = b.stats().memory_hits;
        for _ in 0..2 {
            assert_eq!(b.get_or_load(&7, || loads.now(7, "loaded")).await.unwrap().name, "old");
        }
        assert_eq!((b.stats().memory_hits, loads.count()), (before, 0));
        assert_eq!(b.put(&7, product(7, "put")).await.unwrap(), Reach::Everywhere);
        assert_eq!(b.get_or_load(&7, || loads.now(7, "loaded")).await.unwrap().name, "loaded");
        Ok::<_, io::Error>(())
    });
    assert_eq!(write.await.unwrap().name, "new");
    // What was put and what was written overlap, and only the database knows which is later.
    assert_eq!((name(&a, 7).await, name(&b, 7).await), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_spans_a_write_is_nothing_for_who_came_after_it() {
    let redis = known();
    let relay = Relay::start(redis.address()).unwrap();
    let (a, b) = (leased(&url(relay.address()), LONG), leased(&url(redis.address()), LONG));
    let (a, b) = (a.build().await.unwrap(), b.build().await.unwrap());
    let ((begun, begins), (saves, save)) = (oneshot::channel(), oneshot::channel());
    let write = {
        let b = b.clone();
        tokio::spawn(async move {
            let save = async move |_| {
                begun.send(()).unwrap();
                save.await.map_err(io::Error::other)
            };
            b.write_through(&7, product(7, "new"), save).await.map(drop)
        })
    };
    begins.await.unwrap();
    let ((loading, loads), (goes_on, go_on)) = (oneshot::channel(), oneshot::channel());
    let early = {
        let a = a.clone();
        tokio::spawn(async move {
            let load = async move || {
                // What the database has is read, and on its way.
                loading.send(()).unwrap();
                go_on.await.map(|()| product(7, "old")).map_err(io::Error::other)
            };
            a.get_or_load(&7, load).await.unwrap().name.clone()
        })
    };
    loads.await.unwrap();
    // The end of a write that was alone is waited for by nobody, and its message is on its way for long.
    relay.stall(Way::ToClient, LONG);
    saves.send(()).unwrap();
    write.await.unwrap().unwrap();
    assert!(a.stats().memory_is_held);
    let mut late = std::pin::pin!(a.get_or_load(&7, async || Ok::<_, io::Error>(product(7, "new"))));
    let once = late.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(once.is_pending(), "it has joined the load that is under way");
    goes_on.send(()).unwrap();
    assert_eq!(early.await.unwrap(), "old", "it began before the write was acknowledged");
    relay.stall(Way::ToClient, Duration::ZERO);
    assert_eq!(late.await.unwrap().name, "new", "it is for those who came after the write too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_loaded_during_a_write_is_kept_by_nobody() {
    for with_redis in [true, false] {
        let redis = known();
        let relay = Relay::start(redis.address()).unwrap();
        let a = leased(&url(relay.address()), LONG).redis_timeout(LEASE / 4).build().await.unwrap();
        let b = leased(&url(redis.address()), LONG).build().await.unwrap();
        let write = b.write_through(&7, product(7, "new"), async |_| {
            if !with_redis {
                relay.stall(Way::ToServer, LONG);
            }
            let loaded = a.get_or_load(&7, async || Ok::<_, io::Error>(product(7, "old"))).await;
            assert_eq!(loaded.unwrap().name, "old");
            // That the write has ended is on its way to a for long.
            relay.stall(Way::ToClient, LONG);
            Ok::<_, io::Error>(())
        });
        write.await.unwrap();
        assert!(a.stats().memory_is_held);
        let redis = if with_redis { "with" } else { "without" };
        assert_eq!(name(&a, 7).await, None, "{redis} Redis: it was kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_answer_was_late_is_as_long_as_if_it_was_not() {
    let lease = 3 * LEASE;
    let redis = known();
    let relay = Relay::start(redis.address()).unwrap();
    let a = leased(&url(redis.address()), lease).build().await.unwrap();
    let b = leased(&url(relay.address()), lease).redis_timeout(lease).build().await.unwrap();
    a.put(&7, product(7, "old")).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    // The lease is extended once meanwhile, within its first quarter; then nothing more comes or goes.
    relay.stall(Way::ToClient, lease * 6 / 10);
    tokio::time::sleep(lease * 7 / 10).await;
    relay.stall(Way::ToServer, LONG);
    relay.stall(Way::ToClient, LONG);
    assert_eq!(a.invalidate(&7).await, Reach::Everywhere);
    let hits = b.stats().memory_hits;
    let _asked_of_redis = tokio::time::timeout(Duration::from_millis(1), b.get(&7)).await;
    assert_eq!(b.stats().memory_hits, hits, "b serves what was acknowledged to be invalid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_extends_leases_and_takes_changes() {
    let redis = known();
    let (a, b) = (leased(&url(redis.address()), LEASE), leased(&url(redis.address()), LEASE));
    let (a, b) = (a.build().await.unwrap(), b.build().await.unwrap());
    a.put(&7, product(7, "old")).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    tokio::time::sleep(2 * LEASE).await;
    until("leases are extended", async || a.stats().memory_is_held && b.stats().memory_is_held).await;
    a.write_through(&7, product(7, "new"), async |_| Ok::<_, io::Error>(())).await.unwrap();
    assert_ne!(name(&b, 7).await.as_deref(), Some("old"));
    assert_eq!(a.invalidate(&7).await, Reach::Everywhere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_changes_wait_for_holders_that_redis_has_forgotten() {
    let redis = known();
    let relay = Relay::start(redis.address()).unwrap();
    let a = leased(&url(redis.address()), LEASE).build().await.unwrap();
    let b = leased(&url(relay.address()), LEASE).build().await.unwrap();
    a.put(&7, product(7, "old")).await.unwrap();
    assert_eq!(name(&b, 7).await.as_deref(), Some("old"));
    // Longer than a Redis counts as just started.
    tokio::time::sleep(2 * LEASE).await;
    // What b is told from here on is late.
    relay.stall(Way::ToClient, LONG);
    relay.stall(Way::ToServer, LONG);
    redis.command(&["FLUSHALL"]).unwrap();
    until("the next change is acknowledged", async || a.invalidate(&7).await == Reach::Everywhere).await;
    assert!(!b.stats().memory_is_held, "b serves what was acknowledged to be invalid");
}
