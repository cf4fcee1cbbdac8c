//! A named cache, which outlives configurations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use resp::Bounds;
use vocab::Name;

use crate::engine::{Engine, millis};
use crate::metrics::Metrics;
use crate::params::CacheParams;

/// Most parts of a command. `MGET` of more keys than that holds a core for too long.
const PARTS_MAX: usize = 64 * 1024;
/// What a command has beside its largest value: keys, options, and the other values of an `MSET`.
const COMMAND_BYTES_MIN: u64 = 4 << 20;

/// What is taken of someone who has not said the password: enough for it, and no memory to speak of on each of many connections. Parts
/// and their bytes are those of Redis.
pub(crate) const STRANGERS_BOUNDS: Bounds =
    Bounds { parts_max: 10, part_bytes_max: 16 * 1024, command_bytes_max: 32 * 1024 };

/// A cache.
#[derive(Debug)]
pub(crate) struct NamedCache {
    pub(crate) name: Name,
    pub(crate) metrics: Metrics,
    settings: ArcSwap<Settings>,
    /// Connections, of all its listeners.
    open: AtomicUsize,
    /// The number of the last connection.
    last_id: AtomicU64,
}

/// What the configuration makes of it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) params: CacheParams,
    pub(crate) engine: Arc<Engine>,
    pub(crate) bounds: Bounds,
    /// The life of entries without one of their own, in milliseconds.
    pub(crate) ttl: Option<u64>,
}

/// A place under a cache's `connections_max`, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) cache: Arc<NamedCache>,
    pub(crate) id: u64,
}

impl Settings {
    fn new(params: CacheParams, engine: Arc<Engine>) -> Self {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let bounds = Bounds {
            parts_max: PARTS_MAX,
            part_bytes_max: bytes(params.value_bytes_max),
            command_bytes_max: bytes(COMMAND_BYTES_MIN.max(2 * params.value_bytes_max)),
        };
        let ttl = params.ttl.map(millis);
        Self { params, engine, bounds, ttl }
    }
}

impl NamedCache {
    pub(crate) fn new(params: CacheParams, cores: usize) -> Self {
        let engine = Arc::new(Engine::new(params.memory_bytes, params.value_bytes_max));
        Self {
            name: params.name.clone(),
            metrics: Metrics::new(cores),
            settings: ArcSwap::from_pointee(Settings::new(params, engine)),
            open: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
        }
    }

    /// Goes by another configuration. What is kept stays, unless there is another memory for it.
    pub(crate) fn configure(&self, params: CacheParams) {
        let before = self.settings.load();
        let engine = if params.keeps_as(&before.params) {
            Arc::clone(&before.engine)
        } else {
            tracing::warn!(cache = %self.name, "its memory has another size, and begins empty");
            Arc::new(Engine::new(params.memory_bytes, params.value_bytes_max))
        };
        self.settings.store(Arc::new(Settings::new(params, engine)));
    }

    /// What it goes by now.
    pub(crate) fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Has everything gone. To free it is for a thread of its own, so that no core waits.
    pub(crate) fn clear(&self) {
        let old = self.settings().engine.clear();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(old));
        }
    }

    /// A place for a connection, if there is one.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Seat> {
        let max = self.settings().params.connections_max as usize;
        let free = |open: usize| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        Some(Seat { cache: Arc::clone(self), id })
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cache.open.fetch_sub(1, Ordering::Relaxed);
    }
}
