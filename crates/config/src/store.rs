//! Stores of limits: a URL, which may hold a password and is therefore never quoted.

use std::time::Duration;

use gateway::params::{Host, LeaseQuota, Rate, SharedParams, StoreParams, WithoutStore};
use net::tls::{ClientTls, ClientTlsParams, HTTP11, MinVersion, ServerName, Trust};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use vocab::Secret;

use crate::address::{self, HostPort};
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value};
use crate::node::Node;
use crate::quantity::Time;
use crate::raw::{AlgorithmWord, RawLimit, WithoutStoreWord};
use crate::value::text;

/// The port of Redis.
const PORT: u16 = 6379;

/// Time for a store's answer if nobody says otherwise: what a client may wait once, and more than a machine that is busy keeps
/// a process waiting, for without the store a limit holds less exactly.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Where a Redis is, and who may use it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoreUrl {
    tls: bool,
    host: Host,
    port: u16,
    database: u16,
    user: Option<String>,
    password: Option<Secret>,
}

/// What is wrong with a URL, and what to do, neither of which may repeat what stands in it.
type Wrong = (&'static str, Option<&'static str>);

fn parse(text: &str) -> Result<StoreUrl, Wrong> {
    let no_scheme = ("the URL has no scheme", Some("begin it with redis://"));
    let (scheme, rest) = text.split_once("://").ok_or(no_scheme)?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        "valkey" | "tcp" => return Err(("the URL has an unknown scheme", Some("begin it with redis://"))),
        "valkeys" | "tls" => return Err(("the URL has an unknown scheme", Some("begin it with rediss://"))),
        "unix" | "redis+unix" | "redis-socket" => return Err(("a Redis is reached by TCP only", None)),
        "redis-sentinel" | "redis-cluster" => return Err(("one Redis holds the buckets, no cluster", None)),
        _ => return Err(("the URL has an unknown scheme", None)),
    };
    let encode = Some("write characters of a password that are no letters or digits as in %23 for #");
    if rest.contains(['?', '#']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(("the URL has more than a user, a host, a port and a database", encode));
    }
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    if user.is_some_and(|user| user.contains('/')) {
        return Err(("the URL has a '/' before its host", encode));
    }
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let database = match database {
        "" => 0,
        number => number.parse().map_err(|_| ("the database is no number", Some("end the URL with /0")))?,
    };
    let HostPort { host, port } = host_port(authority)?;
    let (user, password) = match user.map(|user| user.split_once(':').ok_or(user)) {
        None => (None, None),
        Some(Err(_)) => {
            return Err(("the URL has a user without a password", Some("write USER:PASSWORD@, or :PASSWORD@")));
        }
        Some(Ok((user, password))) => (Some(decoded(user)?), Some(decoded(password)?)),
    };
    let (user, password) = (user.filter(|user| !user.is_empty()), password.map(Secret::new));
    Ok(StoreUrl { tls, host, port, database, user, password })
}

fn host_port(authority: &str) -> Result<HostPort, Wrong> {
    let found = address::host_port_with(authority, PORT);
    // Nobody writes the port where it is the usual one.
    let found = match found {
        Err(address::Wrong { problem: "has no port", fix: Some(whole) }) => address::host_port_with(&whole, PORT),
        other => other,
    };
    match found {
        Ok(HostPort { host: Host::Srv(_), .. }) => Err(("the URL has no host, but the name of SRV records", None)),
        Ok(HostPort { port: 0, .. }) => Err(("the URL has port 0, where nothing can listen", None)),
        Ok(found) => Ok(found),
        Err(_) => Err(("the URL has no valid host and port", None)),
    }
}

/// A text with its escapes replaced.
pub(crate) fn decoded(text: &str) -> Result<String, Wrong> {
    let wrong = ("the URL has a broken escape before its host", Some("write a percent sign as %25"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(wrong);
                ((digit(*high)? * 16 + digit(*low)?) as u8, after)
            }
            (b'%', _) => return Err(wrong),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong)
}

impl StoreUrl {
    fn host(&self) -> String {
        match &self.host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) | Host::Srv(name) => name.clone(),
        }
    }
}

impl Value for StoreUrl {
    fn expected() -> String {
        "a URL such as \"redis://10.0.0.5:6379\" or \"rediss://USER:PASSWORD@redis.internal:6380/1\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        sink.hide(node.place);
        let text = text(node, key, &Self::expected(), None, sink)?;
        let found = parse(text);
        if let Err((problem, fix)) = &found {
            let diagnostic = Diagnostic::error(node.place, key, *problem).allowed(Self::expected());
            sink.push(diagnostic.fix(fix.map(str::to_owned)));
        }
        found.ok()
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let who = match (&self.user, &self.password) {
            (Some(user), Some(_)) => format!("{user}:***@"),
            (None, Some(_)) => ":***@".to_owned(),
            (_, None) => String::new(),
        };
        let host = match &self.host {
            Host::Address(address) if address.is_ipv6() => format!("[{address}]"),
            _ => self.host(),
        };
        format!("{scheme}://{who}{host}:{}/{}", self.port, self.database).into()
    }
}

/// Fills in what a limit with a store derives.
pub(crate) fn resolve(raw: &mut RawLimit) {
    let Some(place) = raw.store.as_ref().map(|store| store.place) else { return };
    if raw.store_timeout.is_none() && !raw.failed.contains(&"store_timeout") {
        raw.store_timeout = Some(Field { value: Time(TIMEOUT), place, set: false });
    }
    if raw.without_store.is_none() && !raw.failed.contains(&"without_store") {
        raw.without_store = Some(Field { value: WithoutStoreWord::Local, place, set: false });
    }
}

