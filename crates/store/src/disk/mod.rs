//! The disk tier: a log of segments, written by one thread and read by a few, none of which is a core's.
//!
//! What is stored is appended to the latest segment; when all have taken their bytes, the oldest is removed as a whole. So nothing is
//! ever written over, a write is sequential, and what a crash can hurt is the end of one file. Every record has checksums, which
//! are compared whenever it is read; what does not match is a miss. `format` has the bytes, `recover` what a start does.
//!
//! **Nothing blocks a core.** Jobs go through bounded queues. A write that finds its queue full is dropped and counted, and the object
//! stays in memory alone; a read that finds its queue full is a miss.
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
mod read;
mod recover;
mod segment;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::base::Base;
use crate::fill::{Flow, Shown};
use crate::object::{CHUNK_BYTES, Identity, Object};
use crate::params::DiskParams;
use crate::pending::Pending;
use crate::purges::Numbered;
use crate::stats::{DiskCounters, DiskStats};
use crate::sync::{AtomicU64, Mutex, Ordering, RwLock};
use format::ChunkPlace;
pub(crate) use index::PLACE_BYTES;
use index::{Index, Place};
pub(crate) use journal::PREFIX_BYTES_MAX;
pub(crate) use read::DiskObject;
pub(crate) use segment::Chunk;
use segment::Segment;

/// Bytes of a body above which it is written in chunks, while it still grows.
pub(crate) const INLINE_BYTES_MAX: u64 = format::INLINE_BYTES_MAX;
/// Jobs that wait, for the writer and for each reader.
const JOBS_MAX: usize = 4096;
const READS_MAX: usize = 1024;
/// Threads that read. More would help a disk with many heads; most of what is read is in the system's cache.
const READERS: usize = 2;
/// Purges that wait to be written down.
const PURGES_MAX: usize = 65_536;
/// Places that wait to be forgotten, above which the whole tier is.
const FORGETS_MAX: usize = 65_536;

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
    /// The body is whole: write what follows the last chunk, and the object itself.
    Commit { flow: Arc<Flow>, rest: Option<Bytes>, chunks: u32, shown: Shown },
    /// Write an object anew that has the chunks of another version.
    Refresh(DiskHead),
    /// Look at what waits elsewhere.
    Wake,
    /// Write what waits, and say so.
    Flush(oneshot::Sender<()>),
}

/// What a new version of a large object says; its chunks are those of the one before.
#[derive(Debug)]
pub(crate) struct DiskHead {
    pub(crate) identity: Identity,
    pub(crate) meta: Bytes,
    pub(crate) body_bytes: u64,
    /// The version that it is made of.
    pub(crate) before: u64,
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
    purges: Mutex<Vec<Unwritten>>,
}

/// A purge that is to be written down.
#[derive(Debug)]
struct Unwritten {
    numbered: Numbered,
    position: Option<u64>,
    done: oneshot::Sender<bool>,
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
        let shared = Arc::new(Shared {
            base,
            params,
            index: Index::new(),
            segments: RwLock::new(BTreeMap::new()),
            counters: DiskCounters::default(),
            queued_bytes: AtomicU64::new(0),
            forgets: Mutex::new(Vec::new()),
            purges: Mutex::new(Vec::new()),
        });
        let mut threads = Vec::new();
        let (jobs, receiver) = sync_channel(JOBS_MAX);
        let log = log::Log::open(Arc::clone(&shared));
        threads.push(named("store-write").spawn(move || log.run(&receiver))?);
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (sender, receiver): (_, Receiver<ReadJob>) = sync_channel(READS_MAX);
            let shared = Arc::clone(&shared);
            threads.push(named("store-read").spawn(move || read::run(&shared, &receiver))?);
            readers.push(sender);
        }
        Ok(Self { shared, jobs, readers, threads: Mutex::new(threads) })
    }

    /// Whether a key is on disk, as far as is known.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.shared.index.find(hash).is_some()
    }

    /// Whether no key is on disk, or on its way there.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.index.count() == 0
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
        let sent = self.readers[which as usize % READERS].try_send(job).is_ok();
        if !sent {
            self.shared.counters.reads_dropped.add(1);
        }
        sent
    }

    /// Writes a whole object, or drops it when too much waits already.
    pub(crate) fn store(&self, object: Arc<Object>) -> bool {
        let (hash, version) = (object.identity.hash, object.identity.version);
        self.send_last(hash, version, object.body_bytes, Job::Store(object))
    }

    /// Writes an object anew that has the chunks of another version, or drops it.
    pub(crate) fn refresh(&self, head: DiskHead) -> bool {
        let Identity { hash, version, .. } = head.identity;
        self.send_last(hash, version, 0, Job::Refresh(head))
    }

    /// Has a version written by a job that makes it known, or forgets what is older.
    pub(crate) fn send_last(&self, hash: u64, version: u64, bytes: u64, job: Job) -> bool {
        self.shared.index.announce(hash, version);
        let sent = self.send(bytes, job);
        if !sent {
            self.shared.withdraw(hash, version);
        }
        sent
    }

    /// Writes a part of a larger object, or drops it.
    pub(crate) fn send(&self, bytes: u64, job: Job) -> bool {
        let queued = &self.shared.queued_bytes;
        if queued.fetch_add(bytes, Ordering::AcqRel) + bytes > self.shared.params.queue_bytes {
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

    /// Writes a purge down, together with others that came meanwhile. The answer is whether it will last.
    pub(crate) fn purge(&self, numbered: Numbered, position: Option<u64>) -> oneshot::Receiver<bool> {
        let (done, receiver) = oneshot::channel();
        let mut purges = self.shared.purges.lock();
        if purges.len() < PURGES_MAX {
            purges.push(Unwritten { numbered, position, done });
        }
        drop(purges);
        // A full queue is being worked off, and purges are looked at between its jobs.
        let _ = self.jobs.try_send(Job::Wake);
        receiver
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
