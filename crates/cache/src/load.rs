//! Cache-aside: what is in no tier is loaded, once, in this process and among all of them.
//!
//! A caller looks in memory, joins the flight of its key, and if it leads that looks in Redis, takes the lease there, loads, and stores.
//! It can stop anywhere: then its flight goes to another caller, and its lease to another process.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use crate::cache::{Cache, Value};
use crate::error::Error;
use crate::fence::Ticket;
use crate::flight::Turn;
use crate::inner::{Answer, Inner, Prepared, Understood};
use crate::key::{Key, owned};
use crate::life::refreshes;
use crate::memory::Slot;
use crate::record::VERSION_BYTES;
use crate::redis::{Acquired, Entry, Lease, Redis};
use crate::stats::Count;

/// How often what others have stored is looked at, if it turns out to be useless each time.
const USELESS_MAX: u32 = 3;

/// The error of a loader or of a write, whatever its type.
pub(crate) type Inside = Box<dyn StdError + Send + Sync>;

/// What warming up came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// Keys that have a value now.
    pub warm: u64,
    /// Keys whose load failed.
    pub failed: u64,
}

/// What a load is for.
struct Wanted<'k, V> {
    key: &'k [u8],
    /// That there is nothing will not do.
    value: bool,
    /// What is served meanwhile, where the load is ahead of its end.
    current: Option<Arc<Slot<V>>>,
    /// What is served if the load fails.
    stale: Option<Arc<V>>,
}

/// How Redis was left: what the load may do with its result.
enum Leave<V> {
    /// There is a result already.
    Found(Option<Arc<V>>),
    /// The load begins at this version, and stores under a lease if there is one.
    Load { ticket: Ticket, version: u64, lease: Option<Lease>, written: bool },
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
        let load = async || load().await.map(Some).map_err(Into::into);
        let found = self.obtain(key, true, load).await?;
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
        self.obtain(key, false, async || load().await.map_err(Into::into)).await
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

    async fn obtain<F>(&self, key: &K, value: bool, load: F) -> Answer<V>
    where
        F: AsyncFnOnce() -> Result<Option<V>, Inside>,
    {
        let inner = &*self.inner;
        let mut stale = None;
        if let Some(slot) = key.with_bytes(|key| inner.find(key))
            && (slot.value.is_some() || !value)
        {
            let now = Instant::now();
            if now < slot.fresh_until {
                inner.tally.note(Count::MemoryHit);
                let left = slot.fresh_until - now;
                if inner.params.refresh_ahead && refreshes(left, slot.took, fastrand::u64(..)) {
                    return inner.refresh(owned(key), slot, load).await;
                }
                return Ok(slot.value.clone());
            }
            stale = (now < slot.stale_until).then(|| slot.value.clone()).flatten();
        }
        // What follows is large, and hits do not carry it.
        Box::pin(inner.miss(owned(key), value, stale, load)).await
    }
}

impl<V: Value> Inner<V> {
    async fn miss<F>(&self, key: Box<[u8]>, value: bool, stale: Option<Arc<V>>, load: F) -> Answer<V>
    where
        F: AsyncFnOnce() -> Result<Option<V>, Inside>,
    {
        let mut load = Some(load);
        loop {
            let mut member = self.flights.join(key.clone());
            match member.turn().await {
                Turn::Landed(Ok(None)) if value => {}
                Turn::Landed(answer) => {
                    self.tally.note(Count::Coalesced);
                    return answer;
                }
                Turn::Lead => {
                    let load = load.take().expect("whoever leads returns");
                    let answer = self.lead(Wanted { key: &key, value, current: None, stale }, load).await;
                    match &answer {
                        Ok(_) => member.land(answer.clone()),
                        Err(_) => member.fail(answer.clone()),
                    }
                    return answer;
                }
            }
        }
    }

    /// Loads ahead of an entry's end, unless somebody does.
    async fn refresh<F>(&self, key: Box<[u8]>, slot: Arc<Slot<V>>, load: F) -> Answer<V>
    where
        F: AsyncFnOnce() -> Result<Option<V>, Inside>,
    {
        let current = slot.value.clone();
        let member = self.flights.join(key.clone());
        if !member.leads() {
            return Ok(current);
        }
        self.tally.note(Count::Refresh);
        let stale = current.clone();
        let wanted = Wanted { key: &key, value: false, current: Some(slot), stale };
        let answer = Box::pin(self.lead(wanted, load)).await.or(Ok(current));
        member.land(answer.clone());
        answer
    }

