//! Changes: of a value, with its database or without, and invalidations.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::{Cache, Value};
use crate::error::Error;
use crate::fence::Settled;
use crate::inner::{Inner, Prepared};
use crate::key::{Key, owned};
use crate::load::Inside;
use crate::redis::{Away, Change, Entry, Owed, Redis, Writing};
use crate::stats::Count;

/// How far a change has come when its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// As far as it can: all tiers of this process, and Redis if there is one, which tells the others. With
    /// [`Coherence::Leased`](crate::Coherence::Leased) they have heard of it, or may not serve from memory any more: the change is acknowledged.
    Everywhere,
    /// This process. Redis is away; it is told before this process reads anything from it again. Other processes serve on what they have, no
    /// longer than its time to live.
    Here,
}

impl<K: Key + ?Sized, V: Value> Cache<K, V> {
    /// Puts a value into all tiers. The database hears nothing: for that there is [`write_through`](Self::write_through).
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Encode`] and [`Error::Dirty`].
    pub async fn put(&self, key: &K, value: V) -> Result<Reach, Error> {
        let (inner, key) = (&*self.inner, owned(key));
        inner.undirty(&key)?;
        let prepared = inner.prepare(Some(Arc::new(value)), Duration::ZERO)?;
        let era = inner.fence.era();
        let (put, kept) = match inner.redis() {
            Some(redis) => heard(redis, redis.put(&key, &entry(&prepared), None).await).await,
            None => (Ok(inner.tick()), true),
        };
        let (version, reach) = inner.reached(put);
        inner.settle(&key, era, version, Some(&prepared).filter(|_| kept || !inner.is_leased()));
        Ok(reach)
    }

    /// Writes a value to the database by `save`, and then to the cache.
    ///
    /// While the write is under way, what is loaded is not kept, in any process; once this returns, no reader that was under way
    /// can put the old value back. Of writes of one key that overlap none leaves its value, as only the database knows which was last.
    /// A write that failed leaves no value either: it may have taken effect. So does one whose caller is dropped.
    ///
    /// # Errors
    /// [`Error::Save`] with the error of `save`; before it is called, [`Error::TooLarge`], [`Error::Encode`] and [`Error::Dirty`]. With
    /// [`Coherence::Leased`](crate::Coherence::Leased), [`Error::Away`] before it is called, and [`Error::Unconfirmed`].
    pub async fn write_through<F, Fut, T, E>(&self, key: &K, value: V, save: F) -> Result<Arc<V>, Error>
    where
        F: FnOnce(Arc<V>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Into<Inside>,
    {
        let (value, key) = (Arc::new(value), owned(key));
        self.inner.undirty(&key)?;
        let prepared = self.inner.prepare(Some(Arc::clone(&value)), Duration::ZERO)?;
        let write = Write::begin(&self.inner, key).await?;
        match save(Arc::clone(&value)).await {
            Ok(_) => {
                write.finish(Some(prepared)).await?;
                Ok(value)
            }
            Err(error) => {
                let _the_error_says_that_it_may_be_written = write.finish(None).await;
                Err(self.inner.unsaved(error.into()))
            }
        }
    }

    /// Puts a value if the present one, as [`versioned`](Self::versioned) tells it, has this version, or if there is none for `None`: the new
    /// version, or none if it was another.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Encode`], [`Error::Dirty`], and [`Error::Away`]: then it is not known whether the value was put, and
    /// Redis drops it.
    pub async fn compare_and_set(&self, key: &K, expected: Option<u64>, value: V) -> Result<Option<u64>, Error> {
        let (inner, key) = (&*self.inner, owned(key));
        inner.undirty(&key)?;
        let prepared = inner.prepare(Some(Arc::new(value)), Duration::ZERO)?;
        let Some(redis) = inner.redis() else { return inner.swap(&key, expected, &prepared) };
        let era = inner.fence.era();
        // What is there and will not do is nothing to the caller, and something to Redis.
        let (bytes, present) = inner.present(redis, &key).await.map_err(|_| inner.away())?;
        inner.undirty(&key)?;
        if present.map(|present| present.version) != expected {
            return Ok(None);
        }
        let (put, _) = heard(redis, redis.put(&key, &entry(&prepared), Some(bytes.as_deref())).await).await;
        let Ok(version) = put else {
            inner.settle(&key, era, 0, None);
            return Err(inner.away());
        };
        if version != 0 {
            inner.note_clock(version);
            inner.settle(&key, era, version, Some(&prepared));
        }
        Ok((version != 0).then_some(version))
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
        let is_of_many = !matches!(what, Owed::Key(_));
        let told = match self.redis() {
            Some(redis) => heard(redis, redis.invalidate(what).await).await.0,
            None => Ok(self.tick()),
        };
        if told.is_err() && is_of_many {
            // The number that it gets here has to be above those of all that is kept. What was read before and is yet to be kept may have a
            // higher one.
            self.fence.void_all();
        }
        self.reached(told)
    }

    pub(crate) fn unsaved(&self, error: Inside) -> Error {
        Error::Save { cache: Arc::clone(&self.name), source: Arc::from(error) }
    }

    pub(crate) fn away(&self) -> Error {
        Error::Away { cache: Arc::clone(&self.name) }
    }

    fn reached(&self, told: Result<u64, Away>) -> (u64, Reach) {
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
            (Settled::Keep(era), Some(prepared)) => memory.insert(key, self.slot(prepared, version, era)),
            _ => memory.remove(key),
        }
    }

    /// Compares and sets where there is only memory.
    fn swap(&self, key: &[u8], expected: Option<u64>, prepared: &Prepared<V>) -> Result<Option<u64>, Error> {
        let Some(memory) = &self.memory else { return Ok(None) };
        let version = self.fence.alone(key, || {
            self.undirty(key)?;
            let slot = self.find(key).filter(|slot| Instant::now() < slot.fresh_until);
            let found = slot.filter(|slot| slot.value.is_some()).map(|slot| slot.version);
            Ok((found == expected).then(|| {
                let version = self.tick();
                memory.insert(key, self.slot(prepared, version, self.fence.era()));
                version
            }))
        })?;
        if version.is_some() {
            self.flights.detach(key);
        }
        Ok(version)
    }
}

