//! The store: both tiers behind one face.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::arena::InFile;
use crate::base::Base;
use crate::disk::{Disk, DiskHead, DiskObject, INLINE_BYTES_MAX, PREFIX_BYTES_MAX};
use crate::fill::{Flow, Lead};
use crate::key::{Key, Mark};
use crate::memory::{Found, Joining};
use crate::object::{Head, Identity, Object};
use crate::params::{OpenError, StoreParams};
use crate::pending::{Joined, Past, Pending, Source};
use crate::purges::{How, Purge, Purges, Token, What};
use crate::reader::{Begin, Follower, Hit, Kept, Lookup};
use crate::shown::{Known, Shown};
use crate::stats::Stats;
use crate::sync::{AtomicU64, Ordering};
use crate::top::TopKey;

/// A cache of bodies with what comes with them, in memory and on disk. Cloning it is cheap, and all clones are one.
#[derive(Clone, Debug)]
pub struct Store(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) base: Arc<Base>,
    pub(crate) disk: Option<Disk>,
    pub(crate) disk_object_bytes_max: u64,
    pub(crate) reader_wait: Duration,
    /// 1 while nothing may be answered, since purges may be missing.
    is_blind: AtomicU64,
}

/// Why something is not purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The prefix is too long to be remembered.
    #[error("a prefix of {bytes} bytes is longer than the {max} that can be purged")]
    PrefixTooLong {
        /// Its length.
        bytes: usize,
        /// The longest.
        max: usize,
    },
}

/// A purge that holds from now on.
#[derive(Debug)]
pub struct Purged {
    /// Its number, higher than those of all before.
    pub number: u64,
    written: Option<oneshot::Receiver<bool>>,
}

impl Purged {
    /// The same, of which it is known that it may not last: whoever holds what may survive has yet to hear of it.
    #[must_use]
    pub fn unwritten(self) -> Self {
        Self { written: Some(oneshot::channel().1), ..self }
    }

    /// Waits until the purge will last through a restart. `false` when it may not, since the disk failed or too much was to be
    /// written; until a restart it holds in any case.
    pub async fn lasts(self) -> bool {
        match self.written {
            Some(written) => written.await.unwrap_or(false),
            // Without a disk nothing survives that could come back.
            None => true,
        }
    }
}

impl Store {
    /// Opens a store. With a disk tier, this reads what is on disk, which takes time: it is not for a core that serves requests.
    ///
    /// # Errors
    /// When the parameters are too small, or threads cannot be started. A folder that cannot be used is tried again later.
    pub fn open(params: &StoreParams) -> Result<Self, OpenError> {
        params.check()?;
        let purges = Purges::new(params.marks_max, params.prefixes_max);
        let base = Arc::new(Base::new(params.memory_bytes, purges));
        let disk_object_bytes_max = params.disk.as_ref().map_or(0, |disk| disk.object_bytes_max());
        let start = |disk| Disk::start(Arc::clone(&base), disk).map_err(OpenError::Threads);
        let disk = params.disk.clone().map(start).transpose()?;
        let (reader_wait, is_blind) = (params.reader_wait, AtomicU64::new(0));
        Ok(Self(Arc::new(Inner { base, disk, disk_object_bytes_max, reader_wait, is_blind })))
    }

