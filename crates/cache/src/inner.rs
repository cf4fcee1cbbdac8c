//! What all clones of a cache share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::brought::Brought;
use crate::builder::{Coherence, Tagger, Weigher};
use crate::cache::Value;
use crate::codec::{Codec, compressed};
use crate::error::Error;
use crate::events::{self, Channel};
use crate::fence::{Fence, Ticket};
use crate::flight::Flights;
use crate::hold::Hold;
use crate::hot::Hot;
use crate::life::jittered;
use crate::load::Loader;
use crate::memory::{Bound, Memory, Slot};
use crate::planted::{Bug, is_planted};
use crate::record::Record;
use crate::redis::{Away, Ear, Message, Redis, RedisParams};
use crate::refresh::{RefreshHot, Tasks, refresh_hot};
use crate::stats::{Count, Stats, Tally};
use crate::tags::{Tagged, Tags, bytes_of};
use crate::write_behind::Behind;

/// Tags of one value, and the length of one.
const TAGS_MAX: usize = 64;
const TAG_BYTES_MAX: usize = 256;

/// What a load comes to: a value, or that there is none.
pub(crate) type Answer<V> = Result<Option<Arc<V>>, Error>;

/// The same, for all who are in its flight.
pub(crate) type Landing<V> = Result<Brought<V>, Error>;

pub(crate) struct Params<V> {
    pub(crate) ttl: Duration,
    pub(crate) jitter: f64,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) stale: Duration,
    pub(crate) refresh_ahead: bool,
    pub(crate) refresh_hot: Option<RefreshHot>,
    pub(crate) loader: Option<Loader<V>>,
    pub(crate) loads_max: usize,
    pub(crate) loads_wait: Duration,
    pub(crate) codec: Codec,
    pub(crate) schema: u32,
    pub(crate) compress_above: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) bound: Option<Bound>,
    pub(crate) weigher: Option<Weigher<V>>,
    pub(crate) tagger: Option<Tagger<V>>,
    pub(crate) coherence: Option<Coherence>,
}

pub(crate) struct Inner<V> {
    pub(crate) name: Arc<str>,
    pub(crate) params: Params<V>,
    pub(crate) memory: Option<Memory<V>>,
    redis: OnceLock<Redis>,
    pub(crate) behind: OnceLock<Behind>,
    pub(crate) hot: Option<Hot>,
    tasks: OnceLock<Tasks>,
    pub(crate) fence: Fence,
    /// The lease on memory, where it is held by one.
    pub(crate) hold: Option<Arc<Hold>>,
    pub(crate) tags: Tags,
    pub(crate) flights: Flights<Landing<V>>,
    pub(crate) loads: Semaphore,
    pub(crate) tally: Tally,
    /// The largest number of the cache's clock that is known; where there is no Redis, the clock itself.
    clock: AtomicU64,
}

/// A value on its way into the tiers.
pub(crate) struct Prepared<V> {
    pub(crate) value: Option<Arc<V>>,
    /// What Redis gets, if there is one.
    pub(crate) rest: Vec<u8>,
    pub(crate) tags: Vec<String>,
    /// Counted from when it was prepared, however long it is on its way.
    pub(crate) fresh_until: Instant,
    pub(crate) life: Duration,
    took: Duration,
    value_bytes: u64,
}

impl<V: Value> Inner<V> {
    pub(crate) async fn open(name: Arc<str>, params: Params<V>, redis: Option<RedisParams>) -> Arc<Self> {
        let (loads, stale) = (Semaphore::new(params.loads_max), params.stale);
        let inner = Arc::new(Self {
            name,
            memory: params.bound.map(|bound| Memory::new(bound, params.value_bytes_max as u64, stale)),
            hot: params.refresh_hot.map(|hot| Hot::new(hot.keys_max)),
            params,
            redis: OnceLock::new(),
            behind: OnceLock::new(),
            tasks: OnceLock::new(),
            fence: Fence::new(),
            hold: redis.as_ref().and_then(|redis| redis.hold.as_ref()).map(|(hold, _)| Arc::clone(hold)),
            tags: Tags::default(),
            flights: Flights::new(),
            loads,
            tally: Tally::default(),
            clock: AtomicU64::new(0),
        });
        if let Some(redis) = redis {
            let ear: Weak<dyn Ear> = Arc::downgrade(&(Arc::clone(&inner) as Arc<dyn Ear>));
            let redis = Redis::open(&inner.name, redis, stale, ear).await;
            let _first_and_only = inner.redis.set(redis);
        }
        inner
    }

