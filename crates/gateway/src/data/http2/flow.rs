//! Bodies over HTTP/2: pieces in and out, each within its window, with a deadline where there is something to wait for.
//!
//! A piece that came in is given back to the window only when the next one is asked for, so that who takes slowly is
//! sent slowly. A piece goes out as far as the other side's window has room.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use net::Buffer;

use super::head;
use super::metered::Meter;
use crate::data::io::{Stalled, Wait};

/// A body that comes in.
#[derive(Debug)]
pub(crate) struct Inflow {
    body: RecvStream,
    /// Bytes handed out and not yet given back to the window.
    unreleased: usize,
    /// Whether something came that no request may hold.
    malformed: bool,
    /// Where the client's connection is metered.
    meter: Option<Rc<Meter>>,
}

/// What came of a body.
#[derive(Debug)]
pub(crate) enum Came {
    /// So many bytes more are in the buffer.
    Data(usize),
    /// The body has ended, with these trailers, as lines.
    End(Vec<u8>),
}

impl Inflow {
    /// The body of a request on a connection that is metered, or of a response.
    pub(crate) fn new(body: RecvStream, meter: Option<Rc<Meter>>) -> Self {
        Self { body, unreleased: 0, malformed: false, meter }
    }

    /// Whether something came that no request may hold, and that only this module looks at.
    pub(crate) fn is_malformed(&self) -> bool {
        self.malformed
    }

    /// Takes the next piece; `None` at the end, whose trailers [`Self::poll_fill`] would tell.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let done = std::mem::take(&mut self.unreleased);
        if done > 0 {
            // A stream that has ended meanwhile has no window to give back to.
            let _ended = self.body.flow_control().release_capacity(done);
        }
        loop {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.unreleased = bytes.len();
                    if let Some(meter) = &self.meter {
                        meter.credit(bytes.len());
                    }
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Takes the next piece into the buffer.
    pub(crate) fn poll_fill(&mut self, buffer: &mut Buffer, cx: &mut Context<'_>) -> Poll<io::Result<Came>> {
        if let Some(bytes) = ready!(self.poll_bytes(cx))? {
            buffer.extend(&bytes);
            return Poll::Ready(Ok(Came::Data(bytes.len())));
        }
        let trailers = ready!(self.body.poll_trailers(cx)).map_err(io::Error::other)?;
        if trailers.as_ref().is_some_and(head::has_outer_space) {
            self.malformed = true;
            return Poll::Ready(Err(io::Error::other("space around a trailer's value")));
        }
        let lines = trailers.map_or_else(Vec::new, |fields| head::trailer_lines(&fields));
        Poll::Ready(Ok(Came::End(lines)))
    }

    /// Takes the next piece, within a time.
    pub(crate) async fn fill(&mut self, buffer: &mut Buffer, wait: Wait<'_>) -> Result<Came, Stalled> {
        wait.until_ready(|cx| self.poll_fill(buffer, cx)).await
    }
}

/// A body that goes out.
#[derive(Debug)]
pub(crate) struct Outflow {
    body: SendStream<Bytes>,
    /// Whether the last piece was sent.
    pub(crate) has_ended: bool,
}

impl Outflow {
    /// A body whose head has gone.
    pub(crate) fn new(body: SendStream<Bytes>) -> Self {
        Self { body, has_ended: false }
    }

    /// Sends a piece, as the window has room, with a deadline or without. `end` tells that it is the last.
    pub(crate) async fn send(&mut self, mut data: &[u8], end: bool, wait: Option<Wait<'_>>) -> Result<(), Stalled> {
        let broken = |error| Stalled::Broken(io::Error::other(error));
        self.has_ended |= end;
        if data.is_empty() {
            return if end { self.body.send_data(Bytes::new(), true).map_err(broken) } else { Ok(()) };
        }
        while !data.is_empty() {
            self.body.reserve_capacity(data.len());
            let room = match (self.body.capacity(), wait) {
                (0, Some(wait)) => wait.until_ready(|cx| self.poll_room(cx)).await?,
                (0, None) => poll_fn(|cx| self.poll_room(cx)).await.map_err(Stalled::Broken)?,
                (room, _) => room,
            };
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.body.send_data(Bytes::copy_from_slice(piece), end && rest.is_empty()).map_err(broken)?;
            data = rest;
        }
        Ok(())
    }

