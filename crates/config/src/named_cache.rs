//! `[cache]` with the tables of named caches beside its own keys, and named caches to their parameters.

use std::time::Duration;

use cache_server::{CacheParams, VALUE_SHARE};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value as Json;
use vocab::{Name, Secret};

use crate::address::{Listen, ListenAt};
use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::{Named, NamedTable};
use crate::grammar::{Field, Key, Value};
use crate::node::{Entry, Node, Value as NodeValue};
use crate::quantity::Time;
use crate::raw::{RawCacheStore, RawConfig, RawNamedCache};
use crate::taken::Taken;

/// A value's bytes where nothing is said: what common clients store is far below.
const VALUE_BYTES: u64 = 1 << 20;

/// What routes cache in, and caches with names.
#[derive(Clone, Debug)]
pub(crate) struct CacheTable {
    pub(crate) store: RawCacheStore,
    pub(crate) named: Named<RawNamedCache>,
}

impl NamedTable for RawNamedCache {
    const HEADER: &str = "cache";
    const KEYS: &[&str] = Self::KEYS;
}

impl Value for CacheTable {
    fn expected() -> String {
        RawCacheStore::expected()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let part = |entries: Vec<Entry>| Node { value: NodeValue::Table(entries), place: node.place };
        let NodeValue::Table(entries) = &node.value else {
            // The store's table says what belongs here.
            RawCacheStore::read(node, key, sink);
            return None;
        };
        let is_named = |entry: &&Entry| {
            let is_table = matches!(entry.node.value, NodeValue::Table(_));
            let own = RawCacheStore::KEYS.contains(&entry.key.as_str());
            !own && (is_table || RawNamedCache::KEYS.contains(&entry.key.as_str()))
        };
        let (named, own): (Vec<_>, Vec<_>) = entries.iter().partition(is_named);
        let copied = |entries: Vec<&Entry>| part(entries.into_iter().cloned().collect());
        let store = RawCacheStore::read(&copied(own), key, sink);
        let named = Named::read(&copied(named), key, sink);
        Some(Self { store: store?, named: named? })
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }

    fn effective(&self) -> Json {
        let mut all = self.store.effective();
        if let (Json::Object(all), Json::Object(named)) = (&mut all, self.named.effective()) {
            all.extend(named);
        }
        all
    }
}

impl JsonSchema for CacheTable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CacheStore".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawCacheStore::json_schema(generator);
        let named = RawNamedCache::schema(generator);
        schema.insert("additionalProperties".to_owned(), named.to_value());
        schema
    }
}

/// The parameters of all named caches.
pub(crate) fn params(raw: &RawConfig, taken: &mut Taken, sink: &mut Sink) -> Vec<CacheParams> {
    let mut caches = Vec::new();
    for (name, raw) in &raw.cache.value.named.tables {
        for (key, field) in [("listen", &raw.listen), ("http", &raw.http)] {
            let Some(Field { value, place, set }) = field else { continue };
            let field = Field { value: ListenAt::Tcp(value.0), place: *place, set: *set };
            taken.claim(&field, (&format!("cache.{}.{key}", name.value), format!("cache {}", name.value)), sink);
        }
        caches.extend(cache(name, raw, sink));
    }
    caches
}

fn cache(name: &Field<Name>, raw: &RawNamedCache, sink: &mut Sink) -> Option<CacheParams> {
    let key = format!("cache.{}", name.value);
    let failed = |name: &str| raw.failed.contains(&name);
    if raw.listen.is_none() && raw.http.is_none() && !failed("listen") && !failed("http") {
        let diagnostic = Diagnostic::error(raw.place, key.as_str(), "the cache can be reached nowhere");
        sink.push(diagnostic.fix("add listen = \"127.0.0.1:6380\"".to_owned()));
        return None;
    }
    for (at, field) in [("listen", &raw.listen), ("http", &raw.http)] {
        if raw.password.is_none() && !failed("password") {
            closed(&format!("{key}.{at}"), field.as_ref(), sink);
        }
    }
    let memory_bytes = raw.memory.value.0;
    let share = memory_bytes / VALUE_SHARE;
    let value_bytes_max = raw.value_bytes_max.as_ref().map_or(VALUE_BYTES.min(share), |field| field.value.0);
    if let Some(field) = raw.value_bytes_max.as_ref().filter(|field| field.value.0 > share) {
        let message = "one value could take more than an eighth of the memory";
        let diagnostic = Diagnostic::error(field.place, format!("{key}.value_bytes_max"), message);
        sink.push(diagnostic.related(raw.memory.place, "the memory").fix("lower it, or raise memory".to_owned()));
    }
    let address = |field: &Option<Field<Listen>>| field.as_ref().map(|field| field.value.0);
    let time = |field: &Option<Field<Time<1, 3_600_000>>>| field.as_ref().map(|field| field.value.0);
    let ttl: Option<Duration> = raw.ttl.as_ref().map(|field| field.value.0);
    Some(CacheParams {
        name: name.value.clone(),
        listen: address(&raw.listen),
        http: address(&raw.http),
        memory_bytes,
        ttl,
        value_bytes_max,
        connections_max: raw.connections_max.value.0,
        password: raw.password.as_ref().map(|password| Secret::new(password.value.0.as_str())),
        idle_timeout: time(&raw.idle_timeout),
        stall_timeout: raw.stall_timeout.value.0,
    })
}

/// Checks that whoever needs no password is on this machine.
fn closed(key: &str, field: Option<&Field<Listen>>, sink: &mut Sink) {
    let Some(field) = field.filter(|field| !field.value.0.ip().is_loopback()) else { return };
    let message = format!("{} is reachable from outside this machine, so a password is needed", field.value.0);
    let diagnostic = Diagnostic::error(field.place, key, message)
        .allowed("a loopback address, or any address with a password")
        .fix("add password = \"${TENFOLD_CACHE_PASSWORD}\", or listen on 127.0.0.1".to_owned());
    sink.push(diagnostic);
}
