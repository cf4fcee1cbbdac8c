//! One exchange: a request's head is read and routed, and the request is forwarded until it has an answer.
//!
//! An exchange is a head, a stream of body in each direction, trailers, and an outcome. Nothing of that depends on how
//! the head came but [`read_head`] and the writers of [`super::head`].

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http1::{HeadScan, Method, Request, Version};
use vocab::ErrorCode;

use super::account::{Account, Subject};
use super::act::{Act, Goes, Room};
use super::body::RequestBody;
use super::cache::{self, Watch};
use super::challenge;
use super::connection::{Link, Next};
use super::ends::ClientSource;
use super::fallback;
use super::files;
use super::forward::{Outcome, Parts};
use super::grpc;
use super::head;
use super::io::{self, Stalled, Wait};
use super::local::{Local, LocalService};
use super::mirror::{self, Mirrored};
use super::reply::{self, Reply};
use super::scratch::Scratch;
use super::spans;
use crate::action::{Actions, Names, Prepared};
use crate::compress::Wish;
use crate::forwarded::Origin;
use crate::limits::Places;
use crate::params::{HashKey, PriorityParams};
use crate::router::{self, Asked, Route};
use crate::state::ListenerView;

/// What a connection of HTTP/2 begins with, as far as it looks like a head: RFC 9113 section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Why no request was read.
enum NoHead {
    /// Nothing has come after all.
    Idle,
    /// The client has ended the connection, or it broke.
    Closed,
    /// The client must be told.
    Refused(ErrorCode, &'static str),
}

/// Serves one request of a connection.
pub(crate) async fn run(link: &mut Link<'_>, scratch: &mut Scratch) -> Next {
    let local = link.core.local();
    let state = link.state;
    let Some(listener) = local.listener(&state.listener) else {
        // Its listener was taken away while the request was on its way.
        return refuse(link, scratch, &mut Account::new(Instant::now()), ErrorCode::Draining, None).await;
    };
    let head_len = match read_head(link, listener).await {
        Ok(head_len) => head_len,
        Err(NoHead::Idle) => return Next::KeepAlive,
        Err(NoHead::Closed) => return Next::Cut,
        Err(NoHead::Refused(code, message)) => {
            return refuse(link, scratch, &mut Account::new(Instant::now()), code, Some(message)).await;
        }
    };
    let fresh = std::mem::replace(&mut link.fresh, false);
    let mut account = Account::new(Instant::now());
    let parsed = scratch.request.parse(&link.buffer.filled()[..head_len], &listener.limits);
    if let Err(error) = parsed {
        if fresh && listener.params.http2.is_some() && link.buffer.filled().starts_with(HTTP2_PREFACE) {
            return Next::Http2;
        }
        return refuse(link, scratch, &mut account, reply::code_of(&error), Some(error.reason())).await;
    }
    if let Some(answer) = challenge::answer(link.core, &scratch.request, &link.buffer.filled()[..head_len]) {
        return challenge::give(link, scratch, listener, &mut account, (&answer, head_len)).await;
    }
    serve(link, scratch, &local, listener, &mut account, head_len).await
}

/// Refuses a request on a stream whose head could not be written in the form that is read here.
pub(crate) async fn refuse_malformed(link: &mut Link<'_>, scratch: &mut Scratch, message: &'static str) -> Next {
    refuse(link, scratch, &mut Account::new(Instant::now()), ErrorCode::BadRequest, Some(message)).await
}

/// Reads a request's head: how many bytes of the buffer it has.
async fn read_head(link: &mut Link<'_>, listener: &ListenerView) -> Result<usize, NoHead> {
    let ClientSource::Wire(reader) = &mut link.source else {
        // A stream begins with its head.
        return Ok(link.buffer.filled().len());
    };
    let mut scan = HeadScan::default();
    let mut due = None;
    loop {
        if !link.buffer.is_empty() {
            match scan.advance(link.buffer.filled(), &listener.limits) {
                Ok(Some((start, end))) => {
                    link.buffer.consume(start);
                    return Ok(end - start);
                }
                Ok(None) => {}
                Err(error) => return Err(NoHead::Refused(reply::code_of(&error), error.reason())),
            }
            due = due.or_else(|| Some(Instant::now() + listener.params.head_timeout));
        }
        let held = link.buffer.filled().len();
        link.buffer.make_room(held + 1);
        // Before anything has come, the connection is idle, and waits without a buffer.
        let filled = match due {
            Some(due) => {
                let wait = Wait::until(link.deadline, due);
                io::fill(&mut link.buffer, reader, usize::MAX, wait).await
            }
            None => match io::fill_now(&mut link.buffer, reader).await {
                Some(filled) => filled,
                None => return Err(NoHead::Idle),
            },
        };
        match filled {
            Ok(0) | Err(Stalled::Broken(_)) => return Err(NoHead::Closed),
            Ok(_) => {}
            Err(Stalled::TimedOut) if !scan.has_begun() => return Err(NoHead::Closed),
            Err(Stalled::TimedOut) => {
                return Err(NoHead::Refused(ErrorCode::HeadTimeout, reply::message(ErrorCode::HeadTimeout)));
            }
        }
    }
}

/// Answers a request that was not understood, of which nothing is known for sure.
async fn refuse(
    link: &mut Link<'_>,
    scratch: &mut Scratch,
    account: &mut Account,
    code: ErrorCode,
    message: Option<&'static str>,
) -> Next {
    scratch.id.make(link.core.random.borrow_mut().u128(..));
    let refusal = Prepared::error(code, message.unwrap_or_else(|| reply::message(code)));
    let reply = Reply { answer: &refusal, added: &[], route: None, id: &scratch.id, keep_alive: false };
    reply::write_reply(&mut scratch.to_client, &Method::Get, Version::Http11, &reply);
    answer(link, scratch, account, &refusal).await;
    let subject = Subject {
        listener: &link.state.listener,
        route: None,
        service: None,
        client: link.peer.address.ip().to_canonical(),
        method: &Method::Other("-".into()),
        host: b"",
        path: b"",
        request: None,
        on_stream: matches!(link.source, ClientSource::Stream(_)),
        tls: link.peer.tls,
        request_id: scratch.id.as_bytes(),
        head_len: link.buffer.filled().len(),
    };
    account.close(link.core, &subject);
    link.buffer.clear();
    Next::Linger
}

/// Sends an answer of the gateway's own.
async fn answer(link: &mut Link<'_>, scratch: &Scratch, account: &mut Account, answer: &Prepared) {
    let local = link.core.local();
    let write_timeout = local.listener(&link.state.listener).map(|view| view.params.write_timeout);
    let wait = Wait::after(link.deadline, write_timeout.unwrap_or(super::connection::LINGER_TIME));
    account.error = answer.error.map(|(code, _)| code);
    if link.sink.whole(&scratch.to_client, wait).await.is_ok() {
        account.status = Some(answer.status);
        account.head_sent += scratch.to_client.len() as u64;
    }
}

/// What is known of a request once its head was read.
pub(crate) struct Call<'a> {
    pub(crate) listener: &'a ListenerView,
    pub(crate) service: &'a Rc<LocalService>,
    pub(crate) origin: Origin,
    pub(crate) head_len: usize,
    /// Whether the endpoint is asked for another target than the request's, which stands in the scratch.
    pub(crate) rewritten: bool,
    /// What consistent hashing goes by.
    pub(crate) key: u64,
    /// Id of the endpoint that the client's cookie names.
    pub(crate) sticky: Option<u64>,
    /// The trace to begin if the request belongs to none.
    pub(crate) trace: u128,
    /// Bytes of the body to keep for a mirror.
    pub(crate) keep: usize,
    /// What it holds of limits until its end, if anything.
    pub(crate) held: Option<&'a Places>,
    /// How the route, or whoever asks, wants it.
    pub(crate) terms: Terms<'a>,
}

