//! The disk tier: a log of segments, written by one thread and read by a few, none of which is a core's.
//!
//! What is stored is appended to the latest segment; when all have taken their bytes, the oldest is removed as a whole. So nothing is
//! ever written over, a write is sequential, and what a crash can hurt is the end of one file. Every record has checksums, which
//! are compared whenever it is read; what does not match is a miss. `format` has the bytes, `recover` what a start does.
//!
//! **Nothing blocks a core.** Jobs go through bounded queues. A write that finds its queue full is dropped and counted, and the object
//! stays in memory alone. Where more comes than the disk takes, bodies in chunks are dropped first, since many others have room in
//! the place of one: none begins when half of the queue is taken, and none goes on when three quarters are. A read that finds its queue
//! full is a miss, and so is one whose thread has been at another for seconds: a disk that hangs is waited for by those who asked
//! before, for a bounded time, and by nobody else.
//!
//! **A disk that fails is done without.** After a write that failed, what was in the buffer is dropped, the oldest segment makes room if
//! there is none, and after a pause, which doubles up to a minute, a new segment is tried. Reading goes on meanwhile. A folder that
//! another process holds is tried again in the same way.
//!
//! **What lasts.** An object that was written survives the end of the process, however that comes. It is not synced, so a loss of
//! power may take what the system had not written yet; checksums tell. Purges are synced before they count as durable.

mod active;
mod format;
mod index;
mod journal;
mod log;
mod marks;
mod read;
mod recover;
mod segment;
mod unwritten;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::base::Base;
use crate::fill::Flow;
use crate::key::Mark;
use crate::object::{CHUNK_BYTES, Identity, Object};
use crate::params::DiskParams;
use crate::pending::Pending;
use crate::purges::Purge;
use crate::shown::Known;
use crate::stats::{DiskCounters, DiskStats};
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use format::ChunkPlace;
pub(crate) use index::PLACE_BYTES;
use index::{Index, Place};
pub(crate) use journal::PREFIX_BYTES_MAX;
pub(crate) use read::{DiskObject, Reading};
pub(crate) use segment::Chunk;
use segment::Segment;
use unwritten::Waiting;

/// Bytes of a body above which it is written in chunks, while it still grows.
pub(crate) const INLINE_BYTES_MAX: u64 = format::INLINE_BYTES_MAX;
/// Jobs that wait, for the writer and for each reader.
const JOBS_MAX: usize = 4096;
const READS_MAX: usize = 1024;
/// Threads that read. More would help a disk with many heads; most of what is read is in the system's cache.
const READERS: usize = 2;
/// Purges that wait to be written down, above which a restart takes the oldest for one of everything. The model checker counts each step.
const PURGES_MAX: usize = if cfg!(test) { 64 } else { 65_536 };
/// Places that wait to be forgotten, above which the whole tier is.
const FORGETS_MAX: usize = PURGES_MAX;

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// The disk said so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was read is not what was written.
    #[error("the checksum of a {0} is wrong, or it is cut short")]
    Corrupt(&'static str),
    /// Its segment has been removed.
    #[error("the segment has been removed")]
    Gone,
}

/// What the writer is told.
pub(crate) enum Job {
    /// Write a whole object.
    Store(Arc<Object>),
    /// Write a chunk of a body that grows.
    Chunk { flow: Arc<Flow>, index: u32, data: Bytes },
    /// The body is whole: write what follows the last chunk, and the object itself, which is shown until then.
    Commit { flow: Arc<Flow>, rest: Option<Bytes>, chunks: u32, known: Known },
    /// Write an object anew that has the chunks of another version, and is shown until then.
    Refresh(DiskHead, Option<Known>),
    /// Look at what waits elsewhere.
    Wake,
    /// Write what waits, and say so.
    Flush(oneshot::Sender<()>),
}

impl Job {
    /// How full the queue may be with it, in quarters. A body in chunks that is not begun costs nothing yet; one that is broken off
    /// has cost the disk what is written of it.
    fn quarters_max(&self) -> u64 {
        match self {
            Self::Chunk { index: 0, .. } => 2,
            Self::Chunk { .. } => 3,
            _ => 4,
        }
    }

    /// Bytes that wait with it. What a body has in memory while it comes is counted there.
    fn bytes(&self) -> u64 {
        let of = |identity: &Identity, meta: &Bytes| {
            (identity.key.len() + size_of_val(&*identity.marks) + meta.len()) as u64
        };
        match self {
            Self::Store(object) => of(&object.identity, &object.meta) + object.body_bytes,
            Self::Chunk { data, .. } => data.len() as u64,
            Self::Commit { flow, rest, .. } => {
                of(&flow.identity, &flow.meta) + rest.as_ref().map_or(0, |rest| rest.len() as u64)
            }
            Self::Refresh(head, _) => {
                let chunks = head.body_bytes.div_ceil(CHUNK_BYTES as u64);
                of(&head.identity, &head.meta) + chunks * size_of::<Chunk>() as u64
            }
            Self::Wake | Self::Flush(_) => 0,
        }
    }
}

