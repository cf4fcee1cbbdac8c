//! Passing a response on to the client.
//!
//! A body whose length is known is copied, or spliced when it is long; one in chunks, or that ends with the connection,
//! is framed anew. Each read is written before the next, so that a slow client slows its endpoint.

mod streamed;

use std::time::{Duration, Instant};

use http1::{Chunk, ChunkedDecoder, Framing, write};
use net::{Buffer, Deadline, Reader, Writer};
use vocab::ErrorCode;

use super::core::Core;
use super::encode::Encoding;
use super::ends::{ClientSink, EndpointSource};
use super::io::{self, Stalled, Wait};

/// Shortest rest of a body that is spliced. Below, copying costs less than two more system calls.
pub(crate) const SPLICE_BYTES_MIN: u64 = 64 * 1024;

/// Longest beginning of a body that is copied behind the head. A copy of that costs less than a call with two parts.
const JOIN_BYTES_MAX: usize = 2048;

/// The two ends of a response, and how long they may pause.
pub(crate) struct Relay<'r, 'u, 'c> {
    pub(crate) core: &'r Core,
    pub(crate) source: &'r mut EndpointSource<'u>,
    /// What was read from the endpoint beyond the head.
    pub(crate) buffer: &'r mut Buffer,
    pub(crate) sink: &'r mut ClientSink<'c>,
    pub(crate) deadline: &'r Deadline,
    pub(crate) read_pause: Duration,
    pub(crate) write_pause: Duration,
    /// Bytes of the body that went to the client.
    pub(crate) sent: u64,
    /// What the trailers of a call of gRPC say.
    pub(crate) grpc_status: Option<u16>,
    /// When it must have ended.
    pub(crate) whole: Option<Instant>,
    /// What encodes it on the way, if anything does.
    pub(crate) encoding: Option<Box<Encoding<'r>>>,
}

/// How a response broke off after its head had begun to go out.
#[derive(Debug)]
pub(crate) enum Broken {
    /// By the endpoint.
    Upstream(ErrorCode),
    /// By the client, which has gone.
    Client,
    /// By the client, which takes nothing for too long.
    Unread,
    /// By the time that the client has given it; the client was told so.
    OutOfTime,
}

/// A response between two wires.
struct WireRelay<'w, 'u, 'c> {
    core: &'w Core,
    reader: &'w mut Reader<'u>,
    buffer: &'w mut Buffer,
    writer: &'w mut Writer<'c>,
    deadline: &'w Deadline,
    read_pause: Duration,
    write_pause: Duration,
    sent: &'w mut u64,
}

impl Relay<'_, '_, '_> {
    /// Sends `out`, which holds the head, and then the body. `chunked` tells how a body without a known length goes
    /// out over HTTP/1: in chunks, or until the connection ends. A head alone is sent if the protocol changes.
    pub(crate) async fn run(
        &mut self,
        out: &mut Vec<u8>,
        framing: Framing,
        chunked: bool,
        switched: bool,
    ) -> Result<(), Broken> {
        let (EndpointSource::Wire(reader), ClientSink::Wire(writer), None) =
            (&mut *self.source, &mut *self.sink, &self.encoding)
        else {
            return self.streamed(out, framing, chunked, switched).await;
        };
        let mut wire = WireRelay {
            core: self.core,
            reader,
            buffer: self.buffer,
            writer,
            deadline: self.deadline,
            read_pause: self.read_pause,
            write_pause: self.write_pause,
            sent: &mut self.sent,
        };
        match framing {
            Framing::Empty => wire.write(out, &[]).await,
            Framing::Length(length) => wire.length(out, length).await,
            Framing::Chunked => wire.chunks(out, chunked).await,
            Framing::UntilClose => wire.until_close(out, chunked).await,
        }
    }
}

