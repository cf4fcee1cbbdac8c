//! A connection after `101 Switching Protocols`: bytes in both directions until both have ended.
//!
//! A direction that is silent holds no buffer. When one side ends its direction, the other learns of it and may go on
//! with its own. The tunnel is cut after the idle time without a byte in either direction.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use net::{Buffers, Deadline, Reader, Writer};
use tokio::io::AsyncWriteExt;

/// Moves bytes both ways, and tells how many went to the endpoint and to the client. `early` are the bytes that came
/// with the heads, of the client and of the endpoint.
pub(crate) async fn run(
    buffers: &Buffers,
    client: (&mut Reader<'_>, &mut Writer<'_>),
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
    {
        let to_upstream = pin!(direction(buffers, client.0, upstream.1, early.0, |n| moved(&up, n)));
        let to_client = pin!(direction(buffers, upstream.0, client.1, early.1, |n| moved(&down, n)));
        let (mut to_upstream, mut to_client) = (Side::new(to_upstream), Side::new(to_client));
        poll_fn(|cx| {
            to_upstream.poll(cx);
            to_client.poll(cx);
            // A direction that broke leaves nobody to talk to.
            if to_upstream.broke || to_client.broke || (to_upstream.ended && to_client.ended) {
                return Poll::Ready(());
            }
            deadline.poll_expired(cx).map(|_| ())
        })
        .await;
    }
    (up.get(), down.get())
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
    from: &mut Reader<'_>,
    to: &mut Writer<'_>,
    early: &[u8],
    moved: impl Fn(usize),
) -> io::Result<()> {
    to.write_all(early).await?;
    to.flush().await?;
    moved(early.len());
    loop {
        poll_fn(|cx| from.poll_readable(cx)).await?;
        let mut buffer = buffers.take();
        while let Some(count) = ready_now(|cx| buffer.poll_fill(Pin::new(&mut *from), usize::MAX, cx)).await {
            if count? == 0 {
                return to.shutdown().await;
            }
            to.write_all(buffer.filled()).await?;
            to.flush().await?;
            moved(buffer.filled().len());
            buffer.clear();
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
