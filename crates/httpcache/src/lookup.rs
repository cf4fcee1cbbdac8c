//! What answers a request: RFC 9111 section 4, RFC 5861, and the conditions and ranges of RFC 9110.

use crate::directive::{Directive as D, SECS_MAX};
use crate::name::alike;
use crate::policy::Policy;
use crate::range::{Asked, ByteRange, ContentRange, asked};
use crate::request::{Method, Request, Validators};
use crate::stored::{Body, Flags, Stored};
use crate::time::UnixTime;

/// What the store has for a request.
#[derive(Clone, Copy, Debug)]
pub enum Found<'s> {
    /// Nothing under the key.
    Nothing,
    /// Variants of the key, but not the one that fits.
    OtherVariants,
    /// A response that fits: its facts, and the block of its fields.
    Response(&'s Stored, &'s [u8]),
}

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<'s> {
    /// From the store.
    Serve(Serve),
    /// From the store, though stale, while it is fetched again behind the client's back.
    ServeStale(Serve, Validators<'s>),
    /// By the origin, which is asked whether what is stored is still good. The client's own conditions and `Range` are
    /// left out of the request; what comes is made to fit them by [`answer`].
    Revalidate(Forward, Validators<'s>),
    /// By the origin, and what comes may be stored. The client's fields go on as they are.
    Fetch(Forward),
    /// By the origin, which is asked for what is missing of a stored part, by a `Range` and the tag in `If-Range`.
    Complete(Missing, Validators<'s>),
    /// By nobody: the client wants what is stored, and nothing is. The status is 504.
    OnlyIfCached,
}

/// What is served from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// Which form it takes.
    pub form: Form,
    /// The value of `Age`.
    pub age_secs: u64,
    /// For how many seconds it stays fresh, below 0 for how long it has been stale; `ttl` of `Cache-Status`.
    pub ttl_secs: i64,
}

/// The form in which a stored response is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was stored, with its status; without a body if the request is a `HEAD`.
    Stored,
    /// 304, with the fields that [`belongs_in_304`] names.
    NotModified,
    /// 206 with this part, and `Content-Range` before its fields' end.
    Part(ContentRange),
    /// 206 as `multipart/byteranges`, of a whole of so many bytes; see [`Multipart`](crate::Multipart), whose type takes the
    /// place of the stored one.
    Parts(Box<[ByteRange]>, u64),
    /// 416, with `Content-Range: bytes */` and the length.
    Unsatisfiable(u64),
}

/// Why a request goes to the origin: the values of `fwd` in `Cache-Status`, RFC 9211 section 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache is not to be used for it.
    Bypass,
    /// Its method is not answered from a cache.
    Method,
    /// Nothing is stored for it.
    UriMiss,
    /// Nothing is stored that fits its fields.
    VaryMiss,
    /// What is stored is fresh, but the request wants it fresher.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is a part that does not do.
    Partial,
}

/// What a stored part lacks of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// First byte that is missing; all that follow are, too.
    pub first: u64,
}

/// Decides how a request is answered. To be asked after [`Policy::bypasses`].
pub fn lookup<'s>(policy: &Policy, request: &Request<'_>, found: Found<'s>, now: UnixTime) -> Lookup<'s> {
    // Section 4.3.2: conditions about changes are for the origin.
    if !matches!(request.method, Method::Get | Method::Head) {
        return Lookup::Fetch(Forward::Method);
    }
    if request.has_preconditions {
        return Lookup::Fetch(Forward::Bypass);
    }
    let decided = match found {
        Found::Nothing => Lookup::Fetch(Forward::UriMiss),
        Found::OtherVariants => Lookup::Fetch(Forward::VaryMiss),
        Found::Response(stored, block) => reuse(policy, request, (stored, block), now),
    };
    // A stale response that is served is served from the cache; whatever waits for the origin is not.
    let is_served = matches!(decided, Lookup::Serve(_) | Lookup::ServeStale(..));
    if !is_served && request.has(D::OnlyIfCached, policy) {
        return Lookup::OnlyIfCached;
    }
    decided
}

/// How long a response may have been stale, and what it needs otherwise.
enum Use {
    Free,
    WhileRevalidating,
    Ask(Forward),
}

fn reuse<'s>(
    policy: &Policy,
    request: &Request<'_>,
    (stored, block): (&'s Stored, &'s [u8]),
    now: UnixTime,
) -> Lookup<'s> {
    let validators = || stored.validators(block);
    let forward = |reason| {
        let validators = validators();
        // The answer to a question about a part would be of use for that part alone.
        let can_ask = !validators.is_empty() && !stored.is_partial();
        if can_ask { Lookup::Revalidate(reason, validators) } else { Lookup::Fetch(reason) }
    };
    let usable = usage(policy, request, stored, now);
    if let Use::Ask(reason) = usable {
        return forward(reason);
    }
    let Some(form) = form_of(request, stored, block) else {
        return missing(request, stored)
            .filter(|_| validators().has_strong())
            .map_or(Lookup::Fetch(Forward::Partial), |missing| Lookup::Complete(missing, validators()));
    };
    let serve = serve(form, stored, now);
    match usable {
        Use::WhileRevalidating => Lookup::ServeStale(serve, validators()),
        _ => Lookup::Serve(serve),
    }
}

fn serve(form: Form, stored: &Stored, now: UnixTime) -> Serve {
    // What has been stale for a part of a second counts as stale for one.
    Serve { form, age_secs: stored.age_secs(now), ttl_secs: stored.ttl_millis(now).div_euclid(1000) }
}

