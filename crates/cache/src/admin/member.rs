//! A cache among others of other types: what is told of it, and how it is invalidated.

use std::pin::Pin;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::builder::Coherence;
use crate::cache::{Cache, Value};
use crate::events::Invalidation;
use crate::key::Key;
use crate::memory::Bound;
use crate::write::Reach;

/// Makes the bytes of a key of what people write, or says why it is none.
pub(super) type ReadText = Box<dyn Fn(&str) -> Result<Box<[u8]>, String> + Send + Sync>;

pub(super) trait Member: Send + Sync {
    fn name(&self) -> &str;

    /// What it is, holds and has done.
    fn told(&self) -> Json;

    /// Whether other processes hear of what is invalidated: by a Redis.
    fn is_shared(&self) -> bool;

    /// The key that a text means, or why it means none.
    fn key(&self, text: &str) -> Result<Invalidation, String>;

    fn apply<'a>(&'a self, what: &'a Invalidation) -> Pin<Box<dyn Future<Output = Reach> + Send + 'a>>;
}

pub(super) struct Typed<K: ?Sized, V> {
    pub(super) cache: Cache<K, V>,
    pub(super) read: Option<ReadText>,
}

impl<K: Key + ?Sized, V: Value> Member for Typed<K, V> {
    fn name(&self) -> &str {
        self.cache.name()
    }

    fn told(&self) -> Json {
        let stats = self.cache.stats();
        let (coherence, millis) = match self.cache.coherence() {
            Some(Coherence::Leased(lease)) => (Some("leased"), Some(in_millis(lease))),
            Some(Coherence::BoundedStale(oldest)) => (Some("bounded_stale"), Some(in_millis(oldest))),
            None => (None, None),
        };
        let params = &self.cache.inner.params;
        let (entries_max, bytes_max) = match params.bound {
            Some(Bound::Entries(entries)) => (Some(entries), None),
            Some(Bound::Bytes(bytes)) => (None, Some(bytes)),
            None => (None, None),
        };
        let hits = stats.memory_hits + stats.redis_hits + stats.dirty_hits;
        let lookups = hits + stats.misses;
        json!({
            "name": self.cache.name(),
            "coherence": coherence,
            "coherence_millis": millis,
            "takes_keys": self.read.is_some(),
            "has_tags": params.tagger.is_some(),
            "entries": stats.memory_entries,
            "entries_max": entries_max,
            "bytes": bytes_max.map(|_| stats.memory_weight),
            "bytes_max": bytes_max,
            "memory_hits": stats.memory_hits,
            "redis_hits": stats.redis_hits,
            "journal_hits": stats.dirty_hits,
            "misses": stats.misses,
            // In thousandths, which is as much as anybody reads.
            "hit_ratio": (lookups > 0).then(|| (hits as f64 / lookups as f64 * 1000.0).round() / 1000.0),
            "loads": stats.loads,
            "evictions": stats.evictions,
            "invalidations": stats.invalidations,
            "redis_is_up": self.cache.inner.redis().is_some().then_some(stats.redis_is_up),
            "memory_is_held": stats.memory_is_held,
        })
    }

    fn is_shared(&self) -> bool {
        self.cache.inner.redis().is_some()
    }

    fn key(&self, text: &str) -> Result<Invalidation, String> {
        let name = self.cache.name();
        let Some(read) = &self.read else {
            return Err(format!(
                "cache {name}: its keys cannot be given as text: the service has to add it by keyed or keyed_by"
            ));
        };
        let key = read(text).map_err(|why| format!("cache {name}: no key {text:?}: {why}"))?;
        Ok(Invalidation::Key(key.into()))
    }

    fn apply<'a>(&'a self, what: &'a Invalidation) -> Pin<Box<dyn Future<Output = Reach> + Send + 'a>> {
        Box::pin(self.cache.apply(what))
    }
}

fn in_millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
