//! How one route uses the cache.

use coding::{Coding, Effort};
use httpcache::{Field, Fields, Target, Vary};
use store::Mark;
use telemetry::cell::{Counter, Sharded};

use crate::params::{CacheParams, RouteParams};

/// Fields that name tags, for caches alone: they go no further.
const TAGS_OF_CACHES: &str = "surrogate-key";
/// A field that names tags, which others in front may want too.
const TAGS_OF_ALL: &str = "cache-tag";

/// Most tags of a response. What has more would make each purge slow.
const TAGS_MAX: usize = 256;

/// Between a key and what tells its variants apart.
pub(crate) const VARIANT: u8 = 1;

/// Between a route's name and what it stands for.
pub(crate) const IDENTITY: u8 = 2;

/// Behind a key, for a part where the whole is not there.
const PART: u8 = 3;

/// Behind a key, with its variant, for the form in a coding.
const CODED: u8 = 4;

/// A route's cache.
#[derive(Debug)]
pub(crate) struct RouteCache {
    pub(crate) params: CacheParams,
    route: Box<[u8]>,
}

/// What became of a request of a route with a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum CacheResult {
    /// Served from the cache, fresh.
    Hit,
    /// Served from the cache, stale.
    Stale,
    /// Served from the cache after its origin said that it is good.
    Revalidated,
    /// Served by what another request fetched.
    Collapsed,
    /// Fetched, and stored.
    Miss,
    /// Fetched, and not stored.
    Unstored,
    /// Not for the cache.
    Bypass,
}

impl CacheResult {
    /// All of them, at the positions of their counters.
    pub(crate) const ALL: [Self; 7] =
        [Self::Hit, Self::Stale, Self::Revalidated, Self::Collapsed, Self::Miss, Self::Unstored, Self::Bypass];

    /// The label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Unstored => "unstored",
            Self::Bypass => "bypass",
        }
    }
}

/// Requests that the cache was asked for by [`CacheResult`], and bytes of the bodies that they got.
#[derive(Debug)]
pub(crate) struct CacheCounts(Sharded<[[Counter; 2]; CacheResult::ALL.len()]>);

impl CacheCounts {
    /// Nothing counted yet.
    pub(crate) fn new(cores: usize) -> Self {
        Self(Sharded::new(cores, <[[Counter; 2]; CacheResult::ALL.len()]>::default))
    }

    /// Counts a request of a core, and the bytes of its body.
    pub(crate) fn add(&self, core: usize, result: CacheResult, bytes: u64) {
        let [requests, sent] = &self.0.core(core)[result as usize];
        requests.increment();
        sent.add(bytes);
    }

    /// Requests and bytes by result, all cores together.
    pub(crate) fn totals(&self) -> [[u64; 2]; CacheResult::ALL.len()] {
        let sum = |at: usize, of: usize| self.0.iter().map(|counts| counts[at][of].value()).sum();
        std::array::from_fn(|at| [sum(at, 0), sum(at, 1)])
    }
}

impl RouteCache {
    /// The cache of a route.
    pub(crate) fn new(params: &CacheParams, route: &RouteParams) -> Self {
        let mut name = route.name.as_str().as_bytes().to_vec();
        name.push(IDENTITY);
        name.extend_from_slice(format!("{:08x}", identity(route) as u32).as_bytes());
        Self { params: params.clone(), route: name.into() }
    }

