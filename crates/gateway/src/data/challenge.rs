//! Answers to an authority that asks over HTTP who holds a host: RFC 8555 section 8.3.

use std::sync::Arc;

use http1::{Framing, Method, Request, write};

use super::account::Account;
use super::connection::{Link, Next};
use super::core::Core;
use super::exchange;
use super::io::Wait;
use super::scratch::Scratch;
use crate::forwarded::Origin;
use crate::state::ListenerView;

/// The answer to a request, if it is for a challenge that is under way. Whatever else is under the path of challenges
/// goes to the routes.
#[inline]
pub(crate) fn answer(core: &Core, request: &Request, head: &[u8]) -> Option<Arc<str>> {
    let tokens = &core.shared.tokens;
    if tokens.is_empty() || request.method != Method::Get || request.framing != Framing::Empty {
        return None;
    }
    tokens.answer(request.target.as_origin_form(head, &request.method))
}

/// Gives it. The authority has no second question, so the connection ends.
pub(crate) async fn give(
    link: &mut Link<'_>,
    scratch: &mut Scratch,
    listener: &ListenerView,
    account: &mut Account,
    (answer, head_len): (&str, usize),
) -> Next {
    scratch.id.make(link.core.random.borrow_mut().u128(..));
    let out = &mut scratch.to_client;
    out.clear();
    write::status_line(out, 200, b"OK");
    out.extend_from_slice(b"Content-Type: application/octet-stream\r\nCache-Control: no-store\r\n");
    write::content_length(out, answer.len() as u64);
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out.extend_from_slice(answer.as_bytes());
    let wait = Wait::after(link.deadline, listener.params.write_timeout);
    if link.sink.whole(&scratch.to_client, wait).await.is_ok() {
        account.status = Some(200);
        account.head_sent += scratch.to_client.len() as u64;
    }
    let origin = Origin { client: link.peer.address.ip().to_canonical(), trusted: false };
    exchange::close(account, link, scratch, (listener, None, None), (origin, head_len));
    link.buffer.clear();
    if account.status.is_some() { Next::Close } else { Next::Cut }
}
