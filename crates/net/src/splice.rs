//! Moving bytes from socket to socket inside the kernel.
//!
//! `splice(2)` moves pages between a socket and a pipe without copying them through user space. It pays for large
//! bodies (half the CPU time at 1 MiB) and not for small ones, where a copy is cheaper than two more system calls.
//!
//! The pipe is emptied before it is filled again. That keeps one reading of "would block" on each side: an empty pipe
//! that cannot be filled means the source has nothing, a filled pipe that cannot be emptied means the sink is full.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most bytes that one call is asked for. A pipe has room for 64 KiB by default, and that is best: larger ones move more
/// at once, which leaves the work of sending it to the core that runs the proxy, and costs a fifth more time.
const CALL_BYTES_MAX: usize = 1 << 20;

/// Pipes kept for reuse at most; each holds two descriptors.
const KEPT_MAX: usize = 32;

/// A core's pipes.
#[derive(Clone, Debug, Default)]
pub struct Pipes {
    free: Rc<RefCell<Vec<Ends>>>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use between two sockets.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    /// Bytes in the pipe.
    filled: usize,
    home: Rc<RefCell<Vec<Ends>>>,
}

impl Pipes {
    /// An empty pipe.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn take(&self) -> io::Result<Pipe> {
        let kept = self.free.borrow_mut().pop();
        let ends = match kept {
            Some(ends) => ends,
            None => {
                let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
                Ends { read, write }
            }
        };
        Ok(Pipe { ends: Some(ends), filled: 0, home: Rc::clone(&self.free) })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut free = self.home.borrow_mut();
        // A pipe that still holds bytes would give them to the next connection.
        if self.filled == 0
            && free.len() < KEPT_MAX
            && let Some(ends) = self.ends.take()
        {
            free.push(ends);
        }
    }
}

impl Pipe {
    /// Bytes in the pipe.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Fills the empty pipe from `source` with at most `limit` bytes: how many came, 0 at the end of the stream.
    ///
    /// # Errors
    /// What the source's socket reports.
    pub fn poll_fill(&mut self, source: &TcpStream, limit: u64, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.filled == 0 && limit > 0);
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let limit = usize::try_from(limit).map_or(CALL_BYTES_MAX, |limit| limit.min(CALL_BYTES_MAX));
        loop {
            ready!(source.poll_read_ready(cx))?;
            let moved = source.try_io(Interest::READABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(rustix::pipe::splice(source, None, &ends.write, None, limit, flags)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.filled = count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Moves what the pipe holds on to `sink`, as much as it takes: how many bytes. The kernel is not told when further
    /// bytes follow: held back for longer segments, they cost a quarter more time.
    ///
    /// # Errors
    /// What the sink's socket reports.
    pub fn poll_drain(&mut self, sink: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.filled > 0);
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        loop {
            ready!(sink.poll_write_ready(cx))?;
            let moved = sink.try_io(Interest::WRITABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                Ok(rustix::pipe::splice(&ends.read, None, sink, None, self.filled, flags)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.filled -= count;
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order() {
        let ((mut from, source), (sink, mut to)) = (pair().await, pair().await);
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            from.write_all(&sent).await.unwrap();
        });
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            to.read_to_end(&mut got).await.unwrap();
            got
        });
        {
            // The pipe and its pool belong to this task alone and end before anything else is awaited elsewhere.
            let pipes = Pipes::default();
            let mut pipe = pipes.take().unwrap();
            let mut moved = 0;
            while poll_fn(|cx| pipe.poll_fill(&source, u64::MAX, cx)).await.unwrap() > 0 {
                while pipe.filled() > 0 {
                    moved += poll_fn(|cx| pipe.poll_drain(&sink, cx)).await.unwrap();
                }
            }
            assert_eq!(moved, expected.len());
        }
        drop(sink);
        writer.await.unwrap();
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_limit_leaves_the_rest_in_the_socket() {
        let (mut from, mut source) = pair().await;
        from.write_all(b"abcdef").await.unwrap();
        let pipes = Pipes::default();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(&source, 4, cx)).await.unwrap(), 4);
        let mut rest = [0; 2];
        source.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"ef");
    }

    #[tokio::test]
    async fn a_pipe_with_bytes_in_it_is_not_used_again() {
        let (mut from, source) = pair().await;
        from.write_all(b"secret").await.unwrap();
        let pipes = Pipes::default();
        let mut pipe = pipes.take().unwrap();
        poll_fn(|cx| pipe.poll_fill(&source, 6, cx)).await.unwrap();
        drop(pipe);
        assert!(pipes.free.borrow().is_empty());
        drop(pipes.take().unwrap());
        assert_eq!(pipes.free.borrow().len(), 1);
    }
}
