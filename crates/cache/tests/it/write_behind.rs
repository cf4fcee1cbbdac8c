//! A cache that writes behind: what was acknowledged is read, whatever happens to tiers and database.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use breaker::BackoffParams;
use cache::behind::{BehindParams, Receipt, SinkError};
use cache::{Builder, Cache, Delivery, Error, Reach, ValueSink};
use testkit::{Redis, TempDir};
use tokio::sync::oneshot;

use crate::redis::until;
use crate::{Product, in_memory, product};

const PATIENCE: Duration = Duration::from_secs(20);

/// A database that can be away, and refuses what is called so.
#[derive(Clone, Default)]
pub(crate) struct Database {
    rows: Arc<Mutex<HashMap<Vec<u8>, Product>>>,
    is_up: Arc<std::sync::atomic::AtomicBool>,
    takes_all: Arc<std::sync::atomic::AtomicBool>,
}

impl Database {
    fn up(&self, is_up: bool) {
        self.is_up.store(is_up, std::sync::atomic::Ordering::SeqCst);
    }

    fn name(&self, id: u64) -> String {
        let rows = self.rows.lock().unwrap();
        rows.get(id.to_string().as_bytes()).map_or_else(|| "old".to_owned(), |found| found.name.clone())
    }

    async fn load(&self, id: u64) -> io::Result<Product> {
        Ok(product(id, &self.name(id)))
    }
}

impl ValueSink<Product> for Database {
    async fn deliver(&self, batch: &[Delivery<Product>]) -> Result<Receipt, SinkError> {
        if !self.is_up.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(SinkError::Unavailable("it is away".to_owned()));
        }
        let (mut rows, mut receipt) = (self.rows.lock().unwrap(), Receipt::all());
        for (at, one) in batch.iter().enumerate() {
            match one.value.name.as_str() {
                "refused" => receipt = receipt.refused(at, "it is called so"),
                "failing" if !self.takes_all.load(std::sync::atomic::Ordering::SeqCst) => {
                    return Err(SinkError::Failed("it is called so".to_owned()));
                }
                _ => drop(rows.insert(one.key.to_vec(), (*one.value).clone())),
            }
        }
        Ok(receipt)
    }
}

fn journal(folder: &TempDir) -> BehindParams {
    let backoff = BackoffParams { base: Duration::from_millis(5), max: Duration::from_millis(20) };
    BehindParams { backoff, ..BehindParams::new(folder.path()) }
}

fn behind(folder: &TempDir, database: &Database) -> Builder<u64, Product> {
    in_memory().write_behind(journal(folder), database.clone())
}

async fn loaded(cache: &Cache<u64, Product>, database: &Database, id: u64) -> String {
    cache.get_or_load(&id, || database.load(id)).await.unwrap().name.clone()
}

#[tokio::test]
async fn what_was_acknowledged_is_read_whatever_the_tiers_have() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    let cache = behind(&folder, &database).build().await.unwrap();
    assert_eq!(loaded(&cache, &database, 7).await, "old");
    cache.write_behind(&7, product(7, "new")).await.unwrap();
    assert_eq!(cache.get(&7).await.unwrap().name, "new");
    let _here = cache.invalidate_all().await;
    assert_eq!(cache.get(&7).await.unwrap().name, "new");
    assert_eq!(cache.get_many(&[7]).await[0].as_ref().unwrap().name, "new");
    assert_eq!(loaded(&cache, &database, 7).await, "new");
    assert_eq!((database.name(7).as_str(), cache.stats().dirty_hits), ("old", 3));
    assert_eq!(cache.behind_stats().unwrap().keys, 1);
    database.up(true);
    assert!(cache.flush(PATIENCE).await);
    assert_eq!((database.name(7).as_str(), cache.behind_stats().unwrap().keys), ("new", 0));
    assert_eq!(loaded(&cache, &database, 7).await, "new");
}

#[tokio::test]
async fn what_the_database_does_not_have_outlasts_the_process() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    let cache = behind(&folder, &database).build().await.unwrap();
    for id in 0..100 {
        cache.write_behind(&id, product(id, "new")).await.unwrap();
    }
    assert_eq!(cache.shutdown(Duration::from_millis(1)).await.keys_left, 100);
    assert!(cache.write_behind(&7, product(7, "late")).await.is_err());
    assert_eq!(loaded(&cache, &database, 7).await, "new", "a write that failed leaves what was acknowledged");
    drop(cache);
    let cache = behind(&folder, &database).build().await.unwrap();
    assert_eq!(loaded(&cache, &database, 42).await, "new");
    database.up(true);
    assert_eq!(cache.shutdown(PATIENCE).await.keys_left, 0);
    assert!((0..100).all(|id| database.name(id) == "new"));
}

