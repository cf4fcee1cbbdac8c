//! A response of which at least one side is a stream of HTTP/2: piece by piece, with the framing of the other side.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use http1::{Framing, write};
use net::Buffer;
use vocab::ErrorCode;

use super::{Broken, Relay, client};
use crate::data::decode::Decoder;
use crate::data::ends::{ClientSink, EndpointSource};
use crate::data::grpc;
use crate::data::http2::flow::Came;
use crate::data::io::Wait;

impl Relay<'_, '_, '_> {
    pub(super) async fn streamed(
        &mut self,
        out: &mut Vec<u8>,
        framing: Framing,
        chunked: bool,
        switched: bool,
    ) -> Result<(), Broken> {
        let on_stream = matches!(self.source, EndpointSource::Stream(_));
        let mut decoder = Decoder::new(framing, on_stream);
        let in_chunks = chunked
            && (matches!(framing, Framing::Chunked | Framing::UntilClose) || self.encoding.is_some())
            && matches!(self.sink, ClientSink::Wire(_));
        if let ClientSink::Stream(responder) = self.sink {
            responder.begin(out, decoder.is_complete() && !switched).map_err(client)?;
            out.clear();
        }
        let mut trailers = Vec::new();
        // A buffer for heads is small for a long body.
        let mut large: Option<Buffer> = None;
        let mut begun = false;
        while !decoder.is_complete() {
            let buffer = large.as_mut().unwrap_or(self.buffer);
            let taken = decoder.take(buffer.filled(), &mut trailers);
            let (range, used) = taken.map_err(|_| Broken::Upstream(ErrorCode::UpstreamInvalid))?;
            if !range.is_empty() {
                let ends = decoder.is_complete() && trailers.is_empty();
                let wait = Wait::after(self.deadline, self.write_pause);
                let data = &buffer.filled()[range];
                if let Some(encoding) = &mut self.encoding {
                    self.sent += encoding.push(data, (self.sink, out), wait).await?;
                } else {
                    self.sent += data.len() as u64;
                    put(self.sink, out, data, in_chunks, ends, wait).await?;
                    begun = true;
                }
            }
            buffer.consume(used);
            if decoder.is_complete() {
                break;
            }
            if !buffer.is_empty() {
                continue;
            }
            if self.encoding.is_none() && !std::mem::replace(&mut begun, true) {
                self.flush(out).await?;
            }
            if large.is_none() && !on_stream {
                large = Some(self.core.bodies.take());
            }
            match self.next(out, large.as_mut()).await? {
                Came::Data(0) if matches!(framing, Framing::UntilClose) => break,
                Came::Data(0) => return Err(Broken::Upstream(ErrorCode::UpstreamClosed)),
                Came::Data(_) => {}
                Came::End(lines) => {
                    trailers = lines;
                    break;
                }
            }
        }
        self.grpc_status = grpc::status_in(&trailers);
        if let Some(encoding) = &mut self.encoding {
            let wait = Wait::after(self.deadline, self.write_pause);
            self.sent += encoding.finish((self.sink, out), trailers.is_empty(), wait).await?;
        }
        if switched { self.flush(out).await } else { self.end(out, framing, in_chunks, &trailers).await }
    }

    /// Sends what has gathered for a wire.
    async fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let wait = Wait::after(self.deadline, self.write_pause);
        match self.sink {
            ClientSink::Wire(writer) => crate::data::io::write_all(writer, out, &[], wait).await.map_err(client)?,
            // The cache has seen the head already.
            ClientSink::Nobody | ClientSink::Fill(_) => {}
            ClientSink::Kept(kept) => _ = kept.push(out, &[]),
            ClientSink::Stream(_) => return Ok(()),
        }
        out.clear();
        Ok(())
    }

    /// Tells where the body ends, unless that was told already.
    async fn end(
        &mut self,
        out: &mut Vec<u8>,
        framing: Framing,
        in_chunks: bool,
        trailers: &[u8],
    ) -> Result<(), Broken> {
        match self.sink {
            ClientSink::Fill(fill) => {
                fill.finish(trailers).await;
                Ok(())
            }
            ClientSink::Wire(_) | ClientSink::Nobody | ClientSink::Kept(_) => {
                if in_chunks {
                    out.extend_from_slice(b"0\r\n");
                    out.extend_from_slice(trailers);
                    out.extend_from_slice(b"\r\n");
                }
                self.flush(out).await
            }
            ClientSink::Stream(_) if framing == Framing::Empty => Ok(()),
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(client)?;
                if body.has_ended { Ok(()) } else { body.finish(trailers).await.map_err(client) }
            }
        }
    }

    /// Ends a call whose time is over, with a status that says so.
    async fn out_of_time(&mut self) -> Broken {
        let ClientSink::Stream(responder) = self.sink else { return Broken::Upstream(ErrorCode::UpstreamTimeout) };
        let Ok(body) = responder.body() else { return Broken::Client };
        self.grpc_status = Some(grpc::DEADLINE_EXCEEDED);
        match body.finish(grpc::OUT_OF_TIME).await {
            Ok(()) => Broken::OutOfTime,
            Err(_) => Broken::Client,
        }
    }

    /// Awaits the next piece.
    async fn next(&mut self, out: &mut Vec<u8>, mut large: Option<&mut Buffer>) -> Result<Came, Broken> {
        if self.encoding.is_some()
            && let Some(came) = self.read_or_flush(out, large.as_deref_mut()).await?
        {
            return Ok(came);
        }
        match self.read(large).await {
            Err(Broken::OutOfTime) => Err(self.out_of_time().await),
            came => came,
        }
    }

    /// Reads a piece that is at hand. If there is none, what the encoding holds back is sent, and the head if it has not
    /// gone: nobody knows when the next piece comes.
    async fn read_or_flush(&mut self, out: &mut Vec<u8>, large: Option<&mut Buffer>) -> Result<Option<Came>, Broken> {
        let buffer = large.unwrap_or(self.buffer);
        let source = &mut *self.source;
        let came = poll_fn(|cx| {
            Poll::Ready(match poll_piece(source, buffer, cx) {
                Poll::Ready(came) => Some(came),
                Poll::Pending => None,
            })
        });
        if let Some(came) = came.await {
            return came.map(Some).map_err(|_| Broken::Upstream(ErrorCode::UpstreamClosed));
        }
        if let Some(encoding) = self.encoding.as_mut().filter(|encoding| encoding.holds_back()) {
            let wait = Wait::after(self.deadline, self.write_pause);
            self.sent += encoding.flush((self.sink, out), wait).await?;
        }
        if !out.is_empty() {
            self.flush(out).await?;
        }
        Ok(None)
    }

    /// Reads a piece, unless the client goes first.
    async fn read(&mut self, large: Option<&mut Buffer>) -> Result<Came, Broken> {
        let buffer = large.unwrap_or(self.buffer);
        let (source, sink, deadline) = (&mut *self.source, &mut *self.sink, self.deadline);
        let due = Instant::now() + self.read_pause;
        let is_last = self.whole.is_some_and(|whole| whole < due);
        let due = self.whole.map_or(due, |whole| whole.min(due));
        let mut armed = false;
        poll_fn(|cx| {
            if sink.is_gone(cx) {
                return Poll::Ready(Err(Broken::Client));
            }
            match poll_piece(source, buffer, cx) {
                Poll::Ready(came) => Poll::Ready(came.map_err(|_| Broken::Upstream(ErrorCode::UpstreamClosed))),
                Poll::Pending => {
                    if !std::mem::replace(&mut armed, true) {
                        deadline.set(due);
                    }
                    let expired =
                        if is_last { Broken::OutOfTime } else { Broken::Upstream(ErrorCode::UpstreamTimeout) };
                    deadline.poll_expired(cx).map(|_| Err(expired))
                }
            }
        })
        .await
    }
}

