//! The way to Redis: one connection that several tasks share, and what is asked while it is gone. Who keeps it is `keeper`.
//!
//! - **Nothing waits for a Redis that is known to be away.** Reads go through a circuit breaker as well, so that a slow one is not waited for.
//! - **One connection carries questions and messages** (RESP3), so that whoever can ask also hears; when it breaks, both are known to be lost.
//! - **A change that Redis did not hear of is owed.** It is told as soon as Redis is back, before anything is read there again. Whoever owes
//!   more than can be kept invalidates everything instead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use breaker::{Admission, Breaker, BreakerParams, Outcome};
use redis::aio::MultiplexedConnection;
use redis::{Client, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::acks::Acks;
use super::keeper;
use super::message::Message;
use super::names::Names;
use super::script::Script;
use super::token::Token;
use crate::hold::{Hold, Moment};
use crate::sync::Mutex;

/// Beyond, everything is invalidated, which takes less than saying so many.
const OWED_MAX: usize = 10_000;
/// Least life of a tag that no entry has, for loads that are under way.
const TAG_LIFE_MILLIS: &str = "3600000";
/// Who waits for a load elsewhere shares a bell with a few others.
const BELLS: usize = 256;
/// So late, at most, a `put` has an effect, however long its caller waits for the answer.
const PUT_MAX: Duration = Duration::from_secs(2);
/// Changes that wait at once until holders have heard of them; further ones wait for their turn.
const CHANGES_MAX: usize = 4096;

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
    pub(super) client: Client,
    pub(super) timeout: Duration,
    pub(super) state: Mutex<State>,
    pub(super) lost: Notify,
    pub(super) connections: AtomicU64,
    breaker: Breaker,
    bells: Box<[Notify]>,
    pub(crate) leased: Option<Leased>,
}

/// What there is where memory is held by leases.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) lease: Duration,
    /// How long the longest lease may be by which a load or a write goes on.
    pub(crate) work_lease: Duration,
    pub(crate) hold: Arc<Hold>,
    pub(crate) acks: Acks,
    pub(crate) changes: Arc<Semaphore>,
}

impl Leased {
    pub(crate) fn new(lease: Duration, work_lease: Duration, hold: Arc<Hold>) -> Self {
        let changes = Arc::new(Semaphore::new(CHANGES_MAX));
        Self { lease, work_lease, hold, acks: Acks::default(), changes }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Shared, as each question holds it.
    pub(super) current: Option<Arc<Current>>,
    /// The number of the last connection that was heard to break, perhaps before it was in use.
    pub(super) broken: u64,
    /// What is owed, each with its number: that of the last change, so that what is owed anew while it is told stays owed.
    pub(super) owed: HashMap<Owed, u64>,
    debts: u64,
    /// As whom this instance was last known to hold a lease.
    pub(super) holder: Option<Token>,
    /// From here on no `put` that was given up has an effect any more, should Redis only now hear of it.
    pub(super) puts_over: Option<tokio::time::Instant>,
}

#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) connection: MultiplexedConnection,
    pub(super) number: u64,
    pub(super) names: Arc<[String]>,
    /// Who asks, where memory is held by leases.
    pub(super) id: Option<Token>,
    pub(super) end: Arc<End>,
    pub(super) times: Arc<Times>,
}

/// The time of Redis as a connection was last told it, in milliseconds, and when: at that moment it was no earlier.
#[derive(Debug, Default)]
pub(super) struct Times(Mutex<Option<(u64, Moment)>>);

impl Times {
    pub(super) fn note(&self, millis: u64) {
        *self.0.lock() = Some((millis, Moment::now()));
    }

    /// A time of Redis that will have come when this has passed from now on. It is told anew each second, so that clocks which do not go
    /// at the same rate differ by little.
    fn after(&self, time: Duration) -> u64 {
        self.0.lock().map_or(0, |(millis, told)| millis + (told.elapsed() + time).as_millis() as u64)
    }
}

/// Whether a connection has ended. The client drops what it was asked when its connection ends, but for what was being handed over at
/// that very moment: that stays in a queue which the caller itself keeps alive, and would wait for its whole timeout.
#[derive(Debug, Default)]
pub(super) struct End {
    has_come: AtomicBool,
    heard: Notify,
}

impl End {
    pub(super) fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.heard.notify_waiters();
    }

    async fn wait(&self) {
        let mut heard = std::pin::pin!(self.heard.notified());
        heard.as_mut().enable();
        if !self.has_come.load(Ordering::Acquire) {
            heard.await;
        }
    }
}

