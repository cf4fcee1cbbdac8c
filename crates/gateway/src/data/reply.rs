//! Answers that the gateway gives by itself: a short JSON body that names what a person needs to find the cause, and
//! nothing of what is behind the gateway.

use http1::{Method, Version, write};
use vocab::ErrorCode;

use crate::action::{Prepared, push_absent};
use crate::identity::RequestId;

/// An answer of the gateway's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    /// What is answered.
    pub(crate) answer: &'a Prepared,
    /// Lines of fields that the route gives to its responses.
    pub(crate) added: &'a [u8],
    /// The route's name, if one matched.
    pub(crate) route: Option<&'a str>,
    /// The request's id.
    pub(crate) id: &'a RequestId,
    /// Whether the connection goes on afterwards.
    pub(crate) keep_alive: bool,
}

/// Writes the answer, head and body, to a request of this method and version.
pub(crate) fn write_reply(out: &mut Vec<u8>, method: &Method, version: Version, reply: &Reply<'_>) {
    out.clear();
    let status = reply.answer.status;
    write::status_line(out, status, reason(status).as_bytes());
    let error_body;
    let body = match reply.answer.error {
        Some((code, message)) if reply.answer.body.is_none() => {
            error_body = body(reply, code, message);
            out.extend_from_slice(b"Content-Type: application/json\r\nCache-Control: no-store\r\n");
            write::field(out, b"X-Request-Id", reply.id.as_bytes());
            if status == 503 {
                write::field(out, b"Retry-After", reply.answer.retry_after_secs.to_string().as_bytes());
            }
            error_body.as_bytes()
        }
        // RFC 9110 section 6.4.1: these have none, and RFC 9112 lets nothing tell otherwise.
        _ if matches!(status, 204 | 205 | 304) => b"",
        _ => reply.answer.body.as_deref().unwrap_or_default(),
    };
    if !matches!(status, 204 | 304) {
        write::content_length(out, body.len() as u64);
    }
    out.extend_from_slice(&reply.answer.fields);
    if !reply.answer.complete {
        push_absent(out, reply.added);
    }
    if !reply.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if *method != Method::Head {
        out.extend_from_slice(body);
    }
}

fn body(reply: &Reply<'_>, code: ErrorCode, message: &str) -> String {
    // Ids are visible ASCII, names are checked, but neither is worth a broken document.
    let id = String::from_utf8_lossy(reply.id.as_bytes());
    let mut fields = serde_json::Map::new();
    fields.insert("error".into(), code.as_str().into());
    fields.insert("message".into(), message.into());
    if let Some(route) = reply.route {
        fields.insert("route".into(), route.into());
    }
    fields.insert("request_id".into(), id.into());
    let mut text = serde_json::Value::from(fields).to_string();
    text.push('\n');
    text
}

/// What a client is told of a failure behind the gateway.
pub(crate) fn message(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unauthorized => "a name and password are needed",
        ErrorCode::RateLimited => "a limit has been reached; try again later",
        ErrorCode::NoRoute => "no route matches this host and path",
        ErrorCode::NoFile => "there is no such file",
        ErrorCode::MethodNotAllowed => "files are read by GET and HEAD only",
        ErrorCode::FileUnavailable => "the file cannot be read now",
        ErrorCode::NoEndpoint => "no instance of the service is available",
        ErrorCode::Overloaded => "the gateway has no capacity left for this service",
        ErrorCode::Shed => "the service has more to do than it can; try again later",
        ErrorCode::BreakerOpen => "the service has failed too often and is left alone for a while",
        ErrorCode::UpstreamConnect => "the service could not be reached",
        ErrorCode::UpstreamConnectTimeout => "the service did not accept a connection in time",
        ErrorCode::UpstreamClosed => "the service closed the connection before it answered",
        ErrorCode::UpstreamTimeout => "the service did not answer in time",
        ErrorCode::UpstreamInvalid => "the service's answer was not valid HTTP",
        ErrorCode::AuthUnavailable => "whether the request may pass could not be found out",
        ErrorCode::Draining => "the gateway is stopping",
        ErrorCode::HeadTimeout => "the head did not arrive in time",
        ErrorCode::IdleTimeout => "nothing has passed for too long",
        ErrorCode::BodyTimeout => "the body did not arrive in time",
        ErrorCode::WriteTimeout => "the answer was not taken in time",
        ErrorCode::BodyTooLarge => "the body exceeds the listener's limit",
        ErrorCode::HeadTooLarge => "the head exceeds the listener's limit",
        ErrorCode::TargetTooLong => "the request target exceeds the listener's limit",
        ErrorCode::NotImplemented => "the method or transfer coding is not implemented",
        ErrorCode::ExpectationFailed => "the expectation is not supported",
        ErrorCode::BadRequest => "the request is malformed",
    }
}

/// The code of a head that `http1` refuses.
pub(crate) fn code_of(error: &http1::Error) -> ErrorCode {
    match error.kind() {
        http1::ErrorKind::Malformed => ErrorCode::BadRequest,
        http1::ErrorKind::HeadTooLarge => ErrorCode::HeadTooLarge,
        http1::ErrorKind::TargetTooLong => ErrorCode::TargetTooLong,
        http1::ErrorKind::NotImplemented => ErrorCode::NotImplemented,
        http1::ErrorKind::Expectation => ErrorCode::ExpectationFailed,
    }
}

/// The reason phrase of the statuses that [`ErrorCode::status`] gives and of those that people answer with. It may be
/// empty: nobody reads it but people.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        408 => "Request Timeout",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_reason_phrase() {
        for code in ErrorCode::ALL {
            assert!(!reason(code.status()).is_empty(), "{code}");
        }
    }

    #[test]
    fn replies_name_route_and_request() {
        let mut id = RequestId::default();
        id.make(7);
        let answer = Prepared::error(ErrorCode::UpstreamConnect, "m");
        let added = b"Cache-Control: public\r\nX-Frame-Options: DENY\r\n";
        let reply = Reply { answer: &answer, added, route: Some("api"), id: &id, keep_alive: true };
        let mut out = Vec::new();
        write_reply(&mut out, &Method::Get, Version::Http11, &reply);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("Cache-Control: no-store\r\n") && !head.contains("public"), "{head}");
        assert!(head.contains("X-Frame-Options: DENY"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"], "upstream_connect");
        assert_eq!(body["route"], "api");
        assert_eq!(body["request_id"], "00000000000000000000000000000007");
    }
    #[test]
    fn statuses_without_a_body_send_none() {
        let check = |status: u16, method: &Method, expected: &str| {
            let answer = Prepared { body: Some(b"text".to_vec()), ..Prepared::new(status, b"X-A: 1\r\n".to_vec()) };
            let id = RequestId::default();
            let reply = Reply { answer: &answer, added: b"X-B: 2\r\n", route: None, id: &id, keep_alive: true };
            let mut out = Vec::new();
            write_reply(&mut out, method, Version::Http11, &reply);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let lines = "X-A: 1\r\nX-B: 2\r\n\r\n";
        check(200, &Method::Get, &format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{lines}text"));
        check(200, &Method::Head, &format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{lines}"));
        check(204, &Method::Get, &format!("HTTP/1.1 204 No Content\r\n{lines}"));
        check(205, &Method::Get, &format!("HTTP/1.1 205 \r\nContent-Length: 0\r\n{lines}"));
        check(304, &Method::Get, &format!("HTTP/1.1 304 Not Modified\r\n{lines}"));
    }
}
