//! Where a response comes from: memory, or a reader of what is being fetched or lies on disk.

use bytes::Bytes;
use httpcache::{Stored, UnixTime};
use store::{Hit, Kept, Mark, Reader, Store};

use crate::cache::Held;

/// A response that was found.
pub(super) enum Source {
    /// It is in memory, whole.
    Memory(Hit),
    /// It is read as it comes.
    Stream(Box<Reader>),
}

impl Source {
    /// What was written with it.
    pub(super) fn meta(&self) -> &Bytes {
        match self {
            Self::Memory(hit) => hit.object.meta(),
            Self::Stream(reader) => reader.meta(),
        }
    }

    /// The block of its fields.
    pub(super) fn block(&self) -> &[u8] {
        block_of(self.meta())
    }

    /// The key that it is stored under.
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Memory(hit) => hit.object.key(),
            Self::Stream(reader) => reader.key(),
        }
    }

    fn marks(&self) -> &[Mark] {
        match self {
            Self::Memory(hit) => hit.object.marks(),
            Self::Stream(reader) => reader.marks(),
        }
    }

    /// When it was fetched, or found good.
    pub(super) fn fetched(&self) -> UnixTime {
        match Held::read(self.meta()) {
            Some(Held::Response(fetched, ..)) => fetched,
            _ => UnixTime::default(),
        }
    }

    /// Since when it is stale by a purge, if it is.
    fn stale_since(&self) -> Option<UnixTime> {
        let at = match self {
            Self::Memory(hit) => hit.stale_since,
            Self::Stream(reader) => reader.stale_since(),
        };
        at.map(|at| match at {
            // An earlier program did not write it down.
            0 => super::now(),
            // A clock that was set back does not make it fresh.
            at => UnixTime::from_secs(u64::from(at)).min(super::now()),
        })
    }

    /// Whether it is still being fetched.
    pub(super) fn is_growing(&self) -> bool {
        matches!(self, Self::Stream(reader) if reader.is_growing())
    }

    /// Whether its body is whole and not in memory: it lies on disk, or has yet to be written there in part.
    pub(super) fn is_on_disk(&self) -> bool {
        matches!(self, Self::Stream(reader) if !reader.is_growing())
    }

    /// Whether a newer version is on the disk that this was read from.
    pub(super) fn has_newer_on_disk(&self, store: &Store) -> bool {
        matches!(self, Self::Stream(reader) if store.has_newer_on_disk(&reader.kept()))
    }

    /// Its facts, if it is a response: stale since a purge, if one has made it so.
    pub(super) fn stored(&self) -> Option<Stored> {
        let Some(Held::Response(_, mut stored, _)) = Held::read(self.meta()) else { return None };
        let bytes = match self {
            Self::Memory(hit) => Some(hit.object.body_bytes()),
            Self::Stream(reader) => reader.body_bytes(),
        };
        // What came without a length has one once it is whole.
        if let Some(bytes) = bytes {
            stored.measured(bytes);
            // Whoever was promised another length would take the next answer for a part of this one.
            let said = match stored.body() {
                httpcache::Body::Part(part) => part.range.len(),
                httpcache::Body::Whole(said) => said,
                httpcache::Body::Unmeasured => bytes,
            };
            if said != bytes {
                return None;
            }
        }
        if let Some(at) = self.stale_since() {
            stored.expire(at);
        }
        Some(stored)
    }

    /// What a new version can be made of.
    pub(super) fn kept(&self) -> Kept {
        match self {
            Self::Memory(hit) => hit.kept(),
            Self::Stream(reader) => reader.kept(),
        }
    }

    /// What a fetch has to know of it, to ask whether it is good.
    pub(super) fn about(&self, stored: Stored) -> About {
        About {
            kept: self.kept(),
            meta: self.meta().clone(),
            marks: self.marks().into(),
            key: self.key().into(),
            stored,
        }
    }
}

/// The block of fields in what was written with a response.
pub(super) fn block_of(meta: &[u8]) -> &[u8] {
    match Held::read(meta) {
        Some(Held::Response(_, _, block)) => block,
        _ => b"",
    }
}

/// A response that a question is about.
pub(super) struct About {
    pub(super) kept: Kept,
    pub(super) meta: Bytes,
    pub(super) marks: Box<[Mark]>,
    pub(super) key: Box<[u8]>,
    pub(super) stored: Stored,
}
