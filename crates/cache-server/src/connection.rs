//! A connection that speaks Redis' protocol.
//!
//! While it is idle it holds no buffer. What comes is read as far as it has come, all whole commands in it are run, and their answers
//! go out in one write. Whoever does not take its answers is not read from: beyond 256 KiB the rest of a pipeline, and of an `MGET`, waits until
//! they are taken, and after `stall_timeout` without a byte taken, the connection is cut.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::Buffer;
use resp::{Decoder, Malformed, Step, Unacceptable};
use tokio::net::TcpStream;

use crate::core::{FRESH_GRACE, Held, Tether};
use crate::named::{STRANGERS_BOUNDS, Settings};
use crate::outbox::Outbox;
use crate::session::{Session, Turn};

/// What is read at once, so that one client's pipeline does not hold up the others of its core.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How long a connection that ends listens for what its client still sends, so that the last answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ends early.
enum Cut {
    /// The client went, or was gone.
    Gone,
    /// It sent or took nothing for too long, or did not speak the protocol.
    Fault,
}

/// What came of reading.
enum Read {
    Something,
    /// It was woken for nothing.
    Nothing,
    /// The client sends no more.
    End,
}

/// What comes after the commands that are there.
enum Next {
    /// The next command needs so many bytes.
    More(usize),
    /// Answers have to be taken first.
    Flush,
    /// Nothing, and perhaps for a reason.
    End(Option<Cut>),
}

struct Conversation {
    held: Held,
    tether: Rc<Tether>,
    socket: TcpStream,
    session: Session,
    decoder: Decoder,
    outbox: Outbox,
    /// The bytes of a command that is answered in part, and goes on when that has been taken.
    begun: Option<usize>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(held: Held, tether: Rc<Tether>, socket: TcpStream) {
    let session = Session { id: held.seat.id, ..Session::default() };
    let (decoder, outbox) = (Decoder::default(), Outbox::default());
    let mut conversation = Conversation { held, tether, socket, session, decoder, outbox, begun: None };
    match conversation.converse().await {
        Ok(()) | Err(Cut::Gone) => {}
        Err(Cut::Fault) => conversation.held.cells().cut.increment(),
    }
}

impl Conversation {
    async fn converse(&mut self) -> Result<(), Cut> {
        loop {
            if !self.wait().await? {
                return Ok(());
            }
            let mut buffer = self.held.core.buffers.take();
            self.outbox.give_memory(self.held.core.take_memory());
            let goes_on = self.busy(&mut buffer).await;
            if self.outbox.len() == 0 {
                self.held.core.keep_memory(self.outbox.take_memory());
            }
            if !goes_on? {
                return Ok(());
            }
        }
    }

    /// Waits for the next command: whether one may have begun.
    async fn wait(&self) -> Result<bool, Cut> {
        let tether = &self.tether;
        let idle = match (tether.is_ending.get(), tether.is_fresh.get()) {
            (true, false) => return Ok(false),
            (true, true) => Some(FRESH_GRACE),
            (false, _) => self.held.seat.cache.settings().params.idle_timeout,
        };
        match idle {
            Some(idle) => tether.deadline.set(Instant::now() + idle),
            None => tether.deadline.clear(),
        }
        tether.is_idle.set(true);
        let ready = tether.deadline.guard(self.socket.readable()).await;
        tether.is_idle.set(false);
        tether.is_fresh.set(false);
        match ready {
            Ok(ready) => ready.map(|()| true).map_err(|_| Cut::Gone),
            Err(_) => Ok(false),
        }
    }

    /// Reads and answers until nothing is left in the buffer: whether the connection goes on.
    async fn busy(&mut self, buffer: &mut Buffer) -> Result<bool, Cut> {
        let mut needed = 1;
        loop {
            tokio::task::coop::consume_budget().await;
            match self.read(buffer, needed).await? {
                Read::Something => {}
                Read::Nothing => return Ok(true),
                Read::End => return Ok(false),
            }
            loop {
                let next = self.run(buffer);
                self.flush().await?;
                match next {
                    Next::More(bytes) => {
                        needed = bytes;
                        break;
                    }
                    // A client that takes as fast as it is answered must not have the core to itself.
                    Next::Flush => tokio::task::coop::consume_budget().await,
                    Next::End(cut) => {
                        self.linger(buffer).await;
                        return cut.map_or(Ok(false), Err);
                    }
                }
            }
            if buffer.is_empty() && self.decoder.is_between() {
                return Ok(true);
            }
        }
    }

