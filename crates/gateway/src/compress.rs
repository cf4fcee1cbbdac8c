//! Which responses a route compresses, and what becomes of their heads.
//!
//! A response is compressed when the client takes one of the route's codings and likes none less than plain content, and
//! the response is whole, plain, of a type that is worth it, not known to be short, and nobody forbids it:
//!
//! - Parts (206) are parts of something else, which is not there to be compressed.
//! - `no-transform`, of either side, is obeyed. What has a coding already keeps it.
//! - gRPC compresses by itself, and its messages must not be held back.
//! - HTTP/1.0 has no chunks: the end of a body without a length is that of the connection, so none is made.
//!
//! The compressed form is another representation of the same thing. So its entity tag is weak; lengths, ranges and digests
//! of the plain one go; and whatever could have been compressed says `Vary: Accept-Encoding`, compressed or not.
//! 304 speaks of the form that the client would have got, unless the tags that it sends say that it holds the plain one.

use coding::{Accepted, Coding, Effort};
use http1::{FieldId, Fields, Framing, Method, Request, Response, Version, write};

use crate::params::{CompressParams, MediaRange};
use crate::state::RouteState;

/// What a route compresses.
#[derive(Debug)]
pub(crate) struct Compress {
    codings: Box<[Coding]>,
    types: Box<[MediaRange]>,
    bytes_min: u64,
    effort: Effort,
}

/// What a request wishes for, on a route that compresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'r> {
    compress: &'r Compress,
    /// Where it is counted.
    pub(crate) state: &'r RouteState,
    /// The best coding that the client takes.
    best: Option<Coding>,
    is_head: bool,
    /// Whether what the client holds, and asks about, is the plain form: its tags are strong.
    holds_plain: bool,
}

/// What is done with a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Treatment {
    /// Whether it says that it depends on the codings that a client takes.
    pub(crate) varies: bool,
    /// Whether its entity tag becomes weak.
    pub(crate) weakens: bool,
    /// The coding that its body gets, or would get if it had one.
    pub(crate) coding: Option<Coding>,
    /// How hard to try.
    pub(crate) effort: Effort,
}

/// A response, wherever its head stands: what decides about it, besides its fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) status: u16,
    /// The length of its body, or of that which a `GET` would have got, if it is known.
    pub(crate) length: Option<u64>,
}

/// Fields of a head, wherever it stands.
pub(crate) trait Named<'v>: Copy {
    /// The values of the fields of a name, in lower case.
    fn named(self, name: &'static str) -> impl Iterator<Item = &'v [u8]>;
}

