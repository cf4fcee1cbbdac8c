//! What is counted and logged about a request when it has ended.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use telemetry::{AccessEntry, Method};
use vocab::ErrorCode;

use super::core::Core;
use super::grpc;
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
    pub(crate) request_id: &'a [u8],
    pub(crate) head_len: usize,
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
            route.state.metrics.record(core.id, method_label(subject.method), status, micros);
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
