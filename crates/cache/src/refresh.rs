//! Periodic refresh: what is asked for most is loaded again before it ends, whoever asks.
//!
//! One task does it, a few keys at a time and within the bulkhead of loads. A key that nobody asked for since the last time is left alone, and
//! so is one that was loaded a moment ago, by whomever.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::cache::Value;
use crate::inner::Inner;

/// Loads of one refresh under way at once; callers' own loads need the bulkhead too.
const LOADS_AT_ONCE: usize = 4;

/// What is refreshed, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefreshHot {
    pub(crate) keys_max: usize,
    pub(crate) every: Duration,
}

/// Tasks that end with their cache.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Vec<tokio::task::AbortHandle>);

impl Tasks {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task).abort_handle());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// Refreshes for as long as the cache lives.
pub(crate) async fn refresh_hot<V: Value>(inner: Weak<Inner<V>>, every: Duration) {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let refreshes = inner.hottest().into_iter().map(|key| refresh_one(&inner, key, every));
        futures_util::stream::iter(refreshes).buffer_unordered(LOADS_AT_ONCE).collect::<()>().await;
    }
}

async fn refresh_one<V: Value>(inner: &Arc<Inner<V>>, key: Box<[u8]>, every: Duration) {
    let Some(loader) = &inner.params.loader else { return };
    let Some(slot) = inner.find(&key) else { return };
    let left = slot.fresh_until.saturating_duration_since(Instant::now());
    let ttl = if slot.value.is_some() { Some(inner.params.ttl) } else { inner.params.negative_ttl };
    let age = ttl.unwrap_or_default().saturating_sub(left);
    if left.is_zero() || age < every / 2 {
        return;
    }
    let named = key.clone();
    // A loader's panic is told by the runtime's hook, and ends this load alone. It may come before there is a future.
    let _panicked = AssertUnwindSafe(inner.refresh(key, false, slot, || loader(&named))).catch_unwind().await;
}