impl<'v> Named<'v> for (&'v Fields, &'v [u8]) {
    fn named(self, name: &'static str) -> impl Iterator<Item = &'v [u8]> {
        self.0.named(self.1, name.as_bytes())
    }
}

impl<'v> Named<'v> for httpcache::Lines<'v> {
    fn named(self, name: &'static str) -> impl Iterator<Item = &'v [u8]> {
        self.filter(move |(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}

/// Fields that speak of the plain form.
const PLAIN_ONLY: [&[u8]; 5] = [b"accept-ranges", b"content-md5", b"digest", b"content-digest", b"repr-digest"];

impl Compress {
    /// Compression with these settings.
    pub(crate) fn new(params: &CompressParams) -> Self {
        Self {
            codings: params.codings.as_slice().into(),
            types: params.types.as_slice().into(),
            bytes_min: params.bytes_min,
            effort: params.effort,
        }
    }

    /// What a request wishes for.
    pub(crate) fn wish<'r>(&'r self, request: &Request, head: &[u8], state: &'r RouteState) -> Option<Wish<'r>> {
        if forbids((&request.fields, head)) {
            return None;
        }
        let fields = request.fields.named(head, b"accept-encoding");
        let best = Accepted::read(fields).best(&self.codings).filter(|_| request.version == Version::Http11);
        let mut held = request.fields.named(head, b"if-none-match").peekable();
        let holds_plain = held.peek().is_some() && held.all(|tags| memchr::memmem::find(tags, b"W/").is_none());
        Some(Wish { compress: self, state, best, is_head: request.method == Method::Head, holds_plain })
    }
}

impl Wish<'_> {
    /// What is done with a response.
    pub(crate) fn treatment(&self, response: &Response, head: &[u8]) -> Treatment {
        // RFC 9110 section 9.3.2: the head of a HEAD is that of a GET, whose body it has not.
        let length = match response.framing {
            Framing::Length(length) => Some(length),
            Framing::Empty if self.is_head => length_of(response, head),
            Framing::Empty => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        };
        self.treat(Subject { status: response.status, length }, (&response.fields, head))
    }

    /// What is done with a 304 that stands for a response of which this is done.
    pub(crate) fn not_modified(&self, whole: Treatment) -> Treatment {
        Treatment { weakens: whole.weakens && !self.holds_plain, ..whole.plain() }
    }

    /// As [`Self::treatment`], of a response whose head need not stand in one piece.
    pub(crate) fn treat<'v>(&self, Subject { status, length }: Subject, fields: impl Named<'v>) -> Treatment {
        let Self { compress, best, .. } = *self;
        let has = |name| fields.named(name).next().is_some();
        if status == 304 {
            let weakens = best.is_some() && !self.holds_plain;
            return Treatment { varies: true, weakens, ..Treatment::default() };
        }
        let bare = status < 200 || matches!(status, 204 | 205);
        let kind = fields.named("content-type").next().and_then(essence);
        let worthy = !bare && kind.is_some_and(|kind| compress.takes(&kind));
        if !worthy || has("content-encoding") || forbids(fields) {
            return Treatment::default();
        }
        if length.is_some_and(|length| length < compress.bytes_min.max(1)) {
            return Treatment::default();
        }
        let whole = status != 206 && !has("content-range");
        Treatment {
            varies: true,
            weakens: whole && best.is_some(),
            coding: best.filter(|_| whole),
            effort: compress.effort,
        }
    }
}

impl Compress {
    fn takes(&self, kind: &str) -> bool {
        !kind.starts_with("application/grpc") && self.types.iter().any(|range| range.takes(kind))
    }
}

impl Treatment {
    /// The same without a coding, where none is to be had.
    pub(crate) fn plain(self) -> Self {
        Self { varies: self.varies, ..Self::default() }
    }

    /// Whether a field is left out of the head, or written anew.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        let among = |names: &[&[u8]]| names.iter().any(|other| name.eq_ignore_ascii_case(other));
        self.weakens && name.eq_ignore_ascii_case(b"etag") || self.coding.is_some() && among(&PLAIN_ONLY)
    }

    /// Adds the lines that the head gets. `drops` tells which the route takes out.
    pub(crate) fn push<'v>(&self, out: &mut Vec<u8>, fields: impl Named<'v>, drops: impl Fn(&[u8]) -> bool) {
        if let Some(coding) = self.coding {
            write::field(out, b"Content-Encoding", coding.as_str().as_bytes());
        }
        if self.weakens && !drops(b"etag") {
            for tag in fields.named("etag") {
                out.extend_from_slice(if tag.starts_with(b"W/") { b"ETag: " } else { b"ETag: W/" });
                out.extend_from_slice(tag);
                out.extend_from_slice(b"\r\n");
            }
        }
        let mut vary = fields.named("vary").flat_map(|value| value.split(|&b| b == b','));
        let is_said = |name: &[u8]| matches!(name, b"*") || name.eq_ignore_ascii_case(b"accept-encoding");
        if self.varies && (drops(b"vary") || !vary.any(|name| is_said(name.trim_ascii()))) {
            write::field(out, b"Vary", b"Accept-Encoding");
        }
    }
}

