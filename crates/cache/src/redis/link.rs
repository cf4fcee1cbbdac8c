//! The way to Redis: one connection that several tasks share, who keeps it, and what is asked while it is gone.
//!
//! - **Nothing waits for a Redis that is known to be away.** Reads go through a circuit breaker as well, so that a slow one is not waited for.
//! - **One connection carries questions and messages** (RESP3), so that whoever can ask also hears; when it breaks, both are known to be lost.
//! - **A change that Redis did not hear of is owed.** It is told as soon as Redis is back, before anything is read there again. Whoever owes
//!   more than can be kept invalidates everything instead.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use breaker::{Admission, Backoff, BackoffParams, Breaker, BreakerParams, Outcome};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, PushInfo, PushKind, ServerErrorKind, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::message::Message;
use super::names::Names;
use super::script::{SOURCES, Script};
use crate::sync::Mutex;

/// Time to connect, to subscribe, and to say what is owed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is asked whether anybody is there, so that a loss is noticed while nobody asks for anything.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Pauses between tries to connect. Drawn at random up to these, for all instances have lost Redis together.
const BACKOFF: BackoffParams = BackoffParams { base: Duration::from_millis(50), max: Duration::from_secs(1) };
/// Beyond, everything is invalidated, which takes less than saying so many.
const OWED_MAX: usize = 10_000;
/// Least life of a tag that no entry has, for loads that are under way.
const TAG_LIFE_MILLIS: &str = "3600000";
/// Who waits for a load elsewhere shares a bell with a few others.
const BELLS: usize = 256;

/// Redis did not answer, or was not asked. Whether it did something is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

/// Who hears of changes.
pub(crate) trait Ear: Send + Sync {
    fn hear(&self, message: Message<'_>);
    /// A connection is there; changes before it may have been missed.
    fn connected(&self, clock: u64, epoch: u64);
    /// The largest number of the clock that is known.
    fn clock(&self) -> u64;
}

/// Something that Redis has to be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owed {
    Key(Box<[u8]>),
    Tag(Box<str>),
    Everything,
}

/// A link, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) names: Names,
    client: Client,
    timeout: Duration,
    state: Mutex<State>,
    lost: Notify,
    connections: AtomicU64,
    breaker: Breaker,
    bells: Box<[Notify]>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// The number of the last connection that was heard to break, perhaps before it was in use.
    broken: u64,
    owed: HashSet<Owed>,
}

#[derive(Clone, Debug)]
struct Current {
    connection: MultiplexedConnection,
    number: u64,
    names: Arc<[String]>,
}

