//! Changes that others tell of: a channel of Redis whose messages name what is no longer true, or Redis itself, which names keys that were
//! changed.
//!
//! Whoever changes the database past the cache, a service in another language or a trigger that is relayed, publishes what it changed; what
//! its messages mean is read by a closure. Where the truth is a plain key in Redis, whoever writes it need not say anything: by client-side
//! tracking (RESP3, in broadcasting mode, so that Redis remembers no keys for us) each change, deletion or end of a key with some prefix is
//! told, and the same closure reads the key's name. The traps, and the rules:
//!
//! - **What was told while nobody listened is not known.** Redis keeps no messages. So when a connection is there again after one was lost,
//!   everything is invalidated. The one that a cache is built with invalidates nothing, or each start would empty what all instances share.
//! - **Messages may come quicker than they are followed.** The queue is bounded; when it is full, everything is invalidated instead.
//! - **A closure that panics has read nothing**, so that everything is invalidated, and the next message is read as before.
//! - **A Redis that was emptied names no keys**, so that everything is invalidated.
//! - Each instance listens by itself and invalidates everywhere, so that a channel is followed for as long as one instance is.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use breaker::{Backoff, BackoffParams};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value as Answer};
use tokio::sync::mpsc;

use crate::cache::{Cache, Value};
use crate::inner::Inner;
use crate::key::Key;
use crate::stats::Count;
use crate::write::Reach;

/// Messages that wait.
const QUEUE_MAX: usize = 1024;
/// Invalidations under way at once.
const AT_ONCE: usize = 64;
/// Time to connect and to subscribe, and for an answer to the question whether anybody is there.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often that is asked, so that a connection that died without a word is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Pauses between tries to connect, drawn at random up to these.
const BACKOFF: BackoffParams = BackoffParams { base: Duration::from_millis(50), max: Duration::from_secs(1) };

/// What is no longer true.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation {
    /// The value of a key, by its bytes.
    Key(Vec<u8>),
    /// The values that have a tag.
    Tag(String),
    /// All values.
    Everything,
}

impl Invalidation {
    /// That of a key.
    pub fn key(key: &(impl Key + ?Sized)) -> Self {
        Self::Key(key.with_bytes(<[u8]>::to_vec))
    }
}

/// Reads a message, or the name of a key.
pub(crate) type Reader = Arc<dyn Fn(&[u8]) -> Vec<Invalidation> + Send + Sync>;

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Messages of a channel.
    Channel(String),
    /// Names of keys that begin with this, when they are changed.
    Keys(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Channel(name) => f.write_str(name),
            Self::Keys(prefix) => write!(f, "keys {prefix}*"),
        }
    }
}

/// A source of changes, and what it means.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) client: Client,
    pub(crate) source: Source,
    pub(crate) read: Reader,
}

/// What was heard.
enum Heard {
    Message(Vec<u8>),
    /// All keys are gone.
    Emptied,
    /// The connection is lost.
    Lost,
}

impl<K: Key + ?Sized, V: Value> Cache<K, V> {
    /// Invalidates what an event names, wherever that came from: a queue, a stream of the database's changes, another protocol. A channel of
    /// Redis is followed by [`invalidate_on`](crate::Builder::invalidate_on).
    pub async fn apply(&self, event: &Invalidation) -> Reach {
        match event {
            Invalidation::Key(key) => Cache::<[u8], V>::of(Arc::clone(&self.inner)).invalidate(key).await,
            Invalidation::Tag(tag) => self.invalidate_tag(tag).await,
            Invalidation::Everything => self.invalidate_all().await,
        }
    }
}

/// A connection that hears.
struct Line {
    connection: MultiplexedConnection,
    messages: mpsc::Receiver<Heard>,
    /// Something may have been told that is not among them.
    missed: Arc<AtomicBool>,
}

/// Listens, or has tried to when this returns. What comes back follows the channel for as long as the cache lives.
pub(crate) async fn begin<V: Value>(
    channel: Channel,
    inner: &Arc<Inner<V>>,
) -> impl Future<Output = ()> + Send + use<V> {
    let line = open(&channel, false).await;
    follow(channel, Arc::downgrade(inner), line)
}

async fn follow<V: Value>(channel: Channel, inner: Weak<Inner<V>>, mut line: Option<Line>) {
    let (backoff, mut tries) = (Backoff::new(BACKOFF), 0_u32);
    loop {
        if let Some(line) = line {
            tracing::info!(channel = %channel.source, "a channel of changes is followed");
            tries = 0;
            attend(&channel, line, &inner).await;
        }
        if tries == 0 {
            tracing::warn!(channel = %channel.source, "a channel of changes is not there");
        }
        tries = tries.saturating_add(1);
        tokio::time::sleep(backoff.pause(tries, fastrand::u64(..))).await;
        if inner.strong_count() == 0 {
            return;
        }
        line = open(&channel, true).await;
    }
}

