//! The threads that read: whole objects for those who wait, and chunks of larger ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use bytes::Bytes;

use super::format::{self, Header, Kind, ObjectHead};
use super::index::Place;
use super::segment::{Chunk, Segment};
use super::{DiskError, ReadJob, Shared, recover};
use crate::key::Mark;
use crate::object::{CHUNK_BYTES, Identity, Object};
use crate::pending::{READ_WAIT, Source};
use crate::purges::{Judgement, Token};
use crate::sync::{AtomicU64, Ordering};

/// A large object: its head in memory, its body on disk.
#[derive(Debug)]
pub(crate) struct DiskObject {
    pub(crate) identity: Identity,
    pub(crate) meta: Bytes,
    pub(crate) body_bytes: u64,
    /// The version that came with the body.
    pub(crate) body_version: u64,
    pub(crate) chunks: Arc<[Chunk]>,
}

/// What waits for a reader, and when it last came further: in milliseconds of a clock of its own.
#[derive(Debug)]
pub(crate) struct Reading {
    begun: Instant,
    waiting: AtomicU64,
    moved: AtomicU64,
}

impl Default for Reading {
    fn default() -> Self {
        Self { begun: Instant::now(), waiting: AtomicU64::new(0), moved: AtomicU64::new(0) }
    }
}

impl Reading {
    /// Whether something waits for it, and it has not come further for longer than anybody waits.
    pub(super) fn hangs(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
            && self.millis().saturating_sub(self.moved.load(Ordering::Acquire)) > READ_WAIT.as_millis() as u64
    }

