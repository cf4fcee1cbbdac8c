//! The edge cache seen from outside, and purged.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use store::{DiskStats, TopKey};
use telemetry::encode::{self, CacheDiskRow, CacheRow};

use super::GatewayView;
use crate::cache::{self, CacheResult, IDENTITY, PurgeError, PurgeRequest, RouteCache, Tiers, VARIANT};
use crate::router::Route;
use crate::state::Snapshot;

/// How long a purge waits for the disk to note it.
const NOTED_MAX: Duration = Duration::from_secs(2);

/// Keys that are shown at most.
const TOP_MAX: usize = 50;

/// A key as people read it: its parts with spaces between. Values of fields and cookies may be secrets, so that a number stands
/// for each, which is another one in each process.
fn shown(key: &[u8]) -> String {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let text = |bytes: &[u8]| {
        let shown = bytes.iter().map(|byte| if byte.is_ascii_graphic() { *byte } else { b' ' });
        String::from_utf8_lossy(&shown.collect::<Vec<_>>()).trim().to_owned()
    };
    let mut out = Vec::new();
    for part in key.split(|&byte| byte == 0) {
        let marked = part.iter().position(|byte| [VARIANT, IDENTITY].contains(byte));
        let (before, after) = part.split_at(marked.unwrap_or(part.len()));
        let (name, secret) = match after.split_first() {
            None | Some((&IDENTITY, _)) => (text(before), &b""[..]),
            // Fields have their names before their values, and a variant all of them.
            Some((_, value)) if !text(before).is_empty() => (text(before), value),
            Some((_, values)) => {
                let (names, values) = values.split_at(memchr::memchr(b'\n', values).unwrap_or(values.len()));
                (text(names), values)
            }
        };
        out.push(name);
        if !secret.is_empty() {
            out.push(format!("#{:08x}", HASHER.hash_one(secret) as u32));
        }
    }
    out.retain(|part| !part.is_empty());
    out.join(" ")
}

fn top_json(TopKey { key, hits, body_bytes }: &TopKey) -> Value {
    json!({ "key": shown(key), "hits": hits, "bytes": body_bytes })
}

/// The disk tier, as the admin listener shows it.
fn disk_json(disk: &DiskStats) -> Value {
    json!({
        "up": disk.is_up,
        "entries": disk.entries,
        "bytes": disk.bytes,
        "bytes_max": disk.bytes_max,
        "hits": disk.hits,
        "errors": disk.errors,
        "corrupt": disk.corrupt,
    })
}

fn disk_row(disk: &DiskStats) -> CacheDiskRow {
    CacheDiskRow {
        is_up: disk.is_up,
        entries: disk.entries,
        bytes: disk.bytes,
        bytes_max: disk.bytes_max,
        hits: disk.hits,
        writes: disk.writes,
        transferred: [disk.bytes_read, disk.bytes_written],
        dropped: [disk.reads_dropped, disk.writes_dropped],
        errors: disk.errors,
        corrupt: disk.corrupt,
    }
}

fn cached(snapshot: &Snapshot) -> impl Iterator<Item = (&Route, &RouteCache)> + Clone {
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    routes.filter_map(|route| Some((route, route.cache.as_deref()?)))
}

impl GatewayView {
    /// What the cache holds, and what it did by route; `routes` is empty if none caches.
    pub fn cache(&self) -> Value {
        let snapshot = self.shared.snapshot();
        let tiers = self.shared.cache.look();
        let stats = tiers.stats();
        let routes = cached(&snapshot).map(|(route, _)| {
            let counts = route.state.cached.totals();
            let results = CacheResult::ALL.iter().zip(counts);
            let requests = results.clone().map(|(result, [requests, _])| (result.as_str().to_owned(), requests.into()));
            let bytes = results.map(|(result, [_, bytes])| (result.as_str().to_owned(), bytes.into()));
            let (requests, bytes): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
                (requests.collect(), bytes.collect());
            json!({ "name": route.state.name.as_str(), "requests": requests, "bytes": bytes })
        });
        let mut shown = json!({
            "entries": stats.memory.entries,
            "memory_bytes": stats.memory.bytes,
            "memory_bytes_max": stats.memory.bytes_max,
            "stored": stats.memory.inserts,
            "evicted": stats.memory.evictions,
            "fetches": stats.memory.fetching,
            "purges": stats.purges,
            "routes": routes.collect::<Vec<_>>(),
            "top": tiers.store.top(TOP_MAX).iter().map(top_json).collect::<Vec<_>>(),
        });
        if let Some(disk) = &stats.disk {
            shown["disk"] = disk_json(disk);
        }
        shown
    }

