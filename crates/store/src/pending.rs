//! A fetch, or a read from disk, that is under way: whoever wants the same key waits for it, or reads along.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::disk::DiskObject;
use crate::fill::Flow;
use crate::key::{Key, Mark};
use crate::object::{Identity, Object};
use crate::purges::{Judgement, Purges, Token};
use crate::sync::Mutex;

/// Where an object comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// It is in memory.
    Whole(Arc<Object>),
    /// It is being fetched.
    Growing(Arc<Flow>),
    /// Its body is on disk.
    OnDisk(Arc<DiskObject>),
}

impl Source {
    pub(crate) fn identity(&self) -> &Identity {
        match self {
            Self::Whole(object) => &object.identity,
            Self::Growing(flow) => &flow.identity,
            Self::OnDisk(object) => &object.identity,
        }
    }

    /// What purges made of it.
    pub(crate) fn judge(&self, purges: &Purges) -> Judgement {
        let identity = self.identity();
        purges.judge(identity.since.0, &identity.key, &identity.marks).0
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Nothing is known yet.
    Waiting,
    /// It is there, or comes.
    Started(Source),
    /// It is not for others.
    Declined,
    /// It ended without anything.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Pending {
    /// Of a fetch. What is on disk is judged when it has been read.
    since: Option<Token>,
    /// Marks that are known before anything came.
    marks: Box<[Mark]>,
    stage: Mutex<Stage>,
    changed: Notify,
}

impl Pending {
    /// A fetch that begins.
    pub(crate) fn fetch(since: Token, marks: &[Mark]) -> Self {
        Self { since: Some(since), marks: marks.into(), stage: Mutex::new(Stage::Waiting), changed: Notify::new() }
    }

    /// A read from disk.
    pub(crate) fn read() -> Self {
        Self { since: None, marks: Box::default(), stage: Mutex::new(Stage::Waiting), changed: Notify::new() }
    }

    pub(crate) fn since(&self) -> Token {
        self.since.unwrap_or_default()
    }

    /// Whether one who comes now may have what comes of it: nothing of it was purged, as far as is known.
    pub(crate) fn is_joinable(&self, key: Key<'_>, purges: &Purges) -> bool {
        match &*self.stage.lock() {
            Stage::Waiting => {
                let judge = |since: Token| purges.judge(since.0, key.bytes(), &self.marks).0;
                self.since.is_none_or(|since| judge(since) == Judgement::Valid)
            }
            Stage::Started(source) => source.judge(purges) == Judgement::Valid,
            Stage::Declined | Stage::Nothing => false,
        }
    }

    /// Says what became of it, unless that is known.
    pub(crate) fn set(&self, next: Stage) {
        let mut stage = self.stage.lock();
        let before = match (&*stage, &next) {
            (Stage::Waiting, _) | (Stage::Started(Source::Growing(_)), Stage::Started(Source::Whole(_))) => {
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
