//! Write-behind as `cargo xtask fault writebehind` breaks it: a process that writes into a SQLite file, and says on standard output what was
//! acknowledged, line by line, so that whoever kills it knows.
//!
//! A key is called `k<number>` and belongs to one task, which writes 1, 2, 3 and so on; a value is its number with as many letters as the
//! number says. Every fiftieth key is one that the database refuses. The table `history` has each row that a key ever had, in the order
//! in which it had them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use breaker::BackoffParams;
use cache::behind::{BehindParams, PutError, Receipt, Sink, SinkError, Write, WriteBehind};
use rusqlite::{Connection, params};

const KEYS: u64 = 304;
const TASKS: u64 = 8;
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS current (
        key TEXT PRIMARY KEY, version TEXT NOT NULL, value TEXT NOT NULL, CHECK (key NOT LIKE '%00' AND key NOT LIKE '%50')
    );
    CREATE TABLE IF NOT EXISTS history (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, version TEXT, value TEXT);
    CREATE TRIGGER IF NOT EXISTS inserted AFTER INSERT ON current
        BEGIN INSERT INTO history (key, version, value) VALUES (new.key, new.version, new.value); END;
    CREATE TRIGGER IF NOT EXISTS updated AFTER UPDATE ON current
        BEGIN INSERT INTO history (key, version, value) VALUES (new.key, new.version, new.value); END;
";
const UPSERT: &str = "
    INSERT INTO current (key, version, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value
    WHERE excluded.version > current.version
";

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match words[..] {
        ["write", folder, seed] => runtime.block_on(write(Path::new(folder), number(seed))),
        ["drain", folder] => runtime.block_on(drain(Path::new(folder))),
        ["full", folder] => runtime.block_on(full(Path::new(folder))),
        ["measure", folder, callers, seconds] => {
            runtime.block_on(measure(Path::new(folder), number(callers), Duration::from_secs(number(seconds))));
        }
        _ => {
            eprintln!(
                "usage: behind_subject write FOLDER SEED | drain FOLDER | full FOLDER | measure FOLDER CALLERS SECONDS"
            );
            std::process::exit(2);
        }
    }
}

fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // Whoever listened has gone when this fails, and so does this process soon.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A table of SQLite that is unavailable at times, fails at times, and at times only seems to.
struct Table {
    connection: Mutex<Connection>,
    calls: AtomicU64,
    is_moody: bool,
}

impl Table {
    fn open(folder: &Path, is_moody: bool) -> Self {
        let connection = Connection::open(database_of(folder)).expect("a database");
        connection.execute_batch(SCHEMA).expect("tables");
        Self { connection: Mutex::new(connection), calls: AtomicU64::new(0), is_moody }
    }

    /// One transaction; a batch with one bad write fails as a whole, and leaves nothing.
    fn write(&self, batch: &[Write]) -> rusqlite::Result<()> {
        let mut connection = self.connection.lock().expect("no panic");
        let transaction = connection.transaction()?;
        {
            let mut upsert = transaction.prepare(UPSERT)?;
            for write in batch {
                let key = String::from_utf8_lossy(&write.key);
                let value = write.value.as_deref().map(String::from_utf8_lossy);
                upsert.execute(params![key, write.version.to_string(), value])?;
            }
        }
        transaction.commit()
    }
}

impl Sink for Table {
    async fn deliver(&self, batch: &[Write]) -> Result<Receipt, SinkError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match call % 11 {
            5 if self.is_moody => return Err(SinkError::Unavailable("a pause".to_owned())),
            8 if self.is_moody => return Err(SinkError::Failed("a mood".to_owned())),
            _ => {}
        }
        self.write(batch).map_err(|error| SinkError::Failed(error.to_string()))?;
        // It was done, and the answer is lost.
        if self.is_moody && call % 11 == 2 {
            return Err(SinkError::Unavailable("no answer".to_owned()));
        }
        Ok(Receipt::all())
    }
}

