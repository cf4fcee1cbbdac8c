//! Cache-aside: what is in no tier is loaded, once, in this process and among all of them.
//!
//! A caller looks in memory, joins the flight of its key, and if it leads that looks in Redis, takes the lease there, loads, and stores.
//! It can stop anywhere: then its flight goes to another caller, and its lease to another process.
//!
//! A load ahead of an entry's end goes on beside its caller, who has what is there at once, if the loader may outlive the call: that of the
//! [builder](crate::Builder::loader), and those given to [`Cache::get_or_load_detached`]. One that borrows is run by its caller.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument;

use crate::brought::{Brought, Stale};
use crate::cache::{Cache, Value};
use crate::error::Error;
use crate::fence::Ticket;
use crate::flight::Turn;
use crate::hit::Fresh;
use crate::hold::Moment;
use crate::inner::{Answer, Inner, Landing, Prepared};
use crate::key::{Key, owned};
use crate::leave::{Leave, Wanted};
use crate::memory::Slot;
use crate::planted::{Bug, is_planted};
use crate::redis::{Entry, Lease};
use crate::stats::Count;
use crate::tags::Tagged;

/// The error of a loader or of a write, whatever its type.
pub(crate) type Inside = Box<dyn StdError + Send + Sync>;

/// What the builder's loader brings.
pub(crate) type Loading<V> = BoxFuture<'static, Result<Option<V>, Inside>>;
/// The loader that a cache was given, by the bytes of keys.
pub(crate) type Loader<V> = Arc<dyn Fn(&[u8]) -> Loading<V> + Send + Sync>;

/// What warming up came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// Keys that have a value now.
    pub warm: u64,
    /// Keys whose load failed.
    pub failed: u64,
}

/// What a caller finds in memory.
enum Found<V> {
    Fresh(Option<Arc<V>>),
    /// It is served, and to be loaded again.
    Early(Slot<V>),
    /// Nothing that will do; perhaps something for when the load fails.
    Miss(Option<Stale<V>>),
}

impl<K: Key + ?Sized, V: Value> Cache<K, V> {
    /// The value of a key: from memory, from Redis, or from the loader.
    ///
    /// Of all callers that miss at once, in all processes that share the cache, one runs its loader and the others have the result.
    ///
    /// # Errors
    /// [`Error::Load`] with the loader's error, and [`Error::Busy`]. Redis cannot be the reason for one.
    pub async fn get_or_load<F, Fut, E>(&self, key: &K, load: F) -> Result<Arc<V>, Error>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Into<Inside>,
    {
        let load = || async { load().await.map(Some).map_err(Into::into) };
        let found = self.obtain(key, true, load).await?;
        Ok(found.expect("nothing will not do"))
    }

    /// The same with a loader that may outlive the call: with [`refresh_ahead`](crate::Builder::refresh_ahead) it then runs on a task of its own, and
    /// no caller waits for it.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_detached<F, Fut, E>(&self, key: &K, load: F) -> Result<Arc<V>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<Inside>,
    {
        let load = || async { load().await.map(Some).map_err(Into::into) };
        let found = match self.look(key, true) {
            Found::Fresh(found) => found,
            Found::Early(slot) => {
                let value = slot.value.clone();
                refresh_beside(&self.inner, (owned(key), true), slot, load);
                value
            }
            Found::Miss(stale) => Box::pin(self.inner.miss(owned(key), true, stale, load)).await?,
        };
        Ok(found.expect("nothing will not do"))
    }

    /// The value of a key, or that there is none, which is remembered for `negative_ttl`.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn find_or_load<F, Fut, E>(&self, key: &K, load: F) -> Result<Option<Arc<V>>, Error>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, E>>,
        E: Into<Inside>,
    {
        self.obtain(key, false, || async { load().await.map_err(Into::into) }).await
    }

    /// Read-through: the value of a key, if there is one, by the [loader](crate::Builder::loader) of the builder.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load), and [`Error::Unequipped`] if the builder was given none.
    pub async fn read(&self, key: &K) -> Result<Option<Arc<V>>, Error> {
        let inner = &*self.inner;
        let Some(loader) = &inner.params.loader else {
            return Err(Error::Unequipped { cache: Arc::clone(&inner.name), lacks: "loader" });
        };
        self.obtain(key, false, || loader(&owned(key))).await
    }

