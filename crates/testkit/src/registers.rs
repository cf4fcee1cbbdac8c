use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{PgClient, Postgres};

/// Registers that are written, each by one client.
const KEYS: usize = 4;
/// Clients: those that write, and as many that only read.
const CLIENTS: usize = 2 * KEYS;
/// How long a replica does not replay.
const PAUSE: Duration = Duration::from_millis(30);

/// What reads have to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MustSee {
    /// What was acknowledged to anybody, and what the same client has read.
    Everyones,
    /// What was acknowledged to the same client, and what it has read.
    Own,
}

/// What clients of a database saw, held against what they had to see.
///
/// A register per key, each written by one client with numbers that go up. Every read notes what it has to show at least when it begins: the last
/// number that was acknowledged, and the last that its own client has read. Replicas stop and go on replaying meanwhile. A read that shows
/// less is a violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Reads that were answered.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Reads that showed less than was acknowledged.
    pub missed: u64,
    /// Reads that showed less than the same client had read before.
    pub gone_back: u64,
    /// Pauses of replicas.
    pub pauses: u64,
}

impl Registers {
    /// Has clients read and write, about so many times in all, while replicas 1 and 2 of a cluster are paused in turns.
    ///
    /// # Errors
    /// When a statement fails, or the cluster does.
    pub fn play(
        cluster: &Postgres,
        connect: &(dyn Fn() -> Result<PgClient> + Sync),
        operations: u64,
        must_see: MustSee,
    ) -> Result<Self> {
        let table = format!(
            "DROP TABLE IF EXISTS registers; CREATE TABLE registers (key int PRIMARY KEY, value bigint); \
             INSERT INTO registers SELECT key, 0 FROM generate_series(0, {}) key",
            KEYS - 1
        );
        let made = connect()?.query(&table)?;
        ensure!(made.errors.is_empty(), "{made:?}");
        [1, 2].into_iter().try_for_each(|replica| cluster.wait_for_replay(replica))?;
        let acknowledged: [AtomicU64; KEYS] = Default::default();
        let is_over = AtomicBool::new(false);
        let each = operations.div_ceil(CLIENTS as u64);
        std::thread::scope(|scope| {
            let pauses = scope.spawn(|| disturb(cluster, &is_over));
            let clients = (0..CLIENTS).map(|number| {
                let acknowledged = &acknowledged;
                scope.spawn(move || run(&mut connect()?, (number, each), acknowledged, must_see))
            });
            let clients: Vec<_> = clients.collect();
            let ended: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
            is_over.store(true, Ordering::Relaxed);
            let pauses = pauses.join().ok().context("whoever pauses replicas failed")??;
            let mut sum = Self { pauses, ..Self::default() };
            for one in ended {
                let one = one.ok().context("a client failed")??;
                sum.reads += one.reads;
                sum.writes += one.writes;
                sum.missed += one.missed;
                sum.gone_back += one.gone_back;
            }
            Ok(sum)
        })
    }

    /// Reads that showed too little.
    pub fn violations(&self) -> u64 {
        self.missed + self.gone_back
    }
}

fn disturb(cluster: &Postgres, is_over: &AtomicBool) -> Result<u64> {
    let mut pauses = 0;
    while !is_over.load(Ordering::Relaxed) {
        let replica = 1 + (pauses % 2) as usize;
        cluster.pause_replay(replica)?;
        std::thread::sleep(PAUSE);
        cluster.resume_replay(replica)?;
        pauses += 1;
    }
    Ok(pauses)
}

fn run(
    client: &mut PgClient,
    (number, operations): (usize, u64),
    acknowledged: &[AtomicU64; KEYS],
    must_see: MustSee,
) -> Result<Registers> {
    let (mut found, mut seen) = (Registers::default(), [0; KEYS]);
    let own = number % KEYS;
    for operation in 0..operations {
        // The first half writes, each its own register.
        if number < KEYS && operation % 3 == 0 {
            let value = acknowledged[own].load(Ordering::SeqCst) + 1;
            let written = client.query(&format!("UPDATE registers SET value = {value} WHERE key = {own}"))?;
            ensure!(written.tags == ["UPDATE 1"], "{written:?}");
            acknowledged[own].store(value, Ordering::SeqCst);
            found.writes += 1;
            continue;
        }
        let key = (own + operation as usize) % KEYS;
        let is_promised = must_see == MustSee::Everyones || number == key;
        let least = if is_promised { acknowledged[key].load(Ordering::SeqCst) } else { 0 };
        let read = client.query(&format!("SELECT value FROM registers WHERE key = {key}"))?;
        ensure!(read.errors.is_empty() && read.rows.len() == 1, "{read:?}");
        let value: u64 = read.value().parse()?;
        found.reads += 1;
        found.missed += u64::from(value < least);
        found.gone_back += u64::from(value >= least && value < seen[key]);
        seen[key] = value.max(seen[key]);
    }
    Ok(found)
}