fn database_of(folder: &Path) -> PathBuf {
    folder.join("database.sqlite")
}

fn params_of(folder: &Path) -> BehindParams {
    BehindParams {
        // Small, so that segments come and go.
        bytes_max: 1024 * 1024,
        entry_bytes_max: 16 * 1024,
        batch_entries_max: 60,
        backoff: BackoffParams { base: Duration::from_millis(1), max: Duration::from_millis(20) },
        tries_max: 3,
        ..BehindParams::new(folder.join("journal"))
    }
}

fn value_of(number: u64) -> String {
    let letters = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
    format!("{number} {}", "x".repeat(letters))
}

fn number_of(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let number = text.split(' ').next()?.parse().ok()?;
    (text == value_of(number)).then_some(number)
}

/// What was written last of each key, wherever it is.
async fn latest(behind: &WriteBehind<Table>) -> BTreeMap<String, u64> {
    let mut latest = BTreeMap::new();
    let mut note = |key: String, value: &[u8]| {
        let number = number_of(value).unwrap_or_else(|| panic!("{key} has a value that was never written"));
        let known = latest.entry(key).or_insert(0);
        *known = number.max(*known);
    };
    for letter in behind.dead_letters().await.expect("dead letters") {
        note(String::from_utf8_lossy(&letter.write.key).into_owned(), &letter.write.value.unwrap_or_default());
    }
    for number in 0..KEYS {
        let key = format!("k{number:03}");
        if let Some(write) = behind.dirty(key.as_bytes()) {
            note(key, &write.value.unwrap_or_default());
        }
    }
    let connection = behind.sink().connection.lock().expect("no panic");
    let mut rows = connection.prepare("SELECT key, value FROM current").expect("a table");
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).expect("rows");
    for row in rows {
        let (key, value) = row.expect("a row");
        note(key, value.as_bytes());
    }
    latest
}

