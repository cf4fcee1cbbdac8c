//! What routes cache in: memory, and a folder if there is one. A configuration with another folder, or another size of it,
//! replaces it.
//!
//! Whoever has begun with the tiers before goes on with them, and a folder is theirs until the last of them has ended; so it
//! is after an upgrade, with those of another process. Until then there is memory alone, and what is purged meanwhile is purged in
//! the folder before anything is served from it. A folder that is left for another, or for none, is purged as a whole: nobody
//! tells it of purges while it is away, and it would serve what they meant when it comes back.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use store::{DiskParams, DiskStats, How, Mark, OpenError, Purge, PurgeError, Purged, Stats, Store, StoreParams};

use crate::params::{CacheDiskParams, CacheStoreParams};

/// How often, and how long between, it is looked whether nobody uses what was replaced any more.
const LOOKS: usize = 50;
const LOOK: Duration = Duration::from_millis(10);

/// How long between looks whether a folder has become free.
const AWAIT_LOOK: Duration = Duration::from_millis(50);

/// How long a disk has to take what is to be written.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Purges that are remembered for a folder that is awaited. With more of them it is purged as a whole.
const LATE_MAX: usize = 65_536;

/// A store, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(crate) store: Store,
    /// The folder, if there is one.
    pub(crate) disk: Option<CacheDiskParams>,
    memory_bytes_max: AtomicU64,
    /// The folder that there is to be, and what has been purged meanwhile.
    awaited: Option<Awaited>,
}

#[derive(Debug)]
struct Awaited {
    disk: CacheDiskParams,
    late: Mutex<Late>,
}

#[derive(Debug, Default)]
struct Late {
    purges: Vec<Purge>,
    /// The folder is there, and others have these tiers' place.
    is_over: bool,
}

impl Tiers {
    /// Opens what a configuration says, but for a folder that somebody else has. With a folder this reads what is there.
    ///
    /// # Errors
    /// When there is too little memory, or there are no threads to be had.
    pub(crate) async fn open(params: &CacheStoreParams) -> Result<Self, OpenError> {
        let mut params = params.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let taken = params.disk.take_if(|disk| is_taken(&disk.path));
            let disk = params.disk.as_ref().map(|disk| DiskParams::new(&disk.path, disk.bytes_max));
            let store = Store::open(&StoreParams { disk, ..StoreParams::new(params.memory_bytes_max) })?;
            let awaited = taken.map(|disk| Awaited { disk, late: Mutex::default() });
            let memory_bytes_max = AtomicU64::new(params.memory_bytes_max);
            Ok(Self { store, disk: params.disk, memory_bytes_max, awaited })
        });
        opened.await.unwrap_or_else(|error| Err(OpenError::Threads(std::io::Error::other(error))))
    }

    /// What is to be seen of both tiers.
    pub(crate) fn stats(&self) -> Stats {
        let stats = self.store.stats();
        let awaited = || self.awaited.as_ref().map(|awaited| awaited.disk.bytes_max);
        let awaited = || awaited().map(|bytes_max| DiskStats { bytes_max, ..DiskStats::default() });
        Stats { disk: stats.disk.or_else(awaited), ..stats }
    }

    /// The folder that there is or will be.
    fn wanted(&self) -> Option<&CacheDiskParams> {
        self.awaited.as_ref().map(|awaited| &awaited.disk).or(self.disk.as_ref())
    }

    /// The same with this folder.
    fn params(&self, disk: Option<CacheDiskParams>) -> CacheStoreParams {
        CacheStoreParams { memory_bytes_max: self.memory_bytes_max.load(Ordering::Relaxed), disk }
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

/// Whether another process has a folder, or tiers of this one that are being given up. Whatever else is the matter with it is for the
/// store to find.
fn is_taken(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join("lock")) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}

/// The tiers of the moment.
#[derive(Debug)]
pub(crate) struct Current(ArcSwap<Tiers>);

impl Current {
    /// Begins with these. It has to be called on a runtime.
    pub(crate) fn new(tiers: Tiers) -> Arc<Self> {
        let current = Arc::new(Self(ArcSwap::from_pointee(tiers)));
        current.await_folder();
        current
    }

    /// For a look, which is over before anything is waited for.
    pub(crate) fn look(&self) -> Guard<Arc<Tiers>> {
        self.0.load()
    }

    /// For whatever takes longer.
    pub(crate) fn keep(&self) -> Arc<Tiers> {
        self.0.load_full()
    }

