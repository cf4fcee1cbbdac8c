//! Readers and writers that meet by chance, and a checker that knows what the database had.
//!
//! Two things have to hold. **While it goes on**: a read that began after this instance had acknowledged a write returns nothing older.
//! **When it is quiet**: no instance, and not Redis either, has anything else than the database, however often connections broke.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache::{Builder, Cache};
use testkit::Redis;

const KEYS: u64 = 30;
const TASKS: u64 = 12;

/// Values are numbers that are written once; the database remembers their order.
#[derive(Debug, Default)]
struct Database {
    rows: Mutex<HashMap<u64, Vec<u64>>>,
    next: AtomicU64,
    reads: AtomicU64,
}

impl Database {
    fn read(&self, key: u64) -> u64 {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.rows.lock().unwrap().get(&key).and_then(|row| row.last().copied()).unwrap_or(key % 3)
    }

    fn write(&self, key: u64, value: u64) {
        self.rows.lock().unwrap().entry(key).or_default().push(value);
    }

    /// How many values came before this one and with it.
    fn order(&self, key: u64, value: u64) -> usize {
        let rows = self.rows.lock().unwrap();
        rows.get(&key).and_then(|row| row.iter().position(|found| *found == value)).map_or(0, |at| at + 1)
    }

    /// A new value, whose tag is that of its key.
    fn value(&self, key: u64) -> u64 {
        (self.next.fetch_add(1, Ordering::Relaxed) + 1) * 3 + key % 3
    }
}

/// One instance, and how new a value has to be that is read from it.
struct Instance {
    cache: Cache<u64, u64>,
    floors: Vec<AtomicU64>,
}

impl Instance {
    fn new(cache: Cache<u64, u64>) -> Self {
        Self { cache, floors: (0..KEYS).map(|_| AtomicU64::new(0)).collect() }
    }

    fn floor(&self, key: u64) -> u64 {
        self.floors[key as usize].load(Ordering::SeqCst)
    }

    fn acknowledge(&self, database: &Database, key: u64, value: u64) {
        self.floors[key as usize].fetch_max(database.order(key, value) as u64, Ordering::SeqCst);
    }
}

async fn pause(random: &mut fastrand::Rng) {
    for _ in 0..random.u8(..4) {
        tokio::task::yield_now().await;
    }
    if random.u8(..8) == 0 {
        tokio::time::sleep(Duration::from_micros(random.u64(..2000))).await;
    }
}

async fn load(database: &Database, key: u64, mut random: fastrand::Rng) -> io::Result<u64> {
    pause(&mut random).await;
    let value = database.read(key);
    pause(&mut random).await;
    if random.u8(..40) == 0 { Err(io::Error::other("by chance")) } else { Ok(value) }
}

/// Commits before or after it fails by chance, or not at all.
async fn save(database: &Database, (key, value): (u64, u64), mut random: fastrand::Rng) -> io::Result<()> {
    pause(&mut random).await;
    let luck = random.u8(..20);
    if luck == 0 {
        return Err(io::Error::other("before the commit"));
    }
    database.write(key, value);
    pause(&mut random).await;
    if luck == 1 { Err(io::Error::other("after the commit")) } else { Ok(()) }
}