/// What is wanted of a request beyond what its service wants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms<'a> {
    /// What is changed on the way.
    pub(crate) actions: Option<&'a Actions>,
    /// How important it is; normal unless somebody says so.
    pub(crate) priority: Option<&'a PriorityParams>,
    /// Names of fields that are not the client's to write; the lines of those that there are stand in the scratch.
    pub(crate) granted: Option<&'a Names>,
    /// What it wishes for, where responses are compressed.
    pub(crate) wish: Option<Wish<'a>>,
    /// Overall time for the response's head, from the request's on.
    pub(crate) timeout: Option<Duration>,
    /// Longest pause within the bodies, instead of the listener's and the service's.
    pub(crate) body_timeout: Option<Duration>,
    /// As `timeout`, for all of the response: of requests that are the gateway's own.
    pub(crate) whole: Option<Duration>,
    /// Lines in place of the client's conditions, and of its wish for a part.
    pub(crate) conditions: Option<&'a [u8]>,
    /// What the answer means for the cache.
    pub(crate) watch: Option<Watch<'a>>,
}

impl<'a> Terms<'a> {
    /// Those of a route.
    pub(crate) fn of(route: &'a Route) -> Self {
        Self {
            actions: route.actions.as_deref(),
            priority: Some(&route.priority),
            granted: route.auth.as_deref().map(|auth| &auth.granted),
            wish: None,
            timeout: route.timeout,
            body_timeout: route.body_timeout,
            whole: None,
            conditions: None,
            watch: None,
        }
    }
}

