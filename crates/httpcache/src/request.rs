//! What of a request matters to a cache, read once.

use crate::directive::{Directive as D, Directives};
use crate::field::{Fields, values};
use crate::name::alike;
use crate::policy::Policy;
use crate::time::UnixTime;
use crate::uri::Target;
use crate::validator::{EntityTag, Known, if_range_holds, none_match_holds, not_modified_since};

/// What a method means here: RFC 9110 section 9.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Answered from the store, and stored.
    Get,
    /// Answered from what `GET` stored.
    Head,
    /// Unsafe, but its answer may be what a `GET` would get.
    Post,
    /// Changes nothing, and is not for a cache: `OPTIONS`, `TRACE`.
    Safe,
    /// Whatever else there is; what it changes is invalid.
    Unsafe,
}

impl Method {
    /// The meaning of a method. Methods are case-sensitive.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"OPTIONS" | b"TRACE" => Self::Safe,
            _ => Self::Unsafe,
        }
    }

    /// Whether a request with it may change what is stored.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Safe)
    }
}

/// A field that should be there once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Single<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// Several of them say nothing that could be relied on.
    Several,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = if *self == Single::Absent { Single::Once(value) } else { Single::Several };
    }

    fn once(self) -> Option<&'a [u8]> {
        if let Single::Once(value) = self { Some(value) } else { None }
    }
}

/// The facts of a request. Made once for each; lookups, storing and updates take them.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its method's meaning.
    pub method: Method,
    /// What it asks for.
    pub target: Target<'a>,
    pub(crate) directives: Directives<'a>,
    pub(crate) is_authorized: bool,
    /// `If-Match` or `If-Unmodified-Since`, which origins alone can judge.
    pub(crate) has_preconditions: bool,
    if_none_match: Single<'a>,
    if_modified_since: Single<'a>,
    range: Single<'a>,
    if_range: Single<'a>,
}

impl<'a> Request<'a> {
    /// Reads a request's fields. Its `Pragma: no-cache` counts only without `Cache-Control`, RFC 9111 section 5.4.
    pub fn read(method: &[u8], target: Target<'a>, fields: impl Fields<'a>) -> Self {
        let mut request = Self {
            method: Method::of(method),
            target,
            directives: Directives::default(),
            is_authorized: false,
            has_preconditions: false,
            if_none_match: Single::Absent,
            if_modified_since: Single::Absent,
            range: Single::Absent,
            if_range: Single::Absent,
        };
        let (mut has_cache_control, mut is_pragma_no_cache) = (false, false);
        for (name, value) in fields {
            let is = |known: &str| alike(name, known.as_bytes());
            // Most fields are of no interest, and their length tells.
            match name.len() {
                5 if is("range") => request.range.add(value),
                6 if is("pragma") => is_pragma_no_cache |= alike(value, b"no-cache"),
                8 if is("if-match") => request.has_preconditions = true,
                8 if is("if-range") => request.if_range.add(value),
                13 if is("cache-control") => {
                    has_cache_control = true;
                    request.directives.add_line(value);
                }
                13 if is("if-none-match") => request.if_none_match.add(value),
                13 if is("authorization") => request.is_authorized = true,
                17 if is("if-modified-since") => request.if_modified_since.add(value),
                19 if is("if-unmodified-since") => request.has_preconditions = true,
                _ => {}
            }
        }
        if is_pragma_no_cache && !has_cache_control {
            request.directives.set(D::NoCache);
        }
        request
    }

    /// A directive of the request, where the policy lets requests direct.
    pub(crate) fn has(&self, directive: D, policy: &Policy) -> bool {
        policy.obeys_requests && self.directives.has(directive)
    }

    /// The seconds of a directive, where the policy lets requests direct.
    pub(crate) fn seconds(&self, directive: D, policy: &Policy) -> Option<u32> {
        if policy.obeys_requests { self.directives.seconds(directive) } else { None }
    }

    /// Whether the client has what is known already, so that 304 answers it.
    pub(crate) fn has_it_already(&self, known: Known<'_>) -> bool {
        match self.if_none_match {
            Single::Once(value) => none_match_holds(value, known.etag),
            Single::Several => false,
            Single::Absent => self.if_modified_since.once().is_some_and(|value| not_modified_since(value, known)),
        }
    }

    /// Whether the client has what a response with these fields brings, by the tag or date that it named: what answers it without
    /// having been stored. A response that has neither is new.
    pub fn has_already<'f>(&self, fields: impl Fields<'f>) -> bool {
        let etag = values(fields.clone(), "etag").next();
        let last_modified = values(fields, "last-modified").next().and_then(UnixTime::of_http_date);
        match self.if_none_match {
            Single::Absent if last_modified.is_none() => false,
            _ => self.has_it_already(Known { etag, last_modified, date: last_modified.unwrap_or_default() }),
        }
    }

    /// Whether its answer is perhaps for its client alone, by what it says itself: it has credentials, or wants nothing stored.
    pub fn wants_own(&self, policy: &Policy) -> bool {
        self.is_authorized || self.has(D::NoStore, policy)
    }

    /// Whether the client asks for less than the whole.
    pub fn is_for_part(&self) -> bool {
        self.method == Method::Get && self.range.once().is_some()
    }

    /// The `Range` that counts, `If-Range` considered.
    pub(crate) fn range(&self, known: Known<'_>) -> Option<&'a [u8]> {
        let range = self.range.once().filter(|_| self.method == Method::Get)?;
        match self.if_range {
            Single::Absent => Some(range),
            Single::Once(value) => if_range_holds(value, known).then_some(range),
            Single::Several => None,
        }
    }
}

/// Whether a field of a client's request makes it conditional or asks for a part. Whoever sends validators of his own to
/// the origin leaves these out, so that the answer is about what is stored.
pub fn is_conditional(name: &[u8]) -> bool {
    const NAMES: [&str; 4] = ["range", "if-range", "if-none-match", "if-modified-since"];
    NAMES.iter().any(|known| alike(name, known.as_bytes()))
}

/// Validators to send to the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators<'a> {
    /// The stored `ETag`, as it came.
    pub etag: Option<&'a [u8]>,
    /// The stored `Last-Modified`, as it came.
    pub last_modified: Option<&'a [u8]>,
}

impl Validators<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Whether parts of what they stand for may be put together: RFC 9111 section 3.4.
    pub(crate) fn has_strong(&self) -> bool {
        self.etag.is_some_and(|etag| EntityTag::of(etag).is_strong())
    }

    /// Appends the lines of a conditional request. Both go out, for origins that know only one: RFC 9111 section 4.3.1.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(etag) = self.etag {
            crate::field::write_line(out, b"If-None-Match", etag);
        }
        if let Some(date) = self.last_modified {
            crate::field::write_line(out, b"If-Modified-Since", date);
        }
    }
}
