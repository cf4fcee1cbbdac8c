//! Changes: of a value, with its database or without, and invalidations.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Cache, Value};
use crate::error::Error;
use crate::fence::Settled;
use crate::inner::{Inner, Prepared};
use crate::key::{Key, owned};
use crate::load::Inside;
use crate::redis::{Entry, Owed, Redis, Writing};
use crate::stats::Count;

/// How far a change has come when its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// As far as it can: all tiers of this process, and Redis if there is one, which tells the others.
    Everywhere,
    /// This process. Redis is away; it is told before anything is read from it again. Other processes serve on what they have, no longer than
    /// its time to live.
    Here,
}

impl<K: Key + ?Sized, V: Value> Cache<K, V> {
    /// Puts a value into all tiers. The database hears nothing: for that there is [`write_through`](Self::write_through).
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::Encode`].
    pub async fn put(&self, key: &K, value: V) -> Result<Reach, Error> {
        let (inner, key) = (&*self.inner, owned(key));
        let prepared = inner.prepare(Some(Arc::new(value)), Duration::ZERO)?;
        let era = inner.fence.era();
        let put = match inner.redis() {
            Some(redis) => redis.put(&key, &entry(&prepared), None).await.map(|version| version.unwrap_or(0)),
            None => Ok(inner.tick()),
        };
        let (version, reach) = inner.reached(put);
        inner.settle(&key, era, version, Some(&prepared));
        Ok(reach)
    }

    /// Writes a value to the database by `save`, and then to the cache.
    ///
    /// While the write is under way, what is loaded is not kept, in any process; once this returns, no reader that was under way
    /// can put the old value back. Of writes of one key that overlap none leaves its value, as only the database knows which was last.
    /// A write that failed leaves no value either: it may have taken effect. So does one whose caller is dropped.
    ///
    /// # Errors
    /// [`Error::Save`] with the error of `save`; before it is called, [`Error::TooLarge`] and [`Error::Encode`].
    pub async fn write_through<F, Fut, T, E>(&self, key: &K, value: V, save: F) -> Result<Arc<V>, Error>
    where
        F: FnOnce(Arc<V>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Into<Inside>,
    {
        let value = Arc::new(value);
        let prepared = self.inner.prepare(Some(Arc::clone(&value)), Duration::ZERO)?;
        let write = Write::begin(&self.inner, owned(key)).await;
        match save(Arc::clone(&value)).await {
            Ok(_) => {
                write.finish(Some(prepared)).await;
                Ok(value)
            }
            Err(error) => {
                write.finish(None).await;
                let source = Arc::from(error.into());
                Err(Error::Save { cache: Arc::clone(&self.inner.name), source })
            }
        }
    }

    /// Puts a value if the present one has this version, or if there is none for `None`: the new version, or none if it was another.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Encode`], and [`Error::Away`]: then it is not known whether the value was put, and Redis drops it.
    pub async fn compare_and_set(&self, key: &K, expected: Option<u64>, value: V) -> Result<Option<u64>, Error> {
        let (inner, key) = (&*self.inner, owned(key));
        let prepared = inner.prepare(Some(Arc::new(value)), Duration::ZERO)?;
        let Some(redis) = inner.redis() else { return Ok(inner.swap(&key, expected, &prepared)) };
        let era = inner.fence.era();
        let put = redis.put(&key, &entry(&prepared), Some(expected)).await;
        let Ok(put) = put else {
            inner.settle(&key, era, 0, None);
            return Err(Error::Away { cache: Arc::clone(&inner.name) });
        };
        if let Some(version) = put {
            inner.note_clock(version);
            inner.settle(&key, era, version, Some(&prepared));
        }
        Ok(put)
    }

    /// Drops the value of a key everywhere. Whoever reads after this has returned reads the database's; what is being loaded is not kept.
    pub async fn invalidate(&self, key: &K) -> Reach {
        let (inner, key) = (&*self.inner, owned(key));
        let (version, reach) = inner.invalidate(Owed::Key(key.clone())).await;
        inner.settle(&key, inner.fence.era(), version, None);
        reach
    }

    /// Drops the values that have a tag, however many.
    pub async fn invalidate_tag(&self, tag: &str) -> Reach {
        let inner = &*self.inner;
        let (version, reach) = inner.invalidate(Owed::Tag(tag.into())).await;
        inner.tags.raise(tag, version);
        inner.flights.detach_all();
        reach
    }

    /// Drops all values.
    pub async fn invalidate_all(&self) -> Reach {
        let inner = &*self.inner;
        let (version, reach) = inner.invalidate(Owed::Everything).await;
        inner.tags.raise_all(version);
        inner.flights.detach_all();
        reach
    }
}