    /// Runs the commands that have come whole, for as long as there is room for their answers.
    fn run(&mut self, buffer: &mut Buffer) -> Next {
        let cache = Arc::clone(&self.held.seat.cache);
        let settings = cache.settings();
        let now = settings.engine.now();
        while !self.outbox.is_full() {
            match self.step(buffer, (&settings, now)) {
                Ok(Some(needed)) => return Next::More(needed),
                Ok(None) if self.session.ends => return Next::End(None),
                Ok(None) => {}
                Err(malformed) => {
                    self.outbox.answers.error(&format!("ERR {malformed}"));
                    return Next::End(Some(Cut::Fault));
                }
            }
        }
        Next::Flush
    }

    /// Runs the next command of what has come, at this time; or says how many bytes it needs.
    fn step(&mut self, buffer: &mut Buffer, (settings, now): (&Settings, u64)) -> Result<Option<usize>, Malformed> {
        let Self { held, decoder, session, outbox, begun, .. } = self;
        let cache = &*held.seat.cache;
        let step = match begun.take() {
            Some(bytes) => Step::Command { bytes },
            None if session.is_known_to(settings) => decoder.step(buffer.filled(), &settings.bounds)?,
            None => {
                let step = decoder.step(buffer.filled(), &STRANGERS_BOUNDS)?;
                decoder.refused().map_or(Ok(step), |why| Err(unheard(why)))?
            }
        };
        let cells = cache.metrics.core(held.core.id);
        let mut turn = Turn { cache, settings, cells, session, out: outbox, now };
        let bytes = match step {
            Step::More { bytes } => return Ok(Some(bytes)),
            Step::Discard { bytes } => {
                buffer.consume(bytes);
                return Ok(None);
            }
            Step::Command { bytes } => {
                if !turn.run(decoder.parts(buffer.filled())) {
                    *begun = Some(bytes);
                    return Ok(None);
                }
                bytes
            }
            Step::Refused { bytes, why } => {
                turn.refuse(why);
                bytes
            }
        };
        decoder.reset();
        buffer.consume(bytes);
        Ok(None)
    }

    /// Reads until there is something new. Room is made for what is needed as it fills, so that a length alone takes no memory.
    async fn read(&mut self, buffer: &mut Buffer, needed: usize) -> Result<Read, Cut> {
        let filled = buffer.filled().len();
        buffer.make_room(needed.min(2 * filled).max(filled + 1));
        loop {
            match buffer.fill_with(READ_BYTES_MAX, |room| self.socket.try_read(room)) {
                Ok(0) => return Ok(Read::End),
                Ok(count) => {
                    self.held.cells().received.add(count as u64);
                    return Ok(Read::Something);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if buffer.is_empty() && self.decoder.is_between() {
                        return Ok(Read::Nothing);
                    }
                    self.stalled(self.socket.readable()).await?;
                }
                Err(_) => return Err(Cut::Gone),
            }
        }
    }

    /// Writes all answers.
    async fn flush(&mut self) -> Result<(), Cut> {
        while self.outbox.len() > 0 {
            match self.outbox.write(|pieces| self.socket.try_write_vectored(pieces)) {
                Ok(count) => {
                    self.held.cells().sent.add(count as u64);
                    self.outbox.advance(count);
                    if self.outbox.len() > 0 {
                        tokio::task::coop::consume_budget().await;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.stalled(self.socket.writable()).await?,
                Err(_) => return Err(Cut::Gone),
            }
        }
        Ok(())
    }

    /// Waits for a client that is in the middle of something.
    async fn stalled(&self, ready: impl Future<Output = io::Result<()>>) -> Result<(), Cut> {
        let timeout = self.held.seat.cache.settings().params.stall_timeout;
        self.tether.deadline.set(Instant::now() + timeout);
        match self.tether.deadline.guard(ready).await {
            Ok(ready) => ready.map_err(|_| Cut::Gone),
            Err(_) => Err(Cut::Fault),
        }
    }

    /// Says that no more comes, and listens for a moment.
    async fn linger(&self, buffer: &mut Buffer) {
        let _gone = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Write);
        let end = Instant::now() + LINGER;
        self.tether.deadline.set(end);
        // Where more has always come already, nothing waits, and so nothing looks at the deadline or lets others have a turn.
        while Instant::now() < end {
            tokio::task::coop::consume_budget().await;
            if !matches!(self.tether.deadline.guard(self.socket.readable()).await, Ok(Ok(()))) {
                return;
            }
            buffer.clear();
            buffer.make_room(1);
            match buffer.fill_with(READ_BYTES_MAX, |room| self.socket.try_read(room)) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

/// The end of someone who has not said the password, and sends more than that takes.
fn unheard(why: Unacceptable) -> Malformed {
    Malformed(match why {
        Unacceptable::Parts { .. } => "unauthenticated multibulk length",
        Unacceptable::Part { .. } | Unacceptable::Command => "unauthenticated bulk length",
        Unacceptable::Quotes => "quotes in a line are not supported",
    })
}
