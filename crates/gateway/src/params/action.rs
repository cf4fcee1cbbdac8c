//! What a route does with requests and responses, besides sending them on.
//!
//! Texts that become part of a head are checked here, once, so that no line end and nothing that belongs to framing can
//! reach one, whoever builds the parameters.

use std::time::Duration;

use http1::FieldId;

use crate::pattern::Pattern;

pub use crate::action::credential::{Credential, CredentialError};
pub use crate::action::template::{PathTemplate, TemplateError};

/// What is done on the way. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionParams {
    /// Whether requests that came by plain HTTP are sent to HTTPS.
    pub https_only: bool,
    /// Which pages of other origins may read the responses.
    pub cors: Option<CorsParams>,
    /// Who may ask.
    pub basic_auth: Option<BasicAuthParams>,
    /// How the path changes on its way to the service.
    pub path: Option<PathChange>,
    /// `Host` to send instead of the client's.
    pub host: Option<String>,
    /// Fields of requests.
    pub request_fields: FieldEdits,
    /// Fields of responses, the gateway's own among them.
    pub response_fields: FieldEdits,
}

/// Another path instead of the request's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// The route's prefix is replaced by this one, which begins and ends with `/`. Other routes have no prefix: there it
    /// changes nothing.
    Prefix(String),
    /// The whole path is written anew.
    Template {
        /// What the path must match for that, and whose groups the template names.
        pattern: Option<Pattern>,
        /// The new path.
        template: PathTemplate,
    },
}

/// A redirection.
#[derive(Clone, Debug, PartialEq)]
pub struct RedirectParams {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The scheme to go to; that of the request when `None`.
    pub scheme: Option<Scheme>,
    /// The host to go to, with a port if needed; that of the request when `None`.
    pub host: Option<String>,
    /// The path to go to; that of the request when `None`.
    pub path: Option<PathChange>,
    /// Whether the query goes along.
    pub keep_query: bool,
}

/// A scheme of URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// A response that is always the same.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedParams {
    /// 200 to 599.
    pub status: u16,
    /// Fields, `Content-Type` among them.
    pub fields: Vec<FieldLine>,
    /// The body; statuses that have none send none.
    pub body: String,
}

/// Changes of fields. First those named in `remove` and `set` go, then those of `set` and `add` come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Names of fields to leave out.
    pub remove: Vec<FieldName>,
    /// Fields to have instead of what there is of their names.
    pub set: Vec<FieldLine>,
    /// Fields to have beside what there is of their names.
    pub add: Vec<FieldLine>,
}

/// Whose fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Requests to services.
    Request,
    /// Responses to clients.
    Response,
}

/// A name of a field that may be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(String);

/// A field that may be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine {
    name: FieldName,
    value: String,
}

/// Why a field may not be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The name is no token.
    #[error("is not the name of a header field")]
    Name,
    /// The gateway needs the field itself.
    #[error("{0}")]
    Reserved(&'static str),
    /// The value has a line end or another control character.
    #[error("has a character that a field cannot have")]
    Value,
}

/// Which pages of other origins may read responses: the CORS protocol of the Fetch standard.
#[derive(Clone, Debug, PartialEq)]
pub struct CorsParams {
    /// Origins that may.
    pub origins: CorsOrigins,
    /// Methods that they may use.
    pub methods: Vec<String>,
    /// Fields that they may send; `None` for all that they ask for.
    pub headers: Option<Vec<FieldName>>,
    /// Fields of responses that they may read.
    pub expose: Vec<FieldName>,
    /// Whether cookies and passwords go along. Not with [`CorsOrigins::Any`].
    pub credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age: Duration,
}

/// Origins of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All of them.
    Any,
    /// Those that fit one of these.
    Some(Vec<OriginMatch>),
}

/// Which origins fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginMatch {
    /// This one, as browsers write it.
    Exact(String),
    /// Names any number of labels below a domain: what stands before the `*` (`https://`) and after it (`.example.com`).
    Under(String, String),
    /// Those that match as a whole.
    Regex(Pattern),
}

