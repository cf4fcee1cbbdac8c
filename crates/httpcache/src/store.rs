//! What is stored: RFC 9111 sections 3 and 3.1 to 3.5.

use crate::directive::Directive as D;
use crate::field::{Fields, storable, values, write_line};
use crate::freshness::Times;
use crate::name::alike;
use crate::policy::{Policy, SetCookie};
use crate::range::{ByteRange, ContentRange, number};
use crate::request::{Method, Request};
use crate::stored::{Body, Control, Stored};
use crate::time::UnixTime;
use crate::validator::EntityTag;
use crate::vary::Vary;

/// The head of a response, as it came from the origin.
#[derive(Clone, Copy, Debug)]
pub struct Answer<I> {
    /// Its status, a final one.
    pub status: u16,
    /// Its fields.
    pub fields: I,
    /// When the request for it was sent.
    pub requested: UnixTime,
    /// When the head was there.
    pub received: UnixTime,
}

/// What is to be stored: under the key, with the variant of the request behind it.
#[derive(Clone, Debug)]
pub struct Storable {
    /// The facts.
    pub stored: Stored,
    /// The fields: lines for HTTP/1.1, `Date` among them; without `Age`, `Content-Length` and, of a part,
    /// `Content-Range`, which each response gets anew.
    pub fields: Vec<u8>,
    /// What it varies by.
    pub vary: Vary<'static>,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// The method's answers are not stored: section 3, first rule.
    Method,
    /// The status is not final, is an answer to a condition, or is none that `must-understand` lets pass.
    Status,
    /// The response says `no-store`.
    NoStore,
    /// The response says `private`.
    Private,
    /// The request says `no-store`.
    RequestNoStore,
    /// The request has `Authorization`, and the response does not say that others may have it: section 3.5.
    Authorization,
    /// The response fits no other request: `Vary: *`.
    VaryStar,
    /// It varies by coding, and has one that the policy does not know.
    Coding,
    /// It sets cookies.
    SetCookie,
    /// The policy keeps it out.
    Policy,
    /// It is a part whose place is not told, or told wrongly.
    Part,
    /// Nobody says how long it is fresh, and its status needs that.
    NoLifetime,
    /// It could never be used: stale already, with no validator and no time for stale use.
    Useless,
}

impl WhyNot {
    /// Whether another request's answer might be stored: it says nothing about the key.
    pub const fn is_about_request(self) -> bool {
        matches!(self, Self::Method | Self::RequestNoStore | Self::Authorization)
    }

    /// A token, for `detail` in `Cache-Status` and for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::RequestNoStore => "request-no-store",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary-star",
            Self::Coding => "coding",
            Self::SetCookie => "set-cookie",
            Self::Policy => "policy",
            Self::Part => "part",
            Self::NoLifetime => "no-lifetime",
            Self::Useless => "useless",
        }
    }
}

/// Decides whether a response is stored, and how. A `HEAD` is not for this, but for [`refresh_by_head`](crate::refresh_by_head).
///
/// # Errors
/// Why it is not stored. Unless that [is about the request](WhyNot::is_about_request), requests for the same key should not
/// wait for each other for a while then.
pub fn store<'a, I: Fields<'a>>(
    policy: &Policy,
    request: &Request<'_>,
    answer: &Answer<I>,
) -> Result<Storable, WhyNot> {
    let control = Control::read(answer.fields.clone());
    match request.method {
        Method::Get => {}
        Method::Post if policy.stores_post && is_for_get(request, answer, &control) => {}
        _ => return Err(WhyNot::Method),
    }
    let body = body_of(answer)?;
    may_be_stored(policy, request, answer, &control)?;
    let vary = Vary::read(answer.fields.clone()).ok_or(WhyNot::VaryStar)?;
    let coding = values(answer.fields.clone(), "content-encoding").next();
    if vary.names("accept-encoding") && !coding.is_none_or(|coding| knows_coding(policy, coding)) {
        return Err(WhyNot::Coding);
    }
    let fields = block(policy, answer, &control);
    let times = Times { requested: answer.requested, received: answer.received };
    // A part that is the whole is as good as the whole.
    let status = if matches!(body, Body::Whole(_)) && answer.status == 206 { 200 } else { answer.status };
    let (stored, source) = Stored::read((status, &fields, body), answer.fields.clone(), &control, (policy, times));
    // Whoever names no time may still ask to be stored and asked for each time.
    let is_validated = control.directives.has(D::NoCache) || control.directives.has(D::Public);
    if source.is_none() && !is_validated && !crate::freshness::is_heuristically_cacheable(answer.status) {
        return Err(WhyNot::NoLifetime);
    }
    if !stored.can_be_used(&fields, answer.received) {
        return Err(WhyNot::Useless);
    }
    Ok(Storable { stored, fields, vary })
}

