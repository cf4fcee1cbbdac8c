//! The tier in Redis: what is asked of it, in terms of the cache.

mod acks;
mod keeper;
mod link;
mod message;
mod names;
mod script;
mod token;

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::hold::{Hold, Moment, surely_over};
use crate::planted::{Bug, is_planted};
use crate::record::VERSION_BYTES;
use link::{Leased, Link, Shared, bulk, number};
use names::Names;
use script::Script;
use token::Token;

pub(crate) use link::{Away, Ear, Owed};
pub(crate) use message::{Message, VERSION_MAX};
pub(crate) use names::OWN_PREFIX;

/// Parts of a lease after which it is extended: two may be lost.
const EXTENSIONS: u32 = 3;

/// Where Redis is, and how it is used.
#[derive(Clone, Debug)]
pub(crate) struct RedisParams {
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    pub(crate) lease: Duration,
    /// Where memory is held by a lease: that, and how long it is.
    pub(crate) hold: Option<(Arc<Hold>, Duration)>,
}

/// Reads a URL: what Redis it names, or what is wrong with it. An authority in PEM is trusted in place of those of the system.
pub(crate) fn client(url: &str, authority: Option<&[u8]>) -> Result<Client, String> {
    let (scheme, _) = url.split_once("://").ok_or("it has no scheme, such as redis://host:6379/0")?;
    match scheme {
        "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => {}
        "rediss" | "valkeys" if !cfg!(feature = "tls") => {
            return Err(format!("{scheme}:// needs TLS, which is the feature cache-tls"));
        }
        "rediss" | "valkeys" => {}
        _ => return Err(format!("the scheme {scheme}:// is unknown: redis://, rediss:// or redis+unix://")),
    }
    let info = url.into_connection_info().map_err(|error| error.to_string())?;
    if let ConnectionAddr::Tcp(host, _) = info.addr()
        && host.is_empty()
    {
        return Err("it names no host".to_owned());
    }
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let opened = match info.addr() {
        #[cfg(feature = "tls")]
        ConnectionAddr::TcpTls { .. } => secure_client(info, authority),
        _ if authority.is_some() => return Err("an authority is for rediss:// alone".to_owned()),
        _ => Client::open(info),
    };
    opened.map_err(|error| error.to_string())
}

#[cfg(feature = "tls")]
fn secure_client(info: redis::ConnectionInfo, authority: Option<&[u8]>) -> redis::RedisResult<Client> {
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    // The client takes the process's, and panics if there is none and several are built in. Whoever chose one before is heeded.
    if CryptoProvider::get_default().is_none() {
        let _chosen_meanwhile = aws_lc_rs::default_provider().install_default();
    }
    match authority {
        Some(authority) => {
            let root_cert = Some(authority.to_vec());
            Client::build_with_tls(info, redis::TlsCertificates { client_tls: None, root_cert })
        }
        None => Client::open(info),
    }
}

/// What becomes of who wants to load.
#[derive(Debug)]
pub(crate) enum Acquired {
    /// Somebody has loaded it; or a write is under way, and this is from before it: good to serve, and not to keep.
    Value { bytes: Vec<u8>, is_old: bool },
    /// Somebody else loads; the lease, which has this token, ends after this time if nobody extends it.
    Busy { left: Duration, token: Vec<u8> },
    /// The caller loads.
    Lead {
        lease: Lease,
        /// When the load began, on the cache's clock.
        version: u64,
        /// A write is under way, or may be, so that what is loaded may be old.
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
    /// Until when, for sure, nobody can keep what is loaded, though Redis hears no more of this write.
    sure: Arc<Hold>,
    extending: JoinHandle<()>,
}

impl Writing {
    pub(crate) fn sure(&self) -> Moment {
        self.sure.end()
    }
}

/// A change that Redis has made.
#[derive(Debug)]
pub(crate) struct Change {
    /// Of the change, or 0 if there was none.
    pub(crate) version: u64,
    /// Whether the value was kept.
    pub(crate) kept: bool,
    /// Who else may serve from memory, and how long at most.
    holders: Vec<Token>,
    longest: Duration,
    _place: Option<OwnedSemaphorePermit>,
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
        let leased = params.hold.map(|(hold, lease)| Leased::new(lease, params.lease, hold));
        let link = Link::open(params.client, Names::new(cache), params.timeout, leased, ear).await;
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

