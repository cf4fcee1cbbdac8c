//! Storing: who leads a fetch, what it brings, and what becomes of that.
//!
//! A leader is alone with its key. It begins before anything is known ([`Lead`]), learns what comes ([`Lead::start`]) or that it is not
//! for others ([`Lead::decline`]), adds the body as it comes ([`Writer::write`]), and finishes. Whoever waits is told of each step,
//! and of a leader that was dropped on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::disk::{Disk, INLINE_BYTES_MAX, Job};
use crate::growing::Growing;
use crate::key::Key;
use crate::object::{CHUNK_BYTES, Head, Identity, Object};
use crate::pending::{Joined, Pending, Source, Stage};
use crate::purges::{Judgement, Token};
use crate::reader::{Fetch, Follower, Kept};
use crate::seats::Wait;
use crate::shown::{Known, Shown};
use crate::store::Inner;

/// Chunks that a body keeps in memory when it is not kept there whole.
const WINDOW_CHUNKS: usize = 4;
/// The same while fetches have more than their part of memory.
const WINDOW_CHUNKS_CROWDED: usize = 1;
/// A reader for whom others have to wait has to take so much on average, not counting a first wait.
const READER_BYTES_PER_SEC_MIN: u64 = 64 * 1024;
/// Largest sizes of what comes with a body. All of it has to fit in one record of the smallest segment.
const KEY_BYTES_MAX: usize = 32 * 1024;
const META_BYTES_MAX: usize = 256 * 1024;
const MARKS_MAX: usize = 4096;

/// A body that grows, with what came before it.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) identity: Identity,
    pub(crate) meta: Bytes,
    pub(crate) body_bytes: Option<u64>,
    /// The version that came with the body, of which this may be one that was found to be good.
    pub(crate) body_version: u64,
    pub(crate) growing: Arc<Growing>,
}

/// Why a fetch is not stored. Those who wait go on as if it had been declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// As much is being fetched as there is memory for.
    #[error("too much is being fetched at once")]
    Busy,
    /// What comes with the body is too large.
    #[error("{what} of {size} are more than the {max} that can be stored")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        max: usize,
    },
}

/// Why a body is not stored, though it came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has {bytes} bytes, and {announced} were announced")]
pub struct LengthError {
    /// Bytes that came.
    pub bytes: u64,
    /// Bytes that were announced.
    pub announced: u64,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whether it was given to the memory tier.
    pub in_memory: bool,
    /// Whether it is on its way to the disk tier.
    pub on_disk: bool,
}

/// The right to fetch a key, which one has at a time. Others wait until it is started, declined, or dropped.
pub struct Lead {
    inner: Arc<Inner>,
    key: Box<[u8]>,
    since: Token,
    shown: Shown,
}

impl Lead {
    pub(crate) fn new(inner: Arc<Inner>, key: Key<'_>, pending: Arc<Pending>) -> Self {
        let since = pending.since();
        let shown = Shown::new(&inner.base, pending, key.hash());
        Self { inner, key: key.bytes().into(), since, shown }
    }

    /// What was purged when this began: what is fetched now is good only if nothing of it is purged from here on.
    pub fn token(&self) -> Token {
        self.since
    }

    /// Waits for what comes of this, and of nothing else: a purge may have others begin anew under the same key.
    pub fn follow(&self) -> Follower {
        let pending = Arc::clone(&self.shown.pending);
        let seat = pending.growing().enter();
        Follower::new(Arc::clone(&self.inner), Joined { pending, seat })
    }

    /// What this is told apart by.
    pub fn fetch(&self) -> Fetch {
        Fetch(Arc::downgrade(&self.shown.pending))
    }

    /// Says what comes. Those who wait read along.
    ///
    /// # Errors
    /// When it cannot be stored. Then those who wait are told that it is not for them.
    pub fn start(self, head: Head) -> Result<Writer, StartError> {
        let key = self.key.clone();
        self.start_as(&key, head)
    }

