//! Named caches, looked into and purged over the admin listener.

use admin::{NamedPurgeTarget, Reason, Refused};
use cache_server::CachesView;
use serde_json::{Value, json};

/// Bytes of a value that are shown. What is longer is not for people.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// The value of a key, if there is such a cache and it has it.
pub(super) fn value(caches: &CachesView, cache: &str, key: &str) -> Option<Value> {
    let found = caches.named(cache)?.get(key.as_bytes())?;
    let text = std::str::from_utf8(&found.value).ok().filter(|text| text.len() <= SHOWN_BYTES_MAX);
    let ttl = found.ttl_millis.map(|millis| millis as f64 / 1000.0);
    Some(json!({ "key": key, "bytes": found.value.len(), "ttl_seconds": ttl, "value": text }))
}

/// Has something gone.
pub(super) fn purge(caches: &CachesView, name: &str, target: &NamedPurgeTarget) -> Result<Value, Refused> {
    let Some(cache) = caches.named(name) else {
        return Err(Refused::new(Reason::NotFound, format!("no cache is named {name:?}")));
    };
    let removed = match target {
        NamedPurgeTarget::Key(key) => Some(cache.delete(key.as_bytes())),
        NamedPurgeTarget::Tag(tag) => {
            cache.invalidate(tag.as_bytes());
            None
        }
        NamedPurgeTarget::Everything => {
            cache.clear();
            None
        }
    };
    tracing::info!(cache = name, ?target, "a cache was purged");
    Ok(json!({ "removed": removed }))
}
