//! The cache as its users see it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::builder::Builder;
use crate::error::Error;
use crate::inner::{Inner, Understood};
use crate::key::{Key, owned};
use crate::redis::Redis;
use crate::stats::{Count, Stats};

/// What can be cached. Redis is one line of configuration away, so values can always be written as bytes.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Value for V {}

/// A cache of values by keys. Clones are the same cache.
pub struct Cache<K: ?Sized, V> {
    pub(crate) inner: Arc<Inner<V>>,
    key: PhantomData<fn(&K)>,
}

/// A value with its version, for [`Cache::compare_and_set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<V> {
    /// The value.
    pub value: Arc<V>,
    /// Grows with each change of anything in the cache.
    pub version: u64,
}

impl<K: Key + ?Sized, V: Value> Cache<K, V> {
    /// Begins to make a cache. Its name is its identity in Redis, and stands in errors.
    pub fn builder(name: impl Into<String>) -> Builder<K, V> {
        Builder::new(name.into())
    }

    pub(crate) fn of(inner: Arc<Inner<V>>) -> Self {
        Self { inner, key: PhantomData }
    }

    /// The value of a key, if a tier has it. Nothing is loaded.
    pub async fn get(&self, key: &K) -> Option<Arc<V>> {
        let inner = &*self.inner;
        if let Some(slot) = key.with_bytes(|key| inner.find(key))
            && Instant::now() < slot.fresh_until
        {
            inner.tally.note(Count::MemoryHit);
            return slot.value.clone();
        }
        let found = match inner.redis() {
            Some(redis) => self.read(redis, &[&owned(key)]).await.pop().flatten(),
            None => None,
        };
        if found.is_none() {
            inner.tally.note(Count::Miss);
        }
        found
    }

    /// The values of some keys, in their order, if a tier has them: those that are not in memory by one question to Redis.
    pub async fn get_many<'k>(&self, keys: impl IntoIterator<Item = &'k K>) -> Vec<Option<Arc<V>>>
    where
        K: 'k,
    {
        let (inner, now) = (&*self.inner, Instant::now());
        let (mut values, mut asked) = (Vec::new(), Vec::new());
        for key in keys {
            let slot = key.with_bytes(|key| inner.find(key)).filter(|slot| now < slot.fresh_until);
            match &slot {
                Some(_) => inner.tally.note(Count::MemoryHit),
                None => asked.push((values.len(), owned(key))),
            }
            values.push(slot.and_then(|slot| slot.value.clone()));
        }
        if let Some(redis) = inner.redis()
            && !asked.is_empty()
        {
            let keys: Vec<&[u8]> = asked.iter().map(|(_, key)| &**key).collect();
            let found = self.read(redis, &keys).await;
            asked.iter().zip(found).for_each(|((at, _), found)| values[*at] = found);
        }
        let misses = asked.iter().filter(|(at, _)| values[*at].is_none()).count();
        inner.tally.add(Count::Miss, misses as u64);
        values
    }

    /// What Redis has of some keys, which then is in memory too.
    async fn read(&self, redis: &Redis, keys: &[&[u8]]) -> Vec<Option<Arc<V>>> {
        let inner = &*self.inner;
        let tickets: Vec<_> = keys.iter().map(|key| inner.fence.ticket(key)).collect();
        let found = redis.read(keys).await.unwrap_or_else(|away| {
            inner.note_away(away);
            keys.iter().map(|_| None).collect()
        });
        let mut values = Vec::with_capacity(keys.len());
        for ((key, ticket), bytes) in keys.iter().zip(tickets).zip(found) {
            let mut value = None;
            if let Some(bytes) = bytes
                && let Understood::Fresh(slot) = inner.understand(&bytes, ticket).await
            {
                inner.tally.note(Count::RedisHit);
                value.clone_from(&slot.value);
                inner.keep(key, ticket, slot);
            }
            values.push(value);
        }
        values
    }

    /// The value of a key with its version: from Redis where there is one, as what is in memory may be older.
    ///
    /// # Errors
    /// [`Error::Away`] when Redis does not answer.
    pub async fn versioned(&self, key: &K) -> Result<Option<Versioned<V>>, Error> {
        let (inner, key) = (&*self.inner, owned(key));
        let Some(redis) = inner.redis() else {
            let slot = inner.find(&key).filter(|slot| Instant::now() < slot.fresh_until);
            let of =
                |slot: &crate::memory::Slot<V>| Some(Versioned { value: slot.value.clone()?, version: slot.version });
            return Ok(slot.and_then(|slot| of(&slot)));
        };
        let ticket = inner.fence.ticket(&key);
        let found = redis.read(&[&key]).await.map_err(|_| Error::Away { cache: Arc::clone(&inner.name) })?;
        let Some(bytes) = found.into_iter().next().flatten() else { return Ok(None) };
        Ok(match inner.understand(&bytes, ticket).await {
            Understood::Fresh(slot) => slot.value.map(|value| Versioned { value, version: slot.version }),
            _ => None,
        })
    }

    /// What the cache is and has done, for metrics.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
}

impl<K: ?Sized, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), key: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.inner.name).finish_non_exhaustive()
    }
}
