//! What routes cache in: memory, and a folder if there is one. A configuration with another folder, or another size of it,
//! replaces it.
//!
//! Whoever has begun with the tiers before goes on with them, and the folder is theirs until the last of them has ended: the
//! store tries again until it has it. A folder that is left for another, or for none, is purged as a whole: nobody tells it
//! of purges while it is away, and it would serve what they meant when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use store::{DiskParams, How, Mark, OpenError, Purge, Store, StoreParams};

use crate::params::{CacheDiskParams, CacheStoreParams};

/// How often, and how long between, it is looked whether nobody uses what was replaced any more.
const LOOKS: usize = 50;
const LOOK: Duration = Duration::from_millis(10);

/// How long a disk has to take what is to be written.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A store, and what is known of it.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(crate) store: Store,
    /// The folder, if there is one.
    pub(crate) disk: Option<CacheDiskParams>,
    memory_bytes_max: AtomicU64,
}

impl Tiers {
    /// Opens what a configuration says. With a folder this reads what is there.
    ///
    /// # Errors
    /// When there is too little memory, or there are no threads to be had.
    pub(crate) async fn open(params: &CacheStoreParams) -> Result<Self, OpenError> {
        let disk = params.disk.clone();
        let folder = disk.as_ref().map(|disk| DiskParams::new(&disk.path, disk.bytes_max));
        let memory_bytes_max = AtomicU64::new(params.memory_bytes_max);
        let params = StoreParams { disk: folder, ..StoreParams::new(params.memory_bytes_max) };
        let opened = tokio::task::spawn_blocking(move || Store::open(&params)).await;
        let store = opened.unwrap_or_else(|error| Err(OpenError::Threads(std::io::Error::other(error))))?;
        Ok(Self { store, disk, memory_bytes_max })
    }

    /// Purges a URL of which there may be nothing.
    pub(crate) fn purge_if_there(&self, url: Mark) {
        // A folder that is not there yet cannot be asked.
        let is_known = self.disk.is_none() || self.store.stats().disk.is_some_and(|disk| disk.is_up);
        let _purged = match is_known {
            true => self.store.purge_if_there(url, How::Hard),
            false => self.store.purge(Purge::mark(url, How::Hard)).ok(),
        };
    }

    /// Writes what waits, and gives the folder back, once nobody uses this any more.
    async fn close(mut tiers: Arc<Self>) {
        for _ in 0..LOOKS {
            match Arc::try_unwrap(tiers) {
                // Readers that hold the store still end it when they end.
                Ok(Self { store, .. }) => {
                    let closed = tokio::task::spawn_blocking(move || store.close());
                    if tokio::time::timeout(CLOSE_MAX, closed).await.is_err() {
                        tracing::warn!("the cache's disk has not taken all that was to be written");
                    }
                    return;
                }
                Err(used) => tiers = used,
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The tiers of the moment.
#[derive(Debug)]
pub(crate) struct Current(ArcSwap<Tiers>);

impl Current {
    pub(crate) fn new(tiers: Tiers) -> Self {
        Self(ArcSwap::from_pointee(tiers))
    }

    /// For a look, which is over before anything is waited for.
    pub(crate) fn look(&self) -> Guard<Arc<Tiers>> {
        self.0.load()
    }

    /// For whatever takes longer.
    pub(crate) fn keep(&self) -> Arc<Tiers> {
        self.0.load_full()
    }

    /// Goes by another configuration. If its disk is another one, memory begins anew.
    pub(crate) async fn configure(&self, params: &CacheStoreParams) {
        let before = self.keep();
        if before.disk == params.disk {
            before.memory_bytes_max.store(params.memory_bytes_max, Ordering::Relaxed);
            return before.store.set_memory_bytes(params.memory_bytes_max);
        }
        let path = |disk: &Option<CacheDiskParams>| disk.as_ref().map(|disk| disk.path.clone());
        if path(&before.disk) == path(&params.disk) {
            // The folder has one owner at a time.
            drop(before);
            self.leave_disk().await;
        } else {
            let _only_prefixes_can_be_too_long = before.store.purge(Purge::all(How::Hard));
            drop(before);
        }
        match Tiers::open(params).await {
            Ok(tiers) => drop(tokio::spawn(Tiers::close(self.0.swap(Arc::new(tiers))))),
            Err(error) => tracing::error!(%error, "the cache goes on as it was"),
        }
    }

    /// Goes on in memory alone, and gives the folder back.
    pub(crate) async fn leave_disk(&self) {
        let before = self.keep();
        if before.disk.is_none() {
            return;
        }
        let memory_bytes_max = before.memory_bytes_max.load(Ordering::Relaxed);
        drop(before);
        match Tiers::open(&CacheStoreParams { memory_bytes_max, disk: None }).await {
            Ok(tiers) => Tiers::close(self.0.swap(Arc::new(tiers))).await,
            Err(error) => tracing::error!(%error, "the cache keeps its folder"),
        }
    }
}
