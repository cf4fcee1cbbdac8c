//! What routes cache in: memory, and a folder if there is one. A configuration with another folder, or another size of it,
//! replaces it.
//!
//! Whoever has begun with the tiers before goes on with them, and a folder is theirs until the last of them has ended; so it
//! is after an upgrade, with those of another process. Until then there is memory alone, and what is purged meanwhile is purged in
//! the folder before anything is served from it. A folder that is left for another, or for none, is purged as a whole, and so is one
//! that comes by a reload: nobody tells it of purges while it is away, and it would serve what they meant when it comes back.

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

/// How often it is looked whether a folder is free that was left: an hour long.
const LEFT_LOOKS: usize = 72_000;

/// Memory for the index of what is only purged.
const LEFT_MEMORY_BYTES: u64 = 16 << 20;

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
    late: Arc<Mutex<Late>>,
}

impl Awaited {
    fn new(disk: CacheDiskParams) -> Self {
        Self { disk, late: Arc::default() }
    }
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
            let awaited = taken.map(Awaited::new);
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

    /// Purges a folder that comes in the place of another, or of none: nobody has told it of purges since it was used.
    fn purge_before_use(&self) {
        let purge = Purge::all(How::Hard);
        match &self.awaited {
            Some(awaited) => awaited.late.lock().unwrap_or_else(PoisonError::into_inner).purges = vec![purge],
            None if self.disk.is_some() => {
                let _only_prefixes_can_be_too_long = self.store.purge(purge);
            }
            None => {}
        }
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
        let (purged, is_awaited) = self.purge_by(purge, |store| store.purge(purge.clone()));
        // Should this process end before the folder is free, nobody tells it.
        if is_awaited { purged.map(Purged::unwritten) } else { purged }
    }

    /// Purges a URL of which there may be nothing.
    pub(crate) fn purge_if_there(&self, url: Mark) {
        let _purged = self.purge_by(&Purge::mark(url, How::Hard), |store| store.purge_if_there(url, How::Hard));
    }

    /// Also says whether a folder is awaited.
    fn purge_by<T>(&self, purge: &Purge, here: impl Fn(&Store) -> T) -> (T, bool) {
        loop {
            let tiers = self.look();
            let Some(awaited) = &tiers.awaited else {
                let purged = here(&tiers.store);
                // Others may have come into their place meanwhile, and hear of it too.
                if Arc::ptr_eq(&tiers, &self.look()) {
                    return (purged, false);
                }
                continue;
            };
            let mut late = awaited.late.lock().unwrap_or_else(PoisonError::into_inner);
            if late.is_over {
                continue;
            }
            if late.purges.len() == LATE_MAX {
                late.purges = vec![Purge::all(How::Hard)];
            }
            late.purges.push(purge.clone());
            return (here(&tiers.store), true);
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
            if let Some(awaited) = &before.awaited {
                // Whoever has it now is not told of what was purged here.
                tokio::spawn(purge_left(awaited.disk.clone()));
            }
        }
        drop(before);
        if stays {
            return self.open_anew(params).await;
        }
        match Tiers::open(params).await {
            Ok(tiers) => {
                tiers.purge_before_use();
                self.replace(tiers);
            }
            Err(error) => tracing::error!(%error, "the cache goes on as it was"),
        }
    }

    /// Opens the folder that there is with other settings. It has one owner at a time, so that meanwhile memory alone serves, and
    /// what is purged until then is purged in the folder too.
    async fn open_anew(self: &Arc<Self>, params: &CacheStoreParams) {
        let alone = CacheStoreParams { disk: None, ..params.clone() };
        let tiers = match Tiers::open(&alone).await {
            Ok(tiers) => Tiers { awaited: params.disk.clone().map(Awaited::new), ..tiers },
            Err(error) => return tracing::error!(%error, "the cache goes on as it was"),
        };
        Tiers::close(self.take_over(tiers)).await;
        let alone = self.keep();
        match Tiers::open(params).await {
            Ok(tiers) if tiers.awaited.is_none() => self.arrive(&alone, tiers),
            Ok(_) => self.await_folder(),
            Err(error) => tracing::error!(%error, "the cache goes on in memory"),
        }
    }

