//! Named caches seen from outside, and changed by hand.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use telemetry::encode::{NamedCacheRow, named_caches};

use crate::engine::NEVER;
use crate::named::NamedCache;

/// The caches there are.
#[derive(Clone, Debug)]
pub struct CachesView(Arc<ArcSwap<Vec<Arc<NamedCache>>>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct CacheHandle(Arc<NamedCache>);

/// A value that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundValue {
    /// The value.
    pub value: Arc<[u8]>,
    /// Milliseconds until it expires, if it does.
    pub ttl_millis: Option<u64>,
}

impl CachesView {
    pub(crate) fn new(named: Arc<ArcSwap<Vec<Arc<NamedCache>>>>) -> Self {
        Self(named)
    }

    /// The cache of this name.
    pub fn named(&self, name: &str) -> Option<CacheHandle> {
        self.0.load().iter().find(|cache| cache.name.as_str() == name).map(|cache| CacheHandle(Arc::clone(cache)))
    }

    /// All of them, an array of objects.
    pub fn list(&self) -> Value {
        self.0.load().iter().map(|cache| CacheHandle(Arc::clone(cache)).shown()).collect()
    }

    fn rows(&self) -> Vec<NamedCacheRow> {
        let row = |cache: &Arc<NamedCache>| {
            let settings = cache.settings();
            cache.metrics.row(cache.name.as_str(), settings.engine.size(), settings.params.memory_bytes)
        };
        self.0.load().iter().map(row).collect()
    }
}

impl Collector for CachesView {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        named_caches(&self.rows(), &mut encoder)
    }
}

impl CacheHandle {
    /// What it holds and did.
    pub fn shown(&self) -> Value {
        let settings = self.0.settings();
        let params = &settings.params;
        let (entries, bytes) = settings.engine.size();
        let (hits, misses) = self.0.metrics.lookups();
        json!({
            "name": self.0.name.as_str(),
            "listen": params.listen.map(|address| address.to_string()),
            "http": params.http.map(|address| address.to_string()),
            "entries": entries,
            "memory_bytes": bytes,
            "memory_bytes_max": params.memory_bytes,
            "connections": self.0.open(),
            "hits": hits,
            "misses": misses,
            "evicted": self.0.metrics.evicted(),
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<FoundValue> {
        let settings = self.0.settings();
        let now = settings.engine.now();
        let slot = settings.engine.slot(key, now);
        let entry = slot.entry()?;
        let ttl_millis = (entry.deadline != NEVER).then(|| entry.deadline - now);
        Some(FoundValue { value: Arc::clone(&entry.value), ttl_millis })
    }

    /// Removes a key: whether it was there.
    pub fn delete(&self, key: &[u8]) -> bool {
        let settings = self.0.settings();
        settings.engine.slot(key, settings.engine.now()).remove()
    }

    /// Has whatever carries the tag gone.
    pub fn invalidate(&self, tag: &[u8]) {
        self.0.settings().engine.invalidate(tag);
    }

    /// Has everything gone.
    pub fn clear(&self) {
        self.0.clear();
    }
}
