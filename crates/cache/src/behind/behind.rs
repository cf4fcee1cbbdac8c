//! The handle that a service has.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

use super::dead::{DeadLetter, DeadLetters};
use super::deliver::deliver;
use super::disk::Folder;
use super::journal::{Journal, Recovery};
use super::params::{BehindParams, OpenError, PAUSE_MAX, WhenFull};
use super::record::KEY_BYTES_MAX;
use super::shared::{Command, Done, PutError, Shared, now_millis};
use super::sink::{Sink, Write};
use super::stats::BehindStats;
use super::version::Version;
use super::writer::Writer;

/// Writes that are acknowledged by a journal on the local disk, and reach a [`Sink`] later. The [module](super) has an example.
///
/// Dropped without [`shutdown`](Self::shutdown), it stops delivering; what the sink does not have stays in the journal.
#[derive(Debug)]
pub struct WriteBehind<S: Sink> {
    shared: Arc<Shared>,
    sink: Arc<S>,
    params: BehindParams,
    recovery: Recovery,
    delivery: JoinHandle<()>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Keys whose latest write the sink does not have. It is in the journal, and is delivered after the next start.
    pub keys_left: usize,
}

/// Why something about dead letters was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write-behind: dead letters: {0}")]
pub struct DeadLetterError(String);

impl<S: Sink> WriteBehind<S> {
    /// Opens the journal, making it where there is none, and delivers what an earlier start left in it.
    ///
    /// # Errors
    /// When a setting cannot be, another process has the folder, or the disk fails. A damaged journal is no error:
    /// [`recovery`](Self::recovery) tells of it.
    pub async fn open(params: BehindParams, sink: S) -> Result<Self, OpenError> {
        params.check()?;
        let told = params.clone();
        let opened = spawn_blocking(move || open(&told)).await;
        let (shared, writer, recovery) = opened.map_err(|error| OpenError::Disk {
            folder: params.folder.clone(),
            error: std::io::Error::other(error),
        })??;
        let guard = EndOfWriter(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("write-behind".to_owned()).spawn(move || {
            let _guard = guard;
            writer.run();
        });
        let thread = thread.map_err(|error| OpenError::Disk { folder: params.folder.clone(), error })?;
        let sink = Arc::new(sink);
        let task = deliver(Arc::clone(&shared), Arc::clone(&sink), params.lanes, params.deliver_timeout);
        let delivery = tokio::spawn(task);
        Ok(Self { shared, sink, params, recovery, delivery, writer: Mutex::new(Some(thread)) })
    }

    /// Writes a value. It lasts when this returns, and reaches the sink unless a newer one does first.
    ///
    /// # Errors
    /// When there is no room, the value is too large, or the disk did not take it. Dropping the future does not take the write back.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Version, PutError> {
        self.write(key.into(), Some(value.into())).await
    }

    /// Removes a key, as [`put`](Self::put) writes one.
    ///
    /// # Errors
    /// As those of [`put`](Self::put).
    pub async fn remove(&self, key: impl Into<Bytes>) -> Result<Version, PutError> {
        self.write(key.into(), None).await
    }