impl WireRelay<'_, '_, '_> {
    async fn length(&mut self, out: &mut Vec<u8>, length: u64) -> Result<(), Broken> {
        let filled = self.buffer.filled();
        let first = usize::try_from(length).map_or(filled.len(), |length| length.min(filled.len()));
        let mut data = &filled[..first];
        if first <= JOIN_BYTES_MAX {
            out.extend_from_slice(std::mem::take(&mut data));
        }
        let wait = Wait::after(self.deadline, self.write_pause);
        io::write_all(self.writer, out, data, wait).await.map_err(client)?;
        self.buffer.consume(first);
        *self.sent += first as u64;
        let rest = length - first as u64;
        if rest == 0 {
            return Ok(());
        }
        if rest >= SPLICE_BYTES_MIN {
            return self.splice(rest).await;
        }
        self.copy(rest).await
    }

    async fn copy(&mut self, mut rest: u64) -> Result<(), Broken> {
        let mut large = (rest > self.buffer.room() as u64).then(|| self.core.bodies.take());
        while rest > 0 {
            let buffer = large.as_mut().unwrap_or(self.buffer);
            buffer.make_room(0);
            let limit = usize::try_from(rest).unwrap_or(usize::MAX);
            let wait = Wait::after(self.deadline, self.read_pause);
            let count = upstream(&io::fill(buffer, self.reader, limit, wait).await)?;
            let wait = Wait::after(self.deadline, self.write_pause);
            io::write_all(self.writer, buffer.filled(), &[], wait).await.map_err(client)?;
            buffer.clear();
            rest -= count as u64;
            *self.sent += count as u64;
        }
        Ok(())
    }

    async fn splice(&mut self, mut rest: u64) -> Result<(), Broken> {
        let (Some(from), Some(to)) = (self.reader.socket(), self.writer.socket()) else {
            return self.copy(rest).await;
        };
        // Out of descriptors, a copy does as well.
        let Ok(mut pipe) = self.core.pipes.take() else { return self.copy(rest).await };
        while rest > 0 {
            let wait = Wait::after(self.deadline, self.read_pause);
            let count = upstream(&io::fill_pipe(&mut pipe, from, rest, wait).await)? as u64;
            rest -= count;
            let wait = Wait::after(self.deadline, self.write_pause);
            io::drain_pipe(&mut pipe, to, wait).await.map_err(client)?;
            *self.sent += count;
        }
        Ok(())
    }

    async fn chunks(&mut self, out: &mut Vec<u8>, chunked: bool) -> Result<(), Broken> {
        let mut decoder = ChunkedDecoder::default();
        loop {
            let ended = self.decode(out, &mut decoder, chunked)?;
            self.write(out, &[]).await?;
            out.clear();
            if ended {
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// Adds the data that has come to `out`, all of it as one chunk; true when the body has ended.
    fn decode(&mut self, out: &mut Vec<u8>, decoder: &mut ChunkedDecoder, chunked: bool) -> Result<bool, Broken> {
        let invalid = |_| Broken::Upstream(ErrorCode::UpstreamInvalid);
        let chunk_start = out.len();
        let input = self.buffer.filled();
        let (mut at, mut ended) = (0, false);
        while at < input.len() && !ended {
            match decoder.decode(&input[at..]).map_err(invalid)? {
                Chunk::Data { start, end } => {
                    if chunked && out.len() == chunk_start {
                        // Room for a size that is not known yet.
                        out.extend_from_slice(SIZE_ROOM);
                    }
                    out.extend_from_slice(&input[at + start..at + end]);
                    at += end;
                }
                Chunk::More => at = input.len(),
                Chunk::End { end } => {
                    at += end;
                    ended = true;
                }
            }
        }
        self.buffer.consume(at);
        let room = if chunked && out.len() > chunk_start { SIZE_ROOM.len() } else { 0 };
        let data = out.len() - chunk_start - room;
        *self.sent += data as u64;
        if chunked && data > 0 {
            fill_size(&mut out[chunk_start..chunk_start + room], data);
            out.extend_from_slice(b"\r\n");
        }
        if chunked && ended {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(&decoder.trailers().map_err(invalid)?);
            out.extend_from_slice(b"\r\n");
        }
        Ok(ended)
    }

    async fn until_close(&mut self, out: &mut Vec<u8>, chunked: bool) -> Result<(), Broken> {
        loop {
            let data = self.buffer.filled().len();
            if data > 0 {
                if chunked {
                    out.extend_from_slice(write::chunk_head(&mut [0; write::CHUNK_HEAD_BYTES_MAX], data as u64));
                    out.extend_from_slice(self.buffer.filled());
                    out.extend_from_slice(b"\r\n");
                    self.write(out, &[]).await?;
                } else {
                    let wait = Wait::after(self.deadline, self.write_pause);
                    io::write_all(self.writer, out, self.buffer.filled(), wait).await.map_err(client)?;
                }
                self.buffer.clear();
                *self.sent += data as u64;
            } else {
                self.write(out, &[]).await?;
            }
            out.clear();
            let wait = Wait::after(self.deadline, self.read_pause);
            self.buffer.make_room(1);
            match io::fill(self.buffer, self.reader, usize::MAX, wait).await {
                Ok(0) if chunked => return self.write(write::LAST_CHUNK, &[]).await,
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(stalled) => return upstream(&Err(stalled)).map(|_: usize| ()),
            }
        }
    }

    async fn read(&mut self) -> Result<usize, Broken> {
        self.buffer.make_room(1);
        let wait = Wait::after(self.deadline, self.read_pause);
        upstream(&io::fill(self.buffer, self.reader, usize::MAX, wait).await)
    }

    async fn write(&mut self, first: &[u8], second: &[u8]) -> Result<(), Broken> {
        let wait = Wait::after(self.deadline, self.write_pause);
        io::write_all(self.writer, first, second, wait).await.map_err(client)
    }
}

/// A chunk's size line of fixed length, for a buffer's bytes are fewer than 2^32.
const SIZE_ROOM: &[u8] = b"00000000\r\n";

/// Writes the size into a line made of [`SIZE_ROOM`].
fn fill_size(line: &mut [u8], size: usize) {
    let mut rest = size;
    for digit in line[..8].iter_mut().rev() {
        *digit = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
}

/// What a read from the endpoint means in the middle of a body.
pub(crate) fn upstream(read: &Result<usize, Stalled>) -> Result<usize, Broken> {
    match read {
        Ok(0) | Err(Stalled::Broken(_)) => Err(Broken::Upstream(ErrorCode::UpstreamClosed)),
        Ok(count) => Ok(*count),
        Err(Stalled::TimedOut) => Err(Broken::Upstream(ErrorCode::UpstreamTimeout)),
    }
}

/// What a write to the client that did not succeed means.
#[allow(clippy::needless_pass_by_value, reason = "`map_err` gives the error away")]
pub(crate) fn client(stalled: Stalled) -> Broken {
    match stalled {
        Stalled::Broken(_) => Broken::Client,
        Stalled::TimedOut => Broken::Unread,
    }
}
