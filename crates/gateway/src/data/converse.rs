//! The conversation with one endpoint: the request goes out while the response is awaited, then the response goes to
//! the client, while what is left of the request's body still goes out.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http1::{Framing, HeadScan, Limits, Request, Response, Version};
use net::{Buffer, Deadline, Reader};
use telemetry::FailureKind;
use vocab::ErrorCode;

use super::account::Account;
use super::attempt::Attempt;
use super::body::{Pump, PumpError};
use super::cache::Watch;
use super::encode;
use super::ends::{ClientSink, EndpointSink, EndpointSource};
use super::exchange::Call;
use super::forward::{Outcome, Parts, Tried, Try, may_upgrade};
use super::grpc;
use super::head::{self, Inbound};
use super::http2::flow::Answer;
use super::http2::pool;
use super::io::Wait;
use super::relay::{Broken, Relay};
use super::retry::{Retries, Verdict};
use super::side::Side;
use crate::forwarded;
use crate::shed;

/// Most interim responses before the final one.
const INTERIM_MAX: u32 = 16;

/// For how long a request whose body is still on its way holds its place where load is shed. Slow clients would otherwise
/// hold all places of a service that has nothing to do.
const UPLOAD_PLACE_TIME: Duration = Duration::from_secs(1);

/// How a conversation ended.
pub(crate) enum Ended {
    /// As something that concerns the connection to the endpoint no further.
    Tried(Tried),
    /// The endpoint failed before its response's head was complete.
    Failed {
        kind: FailureKind,
        code: ErrorCode,
        /// Whether anything of a response had come.
        any: bool,
        /// Whether the endpoint may have looked at the request.
        seen: bool,
    },
    /// The response has gone to the client.
    Answered {
        /// Whether the client's connection may go on.
        keep_alive: bool,
        /// Whether the endpoint's may.
        reusable: bool,
        /// When the response's head had come.
        answered: Instant,
    },
    /// Both sides have changed the protocol.
    Switched,
}

/// Why no head of a response was read.
enum NoHead {
    Closed,
    /// The endpoint says that it has not looked at the request.
    Unseen,
    TimedOut,
    Invalid,
    Client(PumpError),
    /// The client does not take an interim response.
    Gone,
}

/// One conversation.
struct Conversation<'c, 'u, 's> {
    with: &'c Try<'c>,
    request: &'c Request,
    /// The head that the request was read from.
    asked: &'c [u8],
    /// Lines that the request got by leave of another service.
    granted: &'c [u8],
    response: &'c mut Response,
    out: &'c mut Vec<u8>,
    /// Lines of fields that the route adds to the response.
    added: &'c [u8],
    deadline: &'c Deadline,
    source: &'c mut EndpointSource<'u>,
    buffer: &'c mut Buffer,
    client: &'c mut ClientSink<'s>,
    account: &'c mut Account,
    /// When the request had gone out.
    sent: Instant,
    /// Whether the answer came before that.
    is_early: bool,
    /// Whether anything has come back.
    any: bool,
    /// Whether the client has asked for another protocol, and may.
    may_switch: bool,
    /// Whether the client's connection is to end with this exchange.
    closing: &'c Cell<bool>,
    /// Whether a cookie that is set has come by HTTPS.
    secure: bool,
}

/// Talks with an endpoint. The head of the request stands in the scratch.
pub(crate) async fn run(
    with: &Try<'_>,
    parts: &mut Parts<'_, '_>,
    attempt: &mut Attempt<'_>,
    retries: &mut Retries<'_>,
    (source, buffer, sink): (&mut EndpointSource<'_>, &mut Buffer, &mut EndpointSink<'_>),
) -> Ended {
    let params = &with.call.service.view.params;
    let Parts { link, scratch, body, account } = parts;
    let replayable = Cell::new(body.is_replayable());
    let pump = Pump {
        core: with.core,
        early: link.buffer.filled(),
        replayable: &replayable,
        deadline: link.deadline,
        read: with.call.terms.body_timeout.unwrap_or(with.call.listener.params.body_timeout),
        write: params.write_timeout,
        permission: params.response_timeout,
        granted: with.call.terms.granted,
    };
    let pump = pin!(body.pump(pump, &mut link.source, sink, &mut scratch.to_upstream));
    let mut side = Side::new(pump);
    let head = &link.buffer.filled()[..with.call.head_len];
    let mut conversation = Conversation {
        with,
        request: &scratch.request,
        asked: head,
        granted: &scratch.granted,
        response: &mut scratch.response,
        out: &mut scratch.to_client,
        added: &scratch.added,
        deadline: &scratch.deadline,
        source,
        buffer,
        client: &mut link.sink,
        account,
        sent: with.begun,
        is_early: false,
        any: false,
        may_switch: may_upgrade(&scratch.request, head),
        closing: &link.state.closing,
        secure: params.sticky.is_some() && came_by_https(link.peer.tls, with.call, &scratch.request, head),
    };
    let head_len = match conversation.final_head(&mut side).await {
        Ok(head_len) => head_len,
        Err(error) => return conversation.without_head(&error),
    };
    let answered = conversation.judge(attempt, head_len);
    if let Verdict::Retry(pause) = retries.after_status(conversation.response.status, replayable.get()) {
        return Ended::Tried(Tried::Held(pause));
    }
    if let Some(pass) = with.pass {
        pass.give_back();
    }
    conversation.respond(&mut side, head_len, attempt, answered).await
}