fn entry<V>(prepared: &Prepared<V>) -> Entry<'_> {
    Entry { rest: &prepared.rest, life: prepared.life, tags: &prepared.tags }
}

/// Waits until all who have to have heard of a change: its version, and whether its value was kept.
async fn heard(redis: &Redis, change: Result<Change, Away>) -> (Result<u64, Away>, bool) {
    match change {
        Ok(mut change) => {
            redis.heard(&mut change).await;
            (Ok(change.version), change.kept)
        }
        Err(away) => (Err(away), false),
    }
}

/// A write of which the end is told to all tiers, also if its caller is dropped.
pub(crate) struct Write<V: Value>(Option<Begun<V>>);

/// A write that is under way. Dropped, it ends in this process alone.
pub(crate) struct Begun<V: Value> {
    inner: Arc<Inner<V>>,
    key: Box<[u8]>,
    era: u64,
    /// When it began, on the clock of this process: a tag that is invalidated from then on is later.
    version: u64,
    /// Without it Redis did not hear of the beginning.
    writing: Option<Writing>,
    has_ended: bool,
    /// When Redis had heard of it.
    since: Instant,
}

impl<V: Value> Write<V> {
    pub(crate) async fn begin(inner: &Arc<Inner<V>>, key: Box<[u8]>) -> Result<Self, Error> {
        let mut write = Self(Some(Begun::new(inner, key)));
        if let Some(begun) = &mut write.0 {
            begun.announce().await?;
        }
        Ok(write)
    }

    /// The write itself, for a task that ends it whatever becomes of the caller.
    pub(crate) fn into_begun(mut self) -> Begun<V> {
        self.0.take().expect("only what consumes a write takes it")
    }