fn usage(policy: &Policy, request: &Request<'_>, stored: &Stored, now: UnixTime) -> Use {
    if stored.flags.has(Flags::NO_CACHE) {
        return Use::Ask(Forward::Stale);
    }
    let ttl = stored.ttl_millis(now);
    if ttl <= 0 {
        let stale_for = ttl.unsigned_abs();
        let within = |secs: u32| secs > 0 && stale_for <= u64::from(secs) * 1000;
        if request.has(D::NoCache, policy) {
            return Use::Ask(Forward::Stale);
        }
        if within(stored.stale_while_revalidate_secs) {
            return Use::WhileRevalidating;
        }
        let takes_stale = request.seconds(D::MaxStale, policy).is_some_and(|max| max == SECS_MAX || within(max));
        // `max-age` bounds the age that `max-stale` would allow, unless it is the lifetime that it exceeds.
        let takes_age = fits_max_age(policy, request, stored, now);
        return if takes_stale && takes_age && !stored.flags.has(Flags::NEVER_STALE) {
            Use::Free
        } else {
            Use::Ask(Forward::Stale)
        };
    }
    let wants_more_time =
        request.seconds(D::MinFresh, policy).is_some_and(|min| ttl.unsigned_abs() < u64::from(min) * 1000);
    let wants_younger = !fits_max_age(policy, request, stored, now);
    // RFC 8246: while it is fresh it does not change, so only `no-cache` makes it worth a question.
    let is_immutable = stored.flags.has(Flags::IMMUTABLE);
    if request.has(D::NoCache, policy) || wants_more_time || wants_younger && !is_immutable {
        return Use::Ask(Forward::Request);
    }
    Use::Free
}

fn fits_max_age(policy: &Policy, request: &Request<'_>, stored: &Stored, now: UnixTime) -> bool {
    request.seconds(D::MaxAge, policy).is_none_or(|max| max > 0 && stored.age_millis(now) <= u64::from(max) * 1000)
}

/// What form of what is stored answers a request, or nothing if not enough of it is there.
fn form_of(request: &Request<'_>, stored: &Stored, block: &[u8]) -> Option<Form> {
    let known = stored.known(block);
    // Section 4.3.2, and RFC 9110 section 13.2.2 for the order: conditions count for 200 and 206 alone.
    let is_success = matches!(stored.status(), 200 | 206);
    if is_success && request.has_it_already(known) {
        return Some(Form::NotModified);
    }
    let range = request.range(known).filter(|_| is_success);
    match (stored.body(), range) {
        (Body::Part(part), Some(range)) => part_of(part, range),
        (Body::Part(_), None) => None,
        (Body::Whole(len), Some(range)) => Some(match asked(range, len) {
            Asked::Whole => Form::Stored,
            Asked::One(range) => Form::Part(ContentRange { range, total: Some(len) }),
            Asked::Several(ranges) => Form::Parts(ranges, len),
            Asked::Unsatisfiable => Form::Unsatisfiable(len),
        }),
        _ => Some(Form::Stored),
    }
}

fn part_of(part: ContentRange, range: &[u8]) -> Option<Form> {
    // Without the length of the whole nobody knows what `5-` and `-5` are.
    let total = part.total?;
    match asked(range, total) {
        Asked::One(range) if part.range.contains(range) => Some(Form::Part(ContentRange { range, total: Some(total) })),
        Asked::Unsatisfiable => Some(Form::Unsatisfiable(total)),
        _ => None,
    }
}

/// What a request for the whole lacks: only what follows the stored part is fetched, from its first byte on.
fn missing(request: &Request<'_>, stored: &Stored) -> Option<Missing> {
    let Body::Part(part) = stored.body() else { return None };
    let wants_whole = request.method == Method::Get && !request.is_for_part();
    (wants_whole && part.range.first == 0 && part.total.is_some()).then_some(Missing { first: part.range.last + 1 })
}

/// Serves what is stored as the answer that has just been validated, stored or found good enough, whatever its age: what
/// a client gets whose request waited for the origin. Nothing if only a part is there that does not do.
pub fn answer(request: &Request<'_>, stored: &Stored, block: &[u8], now: UnixTime) -> Option<Serve> {
    form_of(request, stored, block).map(|form| serve(form, stored, now))
}

/// Whether a status counts as a failure of the origin, which `stale-if-error` is for: RFC 5861 section 4.
pub fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// What is served when the origin could not be asked or failed: what is stored, if it may be stale for so long. RFC 9111
/// section 4.2.4.
pub fn answer_failure(
    policy: &Policy,
    request: &Request<'_>,
    (stored, block): (&Stored, &[u8]),
    now: UnixTime,
) -> Option<Serve> {
    if stored.flags.has(Flags::NO_CACHE) || request.has(D::NoCache, policy) {
        return None;
    }
    let ttl = stored.ttl_millis(now);
    let stale_for = ttl.min(0).unsigned_abs();
    let asked = request.seconds(D::StaleIfError, policy).filter(|_| !stored.flags.has(Flags::NEVER_STALE));
    let window = stored.stale_if_error_secs.max(asked.unwrap_or(0));
    let is_within = ttl > 0 || window > 0 && stale_for <= u64::from(window) * 1000;
    if is_within { answer(request, stored, block, now) } else { None }
}

/// Whether a field of what is stored belongs in a 304: RFC 9110 section 15.4.5. `Age` is added to them.
pub fn belongs_in_304(name: &[u8]) -> bool {
    const NAMES: [&str; 9] = [
        "cache-control",
        "cache-status",
        "cdn-cache-control",
        "content-location",
        "date",
        "etag",
        "expires",
        "last-modified",
        "vary",
    ];
    NAMES.iter().any(|known| alike(name, known.as_bytes()))
}
