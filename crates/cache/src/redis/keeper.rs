//! Who keeps the connection to Redis: connects, tells what is owed, hears messages, holds the lease on memory, notices a loss, and tries again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use breaker::{Backoff, BackoffParams};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value};

use super::link::{Current, Ear, End, Leased, Owed, Shared, number};
use super::message::Message;
use super::script::{SOURCES, Script};
use super::token::Token;
use crate::hold::Moment;

/// Time to connect and to subscribe, and to say a part of what is owed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is asked whether anybody is there, so that a loss is noticed while nobody asks for anything.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Parts of a lease on memory after which it is extended: with its margin, two may be lost.
const EXTENSIONS: u32 = 4;
/// Pauses between tries to connect. Drawn at random up to these, for all instances have lost Redis together.
const BACKOFF: BackoffParams = BackoffParams { base: Duration::from_millis(50), max: Duration::from_secs(1) };
/// Of what is owed, so much is on its way at once: what is told within one `CONNECT_TIMEOUT`, and is not told again if that passes.
const OWED_PART: usize = 256;
/// Instances that may serve from memory. Each change asks all of them.
const HOLDERS_MAX: u32 = 1000;

/// Keeps a connection for as long as somebody hears.
pub(super) async fn keep(shared: Arc<Shared>, ear: Weak<dyn Ear>, mut connected: Result<(), String>) {
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
    pub(super) async fn connect(self: &Arc<Self>, ear: &Weak<dyn Ear>) -> Result<(), String> {
        let (current, asked, (clock, epoch)) = in_time(self.begin(ear)).await?;
        let Some(ear) = ear.upgrade() else { return Ok(()) };
        // Nobody has to wait any more for the connection before, once the memory is empty.
        let before = std::mem::replace(&mut self.state.lock().holder, current.id);
        self.outwait_puts().await;
        loop {
            let part: Vec<_> = {
                let mut state = self.state.lock();
                if state.broken >= current.number {
                    return Err("the connection broke at once".to_owned());
                }
                if state.owed.is_empty() {
                    // All that was changed without Redis has been told, and what changes from here on finds the connection.
                    ear.connected(clock, epoch);
                    if let Some(leased) = &self.leased {
                        leased.hold.extend(asked, leased.lease);
                    }
                    state.current = Some(Arc::new(current));
                    break;
                }
                state.owed.iter().take(OWED_PART).map(|(owed, debt)| (owed.clone(), *debt)).collect()
            };
            // It stays owed until it has been told, however this ends.
            let telling = part.iter().map(async |(owed, debt)| {
                self.tell(&current, owed).await?;
                self.state.lock().paid(owed, *debt);
                Ok(())
            });
            in_time(futures_util::future::try_join_all(telling)).await?;
        }
        if let Some(before) = before {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.leave(before).await });
        }
        Ok(())
    }

    /// What is owed is told after each `put` that was given up and may yet reach Redis, on the connection before this one.
    async fn outwait_puts(&self) {
        loop {
            let over = self.state.lock().puts_over;
            match over.filter(|over| *over > tokio::time::Instant::now()) {
                Some(over) => tokio::time::sleep_until(over).await,
                None => return,
            }
        }
    }

    /// A connection, when it was asked for a lease, and the clock and the epoch.
    async fn begin(self: &Arc<Self>, ear: &Weak<dyn Ear>) -> Result<(Current, Moment, (u64, u64)), RedisError> {
        let current = self.open(ear).await?;
        let known = ear.upgrade().map_or(0, |ear| ear.clock());
        let asked = Moment::now();
        let (clock, epoch, millis) = self.greet(&current, known).await?;
        current.times.note(millis);
        Ok((current, asked, (clock, epoch)))
    }

    /// Connects, and hears from here on.
    async fn open(self: &Arc<Self>, ear: &Weak<dyn Ear>) -> Result<Current, RedisError> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let (heard, shared, end) = (Weak::clone(ear), Arc::downgrade(self), Arc::new(End::default()));
        let id = self.leased.is_some().then(Token::draw);
        let ending = Arc::clone(&end);
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let config = config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                ending.come();
            }
            if let Some(shared) = shared.upgrade() {
                shared.hear((number, id), &heard, &push);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut channels = vec![self.names.channel()];
        channels.extend(id.map(|id| self.names.acks(id.bytes())));
        connection.subscribe(channels).await?;
        // All at once, or a connection that is slow would take as many times longer.
        let mut scripts = redis::pipe();
        for source in SOURCES {
            scripts.cmd("SCRIPT").arg("LOAD").arg(source);
        }
        let names: Vec<String> = scripts.query_async(&mut connection).await?;
        Ok(Current { connection, number, names: names.into(), id, end, times: Arc::default() })
    }

    /// Says who is there and what it knows: the clock, the epoch and the time.
    async fn greet(&self, current: &Current, known: u64) -> Result<(u64, u64, u64), RedisError> {
        let names = &self.names;
        let keys = [names.clock(), names.epoch(), names.holders(), names.run()];
        let before = self.state.lock().holder;
        let (mut lease, mut phantom) = (0, 0);
        if let Some(leased) = &self.leased {
            lease = leased.lease.as_millis();
            phantom = leased.work_lease.max(leased.lease).as_millis();
        }
        let arguments = [known.to_string(), lease.to_string(), phantom.to_string()].map(String::into_bytes);
        let (before, channel) = (before.as_ref().map_or(&b""[..], Token::bytes), names.channel());
        let holders_max = HOLDERS_MAX.to_string();
        let [known, lease, phantom] = &arguments;
        let arguments: [&[u8]; 6] = [known, lease, phantom, before, holders_max.as_bytes(), &channel];
        redis::from_redis_value(current.run(Script::Hello, &keys, &arguments).await?).map_err(Into::into)
    }

    /// Tells what is owed. Nobody waits for it to be heard of, so nobody asks as whom.
    async fn tell(&self, current: &Current, owed: &Owed) -> Result<Value, RedisError> {
        let (script, keys, arguments) = self.invalidation(owed);
        let arguments: Vec<_> = arguments.iter().map(Vec::as_slice).collect();
        Current { id: None, ..current.clone() }.run(script, &keys, &arguments).await
    }

    fn hear(&self, (number, id): (u64, Option<Token>), ear: &Weak<dyn Ear>, push: &PushInfo) {
        match push.kind {
            PushKind::Disconnection => self.lose(number),
            PushKind::Message => {
                let Some(Value::BulkString(bytes)) = push.data.get(1) else { return };
                let (Some((message, asked)), Some(ear)) = (Message::read(bytes), ear.upgrade()) else { return };
                match (message, &self.leased) {
                    (Message::Heard(version, holder), Some(leased)) => leased.acks.heard(holder, version),
                    (Message::Gone(holder), Some(leased)) => leased.acks.heard(holder, u64::MAX),
                    _ => ear.hear(message),
                }
                if let Message::Changed(_, key) | Message::Loaded(key) = message {
                    self.bell(key).notify_waiters();
                }
                if let (Some(asked), Some(leased)) = (asked, &self.leased)
                    && id != Some(asked.by)
                {
                    leased.acks.owe(number, asked);
                }
            }
            _ => {}
        }
    }

    /// Gives a connection up, if it is still the one in use.
    fn lose(&self, number: u64) {
        let mut state = self.state.lock();
        state.broken = state.broken.max(number);
        if let Some(current) = state.current.take_if(|current| current.number == number) {
            current.end.come();
            self.lost.notify_one();
        }
    }

    /// Waits until the connection is lost: why.
    async fn stand(&self) -> String {
        let why = match &self.leased {
            Some(leased) => tokio::select! {
                () = self.lost.notified() => "the connection broke".to_owned(),
                why = self.watch(leased.lease / EXTENSIONS) => why,
                () = self.answer(leased) => unreachable!("answering has no end"),
            },
            None => tokio::select! {
                () = self.lost.notified() => "the connection broke".to_owned(),
                why = self.watch(PING_INTERVAL) => why,
            },
        };
        // What was told of this connection is not left for the next one.
        let _taken = tokio::time::timeout(Duration::ZERO, self.lost.notified()).await;
        why
    }

    /// Looks after the connection, and extends the lease on memory if there is one, until it is lost: why.
    async fn watch(&self, interval: Duration) -> String {
        loop {
            tokio::time::sleep(interval).await;
            let Some(current) = self.state.lock().current.clone() else { return "it was lost".to_owned() };
            let (asked, patience) = (Moment::now(), self.timeout.max(PING_INTERVAL));
            let why = match tokio::time::timeout(patience, self.look(&current)).await {
                Ok(Ok(Some(millis))) => {
                    current.times.note(millis);
                    self.extend(&current, asked);
                    continue;
                }
                Ok(Ok(None)) => "Redis has forgotten who is there".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            self.lose(current.number);
            return why;
        }
    }

    /// Asks whether anybody is there: the time of Redis in milliseconds, unless it has forgotten this instance.
    async fn look(&self, current: &Current) -> Result<Option<u64>, RedisError> {
        let Some(leased) = &self.leased else {
            let (secs, micros): (u64, u64) = redis::from_redis_value(current.query(&redis::cmd("TIME")).await?)?;
            return Ok(Some(secs * 1000 + micros / 1000));
        };
        let (keys, lease) = ([self.names.holders(), self.names.run()], leased.lease.as_millis().to_string());
        let held = current.run(Script::Hold, &keys, &[lease.as_bytes()]).await?;
        Ok(number(&held).filter(|millis| *millis > 0))
    }

    /// The lease is extended on the connection that is in use. Another one may have missed changes.
    fn extend(&self, current: &Current, asked: Moment) {
        let Some(leased) = &self.leased else { return };
        let state = self.state.lock();
        if state.current.as_ref().is_some_and(|now| now.number == current.number) {
            leased.hold.extend(asked, leased.lease);
        }
    }

    /// Says that changes have been heard of, to those who wait for it.
    async fn answer(&self, leased: &Leased) {
        loop {
            let (number, owed) = leased.acks.owed().await;
            // On another connection this instance is another holder, and may have missed something.
            let current = self.state.lock().current.clone().filter(|current| current.number == number);
            let Some(current) = current else { continue };
            let Some(me) = current.id else { continue };
            let _they_wait_for_the_lease = tokio::time::timeout(leased.lease, self.publish(&current, me, owed)).await;
        }
    }

    async fn publish(&self, current: &Current, me: Token, owed: HashMap<Token, u64>) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        for (by, version) in owed {
            pipeline.publish(self.names.acks(by.bytes()), Message::heard(version, me)).ignore();
        }
        pipeline.query_async(&mut current.connection.clone()).await
    }
}

/// Waits for Redis as long as for a connection.
async fn in_time<T>(asking: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, asking).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {}s", CONNECT_TIMEOUT.as_secs())),
    }
}
