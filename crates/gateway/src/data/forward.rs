//! Forwarding a request: picking endpoints and trying them until one has answered.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use balance::Request as Pick;
use http1::Framing;
use net::Deadline;
use telemetry::{FailureKind, Limit};
use vocab::ErrorCode;

use super::account::Account;
use super::admission;
use super::attempt::{Attempt, Unpicked};
use super::body::RequestBody;
use super::connection::{Link, Peer};
use super::converse::{self, Ended};
use super::core::Core;
use super::ends::{ClientSource, EndpointSink, EndpointSource};
use super::exchange::Call;
use super::grpc;
use super::head::{self, Outbound};
use super::http2;
use super::http2::flow::{Answer, Outflow};
use super::http2::pool::{self, SendError};
use super::io::Wait;
use super::leave::{Place, Refusal};
use super::local::LocalService;
use super::reply;
use super::retry::{Failure, Retries, Verdict};
use super::scratch::Scratch;
use super::spans;
use super::tunnel::{Tunnel, Way};
use super::upstream::{How, NoConnection, Upstream};
use crate::action::Prepared;
use crate::files::Serving;
use crate::forwarded::Hop;
use crate::params::Protocol;
use crate::shed::Pass;

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A response went to the client, to its end.
    Answered {
        /// Whether the connection may go on.
        keep_alive: bool,
    },
    /// The response broke off, or the client has gone.
    Broken,
    /// The service was not asked for it.
    Unserved(ErrorCode, Refusal),
    /// The gateway is to answer by itself.
    Own(ErrorCode, &'static str),
    /// The route answers by itself.
    Prepared(Box<Prepared>),
    /// The route answers with a file.
    File(Box<Serving>),
}

/// How one try ended.
pub(crate) enum Tried {
    Done(Outcome),
    Failed(Failure),
    /// The response's status is to be retried after a pause; nothing of it was passed on.
    Held(Duration),
}

/// What a request is made of, while it is forwarded.
pub(crate) struct Parts<'p, 's> {
    pub(crate) link: &'p mut Link<'s>,
    pub(crate) scratch: &'p mut Scratch,
    pub(crate) body: &'p mut RequestBody,
    pub(crate) account: &'p mut Account,
}

impl<'s> Parts<'_, 's> {
    /// The same parts, for another time.
    pub(crate) fn again(&mut self) -> Parts<'_, 's> {
        Parts { link: self.link, scratch: self.scratch, body: self.body, account: self.account }
    }
}

/// Forwards a request.
pub(crate) async fn run(mut parts: Parts<'_, '_>, call: &Call<'_>) -> Outcome {
    let core = Rc::clone(parts.link.core);
    let service = call.service;
    service.view.state.requests.core(core.id).increment();
    let state = &service.view.state;
    let Some(_place) = Place::take(&state.requests_open.0, service.view.params.limits.requests_max) else {
        state.metrics.limited(core.id, Limit::Requests);
        return Outcome::Unserved(ErrorCode::Overloaded, Refusal(None));
    };
    let mut retries = Retries::new(&core, service, parts.scratch.request.method.is_idempotent());
    parts.body.keep_up_to(retries.body_bytes_max().max(call.keep));
    let (overall, whole) = due(&parts, call);
    let mut started = (parts.account.tries == 0).then_some(parts.account.started);
    let pass = match &service.view.shedding {
        None => None,
        Some(gate) => match admission::ask(&parts, call, gate) {
            Ok(pass) => pass,
            // Apart, so that requests that need not wait do not carry the memory of it.
            Err(class) => match Box::pin(admission::wait(&mut parts, call, (gate, class), overall)).await {
                Ok(pass) => {
                    started = None;
                    Some(pass)
                }
                Err(outcome) => return outcome,
            },
        },
    };
    parts.scratch.tried.clear();
    let mut renewed = None;
    loop {
        let begun = started.take().unwrap_or_else(Instant::now);
        let fresh = renewed.is_some();
        let attempt = match renewed.take() {
            Some(attempt) => Ok(attempt),
            None => {
                let pick = Pick { key: call.key, tried: &parts.scratch.tried };
                Attempt::pick(&core, service, pick, call.sticky, begun)
            }
        };
        let mut attempt = match attempt {
            Ok(attempt) => attempt,
            Err(why) => return unserved(&core, service, why),
        };
        attempt.given = whole.filter(|_| matches!(parts.link.source, ClientSource::Stream(_)));
        parts.account.tries += 1;
        parts.account.upstream = Some(attempt.endpoint().state.address);
        let span = spans::begin_try(&core, parts.account);
        let one = Try { core: &core, call, pass: pass.as_ref(), fresh, begun, overall, whole, span };
        let tried = one.run(&mut parts, &mut attempt, &mut retries).await;
        if let Some(span) = span {
            spans::end_try(&core, call, &parts, &attempt, (span, begun), &tried);
        }
        one.tell_of_overload(&tried);
        let pause = match tried {
            Tried::Done(outcome) => return outcome,
            Tried::Held(pause) => pause,
            Tried::Failed(failure) => match retries.after_failure(&failure, overall, parts.body.is_replayable()) {
                Verdict::GiveUp => return own(failure.code),
                Verdict::Renew => {
                    renewed = Some(attempt.renewed());
                    continue;
                }
                Verdict::Retry(pause) => pause,
            },
        };
        parts.scratch.tried.push(attempt.index);
        drop(attempt);
        pause_for(&parts.scratch.deadline, pause).await;
    }
}

