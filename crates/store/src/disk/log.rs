//! The thread that writes: jobs into the latest segment, purges into the journal, and what to do when the disk will not.

mod invalid;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::active::Active;
use super::format::{ChunkPlace, Header, IndexEntry, Kind, ObjectHead};
use super::index::Place;
use super::journal::{self, Journal, Note, Past};
use super::recover;
use super::segment::{Chunk, Segment};
use super::{DiskError, DiskHead, Job, Shared};
use crate::fill::Flow;
use crate::object::{Identity, Object};
use crate::sync::Ordering;

/// Between a failure and the next try, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// How long the thread sleeps at most when nothing is to be done.
const IDLE: Duration = Duration::from_secs(1);

/// What becomes known once a buffer is written.
enum Written {
    Object { hash: u64, place: Place },
    Chunk { flow: Arc<Flow>, chunk: Chunk },
    Forgotten(Vec<ChunkPlace>),
}

/// A folder that is this process's.
struct Folder {
    /// Held as long as the folder is in use.
    _lock: File,
    journal: Journal,
    active: Option<Active>,
    /// Bytes of each segment's file.
    sizes: BTreeMap<u32, u64>,
}

pub(super) struct Log {
    shared: Arc<Shared>,
    folder: Option<Folder>,
    written: Vec<Written>,
    /// The number of the next segment. It never falls, so that a place of one that is gone leads nowhere.
    next_number: u32,
    /// When what waits was last written.
    settled_at: Instant,
    /// When to try again, and how long to wait after that.
    retry_at: Option<Instant>,
    pause: Duration,
    /// Purges that were made before there was a journal, and are made anew once there is one, with the numbers that they have then.
    late: Vec<Note>,
    /// Purges were made that no journal has, nor this: what is in the folder cannot be trusted.
    missed_purges: bool,
    /// The last position in a stream of purges whose purge is written down, or was asked to be.
    position: Option<u64>,
}

impl Log {
    /// Opens the folder, or tries again later.
    pub(super) fn open(shared: Arc<Shared>) -> Self {
        let mut log = Self {
            shared,
            folder: None,
            written: Vec::new(),
            next_number: 1,
            settled_at: Instant::now(),
            retry_at: None,
            pause: PAUSE_MIN,
            late: Vec::new(),
            missed_purges: false,
            position: None,
        };
        log.attach();
        log
    }

