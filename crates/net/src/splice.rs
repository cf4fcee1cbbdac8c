//! Moving bytes from socket to socket inside the kernel.
//!
//! `splice(2)` moves pages between a socket and a pipe without copying them through user space. It pays for large
//! bodies (half the CPU time at 1 MiB) and not for small ones, where a copy is cheaper than two more system calls.
//!
//! The pipe is emptied before it is filled again. That keeps one reading of "would block" on each side: an empty pipe
//! that cannot be filled means the source has nothing, a filled pipe that cannot be emptied means the sink is full.
//!
//! A pipe can also be filled from memory: with a copy of a few bytes, and with the very pages that many stand in.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::pipe::{IoSliceRaw, PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most bytes that one call is asked for.
const CALL_BYTES_MAX: usize = 1 << 20;

/// Room of a wide pipe. Four times what a pipe has by itself saves a twentieth of the time that large bodies take within the machine; more saves no more. A
/// segment of the loopback interface alone has one page more than others have room for.
const WIDE_BYTES: usize = 256 * 1024;

/// Wide pipes of the process at most. They have a quarter of the pages that the system gives to all pipes of a user without rights (16,384), since
/// there are two processes during an upgrade; who has used those up gets pipes of two pages.
const WIDE_MAX: usize = 64;

/// Wide pipes of the process.
static WIDE: AtomicUsize = AtomicUsize::new(0);

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
    is_wide: bool,
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
            None => Ends::open()?,
        };
        Ok(Pipe { ends: Some(ends), filled: 0, home: Rc::clone(&self.free) })
    }
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let mut ends = Self { read, write, is_wide: false };
        ends.widen();
        Ok(ends)
    }

    /// Makes it wide, if the process may have one more. One that stays as it is has to be filled more often.
    fn widen(&mut self) {
        if WIDE.fetch_add(1, Ordering::Relaxed) < WIDE_MAX {
            self.is_wide = rustix::pipe::fcntl_setpipe_size(&self.write, WIDE_BYTES).is_ok();
        }
        if !self.is_wide {
            WIDE.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if self.is_wide {
            WIDE.fetch_sub(1, Ordering::Relaxed);
        }
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

    /// Copies bytes into the pipe, as many as there is room for: how many.
    ///
    /// # Errors
    /// What the system reports.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(|ends| rustix::io::write(&ends.write, bytes))
    }

    /// Puts the pages into the pipe that `bytes` stand in, as many as there is room for: how many bytes that is. Nothing is copied, now or
    /// later.
    ///
    /// # Safety
    /// Those bytes are not written to as long as anybody may read them: who has them in the end, and until when, nobody says. So they are
    /// never written to again before their pages have left this process, as by a hole in their file.
    ///
    /// # Errors
    /// What the system reports.
    pub unsafe fn give(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let slices = [IoSliceRaw::from_slice(bytes)];
        // SAFETY: this is the end that is written, so that memory is read alone; the rest is the caller's word.
        self.add(|ends| unsafe { rustix::pipe::vmsplice(&ends.write, &slices, SpliceFlags::NONBLOCK) })
    }

    fn add(&mut self, add: impl FnOnce(&Ends) -> rustix::io::Result<usize>) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = match add(ends) {
            Err(error) if error == rustix::io::Errno::AGAIN => 0,
            added => added?,
        };
        self.filled += count;
        Ok(count)
    }

    /// Moves what the pipe holds on to `sink`, as much as it takes now: how many bytes.
    ///
    /// # Errors
    /// What the sink's socket reports.
    pub fn drain_now(&mut self, sink: &TcpStream) -> io::Result<usize> {
        match self.drain(sink) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            moved => moved,
        }
    }

    fn drain(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let count = sink.try_io(Interest::WRITABLE, || {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            Ok(rustix::pipe::splice(&ends.read, None, sink, None, self.filled, flags)?)
        })?;
        self.filled -= count;
        Ok(count)
    }

    /// Moves what the pipe holds on to `sink`, as much as it takes: how many bytes. The kernel is not told when further
    /// bytes follow: held back for longer segments, they cost a quarter more time.
    ///
    /// # Errors
    /// What the sink's socket reports.
    pub fn poll_drain(&mut self, sink: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.filled > 0);
        loop {
            ready!(sink.poll_write_ready(cx))?;
            match self.drain(sink) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                moved => return Poll::Ready(moved),
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
    async fn memory_goes_through_a_pipe_as_far_as_it_and_the_socket_have_room() {
        static PAGES: [u8; 3_000_000] = [7; 3_000_000];
        let (sink, mut to) = pair().await;
        sink.writable().await.unwrap();
        let pipes = Pipes::default();
        let (mut sent, mut is_full) = (0, false);
        while !is_full {
            let mut pipe = pipes.take().unwrap();
            assert_eq!((pipe.put(b"head").unwrap(), pipe.filled()), (4, 4));
            // SAFETY: nobody can write to it.
            let given = unsafe { pipe.give(&PAGES) }.unwrap();
            assert!((56 * 1024..PAGES.len()).contains(&given), "as much as a pipe has room for: {given}");
            // SAFETY: as above.
            assert_eq!(unsafe { pipe.give(&PAGES) }.unwrap(), 0, "it is full");
            let moved = pipe.drain_now(&sink).unwrap();
            sent += moved;
            is_full = moved < 4 + given;
            assert_eq!(pipe.filled(), 4 + given - moved);
        }
        assert!(pipes.free.borrow().is_empty(), "what the socket had no room for is gone with its pipe");
        drop(sink);
        let mut got = Vec::new();
        to.read_to_end(&mut got).await.unwrap();
        assert_eq!((got.len(), &got[..6]), (sent, &b"head\x07\x07"[..]));
    }

    #[test]
    fn wide_pipes_are_few_and_counted() {
        // Others of this process may have some meanwhile, as other tests do.
        let mut all: Vec<Ends> = (0..WIDE_MAX + 3).map(|_| Ends::open().unwrap()).collect();
        let room = |ends: &Ends| rustix::pipe::fcntl_getpipe_size(&ends.write).unwrap();
        assert!(all.iter().all(|ends| (room(ends) == WIDE_BYTES) == ends.is_wide));
        assert!((1..=WIDE_MAX).contains(&all.iter().filter(|ends| ends.is_wide).count()));
        assert!(!all[WIDE_MAX + 2].is_wide);
        all.clear();
        assert!(Ends::open().unwrap().is_wide, "those that went are counted no more");
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