    /// Says what comes, and that it is to be found under another key, such as that of a variant. Those who wait for the first one
    /// are shown it too, and judge by what came with it whether it suits them.
    ///
    /// # Errors
    /// As [`Lead::start`].
    pub fn start_as(self, key: &[u8], head: Head) -> Result<Writer, StartError> {
        let Self { inner, since, mut shown, .. } = self;
        let fixed = (CHUNK_BYTES + key.len() + head.meta.len()) as u64;
        let outcome = check_sizes(key, &head).and_then(|()| match inner.base.fill(fixed) {
            true => Ok(()),
            false => {
                inner.base.unfill(fixed);
                inner.base.fills_refused.add(1);
                Err(StartError::Busy)
            }
        });
        if let Err(error) = outcome {
            shown.pending.set(Stage::Declined(0));
            return Err(error);
        }
        let stored = inner.base.hasher.key(key);
        let identity = Identity {
            key: key.into(),
            hash: stored.hash(),
            marks: inner.base.filter.note(head.marks),
            since,
            version: inner.base.next_version(),
        };
        let meta = Bytes::copy_from_slice(&head.meta);
        let growing = shown.pending.growing();
        let (body_bytes, body_version) = (head.body_bytes, identity.version);
        let flow = Arc::new(Flow { identity, meta, body_bytes, body_version, growing });
        shown.show_as(stored.hash());
        shown.pending.set(Stage::Started(Source::Growing(Arc::clone(&flow))));
        let largest = inner.disk.as_ref().map_or(0, |_| inner.disk_object_bytes_max);
        let goes_to_disk = head.body_bytes.is_none_or(|bytes| bytes <= largest) && largest > 0;
        let disk = if goes_to_disk { OnDisk::NotYet } else { OnDisk::Never };
        Ok(Writer { shown: Some(shown), inner, flow, counted: fixed, chunks: 0, disk, is_kept: true })
    }

    /// Ends with what is stored already, of which the fetch has found that it is good: what comes with it is replaced, as by
    /// [`crate::Store::refresh`]. Those who wait have it at once, and so has who comes before a disk has written it, however long that takes.
    /// Says whether there is a new version.
    pub fn refresh(self, kept: &Kept, head: Head) -> bool {
        let Self { inner, since, shown, .. } = self;
        inner.refresh(kept, since, head, Some(shown))
    }

    /// Says that what comes is not for others. They fetch for themselves, side by side, and are told a number whose meaning is the
    /// owner's.
    pub fn decline(self, note: u32) {
        self.shown.pending.set(Stage::Declined(note));
    }
}

pub(crate) fn check_sizes(key: &[u8], head: &Head) -> Result<(), StartError> {
    let check = |what, size, max| if size > max { Err(StartError::TooLarge { what, size, max }) } else { Ok(()) };
    check("bytes of key", key.len(), KEY_BYTES_MAX)?;
    check("bytes of metadata", head.meta.len(), META_BYTES_MAX)?;
    check("marks", head.marks.len(), MARKS_MAX)
}

/// Whether chunks go to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
    /// It may turn out small enough to be written at its end.
    NotYet,
    Chunks,
    Never,
}

/// A body that comes. Dropped before [`Writer::finish`], it is broken off, for those who read along too.
pub struct Writer {
    shown: Option<Shown>,
    inner: Arc<Inner>,
    flow: Arc<Flow>,
    /// Bytes that are counted as being fetched.
    counted: u64,
    /// Full chunks so far.
    chunks: u32,
    disk: OnDisk,
    /// Whether all of it is kept in memory.
    is_kept: bool,
}

