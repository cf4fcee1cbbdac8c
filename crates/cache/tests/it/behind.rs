//! Write-behind, on real files, before sinks in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breaker::BackoffParams;
use bytes::Bytes;
use cache::behind::{
    BehindParams, OpenError, PutError, Receipt, Sink, SinkError, Version, WhenFull, Write, WriteBehind,
};
use testkit::TempDir;
use tokio::sync::{Notify, Semaphore};

const PATIENCE: Duration = Duration::from_secs(60);

/// A table in memory. It takes a batch for each permit.
#[derive(Clone)]
struct Table(Arc<Inner>);

struct Inner {
    rows: Mutex<BTreeMap<Bytes, (Version, Option<Bytes>)>>,
    batches: Mutex<Vec<Vec<Write>>>,
    permits: Semaphore,
    begun: Notify,
    answer: Mutex<Box<Answer>>,
}

/// What it says of a batch before it writes it.
type Answer = dyn Fn(&[Write]) -> Result<Receipt, SinkError> + Send;

impl Table {
    fn new(permits: usize) -> Self {
        Self(Arc::new(Inner {
            rows: Mutex::default(),
            batches: Mutex::default(),
            permits: Semaphore::new(permits),
            begun: Notify::new(),
            answer: Mutex::new(Box::new(|_| Ok(Receipt::all()))),
        }))
    }

    fn open() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }

    fn answers(&self, answer: impl Fn(&[Write]) -> Result<Receipt, SinkError> + Send + 'static) {
        *self.0.answer.lock().unwrap() = Box::new(answer);
    }

    fn row(&self, key: &str) -> Option<String> {
        let value = self.0.rows.lock().unwrap().get(key.as_bytes())?.1.clone()?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    /// The values that it was told of a key, in their order.
    fn told(&self, key: &str) -> Vec<String> {
        let batches = self.0.batches.lock().unwrap();
        let writes = batches.iter().flatten().filter(|write| write.key == key);
        writes.map(|write| String::from_utf8(write.value.clone().unwrap_or_default().to_vec()).unwrap()).collect()
    }
}

impl Sink for Table {
    async fn deliver(&self, batch: &[Write]) -> Result<Receipt, SinkError> {
        self.0.batches.lock().unwrap().push(batch.to_vec());
        self.0.begun.notify_one();
        self.0.permits.acquire().await.expect("never closed").forget();
        let receipt = (self.0.answer.lock().unwrap())(batch)?;
        let mut rows = self.0.rows.lock().unwrap();
        for write in batch {
            let row = rows.entry(write.key.clone()).or_default();
            if row.0 < write.version {
                *row = (write.version, write.value.clone());
            }
        }
        Ok(receipt)
    }
}

fn params(folder: &TempDir) -> BehindParams {
    BehindParams {
        linger: Duration::ZERO,
        backoff: BackoffParams { base: Duration::from_millis(1), max: Duration::from_millis(5) },
        tries_max: 2,
        ..BehindParams::new(folder.path().join("journal"))
    }
}

#[tokio::test]
async fn what_is_written_is_read_back_and_reaches_the_sink() {
    let (folder, table) = (TempDir::new().unwrap(), Table::new(0));
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    let first = behind.put("a", "1").await.unwrap();
    table.0.begun.notified().await;
    // The first is under way and stays there; of the others the last one waits.
    let mut last = first;
    for value in ["2", "3", "4"] {
        let version = behind.put("a", value).await.unwrap();
        assert!(version > last);
        last = version;
    }
    let dirty = behind.dirty(b"a").unwrap();
    assert_eq!((dirty.version, dirty.value.as_deref()), (last, Some(&b"4"[..])));
    assert_eq!(behind.dirty(b"b"), None);
    behind.remove("b").await.unwrap();
    assert_eq!(behind.dirty(b"b").map(|write| write.value), Some(None));
    table.0.permits.add_permits(100);
    assert!(behind.flush(PATIENCE).await);
    assert_eq!(table.told("a"), ["1", "4"]);
    assert_eq!((behind.dirty(b"a"), behind.dirty(b"b")), (None, None));
    let stats = behind.stats();
    assert_eq!((stats.acknowledged_total, stats.delivered_total, stats.coalesced_total), (5, 3, 2));
    assert_eq!((stats.keys, stats.entries, stats.bytes, stats.lag), (0, 0, 0, Duration::ZERO));
    assert_eq!(behind.shutdown(PATIENCE).await.keys_left, 0);
    assert_eq!(behind.put("a", "5").await, Err(PutError::Closed));
}

