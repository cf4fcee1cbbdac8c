//! Request heads.

use crate::field::{Parsed, list_members, parse_fields};
use crate::{Error, ErrorKind, FieldId, Fields, Framing, Limits, Span, Target, is_valid_host};

/// A request method. Methods are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other, as written.
    Other(Box<str>),
}

/// The HTTP version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Version {
    Http10,
    Http11,
}

/// Whether the client waits for permission before it sends the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not wait.
    Nothing,
    /// It waits for `100 Continue` or a final response.
    Continue,
}

/// A request head, checked. Texts stand in the buffer it was parsed from, which the caller keeps unchanged.
///
/// ```
/// use http1::{Framing, HeadScan, Limits, Method, Request};
///
/// let buf = b"POST /orders HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc";
/// let limits = Limits { bytes_max: 8192, fields_max: 100 };
/// let (start, end) = HeadScan::default().advance(buf, &limits).unwrap().unwrap();
/// let mut request = Request::default();
/// request.parse(&buf[start..end], &limits).unwrap();
/// assert_eq!(request.method, Method::Post);
/// assert_eq!(request.framing, Framing::Length(3));
/// assert_eq!(&buf[end..], b"abc");
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target,
    /// The version.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// Where the body ends.
    pub framing: Framing,
    /// The value of `Host`, or the authority of an absolute target; empty in an HTTP/1.0 request without either.
    pub host: Span,
    /// Whether the connection may carry another request after this one.
    pub keep_alive: bool,
    /// Whether the client waits before it sends the body.
    pub expect: Expect,
    /// Whether the client asks to change protocols, and `Connection` says so too.
    pub upgrade: bool,
    /// Whether `Connection` names fields beyond the known ones, which then must not be passed on.
    pub names_hop_by_hop: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: Method::Get,
            target: Target { path_and_query: Span::default(), authority: None },
            version: Version::Http11,
            fields: Fields::default(),
            framing: Framing::Empty,
            host: Span::default(),
            keep_alive: true,
            expect: Expect::Nothing,
            upgrade: false,
            names_hop_by_hop: false,
        }
    }
}

impl Request {
    /// Parses a whole head, the extent that [`crate::HeadScan`] found. What an earlier head left here is replaced.
    ///
    /// # Errors
    /// Whatever makes the head malformed, ambiguous or too large. The request is unusable then.
    pub fn parse(&mut self, head: &[u8], limits: &Limits) -> Result<(), Error> {
        let (method, target, version) =
            parse_fields(&mut self.fields, head, limits.fields_max, |room| parse_with(head, room))?;
        self.method = Method::of(method);
        self.version = version;
        self.target = Target::parse(Span::of(target.as_bytes(), head), head, &self.method)?;
        self.host = self.parse_host(head)?;
        self.framing = Framing::of_request(&self.fields, head, version)?;
        let connection = Connection::of(&self.fields, head);
        self.keep_alive = connection.keeps_alive(version);
        self.names_hop_by_hop = connection.names_others;
        self.expect = self.parse_expect(head)?;
        self.upgrade =
            connection.upgrade && version == Version::Http11 && self.fields.all(FieldId::Upgrade).next().is_some();
        Ok(())
    }

    fn parse_host(&self, head: &[u8]) -> Result<Span, Error> {
        let field = self.fields.single(FieldId::Host, "several Host fields")?;
        if let Some(field) = field {
            if !is_valid_host(field.value.of_buf(head)) {
                return Err(Error::malformed("Host is not a host"));
            }
        } else if self.version == Version::Http11 {
            return Err(Error::malformed("Host is missing"));
        }
        let Some(authority) = self.target.authority else {
            return Ok(field.map_or(Span::default(), |field| field.value));
        };
        if !is_valid_host(authority.of_buf(head)) {
            return Err(Error::malformed("the authority of the request target is not a host"));
        }
        // RFC 9112 lets the target win. Whoever sends two hosts means to confuse one of two readers.
        let same = |field: crate::Field| field.value.of_buf(head).eq_ignore_ascii_case(authority.of_buf(head));
        if !field.is_none_or(same) {
            return Err(Error::malformed("Host and the request target's authority differ"));
        }
        Ok(authority)
    }

    fn parse_expect(&self, head: &[u8]) -> Result<Expect, Error> {
        let Some(field) = self.fields.single(FieldId::Expect, "several Expect fields")? else {
            return Ok(Expect::Nothing);
        };
        if !field.value.of_buf(head).eq_ignore_ascii_case(b"100-continue") {
            return Err(Error::new(ErrorKind::Expectation, "Expect is not 100-continue"));
        }
        // An HTTP/1.0 client cannot understand a 100 response, and without a body there is nothing to wait for.
        let waits = self.version == Version::Http11 && self.framing != Framing::Empty;
        Ok(if waits { Expect::Continue } else { Expect::Nothing })
    }
}

type RequestLine<'b> = (&'b str, &'b str, Version);

fn parse_with<'h, 'b>(
    head: &'b [u8],
    room: &'h mut [std::mem::MaybeUninit<httparse::Header<'b>>],
) -> Parsed<'h, 'b, RequestLine<'b>> {
    let mut request = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, head, room)?;
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(httparse::Error::Token);
    };
    if !matches!(status, httparse::Status::Complete(end) if end == head.len()) {
        return Err(httparse::Error::NewLine);
    }
    let version = if version == 1 { Version::Http11 } else { Version::Http10 };
    Ok(((method, target, version), request.headers))
}

impl Method {
    fn of(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            other => Self::Other(other.into()),
        }
    }

    /// The method as it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(text) => text,
        }
    }

    /// Whether a request may be sent twice with the effect of once: RFC 9110 section 9.2.2.
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// What the `Connection` fields say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    close: bool,
    keep_alive: bool,
    pub(crate) upgrade: bool,
    pub(crate) names_others: bool,
}

impl Connection {
    pub(crate) fn of(fields: &Fields, buf: &[u8]) -> Self {
        let mut said = Self::default();
        for field in fields.all(FieldId::Connection) {
            let value = field.value.of_buf(buf);
            // What nearly everyone says, if anything.
            if value.eq_ignore_ascii_case(b"keep-alive") {
                said.keep_alive = true;
                continue;
            }
            for member in list_members(value) {
                if member.eq_ignore_ascii_case(b"close") {
                    said.close = true;
                } else if member.eq_ignore_ascii_case(b"keep-alive") {
                    said.keep_alive = true;
                } else if member.eq_ignore_ascii_case(b"upgrade") {
                    said.upgrade = true;
                } else {
                    said.names_others = true;
                }
            }
        }
        said
    }

    pub(crate) fn keeps_alive(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}