impl Call<'_> {
    /// Longest pause within the response's body.
    pub(crate) fn body_pause(&self) -> Duration {
        self.terms.body_timeout.unwrap_or(self.service.view.params.body_timeout)
    }
}

/// Routes a request and forwards it.
async fn serve(
    link: &mut Link<'_>,
    scratch: &mut Scratch,
    local: &Rc<Local>,
    listener: &ListenerView,
    account: &mut Account,
    head_len: usize,
) -> Next {
    let core = link.core;
    let head = &link.buffer.filled()[..head_len];
    let request = &scratch.request;
    // The id and the trace begin with one number, so that either finds the other.
    let random = core.random.borrow_mut().u128(..);
    scratch.id.assign(request, head, random);
    let origin = Origin::of(link.peer.address.ip(), &listener.params.trusted_proxies, request, head);
    account.trace = spans::begin(core, request, head, origin.trusted, random, account.started);
    let routed = route(core.id, listener, request, head);
    let _under_way = routed.as_ref().ok().map(|(route, _)| route.state.begin(core.id));
    scratch.added.clear();
    let body_max = listener.params.body_bytes_max;
    let too_large =
        matches!(request.framing, http1::Framing::Length(length) if body_max.is_some_and(|max| length > max));
    let on_stream = matches!(link.source, ClientSource::Stream(_));
    let mut body = RequestBody::new(request, head_len, body_max, on_stream);
    // Places under limits are given back when the request has ended.
    let (mut mirrored, mut held, places) = (None, Vec::new(), Places::default());
    let acted = match routed {
        Err((code, message)) => Err((None, Outcome::Own(code, message))),
        Ok((route, path)) => {
            let Scratch { request, added, granted, target, id, .. } = &mut *scratch;
            let asked = &Asked { core: core.id, request, head, path: &path };
            let (started, trace) = (account.started, (account.trace, random));
            let act = Act { link, local, listener, route, asked, origin, id, started, trace, too_large };
            match act.run(Room { target, granted, added, held: &mut held }).await {
                Ok(Goes::On(chosen, rewritten)) => Ok((route, chosen, rewritten)),
                Ok(Goes::File(serving)) => Err((Some(route), Outcome::File(serving))),
                Err(prepared) => Err((Some(route), Outcome::Prepared(prepared))),
            }
        }
    };
    let (route, outcome) = match acted {
        Err((route, outcome)) => (route, outcome),
        Ok((route, chosen, rewritten)) => {
            let request = &scratch.request;
            account.service = Some(chosen);
            // An upgrade is no request that could be sent twice. Traces are sampled by the lower half of the number.
            let mirror = route.mirror.as_ref().filter(|mirror| !request.upgrade && mirror.takes((random >> 64) as u64));
            let keep = mirror.map_or(0, |mirror| mirror.body_bytes_max);
            mirrored = mirror.is_some().then_some(Mirrored { rewritten, bytes_max: keep, origin, head_len, random });
            let service = local.service(chosen);
            let (key, sticky) = (hash_key(service, request, head, origin), sticky_id(service, request, head));
            let wish = route.compress.as_deref().and_then(|compress| compress.wish(request, head, &route.state));
            let terms = Terms { wish, ..Terms::of(route) };
            let held = Some(places.keep(std::mem::take(&mut held)));
            let mut call =
                Call { listener, service, origin, head_len, rewritten, key, sticky, trace: random, keep, held, terms };
            let parts = Parts { link, scratch, body: &mut body, account };
            (Some(route), cache::or_service(parts, local, &mut call, (listener, route, chosen)).await)
        }
    };
    let next = conclude(link, scratch, account, (&body, head_len), route, outcome).await;
    account.body_received = body.received;
    let service = account.service.map(|index| local.service(index).view.state.name.as_str());
    close(account, link, scratch, (listener, route, service), (origin, head_len));
    if let (Some(mirrored), Some(route)) = (mirrored, route) {
        mirror::copy(link, scratch, local, (route, listener.router.position(route)), &body, &mirrored);
    }
    body.finish(&mut link.buffer);
    next
}

