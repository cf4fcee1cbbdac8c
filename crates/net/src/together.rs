//! Small writes of many connections by one system call.
//!
//! A write to a connection within a machine wakes whoever reads at its other end. Where no processor is free for that one, the kernel
//! gives it this one as soon as the call is over, and each answer puts the core aside that has others to give. Writes that one call
//! makes are all made before that, and whoever the first of them woke finds more to do. So what is small waits for the end of the round: until
//! each task that was ready when the first was written has had its turn. Nothing waits longer, and what waits alone is written as ever.
//!
//! Where a core sleeps after each write, there is nothing to write together, and a round would only cost a task's turn. So the first write since it
//! slept is made at once if it slept after a single one before.
//!
//! What is taken here counts as sent. If the socket does not take it after all, the connection has it, its task is woken, and
//! nothing else is written before it.

mod submit;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use rustix::io::Errno;
use tokio::net::TcpStream;

use crate::bare;
use submit::Queue;

/// What waits at most, of one connection and of all: more is written at once.
const SMALL: usize = 2 * 1024;
const ENTRIES_MAX: usize = submit::WRITES_MAX;

thread_local!(static ROUND: RefCell<Option<Box<Round>>> = const { RefCell::new(None) });

thread_local!(static SMALL_WRITES: Cell<SmallWrites> = const { Cell::new(SmallWrites { since: 0, before: u32::MAX }) });

/// How many small writes a core has made.
#[derive(Clone, Copy)]
struct SmallWrites {
    /// Since it slept.
    since: u32,
    /// Between that and the time before. Many where nobody says when it sleeps.
    before: u32,
}

/// This core has nothing to do, and sleeps until something comes.
pub fn sleeps() {
    SMALL_WRITES.set(SmallWrites { since: 0, before: SMALL_WRITES.get().since });
}

/// Another small write; whether it is probably the only one before the core sleeps.
fn is_alone() -> bool {
    let SmallWrites { since, before } = SMALL_WRITES.get();
    SMALL_WRITES.set(SmallWrites { since: since.saturating_add(1), before });
    since == 0 && before <= 1
}

/// A bare connection whose small writes may go together with those of others.
#[derive(Debug)]
pub struct Gathered {
    shared: Arc<Shared>,
}

/// A connection, which stays open as long as something of it waits.
#[derive(Debug)]
struct Shared {
    socket: TcpStream,
    /// Something waits for the end of the round. It is the core's of the connection, as all of this; a connection may change cores.
    waits: AtomicBool,
    has_rest: AtomicBool,
    rest: Mutex<Option<Box<Rest>>>,
}

/// What became of bytes that the socket did not take.
#[derive(Debug)]
struct Rest {
    bytes: Vec<u8>,
    error: Option<io::Error>,
}

/// What waits on a core.
struct Round {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// None as long as nothing was written by it, or where the system does not have it.
    queue: Option<Queue>,
    is_refused: bool,
    /// Of the task that ends rounds.
    waker: Waker,
}

struct Entry {
    shared: Arc<Shared>,
    /// Where its bytes are.
    place: Range<usize>,
    /// Of the task that wrote them.
    waker: Waker,
}

/// Ends this core's rounds, for as long as it is polled. Without it everything is written at once.
pub async fn serve() {
    /// What waits is sent when the core ends.
    struct Installed;
    impl Drop for Installed {
        fn drop(&mut self) {
            drop(ROUND.take());
        }
    }
    let _installed = Installed;
    ROUND.set(Some(Box::new(Round::new())));
    poll_fn(|cx| {
        end_round();
        ROUND.with_borrow_mut(|round| {
            round.iter_mut().for_each(|round| round.waker.clone_from(cx.waker()));
        });
        Poll::<()>::Pending
    })
    .await;
}

/// Writes what waits on this core. Whatever is written meanwhile, as by who is dropped, is written at once.
fn end_round() {
    if let Some(mut round) = ROUND.take() {
        round.end();
        ROUND.set(Some(round));
    }
}

impl Gathered {
    /// A connection, which belongs to this core.
    pub fn new(socket: TcpStream) -> Self {
        let (waits, has_rest, rest) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
        Self { shared: Arc::new(Shared { socket, waits, has_rest, rest }) }
    }

    /// The socket, to read from it and to ask about it. What is written to it directly may go before what waits.
    pub fn socket(&self) -> &TcpStream {
        &self.shared.socket
    }