async fn open(channel: &Channel, missed: bool) -> Option<Line> {
    let (sender, messages) = mpsc::channel(QUEUE_MAX);
    let missed = Arc::new(AtomicBool::new(missed));
    let connection = tokio::time::timeout(TIMEOUT, connect(channel, sender, Arc::clone(&missed))).await;
    match connection {
        Ok(Ok(connection)) => Some(Line { connection, messages, missed }),
        Ok(Err(error)) => {
            tracing::debug!(channel = %channel.source, %error, "a channel of changes cannot be followed");
            None
        }
        Err(_late) => None,
    }
}

async fn connect(
    channel: &Channel,
    sender: mpsc::Sender<Heard>,
    missed: Arc<AtomicBool>,
) -> Result<MultiplexedConnection, redis::RedisError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let config = config.set_push_sender(move |push: PushInfo| {
        for heard in heard(push) {
            if sender.try_send(heard).is_err() {
                missed.store(true, Ordering::Release);
            }
        }
        Ok::<_, std::convert::Infallible>(())
    });
    let mut connection = channel.client.get_multiplexed_async_connection_with_config(&config).await?;
    match &channel.source {
        Source::Channel(name) => connection.subscribe(name).await?,
        Source::Keys(prefix) => {
            let mut tracking = redis::cmd("CLIENT");
            tracking.arg(&["TRACKING", "ON", "BCAST", "PREFIX"]).arg(prefix);
            tracking.query_async::<()>(&mut connection).await?;
        }
    }
    Ok(connection)
}

fn heard(push: PushInfo) -> Vec<Heard> {
    let bytes = |value| match value {
        Answer::BulkString(bytes) => Some(Heard::Message(bytes)),
        _ => None,
    };
    let mut data = push.data.into_iter();
    match push.kind {
        PushKind::Message => data.nth(1).and_then(bytes).into_iter().collect(),
        PushKind::Invalidate => match data.next() {
            Some(Answer::Array(keys)) => keys.into_iter().filter_map(bytes).collect(),
            _ => vec![Heard::Emptied],
        },
        PushKind::Disconnection => vec![Heard::Lost],
        _ => Vec::new(),
    }
}

/// Follows one connection until it is lost.
async fn attend<V: Value>(channel: &Channel, mut line: Line, inner: &Weak<Inner<V>>) {
    let mut batch = Vec::new();
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let cache = Cache::<[u8], V>::of(inner);
        if line.missed.swap(false, Ordering::AcqRel) {
            cache.inner.tally.note(Count::EventMissed);
            let _now_or_later = cache.invalidate_all().await;
        }
        let events: Vec<_> = batch.drain(..).flat_map(|heard| read(channel, &cache, heard)).collect();
        futures_util::future::join_all(events.iter().map(|event| cache.apply(event))).await;
        drop(cache);
        tokio::select! {
            taken = line.messages.recv_many(&mut batch, AT_ONCE) => {
                if taken == 0 || batch.iter().any(|heard| matches!(heard, Heard::Lost)) {
                    // What came before the loss is covered by what is invalidated after it.
                    return;
                }
            }
            () = tokio::time::sleep(PING_INTERVAL) => {
                let ping = redis::cmd("PING");
                let answer = tokio::time::timeout(TIMEOUT, ping.query_async::<Answer>(&mut line.connection)).await;
                if !matches!(answer, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

fn read<V: Value>(channel: &Channel, cache: &Cache<[u8], V>, heard: Heard) -> Vec<Invalidation> {
    let tally = &cache.inner.tally;
    let bytes = match heard {
        Heard::Message(bytes) => bytes,
        Heard::Emptied => {
            tally.note(Count::Event);
            return vec![Invalidation::Everything];
        }
        Heard::Lost => return Vec::new(),
    };
    // A panic is told by the runtime's hook. It must not end the following, and what the message named is not known.
    let Ok(events) = std::panic::catch_unwind(AssertUnwindSafe(|| (channel.read)(&bytes))) else {
        tracing::error!(
            channel = %channel.source,
            "a message of a channel made its reader panic: everything is invalidated"
        );
        tally.note(Count::EventForeign);
        tally.note(Count::EventMissed);
        return vec![Invalidation::Everything];
    };
    if events.is_empty() {
        tally.note(Count::EventForeign);
    }
    tally.add(Count::Event, events.len() as u64);
    events
}