impl Link {
    /// Connects, or has tried to when this returns, and keeps connected.
    pub(crate) async fn open(
        client: Client,
        names: Names,
        timeout: Duration,
        leased: Option<Leased>,
        ear: Weak<dyn Ear>,
    ) -> Self {
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
            leased,
        });
        let first = shared.connect(&ear).await;
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&shared), ear, first));
        Self { shared, keeper }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
        // Nobody reads from this memory any more, so that nobody has to wait for the lease's end.
        let holder = self.shared.state.lock().holder.take();
        if let (Some(holder), Ok(runtime)) = (holder, tokio::runtime::Handle::try_current()) {
            let shared = Arc::clone(&self.shared);
            runtime.spawn(async move { shared.leave(holder).await });
        }
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

    /// The script that invalidates something, its keys and its arguments.
    pub(super) fn invalidation(&self, owed: &Owed) -> (Script, Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let (names, channel) = (&self.names, self.names.channel());
        match owed {
            Owed::Key(key) => (Script::Invalidate, names.change(key), vec![channel, key.to_vec()]),
            Owed::Tag(tag) => {
                let arguments = vec![channel, tag.as_bytes().to_vec(), TAG_LIFE_MILLIS.into()];
                let keys = vec![names.tag(tag), names.clock(), names.tagged(), names.holders(), names.run()];
                (Script::Tag, keys, arguments)
            }
            Owed::Everything => {
                let keys = vec![names.epoch(), names.clock(), names.holders(), names.run()];
                (Script::Everything, keys, vec![channel])
            }
        }
    }

    /// Runs a script that reads, or whose effect may be missing. Not while Redis is slow.
    pub(crate) async fn ask(&self, script: Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Value, Away> {
        let Some(current) = self.state.lock().current.clone() else { return Err(Away) };
        self.guarded(current.run(script, keys, arguments)).await
    }

    /// Reads a string.
    pub(crate) async fn read_one(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Away> {
        let Some(current) = self.state.lock().current.clone() else { return Err(Away) };
        let mut command = redis::Cmd::with_capacity(2, 3 + key.len());
        command.arg("GET").arg(key);
        self.guarded(current.query(&command)).await.map(bulk)
    }

    /// Reads strings, one for each key.
    pub(crate) async fn read(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, Away> {
        let Some(current) = self.state.lock().current.clone() else { return Err(Away) };
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        match self.guarded(current.query(&command)).await? {
            Value::Array(values) => Ok(values.into_iter().map(bulk).collect()),
            _ => Err(Away),
        }
    }

    async fn guarded(&self, asking: impl Future<Output = Result<Value, redis::RedisError>>) -> Result<Value, Away> {
        let began = Instant::now();
        let Admission::Admitted(permit) = self.breaker.admit(began) else { return Err(Away) };
        let leave = Leave { breaker: &self.breaker, permit: Some(permit) };
        let answer = tokio::time::timeout(self.timeout, asking).await;
        // That there is no room is an answer.
        let failed = !answer.as_ref().is_ok_and(|answer| answer.as_ref().map_or_else(is_full, |_| true));
        leave.record(failed, began);
        answer.map_err(|_| Away)?.map_err(|error| {
            tracing::debug!(cache = self.names.cache(), %error, "Redis failed");
            Away
        })
    }

    /// Runs a script that must not be missed, on a task of its own, so that it ends also if its caller is dropped. If it may have been
    /// missed, the change is owed, and the connection is given up, so that nothing is read from Redis before it was told. Nothing is the
    /// answer if nothing was done: there was no room, or a `put` came late.
    pub(crate) async fn insist(
        self: &Arc<Self>,
        script: Script,
        keys: Vec<Vec<u8>>,
        mut arguments: Vec<Vec<u8>>,
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
        let (shared, is_put) = (Arc::clone(self), script == Script::Put);
        let task = tokio::spawn(async move {
            let mut over = None;
            if is_put {
                // Before its own time is over it has been given up, or is answered.
                let patience = shared.timeout.min(PUT_MAX);
                arguments.push(current.times.after(patience).to_string().into_bytes());
                over = Some(tokio::time::Instant::now() + patience);
            }
            let arguments: Vec<_> = arguments.iter().map(Vec::as_slice).collect();
            let answer = tokio::time::timeout(shared.timeout, current.run(script, &keys, &arguments)).await;
            match answer {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if is_put && (is_full(&error) || is_past(&error)) => return Ok(Value::Nil),
                _ => {}
            }
            // The connection of now does not know of the debt, even if it is another one.
            let mut state = shared.state.lock();
            state.owe(owed);
            state.puts_over = state.puts_over.max(over);
            if state.current.take().is_some() {
                shared.lost.notify_one();
            }
            Err(Away)
        });
        task.await.unwrap_or(Err(Away))
    }

    /// Says that a holder will never serve anything from memory again.
    pub(super) async fn leave(&self, holder: Token) {
        let arguments = [&self.names.channel()[..], holder.bytes()];
        let _best_effort = self.ask(Script::Leave, &[self.names.holders()], &arguments).await;
    }
}

impl State {
    fn owe(&mut self, owed: Owed) {
        self.debts += 1;
        let is_much = self.owed.len() >= OWED_MAX || self.owed.contains_key(&Owed::Everything);
        if is_much {
            self.owed.clear();
        }
        self.owed.insert(if is_much { Owed::Everything } else { owed }, self.debts);
    }

    /// Redis was told, when the last change was this one.
    pub(super) fn paid(&mut self, owed: &Owed, debt: u64) {
        if self.owed.get(owed) == Some(&debt) {
            self.owed.remove(owed);
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
    /// Runs a script, which hears last of all who asks.
    pub(super) async fn run(&self, script: Script, keys: &[Vec<u8>], arguments: &[&[u8]]) -> Result<Value, RedisError> {
        let me = self.id.as_ref().map_or(&b""[..], Token::bytes);
        let run = async |command: &str, script: &str| {
            let mut command = redis::cmd(command);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments).arg(me);
            self.query(&command).await
        };
        match run("EVALSHA", &self.names[script as usize]).await {
            // A Redis that was told to forget its scripts.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                run("EVAL", script.source()).await
            }
            other => other,
        }
    }

    /// Asks, for as long as the connection is there.
    pub(super) async fn query(&self, command: &redis::Cmd) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        tokio::select! {
            biased;
            answer = command.query_async::<Value>(&mut connection) => answer,
            () = self.end.wait() => Err((ErrorKind::Io, "the connection has ended").into()),
        }
    }
}

/// Whether Redis has no room for what it was asked to write: the first thing that a script writes, so that it has done nothing.
fn is_full(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}

/// Whether a `put` came after it was given up, by the clock of Redis, and did nothing. Who is told so has not given it up: that clock was
/// set forward, or what it said came late.
fn is_past(error: &RedisError) -> bool {
    error.code() == Some("PAST")
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
