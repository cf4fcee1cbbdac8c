//! Reads and writes of a bare connection.
//!
//! The C library's `recv`, `send` and `writev` are points at which a thread may be cancelled, and in a process of several
//! threads each of them marks the thread before and after, which costs more than all else that is done for a small read.
//! No thread here is ever cancelled, so these are system calls and nothing around them.
//!
//! A read or write of less than there was room for has met the end of what there is. The runtime is told at once that the
//! socket is not ready, which saves the call that would only say so.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;
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

/// Whether nothing has come that would be read next: neither bytes nor the end. Nothing is taken, and nobody is woken later.
pub fn is_silent(socket: &TcpStream) -> bool {
    // The kernel is asked only if the runtime is not sure: the last read may have taken exactly what there was.
    let peeked = socket.try_io(Interest::READABLE, || {
        Ok(rustix::net::recv(socket, &mut [0_u8][..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
    });
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
    match moved {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => last.map(Ok),
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
