//! The body of a request, on its way to an endpoint.
//!
//! It is streamed: a piece is read from the client once the piece before it has been written to the endpoint, so that a
//! slow endpoint slows its client and nothing piles up. What is read is kept, up to a bound, as long as the request may
//! have to be sent again; the rest of a large body is spliced.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use http1::{Framing, write};
use net::{Buffer, Deadline, Pipe, Writer};
use tokio::net::TcpStream;
use vocab::ErrorCode;

use super::core::Core;
use super::decode::Decoder;
use super::ends::{ClientSource, EndpointSink};
use super::http2::flow::{Came, Outflow};
use super::io::{self, Stalled, Wait};
use super::relay::SPLICE_BYTES_MIN;
use crate::action::Names;

/// A request's body.
#[derive(Debug)]
pub(crate) struct RequestBody {
    decoder: Decoder,
    head_len: usize,
    /// Bytes of the connection's buffer, head included, that are done with.
    at: usize,
    /// What was read beyond that buffer, and how much of it is done with.
    extra: Option<Buffer>,
    extra_used: usize,
    replay: Replay,
    /// Trailers of a chunked body, as lines, once it is complete.
    trailers: Vec<u8>,
    chunked: bool,
    /// Whether there is none, which the head tells.
    pub(crate) absent: bool,
    /// Bytes of data so far.
    pub(crate) received: u64,
    bytes_max: Option<u64>,
    /// Whether the client waits for `100 Continue`.
    waits: bool,
}

/// What is kept to be sent again.
#[derive(Debug)]
enum Replay {
    /// Everything so far, and how much may be kept.
    Kept(Vec<u8>, usize),
    /// More was read than may be kept.
    Lost,
}

/// Where the data of a piece stands.
enum Piece {
    Early(Range<usize>),
    Extra(Range<usize>),
}

impl Piece {
    fn of<'p>(self, early: &'p [u8], extra: Option<&'p Buffer>) -> &'p [u8] {
        match (self, extra) {
            (Self::Early(range), _) => &early[range],
            (Self::Extra(range), Some(extra)) => &extra.filled()[range],
            (Self::Extra(_), None) => &[],
        }
    }
}

/// Why the body did not go out.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The client is to blame, and gets this answer if it can.
    Client(ErrorCode, &'static str),
    /// The client has gone.
    Gone,
    /// The endpoint does not take it. What it answers, if anything, tells more.
    Upstream,
}

/// What a pump needs besides the two connections.
#[derive(Clone, Copy)]
pub(crate) struct Pump<'d> {
    pub(crate) core: &'d Core,
    /// What the connection's buffer holds.
    pub(crate) early: &'d [u8],
    /// Follows whether the body can be sent again.
    pub(crate) replayable: &'d Cell<bool>,
    pub(crate) deadline: &'d Deadline,
    /// The client, between two pieces.
    pub(crate) read: Duration,
    /// The endpoint, without taking anything.
    pub(crate) write: Duration,
    /// Time for the endpoint to permit a body that waits for it.
    pub(crate) permission: Duration,
    /// Names of fields that are not the client's to write, among trailers neither.
    pub(crate) granted: Option<&'d Names>,
}

impl Pump<'_> {
    /// The lines of trailers that go on.
    fn passing<'t>(&self, trailers: &'t [u8]) -> Cow<'t, [u8]> {
        let Some(names) = self.granted.filter(|_| !trailers.is_empty()) else { return Cow::Borrowed(trailers) };
        let lines = trailers.split_inclusive(|&b| b == b'\n');
        let name = |line: &[u8]| memchr::memchr(b':', line).unwrap_or(line.len());
        Cow::Owned(lines.filter(|line| !names.have_alike(&line[..name(line)])).collect::<Vec<_>>().concat())
    }
}

impl RequestBody {
    /// The body after a head of `head_len` bytes, of which nothing is kept yet. `on_stream` tells that it comes in frames
    /// of its own.
    pub(crate) fn new(request: &http1::Request, head_len: usize, bytes_max: Option<u64>, on_stream: bool) -> Self {
        Self {
            chunked: request.framing == Framing::Chunked,
            absent: request.framing == Framing::Empty,
            decoder: Decoder::new(request.framing, on_stream),
            head_len,
            at: head_len,
            extra: None,
            extra_used: 0,
            replay: Replay::Kept(Vec::new(), 0),
            trailers: Vec::new(),
            received: 0,
            bytes_max,
            waits: request.expect == http1::Expect::Continue,
        }
    }

    /// Keeps up to `bytes_max` bytes from now on, so that they can be sent again.
    pub(crate) fn keep_up_to(&mut self, bytes_max: usize) {
        if let Replay::Kept(_, max) = &mut self.replay {
            *max = bytes_max;
        }
    }

