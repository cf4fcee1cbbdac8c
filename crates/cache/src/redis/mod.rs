//! The tier in Redis: what is asked of it, in terms of the cache.

mod link;
mod message;
mod names;
mod script;
mod token;

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, Value};
use tokio::task::JoinHandle;

use crate::record::VERSION_BYTES;
use link::{Link, Shared, bulk, number};
use names::Names;
use script::Script;
use token::Token;

pub(crate) use link::{Away, Ear, Owed};
pub(crate) use message::Message;

/// Parts of a lease after which it is extended: two may be lost.
const EXTENSIONS: u32 = 3;

/// Where Redis is, and how it is used.
#[derive(Clone, Debug)]
pub(crate) struct RedisParams {
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    pub(crate) lease: Duration,
}

/// Reads a URL: what Redis it names, or what is wrong with it.
pub(crate) fn client(url: &str) -> Result<Client, String> {
    let (scheme, _) = url.split_once("://").ok_or("it has no scheme, such as redis://host:6379/0")?;
    match scheme {
        "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => {}
        "rediss" | "valkeys" => return Err(format!("{scheme}:// needs TLS, which is not built in")),
        _ => return Err(format!("the scheme {scheme}:// is unknown: redis:// or redis+unix://")),
    }
    let info = url.into_connection_info().map_err(|error| error.to_string())?;
    if let ConnectionAddr::Tcp(host, _) = info.addr()
        && host.is_empty()
    {
        return Err("it names no host".to_owned());
    }
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    Client::open(info).map_err(|error| error.to_string())
}

/// What becomes of who wants to load.
#[derive(Debug)]
pub(crate) enum Acquired {
    /// Somebody has loaded it.
    Value(Vec<u8>),
    /// Somebody else loads; the lease ends after this time if nobody extends it.
    Busy(Duration),
    /// The caller loads.
    Lead {
        lease: Lease,
        /// When the load began, on the cache's clock.
        version: u64,
        /// A write is under way, so that what is loaded may be old.
        written: bool,
        /// What is there and will not do.
        old: Vec<u8>,
    },
}

/// The right to load a key, for as long as this lives and Redis agrees.
#[derive(Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    key: Box<[u8]>,
    token: Token,
    extending: JoinHandle<()>,
    is_over: bool,
}

/// A write that is under way.
#[derive(Debug)]
pub(crate) struct Writing {
    token: Token,
    version: u64,
    extending: JoinHandle<()>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.extending.abort();
    }
}

/// What is stored: all but the version, which Redis gives it.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) rest: &'a [u8],
    /// How long it is kept, fresh or stale.
    pub(crate) life: Duration,
    pub(crate) tags: &'a [String],
}

/// The tier.
#[derive(Debug)]
pub(crate) struct Redis {
    link: Link,
    lease: Duration,
    stale: Duration,
}

impl Redis {
    pub(crate) async fn open(cache: &str, params: RedisParams, stale: Duration, ear: Weak<dyn Ear>) -> Self {
        let link = Link::open(params.client, Names::new(cache), params.timeout, ear).await;
        Self { link, lease: params.lease, stale }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.link.shared
    }

    pub(crate) fn is_up(&self) -> bool {
        self.shared().is_up()
    }

    /// Rung when something happens to a key; to be listened to before [`acquire`](Self::acquire).
    pub(crate) fn bell(&self, key: &[u8]) -> &tokio::sync::Notify {
        self.shared().bell(key)
    }

