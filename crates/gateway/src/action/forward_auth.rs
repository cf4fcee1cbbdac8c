//! Permission from another service: how it is asked about a request, and what its answer means.
//!
//! The question is a GET without a body that has the request's fields, but for those that speak of a body, of a part or
//! a version of what is asked for, and of the connection. A status of 2xx is leave to pass. Any other answer is the
//! client's.
//!
//! Fields that the service may give to a request are believed by whoever is behind, so nothing that a client writes may
//! stand in their place: they are dropped in each spelling that an endpoint could take for them, whether or not the
//! service has answered with them.

use std::time::Duration;

use http1::{Field, FieldId, HeadScan, Limits, Method, Request, Response, write};

use super::answer::Prepared;
use super::fields::{Edits, Names};
use crate::params::{FieldName, ForwardAuthParams};

/// What is told of the request beside its fields.
const TOLD: [&str; 2] = ["X-Forwarded-Method", "X-Forwarded-Uri"];

/// A service that is asked about a route's requests.
#[derive(Debug)]
pub(crate) struct ForwardAuth {
    /// Its position in the snapshot.
    pub(crate) service: usize,
    /// Time for all of its answer.
    pub(crate) timeout: Duration,
    /// Largest body of an answer.
    pub(crate) body_bytes_max: usize,
    /// Names of fields that a request gets from the answer.
    pub(crate) granted: Names,
    /// Names of fields that say what is asked about.
    pub(crate) told: Names,
    /// Path and query to ask for.
    target: Box<[u8]>,
    /// Names of the request's fields that are passed on; `None` for all.
    asked: Option<Names>,
    /// Names of fields that the response gets from the answer.
    shown: Names,
}

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The request passes, and lines of fields go with it and with its response.
    Allowed { granted: Vec<u8>, shown: Vec<u8> },
    /// The client gets this.
    Denied(Box<Prepared>),
}

impl ForwardAuth {
    /// Asking the service at a position, with these settings.
    pub(crate) fn new(params: &ForwardAuthParams, service: usize) -> Self {
        let names = |names: &[FieldName]| Names::new(names.iter().map(FieldName::as_str));
        Self {
            service,
            timeout: params.timeout,
            body_bytes_max: params.body_bytes_max as usize,
            granted: names(&params.granted),
            told: Names::new(TOLD),
            target: params.target.as_bytes().into(),
            asked: params.asked.as_ref().map(|asked| Names::new(asked.iter().map(String::as_str))),
            shown: names(&params.shown),
        }
    }

    /// Writes the head of the question about a request, but for what every request gets on its way to a service.
    pub(crate) fn write_question(&self, out: &mut Vec<u8>, request: &Request, head: &[u8]) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(&self.target);
        // An answer for HTTP/1.0 is one without framing.
        out.extend_from_slice(b" HTTP/1.0\r\n");
        let host = request.host.of_buf(head);
        if !host.is_empty() {
            write::field(out, b"Host", host);
        }
        write::kept_fields(out, head, &request.fields, |field| {
            let name = field.name.of_buf(head);
            let is_hop_by_hop = field.id.is_hop_by_hop()
                || request.names_hop_by_hop && write::is_named_by_connection(head, &request.fields, field);
            let is_wanted = names_the_client(field.id) || self.asked.as_ref().is_none_or(|asked| asked.have(name));
            is_wanted && !is_hop_by_hop && !is_about_body(field.id, name)
        });
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the lines that say which request is asked about.
    pub(crate) fn write_told(&self, out: &mut Vec<u8>, request: &Request, head: &[u8]) {
        let target = request.target.as_origin_form(head, &request.method);
        for (name, value) in TOLD.into_iter().zip([request.method.as_str().as_bytes(), target]) {
            write::field(out, name.as_bytes(), value);
        }
    }

    /// What an answer means, head and body, to a request whose fields and response's are changed so by the route. `None`
    /// when it cannot be read.
    pub(crate) fn verdict(&self, answer: &[u8], edits: Option<(&Edits, &Edits)>) -> Option<Verdict> {
        // It was read before, with the service's limits, and written anew.
        let limits = Limits { bytes_max: answer.len(), fields_max: 1100 };
        let (0, end) = HeadScan::default().advance(answer, &limits).ok()?? else { return None };
        let (head, body) = answer.split_at(end);
        let mut response = Response::default();
        response.parse(head, &limits, &Method::Get).ok()?;
        let lines = |wanted: &dyn Fn(&Field, &[u8]) -> bool| {
            let mut lines = Vec::new();
            let fields = response.fields.as_slice().iter().map(|field| (field, field.name.of_buf(head)));
            for (field, name) in fields.filter(|(field, name)| wanted(field, name)) {
                write::field(&mut lines, name, field.value.of_buf(head));
            }
            lines
        };
        if (200..300).contains(&response.status) {
            let dropped = |name: &[u8]| edits.is_some_and(|(edits, _)| edits.drops(name));
            return Some(Verdict::Allowed {
                granted: lines(&|_, name| self.granted.have(name) && !dropped(name)),
                shown: lines(&|_, name| self.shown.have(name)),
            });
        }
        let dropped = |name: &[u8]| edits.is_some_and(|(_, edits)| edits.drops(name));
        let fields =
            lines(&|field, name| !field.id.is_hop_by_hop() && field.id != FieldId::ContentLength && !dropped(name));
        let denied = Prepared { body: Some(body.to_vec()), refusal: true, ..Prepared::new(response.status, fields) };
        Some(Verdict::Denied(Box::new(denied)))
    }
}

