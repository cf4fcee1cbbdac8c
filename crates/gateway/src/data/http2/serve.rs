//! A client's connection of HTTP/2: its streams are exchanges, each a task of its own.
//!
//! The `h2` crate bounds what a client can have it keep: heads, windows, streams at once, resets that nobody has seen,
//! frames without content. What it cannot know is bounded here. A stream that its client has reset may still have a
//! task that is ending, so tasks are counted, and when there are twice as many as streams may be open, no further
//! stream is taken. And a client that resets its streams faster than anybody would change their mind is cut.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use net::{Deadline, Expired, Stream};
use telemetry::RefusedReason;

use super::flow::{Inflow, Responder};
use super::head;
use super::metered::{Meter, Metered};
use super::worker;
use crate::data::connection::{LINGER_BYTES_MAX, LINGER_TIME, Link, Next, Peer};
use crate::data::core::{ConnectionState, Core};
use crate::data::ends::{ClientSink, ClientSource};
use crate::data::exchange;
use crate::params::Http2Params;

/// Bytes of a request's body that a client may send before they are taken, and of all bodies of a connection.
const WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Most bytes of an answer that wait for the connection.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Streams that a client may reset within [`RESETS_WINDOW`]. Browsers reset all that they have open when a page is
/// left, which is some dozens.
const RESETS_MAX: u32 = 200;
const RESETS_WINDOW: Duration = Duration::from_secs(1);

/// A connection, as its streams see it.
struct Shared {
    core: Rc<Core>,
    state: Rc<ConnectionState>,
    peer: Peer,
    meter: Rc<Meter>,
    /// Most bytes of a head.
    head_bytes_max: usize,
    /// Tasks of streams.
    open: Cell<usize>,
    /// Resets by the client since when.
    resets: Cell<(u32, Instant)>,
    /// Wakes the connection's task, where it takes no further streams until one has ended.
    waker: RefCell<Option<std::task::Waker>>,
    /// Whether the client was told that no further streams are taken.
    ending: Cell<bool>,
}

/// Serves a connection until it ends. `early` is what was read of it before it turned out to be HTTP/2.
pub(crate) async fn run(core: &Rc<Core>, state: &Rc<ConnectionState>, stream: Stream, early: Vec<u8>, peer: Peer) {
    let Some((http2, head_bytes_max, head_timeout)) = settings(core, state) else { return };
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(http2.streams_max.get())
        .max_header_list_size(head_bytes_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_connect_protocol();
    state.deadline.set(Instant::now() + head_timeout);
    let meter = Rc::new(Meter::default());
    let handshake = builder.handshake::<_, Bytes>(Metered::new(early, stream, Rc::clone(&meter)));
    let Ok(Ok(connection)) = state.deadline.guard(handshake).await else { return };
    let shared = Rc::new(Shared {
        core: Rc::clone(core),
        state: Rc::clone(state),
        peer,
        meter,
        head_bytes_max: head_bytes_max as usize,
        open: Cell::new(0),
        resets: Cell::new((0, Instant::now())),
        waker: RefCell::default(),
        ending: Cell::new(false),
    });
    state.multiplexed.set(true);
    let tasks_max = 2 * http2.streams_max.get() as usize;
    Driver { connection, shared, tasks_max }.run().await;
}

fn settings(core: &Core, state: &ConnectionState) -> Option<(Http2Params, u32, Duration)> {
    let local = core.local();
    let params = &local.listener(&state.listener)?.params;
    Some((params.http2?, params.head_bytes_max.get(), params.head_timeout))
}

/// The task of a connection.
struct Driver {
    connection: Connection<Metered, Bytes>,
    shared: Rc<Shared>,
    tasks_max: usize,
}

/// What becomes of a connection.
enum Event {
    /// Nothing comes any more.
    Ended,
    /// Nothing has happened for too long, or the listener is to end.
    Due,
    /// The client resets too much.
    Abuse,
}

impl Driver {
    async fn run(mut self) {
        self.shared.rest();
        loop {
            let event = poll_fn(|cx| self.poll(cx)).await;
            match event {
                Event::Ended => return,
                Event::Due if self.shared.ending.get() => return,
                Event::Due => {
                    self.shared.ending.set(true);
                    self.connection.graceful_shutdown();
                    // Streams that are open end in their own time; a client that has none, and does not go, is left.
                    self.shared.rest();
                }
                Event::Abuse => {
                    self.shared.note_abuse();
                    self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    self.shared.state.deadline.set(Instant::now() + LINGER_TIME);
                    let farewell = poll_fn(|cx| self.connection.poll_closed(cx));
                    let _closed_or_left = self.shared.state.deadline.guard(farewell).await;
                    return;
                }
            }
        }
    }

    /// Takes the streams that come, until something else happens.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let shared = &self.shared;
        loop {
            if shared.is_abused() {
                return Poll::Ready(Event::Abuse);
            }
            let full = shared.open.get() >= self.tasks_max;
            if full || shared.resets.get().0 == RESETS_MAX {
                *shared.waker.borrow_mut() = Some(cx.waker().clone());
            }
            // With as many streams as there may be, the connection is kept going and none is taken.
            let next = if full {
                self.connection.poll_closed(cx).map(|closed| closed.err().map(Err))
            } else {
                self.connection.poll_accept(cx)
            };
            match next {
                Poll::Ready(Some(Ok((request, respond)))) => shared.serve(request, respond),
                Poll::Ready(None) => return Poll::Ready(Event::Ended),
                Poll::Ready(Some(Err(error))) => {
                    // What the codec itself holds for abuse, or the meter.
                    if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) || shared.meter.is_spent() {
                        shared.note_abuse();
                    }
                    return Poll::Ready(Event::Ended);
                }
                Poll::Pending => break,
            }
        }
        shared.state.deadline.poll_expired(cx).map(|Expired| Event::Due)
    }
}

