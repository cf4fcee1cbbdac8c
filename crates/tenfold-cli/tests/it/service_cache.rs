//! Caches of a service, which has them by the library, from the command line.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cache::admin::CacheAdmin;
use cache::{Cache, Coherence};
use testkit::{Redis, Relay, TempDir, Way};

use crate::site::command;

const TOKEN: &str = "0123456789abcdef";
const KEYS: u64 = 8;
const ROUNDS: u64 = 12;

/// A service with one cache, which shows it, and its database, of which every value is the same number.
struct Service {
    cache: Cache<u64, u64>,
    address: SocketAddr,
    database: Arc<AtomicU64>,
}

impl Service {
    async fn start(redis: SocketAddr, coherence: Coherence, database: &Arc<AtomicU64>) -> Self {
        let builder = Cache::builder("product").memory(cache::MIB).redis(format!("redis://{redis}"));
        let builder = builder.redis_timeout(Duration::from_secs(20)).ttl(Duration::from_secs(60));
        let cache = builder.coherence(coherence).tags(|_| vec!["all".to_owned()]).build().await.unwrap();
        Self::of(cache, database).await
    }

    async fn of(cache: Cache<u64, u64>, database: &Arc<AtomicU64>) -> Self {
        let admin = CacheAdmin::builder().token(TOKEN).keyed(&cache).build().unwrap();
        let router = axum::Router::new().nest_service("/ops/caches", admin);
        let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { cache, address, database: Arc::clone(database) }
    }

    async fn read(&self, key: u64) -> u64 {
        let load = async || Ok::<_, std::io::Error>(self.database.load(Ordering::SeqCst));
        *self.cache.get_or_load(&key, load).await.unwrap()
    }