impl<'c> Conversation<'c, '_, '_> {
    /// Awaits the final response's head, passing interim ones on: how many bytes of the buffer it has.
    async fn final_head<F>(&mut self, side: &mut Side<'_, F>) -> Result<usize, NoHead>
    where
        F: Future<Output = Result<(), PumpError>>,
    {
        for _ in 0..=INTERIM_MAX {
            let head_len = self.await_head(side).await?;
            let head = &self.buffer.filled()[..head_len];
            let limits = &self.with.call.service.view.limits;
            self.response.parse(head, limits, &self.request.method).map_err(|_| NoHead::Invalid)?;
            if !self.response.is_interim() {
                return Ok(head_len);
            }
            if self.client.takes_interim(self.request.version) {
                head::write_interim(self.out, self.response, head);
                let wait = Wait::after(self.deadline, self.with.call.listener.params.write_timeout);
                let written = side.beside(pin!(self.client.interim(self.out, wait))).await;
                written.map_err(|_| NoHead::Gone)?;
                self.account.head_sent += self.out.len() as u64;
            }
            self.buffer.consume(head_len);
        }
        Err(NoHead::Invalid)
    }

    /// Awaits the end of a head while the request goes out. The endpoint's time runs from when all of it has gone.
    async fn await_head<F>(&mut self, side: &mut Side<'_, F>) -> Result<usize, NoHead>
    where
        F: Future<Output = Result<(), PumpError>>,
    {
        let params = &self.with.call.service.view.params;
        let limits = self.with.call.service.view.limits;
        let mut scan = HeadScan::default();
        let mut sent = side.has_ended().then(Instant::now);
        let unhurried = Duration::from_secs(24 * 3600);
        let (mut armed, mut looked) = (false, false);
        let result = poll_fn(|cx| {
            // A stream that was reset before its turn came is not worth a request.
            let first = !std::mem::replace(&mut looked, true);
            if first && self.client.is_gone(cx) {
                return Poll::Ready(Err(NoHead::Gone));
            }
            if side.poll(cx) {
                sent = Some(Instant::now());
                armed = false;
            }
            if let Some(error) = side.take_client_error() {
                return Poll::Ready(Err(NoHead::Client(error)));
            }
            let head = match self.source {
                EndpointSource::Wire(reader) => poll_head(&mut scan, reader, self.buffer, &limits, cx),
                EndpointSource::Stream(answer) => poll_answer(answer, self.out, self.buffer, &limits, cx),
            };
            if let Poll::Ready(result) = head {
                return Poll::Ready(result);
            }
            if !first && self.client.is_gone(cx) {
                return Poll::Ready(Err(NoHead::Gone));
            }
            loop {
                let uploads = self.with.pass.filter(|pass| sent.is_none() && pass.is_held());
                if !std::mem::replace(&mut armed, true) {
                    let time = match sent {
                        Some(_) => params.response_timeout,
                        None if uploads.is_some() => UPLOAD_PLACE_TIME,
                        None => unhurried,
                    };
                    self.deadline.set(self.with.due(sent.unwrap_or_else(Instant::now), time));
                }
                ready!(self.deadline.poll_expired(cx));
                match uploads {
                    Some(pass) if !self.with.is_late() => pass.give_back(),
                    _ => return Poll::Ready(Err(NoHead::TimedOut)),
                }
                armed = false;
            }
        })
        .await;
        self.is_early = sent.is_none();
        self.sent = sent.unwrap_or(self.sent);
        self.any |= !self.buffer.is_empty();
        result
    }

    fn without_head(&self, error: &NoHead) -> Ended {
        let failed = |kind, code| Ended::Failed { kind, code, any: self.any, seen: true };
        match error {
            NoHead::Unseen => {
                let (kind, code) = (FailureKind::Closed, ErrorCode::UpstreamClosed);
                Ended::Failed { kind, code, any: self.any, seen: false }
            }
            NoHead::Closed => failed(FailureKind::Closed, ErrorCode::UpstreamClosed),
            NoHead::TimedOut => failed(FailureKind::Timeout, ErrorCode::UpstreamTimeout),
            NoHead::Invalid => failed(FailureKind::Invalid, ErrorCode::UpstreamInvalid),
            &NoHead::Client(PumpError::Client(code, message)) => Ended::Tried(Tried::Done(Outcome::Own(code, message))),
            NoHead::Client(_) | NoHead::Gone => Ended::Tried(Tried::Done(Outcome::Broken)),
        }
    }

    /// Tells how the endpoint did, and when. A call of gRPC tells it at its end, so that of one the head is left to be
    /// judged: how long it took.
    fn judge(&mut self, attempt: &mut Attempt<'_>, head_len: usize) -> (Instant, Option<Duration>) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.sent);
        attempt.timed((took, now));
        let mut status = self.response.status;
        if status == 200 && matches!(self.source, EndpointSource::Stream(_)) {
            let head = &self.buffer.filled()[..head_len];
            self.account.grpc_status = grpc::status_of_head(self.response, head);
            match self.account.grpc_status {
                Some(of_call) => status = grpc::as_http(of_call),
                None if grpc::is_answer(self.response, head) => {
                    self.tell_of_load(status, (took, now));
                    return (now, Some(took));
                }
                None => {}
            }
        }
        attempt.answered(status, self.is_failure(status), (took, now));
        self.tell_of_load(status, (took, now));
        (now, None)
    }

    /// Tells what sheds load how long a head took.
    fn tell_of_load(&self, status: u16, (took, now): (Duration, Instant)) {
        // How long an answer took that came before all of the request had gone, is the client's doing.
        if let Some(pass) = self.with.pass.filter(|_| !self.is_early || shed::is_overload(status)) {
            pass.answered(now, took, status);
        }
    }

    /// Tells how an endpoint did whose call has ended, or broke off.
    fn judge_call(&self, attempt: &mut Attempt<'_>, relayed: &Result<(), Broken>, took: Duration) {
        match relayed {
            Ok(()) => {
                let status = grpc::as_http(self.account.grpc_status.unwrap_or(grpc::UNKNOWN.into()));
                let now = Instant::now();
                attempt.answered(status, self.is_failure(status), (took, now));
                if shed::is_overload(status) {
                    self.tell_of_load(status, (took, now));
                }
            }
            Err(Broken::Upstream(_)) => attempt.failed(FailureKind::Closed, self.sent),
            // That the client has gone, or its time is over, says nothing.
            Err(Broken::Client | Broken::Unread | Broken::OutOfTime) => {}
        }
    }

    fn is_failure(&self, status: u16) -> bool {
        let retry = self.with.call.service.view.params.retry.as_ref();
        retry.is_some_and(|retry| retry.on.statuses.contains(&status))
    }

    /// Passes the response on.
    async fn respond<F>(
        &mut self,
        side: &mut Side<'_, F>,
        head_len: usize,
        attempt: &mut Attempt<'_>,
        (answered, unjudged): (Instant, Option<Duration>),
    ) -> Ended
    where
        F: Future<Output = Result<(), PumpError>>,
    {
        let switched = self.response.status == 101;
        if switched && !(self.response.upgrade && self.may_switch) {
            return self.without_head(&NoHead::Invalid);
        }
        let framing = self.response.framing;
        let (core, wish) = (self.with.core, self.with.call.terms.wish.as_ref());
        let (treatment, encoding) = encode::treat(core, wish, (self.response, &self.buffer.filled()[..head_len]));
        let is_framed = matches!(framing, Framing::Chunked | Framing::UntilClose) || encoding.is_some();
        let chunked = self.request.version == Version::Http11;
        // A client that is still sending its body has to hear that the rest is not wanted.
        let keep_alive = self.request.keep_alive && !self.closing.get() && side.is_done() && (chunked || !is_framed);
        let id = attempt.endpoint().state.id;
        let sticky = self.with.call.service.view.params.sticky.as_ref();
        let sticky = sticky.filter(|_| self.with.call.sticky != Some(id)).map(|sticky| (sticky, id, self.secure));
        let edits = self.with.call.terms.actions.map(|actions| &actions.response);
        if let Some(watch) = &self.with.call.terms.watch {
            self.show(watch, head_len, id);
        }
        let (version, encoded) = (self.request.version, encoding.is_some());
        let cached = self.with.call.terms.watch.as_ref().is_some_and(Watch::is_cached);
        let with = Inbound { version, keep_alive, sticky, edits, treatment, encoded, cached, added: self.added };
        head::write_response(self.out, self.response, &self.buffer.filled()[..head_len], &with);
        self.buffer.consume(head_len);
        self.account.status = Some(self.response.status);
        self.account.head_sent += self.out.len() as u64;
        let mut relay = Relay {
            core: self.with.core,
            source: self.source,
            buffer: self.buffer,
            sink: self.client,
            deadline: self.deadline,
            read_pause: self.with.call.body_pause(),
            write_pause: self.with.call.listener.params.write_timeout,
            sent: 0,
            grpc_status: None,
            whole: self.with.whole,
            encoding,
        };
        let relayed = side.beside(pin!(relay.run(self.out, framing, chunked, switched))).await;
        self.account.body_sent += relay.sent;
        self.account.grpc_status = self.account.grpc_status.or(relay.grpc_status);
        drop(relay);
        if let Some(took) = unjudged {
            self.judge_call(attempt, &relayed, took);
        }
        match relayed {
            Ok(()) if switched => Ended::Switched,
            Ok(()) => {
                let reusable = self.response.keep_alive && side.is_done();
                Ended::Answered { keep_alive, reusable, answered }
            }
            Err(broken) => self.broken(&broken, is_framed && !chunked),
        }
    }

    /// Shows the cache the head of the final response.
    fn show(&self, watch: &Watch<'_>, head_len: usize, endpoint: u64) {
        let response = (&*self.response, &self.buffer.filled()[..head_len]);
        let request = (self.request, self.asked);
        let call = self.with.call;
        let granted = call.terms.granted.map(|names| (names, self.granted));
        match watch {
            Watch::Fill(fill) => fill.see(request, granted, response, (&call.service.view.state, endpoint)),
            Watch::Changes(changes) => {
                changes.see(&self.with.core.shared, request, granted, response, &call.service.view.state);
            }
        }
    }

    /// The response broke off. `bare` tells that only the connection's end would tell the client where the body ends.
    fn broken(&mut self, broken: &Broken, bare: bool) -> Ended {
        match broken {
            Broken::Client => {}
            Broken::Unread => self.account.error = Some(ErrorCode::WriteTimeout),
            Broken::OutOfTime => self.account.error = Some(ErrorCode::UpstreamTimeout),
            Broken::Upstream(code) => {
                self.account.error = Some(*code);
                self.client.cut(bare);
            }
        }
        Ended::Tried(Tried::Done(Outcome::Broken))
    }
}

/// Whether the client came by HTTPS, be it to a proxy that is trusted.
fn came_by_https(tls: bool, call: &Call<'_>, request: &Request, head: &[u8]) -> bool {
    tls || call.origin.trusted && forwarded::says_https(request, head)
}

/// Awaits the head of an answer on a stream, and puts it into the empty `buffer`. `out` is room to write it in.
fn poll_answer(
    answer: &mut Answer,
    out: &mut Vec<u8>,
    buffer: &mut Buffer,
    limits: &Limits,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, NoHead>> {
    if let Err(error) = std::task::ready!(answer.poll_head(out, cx)) {
        return Poll::Ready(Err(if pool::is_unseen(&error) { NoHead::Unseen } else { NoHead::Closed }));
    }
    if out.len() > limits.bytes_max {
        return Poll::Ready(Err(NoHead::Invalid));
    }
    buffer.extend(out);
    Poll::Ready(Ok(out.len()))
}

/// Reads until a head is complete: how many bytes of the buffer it has. Nothing may stand before it.
fn poll_head(
    scan: &mut HeadScan,
    reader: &mut Reader<'_>,
    buffer: &mut Buffer,
    limits: &Limits,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, NoHead>> {
    loop {
        if !buffer.is_empty() {
            match scan.advance(buffer.filled(), limits) {
                Ok(Some((0, end))) => return Poll::Ready(Ok(end)),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Poll::Ready(Err(NoHead::Invalid)),
            }
        }
        let held = buffer.filled().len();
        buffer.make_room(held + 1);
        match std::task::ready!(buffer.poll_fill(Pin::new(&mut *reader), usize::MAX, cx)) {
            Ok(0) | Err(_) => return Poll::Ready(Err(NoHead::Closed)),
            Ok(_) => {}
        }
    }
}
