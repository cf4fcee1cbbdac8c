//! Changes that others tell of: a channel of Redis whose messages name what is no longer true.
//!
//! Whoever changes the database past the cache, a service in another language or a trigger that is relayed, publishes what it changed; what
//! its messages mean is read by a closure. The traps, and the rules:
//!
//! - **What was told while nobody listened is not known.** Redis keeps no messages. So when a connection is there again after one was lost,
//!   everything is invalidated. The one that a cache is built with invalidates nothing, or each start would empty what all instances share.
//! - **Messages may come quicker than they are followed.** The queue is bounded; when it is full, everything is invalidated instead.
//! - **A closure that panics has read nothing**, so that everything is invalidated, and the next message is read as before.
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

/// Reads a message.
pub(crate) type Reader = Arc<dyn Fn(&[u8]) -> Vec<Invalidation> + Send + Sync>;

/// A channel, and what its messages mean.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) read: Reader,
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
    /// Messages, and nothing when the connection is lost.
    messages: mpsc::Receiver<Option<Vec<u8>>>,
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
            tracing::info!(channel = channel.name, "a channel of changes is followed");
            tries = 0;
            attend(&channel, line, &inner).await;
        }
        if tries == 0 {
            tracing::warn!(channel = channel.name, "a channel of changes is not there");
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
            tracing::debug!(channel = channel.name, %error, "a channel of changes cannot be followed");
            None
        }
        Err(_late) => None,
    }
}

async fn connect(
    channel: &Channel,
    sender: mpsc::Sender<Option<Vec<u8>>>,
    missed: Arc<AtomicBool>,
) -> Result<MultiplexedConnection, redis::RedisError> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let config = config.set_push_sender(move |push: PushInfo| {
        let message = match (push.kind, push.data.into_iter().nth(1)) {
            (PushKind::Message, Some(Answer::BulkString(bytes))) => Some(bytes),
            (PushKind::Disconnection, _) => None,
            _ => return Ok::<_, std::convert::Infallible>(()),
        };
        if sender.try_send(message).is_err() {
            missed.store(true, Ordering::Release);
        }
        Ok(())
    });
    let mut connection = channel.client.get_multiplexed_async_connection_with_config(&config).await?;
    connection.subscribe(&channel.name).await?;
    Ok(connection)
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
        let messages = batch.drain(..).flatten();
        let events: Vec<_> = messages.flat_map(|bytes: Vec<u8>| read(channel, &cache, &bytes)).collect();
        futures_util::future::join_all(events.iter().map(|event| cache.apply(event))).await;
        drop(cache);
        tokio::select! {
            taken = line.messages.recv_many(&mut batch, AT_ONCE) => {
                if taken == 0 || batch.iter().any(Option::is_none) {
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

fn read<V: Value>(channel: &Channel, cache: &Cache<[u8], V>, bytes: &[u8]) -> Vec<Invalidation> {
    let tally = &cache.inner.tally;
    // A panic is told by the runtime's hook. It must not end the following, and what the message named is not known.
    let Ok(events) = std::panic::catch_unwind(AssertUnwindSafe(|| (channel.read)(bytes))) else {
        tracing::error!(
            channel = channel.name,
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
