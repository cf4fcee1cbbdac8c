//! A connection after `101 Switching Protocols`: bytes in both directions until both have ended.
//!
//! A direction that is silent holds no buffer. When one side ends its direction, the other learns of it and may go on
//! with its own. The tunnel is cut after the idle time without a byte in either direction. A client that speaks HTTP/2
//! has a stream in place of a connection, and the same holds for it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use net::{Buffers, Deadline, Reader, Writer};
use tokio::io::AsyncWriteExt;

use super::ends::{ClientSink, ClientSource};
use super::http2::flow::{Inflow, Outflow};

/// Moves bytes both ways, and tells how many went to the endpoint and to the client. `early` are the bytes that came
/// with the heads, of the client and of the endpoint.
pub(crate) async fn run(
    buffers: &Buffers,
    client: (&mut ClientSource<'_>, &mut ClientSink<'_>),
    upstream: (&mut Reader<'_>, &mut Writer<'_>),
    early: (&[u8], &[u8]),
    deadline: &Deadline,
    idle: Duration,
) -> (u64, u64) {
    let (up, down) = (Cell::new(0), Cell::new(0));
    let moved = |counter: &Cell<u64>, bytes: usize| {
        counter.set(counter.get() + bytes as u64);
        deadline.set(Instant::now() + idle);
    };
    deadline.set(Instant::now() + idle);
    let from_client = match client.0 {
        ClientSource::Wire(reader) => From::Wire(reader),
        ClientSource::Stream(flow) => From::Stream(flow),
        ClientSource::Whole => return (0, 0),
    };
    let to_client = match client.1 {
        ClientSink::Wire(writer) => To::Wire(writer),
        ClientSink::Stream(responder) => match responder.body() {
            Ok(flow) => To::Stream(flow),
            Err(_) => return (0, 0),
        },
        ClientSink::Nobody | ClientSink::Kept(_) => return (0, 0),
    };
    {
        let up = pin!(direction(buffers, from_client, To::Wire(upstream.1), early.0, |n| moved(&up, n)));
        let down = pin!(direction(buffers, From::Wire(upstream.0), to_client, early.1, |n| moved(&down, n)));
        let (mut up, mut down) = (Side::new(up), Side::new(down));
        poll_fn(|cx| {
            up.poll(cx);
            down.poll(cx);
            // A direction that broke leaves nobody to talk to.
            if up.broke || down.broke || (up.ended && down.ended) {
                return Poll::Ready(());
            }
            deadline.poll_expired(cx).map(|_| ())
        })
        .await;
    }
    (up.get(), down.get())
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

async fn direction(
    buffers: &Buffers,
    from: From<'_, '_>,
    mut to: To<'_, '_>,
    early: &[u8],
    moved: impl Fn(usize),
) -> io::Result<()> {
    to.write(early).await?;
    moved(early.len());
    match from {
        From::Wire(reader) => loop {
            poll_fn(|cx| reader.poll_readable(cx)).await?;
            let mut buffer = buffers.take();
            while let Some(count) = ready_now(|cx| buffer.poll_fill(Pin::new(&mut *reader), usize::MAX, cx)).await {
                if count? == 0 {
                    return to.end().await;
                }
                to.write(buffer.filled()).await?;
                moved(buffer.filled().len());
                buffer.clear();
            }
        },
        From::Stream(flow) => {
            while let Some(bytes) = poll_fn(|cx| flow.poll_bytes(cx)).await? {
                to.write(&bytes).await?;
                moved(bytes.len());
            }
            to.end().await
        }
    }
}

impl To<'_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Wire(writer) => {
                writer.write_all(bytes).await?;
                writer.flush().await
            }
            Self::Stream(flow) => flow.send(bytes, false, None).await.map_err(io::Error::from),
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
