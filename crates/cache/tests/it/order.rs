//! What must not be overtaken, come back or be forgotten, between instances that share a Redis.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cache::{Cache, Reach};
use testkit::{Redis, Relay, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};

use crate::redis::{name, shared, two, until};
use crate::{Loads, Product, product};

const SECOND: Duration = Duration::from_secs(1);

/// A way to Redis that can be shut, and on which one thing gets stuck.
struct Gate {
    address: SocketAddr,
    is_open: AtomicBool,
    /// Whatever is said of the writers of a key goes no further.
    sticks: AtomicBool,
    stuck: Notify,
}

impl Gate {
    async fn to(redis: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, sticks) = (AtomicBool::new(true), AtomicBool::new(false));
        let gate = Arc::new(Self { address, is_open, sticks, stuck: Notify::new() });
        let shared = Arc::clone(&gate);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.is_open.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(redis).await
                {
                    tokio::spawn(Arc::clone(&shared).pass(client, server));
                }
            }
        });
        gate
    }

    async fn pass(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), server.into_split());
        let there = async {
            let mut bytes = vec![0; 64 * 1024];
            loop {
                let count = from.read(&mut bytes).await.unwrap_or(0);
                if self.sticks.load(Ordering::SeqCst) && bytes[..count].windows(3).any(|part| part == b":w:") {
                    self.stuck.notify_one();
                    return std::future::pending().await;
                }
                if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = there => {}
            _ = tokio::io::copy(&mut answers, &mut back) => {}
        }
    }
}

#[tokio::test]
async fn what_is_owed_stays_owed_until_it_was_told() {
    let mut redis = Redis::start(&[]).unwrap();
    let gate = Gate::to(redis.address()).await;
    let a = shared(&redis).redis(format!("redis://{}", gate.address)).build().await.unwrap();
    gate.is_open.store(false, Ordering::SeqCst);
    redis.kill();
    until("the loss is known", async || !a.stats().redis_is_up).await;
    assert_eq!(a.invalidate(&7).await, Reach::Here);
    redis.restart().unwrap();
    redis.command(&["SET", "{tenfold:product}:v:7", "an old value", "PX", "600000"]).unwrap();
    gate.sticks.store(true, Ordering::SeqCst);
    gate.is_open.store(true, Ordering::SeqCst);
    // The connection stands, and whoever tells what is owed has no answer until the time is over.
    gate.stuck.notified().await;
    gate.sticks.store(false, Ordering::SeqCst);
    until("a is back", async || a.stats().redis_is_up).await;
    assert_eq!(redis.command(&["EXISTS", "{tenfold:product}:v:7"]).unwrap(), ["0"]);
}

#[tokio::test]
async fn a_caller_that_is_dropped_while_its_write_ends_does_not_close_the_key() {
    let mut redis = Redis::start(&[]).unwrap();
    let (a, loads) = (shared(&redis).build().await.unwrap(), Loads::default());
    {
        let saved = Notify::new();
        let write = a.write_through(&7, product(7, "new"), async |_| {
            redis.hang().unwrap();
            saved.notify_one();
            Ok::<_, io::Error>(())
        });
        tokio::select! {
            _ = write => panic!("Redis hangs"),
            () = saved.notified() => {}
        }
    }
    redis.go_on().unwrap();
    until("the key is in memory again", async || {
        a.get_or_load(&7, || loads.now(7, "new")).await.unwrap();
        a.stats().memory_hits > 0
    })
    .await;
}

#[tokio::test]
async fn a_refresh_for_whoever_needs_a_value_is_not_content_with_none() {
    let redis = Redis::start(&[]).unwrap();
    let builder = shared(&redis).ttl(20 * SECOND).jitter(0.0).negative_ttl(20 * SECOND).refresh_ahead();
    let (a, loads) = (builder.build().await.unwrap(), Loads::default());
    let slow = async || {
        tokio::time::pause();
        tokio::time::advance(15 * SECOND).await;
        tokio::time::resume();
        Ok::<_, io::Error>(product(7, "old"))
    };
    a.get_or_load(&7, slow).await.unwrap();
    assert_eq!(a.find_or_load(&8, async || Ok::<_, io::Error>(None)).await.unwrap(), None);
    // As if another instance had found nothing, and its message was on its way.
    redis.command(&["COPY", "{tenfold:product}:v:8", "{tenfold:product}:v:7", "REPLACE"]).unwrap();
    while a.stats().refreshes == 0 {
        a.get_or_load(&7, || loads.now(7, "new")).await.unwrap();
    }
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn what_was_loaded_without_redis_does_not_outlive_a_write_elsewhere() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    let save = async |_| {
        // What Redis cannot read a string from, a does without; and a's clock is beyond the beginning of the write.
        redis.command(&["RPUSH", "{tenfold:product}:v:7", "x"]).unwrap();
        a.put(&8, product(8, "eight")).await.unwrap();
        a.get_or_load(&7, async || Ok::<_, io::Error>(product(7, "old"))).await.unwrap();
        assert_eq!(name(&a, 7).await.as_deref(), Some("old"));
        Ok::<_, io::Error>(())
    };
    b.write_through(&7, product(7, "new"), save).await.unwrap();
    until("a has the new value", async || name(&a, 7).await.as_deref() == Some("new")).await;
}