#[tokio::test]
async fn what_the_sink_does_not_have_is_there_after_a_restart() {
    let (folder, away) = (TempDir::new().unwrap(), Table::new(0));
    let behind = WriteBehind::open(params(&folder), away).await.unwrap();
    let old = behind.put("a", "1").await.unwrap();
    behind.put("b", "1").await.unwrap();
    let newest = behind.put("a", "2").await.unwrap();
    assert_eq!(behind.shutdown(Duration::ZERO).await.keys_left, 2);
    drop(behind);

    let table = Table::new(0);
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    assert_eq!((behind.recovery().dirty, behind.recovery().damage.len()), (2, 0));
    assert_eq!(behind.dirty(b"a").map(|write| write.version), Some(newest));
    assert!(behind.put("a", "3").await.unwrap() > newest && newest > old);
    table.0.permits.add_permits(100);
    assert!(behind.flush(PATIENCE).await);
    assert_eq!((table.row("a").as_deref(), table.row("b").as_deref()), (Some("3"), Some("1")));
    assert!(!table.told("a").contains(&"1".to_owned()), "what was replaced is not delivered");
    behind.shutdown(PATIENCE).await;
    drop(behind);

    // What was delivered is known to be.
    let behind = WriteBehind::open(params(&folder), Table::open()).await.unwrap();
    assert_eq!((behind.recovery().dirty, behind.recovery().torn_bytes), (0, 0));
}

#[tokio::test]
async fn beyond_the_bounds_a_write_is_refused_or_waits() {
    let (folder, table) = (TempDir::new().unwrap(), Table::new(0));
    let refusing = BehindParams { entries_max: 2, when_full: WhenFull::Refuse, ..params(&folder) };
    let behind = WriteBehind::open(refusing.clone(), table.clone()).await.unwrap();
    behind.put("a", "1").await.unwrap();
    behind.put("b", "1").await.unwrap();
    let full = behind.put("c", "1").await.unwrap_err();
    assert!(matches!(full, PutError::Full { entries: 2, .. }), "{full}");
    assert_eq!(behind.stats().refused_full_total, 1);
    let large = vec![0_u8; 2 * 1024 * 1024];
    assert!(matches!(behind.put("c", large).await, Err(PutError::TooLarge { bytes_max: 1_048_576, .. })));
    assert!(matches!(behind.put(vec![b'k'; 70_000], "").await, Err(PutError::TooLarge { bytes_max: 65_535, .. })));
    behind.shutdown(Duration::ZERO).await;
    drop(behind);

    let waiting = BehindParams { when_full: WhenFull::Wait(Duration::MAX), ..refusing.clone() };
    let behind = WriteBehind::open(waiting, table.clone()).await.unwrap();
    let (waited, ()) = tokio::join!(behind.put("c", "1"), async {
        tokio::task::yield_now().await;
        table.0.permits.add_permits(100);
    });
    waited.unwrap();
    behind.shutdown(PATIENCE).await;
    assert_eq!(table.row("c").as_deref(), Some("1"));
    drop(behind);

    // Nobody waits longer than told.
    let briefly = BehindParams { when_full: WhenFull::Wait(Duration::from_millis(20)), ..refusing };
    let behind = WriteBehind::open(briefly, Table::new(0)).await.unwrap();
    behind.put("a", "2").await.unwrap();
    behind.put("b", "2").await.unwrap();
    assert!(matches!(behind.put("c", "2").await, Err(PutError::Full { .. })));
}

