//! The edge cache, from its tables to its parameters.

use std::io::ErrorKind;
use std::path::Path;

use gateway::params::{
    CACHE_OWN_FIELDS, CacheDiskParams, CacheParams, CachePolicy, CacheStoreParams, CacheTold, cache_policy,
};
use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::Field;
use crate::http::Wrong;
use crate::map::MapKey;
use crate::raw::{
    CacheStatusWord, ObeyWord, QueryWord, RawCache, RawCacheBypass, RawCacheDisk, RawCacheKey, RawCacheStore,
    SetCookieWord,
};
use crate::tls::Files;
use crate::value::{List, Text};

/// Statuses, as keys: one, or the first and the last.
#[derive(Clone, Debug)]
pub(crate) struct StatusKey;

impl MapKey for StatusKey {
    const EXPECTED: &str = "a status from 200 to 599, or a range such as \"500-599\"";

    fn read(text: &str) -> Result<String, Wrong> {
        if statuses(text).is_some() {
            return Ok(text.to_owned());
        }
        let class = text.to_ascii_lowercase();
        let fix = match class.strip_suffix("xx") {
            Some(digit @ ("2" | "3" | "4" | "5")) => Some(format!("{digit}00-{digit}99")),
            _ => None,
        };
        Err(("is no status", fix))
    }
}

fn statuses(text: &str) -> Option<(u16, u16)> {
    let one = |text: &str| text.parse::<u16>().ok().filter(|status| text.len() == 3 && (200..600).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((one(first)?, one(last)?)).filter(|(first, last)| first <= last)
}

/// What routes cache in.
pub(crate) fn store(raw: &RawCacheStore, files: &Files<'_>, sink: &mut Sink) -> CacheStoreParams {
    let disk = raw.disk.as_ref().and_then(|field| disk(raw, &field.value, files, sink));
    CacheStoreParams { memory_bytes_max: raw.memory.value.0, disk }
}

fn disk(store: &RawCacheStore, raw: &RawCacheDisk, files: &Files<'_>, sink: &mut Sink) -> Option<CacheDiskParams> {
    let folder = raw.path.as_ref().map(|path| {
        let folder = files.folder(path);
        let trouble = if path.value.0.is_empty() { Some("no folder is named".to_owned()) } else { trouble(&folder) };
        if let Some(trouble) = trouble {
            let diagnostic = Diagnostic::error(path.place, "cache.disk.path", trouble);
            sink.push(diagnostic.fix("name a folder of the cache's own, such as \"/var/cache/tenfold\"".to_owned()));
        }
        folder
    });
    let size = raw.size.as_ref()?;
    if size.value.0 < store.memory.value.0 {
        let message = "the disk is smaller than the memory, and would keep less than that has";
        let diagnostic = Diagnostic::error(size.place, "cache.disk.size", message);
        sink.push(diagnostic.related(store.memory.place, "the memory").fix("give the disk more".to_owned()));
    }
    Some(CacheDiskParams { path: folder?, bytes_max: size.value.0 })
}

/// What is in the way of a folder. Whatever the system does not tell is left to the start, which goes on without a disk.
fn trouble(folder: &Path) -> Option<String> {
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Some(format!("{shown} is no folder")),
        Ok(_) => match rustix::fs::accessat(rustix::fs::CWD, folder, Access::WRITE_OK, AtFlags::EACCESS) {
            Err(error @ (Errno::ACCESS | Errno::ROFS)) => Some(format!("{shown} cannot be written to: {error}")),
            _ => None,
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty())?;
            // One level is made; more of them missing is more likely a slip, or a disk that is not mounted.
            (!parent.is_dir()).then(|| format!("there is no folder {}", parent.display()))
        }
        Err(_) => None,
    }
}

/// How a route caches.
pub(crate) fn params(key: &str, raw: &RawCache, sink: &mut Sink) -> CacheParams {
    let key = format!("{key}.cache");
    let defaults = CacheParams::default();
    let status_ttls = raw.status_ttl.value.0.iter().filter_map(|(text, ttl)| {
        let (first, last) = statuses(text)?;
        Some(cache_policy::StatusTtl { first, last, ttl: ttl.value.0 })
    });
    let names =
        |list: &List<crate::http::FieldName>| list.0.iter().map(|name| name.value.0.clone()).collect::<Vec<_>>();
    let never_store = names(&raw.never_store.value).into_iter();
    let policy = CachePolicy {
        key: key_parts(&key, &raw.key.value, sink),
        default_ttl: raw.default_ttl.as_ref().map(|ttl| ttl.value.0),
        status_ttls: status_ttls.collect(),
        ttl_max: raw.ttl_max.as_ref().map(|ttl| ttl.value.0),
        stale_while_revalidate: raw.stale_while_revalidate.value.0,
        stale_if_error: raw.stale_if_error.value.0,
        obeys_requests: raw.request_directives.value == ObeyWord::Obey,
        set_cookie: match raw.set_cookie.value {
            SetCookieWord::ForShared => cache_policy::SetCookie::ForShared,
            SetCookieWord::Never => cache_policy::SetCookie::Never,
            SetCookieWord::Always => cache_policy::SetCookie::Always,
            SetCookieWord::Stripped => cache_policy::SetCookie::Stripped,
        },
        bypass: bypass(&raw.bypass.value),
        never_store: never_store.map(|name| cache_policy::FieldCondition { name, value: None }).collect(),
        ..defaults.policy
    };
    lifetimes(&key, raw, sink);
    CacheParams {
        policy,
        object_bytes_max: raw.object_bytes_max.value.0,
        collapse_wait: raw.collapse_wait.value.0,
        told: match raw.cache_status.value {
            CacheStatusWord::Off => CacheTold::Nothing,
            CacheStatusWord::On => CacheTold::Decision,
            CacheStatusWord::Key => CacheTold::Key,
        },
        ..defaults
    }
}