/// Whether a message says that nobody may change it.
fn forbids<'v>(fields: impl Named<'v>) -> bool {
    let mut directives = fields.named("cache-control").flat_map(|value| value.split(|&b| b == b','));
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// A media type without its parameters, in lower case.
fn essence(value: &[u8]) -> Option<String> {
    let bare = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    std::str::from_utf8(bare).ok().map(str::to_ascii_lowercase)
}

/// The length that a head without a body says it would have.
fn length_of(response: &Response, head: &[u8]) -> Option<u64> {
    let value = response.fields.all(FieldId::ContentLength).next()?.value.of_buf(head);
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "Content-Type: text/html; charset=utf-8\r\nContent-Length: 2000\r\nETag: \"a\"\r\n";

    /// What is done with a response to a request with these fields, and what its head gets.
    fn treated(line: &str, asked: &str, status: u16, fields: &str) -> (Treatment, String) {
        let params = CompressParams {
            codings: vec![Coding::Zstd, Coding::Gzip],
            types: ["text/*", "application/json", "application/*+json"].map(|t| MediaRange::new(t).unwrap()).to_vec(),
            bytes_min: 1000,
            effort: Effort::Medium,
        };
        let compress = Compress::new(&params);
        let state = RouteState::new("www".parse().unwrap(), 1);
        let limits = http1::Limits { bytes_max: 4096, fields_max: 32 };
        let asked = format!("{line}\r\nHost: a.example\r\n{asked}\r\n");
        let mut request = Request::default();
        request.parse(asked.as_bytes(), &limits).unwrap();
        let head = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        let mut response = Response::default();
        response.parse(head.as_bytes(), &limits, &request.method).unwrap();
        let Some(wish) = compress.wish(&request, asked.as_bytes(), &state) else {
            return (Treatment::default(), String::new());
        };
        let treatment = wish.treatment(&response, head.as_bytes());
        let mut lines = Vec::new();
        treatment.push(&mut lines, (&response.fields, head.as_bytes()), |_| false);
        (treatment, String::from_utf8(lines).unwrap())
    }

    #[test]
    fn what_is_worth_it_is_compressed() {
        let check = |asked: &str, status: u16, fields: &str, expected: &str| {
            let (treatment, lines) = treated("GET / HTTP/1.1", asked, status, fields);
            assert_eq!(lines, expected, "{asked:?} {status} {fields:?} {treatment:?}");
        };
        let whole = "Content-Encoding: gzip\r\nETag: W/\"a\"\r\nVary: Accept-Encoding\r\n";
        let varies = "Vary: Accept-Encoding\r\n";
        let gzip = "Accept-Encoding: gzip\r\n";
        check(gzip, 200, PLAIN, whole);
        check(gzip, 404, PLAIN, whole);
        check("Accept-Encoding: br\r\n", 200, PLAIN, varies);
        check("", 200, PLAIN, varies);
        check(gzip, 206, PLAIN, varies);
        check(gzip, 200, &format!("{PLAIN}Content-Range: bytes 0-1/2\r\n"), varies);
        check(gzip, 200, "Content-Type: text/html\r\nContent-Length: 999\r\n", "");
        check(
            gzip,
            200,
            "Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n",
            "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n",
        );
        check(gzip, 200, "Content-Type: image/png\r\nContent-Length: 2000\r\n", "");
        check(gzip, 200, "Content-Length: 2000\r\n", "");
        check(gzip, 200, &format!("{PLAIN}Content-Encoding: br\r\n"), "");
        check(gzip, 200, &format!("{PLAIN}Cache-Control: public, No-Transform\r\n"), "");
        check("Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n", 200, PLAIN, "");
        check(
            gzip,
            200,
            "Content-Type: application/problem+json\r\nContent-Length: 2000\r\n",
            "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n",
        );
        check(gzip, 200, "Content-Type: application/grpc+json\r\nContent-Length: 2000\r\n", "");
        check(gzip, 204, "Content-Type: text/html\r\n", "");
        check(gzip, 304, "ETag: \"a\"\r\n", "ETag: W/\"a\"\r\nVary: Accept-Encoding\r\n");
        check("", 304, "ETag: \"a\"\r\n", varies);
        check(
            &format!("{gzip}If-None-Match: W/\"a\"\r\n"),
            304,
            "ETag: \"a\"\r\n",
            "ETag: W/\"a\"\r\nVary: Accept-Encoding\r\n",
        );
        check(&format!("{gzip}If-None-Match: \"b\", \"a\"\r\n"), 304, "ETag: \"a\"\r\n", varies);
        check(gzip, 200, &PLAIN.replace("\"a\"", "W/\"a\""), whole);
        check(
            gzip,
            200,
            &format!("{PLAIN}Vary: Origin, accept-encoding\r\n"),
            "Content-Encoding: gzip\r\nETag: W/\"a\"\r\n",
        );
        check(gzip, 200, &format!("{PLAIN}Vary: *\r\n"), "Content-Encoding: gzip\r\nETag: W/\"a\"\r\n");
        check(gzip, 200, &format!("{PLAIN}Vary: Origin\r\n"), whole);
    }

    #[test]
    fn heads_alone_say_the_same_and_old_clients_get_plain_bodies() {
        let gzip = "Accept-Encoding: gzip\r\n";
        let of = |line: &str, fields: &str| treated(line, gzip, 200, fields).0.coding;
        assert_eq!(of("HEAD / HTTP/1.1", PLAIN), Some(Coding::Gzip));
        assert_eq!(of("HEAD / HTTP/1.1", "Content-Type: text/html\r\nContent-Length: 10\r\n"), None);
        assert_eq!(of("HEAD / HTTP/1.1", "Content-Type: text/html\r\n"), Some(Coding::Gzip));
        let (old, lines) = treated("GET / HTTP/1.0", gzip, 200, PLAIN);
        assert_eq!((old.coding, lines.as_str()), (None, "Vary: Accept-Encoding\r\n"));
    }

    #[test]
    fn what_speaks_of_the_plain_form_goes() {
        let (treatment, _) = treated("GET / HTTP/1.1", "Accept-Encoding: gzip\r\n", 200, PLAIN);
        for name in ["ETag", "Accept-Ranges", "Content-MD5", "Digest", "Content-Digest", "Repr-Digest"] {
            assert!(treatment.drops(name.as_bytes()), "{name}");
        }
        assert!(!treatment.drops(b"content-type") && !Treatment::default().drops(b"etag"));
        assert!(!treatment.plain().drops(b"etag") && treatment.plain().varies);
    }
}
