//! Write-behind of a cache: values are acknowledged by a journal, are in the tiers from then on, and reach the database in batches.
//!
//! The journal stands where [`write_through`](Cache::write_through) has the database, so that the same fences hold. What it adds is the time
//! until the database has the value:
//!
//! - A read looks at what is **dirty** before it looks in Redis and before it loads. Before a load it looks after it took its ticket: a write
//!   that is acknowledged later makes the ticket void, and one from before is seen, or is in the database by now.
//! - Another instance may have loaded the old value from the database meanwhile, and may still be about to store it in Redis. So a write stays dirty
//!   until its key has been invalidated, after the database had it. Without Redis nobody else can have stored anything.
//! - What the database refused, had newer, or will not be told again, is invalidated in any case: the cache is not to show what is nowhere
//!   else.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::behind::{BehindParams, BehindStats, OpenError, PutError, Receipt, Shutdown, Sink, SinkError, Version};
use crate::behind::{DeadLetter, DeadLetterError, Recovery, Write, WriteBehind};
use crate::cache::{Cache, Value};
use crate::codec::Codec;
use crate::error::Error;
use crate::fence::Ticket;
use crate::inner::Inner;
use crate::key::{Key, owned};
use crate::stats::Count;
use crate::write::Write as CacheWrite;

/// Bytes before a value in the journal: the schema, and the codec.
const HEAD_BYTES: usize = 5;

/// A value on its way to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<V> {
    /// The bytes of its key, as [`Key`] has them.
    pub key: Bytes,
    /// Which write of the key this is. The database keeps it beside the value.
    pub version: Version,
    /// The value.
    pub value: Arc<V>,
}

/// Where values go that a cache writes behind.
///
/// It has to be idempotent by key and version, as a [`Sink`] has, which this is but for values in place of bytes.
pub trait ValueSink<V>: Send + Sync + 'static {
    /// Writes a batch, and returns once that lasts. Places in the receipt are those of the batch.
    ///
    /// # Errors
    /// When the batch, or a part of it, was not written.
    fn deliver(&self, batch: &[Delivery<V>]) -> impl Future<Output = Result<Receipt, SinkError>> + Send;
}

/// What the builder was told.
pub(crate) struct BehindSpec<V> {
    params: BehindParams,
    way: Box<dyn FnOnce(Weak<Inner<V>>) -> Way + Send>,
}

impl<V: Value> BehindSpec<V> {
    pub(crate) fn new(params: BehindParams, sink: impl ValueSink<V>) -> Self {
        Self { params, way: Box::new(|inner| Way(Box::new(Typed { sink, inner }))) }
    }

    pub(crate) async fn open(self, inner: &Arc<Inner<V>>) -> Result<Behind, OpenError> {
        let journal = WriteBehind::open(self.params, (self.way)(Arc::downgrade(inner))).await?;
        Ok(Behind { journal, schema: inner.params.schema, codec: inner.params.codec })
    }
}

/// The journal of a cache.
pub(crate) struct Behind {
    journal: WriteBehind<Way>,
    schema: u32,
    codec: Codec,
}

/// The way from the journal to the database, on which the tiers are told.
struct Way(Box<dyn Told>);

trait Told: Send + Sync {
    fn tell<'s>(&'s self, batch: &'s [Write]) -> BoxFuture<'s, Result<Receipt, SinkError>>;
    fn give_up<'s>(&'s self, writes: &'s [Write]) -> BoxFuture<'s, ()>;
}

impl Sink for Way {
    async fn deliver(&self, batch: &[Write]) -> Result<Receipt, SinkError> {
        self.0.tell(batch).await
    }

    async fn given_up(&self, writes: &[Write]) {
        self.0.give_up(writes).await;
    }
}

struct Typed<V, S> {
    sink: S,
    inner: Weak<Inner<V>>,
}

impl<V: Value, S: ValueSink<V>> Told for Typed<V, S> {
    fn tell<'s>(&'s self, batch: &'s [Write]) -> BoxFuture<'s, Result<Receipt, SinkError>> {
        Box::pin(self.deliver(batch))
    }

