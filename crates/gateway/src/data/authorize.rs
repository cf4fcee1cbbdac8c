//! Asking another service whether a request may pass, by an exchange within the exchange.
//!
//! The question goes the way of every request to that service: balanced, over its pools, retried by its rules, counted
//! among its own. It has no client: its answer is kept, up to a bound. While it is under way the request waits, and
//! nothing of its body is read. Without an answer to go by the request does not pass.

use std::time::{Duration, Instant};

use http1::Limits;
use vocab::ErrorCode;

use super::account::Account;
use super::act::Act;
use super::body::RequestBody;
use super::connection::Link;
use super::ends::{ClientSink, ClientSource, Kept};
use super::exchange::{self, Call, Terms};
use super::forward::{self, Outcome, Parts};
use super::grpc;
use super::reply;
use crate::action::{ForwardAuth, Prepared, Verdict};
use crate::state::Permission;

/// What a question has beyond the request that it is about: its path and lines of its own.
const LONGER_BYTES_MAX: usize = 16 * 1024;

/// Asks whether a request may pass. Adds the lines that it gets, and those that its response gets.
///
/// # Errors
/// The answer of the service that it asked, or the gateway's own when there is none to go by.
pub(crate) async fn ask(
    with: &Act<'_, '_>,
    auth: &ForwardAuth,
    granted: &mut Vec<u8>,
    added: &mut Vec<u8>,
) -> Result<(), Box<Prepared>> {
    let edits = with.route.actions.as_deref().map(|actions| (&actions.request, &actions.response));
    let answer = answer(with, auth).await;
    let verdict = answer.and_then(|answer| auth.verdict(&answer, edits));
    let (permission, result) = match verdict {
        Some(Verdict::Allowed { granted: lines, shown }) => {
            *granted = lines;
            added.extend_from_slice(&shown);
            (Permission::Allowed, Ok(()))
        }
        Some(Verdict::Denied(prepared)) => (Permission::Denied, Err(prepared)),
        None => {
            let code = ErrorCode::AuthUnavailable;
            (Permission::Failed, Err(Box::new(Prepared::error(code, reply::message(code)))))
        }
    };
    with.route.state.asked(with.link.core.id, permission);
    result
}

/// The answer to the question, head and body; `None` if it did not come, in time or whole.
async fn answer(with: &Act<'_, '_>, auth: &ForwardAuth) -> Option<Vec<u8>> {
    let &Act { link, local, listener, route, asked, origin, .. } = with;
    let core = link.core;
    let time = auth.timeout.min(time_left(with)?);
    let mut buffer = core.heads.take();
    let mut question = Vec::new();
    auth.write_question(&mut question, asked.request, asked.head);
    buffer.extend(&question);
    let head_len = question.len();
    let mut scratch = core.take_scratch();
    let limits =
        Limits { bytes_max: listener.limits.bytes_max + LONGER_BYTES_MAX, fields_max: listener.limits.fields_max + 1 };
    scratch.request.parse(&question, &limits).ok()?;
    scratch.id = *with.id;
    scratch.added.clear();
    scratch.granted.clear();
    auth.write_told(&mut scratch.granted, asked.request, asked.head);
    let service = local.service(auth.service);
    let key = exchange::hash_key(service, &scratch.request, &question, origin);
    let sticky = exchange::sticky_id(service, &scratch.request, &question);
    let (source, sink) = (ClientSource::Whole, ClientSink::Kept(Kept::new(auth.body_bytes_max)));
    let mut inner = Link { source, sink, buffer, fresh: false, ..*link };
    let mut body = RequestBody::new(&scratch.request, head_len, None, false);
    let mut account = Account::new(Instant::now());
    account.trace = with.trace.0;
    let call = Call {
        listener,
        service,
        origin,
        head_len,
        rewritten: false,
        key,
        sticky,
        trace: with.trace.1,
        keep: 0,
        held: None,
        terms: Terms {
            priority: Some(&route.priority),
            granted: Some(&auth.told),
            whole: Some(time),
            ..Terms::default()
        },
    };
    let parts = Parts { link: &mut inner, scratch: &mut scratch, body: &mut body, account: &mut account };
    let outcome = forward::run(parts, &call).await;
    let Link { sink, .. } = inner;
    core.keep_scratch(scratch);
    match (outcome, sink) {
        (Outcome::Answered { .. }, ClientSink::Kept(kept)) => Some(kept.into_bytes()),
        _ => {
            tracing::debug!(route = %route.state.name, "no answer to whether a request may pass");
            None
        }
    }
}

/// The time that is left for the request: that of its route, and that of its client. `None` when it is over.
fn time_left(with: &Act<'_, '_>) -> Option<Duration> {
    let on_stream = matches!(with.link.source, ClientSource::Stream(_));
    let asked = if on_stream { grpc::timeout(with.asked.request, with.asked.head) } else { None };
    let Some(time) = with.route.timeout.into_iter().chain(asked).min() else { return Some(Duration::MAX) };
    time.checked_sub(with.started.elapsed())
}
