//! What callers, the writer and the deliveries share: one state under a short lock, and who is woken when it changes.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::dead::DeadLetter;
use super::journal::Recovered;
use super::ledger::{Dead, Full, Ledger, Rules, bytes_of};
use super::sink::{Receipt, SinkError, Write};
use super::stats::Counts;
use super::version::{Issuer, Version};

/// Why a write was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// There is no room, and there was none within the time that it may wait.
    #[error("write-behind: full: {entries} writes of {bytes} bytes wait for the sink")]
    Full {
        /// Writes that the sink does not have.
        entries: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// The key and value are larger than `entry_bytes_max`, or the key alone has more than 65,535 bytes.
    #[error("write-behind: a write of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Bytes of the key and value, or of the key.
        bytes: u64,
        /// What is allowed.
        bytes_max: u64,
    },
    /// It was shut down.
    #[error("write-behind: it was shut down")]
    Closed,
    /// The disk failed. Whether the write lasts is not known: it may be delivered after a restart.
    #[error("write-behind: the journal: {0}")]
    Disk(String),
}

pub(super) type Done<T> = oneshot::Sender<T>;

/// A write that has room, and is to be written down.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) done: Done<Result<Version, PutError>>,
}

/// What else the writer is asked.
#[derive(Debug)]
pub(super) enum Command {
    List(Done<Result<Vec<DeadLetter>, String>>),
    /// Has the sink told these dead letters again.
    Replay(HashSet<Version>, Done<Result<usize, String>>),
    Discard(HashSet<Version>, Done<Result<usize, String>>),
}

/// What the writer has to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) pending: Vec<Pending>,
    pub(super) settled: Vec<Version>,
    pub(super) dead: Vec<Dead>,
    pub(super) commands: Vec<Command>,
    pub(super) floor: Version,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) issuer: Issuer,
    pub(super) work: Work,
    pub(super) counts: Counts,
    /// No more writes are taken.
    pub(super) closed: bool,
    /// The writer is to end once it has nothing to do.
    pub(super) ending: bool,
    /// The writer has ended.
    pub(super) has_ended: bool,
    /// How many wait for everything to be delivered.
    pub(super) hurry: usize,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    writer: Condvar,
    /// Something may have to be delivered.
    pub(super) due: Notify,
    /// There may be room, or nothing left to deliver.
    pub(super) progress: Notify,
}

/// Writes of at most so many bytes go to the disk at once, so that the first of them does not wait for all.
const GROUP_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(super) fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

impl Shared {
    pub(super) fn new(rules: Rules, recovered: Recovered, instance: u64, now: Instant) -> Arc<Self> {
        let mut ledger = Ledger::new(rules);
        recovered.segments.iter().for_each(|segment| ledger.opened(*segment));
        for (write, segment) in recovered.writes {
            ledger.reserve_anyway(bytes_of(&write));
            ledger.commit(write, segment, now);
        }
        let state = State {
            ledger,
            issuer: Issuer::new(recovered.floor, instance),
            work: Work::default(),
            counts: Counts::default(),
            closed: false,
            ending: false,
            has_ended: false,
            hurry: 0,
        };
        Arc::new(Self { state: Mutex::new(state), writer: Condvar::new(), due: Notify::new(), progress: Notify::new() })
    }

    /// Whoever panicked under the lock left the state as it was between two statements; writes are worth more than that doubt.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for a write, gives it its version, and has it written down.
    pub(super) fn submit(
        &self,
        key: &Bytes,
        value: Option<&Bytes>,
        millis: u64,
    ) -> Result<oneshot::Receiver<Result<Version, PutError>>, PutError> {
        let mut state = self.state();
        if state.closed {
            return Err(PutError::Closed);
        }
        let mut write = Write { key: key.clone(), version: Version::ZERO, value: value.cloned() };
        if state.ledger.reserve(bytes_of(&write)) == Err(Full) {
            let (entries, bytes) = state.ledger.size();
            return Err(PutError::Full { entries, bytes });
        }
        write.version = state.issuer.issue(millis);
        let (done, answer) = oneshot::channel();
        state.work.pending.push(Pending { write, done });
        // The writer is awake already if something else waits for it.
        if state.work.pending.len() == 1 {
            self.writer.notify_one();
        }
        Ok(answer)
    }

    pub(super) fn command(&self, command: Command) {
        let mut state = self.state();
        // Dropped, it tells whoever waits for its answer that there is none.
        if !state.has_ended {
            state.work.commands.push(command);
            self.writer.notify_one();
        }
    }

    /// A batch is back from the sink: what it will not take, which is dirty until it is buried.
    pub(super) fn finish(
        &self,
        batch: &[Write],
        outcome: Result<Receipt, SinkError>,
        now: Instant,
        random: u64,
        millis: u64,
    ) -> Vec<Dead> {
        let mut state = self.state();
        let state = &mut *state;
        if let Ok(receipt) = &outcome {
            for (_, newer) in &receipt.newer {
                if !state.issuer.observe(*newer, millis) {
                    tracing::warn!(%newer, "write-behind: a version is more than an hour ahead of this clock");
                }
            }
        }
        state.counts.batches += 1;
        state.counts.failures += u64::from(outcome.is_err());
        let finished = state.ledger.finish(batch, outcome, now, random);
        state.counts.delivered += finished.delivered as u64;
        state.counts.superseded += finished.superseded as u64;
        state.work.settled.extend(finished.settled);
        self.writer.notify_one();
        self.due.notify_one();
        self.progress.notify_waiters();
        finished.dead
    }

    /// Has dead letters written down.
    pub(super) fn bury(&self, dead: Vec<Dead>) {
        self.state().work.dead.extend(dead);
        self.writer.notify_one();
    }

    /// What the writer has to do now; none when it is to end.
    pub(super) fn wait_for_work(&self) -> Option<Work> {
        let mut state = self.state();
        loop {
            if let Some(work) = state.take_work() {
                return Some(work);
            }
            if state.ending {
                return None;
            }
            state = self.writer.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more writes.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.progress.notify_waiters();
    }

    /// The writer has ended, however that came: nobody is to wait for it.
    pub(super) fn writer_ended(&self) {
        let mut state = self.state();
        state.closed = true;
        state.has_ended = true;
        state.work = Work::default();
        drop(state);
        self.progress.notify_waiters();
    }

    /// Has the writer end.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.closed = true;
        state.ending = true;
        self.writer.notify_one();
        self.due.notify_one();
    }
}

impl State {
    pub(super) fn take_work(&mut self) -> Option<Work> {
        let work = &mut self.work;
        if work.pending.is_empty() && work.settled.is_empty() && work.dead.is_empty() && work.commands.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let group = work.pending.iter().take_while(|pending| {
            let is_first = bytes == 0;
            bytes += bytes_of(&pending.write);
            is_first || bytes <= GROUP_BYTES_MAX
        });
        let count = group.count();
        let rest = work.pending.split_off(count);
        let mut taken = std::mem::take(work);
        self.work.pending = rest;
        taken.floor = self.issuer.floor();
        Some(taken)
    }

    /// Whether nothing waits, neither for the disk nor for the sink.
    pub(super) fn is_clean(&self) -> bool {
        self.ledger.is_clean() && self.work.pending.is_empty() && self.ledger.size().0 == 0
    }

    /// The age of the oldest write that the sink does not have.
    pub(super) fn lag(&self, millis: u64) -> Duration {
        let oldest = self.ledger.oldest().map_or(millis, Version::millis);
        Duration::from_millis(millis.saturating_sub(oldest))
    }
}
