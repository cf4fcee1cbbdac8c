//! Response heads.

use crate::field::{Parsed, parse_fields};
use crate::request::Connection;
use crate::{Error, FieldId, Fields, Framing, Limits, Method, Span, Version};

/// A response head, checked. Texts stand in the buffer it was parsed from, which the caller keeps unchanged.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status, 100 to 599.
    pub status: u16,
    /// The reason phrase.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may carry another request after this response.
    pub keep_alive: bool,
    /// Whether this is `101 Switching Protocols` with the fields that it needs.
    pub upgrade: bool,
    /// Whether `Connection` names fields beyond the known ones, which then must not be passed on.
    pub names_hop_by_hop: bool,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            status: 0,
            reason: Span::default(),
            version: Version::Http11,
            fields: Fields::default(),
            framing: Framing::Empty,
            keep_alive: true,
            upgrade: false,
            names_hop_by_hop: false,
        }
    }
}

impl Response {
    /// Parses a whole head, the extent that [`crate::HeadScan`] found, of a response to a request with `method`.
    /// What an earlier head left here is replaced.
    ///
    /// # Errors
    /// Whatever makes the head malformed, ambiguous or too large. The response is unusable then.
    pub fn parse(&mut self, head: &[u8], limits: &Limits, method: &Method) -> Result<(), Error> {
        let (status, reason, version) =
            parse_fields(&mut self.fields, head, limits.fields_max, |room| parse_with(head, room))?;
        if !(100..=599).contains(&status) {
            return Err(Error::malformed("the status is not between 100 and 599"));
        }
        self.status = status;
        self.reason = if reason.is_empty() { Span::default() } else { Span::of(reason.as_bytes(), head) };
        self.version = version;
        self.framing = Framing::of_response(&self.fields, head, version, status, method)?;
        let connection = Connection::of(&self.fields, head);
        self.keep_alive = connection.keeps_alive(version) && self.framing != Framing::UntilClose;
        self.names_hop_by_hop = connection.names_others;
        self.upgrade = status == 101 && connection.upgrade && self.fields.all(FieldId::Upgrade).next().is_some();
        Ok(())
    }

    /// Whether this response comes before the final one: 100 Continue, 103 Early Hints and the like.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

type StatusLine<'b> = (u16, &'b str, Version);

fn parse_with<'h, 'b>(
    head: &'b [u8],
    room: &'h mut [std::mem::MaybeUninit<httparse::Header<'b>>],
) -> Parsed<'h, 'b, StatusLine<'b>> {
    let mut response = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, head, room)?;
    let (Some(code), Some(reason), Some(version)) = (response.code, response.reason, response.version) else {
        return Err(httparse::Error::Status);
    };
    if !matches!(status, httparse::Status::Complete(end) if end == head.len()) {
        return Err(httparse::Error::NewLine);
    }
    let version = if version == 1 { Version::Http11 } else { Version::Http10 };
    Ok(((code, reason, version), response.headers))
}