    /// What there is of a key.
    pub(crate) async fn read_one(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Away> {
        self.shared().read_one(&self.shared().names.value(key)).await
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
        let keys = &names.change(key)[..6];
        let seen = &seen[..seen.len().min(VERSION_BYTES)];
        let (lease, stale) = (millis(self.lease), millis(self.stale));
        let arguments = [token.bytes(), lease.as_bytes(), seen, stale.as_bytes()];
        let Value::Array(parts) = shared.ask(Script::Acquire, keys, &arguments).await? else { return Err(Away) };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let kind = number(&next());
        let second = next();
        match kind {
            Some(0) => bulk(second).map(|bytes| Acquired::Value { bytes, is_old: false }).ok_or(Away),
            Some(1) => {
                let left = Duration::from_millis(number(&second).unwrap_or(1));
                Ok(Acquired::Busy { left, token: bulk(next()).unwrap_or_default() })
            }
            Some(3) => bulk(second).map(|bytes| Acquired::Value { bytes, is_old: true }).ok_or(Away),
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
        let mut keys = vec![names.value(&lease.key), names.lease(&lease.key), names.tagged()];
        keys.extend(entry.tags.iter().map(|tag| names.tag(tag)));
        let (version, life, channel) = (version.to_be_bytes(), millis(entry.life), names.channel());
        let arguments = [lease.token.bytes(), &version, entry.rest, life.as_bytes(), &channel, &lease.key];
        let kept = number(&self.shared().ask(Script::Fill, &keys, &arguments).await?) == Some(1);
        lease.is_over = true;
        Ok(kept)
    }

    /// Stores a value whatever there is, or if nothing is there or what begins with these bytes: version 0 if there was another.
    pub(crate) async fn put(
        &self,
        key: &[u8],
        entry: &Entry<'_>,
        expected: Option<Option<&[u8]>>,
    ) -> Result<Change, Away> {
        let names = &self.shared().names;
        let mut keys = names.change(key);
        keys.push(names.tagged());
        keys.extend(entry.tags.iter().map(|tag| names.tag(tag)));
        let is_conditional = expected.is_some();
        let expected = match expected {
            None => Vec::new(),
            Some(None) => b"-".to_vec(),
            Some(Some(found)) => [b"=", &found[..found.len().min(VERSION_BYTES)]].concat(),
        };
        let life = millis(entry.life).into_bytes();
        let arguments = vec![entry.rest.to_vec(), life, names.channel(), key.to_vec(), expected];
        match self.change(Script::Put, keys, arguments, Owed::Key(key.into())).await? {
            Some(change) => Ok(change),
            // Redis is full. What it has of the key goes, for which it needs no room.
            None => {
                let change = self.invalidate(Owed::Key(key.into())).await?;
                if is_conditional { Err(Away) } else { Ok(change) }
            }
        }
    }

    /// A write begins. Where memory is held by leases, it may go on when all holders have [`heard`](Self::heard) of it.
    pub(crate) async fn begin(&self, key: &[u8]) -> Result<(Writing, Change), Away> {
        let (shared, token, asked) = (self.shared(), Token::draw(), Moment::now());
        let names = &shared.names;
        let lease = millis(self.lease).into_bytes();
        let old = millis(shared.leased.as_ref().map_or(self.lease, |leased| leased.lease)).into_bytes();
        let arguments = vec![token.bytes().to_vec(), lease, names.channel(), key.to_vec(), old];
        let begun =
            self.change(Script::Begin, names.change(key), arguments, Owed::Key(key.into())).await?.ok_or(Away)?;
        let sure = Arc::new(Hold::default());
        sure.extend(asked, self.lease);
        let keys = vec![names.writers(key), names.holders()];
        let extending = extend(shared, (Script::Prolong, keys), token, (self.lease, Some(Arc::clone(&sure))));
        Ok((Writing { token, version: begun.version, sure, extending }, begun))
    }

    /// A write ends, with what it wrote, or nothing if it failed.
    pub(crate) async fn finish(&self, key: &[u8], writing: Writing, entry: Option<&Entry<'_>>) -> Result<Change, Away> {
        let names = &self.shared().names;
        let mut keys = names.change(key);
        keys.push(names.tagged());
        let (mut rest, mut life) = (Vec::new(), Duration::ZERO);
        if let Some(entry) = entry {
            (rest, life) = (entry.rest.to_vec(), entry.life);
            keys.extend(entry.tags.iter().map(|tag| names.tag(tag)));
        }
        let token = writing.token.bytes().to_vec();
        let version = writing.version.to_string().into_bytes();
        let lease = millis(self.lease).into_bytes();
        let arguments = vec![token, rest, millis(life).into_bytes(), names.channel(), key.to_vec(), version, lease];
        drop(writing);
        self.change(Script::Finish, keys, arguments, Owed::Key(key.into())).await?.ok_or(Away)
    }

    /// Invalidates, now or as soon as Redis is back.
    pub(crate) async fn invalidate(&self, what: Owed) -> Result<Change, Away> {
        let (script, keys, arguments) = self.shared().invalidation(&what);
        self.change(script, keys, arguments, what).await?.ok_or(Away)
    }

    /// Changes something: nothing is done if there was no room for it.
    async fn change(
        &self,
        script: Script,
        keys: Vec<Vec<u8>>,
        arguments: Vec<Vec<u8>>,
        owed: Owed,
    ) -> Result<Option<Change>, Away> {
        let place = match &self.shared().leased {
            Some(leased) => Arc::clone(&leased.changes).acquire_owned().await.ok(),
            None => None,
        };
        let waits = match script {
            Script::Tag => !is_planted(Bug::TagNotWaited),
            _ => !is_planted(Bug::ChangeNotWaited),
        };
        let parts = match self.shared().insist(script, keys, arguments, owed).await? {
            Value::Array(parts) => parts,
            Value::Nil => return Ok(None),
            _ => return Err(Away),
        };
        let mut parts = parts.into_iter();
        let version = parts.next().as_ref().and_then(number).ok_or(Away)?;
        let kept = parts.next().as_ref().and_then(number) == Some(1);
        let (mut holders, mut longest) = (Vec::new(), Duration::ZERO);
        while let (Some(holder), Some(left)) = (parts.next(), parts.next()) {
            // What has no id of an instance is waited for as one that never answers.
            holders.push(bulk(holder).and_then(|id| Token::read(&id)).unwrap_or_else(Token::draw));
            longest = longest.max(Duration::from_millis(number(&left).unwrap_or(0)));
        }
        if !waits {
            holders.clear();
        }
        Ok(Some(Change { version, kept, holders, longest, _place: place }))
    }

    /// Waits until whoever may serve from memory has heard of a change, or may not any more.
    pub(crate) async fn heard(&self, change: &mut Change) {
        let Some(leased) = &self.shared().leased else { return };
        let Some(all) = leased.acks.wait(change.version, std::mem::take(&mut change.holders)) else { return };
        let _all_or_over = tokio::time::timeout(surely_over(change.longest), all).await;
    }

    /// How long, at most, a value from before a write is served after the write has begun.
    pub(crate) fn old_is_over_after(&self) -> Option<Duration> {
        self.shared().leased.as_ref().map(|leased| surely_over(leased.lease))
    }
}

/// Whole milliseconds, at least one.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

/// Extends a lease until this is ended, or Redis says that it is another's. Whoever wants to know how long it lasts for sure is told.
fn extend(
    shared: &Arc<Shared>,
    (script, keys): (Script, Vec<Vec<u8>>),
    token: Token,
    (lease, sure): (Duration, Option<Arc<Hold>>),
) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let millis = millis(lease);
        loop {
            tokio::time::sleep(lease / EXTENSIONS).await;
            let asked = Moment::now();
            let answer = shared.ask(script, &keys, &[token.bytes(), millis.as_bytes()]).await;
            match (answer.as_ref().map(number), &sure) {
                (Ok(Some(0)), sure) => {
                    sure.iter().for_each(|sure| sure.give_up());
                    return;
                }
                (Ok(_), Some(sure)) => sure.extend(asked, lease),
                _ => {}
            }
        }
    })
}

impl Lease {
    fn new(shared: &Arc<Shared>, key: &[u8], token: Token, lease: Duration) -> Self {
        let extending = extend(shared, (Script::Extend, vec![shared.names.lease(key)]), token, (lease, None));
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
        let check = |url: &str, expected: Result<(), &str>| match (client(url, None), expected) {
            (Ok(_), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{url}: {found}"),
            (found, expected) => panic!("{url}: {found:?}, not {expected:?}"),
        };
        check("redis://127.0.0.1:6379/3", Ok(()));
        check("redis://user:secret@cache.example.com", Ok(()));
        check("redis+unix:///run/redis.sock", Ok(()));
        check("memcached://127.0.0.1", Err("memcached:// is unknown"));
        #[cfg(feature = "tls")]
        check("rediss://127.0.0.1", Ok(()));
        #[cfg(not(feature = "tls"))]
        check("rediss://127.0.0.1", Err("cache-tls"));
        check("127.0.0.1:6379", Err("no scheme"));
        check("redis://127.0.0.1:6379/shop", Err("atabase"));
        check("redis://", Err("host"));
        assert_eq!(client("redis://127.0.0.1", Some(b"pem")).unwrap_err(), "an authority is for rediss:// alone");
    }
}