    /// The socket alone.
    ///
    /// # Errors
    /// When it has not taken all that was written.
    pub fn into_inner(self) -> io::Result<TcpStream> {
        self.settle();
        let unsent = || io::Error::new(io::ErrorKind::WouldBlock, "the socket has not taken all that was written");
        if self.has_rest() {
            return Err(unsent());
        }
        Ok(Arc::into_inner(self.shared).ok_or_else(unsent)?.socket)
    }

    /// Whether something that counts as sent was not taken, and goes with [`Gathered::poll_flush`].
    pub fn has_rest(&self) -> bool {
        self.shared.has_rest.load(Ordering::Relaxed)
    }

    /// Writes of two pieces what the socket takes at once, after all that waits.
    ///
    /// # Errors
    /// Those of the system, of earlier writes too.
    pub fn poll_write(&self, cx: &mut Context<'_>, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        self.settle();
        ready!(self.poll_flush(cx))?;
        match pieces {
            [one, []] | [[], one] => bare::poll_write(self.socket(), cx, one),
            [first, second] => {
                bare::poll_write_vectored(self.socket(), cx, &[IoSlice::new(first), IoSlice::new(second)])
            }
        }
    }

    /// As [`Gathered::poll_write`], but what is small is written at the end of the round.
    ///
    /// # Errors
    /// As there.
    pub fn poll_write_soon(&self, cx: &mut Context<'_>, pieces: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let length = pieces[0].len() + pieces[1].len();
        let is_small = (1..=SMALL).contains(&length);
        if !is_small || is_alone() || self.waits() || self.has_rest() || !self.wait(cx, pieces) {
            return self.poll_write(cx, pieces);
        }
        Poll::Ready(Ok(length))
    }

    /// Sends what counts as sent and was not taken. What waits for the end of the round is not waited for.
    ///
    /// # Errors
    /// Those of the system, of earlier writes too. What was not taken is given up then, and the error is told once.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_rest() {
            return Poll::Ready(Ok(()));
        }
        let mut left = self.shared.rest();
        while let Some(rest) = left.as_mut().filter(|rest| rest.error.is_none() && !rest.bytes.is_empty()) {
            match ready!(bare::poll_write(self.socket(), cx, &rest.bytes)) {
                Ok(count) => drop(rest.bytes.drain(..count)),
                Err(error) => rest.error = Some(error),
            }
        }
        self.shared.has_rest.store(false, Ordering::Relaxed);
        Poll::Ready(left.take().and_then(|rest| rest.error).map_or(Ok(()), Err))
    }

    /// Has what waits written now.
    pub fn settle(&self) {
        if self.waits() {
            end_round();
        }
    }

    fn waits(&self) -> bool {
        self.shared.waits.load(Ordering::Relaxed)
    }

    /// Has pieces wait for the end of the round. `false` where there are no rounds.
    fn wait(&self, cx: &Context<'_>, pieces: [&[u8]; 2]) -> bool {
        if ROUND.with_borrow(|round| round.as_ref().is_some_and(|round| round.entries.len() >= ENTRIES_MAX)) {
            end_round();
        }
        ROUND.with_borrow_mut(|round| {
            let Some(round) = round else { return false };
            if round.entries.is_empty() {
                round.waker.wake_by_ref();
            }
            let from = round.bytes.len();
            pieces.iter().for_each(|piece| round.bytes.extend_from_slice(piece));
            let (shared, place, waker) = (Arc::clone(&self.shared), from..round.bytes.len(), cx.waker().clone());
            shared.waits.store(true, Ordering::Relaxed);
            round.entries.push(Entry { shared, place, waker });
            true
        })
    }
}

impl Shared {
    fn rest(&self) -> MutexGuard<'_, Option<Box<Rest>>> {
        // Whoever panicked with it has lost the connection.
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round {
    fn new() -> Self {
        let bytes = Vec::with_capacity(ENTRIES_MAX * SMALL / 8);
        Self {
            entries: Vec::with_capacity(ENTRIES_MAX),
            bytes,
            queue: None,
            is_refused: false,
            waker: Waker::noop().clone(),
        }
    }

    /// Writes what waits.
    fn end(&mut self) {
        if self.entries.len() > 1 && self.queue.is_none() && !self.is_refused {
            self.queue = Queue::new().inspect_err(|error| tracing::debug!(%error, "no writes together")).ok();
            self.is_refused = self.queue.is_none();
        }
        let bytes = &self.bytes;
        let writes = self.entries.iter().map(|entry| (entry.shared.socket.as_fd(), &bytes[entry.place.clone()]));
        let outcomes = submit::write_each(self.queue.as_mut(), writes);
        // All of them learn it before one is dropped, whose drop may write.
        for (entry, outcome) in self.entries.iter().zip(outcomes) {
            entry.learn(&bytes[entry.place.clone()], outcome);
        }
        self.entries.clear();
        self.bytes.clear();
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.end();
    }
}

impl Entry {
    /// What became of its bytes.
    fn learn(&self, bytes: &[u8], outcome: Result<usize, Errno>) {
        self.shared.waits.store(false, Ordering::Relaxed);
        let (taken, error) = match outcome {
            Ok(count) if count == bytes.len() => return,
            Ok(count) => (count, None),
            Err(Errno::AGAIN | Errno::INTR) => (0, None),
            Err(error) => (bytes.len(), Some(error.into())),
        };
        *self.shared.rest() = Some(Box::new(Rest { bytes: bytes[taken..].to_vec(), error }));
        self.shared.has_rest.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    async fn pair() -> (Gathered, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Gathered::new(near), listener.accept().await.unwrap().0)
    }