    fn give_up<'s>(&'s self, writes: &'s [Write]) -> BoxFuture<'s, ()> {
        let cache = self.inner.upgrade().map(Cache::<[u8], V>::of);
        Box::pin(async move {
            let Some(cache) = cache else { return };
            futures_util::future::join_all(writes.iter().map(|write| cache.invalidate(&write.key))).await;
        })
    }
}

impl Behind {
    fn encode<V: Value>(&self, value: &V) -> Result<Bytes, String> {
        let body = self.codec.encode(value).map_err(|error| error.to_string())?;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        bytes.push(self.codec.number());
        bytes.extend_from_slice(&body);
        Ok(bytes.into())
    }
}

fn decode<V: Value>(bytes: &[u8], schema: u32) -> Result<Arc<V>, String> {
    let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or("it is too short")?;
    let [a, b, c, d, codec] = *head;
    let found = u32::from_le_bytes([a, b, c, d]);
    if found != schema {
        return Err(format!("it has schema {found}, and the cache {schema}"));
    }
    let codec = Codec::of_number(codec).ok_or_else(|| format!("codec {codec} is unknown"))?;
    codec.decode(body).map(Arc::new).map_err(|error| error.to_string())
}

impl<V: Value, S: ValueSink<V>> Typed<V, S> {
    async fn deliver(&self, batch: &[Write]) -> Result<Receipt, SinkError> {
        // A cache that is gone reads nothing any more, and takes the journal with it.
        let Some(inner) = self.inner.upgrade() else {
            return Err(SinkError::Unavailable("the cache is gone".to_owned()));
        };
        // Places in the batch of those that can be told to the sink, and what is wrong with the others.
        let (mut places, mut deliveries, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        for (place, write) in batch.iter().enumerate() {
            match decode(write.value.as_deref().unwrap_or_default(), inner.params.schema) {
                Ok(value) => {
                    places.push(place);
                    deliveries.push(Delivery { key: write.key.clone(), version: write.version, value });
                }
                Err(why) => unreadable.push((place, why)),
            }
        }
        let told = if deliveries.is_empty() { Receipt::all() } else { self.sink.deliver(&deliveries).await? };
        let receipt = told.at_places(&places);
        let receipt = unreadable.into_iter().fold(receipt, |receipt, (place, why)| receipt.refused(place, why));
        let cache = Cache::<[u8], V>::of(inner);
        let inner = &cache.inner;
        // What is not dirty, though it was to be delivered, is from the dead letters, and memory has something else.
        let is_replayed = |place: usize| inner.undirty(&batch[place].key).is_ok();
        let is_doubtful =
            |place: &usize| inner.redis().is_some() || !receipt.took_effect(*place) || is_replayed(*place);
        let doubtful = (0..batch.len()).filter(is_doubtful).map(|place| cache.invalidate(&batch[place].key));
        futures_util::future::join_all(doubtful).await;
        Ok(receipt)
    }
}

impl<V: Value> Inner<V> {
    /// A ticket for what is read from here on, or what was written behind and is newer than all that can be read. In this order: whoever
    /// acknowledges later voids the ticket; whoever did before is seen, or the database has it.
    pub(crate) fn ticket(&self, key: &[u8]) -> Result<Ticket, Arc<V>> {
        let ticket = if self.memory.is_some() { self.fence.ticket(key) } else { self.fence.blank() };
        self.dirty(key).map_or(Ok(ticket), Err)
    }

    /// That nothing of a key waits in the journal: it would come after whatever is written by other ways.
    pub(crate) fn undirty(&self, key: &[u8]) -> Result<(), Error> {
        match self.behind().and_then(|behind| behind.journal.dirty(key)) {
            Some(_) => Err(Error::Dirty { cache: Arc::clone(&self.name) }),
            None => Ok(()),
        }
    }