/// The rules that need nothing but directives and the request.
pub(crate) fn may_be_stored<'a, I: Fields<'a>>(
    policy: &Policy,
    request: &Request<'_>,
    answer: &Answer<I>,
    control: &Control<'_>,
) -> Result<(), WhyNot> {
    let directives = &control.directives;
    let fields = || answer.fields.clone();
    let must_understand = directives.has(D::MustUnderstand);
    if answer.status < 200 || answer.status == 304 || must_understand && !is_understood(answer.status) {
        return Err(WhyNot::Status);
    }
    // Section 5.2.2.3: `no-store` beside `must-understand` is for caches that know only the former.
    if directives.has(D::NoStore) && !must_understand {
        return Err(WhyNot::NoStore);
    }
    if directives.has(D::Private) {
        return Err(WhyNot::Private);
    }
    if request.has(D::NoStore, policy) {
        return Err(WhyNot::RequestNoStore);
    }
    let is_shared = directives.has(D::Public) || directives.has(D::SMaxage);
    if request.is_authorized && !is_shared && !directives.has(D::MustRevalidate) {
        return Err(WhyNot::Authorization);
    }
    let sets_cookies = values(fields(), "set-cookie").next().is_some();
    let takes_cookies = match policy.set_cookie {
        SetCookie::Never => false,
        SetCookie::ForShared => is_shared || control.is_targeted,
        SetCookie::Always | SetCookie::Stripped => true,
    };
    // A `private` or `no-cache` that names the field has it left out of the store, and nothing leaks.
    let is_hidden = || directives.hidden().any(|names| crate::field::members(names).any(is_set_cookie));
    if sets_cookies && !takes_cookies && !is_hidden() {
        return Err(WhyNot::SetCookie);
    }
    let is_refused = policy.status_ttl(answer.status).is_some_and(|ttl| ttl.is_zero());
    if policy.keeps_out(fields()) || is_refused && !is_explicit(control, fields()) {
        return Err(WhyNot::Policy);
    }
    Ok(())
}

fn is_set_cookie(name: &[u8]) -> bool {
    alike(name, b"set-cookie")
}

/// Whether the response itself says how long it is fresh.
fn is_explicit<'a>(control: &Control<'_>, fields: impl Fields<'a>) -> bool {
    let has_expires = || !control.is_targeted && values(fields, "expires").next().is_some();
    control.directives.has(D::MaxAge) || control.directives.has(D::SMaxage) || has_expires()
}

/// Whether an answer to a `POST` says that it is what a `GET` would get, and for how long: RFC 9110 section 9.3.3.
fn is_for_get<'a, I: Fields<'a>>(request: &Request<'_>, answer: &Answer<I>, control: &Control<'_>) -> bool {
    let location = values(answer.fields.clone(), "content-location").next();
    let location = location.and_then(|value| request.target.resolve(value));
    location.is_some_and(|location| location == request.target.path_and_query)
        && is_explicit(control, answer.fields.clone())
}