/// A default beyond the bound would never hold.
fn lifetimes(key: &str, raw: &RawCache, sink: &mut Sink) {
    let (Some(default), Some(max)) = (&raw.default_ttl, &raw.ttl_max) else { return };
    if default.value.0 > max.value.0 {
        let message = "default_ttl is above ttl_max, and would never hold";
        let diagnostic = Diagnostic::error(default.place, format!("{key}.default_ttl"), message);
        sink.push(diagnostic.related(max.place, "the bound").fix("lower default_ttl, or raise ttl_max".to_owned()));
    }
}

fn key_parts(key: &str, raw: &RawCacheKey, sink: &mut Sink) -> cache_policy::KeyParts {
    let said = [
        ("query", raw.query.as_ref().map(|field| field.place)),
        ("query_only", raw.query_only.as_ref().map(|field| field.place)),
        ("query_except", raw.query_except.as_ref().map(|field| field.place)),
    ];
    let mut said = said.into_iter().filter_map(|(name, place)| Some((name, place?)));
    if let (Some((first, before)), Some((second, place))) = (said.next(), said.next()) {
        let message = format!("{first} says already which parameters count");
        let diagnostic = Diagnostic::error(place, format!("{key}.key.{second}"), message);
        sink.push(diagnostic.related(before, "here").fix("remove one of them".to_owned()));
    }
    for name in &raw.headers.value.0 {
        let found = &name.value.0;
        if CACHE_OWN_FIELDS.contains(&found.as_str()) {
            let message = format!("{found} is written anew for each request, and no two would have one key by it");
            let diagnostic = Diagnostic::error(name.place, format!("{key}.key.headers"), message);
            sink.push(diagnostic.fix("remove it".to_owned()));
        }
    }
    let texts = |field: &Field<List<Text>>| field.value.0.iter().map(|text| text.value.0.clone()).collect();
    let word = raw.query.as_ref().map_or(QueryWord::All, |field| field.value);
    let query = match (&raw.query_only, &raw.query_except, word) {
        (Some(names), ..) => cache_policy::QueryParts::Only(texts(names)),
        (None, Some(names), _) => cache_policy::QueryParts::Except(texts(names)),
        (None, None, QueryWord::All) => cache_policy::QueryParts::All,
        (None, None, QueryWord::None) => cache_policy::QueryParts::Only(Vec::new()),
    };
    cache_policy::KeyParts {
        host: raw.host.value.0,
        scheme: raw.scheme.value.0,
        path: true,
        query,
        sorts_query: raw.sort_query.value.0,
        fields: raw.headers.value.0.iter().map(|name| name.value.0.clone()).collect(),
        cookies: raw.cookies.value.0.iter().map(|name| name.value.0.clone()).collect(),
    }
}

fn bypass(raw: &RawCacheBypass) -> Vec<cache_policy::Condition> {
    use cache_policy::{Condition, FieldCondition};
    let fields = raw.headers.value.0.iter().map(|name| name.value.0.clone());
    let fields = fields.map(|name| Condition::Field(FieldCondition { name, value: None }));
    let cookies = raw.cookies.value.0.iter().map(|name| Condition::Cookie(name.value.0.clone()));
    let query = raw.query.value.0.iter().map(|name| Condition::Query(name.value.0.clone()));
    fields.chain(cookies).chain(query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_keys() {
        assert_eq!(statuses("404"), Some((404, 404)));
        assert_eq!(statuses("500-599"), Some((500, 599)));
        for wrong in ["", "4xx", "600", "0404", "599-500", "200-", "-", "+20"] {
            assert_eq!(statuses(wrong), None, "{wrong}");
        }
        assert_eq!(StatusKey::read("5xx").unwrap_err().1.as_deref(), Some("500-599"));
    }
}
