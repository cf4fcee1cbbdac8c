//! Lives of a write-behind, one after the other, on a disk that loses power within any operation and fails at times, before a sink that
//! fails in every way. Each seed is one history; a failure names its seed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use breaker::{Backoff, BackoffParams};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::dead::{self, DeadLetters};
use super::journal::{Journal, Recovery};
use super::ledger::{Next, Rules};
use super::shared::{Command, PutError, Shared};
use super::simulated::SimulatedDisk;
use super::sink::{Receipt, SinkError, Write};
use super::version::Version;
use super::writer::Writer;

const KEYS: u8 = 8;
/// Less than what may be needed, so that old segments are made needless all the time.
const JOURNAL_BYTES_MAX: u64 = 2_000;
/// Its writes are refused, always.
const BAD_KEY: u8 = 5;

fn rules() -> Rules {
    let backoff = BackoffParams { base: Duration::from_millis(10), max: Duration::from_secs(1) };
    Rules {
        entries_max: 20,
        bytes_max: 3_000,
        batch_entries_max: 4,
        batch_bytes_max: 2_000,
        linger: Duration::ZERO,
        backoff: Backoff::new(backoff),
        tries_max: 3,
        outage_tries_max: Some(12),
    }
}

/// What outlives a life.
struct World {
    random: fastrand::Rng,
    disk: SimulatedDisk,
    now: Instant,
    millis: u64,
    /// What the sink has, as a table that keeps the higher version.
    table: BTreeMap<Bytes, Write>,
    /// Every write that was begun, and the latest of each key that was acknowledged.
    begun: HashMap<Version, Write>,
    acknowledged: BTreeMap<Bytes, Version>,
    /// Dead letters that were brought back. What is newer may have been there before them.
    replayed: BTreeSet<Version>,
    counts: BTreeMap<&'static str, u64>,
}

/// One life.
struct Life {
    shared: Arc<Shared>,
    writer: Writer<SimulatedDisk>,
    waiting: Vec<(Bytes, oneshot::Receiver<Result<Version, PutError>>)>,
    under_way: Vec<Vec<Write>>,
    /// The latest that the sink was told of each key.
    told: BTreeMap<Bytes, Version>,
}

