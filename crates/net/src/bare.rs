//! Reads and writes of a bare connection.
//!
//! The C library's `recv`, `send` and `writev` are points at which a thread may be cancelled, and in a process of several
//! threads each of them marks the thread before and after, which costs more than all else that is done for a small read.
//! No thread here is ever cancelled, so these are system calls and nothing around them.
//!
//! A read or write of less than there was room for has met the end of what there is. The runtime is told at once that the
//! socket is not ready, which saves the call that would only say so.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// Reads into what is free of `buf`. Nothing read into free room is the end of the connection.
///
/// # Errors
/// Those of the system.
pub fn poll_read(socket: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let room = buf.initialize_unfilled();
    let length = room.len();
    let count = ready!(poll_moved(socket, cx, Interest::READABLE, length, || {
        Ok(rustix::net::recv(socket, &mut *room, RecvFlags::empty())?.0)
    }))?;
    buf.advance(count);
    Poll::Ready(Ok(()))
}

/// Writes of `bytes` what the socket takes: how many.
///
/// # Errors
/// Those of the system.
pub fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    poll_moved(socket, cx, Interest::WRITABLE, bytes.len(), || {
        Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
    })
}

/// As [`poll_write`], of several parts one after the other.
///
/// # Errors
/// Those of the system.
pub fn poll_write_vectored(socket: &TcpStream, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let length = parts.iter().map(|part| part.len()).sum();
    poll_moved(socket, cx, Interest::WRITABLE, length, || Ok(rustix::io::writev(socket, parts)?))
}

/// A task that waits to read from one socket, always the same, and that the runtime knows to wake.
///
/// A task that waits for several things asks for all of them whenever one of them comes. Here that costs a look at what is known of the socket,
/// without a lock.
#[derive(Debug, Default)]
pub struct Watched(Option<WakerAddress>);

/// Of a waker's task, and of what can be done with it: for comparison alone.
type WakerAddress = (usize, usize);

impl Watched {
    /// Ready once something can be read, without taking it. Nobody else reads from the socket, or asks whether that can be done, before this has been
    /// ready.
    ///
    /// # Errors
    /// Those of the runtime.
    pub fn poll_readable(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_ready = socket.try_io(Interest::READABLE, || Ok(())).is_ok();
        // The runtime keeps a waker until it has used it: no other one is there, at the same place, before that.
        let waker = (cx.waker().data().addr(), std::ptr::from_ref(cx.waker().vtable()).addr());
        if !is_ready && self.0 == Some(waker) {
            return Poll::Pending;
        }
        self.0 = None;
        // Whose turn has been long enough is woken for that, and not by the socket.
        drop(ready!(coop::poll_proceed(cx)));
        if is_ready {
            return Poll::Ready(Ok(()));
        }
        let polled = socket.poll_read_ready(cx);
        self.0 = polled.is_pending().then_some(waker);
        polled
    }
}

/// Whether nothing has come that would be read next: neither bytes nor the end. Nothing is taken, and nobody is woken later.
pub fn is_silent(socket: &TcpStream) -> bool {
    // The kernel is asked only if the runtime is not sure: the last read may have taken exactly what there was.
    has_none(socket.try_io(Interest::READABLE, || peek(socket)))
}

/// As [`is_silent`], of a Unix socket.
pub fn is_silent_unix(socket: &UnixStream) -> bool {
    has_none(socket.try_io(Interest::READABLE, || peek(socket)))
}

/// As [`is_silent`], asked of the kernel, for a socket that the runtime does not know yet.
pub fn is_silent_below(socket: impl AsFd) -> bool {
    has_none(peek(socket))
}

/// Whether the other side has ended what it sends, or the connection is broken, even if there is something to read before that. Asks the kernel:
/// whoever's event queue the socket is in hears of nothing.
pub fn has_ended(socket: impl AsFd) -> bool {
    polled(socket).intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}

/// Whether the connection is broken, so that nothing can be sent any more. Asks the kernel.
pub fn is_broken(socket: impl AsFd) -> bool {
    polled(socket).intersects(PollFlags::HUP | PollFlags::ERR)
}

fn polled(socket: impl AsFd) -> PollFlags {
    let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
    // Who cannot be asked is taken for alive.
    rustix::event::poll(&mut fds, Some(&Timespec::default())).map_or(PollFlags::empty(), |_| fds[0].revents())
}

fn peek(socket: impl AsFd) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, &mut [0_u8][..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
}