impl<V: Value> Inner<V> {
    async fn invalidate(&self, what: Owed) -> (u64, Reach) {
        self.tally.note(Count::Invalidation);
        let told = match self.redis() {
            Some(redis) => redis.invalidate(what).await,
            None => Ok(self.tick()),
        };
        self.reached(told)
    }

    fn reached(&self, told: Result<u64, crate::redis::Away>) -> (u64, Reach) {
        match told {
            Ok(version) => {
                self.note_clock(version);
                (version, Reach::Everywhere)
            }
            Err(away) => {
                self.note_away(away);
                (self.tick(), Reach::Here)
            }
        }
    }

    /// Has the memory hold a new value, or none.
    fn settle(&self, key: &[u8], era: u64, version: u64, prepared: Option<&Prepared<V>>) {
        self.flights.detach(key);
        self.fence.change(key, era, version, |settled| self.hold(key, settled, version, prepared));
    }

    fn hold(&self, key: &[u8], settled: Settled, version: u64, prepared: Option<&Prepared<V>>) {
        let Some(memory) = &self.memory else { return };
        match (settled, prepared) {
            (Settled::Keep(era), Some(prepared)) => memory.insert(key, Arc::new(self.slot(prepared, version, era))),
            _ => memory.remove(key),
        }
    }

    /// Compares and sets where there is only memory.
    fn swap(&self, key: &[u8], expected: Option<u64>, prepared: &Prepared<V>) -> Option<u64> {
        let memory = self.memory.as_ref()?;
        let version = self.fence.alone(key, || {
            let slot = self.find(key).filter(|slot| tokio::time::Instant::now() < slot.fresh_until);
            let found = slot.filter(|slot| slot.value.is_some()).map(|slot| slot.version);
            (found == expected).then(|| {
                let version = self.tick();
                memory.insert(key, Arc::new(self.slot(prepared, version, self.fence.era())));
                version
            })
        });
        if version.is_some() {
            self.flights.detach(key);
        }
        version
    }
}

fn entry<V>(prepared: &Prepared<V>) -> Entry<'_> {
    Entry { rest: &prepared.rest, life: prepared.life, tags: &prepared.tags }
}

/// A write of which the end is told to all tiers, also if its caller is dropped.
struct Write<V: Value>(Option<Begun<V>>);

struct Begun<V> {
    inner: Arc<Inner<V>>,
    key: Box<[u8]>,
    era: u64,
    /// When it began, on the clock of this process: a tag that is invalidated from then on is later.
    version: u64,
    /// Without it Redis did not hear of the beginning.
    writing: Option<Writing>,
}

impl<V: Value> Write<V> {
    async fn begin(inner: &Arc<Inner<V>>, key: Box<[u8]>) -> Self {
        let era = inner.fence.begin_write(&key);
        inner.flights.detach(&key);
        let version = inner.own_version();
        let mut write = Self(Some(Begun { inner: Arc::clone(inner), key, era, version, writing: None }));
        if let (Some(begun), Some(redis)) = (&mut write.0, inner.redis()) {
            match redis.begin(&begun.key).await {
                Ok(writing) => begun.writing = Some(writing),
                Err(away) => inner.note_away(away),
            }
        }
        write
    }

    async fn finish(mut self, prepared: Option<Prepared<V>>) {
        if let Some(begun) = self.0.take() {
            begun.finish(prepared).await;
        }
    }
}

impl<V: Value> Begun<V> {
    async fn finish(self, prepared: Option<Prepared<V>>) {
        let Self { inner, key, era, version, writing } = self;
        let version = match inner.redis() {
            Some(redis) => finish(redis, &inner, (&key, writing), prepared.as_ref()).await,
            None => Some(version),
        };
        let version = version.filter(|_| prepared.is_some());
        inner.flights.detach(&key);
        let hold = |settled| inner.hold(&key, settled, version.unwrap_or(0), prepared.as_ref());
        inner.fence.end_write(&key, era, version, hold);
    }
}

/// Tells Redis that a write has ended: the version of its value, if that may be served. If Redis was away at either end, it may not: which
/// tags were invalidated meanwhile is not known for sure.
async fn finish<V: Value>(
    redis: &Redis,
    inner: &Inner<V>,
    (key, writing): (&[u8], Option<Writing>),
    prepared: Option<&Prepared<V>>,
) -> Option<u64> {
    let Some(writing) = writing else {
        // Redis may be back meanwhile, and have heard of nothing, or of the beginning alone.
        let told = redis.invalidate(Owed::Key(key.into())).await;
        inner.reached(told);
        return None;
    };
    match redis.finish(key, writing, prepared.map(entry).as_ref()).await {
        Ok((version, kept)) => {
            inner.note_clock(version);
            kept.then_some(version)
        }
        Err(away) => {
            inner.note_away(away);
            None
        }
    }
}

impl<V: Value> Drop for Write<V> {
    fn drop(&mut self) {
        if let (Some(begun), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(begun.finish(None));
        }
    }
}