    /// A key, hashed once for all that follows.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        self.0.base.hasher.key(bytes)
    }

    /// What is known of a key. It never waits: what is on disk is being read when this returns, also while it is fetched again and
    /// nothing has come of that.
    pub fn lookup(&self, key: Key<'_>) -> Lookup {
        let base = &self.0.base;
        if self.0.is_blind.load(Ordering::Relaxed) == 1 {
            return Lookup::Miss;
        }
        match base.memory.lookup(key, &base.purges) {
            Found::Whole(object, stale_since) => Lookup::Hit(Hit { object, stale_since }),
            Found::Pending(joined) => {
                let older = if joined.pending.is_awaited() { self.older_on_disk(key) } else { None };
                Lookup::Coming(Follower::new(Arc::clone(&self.0), older.unwrap_or(joined)))
            }
            Found::Nothing => self.look_on_disk(key).map_or(Lookup::Miss, Lookup::Coming),
        }
    }

    /// What is in memory of a key, whole. Nothing is read for it.
    pub fn in_memory(&self, key: Key<'_>) -> Option<Hit> {
        let base = &self.0.base;
        if self.0.is_blind.load(Ordering::Relaxed) == 1 {
            return None;
        }
        match base.memory.lookup(key, &base.purges) {
            Found::Whole(object, stale_since) => Some(Hit { object, stale_since }),
            Found::Pending(_) | Found::Nothing => None,
        }
    }

    /// Reads what is on disk of a key that is being fetched again: for this request alone, since others wait for the fetch.
    fn older_on_disk(&self, key: Key<'_>) -> Option<Joined> {
        let disk = self.0.disk.as_ref().filter(|disk| disk.has(key.hash()))?;
        let pending = Arc::new(Pending::read());
        let is_read = disk.load(key.bytes(), key.hash(), Arc::clone(&pending));
        is_read.then_some(Joined { pending, seat: None })
    }

    fn look_on_disk(&self, key: Key<'_>) -> Option<Follower> {
        let disk = self.0.disk.as_ref().filter(|disk| disk.has(key.hash()))?;
        let base = &self.0.base;
        let joined = match base.memory.join_or_begin(key, &base.purges, (Past::default(), false), Pending::read) {
            Joining::Joined(joined) => joined,
            Joining::First(pending) => {
                if !disk.load(key.bytes(), key.hash(), Arc::clone(&pending)) {
                    base.memory.end_of(key.hash(), &pending, None);
                    return None;
                }
                Joined { pending, seat: None }
            }
        };
        Some(Follower::new(Arc::clone(&self.0), joined))
    }

    /// The right to fetch a key, or whoever has it. `marks` are those that are known before anything has come: who asks after a purge
    /// of one of them does not follow a fetch from before.
    pub fn begin(&self, key: Key<'_>, marks: &[Mark]) -> Begin {
        self.begin_past(key, marks, Past::default())
    }

    /// The same for one who has something already that does not do: who has that, or no more than is past, is not followed, and what is known is
    /// found as before while it is fetched again.
    pub fn begin_past(&self, key: Key<'_>, marks: &[Mark], past: Past<'_>) -> Begin {
        let base = &self.0.base;
        let fetch = || {
            // Noted before the number is taken: who then finds nothing noted has purged before this began.
            let noted = base.filter.note(marks);
            Pending::fetch(self.token(), noted)
        };
        // While purges may be missing, only what comes is good.
        let fetches_only = self.0.is_blind.load(Ordering::Relaxed) == 1;
        match base.memory.join_or_begin(key, &base.purges, (past, fetches_only), fetch) {
            Joining::First(pending) => Begin::Lead(Lead::new(Arc::clone(&self.0), key, pending)),
            Joining::Joined(joined) => Begin::Follow(Follower::new(Arc::clone(&self.0), joined)),
        }
    }

    /// What has been purged so far, to be taken before something is asked of an origin.
    pub fn token(&self) -> Token {
        Token(self.0.base.purges.latest())
    }

    /// Replaces what comes with a body, as a validation does. `token` is that of before the validation began. Says whether there is
    /// a new version: there is none of what is still being fetched, was purged meanwhile, or has another body in its place by now. Until a disk
    /// has written it, it is found beside what comes, as old as it is.
    pub fn refresh(&self, kept: &Kept, token: Token, head: Head) -> bool {
        self.0.refresh(kept, token, head, None)
    }

    /// Whether the disk has a newer version than one that was read from there, or was still to be written.
    pub fn has_newer_on_disk(&self, kept: &Kept) -> bool {
        let (Source::OnDisk(_) | Source::Unwritten(_)) = &kept.0 else { return false };
        let Identity { hash, version, .. } = *kept.0.identity();
        self.0.disk.as_ref().is_some_and(|disk| disk.has_newer(hash, version))
    }

    /// Purges. When this returns, no lookup finds what was purged, and nothing is stored of what was being fetched.
    ///
    /// # Errors
    /// When a prefix is too long.
    pub fn purge(&self, purge: Purge) -> Result<Purged, PurgeError> {
        self.apply(purge, None)
    }

    /// Purges what carries a mark, if anything may be there that does; otherwise nothing is remembered nor written, and there is no
    /// number. It is for purges that come often and mostly for nothing, such as those of requests that change something.
    ///
    /// The mark has to be one that every fetch names when it begins ([`Store::begin`]): of a fetch under way, others are not known. Before
    /// the folder of a disk tier could be read, it is as [`Store::purge`].
    pub fn purge_if_there(&self, mark: Mark, how: How) -> Option<Purged> {
        let base = &self.0.base;
        let in_memory = || base.filter.may_have(mark);
        let on_disk = || self.0.disk.as_ref().is_some_and(|disk| disk.may_have(mark));
        // What is written goes from memory to disk, and what is read comes back.
        if !in_memory() && !on_disk() && !in_memory() {
            return None;
        }
        // A mark is never too long.
        self.purge(Purge::mark(mark, how)).ok()
    }

    /// Applies a purge of a stream that several stores follow, unless its position was passed already: then `None`.
    ///
    /// # Errors
    /// When a prefix is too long.
    pub fn follow(&self, position: u64, purge: Purge) -> Result<Option<Purged>, PurgeError> {
        if !self.0.base.restore_position(position) {
            return Ok(None);
        }
        self.apply(purge, Some(position)).map(Some)
    }

    /// The last position in a stream of purges that was applied, also before a restart: where to go on.
    pub fn position(&self) -> Option<u64> {
        self.0.base.position()
    }

    /// Has lookups find nothing, as long as purges may be missing.
    pub fn set_blind(&self, is_blind: bool) {
        self.0.is_blind.store(u64::from(is_blind), Ordering::Relaxed);
    }

    fn apply(&self, mut purge: Purge, position: Option<u64>) -> Result<Purged, PurgeError> {
        if let What::Prefix(prefix) = &purge.what {
            let (bytes, max) = (prefix.len(), PREFIX_BYTES_MAX);
            if bytes > max {
                return Err(PurgeError::PrefixTooLong { bytes, max });
            }
            if prefix.is_empty() {
                purge.what = What::All;
            }
        }
        let Some(disk) = &self.0.disk else {
            return Ok(Purged { number: self.0.base.purges.purge(purge).number, written: None });
        };
        let (number, written) = disk.purge(purge, position);
        Ok(Purged { number, written: Some(written) })
    }

    /// Where a piece of a body stands that is about to be sent without a copy, if it stands in a file: most chunks of 16 KiB and more do,
    /// and those of a body whose length was known stand there side by side ([`InFile::join`]). What was sent so gives its memory back
    /// when it goes, for its pages may be in flight still.
    ///
    /// ```compile_fail,E0505
    /// # fn send(_: store::InFile<'_>) {}
    /// # fn check(store: &store::Store, piece: bytes::Bytes) {
    /// let place = store.in_file(&piece).unwrap();
    /// drop(piece);
    /// // What stands there now is somebody else's.
    /// send(place);
    /// # }
    /// ```
    pub fn in_file<'p>(&'p self, piece: &'p [u8]) -> Option<InFile<'p>> {
        self.0.base.pool.place(piece)
    }

    /// Changes how much memory the store takes; the disk tier keeps its size.
    pub fn set_memory_bytes(&self, bytes: u64) {
        self.0.base.set_memory_bytes(bytes);
    }

    /// What happened, and what is there.
    pub fn stats(&self) -> Stats {
        let base = &self.0.base;
        let (marks, prefixes) = base.purges.remembered();
        Stats {
            memory: base.memory.stats(),
            disk: self.0.disk.as_ref().map(Disk::stats),
            filling_bytes: base.filling_bytes(),
            fills_refused: base.fills_refused.value(),
            readers_cut: base.readers_cut.value(),
            purges: base.purges.latest(),
            purge_rules: (marks + prefixes) as u64,
        }
    }

    /// The keys with the most hits, the first one first.
    pub fn top(&self, count: usize) -> Vec<TopKey> {
        self.0.base.memory.top(count)
    }

    /// Waits until all that was stored so far is written to disk, or dropped.
    pub async fn flush(&self) {
        if let Some(disk) = &self.0.disk {
            // Without an answer the thread has ended, and nothing waits.
            let _ = disk.flush().await;
        }
    }

    /// Writes what waits, and ends the threads of the disk tier. Not for a core that serves requests. `false` when somebody else
    /// holds the store still; then it ends with the last one.
    pub fn close(self) -> bool {
        match Arc::try_unwrap(self.0) {
            Ok(Inner { disk, .. }) => {
                if let Some(disk) = disk {
                    disk.close();
                }
                true
            }
            Err(_) => false,
        }
    }
}

