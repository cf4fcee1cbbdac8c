//! Admission to a service that sheds load: at once, after a wait, or not at all.
//!
//! A request is asked once, and holds its place through all its tries until the head of its response has come. What
//! follows that, a WebSocket or a long stream, holds none. Copies for a mirror are the first to be refused, and do not
//! wait.
//!
//! Whoever has waited is looked at once more before it goes on: a request whose client has gone, or whose time is over,
//! is not sent. A client of HTTP/1.1 has gone when it has ended its sending side. That could also mean that it only has
//! nothing more to say, but few clients do that, and under an overload those that have given up are many.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use limit::gradient::Class;
use net::Deadline;
use telemetry::{ShedClass, ShedResult};
use vocab::ErrorCode;

use super::connection::Link;
use super::ends::{ClientSink, ClientSource};
use super::exchange::Call;
use super::forward::{Outcome, Parts};
use super::leave::Refusal;
use crate::shed::{Gate, Granted, Pass, Waiter};

/// Clients are told to come again after 1 to this many seconds, by chance, so that they do not all come back at once.
const RETRY_AFTER_SECS_MAX: u64 = 3;

/// How a wait ended.
enum Ended {
    Granted(Granted),
    /// Others were more important.
    Displaced,
    Late,
    Gone,
}

/// A place for a request, if it can have one at once; none is needed for what is exempt.
///
/// # Errors
/// The request's class when there is no place now.
pub(crate) fn ask<'g>(parts: &Parts<'_, '_>, call: &Call<'_>, gate: &'g Arc<Gate>) -> Result<Option<Pass<'g>>, Class> {
    let class = class_of(parts, call);
    let Some(label) = label(class) else { return Ok(None) };
    let core = parts.link.core.id;
    let pass = gate.pass(class, core).ok_or(class)?;
    call.service.view.state.metrics.shed(core, label, ShedResult::Admitted);
    Ok(Some(pass))
}

/// Waits for a place, until `overall` at the latest.
///
/// # Errors
/// How the exchange ends without one.
pub(crate) async fn wait<'g>(
    parts: &mut Parts<'_, '_>,
    call: &Call<'_>,
    (gate, class): (&'g Arc<Gate>, Class),
    overall: Option<Instant>,
) -> Result<Pass<'g>, Outcome> {
    let core = parts.link.core;
    let waits = !matches!(parts.link.sink, ClientSink::Nobody);
    let waiter = if waits { gate.wait(class, (core.id, Instant::now()), overall) } else { None };
    let (result, passed) = match waiter {
        None => (ShedResult::Refused, None),
        Some(mut waiter) => match until_granted(&mut waiter, parts.link, &parts.scratch.deadline, overall).await {
            Ended::Granted(granted) => (ShedResult::Waited, Some(waiter.take(granted))),
            Ended::Displaced => (ShedResult::Refused, None),
            Ended::Late => (ShedResult::Late, None),
            Ended::Gone => (ShedResult::Gone, None),
        },
    };
    if let Some(label) = label(class) {
        call.service.view.state.metrics.shed(core.id, label, result);
    }
    match passed {
        Some(pass) => Ok(pass),
        None if result == ShedResult::Gone => Err(Outcome::Broken),
        None => {
            let wait = Duration::from_secs(core.random.borrow_mut().u64(1..=RETRY_AFTER_SECS_MAX));
            Err(Outcome::Unserved(ErrorCode::Shed, Refusal(Some(wait))))
        }
    }
}

async fn until_granted(
    waiter: &mut Waiter<'_>,
    link: &mut Link<'_>,
    deadline: &Deadline,
    overall: Option<Instant>,
) -> Ended {
    deadline.set(waiter.due);
    let due = waiter.due;
    let mut watched = true;
    std::future::poll_fn(|cx| {
        if is_leaving(link, &mut watched, cx) {
            return Poll::Ready(Ended::Gone);
        }
        match Pin::new(&mut waiter.granted).poll(cx) {
            // The place goes back with what it came in.
            Poll::Ready(Ok(_)) if overall.is_some_and(|overall| overall <= Instant::now()) => Poll::Ready(Ended::Late),
            Poll::Ready(Ok(_)) if has_left(link) => Poll::Ready(Ended::Gone),
            Poll::Ready(Ok(granted)) => Poll::Ready(Ended::Granted(granted)),
            Poll::Ready(Err(_)) if due <= Instant::now() => Poll::Ready(Ended::Late),
            Poll::Ready(Err(_)) => Poll::Ready(Ended::Displaced),
            Poll::Pending => deadline.poll_expired(cx).map(|_| Ended::Late),
        }
    })
    .await
}

/// Whether the client goes while its request waits. `watched` tells that nothing has come of it: bytes of a body, or of a
/// next request, stay where they are, and hide its end until somebody looks for that.
fn is_leaving(link: &mut Link<'_>, watched: &mut bool, cx: &mut Context<'_>) -> bool {
    if let (ClientSource::Wire(reader), true) = (&link.source, *watched)
        && reader.poll_readable(cx).is_ready()
    {
        *watched = false;
        return reader.has_ended();
    }
    link.sink.is_gone(cx)
}

fn has_left(link: &Link<'_>) -> bool {
    matches!(&link.source, ClientSource::Wire(reader) if reader.has_ended())
}

fn class_of(parts: &Parts<'_, '_>, call: &Call<'_>) -> Class {
    let Some(priority) = call.terms.priority else { return Class::Normal };
    let said = priority.header.as_ref().and_then(|(name, _)| {
        let head = &parts.link.buffer.filled()[..call.head_len];
        parts.scratch.request.fields.named(head, name.as_bytes()).next()
    });
    priority.class_of(said)
}

/// The class as metrics name it; `None` for what is not counted.
fn label(class: Class) -> Option<ShedClass> {
    match class {
        Class::Low => Some(ShedClass::Low),
        Class::Normal => Some(ShedClass::Normal),
        Class::Critical => Some(ShedClass::Critical),
        Class::Exempt => None,
    }
}