    /// On a core with rounds.
    async fn on_a_core<T>(check: impl Future<Output = T>) -> T {
        LocalSet::new()
            .run_until(async {
                let rounds = tokio::task::spawn_local(serve());
                yield_now().await;
                assert!(ROUND.with_borrow(Option::is_some));
                let checked = check.await;
                rounds.abort();
                let _aborted = rounds.await;
                assert!(ROUND.with_borrow(Option::is_none));
                checked
            })
            .await
    }

    #[tokio::test]
    async fn who_writes_once_and_sleeps_does_not_wait() {
        on_a_core(async {
            let ((one, _of_one), (other, _of_other)) = (pair().await, pair().await);
            let writes = async |count: usize| {
                let mut waited = Vec::new();
                for _ in 0..count {
                    for socket in [&one, &other] {
                        soon(socket, b"abc").await.unwrap();
                        waited.push(socket.waits());
                        socket.settle();
                    }
                }
                sleeps();
                waited
            };
            // As long as nobody says that it sleeps, and after many.
            assert_eq!(writes(2).await, [true; 4]);
            assert_eq!(writes(1).await, [true; 2]);
            soon(&one, b"abc").await.unwrap();
            assert!(one.waits());
            one.settle();
            sleeps();
            // It slept after one: the first is made at once, and not what follows.
            assert_eq!(writes(2).await, [false, true, true, true]);
            assert_eq!(writes(1).await, [true; 2]);
            // It slept after none.
            sleeps();
            assert_eq!(writes(1).await, [false, true]);
        })
        .await;
    }

    async fn soon(socket: &Gathered, bytes: &[u8]) -> io::Result<usize> {
        let (first, second) = bytes.split_at(bytes.len() / 3);
        poll_fn(|cx| socket.poll_write_soon(cx, [first, second])).await
    }