impl Writer {
    /// Adds to the body, at the pace of those who read along, who have it at once. Where there is no place for what they have not read,
    /// this waits until they have: for each of them as long as [`crate::StoreParams::reader_wait`] at a time, and for nobody who has
    /// gone. Who does not move is cut, and the others go on; so is one for whom they have waited that long and longer than 64 KiB a second
    /// would take.
    ///
    /// It needs a runtime with timers. Dropped half-way, some of it has been added: the writer is to be dropped too then. A task that reads
    /// along itself has to read elsewhere than behind this.
    pub async fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            self.wait_for_readers().await;
            data = self.add(data, false);
        }
    }

    /// Adds to the body at once. What does not stay in memory is given up without regard to those who have not read it: this is for
    /// bodies that fit in, and for those who cannot wait.
    pub fn append(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            data = self.add(data, true);
        }
    }

    /// Adds as much as fits in the current chunk, and gives what is left.
    fn add<'d>(&mut self, data: &'d [u8], cuts: bool) -> &'d [u8] {
        let (piece, rest) = data.split_at(self.flow.growing.room().min(data.len()));
        self.counted += piece.len() as u64;
        if !self.inner.base.fill(piece.len() as u64) {
            self.is_kept = false;
        }
        let expected = if self.is_kept { self.expected() } else { 0 };
        if let Some(chunk) = self.flow.growing.append(piece, expected, &self.inner.base.pool) {
            self.chunks += 1;
            self.chunk_is_full(chunk);
        }
        self.place();
        self.give_up(cuts);
        rest
    }

    /// Bytes that are still to come, of a body that memory keeps as far as that is known.
    fn expected(&self) -> u64 {
        let announced = self.flow.body_bytes.filter(|bytes| *bytes <= self.inner.base.memory.object_bytes_max());
        announced.unwrap_or(0).saturating_sub(self.body_bytes())
    }

    /// Waits until what has to be given up is needed no more.
    async fn wait_for_readers(&mut self) {
        while !self.is_kept && self.flow.growing.is_needed(self.window()) {
            let (growing, window) = (Arc::clone(&self.flow.growing), self.window());
            let cost_max =
                self.inner.reader_wait + Duration::from_secs(growing.body_bytes() / READER_BYTES_PER_SEC_MIN);
            growing.set_wait(Some(Wait { since: Instant::now(), cost_max }));
            if tokio::time::timeout(self.inner.reader_wait, growing.passed(window)).await.is_err() {
                self.inner.base.readers_cut.add(growing.cut(window) as u64);
            }
            self.inner.base.readers_cut.add(growing.set_wait(None) as u64);
            self.give_up(false);
        }
    }

    fn window(&self) -> usize {
        if self.inner.base.is_crowded() { WINDOW_CHUNKS_CROWDED } else { WINDOW_CHUNKS }
    }

    /// Gives up what does not stay in memory.
    fn give_up(&mut self, cuts: bool) {
        if self.is_kept {
            return;
        }
        let (given_up, cut) = self.flow.growing.keep_latest(self.window(), cuts);
        self.inner.base.readers_cut.add(cut as u64);
        self.inner.base.unfill(given_up);
        self.counted -= given_up;
    }

    /// Goes on for those who read along alone: the body is not stored, and nobody who comes now finds it, nor what it replaces.
    pub fn forgo(&mut self) {
        let Some(shown) = self.shown.take() else { return };
        self.is_kept = false;
        self.leave_disk();
        self.forget_older();
        drop(shown);
    }

    fn forget_older(&self) {
        let identity = &self.flow.identity;
        if let Some(disk) = &self.inner.disk {
            disk.forget_older(identity.hash, identity.version);
        }
        self.inner.base.memory.remove_older(identity);
    }

    /// Whether anybody reads along, or waits to.
    pub fn has_readers(&self) -> bool {
        self.flow.growing.has_readers()
    }

    /// Whether the body may still be stored: it is not given up by [`Writer::forgo`].
    pub fn is_stored(&self) -> bool {
        self.shown.is_some()
    }

    /// Bytes so far.
    pub fn body_bytes(&self) -> u64 {
        self.flow.growing.body_bytes()
    }

    fn chunk_is_full(&mut self, chunk: Bytes) {
        self.send(self.chunks - 1, chunk);
        let expected = self.flow.body_bytes.unwrap_or(0).max(self.body_bytes());
        self.is_kept &= expected <= self.inner.base.memory.object_bytes_max();
    }

    /// Decides where the body goes, once more of it is known.
    fn place(&mut self) {
        let so_far = self.body_bytes();
        if self.disk == OnDisk::NotYet && self.flow.body_bytes.unwrap_or(0).max(so_far) > INLINE_BYTES_MAX {
            match self.flow.growing.full_chunks() {
                Some(before) => {
                    self.disk = OnDisk::Chunks;
                    self.flow.growing.set_on_disk(true);
                    for (chunk, index) in before.into_iter().zip(0..) {
                        self.send(index, chunk);
                    }
                }
                // Its beginning was given up, and what is on disk is there from the first chunk on.
                None => self.disk = OnDisk::Never,
            }
        }
        self.heed_disk();
        // Nobody who is behind could read what is given up for a disk that hangs.
        let is_beyond =
            || so_far > self.inner.disk_object_bytes_max || self.inner.disk.as_ref().is_some_and(Disk::hangs);
        if self.disk == OnDisk::Chunks && is_beyond() {
            self.leave_disk();
        }
    }

    /// Sends the disk no more chunks once it has refused one: what follows is given up without it.
    fn heed_disk(&mut self) {
        if self.disk == OnDisk::Chunks && !self.flow.growing.is_on_disk() {
            self.disk = OnDisk::Never;
        }
    }

    fn send(&mut self, index: u32, data: Bytes) {
        self.heed_disk();
        let Some(disk) = self.inner.disk.as_ref().filter(|_| self.disk == OnDisk::Chunks) else { return };
        if !disk.send(Job::Chunk { flow: Arc::clone(&self.flow), index, data }) {
            self.leave_disk();
        }
    }

    fn leave_disk(&mut self) {
        self.disk = OnDisk::Never;
        self.flow.growing.set_on_disk(false);
    }

    /// Ends the body as whole, and stores it. What was purged meanwhile is not stored, and those who read along have it all the same:
    /// they asked before the purge.
    ///
    /// # Errors
    /// When the body is not as long as was announced. Then it is broken off.
    pub fn finish(mut self) -> Result<Stored, LengthError> {
        let bytes = self.body_bytes();
        if let Some(announced) = self.flow.body_bytes.filter(|announced| *announced != bytes) {
            return Err(LengthError { bytes, announced });
        }
        let (whole, rest) = self.flow.growing.finish();
        let Some(shown) = self.shown.take() else { return Ok(Stored { in_memory: false, on_disk: false }) };
        let identity = &self.flow.identity;
        let (judgement, checked) = self.inner.base.purges.judge(identity.since.0, &identity.key, &identity.marks);
        if judgement == Judgement::Gone {
            return Ok(Stored { in_memory: false, on_disk: false });
        }
        if self.inner.base.memory.has_newer(identity) {
            return Ok(Stored { in_memory: false, on_disk: false });
        }
        let object = whole.map(|chunks| Arc::new(self.object(chunks, bytes)));
        // A body whose beginning is neither in memory nor on disk is not to be shown. What the disk refuses from here on hides nothing: only a
        // writer gives up chunks.
        self.heed_disk();
        Ok(self.store(object, rest, (Token(checked), judgement.stale_since()), shown))
    }

    fn object(&self, chunks: Box<[Bytes]>, body_bytes: u64) -> Object {
        let Identity { key, hash, marks, since, version } = &self.flow.identity;
        let identity =
            Identity { key: key.clone(), hash: *hash, marks: marks.clone(), since: *since, version: *version };
        let body_version = *version;
        Object { identity, meta: self.flow.meta.clone(), chunks, body_bytes, body_version }
    }

    /// Stores it where it can be. What a disk has yet to write stands beside the fetches that come after this one.
    fn store(
        &self,
        object: Option<Arc<Object>>,
        rest: Option<Bytes>,
        judged: (Token, Option<u32>),
        shown: Shown,
    ) -> Stored {
        let identity = &self.flow.identity;
        match (self.disk, &self.inner.disk, object) {
            (OnDisk::NotYet, Some(disk), Some(object)) => {
                shown.pending.set(Stage::Started(Source::Whole(Arc::clone(&object))));
                self.inner.keep(object, judged, Some(disk))
            }
            (OnDisk::Chunks, Some(disk), object) => {
                let unwritten = Source::Unwritten(Arc::clone(&self.flow));
                let known = Known::new(&self.inner.base, &unwritten);
                disk.announce(identity);
                let in_memory = self.keep_in_memory(object.clone(), judged);
                let whole = object.filter(|_| in_memory).map(Source::Whole);
                shown.found(whole.unwrap_or(unwritten));
                let chunks = self.chunks + u32::from(rest.is_some());
                let job = Job::Commit { flow: Arc::clone(&self.flow), rest, chunks, known };
                Stored { in_memory, on_disk: disk.send_last(identity.hash, identity.version, job) }
            }
            (_, disk, object) => {
                if let Some(object) = &object {
                    shown.pending.set(Stage::Started(Source::Whole(Arc::clone(object))));
                }
                disk.iter().for_each(|disk| disk.forget_older(identity.hash, identity.version));
                Stored { in_memory: self.keep_in_memory(object, judged), on_disk: false }
            }
        }
    }

    /// Keeps in memory what is there whole; if it is not, nothing older either. Says whether it is there.
    fn keep_in_memory(&self, object: Option<Arc<Object>>, judged: (Token, Option<u32>)) -> bool {
        match object {
            Some(object) => self.inner.keep(object, judged, None).in_memory,
            None => {
                self.inner.base.memory.remove_older(&self.flow.identity);
                false
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without effect once it is finished.
        self.flow.growing.abort();
        self.inner.base.unfill(self.counted);
    }
}