async fn operate(instance: &Instance, database: &Database, random: &mut fastrand::Rng) {
    let (cache, key) = (&instance.cache, random.u64(..KEYS));
    let fork = random.fork();
    match random.u8(..100) {
        0..80 => {
            let floor = instance.floor(key);
            if let Ok(found) = cache.get_or_load(&key, || load(database, key, fork)).await {
                let order = database.order(key, *found) as u64;
                assert!(order >= floor, "key {key}: {found} is number {order}, and {floor} was acknowledged");
            }
        }
        80..88 => {
            let floor = instance.floor(key);
            if let Some(found) = cache.get(&key).await {
                assert!(database.order(key, *found) as u64 >= floor, "key {key}: {found} is too old");
            }
        }
        88..95 => {
            let value = database.value(key);
            if cache.write_through(&key, value, |_| save(database, (key, value), fork)).await.is_ok() {
                instance.acknowledge(database, key, value);
            }
        }
        95..98 => {
            // Somebody writes past the cache, and says so.
            let value = database.value(key);
            database.write(key, value);
            if random.u8(..4) == 0 {
                cache.invalidate_tag(&format!("tag {}", key % 3)).await;
            } else {
                cache.invalidate(&key).await;
            }
            instance.acknowledge(database, key, value);
        }
        98..99 => {
            // A caller that does not wait to the end.
            let value = database.value(key);
            let write = cache.write_through(&key, value, |_| save(database, (key, value), fork));
            let _late = tokio::time::timeout(Duration::from_micros(random.u64(..1500)), write).await;
        }
        _ => {
            if random.u8(..8) == 0 {
                cache.invalidate_all().await;
            }
        }
    }
}

fn builder(entries: u64) -> Builder<u64, u64> {
    let tags = |value: &u64| vec![format!("tag {}", value % 3)];
    Cache::builder("race").memory_entries(entries).ttl(Duration::from_secs(600)).tags(tags)
}

/// Runs many operations at once on some instances.
async fn race(instances: &Arc<Vec<Instance>>, database: &Arc<Database>, operations: u64, seed: u64) {
    println!("seed {seed}");
    let tasks = (0..TASKS).map(|number| {
        let (instances, database) = (Arc::clone(instances), Arc::clone(database));
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
            for _ in 0..operations / TASKS {
                let instance = &instances[random.usize(..instances.len())];
                operate(instance, &database, &mut random).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_one_process_no_old_value_comes_back() {
    for round in 0..5 {
        let instances = Arc::new(vec![Instance::new(builder(20).build().await.unwrap())]);
        let database = Arc::default();
        race(&instances, &database, 12_000, fastrand::u64(..) ^ round).await;
        quiet(&instances, &database).await;
        let stats = instances[0].cache.stats();
        assert!(stats.memory_hits > 3_000 && stats.fenced > 100, "nothing was put to the test: {stats:?}");
    }
}

/// Waits until writes whose callers did not wait have ended too, and compares all that is cached with the database.
async fn quiet(instances: &[Instance], database: &Database) {
    let began = Instant::now();
    'again: loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for instance in instances {
            for key in 0..KEYS {
                let found = instance.cache.get(&key).await;
                let (found, expected) = (found.map(|found| *found), database.read(key));
                if found.is_some_and(|found| found != expected) {
                    assert!(began.elapsed() < Duration::from_secs(10), "key {key}: {found:?} is there, not {expected}");
                    continue 'again;
                }
            }
        }
        return;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn among_instances_no_old_value_comes_back_though_connections_break() {
    let redis = Arc::new(Redis::start(&[]).unwrap());
    let (mut instances, database) = (Vec::new(), Arc::<Database>::default());
    for _ in 0..3 {
        let shared = builder(20).redis(format!("redis://{}", redis.address()));
        let shared = shared.redis_timeout(Duration::from_secs(20)).lease(Duration::from_millis(500));
        instances.push(Instance::new(shared.build().await.unwrap()));
    }
    let instances = Arc::new(instances);
    for round in 0..2 {
        let is_over = Arc::new(AtomicBool::new(round == 0));
        let breaker = {
            let (redis, is_over) = (Arc::clone(&redis), Arc::clone(&is_over));
            tokio::task::spawn_blocking(move || {
                while !is_over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(fastrand::u64(50..300)));
                    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
                }
            })
        };
        race(&instances, &database, 12_000, fastrand::u64(..)).await;
        is_over.store(true, Ordering::SeqCst);
        breaker.await.unwrap();
        while !instances.iter().all(|instance| instance.cache.stats().redis_is_up) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        quiet(&instances, &database).await;
        let stats: Vec<_> = instances.iter().map(|instance| instance.cache.stats()).collect();
        println!("{} reads of the database; {stats:?}", database.reads.load(Ordering::Relaxed));
    }
}
