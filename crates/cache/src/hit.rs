//! A hit in memory: whether what is found there may be served.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::Equivalent;

use crate::cache::Value;
use crate::hold::Moment;
use crate::inner::Inner;
use crate::key::{Key, owned};
use crate::life::refreshes;
use crate::memory::{Kept, Slot, Took};
use crate::name::{Digits, Name, Query, Written};
use crate::tags::Tagged;

/// What a caller has found in memory, and may be served: all that most hits need.
pub(crate) struct Fresh<V> {
    pub(crate) value: Option<Arc<V>>,
    /// For how long it is fresh.
    left_nanos: u64,
    took: Took,
}

impl<V> Fresh<V> {
    /// Whether whoever has it is to load it again.
    pub(crate) fn is_early(&self) -> bool {
        refreshes(Duration::from_nanos(self.left_nanos), self.took.time(), || fastrand::u64(..))
    }
}

impl<V: Value> Inner<V> {
    /// The lease's end, if memory is held by one: to be read before an entry is looked for.
    #[inline]
    fn end(&self) -> Option<Moment> {
        self.hold.as_ref().map(|hold| hold.end())
    }

    /// Whether an entry of this version and era may be served, fresh or stale, that was found after the lease's end was read.
    #[inline]
    fn may_serve(&self, end: Option<Moment>, (version, era): (u64, u32), tags: &Tagged) -> bool {
        // At the end of all the lease's clock.
        era == self.fence.era() as u32 && self.tags.admit(version, tags) && end.is_none_or(Moment::is_ahead)
    }

    /// Finds what may be served, fresh or stale.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Slot<V>> {
        let (memory, end) = (self.memory.as_ref()?, self.end());
        let kept = memory.find(&Query::from(key))?;
        self.may_serve(end, (kept.version, kept.era), &kept.tags).then(|| memory.slot(kept))
    }

    /// What is fresh, for a caller, who shows by it what is asked for often.
    #[inline]
    pub(crate) fn fresh<K: Key + ?Sized>(&self, key: &K) -> Option<Fresh<V>> {
        if let Some(hot) = &self.hot {
            hot.note(fastrand::u32(..), || owned(key));
        }
        if let Some(Query::Number(number)) = key.number().and_then(Query::of_number) {
            return self.fresh_at(Digits(number));
        }
        key.with_bytes(|key| match Query::from(key) {
            Query::Number(number) => self.fresh_at(Digits(number)),
            Query::Bytes(bytes) => self.fresh_at(Written(bytes)),
        })
    }

    /// A hit, once for each kind of key. It is compiled as a whole, and takes an entry apart at once: what is copied by way of the stack makes
    /// a hit wait for the count of references before it, which is far away.
    #[inline(never)]
    fn fresh_at<Q: Copy + Hash + Equivalent<Name>>(&self, key: Q) -> Option<Fresh<V>> {
        let (memory, end) = (self.memory.as_ref()?, self.end());
        let Kept { value, version, fresh_until, tags, era, took, .. } = memory.find(&key)?;
        if !self.may_serve(end, (version, era), &tags) {
            return None;
        }
        let left_nanos = memory.times().left(fresh_until)?;
        Some(Fresh { value, left_nanos, took })
    }
}