    /// Begins what goes on without callers, and ends with the cache.
    pub(crate) async fn begin_tasks(self: &Arc<Self>, channels: Vec<Channel>) {
        let mut tasks = Tasks::default();
        if let Some(hot) = self.params.refresh_hot {
            tasks.spawn(refresh_hot(Arc::downgrade(self), hot.every));
        }
        for channel in channels {
            tasks.spawn(events::begin(channel, self).await);
        }
        let _first_and_only = self.tasks.set(tasks);
    }

    #[inline]
    pub(crate) fn redis(&self) -> Option<&Redis> {
        self.redis.get()
    }

    /// Whether memory is held by a lease.
    pub(crate) fn is_leased(&self) -> bool {
        self.hold.is_some()
    }

    #[inline]
    pub(crate) fn behind(&self) -> Option<&Behind> {
        self.behind.get()
    }

    /// Around what Redis is asked. Nobody pays for it who does not listen.
    pub(crate) fn redis_span(&self, asked: &'static str) -> tracing::Span {
        tracing::debug_span!("cache_redis", cache = &*self.name, asked)
    }

    /// What was asked for most since the last call.
    pub(crate) fn hottest(&self) -> Vec<Box<[u8]>> {
        self.hot.as_ref().map_or_else(Vec::new, Hot::take)
    }

    /// The next number of the clock of this process, for what Redis has no number for.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The version of what is loaded or written without Redis. Where there is one, its clock must not be overtaken by what is no change, or
    /// an invalidation by another instance would seem to be older than what it concerns.
    pub(crate) fn own_version(&self) -> u64 {
        if self.redis().is_none() { self.tick() } else { self.clock.load(Ordering::Acquire) }
    }

    pub(crate) fn note_clock(&self, version: u64) {
        self.clock.fetch_max(version, Ordering::AcqRel);
    }

    pub(crate) fn note_away(&self, _away: Away) {
        self.tally.note(Count::RedisFailure);
    }