fn key(number: u8) -> Bytes {
    vec![b'k', number].into()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = SimulatedDisk::new(random.u64(..));
        Self {
            random,
            disk,
            // Ahead of the clock, which the writer reads, so that what waits is due.
            now: Instant::now() + Duration::from_secs(3600),
            millis: 1_000_000_000,
            table: BTreeMap::new(),
            begun: HashMap::new(),
            acknowledged: BTreeMap::new(),
            replayed: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn open(&mut self) -> std::io::Result<(Life, Recovery)> {
        let secret = self.random.u64(..);
        let (dead, damage) = DeadLetters::open(&self.disk, 100_000, secret)?;
        let (journal, mut recovered) = Journal::open(self.disk.clone(), 600, secret + 1)?;
        recovered.report.damage.extend(damage);
        let report = recovered.report.clone();
        let shared = Shared::new(rules(), recovered, secret + 2, self.now);
        let writer = Writer::new(Arc::clone(&shared), journal, dead, JOURNAL_BYTES_MAX);
        let life = Life { shared, writer, waiting: Vec::new(), under_way: Vec::new(), told: BTreeMap::new() };
        Ok((life, report))
    }

    fn put(&mut self, life: &mut Life) {
        // The clock goes on, and at times back.
        self.millis += self.random.u64(..3);
        if self.random.u32(..50) == 0 {
            self.millis -= 1_000;
        }
        let key = key(self.random.u8(..KEYS));
        let bytes = self.random.usize(..120);
        let value = (self.random.u32(..5) > 0).then(|| Bytes::from(vec![self.random.u8(..); bytes]));
        match life.shared.submit(&key, value.as_ref(), self.millis) {
            Ok(answer) => {
                let submitted = life.shared.state().work.pending.last().map(|pending| pending.write.clone());
                let write = submitted.expect("was just submitted");
                let before = self.begun.insert(write.version, write);
                assert_eq!(before, None, "a version was issued twice");
                life.waiting.push((key, answer));
            }
            Err(PutError::Full { .. }) => self.count("full"),
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, life: &mut Life) {
        let work = life.shared.state().take_work();
        if let Some(work) = work {
            life.writer.step(work);
        }
        for (key, mut answer) in std::mem::take(&mut life.waiting) {
            match answer.try_recv() {
                Ok(Ok(version)) => {
                    let latest = self.acknowledged.entry(key).or_insert(Version::ZERO);
                    assert!(version > *latest, "versions of a key increase as they are acknowledged");
                    *latest = version;
                    self.count("acknowledged");
                }
                Ok(Err(_)) => self.count("not taken"),
                Err(_) => life.waiting.push((key, answer)),
            }
        }
    }

    fn take(&mut self, life: &mut Life) {
        self.now += Duration::from_millis(self.random.u64(..400));
        let next = life.shared.state().ledger.next(self.now, true);
        if let Next::Batch(batch) = next {
            for write in &batch {
                assert!(self.begun.get(&write.version) == Some(write), "{write:?} was never written");
                let told = life.told.entry(write.key.clone()).or_insert(write.version);
                let is_in_order = *told <= write.version || self.replayed.contains(&write.version);
                assert!(is_in_order, "out of order: {write:?} after {told:?}");
                *told = write.version.max(*told);
            }
            life.under_way.push(batch);
        }
    }

    fn answer(&mut self, life: &mut Life) {
        if life.under_way.is_empty() {
            return;
        }
        let batch = life.under_way.swap_remove(self.random.usize(..life.under_way.len()));
        let mut receipt = Receipt::all();
        let dice = self.random.u32(..10);
        // A sink that fails may have taken a part of the batch, or all of it.
        let done = if dice < 6 { batch.len() } else { self.random.usize(..=batch.len()) };
        for (index, write) in batch[..done].iter().enumerate() {
            if write.key == key(BAD_KEY) {
                receipt = receipt.refused(index, "not this one");
                continue;
            }
            match self.table.get(&write.key) {
                Some(newer) if newer.version > write.version => receipt = receipt.superseded(index, newer.version),
                _ => _ = self.table.insert(write.key.clone(), write.clone()),
            }
        }
        let outcome = match dice {
            0..6 => Ok(receipt),
            6..8 => Err(SinkError::Unavailable("away".into())),
            _ => Err(SinkError::Failed("odd".into())),
        };
        let random = self.random.u64(..);
        let dead = life.shared.finish(&batch, outcome, self.now, random, self.millis);
        life.shared.bury(dead);
    }

    /// Somebody brings some of the dead letters back.
    fn replay(&mut self, life: &mut Life) {
        let Ok((letters, _)) = dead::read(&self.disk) else { return };
        let letters = letters.into_iter().map(|letter| letter.write.version);
        let versions: HashSet<_> = letters.filter(|_| self.random.bool()).collect();
        if !versions.is_empty() {
            self.count("replayed");
            self.replayed.extend(&versions);
            let (done, _) = oneshot::channel();
            life.shared.command(Command::Replay(versions, done));
            self.write(life);
        }
    }

    /// At any time: the latest acknowledged write of each key, or a newer one, is to be delivered, in the sink, or a dead letter.
    fn check(&mut self, life: Option<&Life>) {
        let dead: BTreeSet<_> = match dead::read(&self.disk) {
            Ok((letters, _)) => letters.into_iter().map(|letter| (letter.write.key, letter.write.version)).collect(),
            // The power is gone.
            Err(_) => return,
        };
        for (key, acknowledged) in &self.acknowledged {
            let dirty = life.and_then(|life| life.shared.state().ledger.dirty(key).map(|write| write.version));
            let there = self.table.get(key).map(|write| write.version);
            let letter = dead.iter().filter(|(of, _)| of == key).map(|(_, version)| *version).max();
            let newest = life.and_then(|life| life.shared.state().ledger.newest(key));
            let latest = newest.max(there).max(letter);
            assert!(latest >= Some(*acknowledged), "{key:?}: {acknowledged} was acknowledged, {latest:?} is there");
            // What was read once is not older the next time.
            let is_new = dirty.is_none_or(|dirty| dirty >= *acknowledged || self.replayed.contains(&dirty));
            assert!(is_new, "{key:?}: {dirty:?} is stale");
        }
        for write in self.table.values() {
            assert_eq!(self.begun.get(&write.version), Some(write), "what the sink has was never written");
        }
    }

    fn live(&mut self, life: &mut Life) {
        for _ in 0..self.random.u32(1..120) {
            match self.random.u32(..31) {
                0..12 => self.put(life),
                12..18 => self.write(life),
                18..24 => self.take(life),
                24..30 => self.answer(life),
                _ => self.replay(life),
            }
            if !self.disk.has_power() {
                break;
            }
            self.check(Some(life));
        }
    }

    /// The disk and the sink are well: everything arrives.
    fn settle(&mut self) {
        self.disk.fail(0);
        let (mut life, _) = self.open().expect("a disk that is well");
        for _ in 0..400 {
            self.now += Duration::from_secs(2);
            self.take(&mut life);
            self.answer(&mut life);
            self.write(&mut life);
        }
        assert!(life.shared.state().is_clean(), "something never arrives");
        self.check(Some(&life));
        drop(life);
        let (life, report) = self.open().expect("a disk that is well");
        assert_eq!((report.dirty, report.damage.len()), (0, 0), "what has arrived is known to have");
        self.check(Some(&life));
    }
}

fn simulate(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed);
    for _ in 0..8 {
        let failures = if world.random.bool() { 0 } else { world.random.u32(..60) };
        world.disk.fail(failures);
        let loses_power = world.random.u32(..3) > 0;
        if loses_power {
            world.disk.cut_power_after(world.random.u64(1..150));
        }
        if let Ok((mut life, report)) = world.open() {
            assert_eq!(report.damage, [], "what is torn is no damage");
            world.live(&mut life);
            *world.counts.entry("moved").or_default() += life.shared.state().counts.moved;
        }
        world.count(if world.disk.has_power() { "killed" } else { "lost power" });
        if world.disk.has_power() {
            world.disk.keep_power();
        } else {
            world.disk.reboot();
        }
    }
    world.settle();
    world.counts
}

#[test]
fn nothing_acknowledged_is_ever_lost() {
    let seeds = std::env::var("TENFOLD_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        let of_seed = outcome.unwrap_or_else(|_| panic!("seed {seed}"));
        of_seed.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    println!("{seeds} histories: {counts:?}");
    for what in ["acknowledged", "moved", "replayed", "not taken", "full", "killed", "lost power"] {
        assert!(counts.get(what).is_some_and(|count| *count > 0), "{what} never happened: {counts:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_journal_is_found_and_named_and_costs_no_other_write() {
    let mut world = World::new(1);
    let (mut life, _) = world.open().unwrap();
    for _ in 0..12 {
        world.put(&mut life);
        world.write(&mut life);
    }
    let floor = life.shared.state().issuer.floor();
    life.shared.end();
    assert!(life.shared.wait_for_work().is_none());
    life.writer.run();
    let names: Vec<String> = super::disk::Disk::list(&world.disk).unwrap();
    let names: Vec<_> = names.into_iter().filter(|name| name.ends_with(".journal")).collect();
    let (_, whole) = Journal::open(world.disk.clone(), 600, 1).unwrap();
    assert!(names.len() > 1 && whole.floor == floor && whole.report.damage.is_empty());
    for (index, name) in names.iter().enumerate() {
        let bytes = super::disk::Disk::read(&world.disk, name).unwrap().len();
        // The last record says that the journal was closed, and says nothing that could be missed.
        let bytes = if index + 1 == names.len() { bytes - super::record::RECORD_BYTES } else { bytes };
        for bit in (0..bytes * 8).step_by(5) {
            world.disk.flip(name, bit);
            let (_, found) = Journal::open(world.disk.clone(), 600, 1).unwrap();
            assert_eq!(found.report.damage.len(), 1, "{name}, bit {bit}: {:?}", found.report);
            assert_eq!(&found.report.damage[0].file, name);
            let lost = whole.writes.iter().filter(|write| !found.writes.contains(write)).count();
            assert!(lost <= 1, "{name}, bit {bit}: {lost} writes were lost");
            world.disk.flip(name, bit);
        }
    }
}