    /// Purges. When this returns, nothing that was stored before and is meant is served as fresh, also after a restart if its
    /// disk took that.
    ///
    /// # Errors
    /// When what is asked for makes no sense.
    pub async fn purge(&self, request: &PurgeRequest) -> Result<(), PurgeError> {
        let purged = {
            let snapshot = self.shared.snapshot();
            let keys = cached(&snapshot).map(|(_, cache)| &cache.params.policy.key);
            cache::purge(&self.shared.cache, request, keys)?
        };
        let last = async {
            for purged in purged {
                if !purged.lasts().await {
                    return false;
                }
            }
            true
        };
        let lasts = tokio::time::timeout(NOTED_MAX, last).await.unwrap_or(false);
        tracing::info!(what = ?request.by, soft = request.soft, lasts, "the cache was purged");
        Ok(())
    }
}

pub(super) fn encode(snapshot: &Snapshot, tiers: &Tiers, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let row = |(route, _): (&Route, _)| {
        let counts = route.state.cached.totals();
        (route.state.name.clone(), std::array::from_fn(|at| (CacheResult::ALL[at].as_str(), counts[at])))
    };
    let rows: Vec<(vocab::Name, [_; CacheResult::ALL.len()])> = cached(snapshot).map(row).collect();
    let rows: Vec<_> = rows.iter().map(|(name, counts)| (name.as_str(), *counts)).collect();
    encode::routes_cached(&rows, encoder)?;
    let stats = tiers.stats();
    let row = CacheRow {
        entries: stats.memory.entries,
        bytes: stats.memory.bytes,
        bytes_max: stats.memory.bytes_max,
        stored: stats.memory.inserts,
        evicted: stats.memory.evictions,
        fetches: stats.memory.fetching,
        purges: stats.purges,
        readers_cut: stats.readers_cut,
        disk: stats.disk.as_ref().map(disk_row),
    };
    encode::cache((!rows.is_empty()).then_some(&row), encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_keys_are_not_shown() {
        let plain = |key: &[u8]| shown(key).split_whitespace().filter(|part| !part.starts_with('#')).count();
        assert_eq!(shown(b"h\0/a?b=1\0s\0shop\x0212345678\0api\0"), "h /a?b=1 s shop api");
        assert_eq!(shown(b"h\0/\0s\0x-tenant\0sid\0shop\x021\0api\0"), "h / s x-tenant sid shop api");
        let by_cookie = |value: &str| format!("h\0/\0s\0sid\x01{value}\0shop\x021\0api\0").into_bytes();
        let (one, other) = (shown(&by_cookie("secret")), shown(&by_cookie("other")));
        assert!(one.starts_with("h / s sid #") && one.ends_with(" shop api") && !one.contains("secret"), "{one}");
        assert_ne!(one, other);
        for variant in [&b"\x01cookie\n+sid=secret\n"[..], b"\x03\x01cookie\n+sid=secret\n"] {
            let key = [&b"h\0/\0s\0shop\x021\0api\0"[..], variant].concat();
            let shown = shown(&key);
            assert!(shown.starts_with("h / s shop api cookie #") && !shown.contains("secret"), "{shown}");
            assert_eq!(plain(&key), 6);
        }
    }
}