/// How the gateways share a limit, if they do. `None` when something of it is wrong, which has been reported.
pub(crate) fn shared(
    key: &str,
    raw: &RawLimit,
    (rate, burst): (Rate, u32),
    sink: &mut Sink,
) -> Option<Option<SharedParams>> {
    let Some(store) = &raw.store else {
        return absent(key, raw, sink).then_some(None);
    };
    if raw.algorithm.value != AlgorithmWord::Gcra {
        let message = "gateways can share only what is kept by gcra";
        let diagnostic = Diagnostic::error(raw.algorithm.place, format!("{key}.algorithm"), message);
        sink.push(diagnostic.related(store.place, "the store").fix("remove one of the two".to_owned()));
        return None;
    }
    let quota = LeaseQuota::new(rate, burst);
    let quota = quota.map_err(|error| {
        let place = raw.rate.as_ref().map_or(raw.place, |rate| rate.place);
        sink.push(Diagnostic::error(place, format!("{key}.rate"), format!("no store can count this: {error}")));
    });
    let host = store.value.host();
    let tls = match store.value.tls {
        false => None,
        true => Some(tls(key, store, &host, sink)?),
    };
    let StoreUrl { port, database, user, password, .. } = store.value.clone();
    let timeout = raw.store_timeout.as_ref()?.value.0;
    let without_store = match raw.without_store.as_ref()?.value {
        WithoutStoreWord::Local => WithoutStore::Local,
        WithoutStoreWord::Open => WithoutStore::Open,
        WithoutStoreWord::Closed => WithoutStore::Closed,
    };
    let store = StoreParams { host, port, database: database.into(), user, password, tls, timeout };
    Some(Some(SharedParams { store, quota: quota.ok()?, without_store }))
}

fn tls(key: &str, store: &Field<StoreUrl>, host: &str, sink: &mut Sink) -> Option<(ClientTls, ServerName<'static>)> {
    let params = ClientTlsParams {
        trust: Trust::System,
        server_name: None,
        certificate: None,
        min_version: MinVersion::Tls12,
        protocol: HTTP11,
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "no certificate can be for this host".to_owned());
    let made = ClientTls::new(params).and_then(|tls| Ok((tls, name?)));
    made.map_err(|error| sink.push(Diagnostic::error(store.place, format!("{key}.store"), error))).ok()
}

/// Whether nothing is said about a store that there is not.
pub(crate) fn absent(key: &str, raw: &RawLimit, sink: &mut Sink) -> bool {
    if raw.failed.contains(&"store") {
        return false;
    }
    let timeout = raw.store_timeout.as_ref().map(|field| ("store_timeout", field.place));
    let without = raw.without_store.as_ref().map(|field| ("without_store", field.place));
    let mut found = [timeout, without].into_iter().flatten().peekable();
    let absent = found.peek().is_none();
    for (name, place) in found {
        let diagnostic = Diagnostic::error(place, format!("{key}.{name}"), "this limit has no store");
        sink.push(diagnostic.fix("add store = \"redis://HOST:6379\", or remove it".to_owned()));
    }
    absent
}

/// Reports a store of what cannot be shared.
pub(crate) fn refuse(key: &str, raw: &RawLimit, sink: &mut Sink) -> bool {
    let Some(store) = &raw.store else { return absent(key, raw, sink) };
    let message = "gateways can share a rate, but not what is under way";
    let diagnostic = Diagnostic::error(store.place, format!("{key}.store"), message);
    sink.push(diagnostic.fix("remove it, and give each gateway its part".to_owned()));
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores() {
        let good = |text: &str, expected: &str| {
            let found = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
            assert_eq!(found.effective(), expected, "{text}");
            found
        };
        good("redis://10.0.0.5:6379", "redis://10.0.0.5:6379/0");
        good("redis://Redis.example.com", "redis://redis.example.com:6379/0");
        good("rediss://[::1]:6380/3", "rediss://[::1]:6380/3");
        good("redis://[::1]", "redis://[::1]:6379/0");
        let found = good("redis://shop:p%40ss%2Fw%25rd@redis:7/0", "redis://shop:***@redis:7/0");
        assert_eq!(found.password.unwrap().expose(), "p@ss/w%rd");
        let found = good("redis://:a:b@c@redis", "redis://:***@redis:6379/0");
        assert_eq!((found.user, found.password.unwrap().expose()), (None, "a:b@c"));
        let bad = |text: &str, expected: &str| {
            let (problem, fix) = parse(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!format!("{problem}{fix:?}").contains("s3cret"), "{text}");
        };
        bad("10.0.0.5:6379", "no scheme");
        bad("valkey://10.0.0.5", "unknown scheme");
        bad("http://10.0.0.5", "unknown scheme");
        bad("unix:///run/redis.sock", "TCP");
        bad("redis-sentinel://a,b/main", "no cluster");
        bad("redis://", "host and port");
        bad("redis://:6379", "host and port");
        bad("redis://redis:0", "port 0");
        bad("redis://redis:99999", "host and port");
        bad("redis://redis/main", "database");
        bad("redis://redis/70000", "database");
        bad("redis://shop@redis", "without a password");
        bad("redis://shop:s3cret#1@redis", "more than");
        bad("redis://shop:s3cret/1@redis", "'/' before its host");
        bad("redis://shop:s3cret%zz@redis", "escape");
        bad("redis://shop:s3cret%f@redis", "escape");
        bad("redis://shop:s3cret%ff@redis", "escape");
        bad("redis://redis?db=1", "more than");
    }
}