impl Inner {
    /// Replaces what comes with a body. A fetch that found it to be good ends with it.
    pub(crate) fn refresh(&self, kept: &Kept, token: Token, head: Head, shown: Option<Shown>) -> bool {
        let base = &self.base;
        let old = kept.0.identity();
        let identity = Identity {
            key: old.key.clone(),
            hash: old.hash,
            marks: base.filter.note(head.marks),
            since: token,
            version: base.next_version(),
        };
        let (judgement, checked) = base.purges.judge(token.0, &identity.key, &identity.marks);
        if judgement == crate::purges::Judgement::Gone {
            return false;
        }
        if base.memory.has_newer_body(&kept.0) {
            return false;
        }
        let meta = bytes::Bytes::copy_from_slice(&head.meta);
        match &kept.0 {
            // Purged since it was asked for: somebody may have fetched another body meanwhile, which this must not take the place of.
            Source::OnDisk(_) | Source::Unwritten(_) if judgement != crate::purges::Judgement::Valid => false,
            Source::Growing(_) | Source::OnDisk(_) | Source::Unwritten(_) => {
                let Some((new, head)) = renewed(&kept.0, identity, meta) else { return false };
                let Some(disk) = &self.disk else { return false };
                // From the announcement on what was before is not to be found, and this is not there before it is written.
                let known = Known::new(base, &new);
                if let Some(shown) = shown {
                    shown.found(new);
                }
                disk.announce(&head.identity);
                disk.refresh(head, Some(known))
            }
            Source::Whole(object) => {
                let (body_bytes, body_version) = (object.body_bytes, object.body_version);
                if base.memory.has_newer(&identity) {
                    return false;
                }
                let (small, large) = match &self.disk {
                    Some(disk) if body_bytes > INLINE_BYTES_MAX => (None, Some(disk)),
                    disk => (disk.as_ref(), None),
                };
                if let Some(disk) = large {
                    disk.announce(&identity);
                    let head = DiskHead { identity: identity.clone(), meta: meta.clone(), body_bytes, body_version };
                    disk.refresh(head, None);
                }
                let chunks = object.chunks.clone();
                let new = Arc::new(Object { identity, meta, chunks, body_bytes, body_version });
                self.keep(new, (Token(checked), judgement.stale_since()), small);
                true
            }
        }
    }
}

