//! One of several processes that share a cache: it reads and writes as if by chance, and writes down what it was told.
//!
//! Each way to change something has keys of its own kind, since not all of them go together: what a `put` brings is right only
//! if whoever puts has the database's order in its own hands.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::{Cache, Coherence, Reach};
use rustix::time::{ClockId, clock_gettime};
use testkit::history::Operation;
use tokio::sync::Mutex;

const KEYS: u64 = 32;
/// Tasks that read and write; those that write alone, since a write may take as long as a lease.
const TASKS: u64 = 6;
const WRITERS: u64 = 10;
/// Tags that all keys share. Few of them would leave little in memory to be old.
const TAGS: u64 = 11;
const LEASE: Duration = Duration::from_millis(300);

/// A database that outlives processes: a commit appends to a file, which is one step.
struct Database {
    rows: PathBuf,
    process: u64,
    next: AtomicU64,
}

impl Database {
    fn read(&self, key: u64) -> io::Result<Option<u64>> {
        let Ok(mut file) = File::open(self.rows.join(key.to_string())) else { return Ok(None) };
        let len = file.seek(SeekFrom::End(0))?;
        let Some(last) = (len / 8).checked_sub(1) else { return Ok(None) };
        let mut bytes = [0; 8];
        file.seek(SeekFrom::Start(last * 8))?;
        file.read_exact(&mut bytes)?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    fn commit(&self, key: u64, value: u64) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.rows.join(key.to_string()))?;
        file.write_all(&value.to_le_bytes())
    }

    /// A value that nobody has written, whose tag is that of its key.
    fn value(&self, key: u64) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        (self.process << 32 | number) * TAGS + key % TAGS
    }
}