/// Whether a field speaks of a body, or of a part or a version of what is asked for: a client that has a page already
/// may not be answered with 304 by a service that was asked for leave.
fn is_about_body(id: FieldId, name: &[u8]) -> bool {
    let begins = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    matches!(id, FieldId::Host | FieldId::Expect)
        || begins(b"content-")
        || begins(b"if-")
        || name.eq_ignore_ascii_case(b"range")
}

/// Whether a field says who the client is or which request it is, as far as its peer is trusted.
fn names_the_client(id: FieldId) -> bool {
    use FieldId as Id;
    matches!(
        id,
        Id::Forwarded
            | Id::XForwardedFor
            | Id::XForwardedHost
            | Id::XForwardedPort
            | Id::XForwardedProto
            | Id::XRequestId
            | Id::Traceparent
            | Id::Tracestate
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::tests::with_asked;
    use crate::params::{FieldEdits, FieldLine, Message};

    fn auth(asked: Option<&[&str]>) -> ForwardAuth {
        let name = |message, name: &&str| FieldName::new(message, name).unwrap();
        let params = ForwardAuthParams {
            service: "auth".parse().unwrap(),
            target: "/verify?a=b".to_owned(),
            asked: asked.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            granted: ["X-User", "Authorization"].iter().map(|text| name(Message::Request, text)).collect(),
            shown: ["Set-Cookie"].iter().map(|text| name(Message::Response, text)).collect(),
            timeout: Duration::from_secs(5),
            body_bytes_max: 1024,
        };
        ForwardAuth::new(&params, 0)
    }

    fn question(auth: &ForwardAuth, line: &str, fields: &str) -> Vec<String> {
        let mut out = Vec::new();
        with_asked(&format!("{line} HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n"), |asked| {
            auth.write_question(&mut out, asked.request, asked.head);
            auth.write_told(&mut out, asked.request, asked.head);
        });
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn questions_have_the_fields_but_those_of_body_and_connection() {
        let fields = "Cookie: a=b\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
                      Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\nIf-None-Match: \"a\"\r\n\
                      Range: bytes=0-1\r\nX-Forwarded-For: 192.0.2.1\r\nX-Other: 2\r\n";
        let asked = question(&auth(None), "POST /a?b", fields);
        let begin = ["GET /verify?a=b HTTP/1.0", "Host: shop.example.com"];
        let end = ["", "X-Forwarded-Method: POST", "X-Forwarded-Uri: /a?b"];
        let client = "X-Forwarded-For: 192.0.2.1";
        let all = ["Cookie: a=b", client, "X-Other: 2"];
        assert_eq!(asked, [&begin[..], &all, &end].concat());
        let asked = question(&auth(Some(&["x-other"])), "POST /a?b", fields);
        assert_eq!(asked, [&begin[..], &[client, "X-Other: 2"], &end].concat());
    }

    fn edits(message: Message, remove: &str) -> Edits {
        let remove = vec![FieldName::new(message, remove).unwrap()];
        let add = vec![FieldLine::new(message, "X-Added", "1").unwrap()];
        Edits::new(&FieldEdits { remove, set: Vec::new(), add }, &[])
    }

    #[test]
    fn answers_allow_or_are_the_clients() {
        let verdict = |answer: &str, changes: bool| {
            let edits = (edits(Message::Request, "Authorization"), edits(Message::Response, "Server"));
            auth(None).verdict(answer.as_bytes(), changes.then_some((&edits.0, &edits.1)))
        };
        let allowed = "HTTP/1.1 204 No Content\r\nx-user: ann\r\nX-User: bob\r\nX_User: c\r\nAuthorization: d\r\n\
                       Set-Cookie: e=f\r\nX-Other: g\r\n\r\n";
        let check = |changes: bool, expected: &str| {
            let Some(Verdict::Allowed { granted, shown }) = verdict(allowed, changes) else { panic!("not allowed") };
            assert_eq!(String::from_utf8(granted).unwrap(), expected);
            assert_eq!(shown, b"Set-Cookie: e=f\r\n");
        };
        check(false, "x-user: ann\r\nX-User: bob\r\nAuthorization: d\r\n");
        check(true, "x-user: ann\r\nX-User: bob\r\n");
        let denied = "HTTP/1.1 401 Unauthorized\r\nServer: a\r\nContent-Length: 2\r\nConnection: close\r\n\
                      WWW-Authenticate: Bearer\r\n\r\nno";
        let Some(Verdict::Denied(denied)) = verdict(denied, true) else { panic!("not denied") };
        assert_eq!((denied.status, denied.body.as_deref(), denied.refusal), (401, Some(&b"no"[..]), true));
        assert_eq!(String::from_utf8(denied.fields).unwrap(), "WWW-Authenticate: Bearer\r\n");
        for broken in ["", "HTTP/1.1 200 OK\r\nX-User: ann", "HTTP/1.1 700 ?\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n"] {
            assert!(verdict(broken, false).is_none(), "{broken:?}");
        }
    }
}