impl Shared {
    /// Nothing is under way on the connection, if that is so: its time runs.
    fn rest(&self) {
        let state = &self.state;
        if self.open.get() > 0 {
            state.deadline.clear();
            return;
        }
        state.idle.set(true);
        let local = self.core.local();
        let time = match local.listener(&state.listener) {
            // What was sent may still be on its way.
            Some(view) if self.ending.get() => view.params.write_timeout,
            Some(view) if !state.closing.get() => view.params.idle_timeout,
            _ => Duration::from_millis(1),
        };
        state.deadline.set(Instant::now() + time);
    }

    /// Begins an exchange.
    fn serve(self: &Rc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.open.set(self.open.get() + 1);
        self.meter.credit(self.head_bytes_max);
        self.state.idle.set(false);
        if !self.state.closing.get() {
            self.state.deadline.clear();
        }
        let job = Job { open: Open(Rc::clone(self)), request, respond };
        worker::give(&self.core, job);
    }

    /// Notes that the client has reset a stream.
    fn note_reset(&self) {
        let (count, since) = self.resets.get();
        let now = Instant::now();
        let in_window = now.saturating_duration_since(since) < RESETS_WINDOW;
        self.resets.set(if in_window { (count + 1, since) } else { (1, now) });
        if self.is_abused()
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn note_abuse(&self) {
        self.state.listener.metrics.refused(self.core.id, RefusedReason::Http2Abuse);
    }

    fn is_abused(&self) -> bool {
        self.resets.get().0 > RESETS_MAX
    }
}

/// A stream's share in its connection.
pub(super) struct Open(Rc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.open.set(shared.open.get() - 1);
        if shared.open.get() == 0 {
            shared.rest();
        }
        if let Some(waker) = shared.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A stream that is to be served.
pub(super) struct Job {
    open: Open,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

impl Job {
    /// Serves the request of a stream.
    pub(super) async fn run(self) {
        let Self { open, request, respond } = self;
        let Shared { core, state, peer, .. } = &*open.0;
        let (parts, body) = request.into_parts();
        let mut scratch = core.take_scratch();
        let random = core.random.borrow_mut().u128(..);
        let written = head::write_request(&mut scratch.to_upstream, &parts, body.is_end_stream(), random);
        drop(parts);
        let mut buffer = core.heads.take();
        buffer.extend(&scratch.to_upstream);
        let deadline = core.deadlines.register();
        let (source, sink) = (
            ClientSource::Stream(Inflow::new(body, Some(Rc::clone(&open.0.meter)))),
            ClientSink::Stream(Responder::new(respond)),
        );
        let mut link = Link { core, state, source, sink, deadline: &deadline, buffer, peer: *peer, fresh: false };
        let next = match written {
            Ok(()) => exchange::run(&mut link, &mut scratch).await,
            Err(message) => exchange::refuse_malformed(&mut link, &mut scratch, message).await,
        };
        if let (ClientSource::Stream(flow), ClientSink::Stream(responder)) = (&link.source, &mut link.sink) {
            if responder.was_reset() {
                open.0.note_reset();
            }
            if flow.is_malformed() {
                responder.reset_for(Reason::PROTOCOL_ERROR);
            }
        }
        if let (Next::Linger, ClientSource::Stream(flow)) = (next, &mut link.source) {
            linger(flow, &deadline).await;
        }
        drop(link);
        core.keep_scratch(scratch);
    }
}

/// Takes what comes of a body that nobody wants, for a while: a client that is still sending when its stream ends may take
/// that for an error, and not look at the answer that it has got.
async fn linger(flow: &mut Inflow, deadline: &Deadline) {
    deadline.set(Instant::now() + LINGER_TIME);
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match deadline.guard(poll_fn(|cx| flow.poll_bytes(cx))).await {
            Ok(Ok(Some(bytes))) => left = left.saturating_sub(bytes.len()),
            Ok(Ok(None) | Err(_)) | Err(Expired) => return,
        }
    }
}