/// When a request is out of time that has no answer yet, and when even in the middle of its answer.
fn due(parts: &Parts<'_, '_>, call: &Call<'_>) -> (Option<Instant>, Option<Instant>) {
    let (request, head) = (&parts.scratch.request, &parts.link.buffer.filled()[..call.head_len]);
    let asked = match &parts.link.source {
        ClientSource::Stream(_) if grpc::is_call(request, head) => grpc::timeout(request, head),
        ClientSource::Stream(_) => None,
        ClientSource::Wire(_) | ClientSource::Whole => call.terms.whole,
    };
    let at = |timeout| parts.account.started + timeout;
    (call.terms.timeout.into_iter().chain(asked).min().map(at), asked.map(at))
}

/// Nobody could be asked.
fn unserved(core: &Core, service: &LocalService, why: Unpicked) -> Outcome {
    let refusal = match why {
        Unpicked::Nobody => Refusal(None),
        Unpicked::Refused(refusal) => refusal,
    };
    Outcome::Unserved(why.count(core, &service.view.state), refusal)
}

fn own(code: ErrorCode) -> Outcome {
    Outcome::Own(code, reply::message(code))
}

/// Waits before another try.
pub(crate) async fn pause_for(deadline: &Deadline, pause: Duration) {
    if !pause.is_zero() {
        deadline.set(Instant::now() + pause);
        let _passed = deadline.guard(std::future::pending::<()>()).await;
    }
}

/// One try.
pub(crate) struct Try<'t> {
    pub(crate) core: &'t Rc<Core>,
    pub(crate) call: &'t Call<'t>,
    /// Its place, where the service sheds load.
    pub(crate) pass: Option<&'t Pass<'t>>,
    /// Whether a kept connection will not do.
    fresh: bool,
    /// When it began.
    pub(crate) begun: Instant,
    /// When the request is out of time that has no answer yet.
    overall: Option<Instant>,
    /// When it is out of time even in the middle of its answer.
    pub(crate) whole: Option<Instant>,
    /// Its span, if the request tells its part of a trace.
    span: Option<u64>,
}

