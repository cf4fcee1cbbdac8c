//! Reading and writing with a deadline that is set only when there is something to wait for.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use net::{Buffer, Deadline, Pipe, Reader, Writer};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Why bytes could not be moved.
#[derive(Debug)]
pub(crate) enum Stalled {
    /// Nothing moved in time.
    TimedOut,
    /// The connection broke.
    Broken(io::Error),
}

impl From<Stalled> for io::Error {
    fn from(stalled: Stalled) -> Self {
        match stalled {
            Stalled::TimedOut => io::ErrorKind::TimedOut.into(),
            Stalled::Broken(error) => error,
        }
    }
}

/// When waiting ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// After so much time without progress.
    After(Duration),
    /// At a moment.
    At(Instant),
}

/// A deadline, and when it is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait<'d> {
    pub(crate) deadline: &'d Deadline,
    pub(crate) due: Due,
}

impl<'d> Wait<'d> {
    /// Waits for so long without progress.
    pub(crate) fn after(deadline: &'d Deadline, time: Duration) -> Self {
        Self { deadline, due: Due::After(time) }
    }

    /// Waits until a moment.
    pub(crate) fn until(deadline: &'d Deadline, moment: Instant) -> Self {
        Self { deadline, due: Due::At(moment) }
    }

    /// Asks `poll` until it is ready or the wait is over. The deadline is not touched when `poll` is ready at once.
    pub(crate) async fn until_ready<T>(
        self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Result<T, Stalled> {
        let mut armed = false;
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(Stalled::Broken)),
            Poll::Pending => {
                if !armed {
                    armed = true;
                    self.deadline.set(match self.due {
                        Due::After(time) => Instant::now() + time,
                        Due::At(moment) => moment,
                    });
                }
                self.deadline.poll_expired(cx).map(|_| Err(Stalled::TimedOut))
            }
        })
        .await
    }
}

/// Reads what has come into `buffer`, which has room, at most `limit` bytes: how many, 0 at the end of the stream.
pub(crate) async fn fill(
    buffer: &mut Buffer,
    reader: &mut Reader<'_>,
    limit: usize,
    wait: Wait<'_>,
) -> Result<usize, Stalled> {
    wait.until_ready(|cx| buffer.poll_fill(Pin::new(&mut *reader), limit, cx)).await
}

/// Reads what has come already; `None` when nothing has.
pub(crate) async fn fill_now(buffer: &mut Buffer, reader: &mut Reader<'_>) -> Option<Result<usize, Stalled>> {
    poll_fn(|cx| {
        Poll::Ready(match buffer.poll_fill(Pin::new(&mut *reader), usize::MAX, cx) {
            Poll::Ready(filled) => Some(filled.map_err(Stalled::Broken)),
            Poll::Pending => None,
        })
    })
    .await
}

/// Writes both parts, by one call where the socket takes them.
pub(crate) async fn write_all(
    writer: &mut Writer<'_>,
    mut first: &[u8],
    mut second: &[u8],
    wait: Wait<'_>,
) -> Result<(), Stalled> {
    while !first.is_empty() || !second.is_empty() {
        let count = wait
            .until_ready(|cx| {
                let writer = Pin::new(&mut *writer);
                match (first, second) {
                    (first, []) => writer.poll_write(cx, first),
                    ([], second) => writer.poll_write(cx, second),
                    (first, second) => writer.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
                }
            })
            .await?;
        if count == 0 {
            return Err(Stalled::Broken(io::ErrorKind::WriteZero.into()));
        }
        let of_first = count.min(first.len());
        first = &first[of_first..];
        second = &second[count - of_first..];
    }
    if writer.holds_back() {
        wait.until_ready(|cx| Pin::new(&mut *writer).poll_flush(cx)).await?;
    }
    Ok(())
}

/// Writes several parts, by as few calls as the socket takes them in.
pub(crate) async fn write_slices(
    writer: &mut Writer<'_>,
    mut slices: &mut [IoSlice<'_>],
    wait: Wait<'_>,
) -> Result<(), Stalled> {
    // Empty ones at the beginning would look like a write that took nothing.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let count = wait.until_ready(|cx| Pin::new(&mut *writer).poll_write_vectored(cx, slices)).await?;
        if count == 0 {
            return Err(Stalled::Broken(io::ErrorKind::WriteZero.into()));
        }
        IoSlice::advance_slices(&mut slices, count);
    }
    if writer.holds_back() {
        wait.until_ready(|cx| Pin::new(&mut *writer).poll_flush(cx)).await?;
    }
    Ok(())
}

/// Fills the empty `pipe` from `source`: how many bytes, 0 at the end of the stream.
pub(crate) async fn fill_pipe(
    pipe: &mut Pipe,
    source: &TcpStream,
    limit: u64,
    wait: Wait<'_>,
) -> Result<usize, Stalled> {
    wait.until_ready(|cx| pipe.poll_fill(source, limit, cx)).await
}

/// Empties `pipe` into `sink`.
pub(crate) async fn drain_pipe(pipe: &mut Pipe, sink: &TcpStream, wait: Wait<'_>) -> Result<(), Stalled> {
    while pipe.filled() > 0 {
        wait.until_ready(|cx| pipe.poll_drain(sink, cx)).await?;
    }
    Ok(())
}
