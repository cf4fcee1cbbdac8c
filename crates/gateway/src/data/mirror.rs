//! Mirroring: a share of a route's requests goes to another service as well, and nobody waits for the answers.
//!
//! The copy leaves when the original has its answer, as a task of its own, so that it cannot delay it; what the mirror
//! answers, or that it does not, changes nothing. A core has a bounded number of copies under way, and a copy has a
//! bounded body: what is beyond is not mirrored, and counted.

use std::rc::Rc;
use std::time::Instant;

use http1::{Framing, Version};
use limit::gradient::Class;

use super::account::Account;
use super::body::RequestBody;
use super::connection::{Link, Peer};
use super::core::{ConnectionState, Core};
use super::ends::{ClientSink, ClientSource};
use super::exchange::{self, Call, Terms};
use super::forward::{self, Parts};
use super::local::Local;
use super::scratch::Scratch;
use crate::forwarded::Origin;
use crate::identity::RequestId;
use crate::params::PriorityParams;
use crate::router::Route;

/// Copies under way on a core at most. With the largest bodies that a route may mirror they hold 128 MiB.
const COPIES_MAX: usize = 128;

/// A copy is the first that a service with too much to do can do without.
const COPY_PRIORITY: PriorityParams = PriorityParams::only(Class::Low);

/// A request that is to be sent once more.
struct Copy {
    local: Rc<Local>,
    /// The route's position.
    route: usize,
    /// The head as it came, and the body behind it.
    bytes: Vec<u8>,
    head_len: usize,
    peer: Peer,
    origin: Origin,
    id: RequestId,
    /// The target that the original was sent with, if it was rewritten.
    target: Option<Vec<u8>>,
    /// The lines that the original got by leave of another service.
    granted: Vec<u8>,
    trace: u128,
}

/// A request that a mirror is to get as well.
pub(crate) struct Mirrored {
    pub(crate) rewritten: bool,
    /// Largest body that is copied.
    pub(crate) bytes_max: usize,
    pub(crate) origin: Origin,
    pub(crate) head_len: usize,
    pub(crate) random: u128,
}

/// Sends a copy of a request, which has its answer, to the route's mirror.
pub(crate) fn copy(
    link: &Link<'_>,
    scratch: &Scratch,
    local: &Rc<Local>,
    (route, position): (&Route, usize),
    body: &RequestBody,
    with: &Mirrored,
) {
    let &Mirrored { rewritten, bytes_max, origin, head_len, random } = with;
    let whole = body.whole(link.buffer.filled()).filter(|bytes| bytes.len() - head_len <= bytes_max);
    let Some(bytes) = whole else { return route.state.mirrored(link.core.id, false) };
    let target = rewritten.then(|| scratch.target.clone());
    let granted = route.auth.as_ref().map(|_| scratch.granted.clone()).unwrap_or_default();
    let (local, id, peer) = (Rc::clone(local), scratch.id, link.peer);
    let copy = Copy { local, route: position, bytes, head_len, peer, origin, id, target, granted, trace: random };
    send(link.core, link.state, route, copy);
}

/// Sends a copy, unless too many are under way.
fn send(core: &Rc<Core>, from: &ConnectionState, route: &Route, copy: Copy) {
    if core.copies.get() >= COPIES_MAX {
        return route.state.mirrored(core.id, false);
    }
    route.state.mirrored(core.id, true);
    core.copies.set(core.copies.get() + 1);
    let state = ConnectionState::new(core.deadlines.register(), &from.listener, false);
    tokio::task::spawn_local(run(UnderWay(Rc::clone(core)), state, copy));
}

/// A copy that counts among those under way.
struct UnderWay(Rc<Core>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}

async fn run(under_way: UnderWay, state: ConnectionState, copy: Copy) {
    let core = &under_way.0;
    let Some(listener) = copy.local.listener(&state.listener) else { return };
    let Some(route) = listener.router.routes().get(copy.route) else { return };
    let Some(mirror) = &route.mirror else { return };
    let mut scratch = core.take_scratch();
    let (head_len, body_len) = (copy.head_len, copy.bytes.len() - copy.head_len);
    // The same head was read before, with the same limits.
    if scratch.request.parse(&copy.bytes[..head_len], &listener.limits).is_err() {
        return;
    }
    // Whatever it came in, the body is whole now. An answer for HTTP/1.0 is one without framing.
    scratch.request.framing = if body_len > 0 { Framing::Length(body_len as u64) } else { Framing::Empty };
    scratch.request.version = Version::Http10;
    scratch.request.expect = http1::Expect::Nothing;
    scratch.id = copy.id;
    scratch.added.clear();
    scratch.granted = copy.granted;
    let rewritten = copy.target.is_some();
    if let Some(target) = copy.target {
        scratch.target = target;
    }
    let mut buffer = core.heads.take();
    buffer.extend(&copy.bytes);
    let (source, sink) = (ClientSource::Whole, ClientSink::Nobody);
    let deadline = &state.deadline;
    let mut link = Link { core, state: &state, source, sink, deadline, buffer, peer: copy.peer, fresh: false };
    let mut body = RequestBody::new(&scratch.request, head_len, None, false);
    let mut account = Account::new(Instant::now());
    let service = copy.local.service(mirror.service);
    let key = exchange::hash_key(service, &scratch.request, &copy.bytes[..head_len], copy.origin);
    let (origin, trace) = (copy.origin, copy.trace);
    let terms = Terms { priority: Some(&COPY_PRIORITY), ..Terms::of(route) };
    let call =
        Call { listener, service, origin, head_len, rewritten, key, sticky: None, trace, keep: 0, held: None, terms };
    let parts = Parts { link: &mut link, scratch: &mut scratch, body: &mut body, account: &mut account };
    let _nobody_waits = forward::run(parts, &call).await;
    drop(link);
    core.keep_scratch(scratch);
}