    /// Runs a command about its caches.
    async fn run(&self, words: &[&str], token: &TempDir) -> Output {
        let mut command = command();
        command.arg("cache").args(words).args(["--at", &format!("http://{}/ops/caches", self.address)]);
        command.arg("--token-file").arg(token.path().join("token"));
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

fn token() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    folder
}

fn printed(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// How it is asked for in a round.
fn words(round: u64) -> [&'static str; 3] {
    match round % 3 {
        0 => ["product", "--key", "3"],
        1 => ["product", "--tag", "all"],
        _ => ["--every-cache", "--all", "--json"],
    }
}

/// Reads of both instances all the time, by tasks of their own: those that began after an answer may not be older than it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_no_instance_with_a_lease_reads_what_was_before() {
    let (redis, token, database) = (Redis::start(&[]).unwrap(), token(), Arc::new(AtomicU64::new(0)));
    let leased = Coherence::leased();
    let a = Arc::new(Service::start(redis.address(), leased, &database).await);
    let b = Arc::new(Service::start(redis.address(), leased, &database).await);
    // What has been answered for: no read that begins from then on may be older.
    let (answered, is_over, reads) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers = [&a, &b].map(|service| {
        let (service, answered) = (Arc::clone(service), Arc::clone(&answered));
        let (is_over, reads) = (Arc::clone(&is_over), Arc::clone(&reads));
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let least = answered.load(Ordering::SeqCst);
                let found = service.read(3).await;
                assert!(found >= least, "{found} was read after {least} was answered for");
                reads.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    for round in 1..=ROUNDS {
        for key in 0..KEYS {
            assert!(a.read(key).await < round && b.read(key).await < round);
        }
        database.store(round, Ordering::SeqCst);
        // By the one or the other.
        let asked = if round % 2 == 0 { &a } else { &b };
        let told = printed(&asked.run(&[&["invalidate"], &words(round)[..]].concat(), &token).await);
        answered.store(round, Ordering::SeqCst);
        let keys = if round % 3 == 0 { 3..4 } else { 0..KEYS };
        for key in keys {
            assert_eq!((a.read(key).await, b.read(key).await), (round, round), "{key}: {told}");
        }
        let is_as_expected =
            if round % 3 == 2 { told.contains("\"reach\": \"everywhere\"") } else { told == "product: invalidated\n" };
        assert!(is_as_expected, "{told}");
        // Whatever the round left.
        a.cache.invalidate_all().await;
    }
    is_over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(reads.load(Ordering::SeqCst) > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_waits_for_an_instance_that_has_not_heard() {
    let (redis, token, database) = (Redis::start(&[]).unwrap(), token(), Arc::new(AtomicU64::new(1)));
    // A Redis that was not just started, so that nobody has to wait for leases from before.
    let info = redis.command(&["INFO", "server"]).unwrap().join("\n");
    let run = info.split_once("run_id:").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap();
    redis.command(&["SET", "{tenfold:product}:run", run]).unwrap();
    let relay = Relay::start(redis.address()).unwrap();
    let long = Coherence::Leased(Duration::from_secs(30));
    let a = Service::start(redis.address(), long, &database).await;
    let b = Service::start(relay.address(), long, &database).await;
    let is_in_memory = async || {
        let before = b.cache.stats().memory_hits;
        b.read(3).await == 1 && b.cache.stats().memory_hits > before
    };
    let began = Instant::now();
    while !is_in_memory().await {
        assert!(began.elapsed() < Duration::from_secs(40), "b does not serve from memory");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    database.store(2, Ordering::SeqCst);
    let (stall, began) = (Duration::from_millis(600), Instant::now());
    relay.stall(Way::ToClient, stall);
    printed(&a.run(&["invalidate", "product", "--key", "3"], &token).await);
    let waited = began.elapsed();
    assert!(waited >= stall / 2 && waited < Duration::from_secs(20), "{waited:?}");
    assert_eq!(b.read(3).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_bounded_stale_the_one_that_is_asked_has_it_at_once_and_others_with_the_next_message() {
    let (redis, token, database) = (Redis::start(&[]).unwrap(), token(), Arc::new(AtomicU64::new(0)));
    let bounded = Coherence::BoundedStale(Duration::from_secs(60));
    let a = Service::start(redis.address(), bounded, &database).await;
    let b = Service::start(redis.address(), bounded, &database).await;
    for round in 1..=ROUNDS {
        for key in 0..KEYS {
            assert!(a.read(key).await < round && b.read(key).await < round);
        }
        database.store(round, Ordering::SeqCst);
        printed(&a.run(&[&["invalidate"], &words(round)[..]].concat(), &token).await);
        assert_eq!(a.read(3).await, round);
        let began = Instant::now();
        while b.read(3).await != round {
            assert!(began.elapsed() < Duration::from_secs(20), "b has not heard");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        a.cache.invalidate_all().await;
        let began = Instant::now();
        while b.read(0).await != round {
            assert!(began.elapsed() < Duration::from_secs(20), "b has not heard of the second");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_and_what_goes_wrong_are_told() {
    let (mut redis, token, database) = (Redis::start(&[]).unwrap(), token(), Arc::new(AtomicU64::new(7)));
    let service = Service::start(redis.address(), Coherence::leased(), &database).await;
    service.read(3).await;
    let list = printed(&service.run(&["list"], &token).await);
    assert!(list.contains("product") && list.contains("leased 2000 ms") && list.contains("up"), "{list}");
    let list: serde_json::Value =
        serde_json::from_str(&printed(&service.run(&["list", "--json"], &token).await)).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["takes_keys"]), (&"product".into(), &true.into()));
    let failed = async |words: &[&str], token: &TempDir, part: &str| {
        let output = service.run(words, token).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(part), "{words:?}: {text}");
    };
    failed(&["invalidate", "products", "--all"], &token, "no cache products; there are product").await;
    failed(&["invalidate", "product", "--key", "x"], &token, "cache product: no key \"x\"").await;
    // What begins like an option is a key all the same.
    failed(&["invalidate", "product", "--key", "-7"], &token, "cache product: no key \"-7\"").await;
    printed(&service.run(&["invalidate", "product", "--tag", "-sale"], &token).await);
    let wrong = TempDir::new().unwrap();
    std::fs::write(wrong.path().join("token"), "fedcba9876543210").unwrap();
    failed(&["list"], &wrong, "name a file with its token by --token-file").await;
    std::fs::write(wrong.path().join("token"), format!("{TOKEN}{}x", " ".repeat(70_000))).unwrap();
    failed(&["list"], &wrong, "token has more than 65536 bytes").await;
    redis.kill();
    let output = service.run(&["invalidate", "product", "--key", "3"], &token).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("Redis is away"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_the_process_that_was_asked_is_said_to_be_the_only_one() {
    let (token, database) = (token(), Arc::new(AtomicU64::new(1)));
    let build = async || Cache::builder("product").memory(cache::MIB).build().await.unwrap();
    let (a, b) = (Service::of(build().await, &database).await, Service::of(build().await, &database).await);
    assert_eq!((a.read(3).await, b.read(3).await), (1, 1));
    database.store(2, Ordering::SeqCst);
    let told = printed(&a.run(&["invalidate", "product", "--key", "3"], &token).await);
    assert!(told.starts_with("product: invalidated in the process that was asked alone"), "{told}");
    assert_eq!((a.read(3).await, b.read(3).await), (2, 1), "nobody tells the other");
    let told = printed(&b.run(&["invalidate", "--every-cache", "--all", "--json"], &token).await);
    assert!(told.contains("\"reach\": \"process\""), "{told}");
    assert_eq!(b.read(3).await, 2);
}
