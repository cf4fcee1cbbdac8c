//! Bytes in both directions until both have ended: what follows `101 Switching Protocols`, and what a listener for TCP
//! passes through.
//!
//! Copying adapts. What comes in small pieces is copied, which is cheaper than two more system calls. Once a read fills
//! its buffer, what follows is spliced within the kernel until the source pauses twice after little, which costs half for
//! large exchanges. A direction that is silent holds neither buffer nor pipe.
//!
//! When one side ends its direction, the other learns of it and may go on with its own. The tunnel is cut after the idle
//! time without a byte in either direction. A client that speaks HTTP/2 has a stream in place of a connection, and the
//! same holds for it. Bytes that pass do not look at the clock: a part of the idle time after the other is waited for, and
//! whether anything came in it is known then. So a tunnel is cut a part of that time late, and never early.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use net::bare::Watched;
use net::{Buffer, Buffers, Deadline, Pipes, Reader, Writer};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ends::{ClientSink, ClientSource};
use super::http2::flow::{Inflow, Outflow};

/// Fewest bytes between two pauses of the source for which it goes on being spliced: below, copying is cheaper.
const SPLICED_MIN: usize = 16 * 1024;

/// Parts of the idle time after each of which a tunnel is looked at.
const IDLE_PARTS: u32 = 4;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the endpoint.
    Up,
    /// From the endpoint to the client.
    Down,
}

/// What a tunnel needs of its core, and when it is cut.
pub(crate) struct Tunnel<'t> {
    pub(crate) buffers: &'t Buffers,
    pub(crate) pipes: &'t Pipes,
    pub(crate) deadline: &'t Deadline,
    pub(crate) idle: Duration,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether the client's end has reached the endpoint.
    pub(crate) up: bool,
    /// Whether the endpoint's end has reached the client.
    pub(crate) down: bool,
    /// Whether it was cut because nothing came.
    pub(crate) idle: bool,
}

impl Tunnel<'_> {
    /// Moves bytes both ways, and tells `moved` of all of them. `early` are the bytes that came before, of the client
    /// and of the endpoint.
    pub(crate) async fn run(
        &self,
        client: (&mut ClientSource<'_>, &mut ClientSink<'_>),
        upstream: (&mut Reader<'_>, &mut Writer<'_>),
        early: (&[u8], &[u8]),
        moved: impl Fn(Way, usize),
    ) -> Ended {
        self.deadline.set(Instant::now() + self.idle / IDLE_PARTS);
        // Parts of the idle time that have passed since something came.
        let silent = Cell::new(0);
        let moved = |way, count| {
            moved(way, count);
            silent.set(0);
        };
        let mut ended = Ended { up: false, down: false, idle: false };
        let from_client = match client.0 {
            ClientSource::Wire(reader) => From::Wire(reader),
            ClientSource::Stream(flow) => From::Stream(flow),
            ClientSource::Whole => return ended,
        };
        let to_client = match client.1 {
            ClientSink::Wire(writer) => To::Wire(writer),
            ClientSink::Stream(responder) => match responder.body() {
                Ok(flow) => To::Stream(flow),
                Err(_) => return ended,
            },
            ClientSink::Nobody | ClientSink::Kept(_) | ClientSink::Fill(_) => return ended,
        };
        let up = pin!(self.direction(from_client, To::Wire(upstream.1), early.0, |count| moved(Way::Up, count)));
        let down = pin!(self.direction(From::Wire(upstream.0), to_client, early.1, |count| moved(Way::Down, count)));
        let (mut up, mut down) = (Side::new(up), Side::new(down));
        let mut is_up_first = false;
        poll_fn(|cx| {
            // They share one turn of the task, and one of them may take all of it: each is the first in every other one.
            is_up_first = !is_up_first;
            if is_up_first {
                up.poll(cx);
                down.poll(cx);
            } else {
                down.poll(cx);
                up.poll(cx);
            }
            // A direction that broke leaves nobody to talk to.
            if up.broke || down.broke || (up.ended && down.ended) {
                return Poll::Ready(());
            }
            while self.deadline.poll_expired(cx).is_ready() {
                silent.set(silent.get() + 1);
                if silent.get() > IDLE_PARTS {
                    ended.idle = true;
                    return Poll::Ready(());
                }
                self.deadline.set(Instant::now() + self.idle / IDLE_PARTS);
            }
            Poll::Pending
        })
        .await;
        Ended { up: up.ended && !up.broke, down: down.ended && !down.broke, ..ended }
    }

    async fn direction(
        &self,
        from: From<'_, '_>,
        mut to: To<'_, '_>,
        early: &[u8],
        moved: impl Fn(usize),
    ) -> io::Result<()> {
        to.write(early, &moved).await?;
        let reader = match from {
            From::Wire(reader) => reader,
            From::Stream(flow) => {
                while let Some(bytes) = poll_fn(|cx| flow.poll_bytes(cx)).await? {
                    to.write(&bytes, &moved).await?;
                }
                return to.end().await;
            }
        };
        let (mut next, mut doubted, mut watched) = (Burst::Small, false, Watched::default());
        loop {
            if next == Burst::Small {
                next = match poll_fn(|cx| self.poll_small((reader, &mut watched), &mut to, &moved, cx)).await? {
                    None => Burst::End,
                    Some(piece) => {
                        to.write(piece.rest.filled(), &moved).await?;
                        let is_spliced = || reader.socket().is_some() && to.socket().is_some();
                        if piece.is_full && is_spliced() { Burst::Large } else { Burst::Small }
                    }
                };
            } else {
                poll_fn(|cx| reader.poll_watched(&mut watched, cx)).await?;
            }
            if next == Burst::Large {
                let burst = match (reader.socket(), to.socket()) {
                    (Some(from), Some(to)) => self.splice(from, to, &moved).await?,
                    _ => Burst::Small,
                };
                // The end of one large answer is small, and the next one as large.
                next = if burst == Burst::Small && !doubted { Burst::Large } else { burst };
                doubted = burst == Burst::Small;
            }
            if next == Burst::End {
                return to.end().await;
            }
        }
    }

    /// Copies small pieces as long as each is taken at once: ready with one that is not, or that fills a buffer, and with nothing at the end.
    fn poll_small(
        &self,
        (reader, watched): (&mut Reader<'_>, &mut Watched),
        to: &mut To<'_, '_>,
        moved: &impl Fn(usize),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Piece>>> {
        loop {
            ready!(reader.poll_watched(watched, cx))?;
            let mut rest = self.buffers.take();
            // It was not so after all, or the task's turn is over: the reader knows which.
            let Poll::Ready(count) = rest.poll_fill(Pin::new(&mut *reader), usize::MAX, cx) else { continue };
            if count? == 0 {
                return Poll::Ready(Ok(None));
            }
            let is_full = rest.room() == 0;
            let taken = to.poll_write_now(rest.filled(), cx)?;
            if taken > 0 {
                moved(taken);
                rest.consume(taken);
            }
            if is_full || !rest.is_empty() {
                return Poll::Ready(Ok(Some(Piece { rest, is_full })));
            }
        }
    }

    /// Splices until the source pauses.
    async fn splice(&self, from: &TcpStream, to: &TcpStream, moved: &impl Fn(usize)) -> io::Result<Burst> {
        // Out of descriptors, a copy does as well.
        let Ok(mut pipe) = self.pipes.take() else { return Ok(Burst::Small) };
        let mut total = 0;
        while let Some(count) = ready_now(|cx| pipe.poll_fill(from, u64::MAX, cx)).await {
            let count = count?;
            if count == 0 {
                return Ok(Burst::End);
            }
            while pipe.filled() > 0 {
                moved(poll_fn(|cx| pipe.poll_drain(to, cx)).await?);
            }
            total += count;
        }
        Ok(if total >= SPLICED_MIN { Burst::Large } else { Burst::Small })
    }
}

/// What was read at once, of which the beginning was written.
struct Piece {
    rest: Buffer,
    /// It filled its buffer.
    is_full: bool,
}

/// What came between two pauses of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Burst {
    /// Little: what comes next is copied.
    Small,
    /// Much: what comes next is spliced.
    Large,
    /// The end.
    End,
}