struct Subject {
    cache: Cache<u64, u64>,
    database: Database,
    history: File,
    /// Whoever puts does so alone, in this process and among all: each has keys of its own.
    putting: Vec<Mutex<()>>,
    place: u64,
    places: u64,
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Subject {
    fn note(&self, is_write: bool, key: u64, value: u64, began: u64) {
        let (ended, process) = (now(), self.database.process);
        let operation = Operation { is_write, key, value, began, ended, process };
        (&self.history).write_all(&operation.bytes()).expect("the history is written");
    }

    async fn load(&self, key: u64, mut random: fastrand::Rng) -> io::Result<Option<u64>> {
        pause(&mut random).await;
        let value = self.database.read(key)?;
        pause(&mut random).await;
        if random.u8(..40) == 0 { Err(io::Error::other("by chance")) } else { Ok(value) }
    }

    /// Commits before or after it fails by chance, or not at all.
    async fn save(&self, key: u64, value: u64, mut random: fastrand::Rng) -> io::Result<()> {
        pause(&mut random).await;
        let luck = random.u8(..20);
        if luck == 0 {
            return Err(io::Error::other("before the commit"));
        }
        if luck == 2 {
            tokio::time::sleep(Duration::from_millis(random.u64(..150))).await;
        }
        self.database.commit(key, value)?;
        pause(&mut random).await;
        if luck == 1 { Err(io::Error::other("after the commit")) } else { Ok(()) }
    }

    async fn read(&self, key: u64, random: &mut fastrand::Rng) {
        let (began, fork) = (now(), random.fork());
        match random.u8(..20) {
            0..15 => {
                if let Ok(found) = self.cache.find_or_load(&key, || self.load(key, fork)).await {
                    self.note(false, key, found.map_or(0, |found| *found), began);
                }
            }
            15..17 => {
                if let Some(found) = self.cache.get(&key).await {
                    self.note(false, key, *found, began);
                }
            }
            17 => {
                let keys: Vec<u64> = (0..4).map(|next| (key + next * 5) % KEYS).collect();
                for (key, found) in keys.iter().zip(self.cache.get_many(&keys).await) {
                    if let Some(found) = found {
                        self.note(false, *key, *found, began);
                    }
                }
            }
            18 => {
                if let Ok(Some(found)) = self.cache.versioned(&key).await {
                    self.note(false, key, *found.value, began);
                }
            }
            _ => {
                let load = async || self.load(key, fork).await?.ok_or_else(|| io::Error::other("there is nothing"));
                if let Ok(found) = self.cache.get_or_load(&key, load).await {
                    self.note(false, key, *found, began);
                }
            }
        }
    }

    async fn write(&self, key: u64, random: &mut fastrand::Rng) -> io::Result<()> {
        let (began, fork, value) = (now(), random.fork(), self.database.value(key));
        let is_acknowledged = match (key % 4, random.u8(..8)) {
            (2, _) => return self.put(key, random).await,
            // Somebody writes past the cache, and says so.
            (0, 0..=2) => {
                self.database.commit(key, value)?;
                self.cache.invalidate(&key).await == Reach::Everywhere
            }
            (1, 0..=5) => {
                self.database.commit(key, value)?;
                self.cache.invalidate_tag(&format!("tag {}", key % TAGS)).await == Reach::Everywhere
            }
            (3, 0) if random.u8(..8) == 0 => {
                self.database.commit(key, value)?;
                self.cache.invalidate_all().await == Reach::Everywhere
            }
            // A caller that does not wait to the end.
            (_, 7) => {
                let write = self.cache.write_through(&key, value, |_| self.save(key, value, fork));
                tokio::time::timeout(Duration::from_micros(random.u64(..3000)), write)
                    .await
                    .is_ok_and(|ended| ended.is_ok())
            }
            _ => self.cache.write_through(&key, value, |_| self.save(key, value, fork)).await.is_ok(),
        };
        if is_acknowledged {
            self.note(true, key, value, began);
        }
        Ok(())
    }

    /// Reads and writes, without end.
    async fn go_on(&self, task: u64, mut random: fastrand::Rng) {
        loop {
            let key = random.u64(..KEYS);
            if task < TASKS && random.u8(..16) != 0 {
                self.read(key, &mut random).await;
                // The machine is left some time for whatever else it does.
                tokio::time::sleep(Duration::from_micros(random.u64(..8_000))).await;
            } else {
                self.write(key, &mut random).await.expect("the database works");
                tokio::time::sleep(Duration::from_micros(random.u64(..30_000))).await;
            }
            pause(&mut random).await;
        }
    }

    async fn put(&self, key: u64, random: &mut fastrand::Rng) -> io::Result<()> {
        if key / 4 % self.places != self.place {
            return Ok(());
        }
        let Ok(_alone) = self.putting[key as usize].try_lock() else { return Ok(()) };
        let (began, value) = (now(), self.database.value(key));
        let is_acknowledged = if random.bool() {
            self.database.commit(key, value)?;
            self.cache.put(&key, value).await.is_ok_and(|reach| reach == Reach::Everywhere)
        } else {
            let Ok(found) = self.cache.versioned(&key).await else { return Ok(()) };
            self.database.commit(key, value)?;
            let swapped = self.cache.compare_and_set(&key, found.map(|found| found.version), value).await;
            swapped.is_ok_and(|version| version.is_some())
        };
        if is_acknowledged {
            self.note(true, key, value, began);
        }
        Ok(())
    }
}

async fn pause(random: &mut fastrand::Rng) {
    for _ in 0..random.u8(..3) {
        tokio::task::yield_now().await;
    }
    if random.u8(..6) == 0 {
        tokio::time::sleep(Duration::from_micros(random.u64(..3000))).await;
    }
}

/// Reads and writes until it is killed. The last word says which coherence is asked for, and may name a mistake to be made, by its place.
pub(crate) async fn run(words: &[String]) {
    let [folder, url, process, place, places, seed, word] = words else {
        panic!("usage: coherence_subject FOLDER REDIS NUMBER PLACE PLACES SEED leased|bounded[:MISTAKE]");
    };
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let (mode, mistake) = word.split_once(':').unwrap_or((word, ""));
    if let Ok(mistake) = mistake.parse::<usize>() {
        cache::planted::Bug::ALL[mistake].plant();
    }
    let coherence = match mode {
        "leased" => Coherence::Leased(LEASE),
        _ => Coherence::BoundedStale(Duration::from_secs(60)),
    };
    let cache = Cache::builder("race")
        .memory_entries(24)
        .redis(url)
        .redis_timeout(Duration::from_millis(800))
        .lease(LEASE + LEASE / 3)
        .ttl(Duration::from_secs(3))
        .jitter(0.5)
        .negative_ttl(Duration::from_secs(1))
        .stale_on_error(Duration::from_secs(2))
        .refresh_ahead()
        .tags(|value| vec![format!("tag {}", value % TAGS)])
        .coherence(coherence);
    let (folder, process) = (Path::new(folder), number(process));
    let path = folder.join("histories").join(process.to_string());
    let subject = Arc::new(Subject {
        cache: cache.build().await.expect("the cache is built"),
        database: Database { rows: folder.join("rows"), process, next: AtomicU64::new(0) },
        history: OpenOptions::new().create(true).append(true).open(path).expect("a history"),
        putting: (0..KEYS).map(|_| Mutex::default()).collect(),
        place: number(place),
        places: number(places),
    });
    // What has a tag has a value: that there is nothing has none, and a tag would not invalidate it.
    for key in (0..KEYS).filter(|key| key % 4 == 1) {
        subject.database.commit(key, subject.database.value(key)).expect("a row");
    }
    println!("ready");
    let tasks = (0..TASKS + WRITERS).map(|task| {
        let subject = Arc::clone(&subject);
        let random = fastrand::Rng::with_seed(number(seed).wrapping_add(task));
        tokio::spawn(async move { subject.go_on(task, random).await })
    });
    let (ended, ..) = futures_util::future::select_all(tasks).await;
    ended.expect("no task panics");
}
