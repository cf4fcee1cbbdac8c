//! Sending a body that is read as it comes: one that is being fetched, or lies on disk.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http1::write;
use store::{ReadError, Reader};

use super::{Broken, Way};
use crate::data::encode::Encoding;
use crate::data::ends::ClientSink;

/// Between tries to read what a disk does not give.
const FAILED_PAUSES: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(250)];

/// Between tries to have something read by a disk that has too much to do: the pauses double from the first to the last, and end
/// after so many. A client that waits for ten seconds in the midst of an answer is still better served than by half of it.
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(10);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(640);
const BUSY_PAUSES: u32 = 20;

impl Way<'_, '_> {
    /// Sends what stands between two places of a body that is read as it comes.
    pub(super) async fn read(
        &mut self,
        reader: &mut Reader,
        (first, end): (u64, u64),
        is_last: bool,
    ) -> Result<(), Broken> {
        reader.seek(first);
        let mut at = first;
        while at < end {
            let Some(mut bytes) = self.next(reader, None).await? else {
                return if end == u64::MAX { self.end().await } else { Err(Broken::Origin) };
            };
            bytes.truncate(usize::try_from(end - at).unwrap_or(usize::MAX));
            at += bytes.len() as u64;
            self.piece(bytes, is_last && at == end).await?;
        }
        self.flush(&[]).await
    }

    /// Waits for more, unless the client goes. What has gathered goes out before anything is waited for.
    pub(super) async fn next(
        &mut self,
        reader: &mut Reader,
        encoding: Option<&mut Encoding<'_>>,
    ) -> Result<Option<Bytes>, Broken> {
        let mut next = pin!(read_on(reader));
        let now = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
        let read = match now {
            Poll::Ready(read) => read,
            Poll::Pending => {
                self.flush_coded(encoding).await?;
                let sink = &mut *self.sink;
                let read = poll_fn(|cx| {
                    if sink.is_gone(cx) {
                        return Poll::Ready(None);
                    }
                    next.as_mut().poll(cx).map(Some)
                });
                match read.await {
                    Some(read) => read,
                    None => return Err(Broken::Gone),
                }
            }
        };
        read.map_err(|error| {
            tracing::debug!(%error, "a stored body cannot be read");
            match error {
                ReadError::Disk(_) => Broken::Disk,
                ReadError::Busy | ReadError::Slow => Broken::Busy,
                ReadError::Broken | ReadError::Lagged => Broken::Origin,
            }
        })
    }

    async fn piece(&mut self, bytes: Bytes, is_last: bool) -> Result<(), Broken> {
        let count = bytes.len() as u64;
        match self.sink {
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(Broken::Client)?;
                body.send_shared(bytes, is_last, self.wait).await.map_err(Broken::Client)?;
            }
            _ => {
                if self.chunked {
                    self.out.extend_from_slice(write::chunk_head(&mut [0; write::CHUNK_HEAD_BYTES_MAX], count));
                }
                self.flush(&bytes).await?;
                if self.chunked {
                    self.out.extend_from_slice(b"\r\n");
                }
            }
        }
        self.sent += count;
        Ok(())
    }

    /// Ends a body whose length nobody knew.
    async fn end(&mut self) -> Result<(), Broken> {
        match self.sink {
            ClientSink::Stream(responder) => {
                let body = responder.body().map_err(Broken::Client)?;
                body.finish(&[]).await.map_err(Broken::Client)
            }
            _ => {
                if self.chunked {
                    self.out.extend_from_slice(write::LAST_CHUNK);
                }
                self.flush(&[]).await
            }
        }
    }
}

/// Reads on. A disk that fails, or has too much to do, is asked again, after pauses.
async fn read_on(reader: &mut Reader) -> Result<Option<Bytes>, ReadError> {
    let (mut failed, mut busy) = (FAILED_PAUSES.into_iter(), 0);
    loop {
        let (error, pause) = match reader.next().await {
            Err(error @ ReadError::Disk(_)) => (error, failed.next()),
            Err(error @ ReadError::Busy) => {
                busy += 1;
                let pause = (BUSY_PAUSE_MIN * (1 << busy.min(10))).min(BUSY_PAUSE_MAX);
                (error, (busy <= BUSY_PAUSES).then_some(pause))
            }
            read => return read,
        };
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
    }
}
