//! What the operator decides. A plain value: whoever fills it has checked it.

use std::time::Duration;

use crate::field::{Fields, values};
use crate::key::KeyParts;
use crate::name::alike;
use crate::uri::Target;

/// How a route caches.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What the key is made of.
    pub key: KeyParts,
    /// How long a response is fresh that says nothing of it and has a status that may be stored without (200, 404 and
    /// the like). It takes the place of the heuristic.
    pub default_ttl: Option<Duration>,
    /// How long responses of a status are fresh that say nothing of it; nothing keeps them out. The first that fits
    /// counts, before `default_ttl`.
    pub status_ttls: Vec<StatusTtl>,
    /// Nothing is fresh for longer, whatever it says.
    pub ttl_max: Option<Duration>,
    /// How long a response may be fresh by the heuristic: a tenth of the time since it was modified.
    pub heuristic_max: Duration,
    /// For how long what has become stale is served while it is fetched again, where the response does not say.
    pub stale_while_revalidate: Duration,
    /// For how long what has become stale is served when the origin fails, where the response does not say.
    pub stale_if_error: Duration,
    /// Whether directives of requests count. Anyone can send `no-cache`, and make each request one to the origin.
    pub obeys_requests: bool,
    /// What becomes of responses that set cookies.
    pub set_cookie: SetCookie,
    /// Whether an answer to a `POST` is stored for `GET` where it says that it may be.
    pub stores_post: bool,
    /// How fields that `Vary` names are compared.
    pub vary: VaryRules,
    /// Requests that pass by the cache: neither answered from it nor stored.
    pub bypass: Vec<Condition>,
    /// Responses with any of these fields are not stored.
    pub never_store: Vec<FieldCondition>,
}

impl Default for Policy {
    /// RFC 9111 as it stands, with the careful choice where it leaves one.
    fn default() -> Self {
        Self {
            key: KeyParts::default(),
            default_ttl: None,
            status_ttls: Vec::new(),
            ttl_max: None,
            // A guess that is wrong for longer is not forgiven; browsers and other caches guess no further.
            heuristic_max: Duration::from_secs(24 * 60 * 60),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            obeys_requests: true,
            set_cookie: SetCookie::default(),
            stores_post: true,
            vary: VaryRules::default(),
            bypass: Vec::new(),
            never_store: Vec::new(),
        }
    }
}

/// How long responses with some statuses are fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusTtl {
    /// First of the statuses.
    pub first: u16,
    /// Last of them.
    pub last: u16,
    /// How long they are fresh; not stored if that is nothing.
    pub ttl: Duration,
}

/// What becomes of responses that set cookies. RFC 9111 section 7.3 lets them be stored, but cookies are mostly made for
/// one client, and applications send them along with `max-age` by mistake: proxies differ, and leaks follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// Stored, cookies and all, only where the response says that it is for shared caches: `public`, `s-maxage` or a
    /// targeted field.
    #[default]
    ForShared,
    /// Never stored.
    Never,
    /// Stored as any other.
    Always,
    /// Stored without the cookies, which only the client gets whose request went to the origin.
    Stripped,
}

/// How fields of requests are compared that `Vary` names.
#[derive(Clone, Debug)]
pub struct VaryRules {
    /// Content codings that responses are made with, 31 at most. Others that clients accept make no variants of their own, and a
    /// response by `Accept-Encoding` that has another one is not stored.
    pub codings: Vec<String>,
    /// Whether languages that are equally welcome may come in any order. RFC 9110 section 12.5.4 has it so, but many
    /// applications take the first.
    pub ignores_language_order: bool,
}

impl Default for VaryRules {
    fn default() -> Self {
        let codings = ["br", "gzip", "zstd"].map(str::to_owned).to_vec();
        Self { codings, ignores_language_order: false }
    }
}

/// A field, with a value or with any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldCondition {
    /// Its name.
    pub name: String,
    /// Its whole value, or any.
    pub value: Option<Vec<u8>>,
}

impl FieldCondition {
    fn holds<'a>(&self, fields: impl Fields<'a>) -> bool {
        let mut found = fields.filter(|(name, _)| alike(name, self.name.as_bytes()));
        found.any(|(_, value)| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

/// What makes a request pass by the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has the field.
    Field(FieldCondition),
    /// It has a cookie of this name.
    Cookie(String),
    /// Its query has a parameter of this name.
    Query(String),
}

impl Policy {
    /// Whether a request passes by the cache. To be asked before anything else, with no cost where there are no rules.
    pub fn bypasses<'a>(&self, target: Target<'a>, fields: impl Fields<'a>) -> bool {
        self.bypass.iter().any(|condition| match condition {
            Condition::Field(field) => field.holds(fields.clone()),
            Condition::Cookie(name) => cookies(fields.clone()).any(|(found, _)| found == name.as_bytes()),
            Condition::Query(name) => {
                let query = target.split().1.unwrap_or_default();
                // Some origins take `;` for another `&`.
                query.split(|byte| b"&;".contains(byte)).any(|parameter| is_named(parameter, name))
            }
        })
    }

    /// Whether a response's fields keep it out of the store.
    pub(crate) fn keeps_out<'a>(&self, fields: impl Fields<'a>) -> bool {
        self.never_store.iter().any(|condition| condition.holds(fields.clone()))
    }

    pub(crate) fn status_ttl(&self, status: u16) -> Option<Duration> {
        let found = self.status_ttls.iter().find(|ttl| (ttl.first..=ttl.last).contains(&status));
        found.map(|found| found.ttl)
    }
}

/// The names and values of all cookies.
pub(crate) fn cookies<'a>(fields: impl Fields<'a>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
    let pairs = values(fields, "cookie").flat_map(|value| value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii));
    pairs.map(|pair| match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &b""[..]),
    })
}

/// Whether a query's parameter has this name, its escapes read.
pub(crate) fn is_named(parameter: &[u8], name: &str) -> bool {
    let found = name_of(parameter);
    if !found.iter().any(|byte| b"%+".contains(byte)) {
        return found == name.as_bytes();
    }
    let digit = |at: usize| found.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut at, mut name) = (0, name.bytes());
    while at < found.len() {
        let escaped = digit(at + 1).zip(digit(at + 2)).filter(|_| found[at] == b'%');
        let read = match (escaped, found[at]) {
            (Some((high, low)), _) => (high << 4 | low) as u8,
            (None, b'+') => b' ',
            (None, byte) => byte,
        };
        if name.next() != Some(read) {
            return false;
        }
        at += if escaped.is_some() { 3 } else { 1 };
    }
    name.next().is_none()
}

/// The name of a query's parameter, as it came.
pub(crate) fn name_of(parameter: &[u8]) -> &[u8] {
    parameter.split(|&byte| byte == b'=').next().unwrap_or_default()
}