/// Where a direction's bytes come from.
enum From<'t, 's> {
    Wire(&'t mut Reader<'s>),
    Stream(&'t mut Inflow),
}

/// Where a direction's bytes go.
enum To<'t, 's> {
    Wire(&'t mut Writer<'s>),
    Stream(&'t mut Outflow),
}

/// A direction, polled until it has ended.
struct Side<'f, F> {
    work: Pin<&'f mut F>,
    ended: bool,
    broke: bool,
}

impl<'f, F: Future<Output = io::Result<()>>> Side<'f, F> {
    fn new(work: Pin<&'f mut F>) -> Self {
        Self { work, ended: false, broke: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if !self.ended
            && let Poll::Ready(result) = self.work.as_mut().poll(cx)
        {
            self.ended = true;
            self.broke = result.is_err();
        }
    }
}

impl To<'_, '_> {
    /// The socket, where bytes may be spliced to it.
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Wire(writer) => writer.socket(),
            Self::Stream(_) => None,
        }
    }

    /// Writes what a socket takes at once, without waiting for more: how many bytes. Nothing where there is more to a write than that.
    fn poll_write_now(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<usize> {
        match self {
            Self::Wire(writer) if !writer.holds_back() => match Pin::new(&mut **writer).poll_write(cx, bytes) {
                Poll::Ready(taken) => taken,
                Poll::Pending => Ok(0),
            },
            _ => Ok(0),
        }
    }

    /// Writes all of `bytes`, and tells `moved` of each part that was taken: who takes little at a time is not silent.
    async fn write(&mut self, bytes: &[u8], moved: &impl Fn(usize)) -> io::Result<()> {
        match self {
            Self::Wire(writer) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let count = poll_fn(|cx| Pin::new(&mut **writer).poll_write(cx, rest)).await?;
                    if count == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    moved(count);
                    rest = &rest[count..];
                }
                if writer.holds_back() { writer.flush().await } else { Ok(()) }
            }
            Self::Stream(flow) => {
                flow.send(bytes, false, None).await.map_err(io::Error::from)?;
                moved(bytes.len());
                Ok(())
            }
        }
    }

    async fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Wire(writer) => writer.shutdown().await,
            Self::Stream(flow) => flow.send(&[], true, None).await.map_err(io::Error::from),
        }
    }
}

/// What `poll` yields, unless it would have to wait.
async fn ready_now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    poll_fn(|cx| match poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