fn poll_piece(source: &mut EndpointSource<'_>, buffer: &mut Buffer, cx: &mut Context<'_>) -> Poll<io::Result<Came>> {
    match source {
        EndpointSource::Wire(reader) => {
            buffer.make_room(1);
            buffer.poll_fill(std::pin::Pin::new(reader), usize::MAX, cx).map_ok(Came::Data)
        }
        EndpointSource::Stream(answer) => match answer.body() {
            Some(body) => body.poll_fill(buffer, cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        },
    }
}

/// Sends a piece of the body, behind what stands in `out` if it goes to a wire.
async fn put(
    sink: &mut ClientSink<'_>,
    out: &mut Vec<u8>,
    data: &[u8],
    in_chunks: bool,
    ends: bool,
    wait: Wait<'_>,
) -> Result<(), Broken> {
    match sink {
        ClientSink::Wire(writer) => {
            if in_chunks {
                out.extend_from_slice(write::chunk_head(&mut [0; write::CHUNK_HEAD_BYTES_MAX], data.len() as u64));
            }
            let sent = crate::data::io::write_all(writer, out, data, wait).await;
            out.clear();
            if in_chunks {
                out.extend_from_slice(b"\r\n");
            }
            sent.map_err(client)
        }
        ClientSink::Nobody => {
            out.clear();
            Ok(())
        }
        ClientSink::Fill(fill) => {
            out.clear();
            fill.push(data).await.map_err(|_| Broken::Client)
        }
        ClientSink::Kept(kept) => {
            let fits = kept.push(out, data);
            out.clear();
            if fits { Ok(()) } else { Err(Broken::Client) }
        }
        ClientSink::Stream(responder) => {
            let body = responder.body().map_err(client)?;
            body.send(data, ends, Some(wait)).await.map_err(client)
        }
    }
}