/// Statuses whose caching rules are all known here: those of RFC 9110 section 15.
fn is_understood(status: u16) -> bool {
    matches!(status, 200..=206 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

fn knows_coding(policy: &Policy, coding: &[u8]) -> bool {
    let known = |coding: &[u8]| {
        let coding: &[u8] = if alike(coding, b"x-gzip") { b"gzip" } else { coding };
        alike(coding, b"identity") || policy.vary.codings.iter().any(|known| alike(coding, known.as_bytes()))
    };
    crate::field::members(coding).all(known)
}

/// How much of the body comes with the response.
fn body_of<'a, I: Fields<'a>>(answer: &Answer<I>) -> Result<Body, WhyNot> {
    let length = values(answer.fields.clone(), "content-length").next().and_then(number);
    if answer.status != 206 {
        // 204 and the like have no body, whatever they say.
        let measured = if answer.status == 204 || answer.status == 205 { Some(0) } else { length };
        return Ok(measured.map_or(Body::Unmeasured, Body::Whole));
    }
    let mut lines = values(answer.fields.clone(), "content-range");
    let part = lines.next().and_then(ContentRange::parse).filter(|_| lines.next().is_none()).ok_or(WhyNot::Part)?;
    if length.is_some_and(|length| length != part.range.len()) {
        return Err(WhyNot::Part);
    }
    let all = part.total.filter(|&total| part.range == ByteRange { first: 0, last: total - 1 });
    Ok(all.map_or(Body::Part(part), Body::Whole))
}

/// The fields as they are stored.
pub(crate) fn block<'a, I: Fields<'a>>(policy: &Policy, answer: &Answer<I>, control: &Control<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut has_date = false;
    for (name, value) in storable(answer.fields.clone(), control.directives.hidden()) {
        let is = |known: &str| alike(name, known.as_bytes());
        let leaves = is("set-cookie") && policy.set_cookie == SetCookie::Stripped;
        if leaves || answer.status == 206 && is("content-range") {
            continue;
        }
        has_date |= is("date");
        write_line(&mut out, name, value);
    }
    if !has_date {
        write_date(&mut out, answer.received);
    }
    out
}

/// Appends the date that a response lacks: RFC 9110 section 6.6.1.
pub(crate) fn write_date(out: &mut Vec<u8>, received: UnixTime) {
    out.extend_from_slice(b"Date: ");
    received.write_http_date(out);
    out.extend_from_slice(b"\r\n");
}

impl Stored {
    /// Whether it is of any use: fresh for a while, or with something to ask for it by, or to be served stale.
    pub(crate) fn can_be_used(&self, block: &[u8], now: UnixTime) -> bool {
        let has_window = self.stale_while_revalidate_secs > 0 || self.stale_if_error_secs > 0;
        self.is_fresh(now) || has_window || !self.validators(block).is_empty()
    }
}

/// What becomes of a part when another one comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// The new bytes are put into the old ones' place and behind; what there is then.
    Combined(Body),
    /// The new part takes the place of the old.
    Replaced,
}

/// Whether a new part may be put together with one that is stored: RFC 9111 section 3.4. Both must have the same strong
/// tag, and leave no gap. The fields of the new one count.
pub fn combine(old: (&Stored, &[u8]), new: (&Stored, &[u8])) -> Combination {
    let same = match (old.0.known(old.1).etag, new.0.known(new.1).etag) {
        (Some(old), Some(new)) => EntityTag::of(old).matches_strongly(EntityTag::of(new)),
        _ => false,
    };
    let (Body::Part(one), Body::Part(other), true) = (old.0.body(), new.0.body(), same) else {
        return Combination::Replaced;
    };
    let total = one.total.or(other.total);
    let contradicts = matches!((one.total, other.total), (Some(one), Some(other)) if one != other);
    let (first, last) = (one.range.first.min(other.range.first), one.range.last.max(other.range.last));
    let touches = one.range.first <= other.range.last + 1 && other.range.first <= one.range.last + 1;
    if contradicts || !touches || total.is_some_and(|total| last >= total) {
        return Combination::Replaced;
    }
    let range = ByteRange { first, last };
    Combination::Combined(match total {
        Some(total) if range.len() == total => Body::Whole(total),
        _ => Body::Part(ContentRange { range, total }),
    })
}

impl Storable {
    /// Makes it what a combination gives.
    pub fn with_body(mut self, body: Body) -> Self {
        match body {
            Body::Whole(bytes) => self.stored.set_whole(bytes),
            Body::Part(part) => self.stored.set_part(part),
            Body::Unmeasured => {}
        }
        self
    }
}