#[tokio::test]
async fn a_writer_that_counted_as_dead_leaves_no_value_of_another() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    let ((died, dead), (begun, begins), (ended, ends)) = (oneshot::channel(), oneshot::channel(), oneshot::channel());
    let first = a.write_through(&7, product(7, "first"), async move |_| {
        died.send(()).unwrap();
        begins.await.map_err(io::Error::other)
    });
    let second = b.write_through(&7, product(7, "second"), async move |_| {
        begun.send(()).unwrap();
        ends.await.map_err(io::Error::other)
    });
    let first = async {
        first.await.unwrap();
        ended.send(()).unwrap();
    };
    let second = async {
        dead.await.unwrap();
        // Its lease is over.
        redis.command(&["DEL", "{tenfold:product}:w:7"]).unwrap();
        second.await.unwrap();
    };
    tokio::join!(first, second);
    assert_eq!(redis.command(&["EXISTS", "{tenfold:product}:v:7"]).unwrap(), ["0"]);
    assert_eq!((name(&a, 7).await, name(&b, 7).await), (None, None));
}

#[tokio::test]
async fn instances_do_not_load_one_after_the_other_what_nobody_may_keep() {
    let redis = Redis::start(&[]).unwrap();
    let (under_way, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut instances = Vec::new();
    for _ in 0..8 {
        instances.push(shared(&redis).build().await.unwrap());
    }
    let load = async || {
        most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(SECOND / 2).await;
        under_way.fetch_sub(1, Ordering::SeqCst);
        Ok::<Option<Product>, io::Error>(None)
    };
    let load = &load;
    let calls = instances.iter().map(|instance| instance.find_or_load(&7, load));
    for found in futures_util::future::join_all(calls).await {
        assert_eq!(found.unwrap(), None);
    }
    assert!(most.load(Ordering::SeqCst) > 1);
}

#[tokio::test]
async fn compare_and_set_and_versioned_agree_on_what_is_there() {
    let redis = Redis::start(&[]).unwrap();
    let a: Cache<u64, Product> = shared(&redis).negative_ttl(30 * SECOND).build().await.unwrap();
    assert_eq!(a.find_or_load(&7, async || Ok::<_, io::Error>(None)).await.unwrap(), None);
    for (id, bytes) in [(8, "-"), (9, ""), (18, "a stranger's value")] {
        redis.command(&["SET", &format!("{{tenfold:product}}:v:{id}"), bytes, "PX", "60000"]).unwrap();
    }
    let version = a.compare_and_set(&19, None, product(19, "a")).await.unwrap();
    assert!(version.is_some());
    a.invalidate_tag("category:9").await;
    assert_eq!(a.compare_and_set(&19, version, product(19, "b")).await.unwrap(), None, "it was invalidated");
    for id in [7, 8, 9, 18, 19] {
        assert_eq!(a.versioned(&id).await.unwrap(), None);
        let first = a.compare_and_set(&id, None, product(id, "first")).await.unwrap();
        assert!(first.is_some(), "{id}");
        assert_eq!(a.compare_and_set(&id, None, product(id, "no")).await.unwrap(), None);
        assert!(a.compare_and_set(&id, first, product(id, "second")).await.unwrap() > first);
        assert_eq!(name(&a, id).await.as_deref(), Some("second"));
    }
}

#[tokio::test]
async fn nobody_believes_a_strangers_version() {
    let redis = Redis::start(&[]).unwrap();
    let (a, b) = two(&redis).await;
    // Everything was invalidated at the end of time.
    let message = "return redis.call('PUBLISH', KEYS[1], 'e' .. string.rep(string.char(255), 8))";
    assert_eq!(redis.command(&["EVAL", message, "1", "{tenfold:product}:changes"]).unwrap(), ["2"]);
    a.put(&7, product(7, "a")).await.unwrap();
    assert_eq!(name(&a, 7).await.as_deref(), Some("a"));
    until("b has it", async || name(&b, 7).await.is_some()).await;
    redis.command(&["SET", "{tenfold:product}:clock", "9223372036854775800"]).unwrap();
    a.put(&7, product(7, "b")).await.unwrap();
    assert_eq!(name(&a, 7).await.as_deref(), Some("b"));
    assert!(redis.command(&["GET", "{tenfold:product}:clock"]).unwrap()[0].len() == 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_was_given_up_has_no_effect_when_redis_hears_of_it() {
    let redis = Redis::start(&[]).unwrap();
    let relay = Relay::start(redis.address()).unwrap();
    let late = shared(&redis).redis(format!("redis://{}", relay.address())).redis_timeout(SECOND / 4);
    let (a, b) = (late.build().await.unwrap(), shared(&redis).build().await.unwrap());
    assert_eq!(a.put(&7, product(7, "first")).await.unwrap(), Reach::Everywhere);
    let stall = 3 * SECOND / 2;
    relay.stall(Way::ToServer, stall);
    assert_eq!(a.put(&7, product(7, "late")).await.unwrap(), Reach::Here);
    assert_eq!(b.put(&7, product(7, "new")).await.unwrap(), Reach::Everywhere);
    // Its process dies, and what it has sent is on its way.
    drop(a);
    tokio::time::sleep(stall + SECOND / 2).await;
    let puts = redis.command(&["INFO", "errorstats"]).unwrap().join(" ");
    assert!(puts.contains("errorstat_PAST:count=1"), "Redis has not heard of it: {puts}");
    let found = shared(&redis).build().await.unwrap().get(&7).await;
    assert_eq!(found.unwrap().name, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_have_an_effect_for_as_long_as_the_clock_is_told_anew() {
    let redis = Redis::start(&[]).unwrap();
    let a = shared(&redis).redis_timeout(SECOND / 4).build().await.unwrap();
    for round in 0..8 {
        let put = format!("{round}");
        assert_eq!(a.put(&7, product(7, &put)).await.unwrap(), Reach::Everywhere);
        let stored = redis.command(&["EXISTS", "{tenfold:product}:v:7"]).unwrap();
        assert_eq!((stored, name(&a, 7).await), (vec!["1".to_owned()], Some(put)));
        tokio::time::sleep(SECOND / 2).await;
    }
}

#[tokio::test]
async fn what_a_failed_write_may_yet_write_is_not_loaded_too_early_and_kept() {
    let redis = Redis::start(&[]).unwrap();
    let lease = SECOND;
    let build = async || shared(&redis).lease(lease).build().await.unwrap();
    let ((a, b), is_committed) = ((build().await, build().await), AtomicBool::new(false));
    let load = async || {
        let name = if is_committed.load(Ordering::SeqCst) { "new" } else { "old" };
        Ok::<_, io::Error>(product(7, name))
    };
    for is_dropped in [false, true] {
        is_committed.store(false, Ordering::SeqCst);
        let (saving, saves) = oneshot::channel();
        let write = a.write_through(&7, product(7, "new"), async move |_| {
            saving.send(()).unwrap();
            match is_dropped {
                true => std::future::pending().await,
                false => Err::<(), _>(io::Error::other("no answer in time")),
            }
        });
        if is_dropped {
            tokio::select! {
                _ = write => panic!("it has no end"),
                begun = saves => begun.unwrap(),
            }
            let ended = async || redis.command(&["HEXISTS", "{tenfold:product}:w:7", "!"]).unwrap() == ["1"];
            until("the end of the write was told", ended).await;
        } else {
            assert!(write.await.is_err());
        }
        for cache in [&a, &b] {
            assert_eq!(cache.get_or_load(&7, load).await.unwrap().name, "old");
        }
        // The statement was under way when its caller gave up.
        is_committed.store(true, Ordering::SeqCst);
        for cache in [&a, &b] {
            assert_eq!(cache.get_or_load(&7, load).await.unwrap().name, "new", "dropped: {is_dropped}");
        }
        until("the key is kept again", async || {
            a.get_or_load(&7, load).await.unwrap();
            name(&b, 7).await.as_deref() == Some("new")
        })
        .await;
    }
}