fn has_none(peeked: io::Result<usize>) -> bool {
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// What `call` moves, once the socket is ready. It is tried before the runtime is asked to wake the task, for mostly the
/// socket is known to be ready. A task whose turn has been long enough has to wait all the same.
fn poll_moved(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    interest: Interest,
    length: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    let turn = ready!(coop::poll_proceed(cx));
    loop {
        if let Some(moved) = all_or_last(socket, interest, length, &mut call) {
            turn.made_progress();
            return Poll::Ready(moved);
        }
        if interest.is_readable() {
            ready!(socket.poll_read_ready(cx))?;
        } else {
            ready!(socket.poll_write_ready(cx))?;
        }
    }
}

/// What `call` moves; nothing if the socket turns out not to be ready. One that moves less than `length`, but something, leaves the
/// socket marked as not ready.
fn all_or_last(
    socket: &TcpStream,
    interest: Interest,
    length: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut last = None;
    let moved = socket.try_io(interest, || {
        let count = call()?;
        if 0 < count && count < length {
            last = Some(count);
            // Not an error of anybody's: this is how the runtime is told.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    if let Some(count) = last {
        return Some(Ok(count));
    }
    match moved {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
        moved => Some(moved),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    async fn read(socket: &TcpStream, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; room];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| poll_read(socket, cx, &mut buf)).await?;
        let count = buf.filled().len();
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Fifty times what a socket holds, so that both sides wait for each other many times.
    #[tokio::test]
    async fn everything_arrives_in_order_however_it_is_cut() {
        let (near, far) = pair().await;
        let sent: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let write = tokio::spawn(async move {
            let (mut at, mut turn) = (0, 0_usize);
            while at < sent.len() {
                turn += 1;
                let end = sent.len().min(at + 1 + turn * 7919 % 100_000);
                let middle = at + (end - at) / 3;
                at += if turn.is_multiple_of(2) {
                    let parts = [IoSlice::new(&sent[at..middle]), IoSlice::new(&sent[middle..end])];
                    poll_fn(|cx| poll_write_vectored(&near, cx, &parts)).await.unwrap()
                } else {
                    poll_fn(|cx| poll_write(&near, cx, &sent[at..end])).await.unwrap()
                };
            }
        });
        let (mut got, mut turn) = (Vec::new(), 0_usize);
        loop {
            turn += 1;
            let some = read(&far, 1 + turn * 104_729 % 70_000).await.unwrap();
            if some.is_empty() {
                break;
            }
            got.extend(some);
        }
        write.await.unwrap();
        assert!(got == expected, "{} of {} bytes came", got.len(), expected.len());
    }

    #[tokio::test]
    async fn a_read_of_less_than_there_is_room_for_leaves_the_socket_unready() {
        let (near, far) = pair().await;
        poll_fn(|cx| poll_write(&near, cx, b"abc")).await.unwrap();
        assert_eq!(read(&far, 10).await.unwrap(), b"abc");
        let asked = far.try_io(Interest::READABLE, || -> io::Result<()> { panic!("it was asked again") });
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // What comes later wakes it again.
        poll_fn(|cx| poll_write(&near, cx, b"d")).await.unwrap();
        assert_eq!(read(&far, 10).await.unwrap(), b"d");
    }

    /// Has the task's turn be over: the runtime says that nothing is ready until the next one.
    fn spend_turn(cx: &mut Context<'_>) {
        while let Poll::Ready(turn) = coop::poll_proceed(cx) {
            turn.made_progress();
        }
    }

    #[tokio::test]
    async fn who_is_watched_is_woken_by_what_comes_whoever_asks_in_between() {
        let (near, far) = pair().await;
        let mut watched = Watched::default();
        for turn in 0..100_u32 {
            if turn % 3 == 0 {
                // A turn that is over is no reason to be forgotten.
                poll_fn(|cx| {
                    spend_turn(cx);
                    assert!(watched.poll_readable(&far, cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            if turn % 4 == 0 {
                // Nor is another task that asked before.
                let mut cx = Context::from_waker(std::task::Waker::noop());
                assert!(watched.poll_readable(&far, &mut cx).is_pending());
            }
            poll_fn(|cx| {
                assert!(watched.poll_readable(&far, cx).is_pending());
                assert!(watched.poll_readable(&far, cx).is_pending());
                Poll::Ready(())
            })
            .await;
            let send = async {
                tokio::task::yield_now().await;
                near.try_write(b"a").unwrap();
            };
            tokio::join!(send, async { poll_fn(|cx| watched.poll_readable(&far, cx)).await.unwrap() });
            // It stays so until it is read.
            poll_fn(|cx| watched.poll_readable(&far, cx)).await.unwrap();
            poll_fn(|cx| {
                spend_turn(cx);
                assert!(watched.poll_readable(&far, cx).is_pending(), "others have their turn");
                Poll::Ready(())
            })
            .await;
            assert_eq!(read(&far, 10).await.unwrap(), b"a");
        }
        drop(near);
        poll_fn(|cx| watched.poll_readable(&far, cx)).await.unwrap();
        assert_eq!(read(&far, 10).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn what_has_come_is_no_silence_however_long_the_turn_was() {
        let (near, far) = pair().await;
        let (own, other) = UnixStream::pair().unwrap();
        let silent = || [is_silent(&far), is_silent_below(&far), is_silent_unix(&other), is_silent_below(&other)];
        assert_eq!(silent(), [true; 4]);
        near.try_write(b"a").unwrap();
        own.try_write(b"a").unwrap();
        far.readable().await.unwrap();
        other.readable().await.unwrap();
        poll_fn(|cx| {
            spend_turn(cx);
            assert_eq!(silent(), [false; 4]);
            Poll::Ready(())
        })
        .await;
        // Nothing was taken. After a read it is silent, though the runtime may not know that yet.
        assert_eq!(far.try_read(&mut [0]).unwrap() + other.try_read(&mut [0]).unwrap(), 2);
        assert_eq!(silent(), [true; 4]);
        assert!(!has_ended(&far) && !has_ended(&other));
        drop((near, own));
        far.readable().await.unwrap();
        other.readable().await.unwrap();
        assert_eq!(silent(), [false; 4]);
        assert!(has_ended(&far) && has_ended(&other) && !is_broken(&far) && is_broken(&other));
    }

    #[tokio::test]
    async fn an_end_is_nothing_and_a_reset_an_error() {
        let (near, far) = pair().await;
        drop(near);
        assert_eq!(read(&far, 10).await.unwrap(), b"");
        let (near, far) = pair().await;
        rustix::net::sockopt::set_socket_linger(&near, Some(std::time::Duration::ZERO)).unwrap();
        drop(near);
        assert_eq!(read(&far, 10).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let error = loop {
            match poll_fn(|cx| poll_write(&far, cx, b"anybody there?")).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
