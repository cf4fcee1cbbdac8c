//! Reading: what a lookup gives, and how what others fetch, or what is on disk, is read along.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::{Chunk, DiskError, DiskObject};
use crate::fill::Lead;
use crate::growing::{Seat, Step};
use crate::key::Mark;
use crate::object::{CHUNK_BYTES, Object};
use crate::pending::{Joined, Pending, Source, Stage};
use crate::purges::Judgement;
use crate::store::Inner;

/// How long a piece of a body is waited for that a disk is to give. Its reader has the head already, and cannot have the rest from elsewhere, so that
/// this is longer than the wait for a head; a disk that needs more than this for 64 KiB gives nobody a body.
const PIECE_WAIT: Duration = Duration::from_secs(10);

/// What is known of a key at once.
pub enum Lookup {
    /// It is in memory, whole.
    Hit(Hit),
    /// It is being fetched, or read from disk.
    Coming(Follower),
    /// It is not there.
    Miss,
}

/// Who fetches a key.
pub enum Begin {
    /// Whoever asked.
    Lead(Lead),
    /// Somebody else.
    Follow(Follower),
}

/// An entry in memory.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The entry. Cloning the reference is all that a hit costs beside finding it.
    pub object: Arc<Object>,
    /// Since when it is stale, as the soft purge has it that made it so ([`crate::Purge::at`]).
    pub stale_since: Option<u32>,
}

impl Hit {
    /// Whether a soft purge made it stale.
    pub fn is_stale(&self) -> bool {
        self.stale_since.is_some()
    }

    /// What a new version can be made of by [`crate::Store::refresh`].
    pub fn kept(&self) -> Kept {
        Kept(Source::Whole(Arc::clone(&self.object)))
    }
}

/// An entry whose body can be kept when only what comes with it changes.
#[derive(Clone, Debug)]
pub struct Kept(pub(crate) Source);

impl Kept {
    /// Higher for what was stored later, of all keys.
    pub fn version(&self) -> u64 {
        self.0.identity().version
    }
}

/// Waits for what somebody else fetches.
pub struct Follower {
    inner: Arc<Inner>,
    pending: Arc<Pending>,
    seat: Option<Seat>,
}

/// A fetch, told apart from all others, also from later ones of the same key.
#[derive(Clone, Debug)]
pub struct Fetch(pub(crate) Weak<Pending>);

/// What became of that.
pub enum Outcome {
    /// It is in memory, whole.
    Hit(Hit),
    /// What comes with the body is here, and the body can be read as it comes.
    Stream(Reader),
    /// It is not for others: fetch it, side by side with everybody else who wants it. The number is what [`Lead::decline`] was told, or 0
    /// where it could not be stored.
    Declined(u32),
    /// Nothing came of it, be it that its leader has gone, that it was purged, or that it could not be read from disk. Look it up again.
    Nothing,
}

impl Follower {
    pub(crate) fn new(inner: Arc<Inner>, joined: Joined) -> Self {
        let Joined { pending, seat } = joined;
        Self { inner, pending, seat }
    }

    /// Whether it is this fetch that is waited for.
    pub fn is_of(&self, fetch: &Fetch) -> bool {
        std::ptr::eq(fetch.0.as_ptr(), Arc::as_ptr(&self.pending))
    }

    /// When a read from disk is given up: who waits longer does so in vain, and who comes later does not follow it. `None` where it is fetched.
    pub fn given_up_at(&self) -> Option<Instant> {
        self.pending.given_up_at()
    }

    /// Waits until what comes with the body is here. It may be dropped at any time; how long to wait is the caller's to say.
    pub async fn head(self) -> Outcome {
        let source = match self.pending.outcome().await {
            Stage::Started(source) => source,
            Stage::Declined(note) => return Outcome::Declined(note),
            Stage::Waiting | Stage::Nothing => return Outcome::Nothing,
        };
        let judgement = source.judge(&self.inner.base.purges);
        if judgement == Judgement::Gone {
            return Outcome::Nothing;
        }
        let stale_since = judgement.stale_since();
        match source {
            Source::Whole(object) => Outcome::Hit(Hit { object, stale_since }),
            Source::Growing(_) => Outcome::Stream(Reader::new(self.inner, source, stale_since, self.seat)),
            Source::Unwritten(_) | Source::OnDisk(_) => {
                Outcome::Stream(Reader::new(self.inner, source, stale_since, None))
            }
        }
    }
}

/// Why a body cannot be read to its end. What was read before is part of it; the rest has to be had elsewhere, or the answer broken
/// off.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Whoever fetched it did not finish.
    #[error("the fetch broke off")]
    Broken,
    /// It was read too slowly: what comes next is gone from memory, and not on disk. [`crate::Writer::write`] waits before it gives up what
    /// is being read.
    #[error("the reader fell too far behind the fetch")]
    Lagged,
    /// The disk did not give it.
    #[error("the disk tier cannot read the body: {0}")]
    Disk(String),
    /// Too much is being asked of the disk: what is there is good, and can be read later.
    #[error("too many reads wait for the disk tier")]
    Busy,
    /// The disk has not answered in time: what is there may be good, and can be read when it does.
    #[error("the disk tier has not given a piece of the body within {} s", PIECE_WAIT.as_secs())]
    Slow,
}