    async fn lead<F>(&self, wanted: Wanted<'_, V>, load: F) -> Answer<V>
    where
        F: AsyncFnOnce() -> Result<Option<V>, Inside>,
    {
        let mut wanted = wanted;
        if wanted.current.is_none() {
            // The flight before this one may have landed since the first look.
            let slot = self.find(wanted.key).filter(|slot| Instant::now() < slot.fresh_until);
            if let Some(slot) = slot.filter(|slot| slot.value.is_some() || !wanted.value) {
                self.tally.note(Count::MemoryHit);
                return Ok(slot.value.clone());
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
            Err(error) => return self.failed(error, wanted.stale),
        };
        let value = loaded.map(Arc::new);
        if value.is_none() && self.params.negative_ttl.is_none() {
            return Ok(None);
        }
        match self.prepare(value.clone(), took) {
            Ok(prepared) if !written => self.store(wanted.key, &prepared, (ticket, version), lease).await,
            // What was loaded while somebody wrote may be old.
            Ok(_) => self.tally.note(Count::Fenced),
            Err(error) => {
                tracing::debug!(%error, "a value is not kept");
                self.tally.note(Count::Unstorable);
            }
        }
        Ok(value)
    }

    fn alone(&self, key: &[u8]) -> Leave<V> {
        Leave::Load { ticket: self.fence.ticket(key), version: self.own_version(), lease: None, written: false }
    }

    /// Looks in Redis, and takes the lease or waits for who has it.
    async fn ask_redis(&self, redis: &Redis, wanted: &mut Wanted<'_, V>) -> Leave<V> {
        let key = wanted.key;
        let mut seen = wanted.current.as_ref().map(|slot| slot.version.to_be_bytes().to_vec()).unwrap_or_default();
        if wanted.current.is_none() {
            let ticket = self.fence.ticket(key);
            match redis.read(&[key]).await {
                Ok(found) => {
                    if let Some(bytes) = found.into_iter().next().flatten() {
                        match self.taken(wanted, ticket, &bytes).await {
                            Some(found) => return Leave::Found(found),
                            None => seen = prefix(&bytes),
                        }
                    }
                }
                Err(away) => {
                    self.note_away(away);
                    return self.alone(key);
                }
            }
        }
        let mut useless = 0;
        loop {
            // Both before Redis is asked, so that nothing is missed in between.
            let ticket = self.fence.ticket(key);
            let mut rung = std::pin::pin!(redis.bell(key).notified());
            rung.as_mut().enable();
            match redis.acquire(key, &seen).await {
                Ok(Acquired::Lead { lease, version, written, old }) => {
                    self.note_clock(version);
                    if wanted.stale.is_none()
                        && !self.params.stale.is_zero()
                        && !old.is_empty()
                        && let Understood::Stale(old) = self.understand(&old, ticket).await
                    {
                        wanted.stale = old;
                    }
                    return Leave::Load { ticket, version, lease: Some(lease), written };
                }
                Ok(Acquired::Value(bytes)) => {
                    if let Some(found) = self.taken(wanted, ticket, &bytes).await {
                        self.tally.note(Count::Coalesced);
                        return Leave::Found(found);
                    }
                    (seen, useless) = (prefix(&bytes), useless + 1);
                    if useless >= USELESS_MAX {
                        return self.alone(key);
                    }
                }
                Ok(Acquired::Busy(left)) => {
                    if let Some(current) = &wanted.current {
                        return Leave::Found(current.value.clone());
                    }
                    let _rung_or_over = tokio::time::timeout(left + Duration::from_millis(1), rung).await;
                }
                Err(away) => {
                    self.note_away(away);
                    return self.alone(key);
                }
            }
        }
    }

    /// Takes what is in Redis, if it will do.
    async fn taken(&self, wanted: &Wanted<'_, V>, ticket: Ticket, bytes: &[u8]) -> Option<Option<Arc<V>>> {
        let Understood::Fresh(slot) = self.understand(bytes, ticket).await else { return None };
        if wanted.value && slot.value.is_none() {
            return None;
        }
        self.tally.note(Count::RedisHit);
        let value = slot.value.clone();
        self.keep(wanted.key, ticket, slot);
        Some(value)
    }

    /// Runs a loader when there is room for it: what it brought, and how long it took.
    async fn load<F>(&self, load: F) -> Result<(Option<V>, Duration), Error>
    where
        F: AsyncFnOnce() -> Result<Option<V>, Inside>,
    {
        let place = tokio::time::timeout(self.params.loads_wait, self.loads.acquire()).await;
        let Ok(Ok(_place)) = place else {
            self.tally.note(Count::LoadRefused);
            return Err(Error::Busy { cache: Arc::clone(&self.name), loads_max: self.params.loads_max });
        };
        let began = Instant::now();
        let loaded = load().await;
        let took = began.elapsed();
        self.tally.add(Count::LoadMicros, took.as_micros() as u64);
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

    fn failed(&self, error: Error, stale: Option<Arc<V>>) -> Answer<V> {
        match stale {
            Some(stale) => {
                self.tally.note(Count::StaleServed);
                tracing::debug!(%error, "an old value is served");
                Ok(Some(stale))
            }
            None => Err(error),
        }
    }

    /// Stores what was loaded, in Redis under the lease and then in memory, unless something has changed meanwhile.
    async fn store(&self, key: &[u8], prepared: &Prepared<V>, (ticket, version): (Ticket, u64), lease: Option<Lease>) {
        if prepared.fresh.is_zero() {
            return;
        }
        if let (Some(redis), Some(lease)) = (self.redis(), lease) {
            let entry = Entry { rest: &prepared.rest, life: prepared.life, tags: &prepared.tags };
            match redis.fill(lease, version, &entry).await {
                Ok(true) => {}
                Ok(false) => return self.tally.note(Count::Fenced),
                Err(away) => self.note_away(away),
            }
        }
        self.keep(key, ticket, self.slot(prepared, version, ticket.era));
    }
}

/// What a script compares to tell one value from another.
fn prefix(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(VERSION_BYTES)].to_vec()
}