#[tokio::test]
async fn a_bad_write_becomes_a_dead_letter_alone_and_can_be_replayed_or_discarded() {
    let (folder, table) = (TempDir::new().unwrap(), Table::open());
    let is_bad = |write: &Write| write.key.starts_with(b"bad");
    table.answers(move |batch| {
        // One bad write fails the whole batch, as it does in a transaction.
        if batch.iter().any(is_bad) { Err(SinkError::Failed("no such column".into())) } else { Ok(Receipt::all()) }
    });
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    for key in ["a", "b", "bad 1", "c", "bad 2", "d"] {
        behind.put(key, "1").await.unwrap();
    }
    assert!(behind.flush(PATIENCE).await);
    assert!(["a", "b", "c", "d"].iter().all(|key| table.row(key).as_deref() == Some("1")));
    let letters = behind.dead_letters().await.unwrap();
    let keys: HashSet<_> = letters.iter().map(|letter| letter.write.key.clone()).collect();
    assert_eq!(keys, ["bad 1".into(), "bad 2".into()].into());
    assert!(letters.iter().all(|letter| letter.reason == "no such column"));
    assert_eq!((behind.stats().dead_letters, behind.stats().dead_total), (2, 2));
    behind.shutdown(PATIENCE).await;
    drop(behind);

    // They outlive restarts. The sink takes them now, but one of them has been overtaken by a newer write.
    table.answers(|_| Ok(Receipt::all()));
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    assert_eq!(behind.dead_letters().await.unwrap(), letters);
    behind.put("bad 1", "2").await.unwrap();
    assert!(behind.flush(PATIENCE).await);
    let versions = letters.iter().map(|letter| letter.write.version).collect();
    assert_eq!(behind.replay_dead_letters(versions).await, Ok(2));
    assert!(behind.flush(PATIENCE).await);
    assert_eq!((table.row("bad 1").as_deref(), table.row("bad 2").as_deref()), (Some("2"), Some("1")));
    assert_eq!(behind.dead_letters().await.unwrap(), []);

    table.answers(|_| Ok(Receipt::all().refused(0, "never")));
    let version = behind.put("x", "1").await.unwrap();
    assert!(behind.flush(PATIENCE).await);
    assert_eq!(behind.discard_dead_letters([version].into()).await, Ok(1));
    assert_eq!(behind.dead_letters().await.unwrap(), []);
    assert_eq!(behind.stats().dead_total, 1);
}

#[tokio::test]
async fn a_dead_letter_that_came_back_outlives_a_restart() {
    let (folder, table) = (TempDir::new().unwrap(), Table::open());
    table.answers(|batch| {
        let all = (0..batch.len()).fold(Receipt::all(), |receipt, index| receipt.refused(index, "never"));
        Ok(all)
    });
    let behind = WriteBehind::open(params(&folder), table).await.unwrap();
    let mut versions = Vec::new();
    for (key, value) in [("a", "1"), ("b", "1"), ("b", "2"), ("c", "1")] {
        versions.push(behind.put(key, value).await.unwrap());
        assert!(behind.flush(PATIENCE).await);
    }
    behind.shutdown(PATIENCE).await;
    drop(behind);

    // Of b the older one is wanted, and the newer one is not.
    let behind = WriteBehind::open(params(&folder), Table::new(0)).await.unwrap();
    assert_eq!(behind.discard_dead_letters([versions[2], Version::ZERO].into()).await, Ok(1));
    assert_eq!(behind.replay_dead_letters(versions[..2].iter().copied().collect()).await, Ok(2));
    assert_eq!(behind.shutdown(Duration::ZERO).await.keys_left, 2);
    drop(behind);

    let table = Table::open();
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    assert_eq!(behind.recovery().dirty, 2);
    assert!(behind.flush(PATIENCE).await);
    assert_eq!((table.row("a").as_deref(), table.row("b").as_deref()), (Some("1"), Some("1")));
    let letters = behind.dead_letters().await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.write.version).collect::<Vec<_>>(), versions[3..]);
}