    /// Puts tiers that await a folder in the place of those that have it, or await it themselves: then with what was purged
    /// since they do.
    fn take_over(&self, tiers: Tiers) -> Arc<Tiers> {
        let before = self.keep();
        let late = |tiers: &Tiers| tiers.awaited.as_ref().map(|awaited| Arc::clone(&awaited.late));
        let (old, new) = (late(&before), late(&tiers));
        // Nobody purges meanwhile.
        let mut old = old.as_ref().map(|late| late.lock().unwrap_or_else(PoisonError::into_inner));
        if let (Some(old), Some(new)) = (&mut old, new) {
            new.lock().unwrap_or_else(PoisonError::into_inner).purges = std::mem::take(&mut old.purges);
            old.is_over = true;
        }
        self.0.swap(Arc::new(tiers))
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

/// Purges a folder that was left before it was there, once it is free.
async fn purge_left(disk: CacheDiskParams) {
    let params = CacheStoreParams { memory_bytes_max: LEFT_MEMORY_BYTES, disk: Some(disk) };
    for _ in 0..LEFT_LOOKS {
        tokio::time::sleep(AWAIT_LOOK).await;
        let path = params.disk.as_ref().map(|disk| disk.path.clone()).unwrap_or_default();
        if tokio::task::spawn_blocking(move || is_taken(&path)).await.unwrap_or(true) {
            continue;
        }
        match Tiers::open(&params).await {
            Ok(tiers) if tiers.awaited.is_none() => {
                if let Ok(purged) = tiers.store.purge(Purge::all(How::Hard)) {
                    purged.lasts().await;
                }
                return Tiers::close(Arc::new(tiers)).await;
            }
            Ok(_) => {}
            Err(error) => return tracing::error!(%error, "a folder that the cache has left is not purged"),
        }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use store::{Begin, Head, Lookup};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tenfold-tiers-{}-{name}", std::process::id()));
        let _there_is_none = std::fs::remove_dir_all(&folder);
        folder
    }

    fn params(folder: &Path, mebibytes: u64) -> CacheStoreParams {
        let disk = CacheDiskParams { path: folder.into(), bytes_max: mebibytes << 20 };
        CacheStoreParams { memory_bytes_max: 4 << 20, disk: Some(disk) }
    }

    fn tag() -> Mark {
        Mark::tag(b"a")
    }

    async fn put(current: &Current, key: &[u8]) {
        let tiers = current.keep();
        let Begin::Lead(lead) = tiers.store.begin(tiers.store.key(key), &[]) else { panic!("it is being fetched") };
        let head = Head { meta: "meta".into(), marks: vec![tag()], body_bytes: Some(0) };
        lead.start(head).unwrap().finish().unwrap();
        tiers.store.flush().await;
    }

    async fn has(current: &Current, key: &[u8]) -> bool {
        let tiers = current.keep();
        match tiers.store.lookup(tiers.store.key(key)) {
            Lookup::Hit(_) => true,
            Lookup::Coming(follower) => !matches!(follower.head().await, store::Outcome::Nothing),
            Lookup::Miss => false,
        }
    }

    async fn until(is_so: impl Fn() -> bool) {
        in_time(async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Waits, but never for ever.
    async fn in_time<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), what).await.expect("within a minute")
    }

    #[tokio::test]
    async fn what_is_purged_while_a_folder_is_opened_anew_stays_purged() {
        let folder = folder("anew");
        let current = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
        put(&current, b"purged").await;
        // As long as somebody uses it, the folder is not free.
        let used = current.keep();
        let (other, wanted) = (Arc::clone(&current), params(&folder, 128));
        let configured = tokio::spawn(async move { other.configure(&wanted).await });
        until(|| current.look().disk.is_none()).await;
        current.purge(&Purge::mark(tag(), How::Hard)).unwrap();
        // Another size meanwhile forgets nothing of that.
        configured.await.unwrap();
        current.configure(&params(&folder, 256)).await;
        drop(used);
        until(|| current.look().disk.as_ref().is_some_and(|disk| disk.bytes_max == 256 << 20)).await;
        assert!(!has(&current, b"purged").await);
        put(&current, b"stored").await;
        current.configure(&params(&folder, 64)).await;
        until(|| current.look().disk.is_some()).await;
        assert!(has(&current, b"stored").await && !has(&current, b"purged").await);
        drop(current);
        let _left_behind = std::fs::remove_dir_all(&folder);
    }

    #[tokio::test]
    async fn a_folder_that_is_left_while_it_is_awaited_is_purged() {
        let folder = folder("left");
        let owner = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
        put(&owner, b"a").await;
        let current = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
        assert!(current.look().disk.is_none());
        current.configure(&CacheStoreParams { disk: None, ..params(&folder, 64) }).await;
        owner.leave_disk().await;
        let read = async || {
            let current = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
            until(|| current.look().disk.is_some()).await;
            let has = has(&current, b"a").await;
            current.leave_disk().await;
            has
        };
        // Whoever comes first may still find it.
        in_time(async {
            while read().await {
                tokio::time::sleep(AWAIT_LOOK).await;
            }
        })
        .await;
        let _left_behind = std::fs::remove_dir_all(&folder);
    }

    #[tokio::test]
    async fn a_folder_that_comes_by_a_reload_serves_nothing_of_before() {
        let folder = folder("comes");
        let owner = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
        put(&owner, b"a").await;
        owner.leave_disk().await;
        let none = CacheStoreParams { disk: None, ..params(&folder, 64) };
        let current = Current::new(Tiers::open(&none).await.unwrap());
        // The folder hears nothing of this.
        assert!(current.purge(&Purge::mark(tag(), How::Hard)).unwrap().lasts().await);
        current.configure(&params(&folder, 64)).await;
        until(|| current.look().disk.is_some()).await;
        assert!(!has(&current, b"a").await);
        put(&current, b"a").await;
        assert!(has(&current, b"a").await, "what comes from now on stays");
        let _left_behind = std::fs::remove_dir_all(&folder);
    }

    #[tokio::test]
    async fn a_purge_for_a_folder_that_is_awaited_is_not_said_to_last() {
        let folder = folder("lasts");
        let owner = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
        let current = Current::new(Tiers::open(&params(&folder, 64)).await.unwrap());
        let purge = Purge::mark(tag(), How::Hard);
        assert!(
            !in_time(current.purge(&purge).unwrap().lasts()).await,
            "the process may end before the folder is free"
        );
        assert!(in_time(owner.purge(&purge).unwrap().lasts()).await);
        owner.leave_disk().await;
        until(|| current.look().disk.is_some()).await;
        assert!(in_time(current.purge(&purge).unwrap().lasts()).await);
        let _left_behind = std::fs::remove_dir_all(&folder);
    }
}