impl Try<'_> {
    /// When something that may take `time` from now on is out of time.
    pub(crate) fn due(&self, now: Instant, time: Duration) -> Instant {
        self.overall.map_or(now + time, |overall| overall.min(now + time))
    }

    /// Whether the request is out of time.
    pub(crate) fn is_late(&self) -> bool {
        self.overall.is_some_and(|overall| overall <= Instant::now())
    }

    async fn run(&self, parts: &mut Parts<'_, '_>, attempt: &mut Attempt<'_>, retries: &mut Retries<'_>) -> Tried {
        match self.call.service.view.params.protocol {
            Protocol::Http1 => self.over_wire(parts, attempt, retries).await,
            Protocol::Http2 => self.over_stream(parts, attempt, retries).await,
        }
    }

    /// How a connection is to be had.
    fn how(&self, index: u16, peer: Peer) -> How<'_> {
        let view = &self.call.service.view;
        let tls = view.params.tls.as_ref().zip(view.endpoints[usize::from(index)].name.as_ref());
        let announced = view.params.send_proxy.map(|version| (version, peer.addresses()));
        How { pool: &view.params.pool, tls, fresh: self.fresh, through: false, announced }
    }

    async fn over_wire(
        &self,
        parts: &mut Parts<'_, '_>,
        attempt: &mut Attempt<'_>,
        retries: &mut Retries<'_>,
    ) -> Tried {
        let params = &self.call.service.view.params;
        let begun = self.begun;
        let endpoint = attempt.endpoint();
        let wait = Wait::until(&parts.scratch.deadline, self.due(begun, params.connect_timeout));
        let mut upstream =
            match Upstream::to(endpoint, self.core.id, self.how(attempt.index, parts.link.peer), begun, wait).await {
                Ok(upstream) => upstream,
                Err(error) => return Tried::Failed(unconnected(&error, attempt, begun)),
            };
        if !upstream.reused
            && let Some(outcome) = self.unwanted(parts, true)
        {
            upstream.keep(endpoint, self.core.id, &params.pool, Instant::now());
            return Tried::Done(outcome);
        }
        self.write_head(parts, attempt.index);
        let reused = upstream.reused;
        let (reader, writer) = upstream.stream_mut().split();
        let (mut source, mut sink) = (EndpointSource::Wire(reader), EndpointSink::Wire(writer));
        let mut buffer = self.core.heads.take();
        let ends = (&mut source, &mut buffer, &mut sink);
        let ended = converse::run(self, parts, attempt, retries, ends).await;
        match ended {
            Ended::Tried(tried) => tried,
            Ended::Failed { kind, code, any, seen } => {
                Tried::Failed(self.failed(attempt, kind, code, reused && !any, seen))
            }
            Ended::Answered { keep_alive, reusable, answered } => {
                // A connection that was announced as one client's is no other's.
                if reusable && buffer.is_empty() && params.send_proxy.is_none() {
                    upstream.keep(endpoint, self.core.id, &params.pool, answered);
                }
                Tried::Done(Outcome::Answered { keep_alive })
            }
            Ended::Switched => {
                self.tunnel(parts, (source, sink), buffer.filled()).await;
                Tried::Done(Outcome::Broken)
            }
        }
    }

    async fn over_stream(
        &self,
        parts: &mut Parts<'_, '_>,
        attempt: &mut Attempt<'_>,
        retries: &mut Retries<'_>,
    ) -> Tried {
        let params = &self.call.service.view.params;
        let begun = self.begun;
        let endpoint = attempt.endpoint();
        let wait = Wait::until(&parts.scratch.deadline, self.due(begun, params.connect_timeout));
        let how = self.how(attempt.index, parts.link.peer);
        let lease = match pool::lease(endpoint, self.core.id, how, params.head_bytes_max.get(), wait).await {
            Ok(lease) => lease,
            Err(error) => return Tried::Failed(unconnected(&error, attempt, begun)),
        };
        if let Some(outcome) = self.unwanted(parts, !lease.reused) {
            return Tried::Done(outcome);
        }
        self.write_head(parts, attempt.index);
        let wants_trailers = parts.scratch.request.fields.all(http1::FieldId::Te).next().is_some();
        let scheme = if how.tls.is_some() { "https" } else { "http" };
        let Ok(request) = http2::head::read_request(&parts.scratch.to_upstream, scheme, wants_trailers) else {
            let (code, message) = (ErrorCode::BadRequest, "the request cannot be sent over HTTP/2");
            return Tried::Done(Outcome::Own(code, message));
        };
        parts.scratch.to_upstream.clear();
        let wait = Wait::until(&parts.scratch.deadline, self.due(begun, params.connect_timeout));
        let (head, body) = match lease.send(request, parts.body.absent, wait).await {
            Ok(sent) => sent,
            Err(SendError::TimedOut) => {
                let (kind, code) = (FailureKind::ConnectTimeout, ErrorCode::UpstreamConnectTimeout);
                return Tried::Failed(self.failed(attempt, kind, code, false, false));
            }
            Err(SendError::Closed) => {
                let (kind, code) = (FailureKind::Closed, ErrorCode::UpstreamClosed);
                return Tried::Failed(self.failed(attempt, kind, code, lease.reused, false));
            }
        };
        let (mut source, mut sink) =
            (EndpointSource::Stream(Answer::new(head)), EndpointSink::Stream(Outflow::new(body)));
        let mut buffer = self.core.heads.take();
        let ends = (&mut source, &mut buffer, &mut sink);
        match converse::run(self, parts, attempt, retries, ends).await {
            Ended::Tried(tried) => tried,
            Ended::Failed { kind, code, any, seen } => {
                if kind == FailureKind::Timeout && attempt.given.is_none_or(|given| Instant::now() < given) {
                    lease.condemn();
                }
                Tried::Failed(self.failed(attempt, kind, code, lease.reused && !any, seen))
            }
            Ended::Answered { keep_alive, .. } => Tried::Done(Outcome::Answered { keep_alive }),
            // No answer on a stream is `101`.
            Ended::Switched => Tried::Done(Outcome::Broken),
        }
    }

    /// An endpoint that does not answer in time has too much to do, as far as anybody knows. The time that a client gives
    /// says nothing: one who gives a millisecond would make any service look overloaded.
    fn tell_of_overload(&self, tried: &Tried) {
        if let (Some(pass), Tried::Failed(failure)) = (self.pass, tried)
            && matches!(failure.code, ErrorCode::UpstreamTimeout | ErrorCode::UpstreamConnectTimeout)
        {
            let now = Instant::now();
            if self.whole.is_none_or(|whole| now < whole) {
                pass.dropped(now);
            }
        }
    }

    /// How the exchange ends if nobody wants the answer any more, now that there is a connection to ask on: its client
    /// has gone, or its time is over. `waited` tells that the connection was not there before.
    ///
    /// A client of HTTP/1.1 that has ended its sending side may still read, so only a broken connection says that it has
    /// gone.
    fn unwanted(&self, parts: &mut Parts<'_, '_>, waited: bool) -> Option<Outcome> {
        let mut cx = Context::from_waker(Waker::noop());
        let gone = match &parts.link.source {
            ClientSource::Wire(reader) => waited && reader.is_broken(),
            ClientSource::Stream(_) => parts.link.sink.is_gone(&mut cx),
            ClientSource::Whole => false,
        };
        if gone {
            return Some(Outcome::Broken);
        }
        let late = waited && self.overall.is_some_and(|overall| overall <= Instant::now());
        late.then(|| own(ErrorCode::UpstreamTimeout))
    }

    /// What it means that an endpoint failed. `may_be_stale` tells that the connection was kept from before and nothing
    /// came: that it has ended says nothing about the endpoint.
    fn failed(
        &self,
        attempt: &mut Attempt<'_>,
        kind: FailureKind,
        code: ErrorCode,
        may_be_stale: bool,
        seen: bool,
    ) -> Failure {
        let stale = may_be_stale && kind == FailureKind::Closed;
        if !stale {
            attempt.failed(kind, self.begun);
        }
        Failure { code, sent: seen, stale }
    }

    async fn tunnel(&self, parts: &mut Parts<'_, '_>, upstream: (EndpointSource<'_>, EndpointSink<'_>), early: &[u8]) {
        let Parts { link, scratch, body, account } = parts;
        let (EndpointSource::Wire(mut reader), EndpointSink::Wire(mut writer)) = upstream else { return };
        let early = (&link.buffer.filled()[self.call.head_len..], early);
        let idle = self.call.listener.params.idle_timeout.max(self.call.body_pause());
        let client = (&mut link.source, &mut link.sink);
        let upstream = (&mut reader, &mut writer);
        let core = self.core;
        let tunnel = Tunnel { buffers: &core.bodies, pipes: &core.pipes, deadline: &scratch.deadline, idle };
        let (up, down) = (Cell::new(0), Cell::new(0));
        let moved = |way, count: usize| {
            let counter = if way == Way::Up { &up } else { &down };
            counter.set(counter.get() + count as u64);
        };
        let _however_it_ended = tunnel.run(client, upstream, early, moved).await;
        body.received += up.get();
        account.body_sent += down.get();
    }

    fn write_head(&self, parts: &mut Parts<'_, '_>, index: u16) {
        let Parts { link, scratch, account, .. } = parts;
        let request = &scratch.request;
        let head = &link.buffer.filled()[..self.call.head_len];
        let asked = request.host.of_buf(head);
        let view = &self.call.service.view;
        let keeps_host = view.params.keep_host && !asked.is_empty();
        let actions = self.call.terms.actions;
        let own = if keeps_host { asked } else { view.endpoints[usize::from(index)].host.as_bytes() };
        let with = Outbound {
            target: self.call.rewritten.then_some(&scratch.target),
            edits: actions.map(|actions| &actions.request),
            granted: self.call.terms.granted.map(|names| (names, scratch.granted.as_slice())),
            conditions: self.call.terms.conditions,
            hop: Hop { peer: link.peer, origin: self.call.origin, host: asked },
            host: actions.and_then(|actions| actions.host.as_deref()).unwrap_or(own),
            id: &scratch.id,
            trace: (self.call.trace, self.core.random.borrow_mut().u64(..)),
            traceparent: account.trace.zip(self.span).map(|(trace, span)| trace.traceparent(span)),
            upgrade: may_upgrade(request, head),
        };
        head::write_request(&mut scratch.to_upstream, request, head, &with);
    }
}

/// What it means that there is no connection to the endpoint.
fn unconnected(error: &NoConnection, attempt: &mut Attempt<'_>, begun: Instant) -> Failure {
    Failure { code: attempt.unconnected(error, begun), sent: false, stale: false }
}

/// Whether a request may change protocols. One with a body may not, because where the body ends and the new protocol
/// begins would be read by two parties; and cleartext HTTP/2 may not, because it would pass by everything that is
/// checked here.
pub(crate) fn may_upgrade(request: &http1::Request, head: &[u8]) -> bool {
    request.upgrade
        && request.framing == Framing::Empty
        && !request.fields.all(http1::FieldId::Upgrade).any(|field| {
            let mut protocols = field.value.of_buf(head).split(|&b| b == b',').map(<[u8]>::trim_ascii);
            protocols.any(|protocol| protocol.len() >= 3 && protocol[..3].eq_ignore_ascii_case(b"h2c"))
        })
}