/// The body of one that a disk has, or will have, under another head; `None` of what is not whole.
fn renewed(source: &Source, identity: Identity, meta: bytes::Bytes) -> Option<(Source, DiskHead)> {
    let of = |body_bytes, body_version| {
        let (identity, meta) = (identity.clone(), meta.clone());
        DiskHead { identity, meta, body_bytes, body_version }
    };
    match source {
        Source::Growing(_) | Source::Whole(_) => None,
        Source::OnDisk(object) => {
            let (body_bytes, body_version, chunks) = (object.body_bytes, object.body_version, &object.chunks);
            let head = of(body_bytes, body_version);
            let chunks = Arc::clone(chunks);
            let object = DiskObject { identity, meta, body_bytes, body_version, chunks };
            Some((Source::OnDisk(Arc::new(object)), head))
        }
        Source::Unwritten(flow) => {
            let (body_version, growing) = (flow.body_version, Arc::clone(&flow.growing));
            let body_bytes = growing.body_bytes();
            let head = of(body_bytes, body_version);
            let flow = Flow { identity, meta, body_bytes: Some(body_bytes), body_version, growing };
            Some((Source::Unwritten(Arc::new(flow)), head))
        }
    }
}

impl Purge {
    /// What carries a mark is gone, or stale.
    pub fn mark(mark: Mark, how: How) -> Self {
        Self { what: What::Mark(mark), how, at: 0 }
    }

    /// What has a key that begins so is gone, or stale.
    pub fn prefix(prefix: &[u8], how: How) -> Self {
        Self { what: What::Prefix(prefix.into()), how, at: 0 }
    }

    /// Everything is gone, or stale.
    pub fn all(how: How) -> Self {
        Self { what: What::All, how, at: 0 }
    }

    /// The same, made at a moment: what it finds is stale since then ([`crate::Hit::stale_since`]).
    #[must_use]
    pub fn at(self, at: u32) -> Self {
        Self { at, ..self }
    }
}

#[cfg(test)]
impl Store {
    /// One of the least size, on whose disk nothing is done.
    pub(crate) fn idle() -> (Self, std::sync::mpsc::Receiver<crate::disk::Job>) {
        let params = StoreParams::new(1024 * 1024);
        let base = Arc::new(Base::new(params.memory_bytes, Purges::new(4, 4)));
        let (disk, jobs) = Disk::idle(Arc::clone(&base), crate::params::DiskParams::new("/nowhere", 16 * 1024 * 1024));
        let (reader_wait, is_blind) = (params.reader_wait, AtomicU64::new(0));
        let disk_object_bytes_max = 4 * 1024 * 1024;
        (Self(Arc::new(Inner { base, disk: Some(disk), disk_object_bytes_max, reader_wait, is_blind })), jobs)
    }
}