    /// Appends the key of a request. What two routes, or two services of one, answer is never mixed up.
    pub(crate) fn write_key<'a>(&self, out: &mut Vec<u8>, target: Target<'a>, fields: impl Fields<'a>, service: &str) {
        self.params.policy.key.write(out, target, fields);
        for name in [&*self.route, service.as_bytes()] {
            out.extend_from_slice(name);
            out.push(0);
        }
    }

    /// Appends to a key what tells the variant apart that a request wants.
    pub(crate) fn write_variant<'a>(&self, key: &mut Vec<u8>, vary: &Vary<'_>, fields: impl Fields<'a>) {
        key.push(VARIANT);
        vary.write_variant(key, fields, &self.params.policy.vary);
    }

    /// Makes a key, without a variant behind it, that of parts.
    pub(crate) fn write_part(key: &mut Vec<u8>) {
        key.push(PART);
    }

    /// Makes the key of a response that of its form in a coding, made with some effort.
    pub(crate) fn write_coded(key: &mut Vec<u8>, coding: Coding, effort: Effort) {
        // No octet of these is in a field's value, so that no variant has such a key.
        key.extend_from_slice(&[CODED, coding as u8, effort as u8]);
    }

    /// Whether a key without a variant is one of parts.
    pub(crate) fn is_of_part(key: &[u8]) -> bool {
        key.last() == Some(&PART)
    }

    /// What everything that a request is answered with can be purged by.
    pub(crate) fn marks_of(&self, target: Target<'_>) -> [Mark; 2] {
        let mut url = Vec::with_capacity(128);
        self.params.policy.key.write_beginning(&mut url, target);
        [Mark::key(&url), host_mark(target.host)]
    }

    /// What a response can be purged by.
    pub(crate) fn marks<'f>(&self, target: Target<'_>, fields: impl Fields<'f>) -> Vec<Mark> {
        let tags = fields.filter_map(|(name, value)| tags(name, value)).flatten().take(TAGS_MAX);
        self.marks_of(target).into_iter().chain(tags.map(Mark::tag)).collect()
    }
}

/// What of a route decides which requests it takes, and what its service is asked. Names that are derived move when routes come
/// and go, and what one has stored must not be given for another, nor for itself once it asks for something else.
fn identity(route: &RouteParams) -> u64 {
    let RouteParams { host, path, conditions, actions, .. } = route;
    let asks = (&actions.path, &actions.host, &actions.request_fields);
    balance::hash::bytes(format!("{host:?} {path:?} {conditions:?} {asks:?}").as_bytes())
}

/// The mark of a host, whatever its port.
pub(crate) fn host_mark(host: &[u8]) -> Mark {
    Mark::group(&without_port(host).to_ascii_lowercase())
}

fn without_port(host: &[u8]) -> &[u8] {
    // An address of IPv6 stands in brackets, and has colons of its own.
    match host.iter().rposition(|&byte| byte == b':') {
        Some(at) if host[at..].iter().all(|&byte| byte != b']') => &host[..at],
        _ => host,
    }
}

/// Whether a field is for this cache, and not for clients.
pub(crate) fn is_for_caches(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(TAGS_OF_CACHES.as_bytes())
}

/// The tags that a field names.
fn tags<'f>(name: &[u8], value: &'f [u8]) -> Option<impl Iterator<Item = &'f [u8]>> {
    let separator = match name.len() {
        13 if is_for_caches(name) => b' ',
        9 if name.eq_ignore_ascii_case(TAGS_OF_ALL.as_bytes()) => b',',
        _ => return None,
    };
    Some(value.split(move |&byte| byte == separator).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()))
}

/// The fields of a response that the cache may look at, store and pass on.
pub(crate) fn passed_on<'a>(fields: impl Fields<'a>) -> impl Iterator<Item = Field<'a>> + Clone {
    fields.filter(|(name, _)| !is_for_caches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_in_two_fields() {
        let check = |name: &str, value: &str, expected: &[&str]| {
            let found = tags(name.as_bytes(), value.as_bytes());
            let found: Vec<_> = found.into_iter().flatten().map(|tag| std::str::from_utf8(tag).unwrap()).collect();
            assert_eq!(found, expected, "{name}: {value}");
        };
        check("Surrogate-Key", "a  b,c", &["a", "b,c"]);
        check("cache-tag", "a, b c,,d", &["a", "b c", "d"]);
        check("X-Tag", "a", &[]);
    }

    #[test]
    fn hosts_of_marks_have_no_port() {
        let check = |host: &str, expected: &str| assert_eq!(without_port(host.as_bytes()), expected.as_bytes());
        check("a.example.com", "a.example.com");
        check("a.example.com:8080", "a.example.com");
        check("[::1]", "[::1]");
        check("[::1]:80", "[::1]");
    }
}
