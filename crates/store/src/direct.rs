//! Storing and removing at once, where nobody has to wait for anything: small words of the owner's beside the bodies.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, INLINE_BYTES_MAX};
use crate::fill::{StartError, Stored, check_sizes};
use crate::key::Key;
use crate::memory::Inserted;
use crate::object::{Head, Identity, Object};
use crate::purges::{Judgement, Token};
use crate::store::{Inner, Store};

impl Store {
    /// Stores something small as a whole, in place of what is there, also while somebody is fetching the key; that fetch replaces it when
    /// it ends. `since` is the token of before it was learned: of a fetch ([`crate::Lead::token`]), or [`Store::token`].
    ///
    /// # Errors
    /// When something of it is too large: a body may have 256 KiB. Then nothing has changed.
    pub fn put(&self, key: Key<'_>, since: Token, head: Head, body: &[u8]) -> Result<Stored, StartError> {
        self.put_in(key, since, (head, body), true)
    }

    /// The same in memory alone: what can be made again by whoever needs it. Says whether it is there.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_in_memory(&self, key: Key<'_>, since: Token, head: Head, body: &[u8]) -> Result<bool, StartError> {
        self.put_in(key, since, (head, body), false).map(|stored| stored.in_memory)
    }

    fn put_in(
        &self,
        key: Key<'_>,
        since: Token,
        (head, body): (Head, &[u8]),
        lasts: bool,
    ) -> Result<Stored, StartError> {
        check_sizes(key.bytes(), &head)?;
        if body.len() as u64 > INLINE_BYTES_MAX {
            return Err(StartError::TooLarge {
                what: "bytes of body",
                size: body.len(),
                max: INLINE_BYTES_MAX as usize,
            });
        }
        let base = &self.0.base;
        let (hash, version) = (key.hash(), base.next_version());
        let identity = Identity { key: key.bytes().into(), hash, marks: base.filter.note(head.marks), since, version };
        let (judgement, checked) = base.purges.judge(since.0, &identity.key, &identity.marks);
        if judgement == Judgement::Gone {
            return Ok(Stored { in_memory: false, on_disk: false });
        }
        let meta = Bytes::copy_from_slice(&head.meta);
        let (chunks, body_bytes, body_version) = (base.pool.cut(body), body.len() as u64, version);
        let object = Arc::new(Object { identity, meta, chunks, body_bytes, body_version });
        let disk = self.0.disk.as_ref().filter(|_| lasts);
        Ok(self.0.keep(object, (Token(checked), judgement.stale_since()), disk))
    }

    /// Removes what is stored under a key. A fetch that is under way is not concerned.
    pub fn remove(&self, key: Key<'_>) {
        let base = &self.0.base;
        let version = base.next_version();
        if let Some(disk) = &self.0.disk {
            disk.forget_older(key.hash(), version);
        }
        // What was read from disk meanwhile is there by now, or is not kept.
        base.memory.remove(key);
    }
}

impl Inner {
    /// Keeps a whole object in memory, and on disk if one is given. It was judged up to a purge, and may be stale.
    pub(crate) fn keep(
        &self,
        object: Arc<Object>,
        (checked, stale): (Token, Option<u32>),
        disk: Option<&Disk>,
    ) -> Stored {
        let memory = &self.base.memory;
        if disk.is_some() && memory.has_newer(&object.identity) {
            return Stored { in_memory: false, on_disk: false };
        }
        disk.inspect(|disk| disk.announce(&object.identity));
        let inserted = memory.insert(Arc::clone(&object), checked, stale);
        let on_disk = disk.is_some_and(|disk| match inserted {
            Inserted::Kept | Inserted::TooLarge => disk.store(object),
            Inserted::Outdated => {
                disk.withdraw(&object.identity);
                false
            }
        });
        Stored { in_memory: inserted == Inserted::Kept, on_disk }
    }
}