/// Reads a body, from whatever it is in.
pub struct Reader {
    inner: Arc<Inner>,
    source: Source,
    stale_since: Option<u32>,
    at: u64,
    /// In a body that grows.
    seat: Option<Seat>,
    /// The chunk behind the one that was read last, which is being read from disk already.
    ahead: Option<(u64, oneshot::Receiver<Result<Bytes, DiskError>>)>,
}

impl Reader {
    fn new(inner: Arc<Inner>, source: Source, stale_since: Option<u32>, seat: Option<Seat>) -> Self {
        Self { inner, source, stale_since, at: 0, seat, ahead: None }
    }

    /// What the owner stored with the body.
    pub fn meta(&self) -> &Bytes {
        match &self.source {
            Source::Whole(object) => &object.meta,
            Source::Growing(flow) | Source::Unwritten(flow) => &flow.meta,
            Source::OnDisk(object) => &object.meta,
        }
    }

    /// The key that it is stored under, which may be another than was asked for: see [`Lead::start_as`].
    pub fn key(&self) -> &[u8] {
        &self.source.identity().key
    }

    /// The marks that it carries.
    pub fn marks(&self) -> &[Mark] {
        &self.source.identity().marks
    }

    /// Bytes of the body, where they are known.
    pub fn body_bytes(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(object) => Some(object.body_bytes),
            Source::Growing(flow) => flow.body_bytes,
            Source::Unwritten(flow) => Some(flow.growing.body_bytes()),
            Source::OnDisk(object) => Some(object.body_bytes),
        }
    }

    /// Since when it is stale, as the soft purge has it that made it so ([`crate::Purge::at`]).
    pub fn stale_since(&self) -> Option<u32> {
        self.stale_since
    }

    /// Whether it was still being fetched when it was found.
    pub fn is_growing(&self) -> bool {
        self.source.is_growing()
    }

    /// What a new version can be made of by [`crate::Store::refresh`].
    pub fn kept(&self) -> Kept {
        Kept(self.source.clone())
    }

    /// Goes to a place in the body, which may be beyond what has come so far. What comes before it may be given up from then on.
    pub fn seek(&mut self, at: u64) {
        self.go_to(at);
        self.ahead = None;
    }

    fn go_to(&mut self, at: u64) {
        self.at = at;
        if let Some(seat) = &self.seat {
            seat.move_to(at);
        }
    }

    /// The next bytes, at most one chunk; `None` at the end. It may be dropped and called again. It needs a runtime with timers.
    ///
    /// # Errors
    /// When the rest cannot be had.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let step = match &self.source {
            Source::Whole(object) => whole_step(object, self.at),
            Source::Growing(flow) | Source::Unwritten(flow) => flow.growing.next(self.at).await,
            Source::OnDisk(object) => disk_step(object, self.at),
        };
        let bytes = match step {
            Step::Bytes(bytes) => bytes,
            Step::OnDisk(chunk) => {
                let bytes = self.read(chunk).await?;
                let within = (self.at % CHUNK_BYTES as u64) as usize;
                bytes.slice(within.min(bytes.len())..)
            }
            Step::End | Step::Later => return Ok(None),
            Step::Broken => return Err(ReadError::Broken),
            Step::Lagged => return Err(ReadError::Lagged),
        };
        self.go_to(self.at + bytes.len() as u64);
        self.read_ahead();
        Ok(Some(bytes))
    }

    async fn read(&mut self, chunk: Chunk) -> Result<Bytes, ReadError> {
        let index = self.at / CHUNK_BYTES as u64;
        if self.ahead.as_ref().is_none_or(|(ahead, _)| *ahead != index) {
            self.ahead = self.inner.disk.as_ref().and_then(|disk| disk.chunk(chunk)).map(|coming| (index, coming));
        }
        let Some((_, coming)) = &mut self.ahead else { return Err(ReadError::Busy) };
        let Ok(outcome) = tokio::time::timeout(PIECE_WAIT, coming).await else { return Err(ReadError::Slow) };
        self.ahead = None;
        match outcome {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(ReadError::Disk(error.to_string())),
            Err(_) => Err(ReadError::Disk("its threads have ended".into())),
        }
    }

    /// Has the next chunk of what lies on disk read while this one is sent.
    fn read_ahead(&mut self) {
        let Source::OnDisk(object) = &self.source else { return };
        let index = self.at / CHUNK_BYTES as u64;
        if self.at.is_multiple_of(CHUNK_BYTES as u64)
            && let Some(chunk) = object.chunks.get(index as usize)
            && let Some(disk) = &self.inner.disk
        {
            self.ahead = disk.chunk(chunk.clone()).map(|coming| (index, coming));
        }
    }
}

fn whole_step(object: &Object, at: u64) -> Step {
    let chunk = object.chunks.get((at / CHUNK_BYTES as u64) as usize);
    let within = (at % CHUNK_BYTES as u64) as usize;
    match chunk.filter(|chunk| within < chunk.len()) {
        Some(chunk) => Step::Bytes(chunk.slice(within..)),
        None => Step::End,
    }
}

fn disk_step(object: &DiskObject, at: u64) -> Step {
    let chunk = object.chunks.get((at / CHUNK_BYTES as u64) as usize);
    chunk.filter(|_| at < object.body_bytes).map_or(Step::End, |chunk| Step::OnDisk(chunk.clone()))
}