/// Counts and logs a request that has ended.
pub(crate) fn close(
    account: &Account,
    link: &Link<'_>,
    scratch: &Scratch,
    (listener, route, service): (&ListenerView, Option<&Route>, Option<&str>),
    (origin, head_len): (Origin, usize),
) {
    let head = &link.buffer.filled()[..head_len];
    let subject = Subject {
        listener: &listener.state,
        route,
        service,
        client: origin.client,
        method: &scratch.request.method,
        host: scratch.request.host.of_buf(head),
        path: scratch.request.target.as_origin_form(head, &scratch.request.method),
        request: Some((&scratch.request, head)),
        on_stream: matches!(link.source, ClientSource::Stream(_)),
        tls: link.peer.tls,
        request_id: scratch.id.as_bytes(),
        head_len,
    };
    account.close(link.core, &subject);
}

/// What the client is told of a request that cannot be routed.
type Unrouted = (ErrorCode, &'static str);

/// The route of a request and its path in normal form, or what its client is told.
fn route<'v, 'h>(
    core: usize,
    listener: &'v ListenerView,
    request: &Request,
    head: &'h [u8],
) -> Result<(&'v Route, Cow<'h, [u8]>), Unrouted> {
    // `OPTIONS *` asks about the server as a whole, which the route for everything stands for.
    let target = match request.target.as_origin_form(head, &request.method) {
        b"*" => b"/",
        target => target,
    };
    let path = router::normal_path(target)
        .ok_or((ErrorCode::BadRequest, "the path has a broken escape or climbs above the root"))?;
    let found = listener.router.find(&Asked { core, request, head, path: &path });
    let index = found.ok_or((ErrorCode::NoRoute, reply::message(ErrorCode::NoRoute)))?;
    Ok((&listener.router.routes()[index], path))
}

/// The hash of what the service hashes by; 0 for algorithms that do not hash.
pub(crate) fn hash_key(service: &LocalService, request: &Request, head: &[u8], origin: Origin) -> u64 {
    if !matches!(service.view.params.balance, balance::Algorithm::Ring | balance::Algorithm::Maglev) {
        return 0;
    }
    hash_of(&service.view.params.hash_key, request, head, origin)
}

/// Id of the endpoint that a client's cookie names, if the service has cookies for that.
pub(crate) fn sticky_id(service: &LocalService, request: &Request, head: &[u8]) -> Option<u64> {
    let sticky = service.view.params.sticky.as_ref()?;
    head::sticky_id(head::cookie(request, head, &sticky.cookie)?)
}

/// The hash of a part of a request, or of its client's address where it lacks that part.
pub(crate) fn hash_of(key: &HashKey, request: &Request, head: &[u8], origin: Origin) -> u64 {
    let value = match key {
        HashKey::ClientIp => None,
        HashKey::Path => request.target.as_origin_form(head, &request.method).split(|&b| b == b'?').next(),
        HashKey::Header(name) => request.fields.named(head, name.as_bytes()).next(),
        HashKey::Cookie(name) => head::cookie(request, head, name),
    };
    value.map_or_else(|| head::address_key(origin.client), balance::hash::bytes)
}

/// Answers what was not answered yet, and decides what becomes of the connection.
async fn conclude(
    link: &mut Link<'_>,
    scratch: &mut Scratch,
    account: &mut Account,
    (body, head_len): (&RequestBody, usize),
    route: Option<&Route>,
    outcome: Outcome,
) -> Next {
    let prepared = match outcome {
        Outcome::Answered { keep_alive } => {
            return match (keep_alive, body.is_complete()) {
                (true, true) => Next::KeepAlive,
                (false, true) => Next::Close,
                (_, false) => Next::Linger,
            };
        }
        Outcome::Broken => return Next::Cut,
        Outcome::Own(code, message) => Box::new(Prepared::error(code, message)),
        Outcome::Unserved(code, refusal) => Box::new(fallback::refused(code, refusal)),
        Outcome::Prepared(prepared) => prepared,
        Outcome::File(serving) => {
            let keep_alive = scratch.request.keep_alive && body.is_complete() && !link.state.closing.get();
            let sent = Box::pin(files::send(link, scratch, account, (&*serving, route), keep_alive)).await;
            return if sent { after(keep_alive, body) } else { Next::Cut };
        }
    };
    // A client whose request broke the grammar is not trusted with where the next one begins.
    let sound = prepared.error.is_none_or(|(code, _)| code != ErrorCode::BadRequest);
    let keep_alive = sound && scratch.request.keep_alive && body.is_complete() && !link.state.closing.get();
    let route = route.map(|route| route.state.name.as_str());
    let head = &link.buffer.filled()[..head_len];
    let on_stream = matches!(link.source, ClientSource::Stream(_));
    let in_grpc = match prepared.error {
        Some((code, message)) => Some((grpc::status_of(code), message)),
        None => prepared.refusal.then(|| (grpc::refusal_of(prepared.status), "access was refused")),
    };
    match in_grpc.filter(|_| on_stream && grpc::is_call(&scratch.request, head)) {
        Some(status) => grpc::write_reply(&mut scratch.to_client, status, &scratch.added, &scratch.id),
        None => {
            let reply = Reply { answer: &prepared, added: &scratch.added, route, id: &scratch.id, keep_alive };
            reply::write_reply(&mut scratch.to_client, &scratch.request.method, scratch.request.version, &reply);
        }
    }
    answer(link, scratch, account, &prepared).await;
    if account.status.is_some() { after(keep_alive, body) } else { Next::Cut }
}

/// What becomes of the connection after an answer of the gateway's own.
fn after(keep_alive: bool, body: &RequestBody) -> Next {
    match keep_alive {
        true => Next::KeepAlive,
        false if body.is_complete() => Next::Close,
        false => Next::Linger,
    }
}
