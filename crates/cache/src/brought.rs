//! What a flight brings to those who are in it, and what they may have of it.

use std::sync::Arc;

use tokio::time::Instant;

use crate::memory::Slot;
use crate::tags::Tagged;

/// What a flight has brought.
#[derive(Debug)]
pub(crate) struct Brought<V> {
    pub(crate) value: Option<Arc<V>>,
    /// It was in a tier, or Redis has taken it: nothing has changed it from when it was read to when it was confirmed.
    pub(crate) is_confirmed: bool,
    /// When it was loaded or written, on the cache's clock, and its tags: what was invalidated since is not for who came later.
    pub(crate) version: u64,
    pub(crate) tags: Tagged,
}

impl<V> Clone for Brought<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), tags: self.tags.clone(), ..*self }
    }
}

impl<V> Brought<V> {
    /// An entry of a tier.
    pub(crate) fn of(slot: &Slot<V>) -> Self {
        Self { value: slot.value.clone(), is_confirmed: true, version: slot.version, tags: slot.tags.clone() }
    }

    /// What was written behind is newer than all that can be invalidated.
    pub(crate) fn dirty(value: Arc<V>) -> Self {
        Self { value: Some(value), is_confirmed: true, version: u64::MAX, tags: Tagged::default() }
    }
}

/// An old value, and until when it may be served.
pub(crate) struct Stale<V> {
    pub(crate) value: Arc<V>,
    pub(crate) until: Instant,
    version: u64,
    tags: Tagged,
}

impl<V> Stale<V> {
    /// What an entry has for when a load fails.
    pub(crate) fn of(slot: Slot<V>) -> Option<Self> {
        let (until, version, tags) = (slot.stale_until, slot.version, slot.tags);
        slot.value.filter(|_| Instant::now() < until).map(|value| Self { value, until, version, tags })
    }

    /// It is brought in place of what could not be loaded: it has expired, and has not been changed since the flight began.
    pub(crate) fn into_brought(self) -> Brought<V> {
        Brought { value: Some(self.value), is_confirmed: true, version: self.version, tags: self.tags }
    }
}