    /// What there is of some keys.
    pub(crate) async fn read(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Away> {
        let names: Vec<_> = keys.iter().map(|key| self.shared().names.value(key)).collect();
        self.shared().read(&names).await
    }

    /// The versions of some tags.
    pub(crate) async fn tags(&self, tags: &[&str]) -> Result<Vec<Option<u64>>, Away> {
        let names: Vec<_> = tags.iter().map(|tag| self.shared().names.tag(tag)).collect();
        let read = |found: Option<Vec<u8>>| std::str::from_utf8(&found?).ok()?.parse().ok();
        Ok(self.shared().read(&names).await?.into_iter().map(read).collect())
    }

    /// Tries to become the one that loads, unless there is a value other than the one that was `seen`.
    pub(crate) async fn acquire(&self, key: &[u8], seen: &[u8]) -> Result<Acquired, Away> {
        let (shared, token) = (self.shared(), Token::draw());
        let names = &shared.names;
        let keys = [names.value(key), names.lease(key), names.writers(key), names.clock()];
        let seen = &seen[..seen.len().min(VERSION_BYTES)];
        let (lease, stale) = (millis(self.lease), millis(self.stale));
        let arguments = [token.bytes(), lease.as_bytes(), seen, stale.as_bytes()];
        let Value::Array(parts) = shared.ask(Script::Acquire, &keys, &arguments).await? else { return Err(Away) };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let kind = number(&next());
        let second = next();
        match kind {
            Some(0) => bulk(second).map(Acquired::Value).ok_or(Away),
            Some(1) => Ok(Acquired::Busy(Duration::from_millis(number(&second).unwrap_or(1)))),
            Some(2) => {
                let (version, written) = (number(&second).ok_or(Away)?, number(&next()) != Some(0));
                let lease = Lease::new(shared, key, token, self.lease);
                Ok(Acquired::Lead { lease, version, written, old: bulk(next()).unwrap_or_default() })
            }
            _ => Err(Away),
        }
    }

    /// Stores what was loaded, unless the lease is no longer held: whether it was.
    pub(crate) async fn fill(&self, mut lease: Lease, version: u64, entry: &Entry<'_>) -> Result<bool, Away> {
        let names = &self.shared().names;
        let mut keys = vec![names.value(&lease.key), names.lease(&lease.key)];
        keys.extend(entry.tags.iter().map(|tag| names.tag(tag)));
        let (version, life, channel) = (version.to_be_bytes(), millis(entry.life), names.channel());
        let arguments = [lease.token.bytes(), &version, entry.rest, life.as_bytes(), &channel, &lease.key];
        let kept = number(&self.shared().ask(Script::Fill, &keys, &arguments).await?) == Some(1);
        lease.is_over = true;
        Ok(kept)
    }

    /// Stores a value whatever there is, or if there is the one expected: its version, or none if there was another.
    pub(crate) async fn put(
        &self,
        key: &[u8],
        entry: &Entry<'_>,
        expected: Option<Option<u64>>,
    ) -> Result<Option<u64>, Away> {
        let names = &self.shared().names;
        let mut keys = vec![names.value(key), names.lease(key), names.writers(key), names.clock()];
        keys.extend(entry.tags.iter().map(|tag| names.tag(tag)));
        let expected = match expected {
            None => Vec::new(),
            Some(None) => b"-".to_vec(),
            Some(Some(version)) => version.to_be_bytes().to_vec(),
        };
        let life = millis(entry.life).into_bytes();
        let arguments = vec![entry.rest.to_vec(), life, names.channel(), key.to_vec(), expected];
        let value = self.shared().insist(Script::Put, keys, arguments, Owed::Key(key.into())).await?;
        Ok(number(&value).filter(|version| *version != 0))
    }

    /// A write begins.
    pub(crate) async fn begin(&self, key: &[u8]) -> Result<Writing, Away> {
        let (shared, token) = (self.shared(), Token::draw());
        let names = &shared.names;
        let keys = vec![names.value(key), names.lease(key), names.writers(key), names.clock()];
        let lease = millis(self.lease).into_bytes();
        let arguments = vec![token.bytes().to_vec(), lease, names.channel(), key.to_vec()];
        let extending = extend(shared, Script::Prolong, names.writers(key), token, self.lease);
        let mut writing = Writing { token, version: 0, extending };
        let begun = shared.insist(Script::Begin, keys, arguments, Owed::Key(key.into())).await?;
        writing.version = number(&begun).ok_or(Away)?;
        Ok(writing)
    }

    /// A write ends, with what it wrote, or nothing if it failed: the version, and whether the value was kept.
    pub(crate) async fn finish(
        &self,
        key: &[u8],
        writing: Writing,
        entry: Option<&Entry<'_>>,
    ) -> Result<(u64, bool), Away> {
        let names = &self.shared().names;
        let mut keys = vec![names.value(key), names.lease(key), names.writers(key), names.clock()];
        let (mut rest, mut life) = (Vec::new(), Duration::ZERO);
        if let Some(entry) = entry {
            (rest, life) = (entry.rest.to_vec(), entry.life);
            keys.extend(entry.tags.iter().map(|tag| names.tag(tag)));
        }
        let token = writing.token.bytes().to_vec();
        let version = writing.version.to_string().into_bytes();
        let arguments = vec![token, rest, millis(life).into_bytes(), names.channel(), key.to_vec(), version];
        drop(writing);
        let value = self.shared().insist(Script::Finish, keys, arguments, Owed::Key(key.into())).await?;
        let Value::Array(parts) = value else { return Err(Away) };
        let version = parts.first().and_then(number).ok_or(Away)?;
        Ok((version, parts.get(1).and_then(number) == Some(1)))
    }

    /// Invalidates, now or as soon as Redis is back: the version, if it is now.
    pub(crate) async fn invalidate(&self, what: Owed) -> Result<u64, Away> {
        self.shared().invalidate(what).await
    }
}

/// Whole milliseconds, at least one.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

/// Extends a lease until this is ended, or Redis says that it is another's.
fn extend(shared: &Arc<Shared>, script: Script, name: Vec<u8>, token: Token, lease: Duration) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let (keys, millis) = ([name], millis(lease));
        loop {
            tokio::time::sleep(lease / EXTENSIONS).await;
            let answer = shared.ask(script, &keys, &[token.bytes(), millis.as_bytes()]).await;
            if answer.is_ok_and(|value| number(&value) == Some(0)) {
                return;
            }
        }
    })
}

impl Lease {
    fn new(shared: &Arc<Shared>, key: &[u8], token: Token, lease: Duration) -> Self {
        let extending = extend(shared, Script::Extend, shared.names.lease(key), token, lease);
        Self { shared: Arc::clone(shared), key: key.into(), token, extending, is_over: false }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.extending.abort();
        if self.is_over {
            return;
        }
        // Whoever waits elsewhere would wait to the lease's end. If this cannot be said, that is what happens.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, token, key) = (Arc::clone(&self.shared), self.token, std::mem::take(&mut self.key));
        runtime.spawn(async move {
            let (names, channel) = ([shared.names.lease(&key)], shared.names.channel());
            let _best_effort = shared.ask(Script::Release, &names, &[token.bytes(), &channel, &key]).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_apart() {
        let check = |url: &str, expected: Result<(), &str>| match (client(url), expected) {
            (Ok(_), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{url}: {found}"),
            (found, expected) => panic!("{url}: {found:?}, not {expected:?}"),
        };
        check("redis://127.0.0.1:6379/3", Ok(()));
        check("redis://user:secret@cache.example.com", Ok(()));
        check("redis+unix:///run/redis.sock", Ok(()));
        check("memcached://127.0.0.1", Err("memcached:// is unknown"));
        check("rediss://127.0.0.1", Err("TLS"));
        check("127.0.0.1:6379", Err("no scheme"));
        check("redis://127.0.0.1:6379/shop", Err("atabase"));
        check("redis://", Err("host"));
    }
}