    /// A job is about to be sent.
    pub(super) fn add(&self) {
        // Before it counts, or one who looks in between would take the pause before it for a wait.
        if self.waiting.load(Ordering::Acquire) == 0 {
            self.moved.store(self.millis(), Ordering::Release);
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// A job was not sent after all.
    pub(super) fn withdraw(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// A job is done.
    fn end(&self) {
        self.moved.store(self.millis(), Ordering::Release);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    fn millis(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

/// A record as it was read, whose checksums are right.
#[derive(Debug)]
pub(super) struct Owned {
    buffer: Vec<u8>,
    header: Header,
}

impl Owned {
    pub(super) fn head(&self) -> &[u8] {
        &self.buffer[format::HEADER_BYTES..][..self.header.head_bytes as usize]
    }

    fn body(&self) -> &[u8] {
        &self.buffer[format::HEADER_BYTES + self.header.head_bytes as usize..][..self.header.body_bytes as usize]
    }
}

/// Reads the record at a place.
pub(super) fn record_at(segment: &Segment, place: &Place) -> Result<Owned, DiskError> {
    let buffer = segment.read_at(u64::from(place.offset), place.bytes as usize)?;
    let header = format::read_record(&buffer, segment.secret)?.header;
    if header.version != place.version {
        return Err(DiskError::Corrupt("version"));
    }
    Ok(Owned { buffer, header })
}

/// Works until nobody can ask any more.
pub(super) fn run(shared: &Shared, number: usize, jobs: &Receiver<ReadJob>) {
    while let Ok(job) = jobs.recv() {
        attend(shared, number, job, load);
    }
}

/// Does a job. One that panics costs its own answer: whoever waits hears of its end, and the next one is done.
fn attend(
    shared: &Shared,
    number: usize,
    job: ReadJob,
    load: impl FnOnce(&Shared, &[u8], u64, &Place) -> Option<Source>,
) {
    match job {
        ReadJob::Load { key, hash, pending } => {
            let load = || shared.index.find(hash).and_then(|place| load(shared, &key, hash, &place));
            let source = catch_unwind(AssertUnwindSafe(load)).unwrap_or_default();
            shared.base.memory.end_of(hash, &pending, source);
        }
        ReadJob::Chunk { chunk, done } => {
            let outcome = catch_unwind(|| chunk.read()).unwrap_or(Err(DiskError::Gone));
            match &outcome {
                Ok(data) => shared.counters.bytes_read.add(data.len() as u64),
                Err(error) => shared.note(error),
            }
            // Whoever asked may have gone.
            let _ = done.send(outcome);
        }
    }
    shared.readings[number].end();
}

/// Reads an object; `None` when it cannot be had, and then it is known no more.
fn load(shared: &Shared, key: &[u8], hash: u64, place: &Place) -> Option<Source> {
    let outcome = shared.segment(place.segment).ok_or(DiskError::Gone);
    let outcome = outcome.and_then(|segment| record_at(&segment, place));
    let source = match outcome.and_then(|record| source_of(shared, key, hash, &record)) {
        Ok(source) => source,
        Err(error) => {
            shared.note(&error);
            None
        }
    };
    match source {
        Some(_) => shared.counters.hits.add(1),
        None => shared.index.remove(hash, place),
    }
    source
}

/// What a record holds, in memory where it is small. `None` when it was purged, or is of another key.
fn source_of(shared: &Shared, key: &[u8], hash: u64, record: &Owned) -> Result<Option<Source>, DiskError> {
    let head = ObjectHead::decode(record.head()).ok_or(DiskError::Corrupt("head"))?;
    if head.key != key {
        return Ok(None);
    }
    let header = &record.header;
    let marks: Vec<Mark> = head.marks.iter().map(|mark| Mark::from_number(*mark)).collect();
    let marks = shared.base.filter.note(marks);
    let (judgement, checked) = shared.base.purges.judge(header.since, key, &marks);
    if judgement == Judgement::Gone {
        return Ok(None);
    }
    let identity = Identity { key: key.into(), hash, marks, since: Token(header.since), version: header.version };
    shared.counters.bytes_read.add(record.buffer.len() as u64);
    let (meta, body_bytes) = (Bytes::copy_from_slice(head.meta), header.whole_bytes);
    match header.kind {
        Kind::Object if record.body().len() as u64 == body_bytes => {
            let (chunks, body_version) = (shared.base.pool.cut(record.body()), header.version);
            let object = Arc::new(Object { identity, meta, chunks, body_bytes, body_version });
            Ok(keep(shared, &object, Token(checked), judgement.stale_since()).then_some(Source::Whole(object)))
        }
        Kind::Large => {
            let chunks = chunks_of(shared, &head, body_bytes)?;
            let body_version = head.body_version;
            Ok(Some(Source::OnDisk(Arc::new(DiskObject { identity, meta, body_bytes, body_version, chunks }))))
        }
        _ => Err(DiskError::Corrupt("kind")),
    }
}

/// Puts what was read into memory. `false` when it was removed or replaced while it was read.
pub(super) fn keep(shared: &Shared, object: &Arc<Object>, checked: Token, stale: Option<u32>) -> bool {
    let Identity { hash, version, .. } = object.identity;
    shared.base.memory.insert(Arc::clone(object), checked, stale);
    // Whoever removes or replaces it changes the index first and memory then: one of the two sees what the other did.
    let is_known = shared.index.find(hash).is_some_and(|place| place.version == version);
    if !is_known {
        shared.base.memory.remove_older(&object.identity);
    }
    is_known
}

/// The chunks of a large object, if all of them are there still. Their segments are held, so that they can be read to the end
/// whatever is removed meanwhile.
fn chunks_of(shared: &Shared, head: &ObjectHead<'_>, body_bytes: u64) -> Result<Arc<[Chunk]>, DiskError> {
    if head.chunks.len() as u64 != body_bytes.div_ceil(CHUNK_BYTES as u64) {
        return Err(DiskError::Corrupt("list of chunks"));
    }
    let segments = shared.segments.read();
    if !recover::all_there(&head.chunks, |number| segments.contains_key(&number)) {
        return Err(DiskError::Gone);
    }
    let places = head.chunks.iter().zip(0_u32..);
    let chunks = places.map(|(place, index)| {
        let segment = segments.get(&place.segment).cloned().ok_or(DiskError::Gone)?;
        let bytes = (body_bytes - u64::from(index) * CHUNK_BYTES as u64).min(CHUNK_BYTES as u64) as u32;
        Ok(Chunk { segment, offset: place.offset, bytes, body_version: head.body_version, index })
    });
    chunks.collect()
}

impl Shared {
    fn note(&self, error: &DiskError) {
        match error {
            DiskError::Io(_) => self.counters.errors.add(1),
            DiskError::Corrupt(what) => {
                self.counters.corrupt.add(1);
                tracing::warn!(path = %self.params.path.display(), what, "store: a record on disk is damaged");
            }
            DiskError::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Base;
    use crate::params::DiskParams;
    use crate::pending::{Pending, Stage};
    use crate::purges::Purges;

    #[test]
    fn a_read_that_panics_ends_and_holds_up_nothing() {
        loom::model(|| {
            let base = Arc::new(Base::new(1 << 20, Purges::new(4, 4)));
            let shared = Shared::new(base, DiskParams::new("/nowhere", 16 << 20));
            shared.index.restore(7, Place { version: 1, segment: 1, offset: 0, bytes: 1 });
            let pending = Arc::new(Pending::read());
            shared.readings[0].add();
            let job = ReadJob::Load { key: b"k"[..].into(), hash: 7, pending: Arc::clone(&pending) };
            attend(&shared, 0, job, |_, _, _, _| panic!("a mistake of its own"));
            assert_eq!(shared.readings[0].waiting.load(Ordering::Acquire), 0, "nothing waits");
            assert!(matches!(pending.stage(), Stage::Nothing), "whoever waited goes on");
        });
    }
}