    /// Loads what is in no tier, before anybody asks for it, so many keys at once.
    pub async fn warm_up<Q, E>(
        &self,
        keys: impl IntoIterator<Item = Q>,
        at_once: usize,
        load: impl AsyncFn(&Q) -> Result<V, E>,
    ) -> WarmUp
    where
        Q: std::borrow::Borrow<K>,
        E: Into<Inside>,
    {
        let one = async |key: Q| self.get_or_load(key.borrow(), || load(&key)).await.is_ok();
        let loads = futures_util::stream::iter(keys.into_iter().map(one)).buffer_unordered(at_once.max(1));
        let count = async |sum: WarmUp, warm: bool| match warm {
            true => WarmUp { warm: sum.warm + 1, ..sum },
            false => WarmUp { failed: sum.failed + 1, ..sum },
        };
        loads.fold(WarmUp::default(), count).await
    }

    #[inline]
    fn look(&self, key: &K, value: bool) -> Found<V> {
        let inner = &*self.inner;
        let is_early = |fresh: &Fresh<V>| inner.params.refresh_ahead && fresh.is_early();
        match inner.fresh(key) {
            Some(fresh) if value && fresh.value.is_none() => Found::Miss(None),
            Some(fresh) if !is_early(&fresh) => {
                inner.tally.note(Count::MemoryHit);
                Found::Fresh(fresh.value)
            }
            fresh => inner.late(&owned(key), value, fresh.is_some()),
        }
    }

    async fn obtain<F, Fut>(&self, key: &K, value: bool, load: F) -> Answer<V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, Inside>>,
    {
        let inner = &self.inner;
        match self.look(key, value) {
            Found::Fresh(found) => Ok(found),
            Found::Early(slot) => match &inner.params.loader {
                Some(loader) => {
                    let (value, loader, key) = (slot.value.clone(), Arc::clone(loader), owned(key));
                    refresh_beside(inner, (key.clone(), false), slot, move || loader(&key));
                    Ok(value)
                }
                None => Box::pin(inner.refresh(owned(key), value, slot, load)).await,
            },
            // What follows is large, and hits do not carry it.
            Found::Miss(stale) => Box::pin(inner.miss(owned(key), value, stale, load)).await,
        }
    }
}

/// Loads ahead of an entry's end, on a task of its own, unless somebody does.
pub(crate) fn refresh_beside<V, F, Fut>(inner: &Arc<Inner<V>>, (key, value): (Box<[u8]>, bool), slot: Slot<V>, load: F)
where
    V: Value,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Option<V>, Inside>> + Send + 'static,
{
    // Near an entry's end many callers come here, and one load is enough.
    if !inner.flights.is_led(&key) {
        let inner = Arc::clone(inner);
        tokio::spawn(async move { inner.refresh(key, value, slot, load).await });
    }
}

impl<V: Value> Inner<V> {
    /// What to do with what is not there, or fresh no longer, or not for long. It is looked for again: by then it may be another one.
    #[cold]
    fn late(&self, key: &[u8], value: bool, is_early: bool) -> Found<V> {
        let Some(slot) = self.find(key).filter(|slot| slot.value.is_some() || !value) else { return Found::Miss(None) };
        let now = Instant::now();
        if now < slot.fresh_until {
            self.tally.note(Count::MemoryHit);
            return if is_early { Found::Early(slot) } else { Found::Fresh(slot.value) };
        }
        Found::Miss(Stale::of(slot))
    }

    async fn miss<F, Fut>(&self, key: Box<[u8]>, value: bool, stale: Option<Stale<V>>, load: F) -> Answer<V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, Inside>>,
    {
        let (mut load, arrived) = (Some(load), self.flights.last());
        loop {
            // Without a lease a change may be unheard of that was acknowledged before this call: then what a flight from before the
            // call brings will not do. The lease's end is read before the flight is joined, the clock after it. Not even with one will
            // do what nobody confirmed: the end of a write that was alone is waited for by nobody, and may be unheard of.
            let end = self.hold.as_ref().map(|hold| hold.end());
            let mut member = self.flights.join(key.clone());
            let is_later = member.number() > arrived;
            let (is_held, is_leased) = (end.is_none_or(Moment::is_ahead), end.is_some());
            match member.turn().await {
                Turn::Landed(_) if !is_later && !is_held => {}
                Turn::Landed(Ok(brought)) if value && brought.value.is_none() => {}
                // It was invalidated while it was loaded, perhaps before this call.
                Turn::Landed(Ok(Brought { version, tags, .. })) if !is_later && !self.tags.admit(version, &tags) => {}
                Turn::Landed(Ok(Brought { is_confirmed: false, .. }))
                    if !is_later && is_leased && !is_planted(Bug::UnconfirmedShared) => {}
                Turn::Landed(landing) => {
                    self.tally.note(Count::Coalesced);
                    return self.answer(landing, stale);
                }
                Turn::Lead => {
                    let load = load.take().expect("whoever leads returns");
                    let landing = self.lead(Wanted { key: &key, value, current: None, stale: None }, load).await;
                    match &landing {
                        Ok(_) => member.land(landing.clone()),
                        Err(_) => member.fail(landing.clone()),
                    }
                    return self.answer(landing, stale);
                }
            }
        }
    }