    /// Works until nobody can send jobs any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let wait = self.retry_at.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()).min(IDLE));
            match jobs.recv_timeout(wait) {
                Ok(job) => {
                    self.handle(job);
                    while let Ok(job) = jobs.try_recv() {
                        self.handle(job);
                        self.write_purges();
                        // There may be jobs for ever.
                        if self.settled_at.elapsed() >= IDLE {
                            self.settle();
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.settle();
        }
        self.settle();
        self.seal();
    }

    /// Writes what waits, and tries again what failed when its time has come.
    fn settle(&mut self) {
        self.settled_at = Instant::now();
        self.write_purges();
        self.write_forgets();
        self.flush();
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            if self.folder.is_none() {
                self.attach();
            }
            // Whether the disk takes anything again is seen at once, and not with the next object.
            if self.folder.is_some() && self.active(0, 0).is_some() {
                self.flush();
            }
        }
    }

    fn attach(&mut self) {
        match self.try_attach() {
            Ok(()) => {
                self.late.clear();
                self.shared.is_known.store(1, Ordering::Release);
                self.shared.counters.is_up.set(1);
                self.pause = PAUSE_MIN;
                self.note_bytes();
            }
            Err(error) => self.fail("cannot be used", &error),
        }
    }

    /// Tells how much the folder takes.
    fn note_bytes(&self) {
        let bytes = self.folder.as_ref().map_or(0, |folder| folder.sizes.values().sum());
        self.shared.counters.bytes.set(bytes);
    }

    fn try_attach(&mut self) -> Result<(), DiskError> {
        let shared = Arc::clone(&self.shared);
        let path = &shared.params.path;
        std::fs::create_dir_all(path)?;
        let lock = File::create(path.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
        let past = journal::read(path)?;
        let is_damaged = past == Past::Damaged;
        if is_damaged {
            tracing::warn!(path = %path.display(), "store: the journal of purges is damaged, so everything is forgotten");
        }
        let Past::Notes(notes) = past else {
            // Without the purges of earlier processes, nothing of theirs can be told good from purged.
            return self.begin_anew(lock);
        };
        if self.missed_purges {
            return self.begin_anew(lock);
        }
        for note in &notes {
            match note {
                Note::Purge(numbered) => shared.base.purges.restore(numbered),
                Note::Position(position) => {
                    shared.base.restore_position(*position);
                }
            }
        }
        self.pass(&notes);
        // A purge that was made before these were known may have a lower number than they have. Those that come now have higher ones.
        self.write_purges();
        if self.missed_purges {
            return self.begin_anew(lock);
        }
        let found = recover::recover(path, &shared.index, &shared.base.hasher)?;
        shared.base.skip_versions(found.version_max);
        // What was stored while nothing could be read here is newer than what is here.
        for (hash, version) in shared.base.memory.versions() {
            shared.forget(shared.index.supersede(hash, version));
        }
        self.purge_late(&notes);
        let mut sizes = BTreeMap::new();
        let mut segments = shared.segments.write();
        for (segment, bytes) in found.segments {
            sizes.insert(segment.number, bytes);
            segments.insert(segment.number, Arc::new(segment));
        }
        drop(segments);
        let journal = Journal::rewrite(path, self.notes())?;
        self.next_number = self.next_number.max(found.number_max + 1);
        self.folder = Some(Folder { _lock: lock, journal, active: None, sizes });
        self.make_room(0);
        tracing::info!(path = %path.display(), objects = shared.index.count(), "store: the disk tier is ready");
        Ok(())
    }

    /// Uses the folder as if it were empty.
    fn begin_anew(&mut self, lock: File) -> Result<(), DiskError> {
        let shared = Arc::clone(&self.shared);
        let path = &shared.params.path;
        let number_max = super::segment::list(path)?.last().map_or(0, |(number, _)| *number);
        self.next_number = self.next_number.max(number_max + 1);
        if !recover::wipe(path) {
            return Err(io::Error::other("old segments cannot be removed").into());
        }
        let journal = Journal::rewrite(path, self.notes())?;
        self.missed_purges = false;
        self.folder = Some(Folder { _lock: lock, journal, active: None, sizes: BTreeMap::new() });
        Ok(())
    }

    /// All that the journal has to hold.
    fn notes(&self) -> impl Iterator<Item = Note> {
        let purges = self.shared.base.purges.snapshot().map(Note::Purge);
        purges.chain(self.position.map(Note::Position))
    }

    fn handle(&mut self, job: Job) {
        self.shared.queued_bytes.fetch_sub(job.bytes(), Ordering::AcqRel);
        match job {
            Job::Store(object) => self.store(&object),
            Job::Chunk { flow, index, data } => self.chunk(&flow, index, &data),
            Job::Commit { flow, rest, chunks, known } => {
                self.commit(&flow, rest.as_ref(), chunks);
                // It is hidden as something that is known once it can be found as something that is there.
                self.flush();
                drop(known);
            }
            Job::Refresh(head, known) => {
                self.refresh(&head);
                if known.is_some() {
                    // As with what is committed.
                    self.flush();
                }
                drop(known);
            }
            Job::Wake => {}
            Job::Flush(done) => {
                self.settle();
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
        }
        if self.folder.as_ref().is_some_and(|folder| folder.active.as_ref().is_some_and(Active::is_due)) {
            self.flush();
        }
    }

    fn store(&mut self, object: &Object) {
        let identity = &object.identity;
        let header = Header {
            version: identity.version,
            since: identity.since.0,
            whole_bytes: object.body_bytes,
            ..Header::new(Kind::Object)
        };
        let head = head_of(identity, &object.meta, 0, Vec::new());
        let body: Vec<&[u8]> = object.chunks.iter().map(|chunk| &chunk[..]).collect();
        self.add_object(identity, header, &head, &body);
    }

    /// Adds a record that makes an object known.
    fn add_object(&mut self, identity: &Identity, header: Header, head: &[u8], body: &[&[u8]]) {
        let body_bytes: usize = body.iter().map(|part| part.len()).sum();
        let bytes = (head.len() + body_bytes + 128) as u64;
        let marks: Box<[u64]> = identity.marks.iter().map(|mark| mark.number()).collect();
        let Some(active) = self.active(bytes, identity.key.len() + 8 * marks.len()) else {
            self.shared.counters.writes_dropped.add(1);
            return self.shared.withdraw(identity.hash, identity.version);
        };
        let version = identity.version;
        let (offset, bytes) = active.add(header, head, body);
        active.note(IndexEntry { offset, bytes, version, key: identity.key.clone(), marks });
        let place = Place { version, segment: active.segment().number, offset, bytes };
        self.written.push(Written::Object { hash: identity.hash, place });
    }

    fn chunk(&mut self, flow: &Arc<Flow>, index: u32, data: &Bytes) {
        if !flow.growing.is_on_disk() {
            return;
        }
        let body_version = flow.identity.version;
        let Some(active) = self.active(data.len() as u64 + 128, 0) else {
            self.shared.counters.writes_dropped.add(1);
            return flow.growing.set_on_disk(false);
        };
        let header = Header { chunk: index, version: body_version, ..Header::new(Kind::Chunk) };
        let (offset, _) = active.add(header, &[], &[data]);
        let segment = Arc::clone(active.segment());
        let chunk = Chunk { segment, offset, bytes: data.len() as u32, body_version, index };
        self.written.push(Written::Chunk { flow: Arc::clone(flow), chunk });
    }

    fn commit(&mut self, flow: &Arc<Flow>, rest: Option<&Bytes>, chunks: u32) {
        let full = chunks - u32::from(rest.is_some());
        if let Some(rest) = rest {
            self.chunk(flow, full, rest);
        }
        // Its chunks have to be there before it says so.
        self.flush();
        let places = flow.growing.places();
        let identity = &flow.identity;
        if !flow.growing.is_on_disk() || places.len() != chunks as usize || !self.shared.has_all(&places) {
            return self.shared.withdraw(identity.hash, identity.version);
        }
        let places = places.iter().map(|chunk| ChunkPlace { segment: chunk.segment.number, offset: chunk.offset });
        let head = head_of(identity, &flow.meta, identity.version, places.collect());
        self.add_large(identity, flow.growing.body_bytes(), &head);
    }

    fn add_large(&mut self, identity: &Identity, body_bytes: u64, head: &[u8]) {
        let header = Header {
            version: identity.version,
            since: identity.since.0,
            whole_bytes: body_bytes,
            ..Header::new(Kind::Large)
        };
        self.add_object(identity, header, head, &[]);
    }

    fn refresh(&mut self, new: &DiskHead) {
        let identity = &new.identity;
        // The version before may be in the buffer.
        self.flush();
        let latest = self.shared.index.latest(identity.hash);
        let head = latest.and_then(|place| {
            let segment = self.shared.segment(place.segment)?;
            let record = super::read::record_at(&segment, &place).ok()?;
            let old = ObjectHead::decode(record.head()).filter(|old| old.body_version == new.body_version)?;
            Some(head_of(identity, &new.meta, old.body_version, old.chunks))
        });
        match head {
            Some(head) => self.add_large(identity, new.body_bytes, &head),
            None => self.shared.withdraw(identity.hash, identity.version),
        }
    }

    /// The latest segment with room for a record, in a new file if need be. `None` while the disk is down.
    fn active(&mut self, record_bytes: u64, entry_bytes: usize) -> Option<&mut Active> {
        if self.retry_at.is_some() {
            return None;
        }
        let has_room = |active: &Active| active.has_room(record_bytes, entry_bytes);
        if !self.folder.as_ref()?.active.as_ref().is_some_and(has_room) {
            self.seal();
            self.begin_segment();
        }
        self.folder.as_mut()?.active.as_mut().filter(|active| active.has_room(record_bytes, entry_bytes))
    }

    fn begin_segment(&mut self) {
        let bytes_max = self.shared.params.segment_bytes();
        self.make_room(bytes_max);
        let Some(folder) = self.folder.as_mut().filter(|_| self.retry_at.is_none()) else { return };
        match Active::create(&self.shared.params.path, self.next_number, bytes_max) {
            Ok(active) => {
                let segment = active.segment();
                folder.sizes.insert(segment.number, active.bytes());
                self.shared.segments.write().insert(segment.number, Arc::clone(segment));
                self.next_number += 1;
                folder.active = Some(active);
                self.shared.counters.is_up.set(1);
            }
            Err(error) => self.fail("takes no new segment", &error.into()),
        }
    }

    /// Writes the index of the latest segment, which is then as it will stay.
    fn seal(&mut self) {
        self.flush();
        let Some(folder) = self.folder.as_mut() else { return };
        if let Some(mut active) = folder.active.take() {
            let outcome = active.seal();
            folder.sizes.insert(active.segment().number, active.bytes());
            if let Err(error) = outcome {
                self.fail("does not take an index", &error.into());
            }
        }
    }

    /// Writes the buffer; then what is in it is known.
    fn flush(&mut self) {
        // What began after a purge must not be on disk without it: after a crash another one would take its number.
        if !self.written.is_empty() {
            self.write_purges();
        }
        let Some(folder) = self.folder.as_mut() else { return };
        let Some(active) = folder.active.as_mut() else { return };
        match active.flush() {
            Ok(bytes) => {
                folder.sizes.insert(active.segment().number, active.bytes());
                let counters = &self.shared.counters;
                counters.bytes_written.add(bytes);
                if bytes > 0 {
                    counters.is_up.set(1);
                    self.pause = PAUSE_MIN;
                }
                for written in self.written.drain(..) {
                    match written {
                        Written::Object { hash, place } => {
                            counters.writes.add(1);
                            self.shared.forget(self.shared.index.insert(hash, place));
                        }
                        Written::Chunk { flow, chunk } => flow.growing.placed(chunk),
                        Written::Forgotten(_) => {}
                    }
                }
                self.shared.base.make_memory_fit(self.shared.index.count());
                self.note_bytes();
            }
            Err(error) => self.fail("refuses a write", &error.into()),
        }
    }

    /// Goes on without the disk for a while.
    fn fail(&mut self, what: &str, error: &DiskError) {
        let counters = &self.shared.counters;
        counters.errors.add(1);
        let path = self.shared.params.path.display();
        if self.retry_at.is_none() {
            tracing::warn!(%path, %error, "store: the disk {what}; going on without it for {:?}", self.pause);
        }
        counters.is_up.set(0);
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.drop_written();
        let Some(folder) = self.folder.as_mut() else { return };
        if let Some(active) = folder.active.take() {
            // What was written before stays good; the next start looks at its records one by one.
            folder.sizes.insert(active.segment().number, active.segment().file_bytes().unwrap_or(active.bytes()));
        }
        // If the disk is full, it is this that makes room.
        if is_full(error) {
            self.remove_oldest();
        }
    }

    /// Removes the oldest segments until so many bytes more are within the bounds.
    fn make_room(&mut self, bytes: u64) {
        let most = self.shared.params.bytes;
        let places_max = self.shared.base.places_max();
        loop {
            let Some(folder) = &self.folder else { return };
            let is_too_much = folder.sizes.values().sum::<u64>() + bytes > most;
            if !is_too_much && self.shared.index.count() <= places_max || !self.remove_oldest() {
                return;
            }
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((number, _)) = self.folder.as_mut().and_then(|folder| folder.sizes.pop_first()) else { return false };
        let removed = self.shared.segments.write().remove(&number);
        self.shared.index.retain(|place| place.segment != number);
        removed.iter().for_each(|segment: &Arc<Segment>| segment.remove());
        self.shared.counters.segments_removed.add(1);
        self.note_bytes();
        true
    }
}

fn head_of(identity: &Identity, meta: &Bytes, body_version: u64, chunks: Vec<ChunkPlace>) -> Vec<u8> {
    let marks = identity.marks.iter().map(|mark| mark.number()).collect();
    ObjectHead { key: &identity.key, marks, meta, body_version, chunks }.encode()
}

/// Whether the disk has no room, or the file may not grow.
fn is_full(error: &DiskError) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error, DiskError::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}