#[tokio::test]
async fn a_sink_that_panics_or_hangs_holds_nothing_up() {
    let (folder, table) = (TempDir::new().unwrap(), Table::open());
    let calls = AtomicUsize::new(0);
    table.answers(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("planted"),
        _ => Ok(Receipt::all()),
    });
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    behind.put("a", "1").await.unwrap();
    // The lock of the answer is poisoned by the panic: each call fails until there is another table.
    behind.shutdown(PATIENCE).await;
    assert_eq!(behind.dead_letters().await.map_err(|error| error.to_string()).ok(), None, "it was shut down");
    drop(behind);

    let hanging = Table::new(0);
    let brief = BehindParams { deliver_timeout: Duration::from_millis(10), ..params(&folder) };
    let behind = WriteBehind::open(brief, hanging.clone()).await.unwrap();
    assert_eq!(behind.dead_letters().await.unwrap().len(), 1, "which failed alone twice");
    behind.put("b", "1").await.unwrap();
    hanging.0.begun.notified().await;
    hanging.0.begun.notified().await;
    assert!(behind.stats().outage > 0);
    hanging.0.permits.add_permits(100);
    assert!(behind.flush(PATIENCE).await);
    assert_eq!(hanging.row("b").as_deref(), Some("1"));
    assert_eq!(behind.stats().outage, 0);
}

#[tokio::test]
async fn a_newer_write_of_another_instance_lifts_the_versions_of_this_one() {
    let (folder, table) = (TempDir::new().unwrap(), Table::open());
    let behind = WriteBehind::open(params(&folder), table.clone()).await.unwrap();
    let own = behind.put("a", "1").await.unwrap();
    assert!(behind.flush(PATIENCE).await);
    // Half a minute ahead.
    let newer = Version::from_u128(own.as_u128() + (30_000 << 80));
    table.answers(move |_| Ok(Receipt::all().superseded(0, newer)));
    assert!(behind.put("a", "2").await.unwrap() < newer);
    assert!(behind.flush(PATIENCE).await);
    assert_eq!(behind.stats().superseded_total, 1);
    assert!(behind.put("a", "3").await.unwrap() > newer);
}

#[tokio::test]
async fn a_journal_has_one_owner_and_settings_are_checked() {
    let folder = TempDir::new().unwrap();
    let behind = WriteBehind::open(params(&folder), Table::open()).await.unwrap();
    let second = WriteBehind::open(params(&folder), Table::open()).await;
    assert!(matches!(second, Err(OpenError::Locked(path)) if path == folder.path().join("journal")));
    behind.shutdown(PATIENCE).await;
    // It is free as soon as the journal is closed.
    WriteBehind::open(params(&folder), Table::open()).await.unwrap().shutdown(PATIENCE).await;
    drop(behind);
    let wrong = BehindParams { lanes: 0, ..params(&folder) };
    assert!(matches!(WriteBehind::open(wrong, Table::open()).await, Err(OpenError::Setting { setting: "lanes", .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_syncs_and_each_key_keeps_its_order() {
    let (folder, table) = (TempDir::new().unwrap(), Table::open());
    let small = BehindParams {
        lanes: 4,
        batch_entries_max: 7,
        bytes_max: 256 * 1024,
        entry_bytes_max: 1024,
        when_full: WhenFull::Wait(PATIENCE),
        ..params(&folder)
    };
    let behind = Arc::new(WriteBehind::open(small, table.clone()).await.unwrap());
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let behind = behind.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    behind.put(format!("k{task}"), format!("{number:03}{}", "x".repeat(500))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(behind.flush(PATIENCE).await);
    for task in 0..32 {
        let told = table.told(&format!("k{task}"));
        assert!(told.is_sorted_by(|before, after| before < after), "k{task}: {told:?}");
        assert!(table.row(&format!("k{task}")).unwrap().starts_with("099"));
    }
    let stats = behind.stats();
    assert_eq!(stats.acknowledged_total, 3200);
    assert!(stats.syncs_total < 3200, "{stats:?}");
    assert!(stats.journal_bytes <= 1024 * 1024, "{stats:?}");
}
