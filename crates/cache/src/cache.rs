//! The cache as its users see it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::Instrument;

use crate::builder::{Builder, Coherence};
use crate::error::Error;
use crate::fence::Ticket;
use crate::inner::Inner;
use crate::key::{Key, owned};
use crate::redis::{Away, Redis};
use crate::stats::{Count, Stats};
use crate::understand::Understood;

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

/// One of many keys that Redis is asked for.
struct Asked {
    /// Its place among those that the caller wants.
    at: usize,
    key: Box<[u8]>,
    ticket: Ticket,
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
        if let Some(fresh) = inner.fresh(key) {
            inner.tally.note(Count::MemoryHit);
            return fresh.value;
        }
        if inner.redis().is_none() && inner.behind().is_none() {
            inner.tally.note(Count::Miss);
            return None;
        }
        // Not boxed: what a hit does not reach costs it nothing, and each allocation is felt beside a question to Redis.
        self.get_outside(owned(key)).await
    }

    async fn get_outside(&self, key: Box<[u8]>) -> Option<Arc<V>> {
        let inner = &*self.inner;
        let ticket = match inner.ticket(&key) {
            Ok(ticket) => ticket,
            Err(dirty) => return Some(dirty),
        };
        let found = match inner.redis() {
            Some(redis) => self.read_one(redis, &key, ticket).await,
            None => None,
        };
        found.unwrap_or_else(|| {
            inner.tally.note(Count::Miss);
            None
        })
    }

    /// The values of some keys, in their order, if a tier has them: those that are not in memory by one question to Redis.
    pub async fn get_many<'k>(&self, keys: impl IntoIterator<Item = &'k K>) -> Vec<Option<Arc<V>>>
    where
        K: 'k,
    {
        let inner = &*self.inner;
        let (mut values, mut asked) = (Vec::new(), Vec::new());
        for key in keys {
            values.push(match inner.fresh(key) {
                Some(fresh) => {
                    inner.tally.note(Count::MemoryHit);
                    fresh.value
                }
                None => {
                    let (key, at) = (owned(key), values.len());
                    match inner.ticket(&key) {
                        Ok(ticket) => {
                            asked.push(Asked { at, key, ticket });
                            None
                        }
                        Err(dirty) => Some(dirty),
                    }
                }
            });
        }
        if let Some(redis) = inner.redis()
            && !asked.is_empty()
        {
            let found = self.read_all(redis, &asked).await;
            let misses = found.iter().filter(|found| found.is_none()).count();
            inner.tally.add(Count::Miss, misses as u64);
            asked.iter().zip(found).for_each(|(asked, found)| values[asked.at] = found.flatten());
        } else {
            inner.tally.add(Count::Miss, asked.len() as u64);
        }
        values
    }

    /// What Redis has of some keys, be it that there is no value. It then is in memory too.
    async fn read_all(&self, redis: &Redis, asked: &[Asked]) -> Vec<Option<Option<Arc<V>>>> {
        let inner = &*self.inner;
        let keys: Vec<&[u8]> = asked.iter().map(|asked| &*asked.key).collect();
        let found = redis.read(&keys).instrument(inner.redis_span("read")).await.unwrap_or_else(|away| {
            inner.note_away(away);
            keys.iter().map(|_| None).collect()
        });
        let found: Vec<_> = found.into_iter().zip(asked).map(|(bytes, asked)| (bytes, asked.ticket)).collect();
        let understood = inner.understand_all(&found).await;
        let take = |(understood, asked): (_, &Asked)| self.take(&asked.key, asked.ticket, understood);
        understood.into_iter().zip(asked).map(take).collect()
    }

    async fn read_one(&self, redis: &Redis, key: &[u8], ticket: Ticket) -> Option<Option<Arc<V>>> {
        let inner = &*self.inner;
        match redis.read_one(key).instrument(inner.redis_span("read")).await {
            Ok(found) => self.take(key, ticket, inner.understand(&found?, ticket).await),
            Err(away) => {
                inner.note_away(away);
                None
            }
        }
    }

    /// Takes what Redis had into memory, if it will do.
    fn take(&self, key: &[u8], ticket: Ticket, understood: Understood<V>) -> Option<Option<Arc<V>>> {
        let Understood::Fresh(slot) = understood else { return None };
        self.inner.tally.note(Count::RedisHit);
        let value = slot.value.clone();
        self.inner.keep(key, ticket, slot);
        Some(value)
    }

    /// The value of a key with its version: from Redis where there is one, as what is in memory may be older.
    ///
    /// # Errors
    /// [`Error::Away`] when Redis does not answer, and [`Error::Dirty`].
    pub async fn versioned(&self, key: &K) -> Result<Option<Versioned<V>>, Error> {
        let (inner, key) = (&*self.inner, owned(key));
        inner.undirty(&key)?;
        let Some(redis) = inner.redis() else {
            let slot = inner.find(&key).filter(|slot| Instant::now() < slot.fresh_until);
            return Ok(slot.and_then(|slot| Some(Versioned { value: slot.value?, version: slot.version })));
        };
        let (_, found) = inner.present(redis, &key).await.map_err(|_| inner.away())?;
        inner.undirty(&key)?;
        Ok(found)
    }

    /// What the cache is and has done, for metrics.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// How instances keep up with each other, as it was built.
    pub fn coherence(&self) -> Option<Coherence> {
        self.inner.params.coherence
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
}

impl<V: Value> Inner<V> {
    /// What Redis has of a key: the bytes, whatever they are, and the value if there is one that may be served.
    pub(crate) async fn present(
        &self,
        redis: &Redis,
        key: &[u8],
    ) -> Result<(Option<Vec<u8>>, Option<Versioned<V>>), Away> {
        let ticket = self.fence.ticket(key);
        let Some(bytes) = redis.read_one(key).await? else { return Ok((None, None)) };
        let value = match self.understand(&bytes, ticket).await {
            Understood::Fresh(slot) => slot.value.map(|value| Versioned { value, version: slot.version }),
            _ => None,
        };
        Ok((Some(bytes), value))
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