    async fn finish(mut self, prepared: Option<Prepared<V>>) -> Result<(), Error> {
        let Some(begun) = self.0.take() else { return Ok(()) };
        if begun.inner.redis().is_none() {
            return begun.finish(prepared).await;
        }
        // Its caller may be dropped while Redis is told. A task that is ended with its runtime ends the write here, by its drop.
        let unconfirmed = Error::Unconfirmed { cache: Arc::clone(&begun.inner.name) };
        let is_leased = begun.inner.is_leased();
        match tokio::spawn(begun.finish(prepared)).await {
            Err(_) if is_leased => Err(unconfirmed),
            ended => ended.unwrap_or(Ok(())),
        }
    }
}

impl<V: Value> Begun<V> {
    fn new(inner: &Arc<Inner<V>>, key: Box<[u8]>) -> Self {
        let era = inner.fence.begin_write(&key);
        inner.flights.detach(&key);
        let (version, since) = (inner.own_version(), Instant::now());
        Self { inner: Arc::clone(inner), key, era, version, writing: None, has_ended: false, since }
    }

    /// Tells Redis that it begins.
    async fn announce(&mut self) -> Result<(), Error> {
        let inner = &self.inner;
        let Some(redis) = inner.redis() else { return Ok(()) };
        match redis.begin(&self.key).await {
            Ok((writing, mut change)) => {
                (self.writing, self.since) = (Some(writing), Instant::now());
                redis.heard(&mut change).await;
                Ok(())
            }
            Err(away) => {
                inner.note_away(away);
                if inner.is_leased() { Err(inner.away()) } else { Ok(()) }
            }
        }
    }

    /// Ends it: an error if it is not known that nobody serves what was before.
    pub(crate) async fn finish(mut self, prepared: Option<Prepared<V>>) -> Result<(), Error> {
        let writing = self.writing.take();
        // Up to here nobody could keep what was before, so that what is loaded from here on is right.
        let is_sure = writing.as_ref().is_some_and(|writing| writing.sure().is_ahead());
        let ended = match self.inner.redis() {
            Some(redis) => finish(redis, &self.inner, (&self.key, writing), prepared.as_ref()).await,
            None => Ok(Some(self.version)),
        };
        self.end(ended.unwrap_or(None).filter(|_| prepared.is_some()), prepared.as_ref());
        let over = self.inner.redis().and_then(Redis::old_is_over_after);
        match (ended, over) {
            (Err(Away), Some(over)) if is_sure && prepared.is_some() => {
                tokio::time::sleep_until(self.since + over).await;
                Ok(())
            }
            (Err(Away), Some(_)) => Err(Error::Unconfirmed { cache: Arc::clone(&self.inner.name) }),
            _ => Ok(()),
        }
    }

    /// Ends it in this process, once.
    fn end(&mut self, version: Option<u64>, prepared: Option<&Prepared<V>>) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let (inner, key) = (&self.inner, &self.key);
        inner.flights.detach(key);
        let hold = |settled| inner.hold(key, settled, version.unwrap_or(0), prepared);
        inner.fence.end_write(key, self.era, version, hold);
    }
}

/// However it is given up, the key is not closed for good.
impl<V: Value> Drop for Begun<V> {
    fn drop(&mut self) {
        self.end(None, None);
    }
}

/// Tells Redis that a write has ended: the version of its value, if that may be served. If Redis was away at either end, it may not: which
/// tags were invalidated meanwhile is not known for sure.
async fn finish<V: Value>(
    redis: &Redis,
    inner: &Inner<V>,
    (key, writing): (&[u8], Option<Writing>),
    prepared: Option<&Prepared<V>>,
) -> Result<Option<u64>, Away> {
    let Some(writing) = writing else {
        // Redis may be back meanwhile, and have heard of nothing, or of the beginning alone.
        let told = redis.invalidate(Owed::Key(key.into())).await.map(|change| change.version);
        inner.reached(told);
        return Ok(None);
    };
    match redis.finish(key, writing, prepared.map(entry).as_ref()).await {
        Ok(mut change) => {
            inner.note_clock(change.version);
            redis.heard(&mut change).await;
            Ok(change.kept.then_some(change.version))
        }
        Err(away) => {
            inner.note_away(away);
            Err(away)
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