/// What a new version of a large object says; its chunks are those of the one before.
#[derive(Debug)]
pub(crate) struct DiskHead {
    pub(crate) identity: Identity,
    pub(crate) meta: Bytes,
    pub(crate) body_bytes: u64,
    /// The version that came with the body: as long as that is the one on disk, there may have been others of it meanwhile.
    pub(crate) body_version: u64,
}

/// What a reader is told.
pub(crate) enum ReadJob {
    Load { key: Box<[u8]>, hash: u64, pending: Arc<Pending> },
    Chunk { chunk: Chunk, done: oneshot::Sender<Result<Bytes, DiskError>> },
}

/// What the threads and the cores share.
#[derive(Debug)]
pub(crate) struct Shared {
    base: Arc<Base>,
    params: DiskParams,
    index: Index,
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    counters: DiskCounters,
    queued_bytes: AtomicU64,
    /// Records that must not be found at the next start, though nothing newer of their key is there.
    forgets: Mutex<Vec<ChunkPlace>>,
    /// 1 once it is known what the folder held when this began.
    is_known: AtomicU64,
    purges: Mutex<Waiting>,
    /// What each reader is at.
    readings: [Reading; READERS],
}

/// The tier, as the store holds it.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
    readers: Vec<SyncSender<ReadJob>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Disk {
    /// Starts the threads. The folder is read before this returns, unless something is in its way; then the writer tries again.
    pub(crate) fn start(base: Arc<Base>, params: DiskParams) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(base, params));
        let mut threads = Vec::new();
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let log = log::Log::open(Arc::clone(&shared));
        threads.push(named("store-write").spawn(move || log.run(&receiver))?);
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (sender, receiver): (_, Receiver<ReadJob>) = sync_channel(READS_MAX);
            let (shared, number) = (Arc::clone(&shared), readers.len());
            threads.push(named("store-read").spawn(move || read::run(&shared, number, &receiver))?);
            readers.push(sender);
        }
        Ok(Self { shared, jobs, readers, threads: Mutex::new(threads) })
    }

    /// Whether a key is on disk, as far as is known.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.shared.index.find(hash).is_some()
    }

    /// Whether what is asked of it is not read: who needs it cannot have it from here for now.
    pub(crate) fn hangs(&self) -> bool {
        self.shared.readings.iter().any(Reading::hangs)
    }

    /// Whether a later version than this one is there.
    pub(crate) fn has_newer(&self, hash: u64, version: u64) -> bool {
        self.shared.index.find(hash).is_some_and(|place| place.version > version)
    }

    /// Whether anything on disk may carry a mark. As long as the folder has not been read, anything may be there.
    pub(crate) fn may_have(&self, mark: Mark) -> bool {
        let is_known = self.shared.is_known.load(Ordering::Acquire) == 1;
        !is_known || self.shared.segments.read().values().any(|segment| segment.marks.may_have(mark))
    }

    /// Reads an object for those who wait for it. `false` when too many reads wait already.
    pub(crate) fn load(&self, key: &[u8], hash: u64, pending: Arc<Pending>) -> bool {
        self.read(hash, ReadJob::Load { key: key.into(), hash, pending })
    }

    /// Reads a chunk; `None` when too many reads wait already.
    pub(crate) fn chunk(&self, chunk: Chunk) -> Option<oneshot::Receiver<Result<Bytes, DiskError>>> {
        let (done, receiver) = oneshot::channel();
        let which = u64::from(chunk.offset) / CHUNK_BYTES as u64;
        self.read(which, ReadJob::Chunk { chunk, done }).then_some(receiver)
    }

    fn read(&self, which: u64, job: ReadJob) -> bool {
        let reader = which as usize % READERS;
        let reading = &self.shared.readings[reader];
        let sent = !reading.hangs() && {
            reading.add();
            let sent = self.readers[reader].try_send(job).is_ok();
            if !sent {
                reading.withdraw();
            }
            sent
        };
        if !sent {
            self.shared.counters.reads_dropped.add(1);
        }
        sent
    }

    /// Says that a version will be written: nothing older is found from now on. It is sent next, or withdrawn.
    ///
    /// Memory changes after this, never before: a reader puts an older version there, and looks then whether it is still the one that is
    /// known here.
    pub(crate) fn announce(&self, identity: &Identity) {
        self.shared.index.announce(identity.hash, identity.version);
    }

    /// Says that a version which was announced will not be written.
    pub(crate) fn withdraw(&self, identity: &Identity) {
        self.shared.withdraw(identity.hash, identity.version);
    }

    /// Writes a whole object that was announced, or drops it when too much waits already.
    pub(crate) fn store(&self, object: Arc<Object>) -> bool {
        let (hash, version) = (object.identity.hash, object.identity.version);
        self.send_last(hash, version, Job::Store(object))
    }

    /// Writes an object anew that was announced and has the chunks of another version, or drops it.
    pub(crate) fn refresh(&self, head: DiskHead, known: Option<Known>) -> bool {
        let (hash, version) = (head.identity.hash, head.identity.version);
        self.send_last(hash, version, Job::Refresh(head, known))
    }

    /// Has a version written that was announced, by a job that makes it known, or forgets what is older.
    pub(crate) fn send_last(&self, hash: u64, version: u64, job: Job) -> bool {
        let sent = self.send(job);
        if !sent {
            self.shared.withdraw(hash, version);
        }
        sent
    }

    /// Writes a part of a larger object, or drops it.
    pub(crate) fn send(&self, job: Job) -> bool {
        let (bytes, most) = (job.bytes(), self.shared.params.queue_bytes / 4 * job.quarters_max());
        let queued = &self.shared.queued_bytes;
        if queued.fetch_add(bytes, Ordering::AcqRel) + bytes > most {
            queued.fetch_sub(bytes, Ordering::AcqRel);
            self.shared.counters.writes_dropped.add(1);
            return false;
        }
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                queued.fetch_sub(bytes, Ordering::AcqRel);
                self.shared.counters.writes_dropped.add(1);
                false
            }
        }
    }

    /// Has what is on disk of a key forgotten, since something newer is not going to be there.
    pub(crate) fn forget_older(&self, hash: u64, version: u64) {
        self.shared.forget(self.shared.index.supersede(hash, version));
    }

    /// Purges, and has that written down, together with others that came meanwhile. Says under which number; the answer is whether it will
    /// last.
    pub(crate) fn purge(&self, purge: Purge, position: Option<u64>) -> (u64, oneshot::Receiver<bool>) {
        let purged = {
            // Whoever has seen the number finds here what it stands for.
            let mut waiting = self.shared.purges.lock();
            let numbered = self.shared.base.purges.purge(purge);
            (numbered.number, waiting.push(numbered, position))
        };
        // A full queue is being worked off, and purges are looked at between its jobs.
        let _ = self.jobs.try_send(Job::Wake);
        purged
    }

    /// Whether the queue took the wish to have everything written that waits.
    pub(crate) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let _ = self.jobs.try_send(Job::Flush(done));
        receiver
    }

    pub(crate) fn stats(&self) -> DiskStats {
        self.shared.stats()
    }

    /// Ends the threads, once all that waits is written.
    pub(crate) fn close(self) {
        let Self { shared: _, jobs, readers, threads } = self;
        drop((jobs, readers));
        for thread in std::mem::take(&mut *threads.lock()) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(base: Arc<Base>, params: DiskParams) -> Self {
        Self {
            base,
            params,
            index: Index::new(),
            segments: RwLock::new(BTreeMap::new()),
            counters: DiskCounters::default(),
            queued_bytes: AtomicU64::new(0),
            forgets: Mutex::new(Vec::new()),
            is_known: AtomicU64::new(0),
            purges: Mutex::new(Waiting::default()),
            readings: std::array::from_fn(|_| Reading::default()),
        }
    }

    fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.segments.read().get(&number).cloned()
    }

    /// Says that a version that was announced will not be written.
    fn withdraw(&self, hash: u64, version: u64) {
        self.forget(self.index.withdraw(hash, version));
    }

    /// Has a record forgotten that must not be found at the next start.
    fn forget(&self, place: Option<Place>) {
        let Some(place) = place else { return };
        let mut forgets = self.forgets.lock();
        if forgets.len() <= FORGETS_MAX {
            forgets.push(place.record());
        }
    }

    /// Whether the segments of chunks are there still.
    fn has_all(&self, chunks: &[Chunk]) -> bool {
        let segments = self.segments.read();
        let is_there =
            |chunk: &Chunk| segments.get(&chunk.segment.number).is_some_and(|it| Arc::ptr_eq(it, &chunk.segment));
        chunks.iter().all(is_there)
    }

    fn stats(&self) -> DiskStats {
        let mut stats = self.counters.stats();
        stats.entries = self.index.count();
        stats.queued_bytes = self.queued_bytes.load(Ordering::Relaxed);
        stats.bytes_max = self.params.bytes;
        stats
    }
}

fn named(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}

#[cfg(test)]
impl Disk {
    /// One whose jobs nobody does, and on which nothing is read.
    pub(crate) fn idle(base: Arc<Base>, params: DiskParams) -> (Self, Receiver<Job>) {
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let shared = Arc::new(Shared::new(base, params));
        (Self { shared, jobs, readers: Vec::new(), threads: Mutex::new(Vec::new()) }, receiver)
    }

    /// Whether purges wait to be written down.
    pub(crate) fn has_purges(&self) -> bool {
        !self.shared.purges.lock().is_empty()
    }

    /// Has something be known as written.
    pub(crate) fn pretend(&self, object: &Object) {
        let place = Place { version: object.identity.version, segment: 1, offset: 64, bytes: 64 };
        self.shared.base.skip_versions(place.version);
        self.shared.index.restore(object.identity.hash, place);
    }

    /// What a thread does that has read something.
    pub(crate) fn has_read(&self, object: &Arc<Object>) -> bool {
        read::keep(&self.shared, object, object.identity.since, None)
    }
}