/// Who may ask, by name and password.
#[derive(Clone, Debug, PartialEq)]
pub struct BasicAuthParams {
    /// What a browser shows: visible ASCII and spaces without `"` and `\`.
    pub realm: String,
    /// Who; at least one, each name once.
    pub users: Vec<Credential>,
}

impl FieldName {
    /// Checks that a field of this name may be changed in such messages.
    ///
    /// # Errors
    /// When it is no name, or belongs to the connection, to framing, or to what the gateway says of the client.
    pub fn new(message: Message, name: &str) -> Result<Self, FieldError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
            return Err(FieldError::Name);
        }
        match reserved(message, FieldId::of(name.as_bytes())) {
            Some(reason) => Err(FieldError::Reserved(reason)),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why fields with this id may not be changed.
fn reserved(message: Message, id: FieldId) -> Option<&'static str> {
    use FieldId as Id;
    match (message, id) {
        (_, id) if id.is_hop_by_hop() => Some("concerns one connection only, and is the gateway's"),
        (_, Id::ContentLength) => Some("says where the body ends, and is the gateway's"),
        (Message::Request, Id::Host) => Some("is set by `host` of `rewrite`, or by `keep_host` of the service"),
        (Message::Request, Id::Expect) => Some("asks the endpoint for leave, and is the client's"),
        (
            Message::Request,
            Id::Forwarded
            | Id::XRealIp
            | Id::XForwardedFor
            | Id::XForwardedHost
            | Id::XForwardedPort
            | Id::XForwardedProto,
        ) => Some("tells who the client is, and is the gateway's"),
        (Message::Request, Id::XRequestId | Id::Traceparent | Id::Tracestate) => {
            Some("tells which request it is, and is the gateway's")
        }
        _ => None,
    }
}

impl FieldLine {
    /// Checks that a field may be added to such messages.
    ///
    /// # Errors
    /// As for its name, and when the value has a control character or surrounding space.
    pub fn new(message: Message, name: &str, value: &str) -> Result<Self, FieldError> {
        let name = FieldName::new(message, name)?;
        if value.trim_ascii() != value || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(FieldError::Value);
        }
        Ok(Self { name, value: value.to_owned() })
    }

    /// The field's name.
    pub fn name(&self) -> &FieldName {
        &self.name
    }

    /// The field's value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_needs_is_reserved() {
        let check = |message: Message, name: &str, free: bool| {
            assert_eq!(FieldName::new(message, name).is_ok(), free, "{message:?} {name}");
        };
        for name in ["Connection", "keep-alive", "TE", "Trailer", "Transfer-Encoding", "UPGRADE", "Content-Length"] {
            check(Message::Request, name, false);
            check(Message::Response, name, false);
        }
        for name in ["Host", "Expect", "X-Forwarded-For", "forwarded", "X-Request-Id", "traceparent"] {
            check(Message::Request, name, false);
        }
        for name in ["Authorization", "Cookie", "X-Env", "Accept-Encoding"] {
            check(Message::Request, name, true);
        }
        for name in ["Set-Cookie", "Server", "Strict-Transport-Security", "X-Request-Id"] {
            check(Message::Response, name, true);
        }
        check(Message::Request, "X Env", false);
        check(Message::Request, "X-Env:", false);
        check(Message::Request, "X-Env\r\nX", false);
        check(Message::Request, "", false);
    }

    #[test]
    fn values_hold_no_line_end() {
        let check = |value: &str, good: bool| {
            assert_eq!(FieldLine::new(Message::Response, "X-A", value).is_ok(), good, "{value:?}");
        };
        check("a b\tc", true);
        check("", true);
        check("\u{fc}", true);
        check("a\r\nSet-Cookie: b", false);
        check("a\nb", false);
        check("a\rb", false);
        check("a\0", false);
        check("a\u{7f}", false);
        check(" a", false);
    }
}