#[tokio::test]
async fn what_the_database_refused_is_not_served_and_another_schema_is_refused() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    let cache = behind(&folder, &database).build().await.unwrap();
    cache.write_behind(&7, product(7, "refused")).await.unwrap();
    database.up(true);
    assert!(cache.flush(PATIENCE).await);
    assert_eq!(loaded(&cache, &database, 7).await, "old");
    database.up(false);
    cache.write_behind(&8, product(8, "new")).await.unwrap();
    cache.shutdown(Duration::from_millis(1)).await;
    drop(cache);
    database.up(true);
    let cache = behind(&folder, &database).schema(1).build().await.unwrap();
    assert!(cache.flush(PATIENCE).await);
    assert_eq!((cache.behind_stats().unwrap().dead_letters, database.name(8).as_str()), (2, "old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_at_once_see_nothing_older_than_what_was_acknowledged() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    database.up(true);
    let cache = behind(&folder, &database).memory_entries(4).build().await.unwrap();
    let tasks = (0..8_u64).map(|task| {
        let (cache, database) = (cache.clone(), database.clone());
        tokio::spawn(async move {
            // Each task writes keys of its own, and evicts those of the others.
            for round in 1..200_u64 {
                let id = 100 * task + round % 5;
                cache.write_behind(&id, product(id, &format!("{round:06}"))).await.unwrap();
                for _ in 0..3 {
                    let found = loaded(&cache, &database, id).await;
                    assert_eq!(found, format!("{round:06}"));
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(cache.shutdown(PATIENCE).await.keys_left, 0);
    assert_eq!(database.name(104), "000199");
}

#[tokio::test]
async fn an_instance_that_stored_what_the_database_had_before_is_put_right() {
    let (redis, folder, database) = (Redis::start(&[]).unwrap(), TempDir::new().unwrap(), Database::default());
    let url = format!("redis://{}", redis.address());
    let writer = behind(&folder, &database).redis(&url).redis_timeout(PATIENCE).build().await.unwrap();
    let other = in_memory().redis(&url).redis_timeout(PATIENCE).build().await.unwrap();
    writer.write_behind(&7, product(7, "new")).await.unwrap();
    assert_eq!(other.get(&7).await.unwrap().name, "new");
    let _everywhere = other.invalidate(&7).await;
    assert_eq!(loaded(&other, &database, 7).await, "old");
    assert!(matches!(writer.versioned(&7).await, Err(Error::Dirty { .. })));
    assert_eq!(writer.get_or_load(&7, || database.load(7)).await.unwrap().name, "new");
    database.up(true);
    assert!(writer.flush(PATIENCE).await);
    assert_eq!(loaded(&writer, &database, 7).await, "new");
    let began = std::time::Instant::now();
    while loaded(&other, &database, 7).await != "new" {
        assert!(began.elapsed() < PATIENCE, "the message has not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_write_whose_caller_is_dropped_is_in_the_tiers_when_the_journal_has_it() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    database.up(true);
    let cache = behind(&folder, &database).build().await.unwrap();
    for id in 0..50 {
        {
            let mut write = std::pin::pin!(cache.write_behind(&id, product(id, "new")));
            let once = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(once.is_pending());
        }
        // Whatever runs beside ends the write, or does not.
        tokio::task::yield_now().await;
        loaded(&cache, &database, id).await;
    }
    let began = std::time::Instant::now();
    while database.name(49) != "new" || !cache.flush(PATIENCE).await {
        assert!(began.elapsed() < PATIENCE, "the journal has not taken it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for id in 0..50 {
        assert_eq!((id, loaded(&cache, &database, id).await.as_str()), (id, "new"));
    }
}

#[tokio::test]
async fn what_becomes_a_dead_letter_after_many_tries_is_served_no_more_and_can_be_told_again() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    database.up(true);
    let params = BehindParams { tries_max: 2, ..journal(&folder) };
    let cache = in_memory().write_behind(params, database.clone()).build().await.unwrap();
    cache.write_behind(&7, product(7, "failing")).await.unwrap();
    assert!(cache.flush(PATIENCE).await);
    assert_eq!(loaded(&cache, &database, 7).await, "old");
    let letters = cache.dead_letters().await.unwrap();
    assert_eq!((letters.len(), cache.behind_stats().unwrap().dead_letters), (1, 1));
    assert_eq!(cache.recovery().unwrap().damage, []);
    // What is told again may be older than what the database has: until it is told, nobody reads it here.
    database.up(false);
    database.takes_all.store(true, std::sync::atomic::Ordering::SeqCst);
    let versions: HashSet<_> = letters.iter().map(|letter| letter.write.version).collect();
    assert_eq!(cache.replay_dead_letters(versions.clone()).await.unwrap(), 1);
    let _here = cache.invalidate(&7).await;
    assert_eq!(cache.get(&7).await, None);
    assert_eq!(loaded(&cache, &database, 7).await, "old");
    database.up(true);
    assert!(cache.flush(PATIENCE).await);
    assert_eq!(loaded(&cache, &database, 7).await, "failing");
    assert_eq!(cache.discard_dead_letters(versions).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_written_behind_is_written_by_nothing_else_meanwhile() {
    let redis = Redis::start(&[]).unwrap();
    for shared in [false, true] {
        let (folder, database) = (TempDir::new().unwrap(), Database::default());
        let cache = behind(&folder, &database).redis_timeout(PATIENCE);
        let cache = if shared { cache.redis(format!("redis://{}", redis.address())) } else { cache };
        let cache = cache.build().await.unwrap();
        cache.write_behind(&7, product(7, "new")).await.unwrap();
        let save = async |_| panic!("it is saved") as io::Result<()>;
        let is_dirty = [
            matches!(cache.put(&7, product(7, "other")).await, Err(Error::Dirty { .. })),
            matches!(cache.versioned(&7).await, Err(Error::Dirty { .. })),
            matches!(cache.compare_and_set(&7, None, product(7, "other")).await, Err(Error::Dirty { .. })),
            matches!(cache.write_through(&7, product(7, "other"), save).await, Err(Error::Dirty { .. })),
        ];
        assert_eq!(is_dirty, [true; 4], "{shared}");
        cache.write_behind(&7, product(7, "newer")).await.unwrap();
        database.up(true);
        assert!(cache.flush(PATIENCE).await);
        assert_eq!(cache.put(&7, product(7, "other")).await.unwrap(), Reach::Everywhere);
    }
}

#[tokio::test]
async fn a_reader_that_waits_for_a_load_elsewhere_keeps_nothing_old_over_what_is_dirty() {
    let (redis, folder, database) = (Redis::start(&[]).unwrap(), TempDir::new().unwrap(), Database::default());
    let url = format!("redis://{}", redis.address());
    let a = behind(&folder, &database).redis(&url).redis_timeout(PATIENCE).lease(PATIENCE).build().await.unwrap();
    let b = in_memory().redis(&url).redis_timeout(PATIENCE).lease(PATIENCE).build().await.unwrap();
    // b loads, and a's reader waits for it.
    let ((loading, loads), (goes_on, go_on)) = (oneshot::channel(), oneshot::channel());
    let load = {
        let b = b.clone();
        tokio::spawn(async move {
            let load = async move || {
                loading.send(()).unwrap();
                go_on.await.map(|()| product(7, "old")).map_err(io::Error::other)
            };
            b.get_or_load(&7, load).await.unwrap();
        })
    };
    loads.await.unwrap();
    let waiting = {
        let (a, database) = (a.clone(), database.clone());
        tokio::spawn(async move { loaded(&a, &database, 7).await })
    };
    until("it waits", async || redis.command(&["STRLEN", "{tenfold:product}:l:7"]).unwrap() == ["25"]).await;
    // Two that overlap leave no value.
    let (one, other) = (product(7, "new"), product(7, "new"));
    let (one, other) = tokio::join!(a.write_behind(&7, one), a.write_behind(&7, other));
    assert!(one.is_ok() && other.is_ok());
    goes_on.send(()).unwrap();
    load.await.unwrap();
    waiting.await.unwrap();
    // Somebody fills in the old one in any case.
    b.get_or_load(&7, || database.load(7)).await.unwrap();
    assert_eq!(loaded(&a, &database, 7).await, "new");
    assert_eq!(a.get(&7).await.unwrap().name, "new");
}

#[tokio::test]
async fn what_the_journal_will_not_take_leaves_what_is_there() {
    let (folder, database) = (TempDir::new().unwrap(), Database::default());
    let small = BehindParams { entry_bytes_max: 1000, ..journal(&folder) };
    let cache = in_memory().write_behind(small, database.clone()).build().await.unwrap();
    assert_eq!(loaded(&cache, &database, 7).await, "old");
    let error = cache.write_behind(&7, product(7, &"x".repeat(1000))).await.unwrap_err();
    assert!(matches!(error, Error::Save { .. }) && format!("{error:?}").contains("TooLarge"), "{error:?}");
    assert_eq!(cache.get(&7).await.unwrap().name, "old", "nothing was begun");
}