    /// As [`Self::send`], of a piece that others hold as well, which is not copied.
    pub(crate) async fn send_shared(&mut self, mut data: Bytes, end: bool, wait: Wait<'_>) -> Result<(), Stalled> {
        let broken = |error| Stalled::Broken(io::Error::other(error));
        self.has_ended |= end;
        loop {
            self.body.reserve_capacity(data.len());
            let room = match self.body.capacity() {
                0 if !data.is_empty() => wait.until_ready(|cx| self.poll_room(cx)).await?,
                room => room,
            };
            let piece = data.split_to(room.min(data.len()));
            let is_last = data.is_empty();
            self.body.send_data(piece, end && is_last).map_err(broken)?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match ready!(self.body.poll_capacity(cx)) {
            Some(room) => Poll::Ready(room.map_err(io::Error::other)),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Ends the body with trailers, given as lines.
    pub(crate) async fn finish(&mut self, trailers: &[u8]) -> Result<(), Stalled> {
        match head::read_trailers(trailers) {
            None => self.send(&[], true, None).await,
            Some(fields) => {
                self.has_ended = true;
                self.body.send_trailers(fields).map_err(|error| Stalled::Broken(io::Error::other(error)))
            }
        }
    }
}

/// The answer to a client's stream.
#[derive(Debug)]
pub(crate) struct Responder {
    respond: SendResponse<Bytes>,
    body: Option<Outflow>,
    reset: bool,
}

impl Responder {
    /// Nothing sent yet.
    pub(crate) fn new(respond: SendResponse<Bytes>) -> Self {
        Self { respond, body: None, reset: false }
    }

    /// Whether the client has said that it does not want the answer.
    pub(crate) fn was_reset(&self) -> bool {
        self.reset
    }

    /// Sends an interim head.
    pub(crate) fn interim(&mut self, bytes: &[u8]) -> Result<(), Stalled> {
        let (response, _) = head::read_response(bytes).map_err(unwritable)?;
        self.respond.send_informational(response).map_err(|error| Stalled::Broken(io::Error::other(error)))
    }

    /// Sends the final head, which `bytes` begins with: how many bytes it has. `end` tells that no body follows.
    pub(crate) fn begin(&mut self, bytes: &[u8], end: bool) -> Result<usize, Stalled> {
        let (response, len) = head::read_response(bytes).map_err(unwritable)?;
        let sent = self.respond.send_response(response, end && len == bytes.len());
        self.body = Some(Outflow::new(sent.map_err(|error| Stalled::Broken(io::Error::other(error)))?));
        Ok(len)
    }

    /// Sends a whole message, head and body.
    pub(crate) async fn whole(&mut self, bytes: &[u8], wait: Wait<'_>) -> Result<(), Stalled> {
        let len = self.begin(bytes, true)?;
        if len == bytes.len() {
            return Ok(());
        }
        self.body()?.send(&bytes[len..], true, Some(wait)).await
    }

    /// The body, once the head was sent.
    pub(crate) fn body(&mut self) -> Result<&mut Outflow, Stalled> {
        self.body.as_mut().ok_or_else(|| Stalled::Broken(io::Error::other("a body without a head")))
    }

    /// Ready when the client does not want the answer any more.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.body {
            None => self.respond.poll_reset(cx),
            Some(body) => body.body.poll_reset(cx),
        };
        reset.map(|reset| self.reset |= reset.is_ok())
    }

    /// Has the client know that the answer broke off.
    pub(crate) fn cut(&mut self) {
        self.reset_for(Reason::INTERNAL_ERROR);
    }

    /// Resets the stream.
    pub(crate) fn reset_for(&mut self, reason: Reason) {
        match &mut self.body {
            None => self.respond.send_reset(reason),
            Some(body) => body.body.send_reset(reason),
        }
    }
}

fn unwritable(_: head::Unwritable) -> Stalled {
    Stalled::Broken(io::Error::other("a head that cannot be sent over HTTP/2"))
}

/// An endpoint's answer on a stream.
#[derive(Debug)]
pub(crate) struct Answer {
    head: Option<h2::client::ResponseFuture>,
    body: Option<Inflow>,
}

impl Answer {
    /// An answer that is awaited.
    pub(crate) fn new(head: h2::client::ResponseFuture) -> Self {
        Self { head: Some(head), body: None }
    }

    /// Awaits the next head, interim or final, and writes it into `out`.
    pub(crate) fn poll_head(&mut self, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let Some(future) = &mut self.head else { return Poll::Ready(Err(Reason::INTERNAL_ERROR.into())) };
        if let Poll::Ready(Some(interim)) = future.poll_informational(cx) {
            let (parts, ()) = interim?.into_parts();
            head::write_response(out, &parts, true);
            return Poll::Ready(Ok(()));
        }
        let (parts, body) = ready!(Pin::new(future).poll(cx))?.into_parts();
        head::write_response(out, &parts, body.is_end_stream());
        self.head = None;
        self.body = Some(Inflow::new(body, None));
        Poll::Ready(Ok(()))
    }

    /// The body, once the head has come.
    pub(crate) fn body(&mut self) -> Option<&mut Inflow> {
        self.body.as_mut()
    }
}