    /// Makes a value ready for the tiers.
    pub(crate) fn prepare(&self, value: Option<Arc<V>>, took: Duration) -> Result<Prepared<V>, Error> {
        let params = &self.params;
        let ttl = if value.is_some() { params.ttl } else { params.negative_ttl.unwrap_or(params.ttl) };
        // A value is as old as the beginning of its load.
        let fresh = jittered(ttl, params.jitter, fastrand::u64(..)).saturating_sub(took);
        let now = self.memory.as_ref().map_or_else(Instant::now, |memory| memory.times().now());
        let (fresh_until, loaded_millis) = (now + fresh, unix_millis());
        let tags = self.tags_of(value.as_deref());
        if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.len() > TAG_BYTES_MAX) {
            let why = format!("it has more than {TAGS_MAX} tags, or one of more than {TAG_BYTES_MAX} bytes");
            return Err(self.unencodable(&why));
        }
        let by_bytes = matches!(params.bound, Some(Bound::Bytes(_))) && params.weigher.is_none();
        let mut body = Vec::new();
        if let Some(value) = &value
            && (self.redis().is_some() || by_bytes)
        {
            body = params.codec.encode(&**value).map_err(|error| self.unencodable(&error.to_string()))?;
        }
        let encoded_bytes = body.len();
        if encoded_bytes > params.value_bytes_max {
            let (cache, bytes, bytes_max) = (Arc::clone(&self.name), encoded_bytes, params.value_bytes_max);
            return Err(Error::TooLarge { cache, bytes, bytes_max });
        }
        let value_bytes = match (&params.weigher, &value) {
            (Some(weigher), Some(value)) => weigher(value),
            _ => (size_of::<V>() + encoded_bytes) as u64,
        };
        let value_bytes = value_bytes + bytes_of(tags.iter().map(String::as_str));
        let times = (loaded_millis, fresh, took);
        let rest = if self.redis().is_some() { self.rest(&value, body, &tags, times) } else { Vec::new() };
        // That there is nothing is not served when it is stale.
        let stale = if value.is_some() { params.stale } else { Duration::ZERO };
        // Scripts tell fresh from stale by the life that is left, so all lives end with the same stale time.
        let life = if value.is_some() { fresh + stale } else { fresh + params.stale };
        Ok(Prepared { value, rest, tags, fresh_until, life, took, value_bytes })
    }

    fn tags_of(&self, value: Option<&V>) -> Vec<String> {
        let mut tags =
            self.params.tagger.iter().zip(value).flat_map(|(tagger, value)| tagger(value)).collect::<Vec<_>>();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// By what a value can be invalidated.
    pub(crate) fn tagged(&self, value: Option<&V>) -> Tagged {
        self.tags.of(self.tags_of(value).iter().map(String::as_str))
    }

    fn rest(
        &self,
        value: &Option<Arc<V>>,
        body: Vec<u8>,
        tags: &[String],
        times: (u64, Duration, Duration),
    ) -> Vec<u8> {
        let whole_bytes = body.len() as u32;
        let (loaded_millis, fresh, took) = times;
        let (body, compressed) = compressed(body, self.params.compress_above);
        let record = Record {
            version: 0,
            schema: self.params.schema,
            codec: self.params.codec.number(),
            compressed,
            negative: value.is_none(),
            loaded_millis,
            fresh_millis: fresh.as_millis() as u64,
            took_millis: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
            whole_bytes,
            tags: tags.iter().map(String::as_str).collect(),
            body: &body,
        };
        record.encode()
    }

    pub(crate) fn unencodable(&self, why: &str) -> Error {
        Error::Encode { cache: Arc::clone(&self.name), why: why.into() }
    }

    /// An entry for the memory.
    pub(crate) fn slot(&self, prepared: &Prepared<V>, version: u64, era: u64) -> Slot<V> {
        let fresh_until = prepared.fresh_until;
        let stale = if prepared.value.is_some() { self.params.stale } else { Duration::ZERO };
        Slot {
            value: prepared.value.clone(),
            version,
            is_unordered: false,
            era,
            fresh_until,
            stale_until: fresh_until + stale,
            took: prepared.took,
            tags: self.tags.of(prepared.tags.iter().map(String::as_str)),
            value_bytes: prepared.value_bytes,
        }
    }

    /// Keeps an entry in memory, unless something has changed since the ticket.
    pub(crate) fn keep(&self, key: &[u8], ticket: Ticket, slot: Slot<V>) {
        if let Some(memory) = &self.memory
            && !self.fence.keep(key, ticket, || memory.insert(key, slot))
        {
            self.tally.note(Count::Fenced);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.tally.stats();
        if let Some(memory) = &self.memory {
            (stats.memory_entries, stats.memory_weight) = (memory.count(), memory.weight());
            stats.evictions = memory.evictions();
        }
        stats.redis_is_up = self.redis().is_some_and(Redis::is_up);
        stats.memory_is_held = self.hold.as_ref().is_none_or(|hold| hold.end().is_ahead());
        stats
    }
}

impl<V: Value> Ear for Inner<V> {
    fn hear(&self, message: Message<'_>) {
        match message {
            Message::Changed(version, key) => {
                self.note_clock(version);
                self.flights.detach(key);
                let remove_older = || self.memory.iter().for_each(|memory| memory.remove_older(key, version));
                self.fence.hear(key, version, remove_older);
            }
            Message::Tag(version, tag) => {
                self.note_clock(version);
                // What flights bring is held to their tags when they land.
                self.tags.raise(tag, version);
            }
            Message::Everything(version) => {
                self.note_clock(version);
                if !is_planted(Bug::EpochKept) {
                    self.tags.raise_all(version);
                }
                self.flights.detach_all();
            }
            // Whom these concern has heard of them before.
            Message::Loaded(_) | Message::Heard(..) | Message::Gone(_) => {}
        }
    }

    fn connected(&self, clock: u64, epoch: u64) {
        self.note_clock(clock);
        // Before the era: whoever still sees the lease of the connection that was lost finds nothing of the new one's.
        self.hold.iter().for_each(|hold| hold.give_up());
        self.fence.end_era();
        self.tags.forget();
        if !is_planted(Bug::EpochKept) {
            self.tags.raise_all(epoch);
        }
        self.flights.detach_all();
        if let Some(memory) = &self.memory {
            memory.clear();
        }
    }

    fn clock(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }
}

pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