/// Writes until it is killed. Each key goes on from the latest that is anywhere.
async fn write(folder: &Path, seed: u64) {
    let behind = WriteBehind::open(params_of(folder), Table::open(folder, true)).await.expect("opens");
    let recovery = behind.recovery();
    assert!(recovery.damage.is_empty(), "what is torn is no damage: {recovery:?}");
    let latest = latest(&behind).await;
    say(&format!("open {} {}", recovery.dirty, recovery.torn_bytes));
    let behind = std::sync::Arc::new(behind);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (behind, latest) = (behind.clone(), latest.clone());
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed * TASKS + task);
                let mut numbers = BTreeMap::new();
                for _ in 0..u64::MAX {
                    // The square makes some keys much more popular than others.
                    let key = (random.f64().powi(2) * KEYS as f64) as u64 / TASKS * TASKS + task;
                    let key = format!("k{key:03}");
                    let number = numbers.entry(key.clone()).or_insert(latest.get(&key).copied().unwrap_or(0));
                    *number += 1;
                    match behind.put(key.clone(), value_of(*number)).await {
                        Ok(_) => say(&format!("put {key} {number}")),
                        Err(PutError::Full { .. }) => *number -= 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

/// Delivers what is left, and says where everything is.
async fn drain(folder: &Path) {
    let behind = WriteBehind::open(params_of(folder), Table::open(folder, false)).await.expect("opens");
    let recovery = behind.recovery().clone();
    let flushed = behind.flush(Duration::from_secs(60)).await;
    let dead = behind.dead_letters().await.expect("dead letters");
    say(&format!("drained {flushed} damaged {} torn {}", recovery.damage.len(), recovery.torn_bytes));
    assert_eq!(behind.stats().dead_letters, dead.len(), "dead letters are counted");
    for letter in &dead {
        let number = number_of(letter.write.value.as_deref().unwrap_or_default());
        say(&format!("dead {} {}", String::from_utf8_lossy(&letter.write.key), number.unwrap_or(0)));
    }
    // Of each key the latest is kept, from which its numbers go on.
    let latest: BTreeMap<_, _> = dead.iter().map(|letter| (&letter.write.key, letter.write.version)).collect();
    let versions = dead.iter().map(|letter| letter.write.version);
    let older: HashSet<_> = versions.filter(|version| !latest.values().any(|latest| latest == version)).collect();
    let count = older.len();
    assert_eq!(behind.discard_dead_letters(older).await.expect("discards"), count);
    let left = behind.shutdown(Duration::from_secs(10)).await.keys_left;
    assert_eq!(left, 0, "nothing is left after a flush");
    let connection = behind.sink().connection.lock().expect("no panic");
    // History in the order of its rows, and at last what is there now.
    for (word, select) in [
        ("was", "SELECT key, value FROM history ORDER BY number"),
        ("is", "SELECT key, value FROM current ORDER BY key"),
    ] {
        let mut rows = connection.prepare(select).expect("a table");
        let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
        for row in rows.expect("rows") {
            let (key, value) = row.expect("a row");
            say(&format!("{word} {key} {}", number_of(value.as_bytes()).unwrap_or(0)));
        }
    }
    // What was looked at need not be looked at again.
    connection.execute_batch("DELETE FROM history").expect("deletes");
    say("end");
}

/// Files may not grow here: writes are refused, what was acknowledged is delivered, and when there is room all is well.
async fn full(folder: &Path) {
    let behind = WriteBehind::open(params_of(folder), Table::open(folder, false)).await.expect("opens");
    let (mut refused, mut acknowledged) = (0_u64, BTreeMap::new());
    for number in 1..3_000_u64 {
        let key = format!("k{:03}", number % 49 + 1);
        match behind.put(key.clone(), value_of(number)).await {
            Ok(_) => _ = acknowledged.insert(key, number),
            Err(_) => refused += 1,
        }
        let limit = if number == 2_000 { None } else { (number == 200).then_some(1024) };
        if number == 200 || number == 2_000 {
            let resource = rustix::process::Resource::Fsize;
            let maximum = rustix::process::getrlimit(resource).maximum;
            rustix::process::setrlimit(resource, rustix::process::Rlimit { current: limit.or(maximum), maximum })
                .expect("a limit");
        }
    }
    let flushed = behind.flush(Duration::from_secs(60)).await;
    let latest = latest(&behind).await;
    let lost = acknowledged.iter().filter(|(key, number)| latest.get(*key) < Some(number)).count();
    let stats = behind.stats();
    say(&format!("lost {lost} flushed {flushed} refused {refused} errors {}", stats.disk_errors_total));
}

/// Acknowledged writes in a second, and the syncs that they took.
async fn measure(folder: &Path, callers: u64, time: Duration) {
    struct Nowhere;
    impl Sink for Nowhere {
        async fn deliver(&self, _: &[Write]) -> Result<Receipt, SinkError> {
            Ok(Receipt::all())
        }
    }
    let params = BehindParams::new(folder.join("journal"));
    let behind = std::sync::Arc::new(WriteBehind::open(params, Nowhere).await.expect("opens"));
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let behind = behind.clone();
            tokio::spawn(async move {
                let value = bytes::Bytes::from(vec![b'v'; 256]);
                let mut waits = Vec::new();
                for number in 0.. {
                    if start.elapsed() > time {
                        break;
                    }
                    let begun = Instant::now();
                    behind.put(format!("{caller}-{}", number % 1000), value.clone()).await.expect("room");
                    waits.push(begun.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("no panic"));
    }
    waits.sort_unstable();
    let seconds = start.elapsed().as_secs_f64();
    let stats = behind.stats();
    let per_second = waits.len() as f64 / seconds;
    let syncs = stats.syncs_total as f64 / seconds;
    let percentile = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_micros();
    say(&format!(
        "callers {callers}: {per_second:.0} writes/s, {syncs:.0} syncs/s, {:.1} writes per sync, p50 {} us, p99 {} us",
        per_second / syncs,
        percentile(0.5),
        percentile(0.99)
    ));
}
