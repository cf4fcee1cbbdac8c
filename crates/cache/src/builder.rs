//! How a cache is made: every mistake is found when it is built, and names its field.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::behind::BehindParams;
use crate::cache::{Cache, Value};
use crate::codec::Codec;
use crate::error::BuildError;
use crate::events::{Channel, Invalidation, Reader, Source};
use crate::hold::Hold;
use crate::inner::{Inner, Params};
use crate::key::{Key, ReadKey};
use crate::load::{Inside, Loader};
use crate::memory::Bound;
use crate::redis::{OWN_PREFIX, RedisParams, client};
use crate::refresh::RefreshHot;
use crate::write_behind::{BehindSpec, ValueSink};

/// Longest name; it stands in every key in Redis.
const NAME_BYTES_MAX: usize = 64;
/// Longest time to live. Times to live are for the loss of invalidations, and nobody waits a year for one.
const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Leases on memory. Shorter ones end whenever a machine is busy; for longer ones nobody would wait.
const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Redis takes no longer strings.
const VALUE_BYTES_LIMIT: usize = 512 * 1024 * 1024;

/// Hot keys that are refreshed.
const HOT_KEYS_MAX: usize = 10_000;

/// What values weigh.
pub(crate) type Weigher<V> = Arc<dyn Fn(&V) -> u64 + Send + Sync>;
/// What tags values have.
pub(crate) type Tagger<V> = Arc<dyn Fn(&V) -> Vec<String> + Send + Sync>;

/// How instances keep up with each other's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coherence {
    /// No value is served that is older than this, whatever happens to Redis; it proves no more. While Redis is there, a change reaches the
    /// other instances' memory within the time that a message takes. While it is away, they serve on.
    BoundedStale(Duration),
    /// No read that begins after a change was acknowledged, by whichever instance, returns anything older. An instance serves from memory only
    /// while it holds a lease of this length, which it extends at Redis; a change returns when all who hold one have heard of it, or
    /// their leases have ended. Without Redis reads go to the loader, and writes fail before they reach the database.
    ///
    /// Needs Redis, the same length in all instances, and what `docs/cache/coherence.md` says: one Redis that does not lose what it has acknowledged,
    /// clocks that go at nearly the same rate, all changes by way of the cache, and loads from the primary database.
    Leased(Duration),
}

impl Coherence {
    /// [`Leased`](Self::Leased), with leases of 2 s: so long a change waits for an instance that died or stands still.
    pub const fn leased() -> Self {
        Self::Leased(Duration::from_secs(2))
    }
}