    /// Loads ahead of an entry's end, unless somebody does.
    pub(crate) async fn refresh<F, Fut>(&self, key: Box<[u8]>, value: bool, slot: Slot<V>, load: F) -> Answer<V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, Inside>>,
    {
        let member = self.flights.join(key.clone());
        if !member.leads() {
            return Ok(slot.value.clone());
        }
        // Whoever joins may be served this, so it has to be right after the flight's beginning.
        let slot = match self.find(&key) {
            _ if !self.is_leased() => slot,
            Some(slot) if Instant::now() < slot.fresh_until => slot,
            _ => return Ok(slot.value.clone()),
        };
        self.tally.note(Count::Refresh);
        let wanted = Wanted { key: &key, value, current: Some(slot.clone()), stale: None };
        match Box::pin(self.lead(wanted, load)).await {
            Ok(brought) => {
                member.land(Ok(brought.clone()));
                Ok(brought.value)
            }
            Err(error) => {
                // Others who have joined may have an older value than this one, or none: what is served on is theirs to say.
                member.fail(Err(error.clone()));
                match &slot.value {
                    None if Instant::now() < slot.fresh_until => Ok(None),
                    _ => self.failed(error, Stale::of(slot)).map(|stale| Some(stale.value)),
                }
            }
        }
    }

    /// What a caller has of a flight.
    fn answer(&self, landing: Landing<V>, stale: Option<Stale<V>>) -> Answer<V> {
        landing.map(|brought| brought.value).or_else(|error| Ok(Some(self.failed(error, stale)?.value)))
    }

    async fn lead<F, Fut>(&self, wanted: Wanted<'_, V>, load: F) -> Landing<V>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, Inside>>,
    {
        let mut wanted = wanted;
        if wanted.current.is_none() {
            // The flight before this one may have landed since the first look.
            let (slot, now) = (self.find(wanted.key), Instant::now());
            if let Some(slot) = slot.filter(|slot| slot.value.is_some() || !wanted.value) {
                if now < slot.fresh_until {
                    self.tally.note(Count::MemoryHit);
                    return Ok(Brought::of(&slot));
                }
                wanted.stale = Stale::of(slot);
            }
        }
        let leave = match self.redis() {
            Some(redis) => self.ask_redis(redis, &mut wanted).await,
            None => self.alone(wanted.key),
        };
        let (ticket, version, lease, written) = match leave {
            Leave::Found(found) => return Ok(found),
            Leave::Load { ticket, version, lease, written } => (ticket, version, lease, written),
        };
        if wanted.current.is_none() {
            self.tally.note(Count::Miss);
        }
        let (loaded, took) = match self.load(load).await {
            Ok(loaded) => loaded,
            Err(error) => return self.failed(error, wanted.stale).map(Stale::into_brought),
        };
        let value = loaded.map(Arc::new);
        if value.is_none() && self.params.negative_ttl.is_none() {
            let is_confirmed = !written && self.clear(wanted.key, (ticket, version), lease).await;
            return Ok(Brought { value, is_confirmed, version, tags: Tagged::default() });
        }
        let prepared = self.prepare(value.clone(), took);
        let tags = match &prepared {
            Ok(prepared) => self.tags.of(prepared.tags.iter().map(String::as_str)),
            Err(_) => self.tagged(value.as_deref()),
        };
        let is_confirmed = match prepared {
            Ok(prepared) if !written || is_planted(Bug::FillDuringWrite) => {
                self.store(wanted.key, &prepared, (ticket, version), lease).await
            }
            // What was loaded while somebody wrote may be old.
            Ok(_) => {
                self.tally.note(Count::Fenced);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "a value is not kept");
                self.tally.note(Count::Unstorable);
                false
            }
        };
        Ok(Brought { value, is_confirmed, version, tags })
    }