    /// Whether all of it has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.decoder.is_complete()
    }

    /// Whether it can be sent from the beginning again.
    pub(crate) fn is_replayable(&self) -> bool {
        matches!(self.replay, Replay::Kept(..))
    }

    /// The head and all of the body, if all of it has come and was kept. `early` is the connection's buffer.
    pub(crate) fn whole(&self, early: &[u8]) -> Option<Vec<u8>> {
        let Replay::Kept(kept, _) = &self.replay else { return None };
        self.is_complete().then(|| [&early[..self.head_len], kept].concat())
    }

    /// Removes what was used from the connection's buffer, which then holds the next request's beginning.
    pub(crate) fn finish(self, buffer: &mut Buffer) {
        buffer.consume(self.at);
        if let Some(mut extra) = self.extra {
            extra.consume(self.extra_used);
            buffer.extend(extra.filled());
        }
    }

    /// Sends `out`, which holds the head unless that has gone, and then the body from its beginning. Dropped half-way, it
    /// may be called again as long as the body is replayable.
    pub(crate) async fn pump(
        &mut self,
        with: Pump<'_>,
        source: &mut ClientSource<'_>,
        sink: &mut EndpointSink<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PumpError> {
        match sink {
            EndpointSink::Wire(writer) => self.pump_wire(with, source, writer, out).await,
            EndpointSink::Stream(flow) => self.pump_stream(with, source, flow).await,
        }
    }

    async fn pump_stream(
        &mut self,
        with: Pump<'_>,
        source: &mut ClientSource<'_>,
        flow: &mut Outflow,
    ) -> Result<(), PumpError> {
        let wait = Wait::after(with.deadline, with.write);
        if self.absent {
            return Ok(());
        }
        if let Replay::Kept(kept, _) = &self.replay
            && !kept.is_empty()
        {
            let ends = self.is_complete() && self.trailers.is_empty();
            flow.send(kept, ends, Some(wait)).await.map_err(upstream)?;
            if ends {
                return Ok(());
            }
        }
        while let Some(piece) = self.next(with, source).await? {
            let data = piece.of(with.early, self.extra.as_ref());
            self.replay.keep(data);
            with.replayable.set(self.is_replayable());
            let ends = self.is_complete() && self.trailers.is_empty();
            flow.send(data, ends, Some(wait)).await.map_err(upstream)?;
            if ends {
                return Ok(());
            }
        }
        flow.finish(&with.passing(&self.trailers)).await.map_err(upstream)
    }

    async fn pump_wire(
        &mut self,
        with: Pump<'_>,
        source: &mut ClientSource<'_>,
        writer: &mut Writer<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PumpError> {
        let early = with.early;
        let wait = Wait::after(with.deadline, with.write);
        let mut framer = Framer { chunked: self.chunked, open: false };
        if let Replay::Kept(kept, _) = &self.replay
            && !kept.is_empty()
        {
            framer.open(out, kept.len());
            io::write_all(writer, out, kept, wait).await.map_err(upstream)?;
            out.clear();
        }
        loop {
            // What has not come yet must not hold up what has.
            if !out.is_empty() && !self.is_complete() && self.input(early).is_empty() {
                io::write_all(writer, out, &[], wait).await.map_err(upstream)?;
                out.clear();
            }
            // Out of descriptors for a pipe, a copy does as well.
            if let Some(rest) = self.spliceable(early)
                && let ClientSource::Wire(reader) = source
                && let (Some(from), Some(to)) = (reader.socket(), writer.socket())
                && let Ok(pipe) = with.core.pipes.take()
            {
                with.replayable.set(false);
                return self.splice(with, pipe, rest, (from, to)).await;
            }
            let Some(piece) = self.next(with, source).await? else {
                framer.close(out, &with.passing(&self.trailers));
                return io::write_all(writer, out, &[], wait).await.map_err(upstream);
            };
            let data = piece.of(early, self.extra.as_ref());
            self.replay.keep(data);
            with.replayable.set(self.is_replayable());
            framer.open(out, data.len());
            io::write_all(writer, out, data, wait).await.map_err(upstream)?;
            out.clear();
        }
    }

    /// What has come and is not done with.
    fn input<'i>(&'i self, early: &'i [u8]) -> &'i [u8] {
        match &self.extra {
            _ if self.at < early.len() => &early[self.at..],
            Some(extra) => &extra.filled()[self.extra_used..],
            None => &[],
        }
    }

    /// Takes the next piece of data, reading it if need be; `None` at the end.
    async fn next(&mut self, with: Pump<'_>, source: &mut ClientSource<'_>) -> Result<Option<Piece>, PumpError> {
        let early = with.early;
        loop {
            if self.is_complete() {
                return Ok(None);
            }
            let from_early = self.at < early.len();
            if self.input(early).is_empty() {
                self.read(with, source).await?;
                continue;
            }
            let base = if from_early { self.at } else { self.extra_used };
            let (data, used) = self.take(early)?;
            if from_early {
                self.at += used;
            } else {
                self.extra_used += used;
            }
            if data.is_empty() {
                continue;
            }
            self.received += data.len() as u64;
            if self.bytes_max.is_some_and(|max| self.received > max) {
                return Err(PumpError::Client(ErrorCode::BodyTooLarge, "the body exceeds the listener's limit"));
            }
            let range = base + data.start..base + data.end;
            return Ok(Some(if from_early { Piece::Early(range) } else { Piece::Extra(range) }));
        }
    }

    /// Looks at the input: where data stands in it, and how much of it is done with.
    fn take(&mut self, early: &[u8]) -> Result<(Range<usize>, usize), PumpError> {
        let input = match &self.extra {
            _ if self.at < early.len() => &early[self.at..],
            Some(extra) => &extra.filled()[self.extra_used..],
            None => &[],
        };
        let taken = self.decoder.take(input, &mut self.trailers);
        taken.map_err(|error| PumpError::Client(ErrorCode::BadRequest, error.reason()))
    }

    /// Reads from the client. All input is done with.
    async fn read(&mut self, with: Pump<'_>, source: &mut ClientSource<'_>) -> Result<(), PumpError> {
        let extra = self.extra.get_or_insert_with(|| with.core.bodies.take());
        extra.clear();
        self.extra_used = 0;
        // Where the length is known, bytes of the next request stay in the socket.
        let limit = match self.decoder {
            Decoder::Length(rest) => usize::try_from(rest).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let pause = if self.waits { with.read + with.permission } else { with.read };
        let wait = Wait::after(with.deadline, pause);
        let came = match source {
            ClientSource::Wire(reader) => io::fill(extra, reader, limit, wait).await.map(Came::Data),
            ClientSource::Stream(flow) => flow.fill(extra, wait).await,
            ClientSource::Whole => return Err(PumpError::Gone),
        };
        match came {
            Ok(Came::Data(0)) | Err(Stalled::Broken(_)) => Err(PumpError::Gone),
            Ok(Came::Data(_)) => {
                self.waits = false;
                Ok(())
            }
            Ok(Came::End(trailers)) => {
                (self.trailers, self.decoder) = (trailers, Decoder::Complete);
                Ok(())
            }
            Err(Stalled::TimedOut) => Err(timed_out()),
        }
    }

    /// Bytes left of a body that is long enough to be moved without being looked at.
    fn spliceable(&self, early: &[u8]) -> Option<u64> {
        match (&self.decoder, &self.replay) {
            (&Decoder::Length(rest), Replay::Lost | Replay::Kept(_, 0)) => {
                (rest >= SPLICE_BYTES_MIN && self.input(early).is_empty()).then_some(rest)
            }
            _ => None,
        }
    }

    async fn splice(
        &mut self,
        with: Pump<'_>,
        mut pipe: Pipe,
        mut rest: u64,
        (from, to): (&TcpStream, &TcpStream),
    ) -> Result<(), PumpError> {
        // The client may still wait for permission.
        let mut pause = if self.waits { with.read + with.permission } else { with.read };
        while rest > 0 {
            let count = match io::fill_pipe(&mut pipe, from, rest, Wait::after(with.deadline, pause)).await {
                Ok(0) | Err(Stalled::Broken(_)) => return Err(PumpError::Gone),
                Ok(count) => count as u64,
                Err(Stalled::TimedOut) => return Err(timed_out()),
            };
            (self.waits, self.replay, pause) = (false, Replay::Lost, with.read);
            rest -= count;
            self.received += count;
            let wait = Wait::after(with.deadline, with.write);
            io::drain_pipe(&mut pipe, to, wait).await.map_err(upstream)?;
            self.decoder = if rest == 0 { Decoder::Complete } else { Decoder::Length(rest) };
        }
        Ok(())
    }
}

impl Replay {
    fn keep(&mut self, data: &[u8]) {
        let Self::Kept(kept, max) = self else { return };
        if kept.len() + data.len() <= *max {
            kept.extend_from_slice(data);
        } else {
            *self = Self::Lost;
        }
    }
}

/// Writes a body's framing.
struct Framer {
    chunked: bool,
    /// Whether a chunk's data has been written and its end has not.
    open: bool,
}

impl Framer {
    fn open(&mut self, out: &mut Vec<u8>, len: usize) {
        if self.chunked {
            self.end_chunk(out);
            self.open = true;
            out.extend_from_slice(write::chunk_head(&mut [0; write::CHUNK_HEAD_BYTES_MAX], len as u64));
        }
    }

    fn close(&mut self, out: &mut Vec<u8>, trailers: &[u8]) {
        if self.chunked {
            self.end_chunk(out);
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(trailers);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn end_chunk(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.open) {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn upstream(_: Stalled) -> PumpError {
    PumpError::Upstream
}

fn timed_out() -> PumpError {
    PumpError::Client(ErrorCode::BodyTimeout, "the body did not arrive in time")
}
