//! An entry that is whole: its key, its marks, its metadata and its body, which never change again.

use std::fmt;

use bytes::Bytes;

use crate::key::Mark;
use crate::noted::Noted;
use crate::purges::Token;

/// Bytes of a chunk of a body. A body is so many chunks of this size and a shorter last one, in memory and on disk alike.
///
/// With its header a chunk fills 64 KiB on disk, and with an allocator's own words it fills whole pages.
pub const CHUNK_BYTES: usize = 64 * 1024 - 64;

/// What comes with a body: everything that has to be known before its first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Whatever the owner wants to find again: status, fields, times. It is stored in a copy of its own.
    pub meta: Bytes,
    /// What it can be purged by.
    pub marks: Vec<Mark>,
    /// Bytes of the body, where they are known. A body that turns out to have another length is not stored.
    pub body_bytes: Option<u64>,
}

/// What an entry is called and what it is a version of.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) key: Box<[u8]>,
    pub(crate) hash: u64,
    pub(crate) marks: Noted,
    pub(crate) since: Token,
    /// Higher for what was stored later, also across restarts.
    pub(crate) version: u64,
}

impl Identity {
    /// The later of two has replaced the other.
    pub(crate) fn age(&self) -> (Token, u64) {
        (self.since, self.version)
    }
}

/// An entry in memory.
pub struct Object {
    pub(crate) identity: Identity,
    pub(crate) meta: Bytes,
    pub(crate) chunks: Box<[Bytes]>,
    pub(crate) body_bytes: u64,
    /// The version that came with the body, of which this may be one that was found to be good.
    pub(crate) body_version: u64,
}

/// What an entry costs beside its key, marks, metadata and body: its own structure (168 bytes), its places in the tables of the
/// shard and the policy (about 100 with their spare room), its counters and its part of the shadows (about 30), and what an
/// allocator adds to five allocations of odd sizes. `cargo xtask fault cache` holds the sum against resident memory.
const ENTRY_OVERHEAD_BYTES: usize = 400;
/// An allocator leaves holes between what has odd sizes: about that part of the bytes, under a load whose sizes change.
const HOLES_SHARE: usize = 16;
/// What each chunk adds: its handle, the counter that is shared by clones, and the allocator's part.
const CHUNK_OVERHEAD_BYTES: usize = 32 + 32 + 32;

impl Object {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.identity.key
    }

    /// Another number for each that was ever stored, also across restarts.
    pub fn version(&self) -> u64 {
        self.identity.version
    }

    /// What the owner stored with the body.
    pub fn meta(&self) -> &Bytes {
        &self.meta
    }

    /// The body, ready to be written by one `writev`.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Bytes of the body.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The marks that it carries.
    pub fn marks(&self) -> &[Mark] {
        &self.identity.marks
    }

    /// Bytes of memory that it takes, all told.
    pub(crate) fn weight(&self) -> u32 {
        let lists = self.identity.key.len() + 8 * self.identity.marks.len() + self.meta.len();
        let body = self.body_bytes as usize + self.body_bytes as usize / HOLES_SHARE;
        let chunks = self.chunks.len() * CHUNK_OVERHEAD_BYTES;
        (ENTRY_OVERHEAD_BYTES + lists + body + chunks).try_into().unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Object");
        shown.field("key", &self.identity.key.escape_ascii().to_string()).field("version", &self.identity.version);
        shown.field("body_bytes", &self.body_bytes).finish_non_exhaustive()
    }
}