    /// Purges here, and in the folder that is awaited.
    ///
    /// # Errors
    /// When a prefix is too long.
    pub(crate) fn purge(&self, purge: &Purge) -> Result<Purged, PurgeError> {
        self.purge_by(purge, |store| store.purge(purge.clone()))
    }

    /// Purges a URL of which there may be nothing.
    pub(crate) fn purge_if_there(&self, url: Mark) {
        let _purged = self.purge_by(&Purge::mark(url, How::Hard), |store| store.purge_if_there(url, How::Hard));
    }

    fn purge_by<T>(&self, purge: &Purge, here: impl Fn(&Store) -> T) -> T {
        loop {
            let tiers = self.look();
            let Some(awaited) = &tiers.awaited else { return here(&tiers.store) };
            let mut late = awaited.late.lock().unwrap_or_else(PoisonError::into_inner);
            if late.is_over {
                continue;
            }
            if late.purges.len() == LATE_MAX {
                late.purges = vec![Purge::all(How::Hard)];
            }
            late.purges.push(purge.clone());
            return here(&tiers.store);
        }
    }

    /// Goes by another configuration. If its disk is another one, memory begins anew.
    pub(crate) async fn configure(self: &Arc<Self>, params: &CacheStoreParams) {
        let before = self.keep();
        before.memory_bytes_max.store(params.memory_bytes_max, Ordering::Relaxed);
        if before.wanted() == params.disk.as_ref() {
            return before.store.set_memory_bytes(params.memory_bytes_max);
        }
        let path = |disk: Option<&CacheDiskParams>| disk.map(|disk| disk.path.clone());
        let stays = path(before.wanted()) == path(params.disk.as_ref());
        if !stays {
            let _only_prefixes_can_be_too_long = before.store.purge(Purge::all(How::Hard));
        }
        drop(before);
        if stays {
            // A folder has one owner at a time.
            self.leave_disk().await;
        }
        match Tiers::open(params).await {
            Ok(tiers) => self.replace(tiers),
            Err(error) => tracing::error!(%error, "the cache goes on as it was"),
        }
    }

    fn replace(self: &Arc<Self>, tiers: Tiers) {
        tokio::spawn(Tiers::close(self.0.swap(Arc::new(tiers))));
        self.await_folder();
    }

    /// Goes on in memory alone, and gives the folder back.
    pub(crate) async fn leave_disk(&self) {
        let before = self.keep();
        if before.wanted().is_none() {
            return;
        }
        let params = before.params(None);
        drop(before);
        match Tiers::open(&params).await {
            Ok(tiers) => Tiers::close(self.0.swap(Arc::new(tiers))).await,
            Err(error) => tracing::error!(%error, "the cache keeps its folder"),
        }
    }

    /// Takes the folder that is awaited once it is free, if any is.
    fn await_folder(self: &Arc<Self>) {
        let tiers = self.keep();
        let Some(Awaited { disk, .. }) = &tiers.awaited else { return };
        tracing::info!(path = %disk.path.display(), "the folder of the cache is another's: going on in memory until it is free");
        tokio::spawn(await_folder(Arc::downgrade(self), Arc::downgrade(&tiers), disk.clone()));
    }

    /// Puts tiers with a folder in the place of those that await it.
    fn arrive(&self, before: &Arc<Tiers>, tiers: Tiers) {
        // A reload may have come between.
        let Some(awaited) = before.awaited.as_ref().filter(|_| Arc::ptr_eq(&self.look(), before)) else { return };
        // Nobody purges meanwhile.
        let mut late = awaited.late.lock().unwrap_or_else(PoisonError::into_inner);
        for purge in late.purges.drain(..) {
            let _it_was_taken_before = tiers.store.purge(purge);
        }
        late.is_over = true;
        self.0.store(Arc::new(tiers));
    }
}

/// Looks whether a folder has become free, as long as it is awaited.
async fn await_folder(current: Weak<Current>, before: Weak<Tiers>, disk: CacheDiskParams) {
    loop {
        tokio::time::sleep(AWAIT_LOOK).await;
        let (Some(current), Some(before)) = (current.upgrade(), before.upgrade()) else { return };
        if !Arc::ptr_eq(&current.look(), &before) {
            return;
        }
        let path = disk.path.clone();
        if tokio::task::spawn_blocking(move || is_taken(&path)).await.unwrap_or(true) {
            continue;
        }
        match Tiers::open(&before.params(Some(disk.clone()))).await {
            Ok(tiers) if tiers.awaited.is_none() => return current.arrive(&before, tiers),
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the cache goes on in memory"),
        }
    }
}
