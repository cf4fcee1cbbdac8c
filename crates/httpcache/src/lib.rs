//! What an HTTP cache decides, without I/O: a shared cache by RFC 9111 and what belongs to it.
//!
//! Times and heads come in, decisions go out. Nothing here stores anything, asks an origin, or knows which requests wait
//! for the same answer; whoever does that goes through these phases, each with a type of its own:
//!
//! ```text
//! Request ── lookup ──┬─ Serve ───────────────────────────────────────── to the client
//!    │                ├─ ServeStale ─── to the client, and revalidate ─┐
//!    │                ├─ Revalidate ── to the origin ── 304 ── freshen ┴─ Freshened ── answer
//!    │                │                              ├─ a failure ─────── answer_failure
//!    │                │                              └─ anything else ─┐
//!    │                ├─ Fetch ─────── to the origin ──────────────────┴─ store ── Storable or WhyNot
//!    │                ├─ Complete ──── to the origin ─ 206 ─ store ─ combine
//!    │                └─ OnlyIfCached ── 504
//!    └─ invalidated, after methods that change something; refresh_by_head, after HEAD
//! ```
//!
//! ```
//! use httpcache::*;
//!
//! let policy = Policy::default();
//! let target = Target { https: true, host: b"shop.example.com", path_and_query: b"/shoes?size=42" };
//! let sent: [Field<'_>; 1] = [(b"Accept-Encoding", b"gzip, br")];
//! let noon = UnixTime::from_secs(1_700_000_000);
//! let mut key = Vec::new();
//!
//! // A miss. The request goes to the origin, and the answer is stored under the key with the variant behind it.
//! let request = Request::read(b"GET", target, sent.into_iter());
//! policy.key.write(&mut key, target, sent.into_iter());
//! let found = Found::Nothing;
//! assert_eq!(lookup(&policy, &request, found, noon), Lookup::Fetch(Forward::UriMiss));
//! let said: [Field<'_>; 3] = [(b"Cache-Control", b"max-age=60"), (b"ETag", b"\"a\""), (b"Vary", b"Accept-Encoding")];
//! let answer_of_origin = Answer { status: 200, fields: said.into_iter(), requested: noon, received: noon };
//! let Storable { stored, fields, vary } = store(&policy, &request, &answer_of_origin).unwrap();
//! vary.write_variant(&mut key, sent.into_iter(), &policy.vary);
//!
//! // A hit, half a minute later: the block of fields goes out with `Age` and the account of the cache behind it.
//! let later = UnixTime::from_secs(noon.secs() + 30);
//! let found = Found::Response(&stored, &fields);
//! let Lookup::Serve(serve) = lookup(&policy, &request, found, later) else { panic!() };
//! assert_eq!((serve.form, serve.age_secs, serve.ttl_secs), (Form::Stored, 30, 30));
//!
//! // Stale, and good: the origin is asked by the tag, and the answer starts a new life.
//! let later = UnixTime::from_secs(noon.secs() + 60);
//! let Lookup::Revalidate(Forward::Stale, validators) = lookup(&policy, &request, found, later) else { panic!() };
//! let mut lines = Vec::new();
//! validators.write(&mut lines);
//! assert_eq!(lines, b"If-None-Match: \"a\"\r\n");
//! let by = Answer { status: 304, fields: std::iter::empty(), requested: later, received: later };
//! let fresh = freshen(&policy, &request, (&stored, &fields), &by);
//! assert!(fresh.keep.is_ok() && fresh.stored.is_fresh(later));
//! assert_eq!(answer(&request, &fresh.stored, &fresh.fields, later).unwrap().form, Form::Stored);
//!
//! // Something else changes it: whatever has a key that begins like this goes.
//! let put = Request::read(b"PUT", target, std::iter::empty());
//! for path in invalidated(&put, 204, std::iter::empty()) {
//!     let mut beginning = Vec::new();
//!     policy.key.write_beginning(&mut beginning, Target { path_and_query: &path, ..target });
//!     assert!(key.starts_with(&beginning));
//! }
//! ```
//!
//! # Decisions
//!
//! | about | decision | source |
//! |---|---|---|
//! | methods | `GET` is stored; `HEAD` is answered from it; `POST` is stored for `GET` if it says `Content-Location` of its own target and for how long it is fresh; nothing else | RFC 9110 §9.3, RFC 9111 §3 |
//! | statuses | every final one but 304 with an explicit lifetime or `public`; by the heuristic those of RFC 9110 §15.1 | §3, §4.2.2 |
//! | `must-understand` | an unknown status is not stored; with a known one `no-store` beside it does not count | §5.2.2.3 |
//! | targeted fields | `Tenfold-CDN-Cache-Control`, then `CDN-Cache-Control`, each whole or not at all, in place of `Cache-Control` and `Expires` | RFC 9213 |
//! | a directive twice | the first counts | §4.2.1 |
//! | seconds that are none | 0: stale | §4.2.1 |
//! | seconds beyond 2^31 | 2^31 | §1.2.2 |
//! | `private`, `no-cache` with names | those fields are not stored, the rest is | §5.2.2.4, §5.2.2.7 |
//! | `no-store` in a request | the answer is not stored; what is stored may answer | §5.2.1.5 |
//! | `Authorization` | stored with `public`, `s-maxage` or `must-revalidate` | §3.5 |
//! | `Set-Cookie` | stored with `public`, `s-maxage` or a targeted field; otherwise by the [policy](SetCookie) | §7.3, practice |
//! | `Age` in a list, or with parameters | the first member, without them | §5.1 |
//! | `Age` that cannot be read, or in several lines | stale, where §5.1 says that it should be passed over | caution |
//! | no `Date`, or a bad one | the time of arrival, which is added if there is none | RFC 9110 §6.6.1 |
//! | bad `Expires` | has passed | §5.3 |
//! | dates in capitals or small letters | as if they were right | §4.2 |
//! | heuristic | a tenth of the time since `Last-Modified`, a day at most; a default of the policy comes before it | §4.2.2 |
//! | `Vary: *` | not stored | §4.1 |
//! | several variants fit | the one with the latest `Date` | §4.1 |
//! | `If-None-Match` | compared weakly; makes `If-Modified-Since` void | RFC 9110 §13.1 |
//! | `If-Modified-Since` without `Last-Modified` | compared with `Date` | §4.3.2 |
//! | `If-Match`, `If-Unmodified-Since` | the origin's to judge; the cache is passed by | §4.3.2 |
//! | `If-Range` | compared strongly; a date counts if the representation was a second old | RFC 9110 §13.1.5 |
//! | ranges | one as 206, several as `multipart/byteranges`, none within as 416; many, overlapping or whole ones get the whole | RFC 9110 §14 |
//! | a part | stored if `Content-Range` and the length agree; put together with others of the same strong tag; serves ranges within it | §3.3, §3.4 |
//! | 304 | new fields take the old ones' place, but for those of the stored body and the tag; with another tag only the age begins anew | §3.2, §4.3.4 |
//! | `HEAD` | refreshes what has its validators and length, makes stale what has not; 404 and 410 do, too | §4.3.5 |
//! | stale use | `stale-while-revalidate`, `stale-if-error`, `max-stale`, windows of the policy; never with `no-cache`, `must-revalidate`, `proxy-revalidate`; with `s-maxage` only windows that stand beside it | §4.2.4, RFC 5861 |
//! | failures | 500, 502, 503, 504, and no answer at all | RFC 5861 §4 |
//! | directives of requests | all of them, unless the policy says none; `immutable` makes `max-age` void while fresh | §5.2.1, RFC 8246 |
//! | unsafe methods | after 2xx and 3xx the target, `Location` and `Content-Location` of the same origin are invalid | §4.4 |
//!
//! Sections without a number of an RFC are those of RFC 9111.
//!
//! # Why its own
//!
//! `http-cache-semantics` makes part of these decisions. It reads the older RFC 7234, knows no targeted fields, ranges,
//! parts, `HEAD` updates or stale windows of a policy, copies both heads into every stored response, matches `Vary` by
//! octets, and carries `serde`. Here a response is read once, when it is stored, into [`Stored`], a hundred bytes; a hit
//! reads the few fields of the request that matter. Structured fields are read by `sfv`, dates by `httpdate`.

#![expect(
    clippy::needless_pass_by_value,
    reason = "heads are iterators, which are walked by copies of a pointer or two"
)]

mod cache_status;
mod directive;
mod field;
mod freshness;
mod key;
mod lookup;
mod multipart;
mod name;
mod policy;
mod range;
mod request;
mod store;
mod stored;
mod targeted;
mod time;
mod update;
mod uri;
mod validator;
mod vary;

pub use cache_status::CacheStatus;
pub use field::{Field, Fields, Lines};
pub use key::{KeyParts, QueryParts};
pub use lookup::{
    Form, Forward, Found, Lookup, Missing, Serve, answer, answer_failure, belongs_in_304, is_failure, lookup,
};
pub use multipart::Multipart;
pub use policy::{Condition, FieldCondition, Policy, SetCookie, StatusTtl, VaryRules};
pub use range::{ByteRange, ContentRange, write_unsatisfied};
pub use request::{Method, Request, Validators, is_conditional};
pub use store::{Answer, Combination, Storable, WhyNot, combine, store};
pub use stored::{Body, Stored};
pub use time::UnixTime;
pub use update::{Freshened, HeadEffect, freshen, invalidated, refresh_by_head};
pub use uri::Target;
pub use vary::{Kinds, Vary};
