//! The edge cache seen from outside, and purged.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use store::{Store, TopKey};
use telemetry::encode::{self, CacheRow};

use super::GatewayView;
use crate::cache::{self, CacheResult, PurgeError, PurgeRequest, RouteCache};
use crate::router::Route;
use crate::state::Snapshot;

/// Keys that are shown at most.
const TOP_MAX: usize = 50;

/// A key as people read it: its parts with spaces between.
fn top_json(TopKey { key, hits, body_bytes }: &TopKey) -> Value {
    let key: Vec<u8> = key.iter().map(|byte| if byte.is_ascii_graphic() { *byte } else { b' ' }).collect();
    json!({ "key": String::from_utf8_lossy(key.trim_ascii()), "hits": hits, "bytes": body_bytes })
}

fn cached(snapshot: &Snapshot) -> impl Iterator<Item = (&Route, &RouteCache)> + Clone {
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    routes.filter_map(|route| Some((route, route.cache.as_deref()?)))
}

impl GatewayView {
    /// What the cache holds, and what it did by route; `routes` is empty if none caches.
    pub fn cache(&self) -> Value {
        let snapshot = self.shared.snapshot();
        let stats = self.shared.cache.stats();
        let routes = cached(&snapshot).map(|(route, _)| {
            let counts = route.state.cached.totals();
            let results = CacheResult::ALL.iter().zip(counts);
            let requests = results.clone().map(|(result, [requests, _])| (result.as_str().to_owned(), requests.into()));
            let bytes = results.map(|(result, [_, bytes])| (result.as_str().to_owned(), bytes.into()));
            let (requests, bytes): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
                (requests.collect(), bytes.collect());
            json!({ "name": route.state.name.as_str(), "requests": requests, "bytes": bytes })
        });
        json!({
            "entries": stats.memory.entries,
            "memory_bytes": stats.memory.bytes,
            "memory_bytes_max": stats.memory.bytes_max,
            "stored": stats.memory.inserts,
            "evicted": stats.memory.evictions,
            "fetches": stats.memory.fetching,
            "purges": stats.purges,
            "routes": routes.collect::<Vec<_>>(),
            "top": self.shared.cache.top(TOP_MAX).iter().map(top_json).collect::<Vec<_>>(),
        })
    }

    /// Purges. When this returns, nothing that was stored before and is meant is served as fresh.
    ///
    /// # Errors
    /// When what is asked for makes no sense.
    pub fn purge(&self, request: &PurgeRequest) -> Result<(), PurgeError> {
        let snapshot = self.shared.snapshot();
        let keys = cached(&snapshot).map(|(_, cache)| &cache.params.policy.key);
        cache::purge(&self.shared.cache, request, keys)?;
        tracing::info!(what = ?request.by, soft = request.soft, "the cache was purged");
        Ok(())
    }
}

pub(super) fn encode(snapshot: &Snapshot, store: &Store, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let row = |(route, _): (&Route, _)| {
        let counts = route.state.cached.totals();
        (route.state.name.clone(), std::array::from_fn(|at| (CacheResult::ALL[at].as_str(), counts[at])))
    };
    let rows: Vec<(vocab::Name, [_; CacheResult::ALL.len()])> = cached(snapshot).map(row).collect();
    let rows: Vec<_> = rows.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
    encode::routes_cached(&rows, encoder)?;
    let stats = store.stats();
    let row = CacheRow {
        entries: stats.memory.entries,
        bytes: stats.memory.bytes,
        bytes_max: stats.memory.bytes_max,
        stored: stats.memory.inserts,
        evicted: stats.memory.evictions,
        fetches: stats.memory.fetching,
        purges: stats.purges,
    };
    encode::cache((!rows.is_empty()).then_some(&row), encoder)
}