/// Makes a [`Cache`].
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<K: ?Sized, V> {
    name: String,
    memory: Option<(&'static str, Bound)>,
    redis: Option<String>,
    redis_authority: Option<Vec<u8>>,
    redis_timeout: Duration,
    lease: Duration,
    ttl: Duration,
    jitter: f64,
    negative_ttl: Option<Duration>,
    stale_on_error: Duration,
    refresh_ahead: bool,
    refresh_hot: Option<RefreshHot>,
    loader: Option<Loader<V>>,
    behind: Option<BehindSpec<V>>,
    channels: Vec<(String, Source, Reader)>,
    coherence: Option<Coherence>,
    loads_max: usize,
    loads_wait: Duration,
    codec: Codec,
    schema: u32,
    compress_above: usize,
    value_bytes_max: usize,
    weigher: Option<Weigher<V>>,
    tagger: Option<Tagger<V>>,
    key: PhantomData<fn(&K)>,
}

impl<K: Key + ?Sized, V: Value> Builder<K, V> {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            memory: None,
            redis: None,
            redis_authority: None,
            redis_timeout: Duration::from_millis(250),
            lease: Duration::from_secs(5),
            ttl: Duration::from_secs(60),
            jitter: 0.1,
            negative_ttl: None,
            stale_on_error: Duration::ZERO,
            refresh_ahead: false,
            refresh_hot: None,
            loader: None,
            behind: None,
            channels: Vec::new(),
            coherence: None,
            loads_max: 256,
            loads_wait: Duration::from_secs(1),
            codec: Codec::default(),
            schema: 0,
            compress_above: 4096,
            value_bytes_max: 1024 * 1024,
            weigher: None,
            tagger: None,
            key: PhantomData,
        }
    }

    /// Keeps values in memory, so many bytes of them. A value counts by its size when encoded, unless there is a
    /// [`weigher`](Self::weigher).
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(("memory", Bound::Bytes(bytes)));
        self
    }

    /// Keeps values in memory, so many of them.
    pub fn memory_entries(mut self, entries: u64) -> Self {
        self.memory = Some(("memory_entries", Bound::Entries(entries)));
        self
    }

    /// What a value takes in memory, in bytes, where its encoded size is no good guess.
    pub fn weigher(mut self, weigher: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Shares values through a Redis of version 6 or later, by its URL: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS
    /// with the feature `cache-tls`, or `redis+unix:///path`. Caches of one name and Redis are one cache.
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// The authority, in PEM, that the certificates of Redis are from, in place of those that the system trusts: for all URLs with `rediss://`.
    pub fn redis_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.redis_authority = Some(pem.into());
        self
    }

    /// Time for an answer of Redis, 250 ms by default. Reads then go on without it; five in a row make a circuit breaker open.
    pub fn redis_timeout(mut self, timeout: Duration) -> Self {
        self.redis_timeout = timeout;
        self
    }

    /// How long the others wait for an instance that died while it loaded, 5 s by default. One that lives extends its lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long a value is fresh, 60 s by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The part of the time to live by which entries differ, 0.1 by default. It only shortens.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// How long it is remembered that there is no value, for [`Cache::find_or_load`]. Not at all by default.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// For how long after its time to live a value may be served when the load fails.
    pub fn stale_on_error(mut self, time: Duration) -> Self {
        self.stale_on_error = time;
        self
    }

    /// Loads again ahead of an entry's end, with a probability that grows towards it, and sooner the longer the load takes: on a task of its own
    /// by the [`loader`](Self::loader), or by that of [`get_or_load_detached`](Cache::get_or_load_detached), and nobody waits for it. Where a loader
    /// borrows from its caller, that one caller runs it, and the others have the value that is there.
    pub fn refresh_ahead(mut self) -> Self {
        self.refresh_ahead = true;
        self
    }

    /// Loads the keys that are asked for most again and again, so many of them at most, whether somebody asks just then or not. Those that
    /// nobody asked for since the last time are left alone. It needs memory and a [`loader`](Self::loader).
    pub fn refresh_hot(mut self, keys_max: usize, every: Duration) -> Self {
        self.refresh_hot = Some(RefreshHot { keys_max, every });
        self
    }

    /// Loads values, for [`Cache::read`] and for refreshes that no caller waits for.
    pub fn loader<F, Fut, E>(mut self, load: F) -> Self
    where
        K: ReadKey,
        F: Fn(K::Owned) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Into<Inside>,
    {
        self.loader = Some(Arc::new(move |key| {
            let load = K::from_bytes(key).map(&load);
            Box::pin(async {
                match load {
                    Some(load) => load.await.map_err(Into::into),
                    None => Err("the key cannot be read back from its bytes".into()),
                }
            })
        }));
        self
    }

    /// Takes writes by [`Cache::write_behind`]: a journal in a folder of this process's own acknowledges them, and the sink has them later, in
    /// batches. [`Cache::shutdown`] ends that.
    pub fn write_behind(mut self, journal: BehindParams, sink: impl ValueSink<V>) -> Self {
        self.behind = Some(BehindSpec::new(journal, sink));
        self
    }

    /// Follows a channel of a Redis on which others tell what they have changed, and invalidates what `read` finds in their messages. It may be
    /// given several times.
    pub fn invalidate_on(
        mut self,
        url: impl Into<String>,
        channel: impl Into<String>,
        read: impl Fn(&[u8]) -> Vec<Invalidation> + Send + Sync + 'static,
    ) -> Self {
        self.channels.push((url.into(), Source::Channel(channel.into()), Arc::new(read)));
        self
    }

    /// Follows the keys of a Redis that begin with a prefix, by its client-side tracking: when somebody changes or deletes one, or its time
    /// ends, what `read` makes of its name is invalidated. Nobody needs to tell; it is for values whose truth is a plain key there, which a
    /// service in another language writes. It may be given several times.
    pub fn invalidate_tracked(
        mut self,
        url: impl Into<String>,
        prefix: impl Into<String>,
        read: impl Fn(&[u8]) -> Vec<Invalidation> + Send + Sync + 'static,
    ) -> Self {
        self.channels.push((url.into(), Source::Keys(prefix.into()), Arc::new(read)));
        self
    }

    /// How instances keep up with each other. By default nothing is older than its time to live, and `stale_on_error`.
    pub fn coherence(mut self, coherence: Coherence) -> Self {
        self.coherence = Some(coherence);
        self
    }

    /// Loads under way at once in this process, 256 by default, and how long one waits for its turn, 1 s by default.
    pub fn bulkhead(mut self, loads_max: usize, wait: Duration) -> Self {
        (self.loads_max, self.loads_wait) = (loads_max, wait);
        self
    }

    /// How values are written in Redis.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// A number for the form of the values, 0 by default. Entries of other numbers are misses: increase it when the type changes.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Compresses what is longer than this in Redis, 4096 bytes by default; `usize::MAX` for never.
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = bytes;
        self
    }

    /// The largest value that is kept, by its encoded size, 1 MiB by default. A larger one that is loaded is returned and not kept; to put one
    /// is an error.
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.value_bytes_max = bytes;
        self
    }

    /// The tags of a value, by which it can be invalidated with others: `category:7`.
    pub fn tags(mut self, tags: impl Fn(&V) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.tagger = Some(Arc::new(tags));
        self
    }

    /// Builds it. A Redis that is away is no error: the cache goes on without it until it is there.
    ///
    /// # Errors
    /// [`BuildError`], for the first field that is wrong, and for a journal that cannot be opened.
    pub async fn build(mut self) -> Result<Cache<K, V>, BuildError> {
        self.check()?;
        let redis = match &self.redis {
            Some(url) => Some(self.client("redis", url)?),
            None => None,
        };
        let hold = match self.coherence {
            Some(Coherence::Leased(lease)) => Some((Arc::new(Hold::default()), lease)),
            _ => None,
        };
        let redis = redis.map(|client| RedisParams { client, timeout: self.redis_timeout, lease: self.lease, hold });
        let mut channels = Vec::new();
        for (url, source, read) in &self.channels {
            let client = self.client(field_of(source), url)?;
            channels.push(Channel { client, source: source.clone(), read: Arc::clone(read) });
        }
        let behind = self.behind.take();
        let (name, inner) =
            (self.name.clone(), Inner::open(self.name.as_str().into(), self.into_params(), redis).await);
        if let Some(behind) = behind {
            let opened = behind.open(&inner).await;
            let why = |error: crate::behind::OpenError| BuildError {
                cache: name,
                field: "write_behind",
                why: error.to_string(),
            };
            let _first_and_only = inner.behind.set(opened.map_err(why)?);
        }
        inner.begin_tasks(channels).await;
        Ok(Cache::of(inner))
    }

    fn into_params(self) -> Params<V> {
        Params {
            ttl: self.ttl,
            jitter: self.jitter,
            negative_ttl: self.negative_ttl,
            stale: self.stale_on_error,
            refresh_ahead: self.refresh_ahead,
            refresh_hot: self.refresh_hot,
            loader: self.loader,
            loads_max: self.loads_max,
            loads_wait: self.loads_wait,
            codec: self.codec,
            schema: self.schema,
            compress_above: self.compress_above,
            value_bytes_max: self.value_bytes_max,
            bound: self.memory.map(|(_, bound)| bound),
            weigher: self.weigher,
            tagger: self.tagger,
            coherence: self.coherence,
        }
    }

    fn client(&self, field: &'static str, url: &str) -> Result<redis::Client, BuildError> {
        let authority = self.redis_authority.as_deref();
        client(url, authority.filter(|_| is_secure(url))).map_err(|why| self.wrong(field, why))
    }

    fn wrong(&self, field: &'static str, why: impl Into<String>) -> BuildError {
        BuildError { cache: self.name.clone(), field, why: why.into() }
    }

    fn check(&self) -> Result<(), BuildError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(is_plain) {
            return Err(self.wrong("name", "letters, digits and -_.: are allowed, at most 64"));
        }
        match self.memory {
            Some((field, Bound::Bytes(0) | Bound::Entries(0))) => return Err(self.wrong(field, "0 keeps nothing")),
            None if self.redis.is_none() => return Err(self.wrong("memory", "there is neither memory nor redis")),
            _ => {}
        }
        let times = [
            ("ttl", self.ttl),
            ("negative_ttl", self.negative_ttl.unwrap_or(Duration::from_secs(1))),
            ("lease", self.lease),
            ("redis_timeout", self.redis_timeout),
            ("refresh_hot", self.refresh_hot.map_or(Duration::from_secs(1), |hot| hot.every)),
        ];
        for (field, time) in times {
            // Redis counts in milliseconds.
            if time < Duration::from_millis(1) || time > TTL_MAX {
                return Err(self.wrong(field, format!("{time:?} is not between 1 ms and 366 days")));
            }
        }
        if let Some(hot) = self.refresh_hot {
            if self.loader.is_none() || self.memory.is_none() {
                return Err(self.wrong("refresh_hot", "it needs a loader and memory"));
            }
            if hot.keys_max == 0 || hot.keys_max > HOT_KEYS_MAX {
                return Err(self.wrong("refresh_hot", format!("between 1 key and {HOT_KEYS_MAX} are allowed")));
            }
        }
        if self.stale_on_error > TTL_MAX {
            return Err(self.wrong("stale_on_error", "it is longer than 366 days"));
        }
        if !(0.0..=0.9).contains(&self.jitter) {
            return Err(self.wrong("jitter", format!("{} is not between 0 and 0.9", self.jitter)));
        }
        self.check_coherence()?;
        self.check_sources()?;
        if self.loads_max == 0 || self.loads_max > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(self.wrong("bulkhead", format!("{} loads at once are not possible", self.loads_max)));
        }
        if self.value_bytes_max == 0 || self.value_bytes_max > VALUE_BYTES_LIMIT {
            return Err(self.wrong("value_bytes_max", "between 1 byte and 512 MiB are allowed"));
        }
        Ok(())
    }

    fn check_coherence(&self) -> Result<(), BuildError> {
        if let Some(Coherence::BoundedStale(bound)) = self.coherence {
            let oldest = self.ttl.max(self.negative_ttl.unwrap_or_default()) + self.stale_on_error;
            if oldest > bound {
                let why = format!("values may become {oldest:?} old by ttl and stale_on_error, and not {bound:?}");
                return Err(self.wrong("coherence", why));
            }
        }
        if let Some(Coherence::Leased(lease)) = self.coherence {
            if self.redis.is_none() {
                return Err(self.wrong("coherence", "leased needs redis: it is there that leases are held"));
            }
            if self.behind.is_some() {
                let why =
                    "other instances read the database before it has the value, which leased forbids: write through";
                return Err(self.wrong("write_behind", why));
            }
            if !LEASES.contains(&lease) {
                return Err(self.wrong("coherence", format!("a lease of {lease:?} is not between 100 ms and 1 min")));
            }
        }
        Ok(())
    }

    fn check_sources(&self) -> Result<(), BuildError> {
        for (_, source, _) in &self.channels {
            // Each entry that is kept there would be told, and invalidate itself.
            if let Source::Keys(prefix) = source
                && (OWN_PREFIX.starts_with(prefix) || prefix.starts_with(OWN_PREFIX))
            {
                return Err(self.wrong(field_of(source), format!("the prefix {prefix:?} is of the records of caches")));
            }
        }
        let mut urls = self.redis.iter().chain(self.channels.iter().map(|(url, ..)| url));
        if self.redis_authority.is_some() && !urls.any(|url| is_secure(url)) {
            return Err(self.wrong("redis_authority", "an authority is for rediss:// alone, and no URL is that"));
        }
        Ok(())
    }
}

/// The setting that a source is from.
fn field_of(source: &Source) -> &'static str {
    match source {
        Source::Channel(_) => "invalidate_on",
        Source::Keys(_) => "invalidate_tracked",
    }
}

fn is_secure(url: &str) -> bool {
    url.starts_with("rediss:") || url.starts_with("valkeys:")
}

impl<K: ?Sized, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        f.debug_struct("Builder").field("name", &self.name).finish_non_exhaustive()
    }
}