    async fn write(&self, key: Bytes, value: Option<Bytes>) -> Result<Version, PutError> {
        self.check_size(&key, value.as_ref())?;
        let deadline = match self.params.when_full {
            WhenFull::Refuse => None,
            WhenFull::Wait(time) => Some(tokio::time::Instant::now() + time.min(PAUSE_MAX)),
        };
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            // From here on no progress is missed.
            progress.as_mut().enable();
            let answer = match self.shared.submit(&key, value.as_ref(), now_millis()) {
                Ok(answer) => answer,
                Err(full @ PutError::Full { .. }) => {
                    let waited = match deadline {
                        Some(deadline) => tokio::time::timeout_at(deadline, progress).await.is_ok(),
                        None => false,
                    };
                    if waited {
                        continue;
                    }
                    self.shared.state().counts.refused_full += 1;
                    return Err(full);
                }
                Err(error) => return Err(error),
            };
            return answer.await.unwrap_or_else(|_| Err(PutError::Disk("its writer has ended".to_owned())));
        }
    }

    pub(crate) fn check_size(&self, key: &Bytes, value: Option<&Bytes>) -> Result<(), PutError> {
        let too_large = |bytes: usize, bytes_max| Err(PutError::TooLarge { bytes: bytes as u64, bytes_max });
        let bytes = key.len() + value.map_or(0, Bytes::len);
        if key.len() > KEY_BYTES_MAX {
            return too_large(key.len(), KEY_BYTES_MAX as u64);
        }
        if bytes as u64 > self.params.entry_bytes_max {
            return too_large(bytes, self.params.entry_bytes_max);
        }
        Ok(())
    }

    /// The latest acknowledged write of a key, if the sink may not have it yet: whoever reads looks here first, and then where the sink
    /// writes. Dead letters that are replayed are not told, as the sink may have something newer.
    pub fn dirty(&self, key: &[u8]) -> Option<Write> {
        self.shared.state().ledger.dirty(key).cloned()
    }

    /// Delivers everything that was written before, without waiting for more to come into batches. Says whether that was done within
    /// the time.
    pub async fn flush(&self, time: Duration) -> bool {
        let _hurry = Hurry::new(&self.shared);
        let clean = async {
            loop {
                let progress = self.shared.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if self.shared.state().is_clean() {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(time, clean).await.is_ok()
    }

    /// Takes no more writes, delivers what there is for so long, and closes the journal. What is left then is delivered after the next
    /// start.
    pub async fn shutdown(&self, time: Duration) -> Shutdown {
        self.shared.close();
        self.flush(time).await;
        self.delivery.abort();
        self.shared.end();
        if let Some(writer) = self.writer.lock().await.take() {
            // Whatever it panicked of has been printed.
            let _ = spawn_blocking(move || writer.join()).await;
        }
        Shutdown { keys_left: self.shared.state().ledger.keys() }
    }

    /// The dead letters, in the order in which they came.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, DeadLetterError> {
        self.ask(Command::List).await
    }

    /// Has the sink told dead letters again, with the versions that they have: what is older than what the sink has by now does nothing.
    /// Says how many; there may be no room for all.
    ///
    /// # Errors
    /// When the disk fails. They may be both dead letters and delivered then.
    pub async fn replay_dead_letters(&self, versions: HashSet<Version>) -> Result<usize, DeadLetterError> {
        self.ask(|done| Command::Replay(versions, done)).await
    }

    /// Forgets dead letters. Says how many.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn discard_dead_letters(&self, versions: HashSet<Version>) -> Result<usize, DeadLetterError> {
        self.ask(|done| Command::Discard(versions, done)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Done<Result<T, String>>) -> Command) -> Result<T, DeadLetterError> {
        let (done, answer) = oneshot::channel();
        self.shared.command(command(done));
        let ended = |_| Err("it was shut down".to_owned());
        answer.await.unwrap_or_else(ended).map_err(DeadLetterError)
    }

    /// What the start found in the journal.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Where writes go.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Numbers of now and since the start.
    pub fn stats(&self) -> BehindStats {
        let state = self.shared.state();
        let (entries, bytes) = state.ledger.size();
        let counts = state.counts;
        BehindStats {
            keys: state.ledger.keys(),
            entries,
            bytes,
            lag: state.lag(now_millis()),
            outage: state.ledger.outage(),
            journal_bytes: counts.journal_bytes,
            segments: counts.segments,
            dead_letters: counts.dead_letters,
            damaged: self.recovery.damage.len(),
            acknowledged_total: counts.acknowledged,
            refused_full_total: counts.refused_full,
            disk_errors_total: counts.disk_errors,
            syncs_total: counts.syncs,
            delivered_total: counts.delivered,
            coalesced_total: state.ledger.coalesced(),
            superseded_total: counts.superseded,
            dead_total: counts.dead,
            batches_total: counts.batches,
            failures_total: counts.failures,
            moved_total: counts.moved,
        }
    }
}

impl<S: Sink> Drop for WriteBehind<S> {
    fn drop(&mut self) {
        self.delivery.abort();
        self.shared.end();
    }
}

/// A number that nobody else has.
fn drawn() -> u64 {
    // Its keys are drawn from the system's randomness, and this is a hash of nothing under them.
    RandomState::new().build_hasher().finish()
}

fn open(params: &BehindParams) -> Result<(Arc<Shared>, Writer<Folder>, Recovery), OpenError> {
    let disk = |error| OpenError::Disk { folder: params.folder.clone(), error };
    let folder = Folder::open(&params.folder).map_err(disk)?;
    let folder = folder.ok_or_else(|| OpenError::Locked(params.folder.clone()))?;
    let instance = drawn();
    let (dead, damage) = DeadLetters::open(&folder, params.dead_bytes_max, drawn()).map_err(disk)?;
    let (journal, mut recovered) = Journal::open(folder, params.segment_bytes(), drawn()).map_err(disk)?;
    recovered.report.damage.extend(damage);
    let recovery = recovered.report.clone();
    let shared = Shared::new(params.rules(), recovered, instance, Instant::now());
    let writer = Writer::new(Arc::clone(&shared), journal, dead, params.journal_bytes_max());
    Ok((shared, writer, recovery))
}

/// While it is there, batches do not wait for more.
struct Hurry<'s>(&'s Shared);

impl<'s> Hurry<'s> {
    fn new(shared: &'s Shared) -> Self {
        shared.state().hurry += 1;
        shared.due.notify_one();
        Self(shared)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.state().hurry -= 1;
    }
}

/// Tells everybody when the writer's thread has ended, even by a panic.
struct EndOfWriter(Arc<Shared>);

impl Drop for EndOfWriter {
    fn drop(&mut self) {
        self.0.writer_ended();
    }
}