    /// What was written behind, if the database may not have it yet.
    #[inline]
    pub(crate) fn dirty(&self, key: &[u8]) -> Option<Arc<V>> {
        let behind = self.behind()?;
        let write = behind.journal.dirty(key)?;
        match decode(write.value.as_deref()?, behind.schema) {
            Ok(value) => {
                self.tally.note(Count::DirtyHit);
                Some(value)
            }
            Err(why) => {
                self.tally.note(Count::Foreign);
                tracing::debug!(cache = &*self.name, why, "what is in the journal cannot be read");
                None
            }
        }
    }
}

impl<K: Key + ?Sized, V: Value> Cache<K, V> {
    /// Writes a value into the journal, and into the tiers; the database has it later. When this returns it lasts, and whoever reads here reads it
    /// or something newer.
    ///
    /// # Errors
    /// [`Error::Unequipped`] if the builder was given no sink, [`Error::TooLarge`], [`Error::Encode`], and [`Error::Save`] with a
    /// [`PutError`](crate::behind::PutError) if the journal did not take it.
    pub async fn write_behind(&self, key: &K, value: V) -> Result<Arc<V>, Error> {
        let inner = &self.inner;
        let behind = inner.behind().ok_or_else(|| self.without_journal())?;
        let (value, key) = (Arc::new(value), owned(key));
        let prepared = inner.prepare(Some(Arc::clone(&value)), Duration::ZERO)?;
        let bytes = behind.encode(&*value).map_err(|why| inner.unencodable(&why))?;
        let (name, cache) = (Bytes::copy_from_slice(&key), Arc::clone(inner));
        // What the journal will not take is to cost nobody what is there.
        behind.journal.check_size(&name, Some(&bytes)).map_err(|error| inner.unsaved(error.into()))?;
        let write = CacheWrite::begin(inner, key).await?.into_begun();
        // The journal takes what it was given, also if the caller is dropped; until then the write has not ended.
        let writing = tokio::spawn(async move {
            let put = match cache.behind() {
                Some(behind) => behind.journal.put(name, bytes).await,
                None => Err(PutError::Closed),
            };
            match put {
                Ok(_) => write.finish(Some(prepared)).await,
                Err(error) => {
                    let _the_error_says_that_it_may_be_written = write.finish(None).await;
                    Err(cache.unsaved(error.into()))
                }
            }
        });
        match writing.await {
            Ok(written) => written.map(|()| value),
            Err(ended) => Err(inner.unsaved(ended.into())),
        }
    }

    /// Has the database told what it does not have yet, for so long. Says whether it has all.
    pub async fn flush(&self, time: Duration) -> bool {
        match self.inner.behind() {
            Some(behind) => behind.journal.flush(time).await,
            None => true,
        }
    }

    /// Takes no more writes behind, tells the database what it does not have, for so long, and closes the journal. What is left is
    /// delivered after the next start. A cache that writes nothing behind has nothing to do.
    pub async fn shutdown(&self, time: Duration) -> Shutdown {
        match self.inner.behind() {
            Some(behind) => behind.journal.shutdown(time).await,
            None => Shutdown { keys_left: 0 },
        }
    }

    /// What the journal is and has done, for metrics, if there is one: how far the database is behind is its `lag`.
    pub fn behind_stats(&self) -> Option<BehindStats> {
        self.inner.behind().map(|behind| behind.journal.stats())
    }

    /// What the start found in the journal, if there is one.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.inner.behind().map(|behind| behind.journal.recovery())
    }

    /// The writes that the database will never have, in the order in which they came; none without a journal. The value of each is the
    /// cache's schema (4 bytes), a number for the codec, and what the codec has written.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, DeadLetterError> {
        match self.inner.behind() {
            Some(behind) => behind.journal.dead_letters().await,
            None => Ok(Vec::new()),
        }
    }

    /// Has the database told dead letters again, with the versions that they have: what is older than what it has by now does nothing, and no
    /// read here is answered by it. Says how many; there may be no room for all.
    ///
    /// # Errors
    /// When the disk fails. They may be both dead letters and delivered then.
    pub async fn replay_dead_letters(&self, versions: HashSet<Version>) -> Result<usize, DeadLetterError> {
        match self.inner.behind() {
            Some(behind) => behind.journal.replay_dead_letters(versions).await,
            None => Ok(0),
        }
    }

    /// Forgets dead letters. Says how many.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn discard_dead_letters(&self, versions: HashSet<Version>) -> Result<usize, DeadLetterError> {
        match self.inner.behind() {
            Some(behind) => behind.journal.discard_dead_letters(versions).await,
            None => Ok(0),
        }
    }

    fn without_journal(&self) -> Error {
        Error::Unequipped { cache: Arc::clone(&self.inner.name), lacks: "write_behind" }
    }
}
