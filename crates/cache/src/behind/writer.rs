//! The one that writes: the journal and the dead letters belong to it, and nobody else waits for a disk.
//!
//! It takes everything that has come since it last looked, writes it down, and has it last by one sync; then it answers. What comes meanwhile
//! waits for the next round: the slower the disk, the larger the group.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::dead::{self, DeadLetters};
use super::disk::Disk;
use super::journal::{Journal, plain, record_of};
use super::ledger::bytes_of;
use super::record::{Kind, Record, encode_versions};
use super::shared::{Command, Pending, PutError, Shared, Work};
use super::sink::Write;
use super::version::Version;

/// Versions in one record of those that are settled.
const SETTLED_MAX: usize = 4096;
/// What is moved at once.
const PORTION_BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Writer<D: Disk> {
    shared: Arc<Shared>,
    journal: Journal<D>,
    dead: DeadLetters<D::File>,
    journal_bytes_max: u64,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(
        shared: Arc<Shared>,
        journal: Journal<D>,
        dead: DeadLetters<D::File>,
        journal_bytes_max: u64,
    ) -> Self {
        let writer = Self { shared, journal, dead, journal_bytes_max };
        writer.tell();
        writer
    }

    /// Writes until it is told to end; then closes the journal.
    pub(super) fn run(mut self) {
        while let Some(work) = self.shared.wait_for_work() {
            self.step(work);
        }
        let floor = self.shared.state().issuer.floor();
        if let Err(error) = self.journal.close(floor) {
            tracing::warn!(%error, "write-behind: the journal could not be closed in order");
        }
    }

    pub(super) fn step(&mut self, work: Work) {
        let Work { pending, mut settled, dead, commands, floor } = work;
        if !dead.is_empty() {
            let outcome = self.dead.append(self.journal.disk(), &dead);
            let mut state = self.shared.state();
            match outcome {
                Ok(()) => {
                    for dead in &dead {
                        let (version, reason) = (dead.write.version, &dead.reason);
                        tracing::warn!(%version, reason, "write-behind: a write is a dead letter");
                    }
                    state.counts.dead += dead.len() as u64;
                    // With the others below it would be late: whoever waits for the ledger to be clean looks at it then.
                    state.counts.dead_letters = self.dead.count();
                    settled.extend(state.ledger.buried(&dead));
                }
                Err(error) => {
                    tracing::error!(%error, "write-behind: dead letters cannot be written, and stay in the journal");
                    state.counts.disk_errors += 1;
                    settled.extend(state.ledger.unburied(&dead, Instant::now()).settled);
                }
            }
        }
        self.write(pending, &settled, floor);
        for command in commands {
            self.obey(command);
        }
        if let Err(error) = self.compact(floor) {
            tracing::warn!(%error, "write-behind: the journal cannot be compacted now");
            self.shared.state().counts.disk_errors += 1;
        }
        self.tell();
        self.shared.due.notify_one();
        self.shared.progress.notify_waiters();
    }

    /// Writes a group down, and answers those who wait for it.
    fn write(&mut self, pending: Vec<Pending>, settled: &[Version], floor: Version) {
        let mut records: Vec<Record> = pending.iter().map(|pending| record_of(&pending.write)).collect();
        let lists = settled.chunks(SETTLED_MAX);
        records.extend(lists.map(|list| plain(Kind::Settled, list[0], encode_versions(list))));
        if records.is_empty() {
            return;
        }
        // What is settled need not last: at worst the sink is told it again.
        let outcome = self.journal.append(records, floor, !pending.is_empty());
        let mut state = self.shared.state();
        match outcome {
            Ok(segment) => {
                state.ledger.opened(segment);
                state.counts.acknowledged += pending.len() as u64;
                let now = Instant::now();
                for Pending { write, done } in pending {
                    let version = write.version;
                    state.ledger.commit(write, segment, now);
                    // Whoever asked may have gone.
                    let _ = done.send(Ok(version));
                }
            }
            Err(error) => {
                state.counts.disk_errors += 1;
                let error = error.to_string();
                for Pending { write, done } in pending {
                    state.ledger.release(bytes_of(&write));
                    let _ = done.send(Err(PutError::Disk(error.clone())));
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::List(done) => {
                let letters = dead::read(self.journal.disk()).map(|(letters, _)| letters);
                let _ = done.send(letters.map_err(|error| error.to_string()));
            }
            Command::Replay(versions, done) => {
                let _ = done.send(self.replay(&versions).map_err(|error| error.to_string()));
            }
            Command::Discard(versions, done) => {
                let outcome = self.dead.remove(self.journal.disk(), &versions);
                let _ = done.send(outcome.map_err(|error| error.to_string()));
            }
        }
    }

    /// Brings dead letters back, with their versions: one that is older than what the sink has by now does nothing.
    fn replay(&mut self, versions: &HashSet<Version>) -> io::Result<usize> {
        let (letters, _) = dead::read(self.journal.disk())?;
        let mut writes: Vec<Write> =
            letters.into_iter().map(|letter| letter.write).filter(|write| versions.contains(&write.version)).collect();
        // No older one of a key may stand behind a newer one.
        writes.sort_unstable_by_key(|write| write.version);
        let (mut taken, mut left) = (HashSet::new(), writes.into_iter().peekable());
        // By portions with a sync each, for whoever writes meanwhile waits.
        while left.peek().is_some() {
            let (mut portion, mut bytes, mut is_full) = (Vec::new(), 0, false);
            while bytes < PORTION_BYTES
                && let Some(write) = left.next()
            {
                let mut state = self.shared.state();
                if state.ledger.newest(&write.key).is_some_and(|newest| newest > write.version) {
                    // The sink will have that one, and this record must not stand behind it.
                    taken.insert(write.version);
                } else if state.ledger.reserve(bytes_of(&write)).is_ok() {
                    bytes += bytes_of(&write);
                    portion.push(write);
                } else {
                    is_full = true;
                    break;
                }
            }
            taken.extend(portion.iter().map(|write| write.version));
            self.bring_back(portion)?;
            if is_full {
                break;
            }
        }
        self.dead.remove(self.journal.disk(), &taken)?;
        Ok(taken.len())
    }

    /// Writes down again what has room already.
    fn bring_back(&mut self, portion: Vec<Write>) -> io::Result<()> {
        if portion.is_empty() {
            return Ok(());
        }
        let floor = self.shared.state().issuer.floor();
        let outcome = self.journal.append(portion.iter().map(record_of).collect(), floor, true);
        let mut state = self.shared.state();
        match outcome {
            Ok(segment) => {
                state.ledger.opened(segment);
                let now = Instant::now();
                for write in portion {
                    let (key, version) = (write.key.clone(), write.version);
                    state.ledger.commit(write, segment, now);
                    state.ledger.replayed(&key, version);
                }
                Ok(())
            }
            Err(error) => {
                portion.iter().for_each(|write| state.ledger.release(bytes_of(write)));
                Err(error)
            }
        }
    }

    /// Removes segments that are not needed, and makes it so of the oldest ones when the journal is long.
    fn compact(&mut self, floor: Version) -> io::Result<()> {
        let Some(newest) = self.journal.newest() else { return Ok(()) };
        {
            // Of one whose first write failed, nobody has heard.
            let mut state = self.shared.state();
            self.journal.numbers().for_each(|number| state.ledger.opened(number));
        }
        let mut moves_left = self.journal.segments();
        loop {
            let removable = self.shared.state().ledger.removable(newest);
            if let Some(number) = removable {
                self.journal.remove(number)?;
                self.shared.state().ledger.removed(number);
                continue;
            }
            if self.journal.bytes() <= self.journal_bytes_max || moves_left == 0 {
                return Ok(());
            }
            moves_left -= 1;
            self.move_oldest(newest, floor)?;
        }
    }

    fn move_oldest(&mut self, newest: u64, floor: Version) -> io::Result<()> {
        let needed = {
            let state = self.shared.state();
            let Some(oldest) = state.ledger.oldest_segment().filter(|oldest| *oldest < newest) else { return Ok(()) };
            state.ledger.needed_in(oldest)
        };
        // By portions, so that segments keep about their size.
        let mut bytes = 0;
        let portions = needed.chunk_by(|before, _| {
            bytes += bytes_of(before);
            let is_same = bytes < PORTION_BYTES;
            bytes = if is_same { bytes } else { 0 };
            is_same
        });
        for portion in portions {
            let segment = self.journal.append(portion.iter().map(record_of).collect(), floor, true)?;
            let mut state = self.shared.state();
            state.ledger.opened(segment);
            state.ledger.moved(portion, segment);
            state.counts.moved += portion.len() as u64;
        }
        Ok(())
    }

    fn tell(&self) {
        let counts = &mut self.shared.state().counts;
        counts.syncs = self.journal.syncs();
        counts.journal_bytes = self.journal.bytes();
        counts.segments = self.journal.segments();
        counts.dead_letters = self.dead.count();
    }
}
