//! A fetch, or a read from disk, that is under way: whoever wants the same key waits for it, or reads along.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::disk::DiskObject;
use crate::fill::Flow;
use crate::growing::{Growing, Seat};
use crate::key::Key;
use crate::noted::Noted;
use crate::object::{Identity, Object};
use crate::purges::{Judgement, Purges, Token};
use crate::reader::Kept;
use crate::sync::Mutex;

/// How long it is waited that a disk says what it has of a key. One that is busy takes tenths of a second, and one that is throttled may take seconds;
/// after more than that an origin has answered, whatever it is.
pub(crate) const READ_WAIT: Duration = Duration::from_secs(5);

/// Where an object comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// It is in memory.
    Whole(Arc<Object>),
    /// It is being fetched.
    Growing(Arc<Flow>),
    /// It is whole, and not kept in memory; a disk has yet to write what makes it known there.
    Unwritten(Arc<Flow>),
    /// Its body is on disk.
    OnDisk(Arc<DiskObject>),
}

impl Source {
    pub(crate) fn identity(&self) -> &Identity {
        match self {
            Self::Whole(object) => &object.identity,
            Self::Growing(flow) | Self::Unwritten(flow) => &flow.identity,
            Self::OnDisk(object) => &object.identity,
        }
    }

    /// The version that came with the body, which those have in common that were made of it since.
    pub(crate) fn body_version(&self) -> u64 {
        match self {
            Self::Whole(object) => object.body_version,
            Self::Growing(flow) | Self::Unwritten(flow) => flow.body_version,
            Self::OnDisk(object) => object.body_version,
        }
    }

    /// What purges made of it.
    pub(crate) fn judge(&self, purges: &Purges) -> Judgement {
        let identity = self.identity();
        purges.judge(identity.since.0, &identity.key, &identity.marks).0
    }

    /// Whether more of it may come. What is whole is good for as long as it says, and no longer.
    pub(crate) fn is_growing(&self) -> bool {
        matches!(self, Self::Growing(_))
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Nothing is known yet.
    Waiting,
    /// It is there, or comes.
    Started(Source),
    /// It is not for others, for a reason that the owner knows by a number.
    Declined(u32),
    /// It ended without anything.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Pending {
    /// Of a fetch. What is on disk is judged when it has been read.
    fetch: Option<Fetch>,
    begun: Instant,
    stage: Mutex<Stage>,
    changed: Notify,
}

/// What is known of a fetch before anything came.
#[derive(Debug)]
struct Fetch {
    since: Token,
    marks: Noted,
    /// The body to be. Those who wait have their seats there before it begins.
    growing: Arc<Growing>,
}

/// What is of no more use to whoever asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past<'k> {
    /// What it knows: only what is newer does.
    pub known: Option<&'k Kept>,
    /// What is being read from disk: it has waited for that already.
    pub reads: bool,
}

/// One who has joined a fetch or a read, with a seat if it is a fetch.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) pending: Arc<Pending>,
    pub(crate) seat: Option<Seat>,
}

impl Pending {
    /// A fetch that begins.
    pub(crate) fn fetch(since: Token, marks: Noted) -> Self {
        Self::new(Some(Fetch { since, marks, growing: Arc::new(Growing::new()) }))
    }

    /// A read from disk.
    pub(crate) fn read() -> Self {
        Self::new(None)
    }

    fn new(fetch: Option<Fetch>) -> Self {
        Self { fetch, begun: Instant::now(), stage: Mutex::new(Stage::Waiting), changed: Notify::new() }
    }

    /// When a read from disk is given up; `None` of a fetch, whose end is its owner's to say.
    pub(crate) fn given_up_at(&self) -> Option<Instant> {
        let is_read = self.fetch.is_none() && matches!(*self.stage.lock(), Stage::Waiting);
        is_read.then(|| self.begun + READ_WAIT)
    }

    /// Something that is whole, and shown until a disk has written it.
    pub(crate) fn known(source: Source) -> Self {
        Self { stage: Mutex::new(Stage::Started(source)), ..Self::new(None) }
    }

    /// Whether it is whole, and stands under this key.
    pub(crate) fn is_known_as(&self, key: &[u8]) -> bool {
        match &*self.stage.lock() {
            Stage::Started(source) => !source.is_growing() && *source.identity().key == *key,
            _ => false,
        }
    }