    /// Runs a loader when there is room for it: what it brought, and how long it took.
    async fn load<F, Fut>(&self, load: F) -> Result<(Option<V>, Duration), Error>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Option<V>, Inside>>,
    {
        let place = tokio::time::timeout(self.params.loads_wait, self.loads.acquire()).await;
        let Ok(Ok(_place)) = place else {
            self.tally.note(Count::LoadRefused);
            return Err(Error::Busy { cache: Arc::clone(&self.name), loads_max: self.params.loads_max });
        };
        let began = Instant::now();
        let loaded = load().instrument(tracing::debug_span!("cache_load", cache = &*self.name)).await;
        let took = began.elapsed();
        self.tally.note_load(took);
        match loaded {
            Ok(loaded) => {
                self.tally.note(Count::Load);
                Ok((loaded, took))
            }
            Err(error) => {
                self.tally.note(Count::LoadFailure);
                Err(Error::Load { cache: Arc::clone(&self.name), source: error.into() })
            }
        }
    }

    /// A load has failed, and may have taken its time.
    fn failed(&self, error: Error, stale: Option<Stale<V>>) -> Result<Stale<V>, Error> {
        match stale {
            Some(stale) if Instant::now() < stale.until => {
                self.tally.note(Count::StaleServed);
                tracing::debug!(%error, "an old value is served");
                Ok(stale)
            }
            _ => Err(error),
        }
    }

    /// There is nothing, and that is not remembered: what was there, fresh or stale, goes from the tiers. Whether Redis confirmed that nothing
    /// has changed meanwhile.
    async fn clear(&self, key: &[u8], (ticket, version): (Ticket, u64), lease: Option<Lease>) -> bool {
        let mut is_known = self.redis().is_none();
        if let (Some(redis), Some(lease)) = (self.redis(), lease) {
            let nothing = Entry { rest: &[], life: Duration::ZERO, tags: &[] };
            match redis.fill(lease, version, &nothing).instrument(self.redis_span("fill")).await {
                Ok(is_done) => is_known = is_done,
                Err(away) => self.note_away(away),
            }
        }
        if let Some(memory) = &self.memory {
            self.fence.keep(key, ticket, || memory.remove(key));
        }
        is_known
    }

    /// Stores what was loaded, in Redis under the lease and then in memory, unless something has changed meanwhile: whether Redis confirmed
    /// that nothing has.
    async fn store(
        &self,
        key: &[u8],
        prepared: &Prepared<V>,
        (ticket, version): (Ticket, u64),
        lease: Option<Lease>,
    ) -> bool {
        if Instant::now() >= prepared.fresh_until {
            return false;
        }
        let (is_unordered, mut is_known) = (self.redis().is_some() && lease.is_none(), self.redis().is_none());
        if let (Some(redis), Some(lease)) = (self.redis(), lease) {
            let entry = Entry { rest: &prepared.rest, life: prepared.life, tags: &prepared.tags };
            match redis.fill(lease, version, &entry).instrument(self.redis_span("fill")).await {
                Ok(true) => is_known = true,
                Ok(false) => {
                    self.tally.note(Count::Fenced);
                    return false;
                }
                Err(away) => self.note_away(away),
            }
        }
        // A write that was under way unheard of here may end without waiting for this instance, as nobody keeps anything meanwhile.
        if self.is_leased() && !is_known && !is_planted(Bug::KeptAlone) {
            self.tally.note(Count::Fenced);
            return false;
        }
        let slot = self.slot(prepared, version, ticket.era);
        if Instant::now() < slot.fresh_until {
            self.keep(key, ticket, Slot { is_unordered, ..slot });
        }
        is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_between_two_looks_is_a_hit() {
        let ttl = Duration::from_secs(60);
        let cache = Cache::<str, String>::builder("late").memory(1 << 20).ttl(ttl).build().await.unwrap();
        assert!(matches!(cache.inner.late(b"a", true, false), Found::Miss(None)));
        cache.put("a", "1".to_owned()).await.unwrap();
        assert!(matches!(cache.inner.late(b"a", true, false), Found::Fresh(Some(value)) if *value == "1"));
        assert!(matches!(cache.inner.late(b"a", true, true), Found::Early(_)));
        assert_eq!(cache.stats().memory_hits, 2);
        tokio::time::advance(ttl).await;
        assert!(matches!(cache.inner.late(b"a", true, true), Found::Miss(_)));
    }
}