    /// Writes what a socket takes without anybody reading: how much.
    async fn fill(socket: &Gathered) -> usize {
        let mut sent = 0;
        poll_fn(|cx| {
            while let Poll::Ready(count) = socket.poll_write(cx, [&[b'a'; 100_000], &[]]) {
                sent += count.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        sent
    }

    /// Each connection has a stream of its own, in pieces of which some are not small.
    async fn everything_arrives(random: &mut fastrand::Rng) {
        let (mut reads, mut sockets) = (Vec::new(), Vec::new());
        for _ in 0..ENTRIES_MAX + 10 {
            let (near, mut far) = pair().await;
            reads.push(tokio::task::spawn_local(async move {
                let mut got = Vec::new();
                far.read_to_end(&mut got).await.unwrap();
                got
            }));
            sockets.push((near, Vec::new()));
        }
        for turn in 0..2_000_u32 {
            let which = random.usize(0..sockets.len());
            let (socket, sent) = &mut sockets[which];
            let length = if random.u8(0..20) == 0 { random.usize(1..100_000) } else { random.usize(1..300) };
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            let mut at = 0;
            while at < length {
                at += if random.u8(0..10) == 0 {
                    poll_fn(|cx| socket.poll_write(cx, [&bytes[at..], &[]])).await.unwrap()
                } else {
                    soon(socket, &bytes[at..]).await.unwrap()
                };
            }
            sent.extend(bytes);
            if turn % 100 == 0 {
                yield_now().await;
            }
        }
        for (read, (socket, sent)) in reads.into_iter().zip(sockets) {
            drop(socket);
            assert!(read.await.unwrap() == sent);
        }
    }

    #[tokio::test]
    async fn everything_arrives_in_order_together_and_one_by_one() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        on_a_core(everything_arrives(&mut fastrand::Rng::with_seed(seed))).await;
        on_a_core(async {
            ROUND.with_borrow_mut(|round| round.as_mut().unwrap().is_refused = true);
            everything_arrives(&mut fastrand::Rng::with_seed(seed)).await;
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_small_waits_for_the_end_of_the_round_and_no_longer() {
        on_a_core(async {
            let ((one, mut of_one), (other, mut of_other)) = (pair().await, pair().await);
            soon(&one, b"abc").await.unwrap();
            soon(&other, b"def").await.unwrap();
            assert!(one.waits() && other.waits());
            yield_now().await;
            assert!(!one.waits() && !other.waits());
            let mut got = [0; 3];
            of_one.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"abc");
            of_other.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"def");
            // A second piece does not pass the first one, nor does one that is large.
            soon(&one, b"abc").await.unwrap();
            soon(&one, b"def").await.unwrap();
            assert!(!one.waits());
            soon(&one, b"abc").await.unwrap();
            soon(&one, &[b'd'; SMALL + 1]).await.unwrap();
            assert!(!one.waits());
        })
        .await;
        let (one, _of_one) = pair().await;
        soon(&one, b"abc").await.unwrap();
        assert!(!one.waits(), "there are no rounds");
    }

    #[tokio::test]
    async fn what_is_not_taken_goes_before_all_that_follows() {
        on_a_core(async {
            let ((one, mut of_one), (other, _of_other)) = (pair().await, pair().await);
            let filled = fill(&one).await;
            poll_fn(|cx| {
                assert!(one.poll_write_soon(cx, [b"b", b"c"]).is_ready());
                assert!(other.poll_write_soon(cx, [b"b", b"c"]).is_ready());
                Poll::Ready(())
            })
            .await;
            // Nothing else wakes this one.
            poll_fn(|_| if one.has_rest() { Poll::Ready(()) } else { Poll::Pending }).await;
            assert!(!other.has_rest());
            poll_fn(|cx| {
                assert!(one.poll_flush(cx).is_pending());
                assert!(one.poll_write_soon(cx, [b"d", b""]).is_pending());
                Poll::Ready(())
            })
            .await;
            let read = tokio::task::spawn_local(async move {
                let mut got = Vec::new();
                of_one.read_to_end(&mut got).await.unwrap();
                got
            });
            soon(&one, b"d").await.unwrap();
            drop(one);
            let got = read.await.unwrap();
            assert_eq!((got.len(), &got[filled..]), (filled + 3, &b"bcd"[..]));
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_that_is_broken_says_so_to_the_next_write() {
        on_a_core(async {
            let ((one, of_one), (other, _of_other)) = (pair().await, pair().await);
            rustix::net::sockopt::set_socket_linger(&of_one, Some(std::time::Duration::ZERO)).unwrap();
            drop(of_one);
            one.socket().readable().await.unwrap();
            assert_eq!(soon(&other, b"abc").await.unwrap(), 3);
            assert_eq!(soon(&one, b"abc").await.unwrap(), 3);
            poll_fn(|_| if one.has_rest() { Poll::Ready(()) } else { Poll::Pending }).await;
            let error = poll_fn(|cx| one.poll_flush(cx)).await.unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
            assert!(!one.has_rest());
            // So is one that had something left.
            let (one, of_one) = pair().await;
            fill(&one).await;
            assert_eq!(soon(&one, b"abc").await.unwrap(), 3);
            poll_fn(|_| if one.has_rest() { Poll::Ready(()) } else { Poll::Pending }).await;
            assert!(poll_fn(|cx| Poll::Ready(one.poll_flush(cx).is_pending())).await);
            drop(of_one);
            assert!(poll_fn(|cx| one.poll_flush(cx)).await.is_err());
            assert!(!one.has_rest());
            assert!(poll_fn(|cx| one.poll_flush(cx)).await.is_ok(), "it is told once");
        })
        .await;
    }

    #[tokio::test]
    async fn what_waits_is_sent_before_its_connection_ends_or_leaves() {
        on_a_core(async {
            let ((one, mut of_one), (other, mut of_other)) = (pair().await, pair().await);
            soon(&one, b"abc").await.unwrap();
            soon(&other, b"def").await.unwrap();
            drop(one);
            let mut other = other.into_inner().unwrap();
            other.write_all(b"ghi").await.unwrap();
            drop(other);
            let mut got = Vec::new();
            of_one.read_to_end(&mut got).await.unwrap();
            of_other.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"abcdefghi");
        })
        .await;
        // Nor is it lost when the core ends.
        let mut far = on_a_core(async {
            let (near, far) = pair().await;
            soon(&near, b"abc").await.unwrap();
            assert!(near.waits());
            far
        })
        .await;
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"abc");
    }
}