    /// Whether it is a fetch that may bring something newer than all that is there.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetch.is_some() && matches!(*self.stage.lock(), Stage::Waiting | Stage::Started(Source::Growing(_)))
    }

    /// Whether nothing comes of it that is of use to one for whom this is past.
    pub(crate) fn is_past(&self, past: Past<'_>) -> bool {
        match &*self.stage.lock() {
            Stage::Waiting => past.reads && self.fetch.is_none(),
            Stage::Started(source) if !source.is_growing() => {
                past.known.is_some_and(|known| source.identity().version <= known.version())
            }
            _ => false,
        }
    }

    /// Of what has come of it, if something has.
    pub(crate) fn age(&self) -> Option<(Token, u64)> {
        match &*self.stage.lock() {
            Stage::Started(source) => Some(source.identity().age()),
            _ => None,
        }
    }

    /// Of what has come of it, the version that came with the body.
    pub(crate) fn body_version(&self) -> Option<u64> {
        match &*self.stage.lock() {
            Stage::Started(source) => Some(source.body_version()),
            _ => None,
        }
    }

    /// Whether it is a fetch, whatever has come of it.
    pub(crate) fn is_fetch(&self) -> bool {
        self.fetch.is_some()
    }

    /// Whether it is a fetch of which nothing has come yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.fetch.is_some() && matches!(*self.stage.lock(), Stage::Waiting)
    }

    pub(crate) fn since(&self) -> Token {
        self.fetch.as_ref().map_or_else(Token::default, |fetch| fetch.since)
    }

    /// The body to be.
    pub(crate) fn growing(&self) -> Arc<Growing> {
        self.fetch.as_ref().map_or_else(|| Arc::new(Growing::new()), |fetch| Arc::clone(&fetch.growing))
    }

    /// Joins, if one who comes now may have what comes of it: nothing of it was purged, as far as is known, its beginning can
    /// be had, and a disk that is to give it is not waited for in vain.
    pub(crate) fn join(self: &Arc<Self>, key: Key<'_>, purges: &Purges) -> Option<Joined> {
        let mut grows = true;
        let is_good = match &*self.stage.lock() {
            Stage::Waiting => match &self.fetch {
                Some(fetch) => purges.judge(fetch.since.0, key.bytes(), &fetch.marks).0 == Judgement::Valid,
                // Those who waited for it have gone on without.
                None => self.begun.elapsed() < READ_WAIT,
            },
            Stage::Started(source) => {
                grows = source.is_growing();
                source.judge(purges) == Judgement::Valid
            }
            Stage::Declined(_) | Stage::Nothing => false,
        };
        let seat = match self.fetch.as_ref().filter(|_| is_good && grows) {
            Some(fetch) => Some(fetch.growing.enter()?),
            None => None,
        };
        is_good.then(|| Joined { pending: Arc::clone(self), seat })
    }

    /// Joins what is known, be it stale: what it is good for is for whoever asks to say.
    pub(crate) fn join_known(self: &Arc<Self>, purges: &Purges) -> Option<Joined> {
        let is_there = match &*self.stage.lock() {
            Stage::Started(source) => source.judge(purges) != Judgement::Gone,
            _ => false,
        };
        is_there.then(|| Joined { pending: Arc::clone(self), seat: None })
    }

    /// Says what became of it, unless that is known.
    pub(crate) fn set(&self, next: Stage) {
        let mut stage = self.stage.lock();
        let before = match (&*stage, &next) {
            (Stage::Waiting, _) => std::mem::replace(&mut *stage, next),
            (Stage::Started(Source::Growing(_)), Stage::Started(whole)) if !whole.is_growing() => {
                std::mem::replace(&mut *stage, next)
            }
            _ => next,
        };
        drop(stage);
        drop(before);
        self.changed.notify_waiters();
    }

    /// What became of it, once that is known.
    pub(crate) async fn outcome(&self) -> Stage {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let stage = self.stage.lock().clone();
            match stage {
                Stage::Waiting => changed.await,
                stage => return stage,
            }
        }
    }
}

#[cfg(test)]
impl Pending {
    /// What is known of it now.
    pub(crate) fn stage(&self) -> Stage {
        self.stage.lock().clone()
    }
}
