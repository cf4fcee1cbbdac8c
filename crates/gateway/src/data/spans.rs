//! What requests and tries tell of themselves in traces.
//!
//! When there are no traces, a request finds that out by one look at a shared word, and everything here ends with that.

use std::time::Instant;

use http1::Request;
use telemetry::trace::{RequestTrace, ServerSpan, TrySpan};

use super::account::{Account, Subject};
use super::attempt::Attempt;
use super::core::Core;
use super::exchange::Call;
use super::forward::{Outcome, Parts, Tried};
use crate::identity;
use crate::params::{PathMatch, Protocol};
use crate::router::Route;

/// Decides whether a request is sampled. `random` is drawn for it, and `trusted` says whether its peer is.
pub(crate) fn begin(
    core: &Core,
    request: &Request,
    head: &[u8],
    trusted: bool,
    random: u128,
    started: Instant,
) -> Option<RequestTrace> {
    let sampling = core.traces.borrow().sampling()?;
    let parent = identity::remote_parent(request, head);
    let span_id = || core.random.borrow_mut().u64(..);
    RequestTrace::begin(sampling, parent, trusted, random, span_id, started)
}

/// The id of a try's span, if the request tells its part of a trace.
pub(crate) fn begin_try(core: &Core, account: &Account) -> Option<u64> {
    account.trace.is_some().then(|| core.random.borrow_mut().u64(1..))
}

/// Records a try.
pub(crate) fn end_try(
    core: &Core,
    call: &Call<'_>,
    parts: &Parts<'_, '_>,
    attempt: &Attempt<'_>,
    (span_id, begun): (u64, Instant),
    tried: &Tried,
) {
    let Parts { link, scratch, account, .. } = parts;
    let Some(trace) = account.trace.filter(RequestTrace::is_sampled) else { return };
    let (status, error) = match tried {
        // Prepared answers belong to routes, and who was not asked was not tried.
        Tried::Done(
            Outcome::Answered { .. }
            | Outcome::Broken
            | Outcome::Prepared(_)
            | Outcome::File(_)
            | Outcome::Unserved(..),
        ) => (account.status, account.error),
        Tried::Done(Outcome::Own(code, _)) => (None, Some(*code)),
        Tried::Failed(failure) => (None, Some(failure.code)),
        Tried::Held(_) => (Some(scratch.response.status), None),
    };
    let request = &scratch.request;
    let service = &call.service.view;
    let span = TrySpan {
        span_id,
        begun,
        ended: Instant::now(),
        method: request.method.as_str().as_bytes(),
        scheme: scheme(service.params.tls.is_some()),
        version: match service.params.protocol {
            Protocol::Http1 => "1.1",
            Protocol::Http2 => "2",
        },
        endpoint: attempt.endpoint().state.address,
        path: request.target.as_origin_form(&link.buffer.filled()[..call.head_len], &request.method),
        resends: account.tries.saturating_sub(1),
        status,
        grpc_status: account.grpc_status.filter(|_| status.is_some()),
        error,
        service: service.state.name.as_str(),
    };
    core.traces.borrow_mut().record_try(&trace, &span);
}

/// Records a request.
pub(crate) fn end(core: &Core, account: &Account, subject: &Subject<'_>) {
    let Some(trace) = account.trace.filter(RequestTrace::is_sampled) else { return };
    let span = ServerSpan {
        ended: Instant::now(),
        method: subject.method.as_str().as_bytes(),
        scheme: scheme(subject.tls),
        host: subject.host,
        path: subject.path,
        version: match subject.protocol() {
            "HTTP/2.0" => "2",
            other => other.strip_prefix("HTTP/").unwrap_or_default(),
        },
        client: subject.client,
        user_agent: subject.field(b"user-agent"),
        tracestate: subject.request.map_or(b"", |(request, head)| identity::tracestate(request, head)),
        status: account.status,
        grpc_status: account.grpc_status.filter(|_| account.status == Some(200)),
        error: account.error,
        body_received: account.body_received,
        body_sent: account.body_sent,
        listener: subject.listener.name.as_str(),
        route: subject.route.map(|route| route.state.name.as_str()),
        pattern: subject.route.map_or(("", ""), pattern),
        service: subject.service,
        request_id: subject.request_id,
    };
    core.traces.borrow_mut().record_request(&trace, &span);
}

/// A route's path as the file has it.
fn pattern(route: &Route) -> (&str, &str) {
    match &route.path {
        PathMatch::Exact(path) => (path, ""),
        PathMatch::Prefix(prefix) => (prefix, "*"),
        PathMatch::Regex(pattern) => (pattern.as_str(), ""),
    }
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}