impl Link {
    /// Connects, or has tried to when this returns, and keeps connected.
    pub(crate) async fn open(client: Client, names: Names, timeout: Duration, ear: Weak<dyn Ear>) -> Self {
        let params = BreakerParams {
            open_for: Duration::from_secs(1),
            open_max: Duration::from_secs(10),
            ..BreakerParams::default()
        };
        let shared = Arc::new(Shared {
            names,
            client,
            timeout,
            state: Mutex::default(),
            lost: Notify::new(),
            connections: AtomicU64::new(0),
            breaker: Breaker::new(params, 1, Instant::now()),
            bells: (0..BELLS).map(|_| Notify::new()).collect(),
        });
        let first = shared.connect(&ear).await;
        let keeper = tokio::spawn(keep(Arc::clone(&shared), ear, first));
        Self { shared, keeper }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Keeps a connection for as long as somebody hears.
async fn keep(shared: Arc<Shared>, ear: Weak<dyn Ear>, mut connected: Result<(), String>) {
    let (backoff, mut tries, mut told) = (Backoff::new(BACKOFF), 0_u32, false);
    loop {
        let why = match connected {
            Ok(()) => {
                tracing::info!(cache = shared.names.cache(), "the cache has Redis");
                (tries, told) = (0, false);
                shared.stand().await
            }
            Err(why) => why,
        };
        if !told {
            tracing::warn!(cache = shared.names.cache(), why, "the cache is without Redis");
            told = true;
        }
        tries = tries.saturating_add(1);
        tokio::time::sleep(backoff.pause(tries, fastrand::u64(..))).await;
        if ear.strong_count() == 0 {
            return;
        }
        connected = shared.connect(&ear).await;
    }
}

impl Shared {
    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        self.state.lock().current.is_some()
    }

    /// Rung when something happens to a key. Has to be listened to before Redis is asked.
    pub(crate) fn bell(&self, key: &[u8]) -> &Notify {
        &self.bells[crc32c::crc32c(key) as usize % BELLS]
    }

    async fn connect(self: &Arc<Self>, ear: &Weak<dyn Ear>) -> Result<(), String> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.begin(ear)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {}s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    async fn begin(self: &Arc<Self>, ear: &Weak<dyn Ear>) -> Result<(), redis::RedisError> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (heard, shared) = (Weak::clone(ear), Arc::downgrade(self));
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let config = config.set_push_sender(move |push: PushInfo| {
            if let Some(shared) = shared.upgrade() {
                shared.hear(number, &heard, &push);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(self.names.channel()).await?;
        let mut names = Vec::with_capacity(SOURCES.len());
        for source in SOURCES {
            names.push(redis::cmd("SCRIPT").arg("LOAD").arg(source).query_async(&mut connection).await?);
        }
        let current = Current { connection, number, names: names.into() };
        let Some(ear) = ear.upgrade() else { return Ok(()) };
        let known = ear.clock().to_string();
        let keys = [self.names.clock(), self.names.epoch()];
        let (clock, epoch) = redis::from_redis_value(current.run(Script::Hello, &keys, &[known.as_bytes()]).await?)?;
        loop {
            let owed = {
                let mut state = self.state.lock();
                if state.broken >= number {
                    return Err((ErrorKind::Io, "the connection broke at once").into());
                }
                if state.owed.is_empty() {
                    // All that was changed without Redis has been told, and what changes from here on finds the connection.
                    ear.connected(clock, epoch);
                    state.current = Some(current);
                    return Ok(());
                }
                std::mem::take(&mut state.owed)
            };
            for item in &owed {
                if let Err(error) = self.tell(&current, item).await {
                    self.state.lock().owed.extend(owed);
                    return Err(error);
                }
            }
        }
    }

    async fn tell(&self, current: &Current, owed: &Owed) -> Result<Value, redis::RedisError> {
        let (script, keys, arguments) = self.invalidation(owed);
        let arguments: Vec<_> = arguments.iter().map(Vec::as_slice).collect();
        current.run(script, &keys, &arguments).await
    }

    fn invalidation(&self, owed: &Owed) -> (Script, Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (names, channel) = (&self.names, self.names.channel());
        match owed {
            Owed::Key(key) => {
                let keys = vec![names.value(key), names.lease(key), names.writers(key), names.clock()];
                (Script::Invalidate, keys, vec![channel, key.to_vec()])
            }
            Owed::Tag(tag) => {
                let arguments = vec![channel, tag.as_bytes().to_vec(), TAG_LIFE_MILLIS.into()];
                (Script::Tag, vec![names.tag(tag), names.clock()], arguments)
            }
            Owed::Everything => (Script::Everything, vec![names.epoch(), names.clock()], vec![channel]),
        }
    }

    fn hear(&self, number: u64, ear: &Weak<dyn Ear>, push: &PushInfo) {
        match push.kind {
            PushKind::Disconnection => self.lose(number),
            PushKind::Message => {
                let Some(Value::BulkString(bytes)) = push.data.get(1) else { return };
                let (Some(message), Some(ear)) = (Message::read(bytes), ear.upgrade()) else { return };
                ear.hear(message);
                if let Message::Changed(_, key) | Message::Loaded(key) = message {
                    self.bell(key).notify_waiters();
                }
            }
            _ => {}
        }
    }

    /// Gives a connection up, if it is still the one in use.
    fn lose(&self, number: u64) {
        let mut state = self.state.lock();
        state.broken = state.broken.max(number);
        if state.current.as_ref().is_some_and(|current| current.number == number) {
            state.current = None;
            self.lost.notify_one();
        }
    }

    /// Waits until the connection is lost: why.
    async fn stand(&self) -> String {
        let silent = async {
            loop {
                tokio::time::sleep(PING_INTERVAL).await;
                let Some(mut current) = self.state.lock().current.clone() else { return "it was lost".to_owned() };
                let command = redis::cmd("PING");
                let ping = command.query_async::<Value>(&mut current.connection);
                let why = match tokio::time::timeout(self.timeout.max(PING_INTERVAL), ping).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer in time".to_owned(),
                };
                self.lose(current.number);
                return why;
            }
        };
        let why = tokio::select! {
            () = self.lost.notified() => "the connection broke".to_owned(),
            why = silent => why,
        };
        // What was told of this connection is not left for the next one.
        let _taken = tokio::time::timeout(Duration::ZERO, self.lost.notified()).await;
        why
    }

    /// Runs a script that reads, or whose effect may be missing. Not while Redis is slow.
    pub(crate) async fn ask(&self, script: Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Value, Away> {
        let Some(current) = self.state.lock().current.clone() else { return Err(Away) };
        self.guarded(current.run(script, keys, arguments)).await
    }

    /// Reads strings, one for each key.
    pub(crate) async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Away> {
        let Some(mut current) = self.state.lock().current.clone() else { return Err(Away) };
        let command = match keys {
            [key] => redis::cmd("GET").arg(key).to_owned(),
            keys => redis::cmd("MGET").arg(keys).to_owned(),
        };
        let value = self.guarded(command.query_async::<Value>(&mut current.connection)).await?;
        match value {
            Value::Array(values) => Ok(values.into_iter().map(bulk).collect()),
            value => Ok(vec![bulk(value)]),
        }
    }

    async fn guarded(&self, asking: impl Future<Output = Result<Value, redis::RedisError>>) -> Result<Value, Away> {
        let began = Instant::now();
        let Admission::Admitted(permit) = self.breaker.admit(began) else { return Err(Away) };
        let leave = Leave { breaker: &self.breaker, permit: Some(permit) };
        let answer = tokio::time::timeout(self.timeout, asking).await;
        let failed = !matches!(answer, Ok(Ok(_)));
        leave.record(failed, began);
        answer.map_err(|_| Away)?.map_err(|error| {
            tracing::debug!(cache = self.names.cache(), %error, "Redis failed");
            Away
        })
    }

    /// Runs a script that must not be missed, on a task of its own, so that it ends also if its caller is dropped. If it may have been
    /// missed, the change is owed, and the connection is given up, so that nothing is read from Redis before it was told.
    pub(crate) async fn insist(
        self: &Arc<Self>,
        script: Script,
        keys: Vec<Vec<u8>>,
        arguments: Vec<Vec<u8>>,
        owed: Owed,
    ) -> Result<Value, Away> {
        let current = {
            let mut state = self.state.lock();
            let Some(current) = state.current.clone() else {
                state.owe(owed);
                return Err(Away);
            };
            current
        };
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move {
            let arguments: Vec<_> = arguments.iter().map(Vec::as_slice).collect();
            let answer = tokio::time::timeout(shared.timeout, current.run(script, &keys, &arguments)).await;
            if let Ok(Ok(value)) = answer {
                return Ok(value);
            }
            // The connection of now does not know of the debt, even if it is another one.
            let mut state = shared.state.lock();
            state.owe(owed);
            if state.current.take().is_some() {
                shared.lost.notify_one();
            }
            Err(Away)
        });
        task.await.unwrap_or(Err(Away))
    }

    /// Has Redis invalidate something, now or later. Gives the version.
    pub(crate) async fn invalidate(self: &Arc<Self>, owed: Owed) -> Result<u64, Away> {
        let (script, keys, arguments) = self.invalidation(&owed);
        let value = self.insist(script, keys, arguments, owed).await?;
        number(&value).ok_or(Away)
    }
}

impl State {
    fn owe(&mut self, owed: Owed) {
        if self.owed.len() >= OWED_MAX {
            self.owed.clear();
            self.owed.insert(Owed::Everything);
        } else if !self.owed.contains(&Owed::Everything) {
            self.owed.insert(owed);
        }
    }
}

/// Leave of the breaker, given back if nobody waits for the answer.
struct Leave<'b> {
    breaker: &'b Breaker,
    permit: Option<breaker::Permit>,
}

impl Leave<'_> {
    fn record(mut self, failed: bool, began: Instant) {
        let Some(permit) = self.permit.take() else { return };
        let now = Instant::now();
        let outcome = Outcome { failed, took: now.saturating_duration_since(began) };
        let change = self.breaker.record(permit, outcome, now, (0, fastrand::u64(..)));
        if let Some(change) = change {
            tracing::info!(from = %change.from, to = %change.to, cause = %change.cause, "the breaker of Redis moved");
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.cancel(permit);
        }
    }
}

impl Current {
    async fn run(&self, script: Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Value, redis::RedisError> {
        let run = async |command: &str, script: &str| {
            let mut command = redis::cmd(command);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            command.query_async::<Value>(&mut self.connection.clone()).await
        };
        match run("EVALSHA", &self.names[script as usize]).await {
            // A Redis that was told to forget its scripts.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                run("EVAL", script.source()).await
            }
            other => other,
        }
    }
}

pub(crate) fn bulk(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
