//! What is counted and logged about a request when it has ended.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use http1::{Request, Version};
use telemetry::trace::RequestTrace;
use telemetry::{AccessEntry, FinishedRequest, Method};
use vocab::ErrorCode;

use super::core::Core;
use super::grpc;
use super::spans;
use crate::router::Route;
use crate::state::ListenerState;

/// A request's account, filled in as it goes along.
#[derive(Debug)]
pub(crate) struct Account {
    /// When its head was complete.
    pub(crate) started: Instant,
    /// The status that the client got.
    pub(crate) status: Option<u16>,
    /// The status of a call of gRPC, which comes at its end.
    pub(crate) grpc_status: Option<u16>,
    /// Why the gateway answered by itself or broke off.
    pub(crate) error: Option<ErrorCode>,
    /// Position of the service that it was for.
    pub(crate) service: Option<usize>,
    /// How often it was sent to an endpoint.
    pub(crate) tries: u32,
    /// The endpoint tried last.
    pub(crate) upstream: Option<SocketAddr>,
    /// Bytes of the request's body.
    pub(crate) body_received: u64,
    /// Bytes of the response's body.
    pub(crate) body_sent: u64,
    /// Bytes of heads and own answers that went to the client.
    pub(crate) head_sent: u64,
    /// Where it stands in its trace, if the gateway tells its part of that.
    pub(crate) trace: Option<RequestTrace>,
}

/// What the account belongs to.
pub(crate) struct Subject<'a> {
    pub(crate) listener: &'a ListenerState,
    pub(crate) route: Option<&'a Route>,
    pub(crate) service: Option<&'a str>,
    pub(crate) client: std::net::IpAddr,
    pub(crate) method: &'a http1::Method,
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    /// The request and the bytes of its head, unless it could not be read.
    pub(crate) request: Option<(&'a Request, &'a [u8])>,
    /// Whether it came on a stream of HTTP/2.
    pub(crate) on_stream: bool,
    /// Whether it came under TLS.
    pub(crate) tls: bool,
    pub(crate) request_id: &'a [u8],
    pub(crate) head_len: usize,
}

impl Subject<'_> {
    /// The protocol's name and version, empty if the request could not be read.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.request {
            None => "",
            Some(_) if self.on_stream => "HTTP/2.0",
            Some((request, _)) => match request.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
        }
    }

    /// The first field of a name, empty if there is none.
    pub(crate) fn field(&self, name: &'static [u8]) -> &[u8] {
        let found = self.request.and_then(|(request, head)| request.fields.named(head, name).next());
        found.unwrap_or_default()
    }
}

impl Account {
    /// Nothing has happened yet.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            status: None,
            grpc_status: None,
            error: None,
            service: None,
            tries: 0,
            upstream: None,
            body_received: 0,
            body_sent: 0,
            head_sent: 0,
            trace: None,
        }
    }

    /// Counts and logs the request.
    pub(crate) fn close(&self, core: &Core, subject: &Subject<'_>) {
        let micros = self.started.elapsed().as_micros() as u64;
        let listener = &subject.listener.metrics;
        listener.received(core.id, subject.head_len as u64 + self.body_received);
        listener.sent(core.id, self.head_sent + self.body_sent);
        if let Some(code) = self.error {
            listener.error(core.id, code);
        }
        if let Some(route) = subject.route {
            // 499 is what nginx taught everyone to read as "the client went away".
            let status = match (self.status, self.grpc_status) {
                (Some(200), Some(status)) => grpc::as_http(status),
                (status, _) => status.unwrap_or(499),
            };
            let finished = FinishedRequest {
                method: method_label(subject.method),
                status,
                micros,
                body_received: self.body_received,
                body_sent: self.body_sent,
            };
            route.state.metrics.record(core.id, &finished);
        }
        if self.trace.is_some() {
            spans::end(core, self, subject);
        }
        let mut access = core.access.borrow_mut();
        if access.is_on() {
            let now = SystemTime::now();
            access.record(&AccessEntry {
                time: now.checked_sub(std::time::Duration::from_micros(micros)).unwrap_or(now),
                client: subject.client,
                method: subject.method.as_str().as_bytes(),
                host: subject.host,
                path: subject.path,
                protocol: subject.protocol(),
                status: self.status,
                bytes_in: self.body_received,
                bytes_out: self.body_sent,
                duration_micros: micros,
                listener: subject.listener.name.as_str(),
                route: subject.route.map(|route| route.state.name.as_str()),
                service: subject.service,
                upstream: self.upstream,
                tries: self.tries,
                request_id: subject.request_id,
                user_agent: subject.field(b"user-agent"),
                referer: subject.field(b"referer"),
                error: self.error,
            });
        }
    }
}

fn method_label(method: &http1::Method) -> Method {
    match method {
        http1::Method::Get => Method::Get,
        http1::Method::Head => Method::Head,
        http1::Method::Post => Method::Post,
        http1::Method::Put => Method::Put,
        http1::Method::Delete => Method::Delete,
        http1::Method::Connect => Method::Connect,
        http1::Method::Options => Method::Options,
        http1::Method::Trace => Method::Trace,
        http1::Method::Patch => Method::Patch,
        http1::Method::Other(_) => Method::Other,
    }
}
