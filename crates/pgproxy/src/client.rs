//! A client, from its first byte to its last.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use pgroute::wire::startup::MINOR_MAX;
use pgroute::wire::write::{self, Severity};
use pgroute::wire::{Piece, Splitter, WireError, frontend};
use pgroute::{SqlState, wire};

use crate::backend::{receive, send};
use crate::core::{Fresh, Held, Tether, after};
use crate::failure::Failure;
use crate::login::Entered;
use crate::session::{self, Session};
use crate::socket::Socket;
use crate::{console, login, opening};

/// How long a connection that ends listens for what its client still sends, so that the last words are not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes that are listened to.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Most bytes that a client may say before it is asked something.
const EARLY_BYTES_MAX: usize = 16 * 1024;

/// Why a login ends without a session.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The client went, or needs no answer.
    Gone,
    /// It is told why.
    Told(Failure),
}

impl From<std::io::Error> for Refused {
    fn from(_: std::io::Error) -> Self {
        Self::Gone
    }
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::Told(Failure::of_wire(error))
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Told(failure)
    }
}

/// A client that is being logged in.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) socket: Socket,
    pub(crate) input: Vec<u8>,
    splitter: Splitter,
}

impl Talk {
    pub(crate) fn new(socket: Socket, input: Vec<u8>) -> Self {
        Self { socket, input, splitter: Splitter::default() }
    }

    /// Says something.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) async fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Refused> {
        let mut out = Vec::new();
        write(&mut out);
        Ok(send(&mut self.socket, &out).await?)
    }

    /// Waits until the client goes. What it says meanwhile, without being asked, is heard later.
    pub(crate) async fn gone(&mut self) {
        let mut chunk = [0; 1024];
        while self.input.len() < EARLY_BYTES_MAX {
            match poll_fn(|cx| self.socket.poll_read(cx, &mut chunk)).await {
                Ok(count @ 1..) => self.input.extend_from_slice(&chunk[..count]),
                _ => return,
            }
        }
        std::future::pending::<()>().await;
    }

    /// The answer to a question for a password or a step of SASL.
    ///
    /// # Errors
    /// When the client has gone, or says something else.
    pub(crate) async fn password(&mut self) -> Result<Vec<u8>, Refused> {
        loop {
            if let Piece::Message { len, .. } = self.splitter.next(&self.input, frontend::look_at_password)? {
                return Ok(self.input.drain(..len).collect());
            }
            if receive(&mut self.socket, &mut self.input).await? == 0 {
                return Err(Refused::Gone);
            }
        }
    }
}

/// Serves a client to its end.
pub(crate) async fn serve(held: Held, tether: Rc<Tether>, fresh: Fresh) {
    let Some(session) = boxed_begin(held, &tether, fresh).await else { return };
    // Where it is made, and nowhere else: a future keeps room for what it hands over as well.
    pin!(session.run()).await;
}

/// Boxed, so that clients which are logged in do not carry the memory of it; and made apart, or whoever polls them would have room for it on the
/// stack each time.
#[inline(never)]
fn boxed_begin(held: Held, tether: &Rc<Tether>, fresh: Fresh) -> Pin<Box<dyn Future<Output = Option<Session>> + '_>> {
    Box::pin(begin(held, tether, fresh))
}

async fn begin(held: Held, tether: &Rc<Tether>, fresh: Fresh) -> Option<Session> {
    tether.deadline.set(after(held.place.listener.params().login_timeout));
    let opened = tether.deadline.guard(opening::open(&held, fresh)).await.ok()?;
    let (startup, mut talk) = match opened {
        Ok(opened) => opened?,
        Err((refused, socket)) => {
            refuse(&mut Talk::new(socket?, Vec::new()), tether, refused).await;
            return None;
        }
    };
    let entering = tether.deadline.guard(async {
        if startup.must_negotiate() {
            talk.say(|out| write::negotiate_version(out, startup.minor.min(MINOR_MAX), &startup.unknown)).await?;
        }
        match console::meant(&held, &startup) {
            Some(params) => Ok(Entered::Console(console::enter(&held, tether, (&params, &startup), &mut talk).await?)),
            None => login::login(&held, tether, &startup, &mut talk).await,
        }
    });
    // It is listed before the login is over, so that it can be meant.
    let entered = tokio::select! {
        biased;
        () = tether.killed() => Ok(Err(Refused::Told(session::killed()))),
        entered = entering => entered,
    };
    match entered {
        Ok(Ok(Entered::Link(link))) => {
            link.run(held, Rc::clone(tether), talk).await;
            None
        }
        Ok(Ok(Entered::Console(console))) => {
            console.serve(held, Rc::clone(tether), talk).await;
            None
        }
        Ok(Ok(Entered::Session(login))) => {
            let (socket, input) = (talk.socket, talk.input);
            Some(Session::new(held, Rc::clone(tether), *login, socket, &input))
        }
        Ok(Err(refused)) => {
            refuse(&mut talk, tether, refused).await;
            None
        }
        Err(_) => {
            let failure = Failure::new(SqlState::NOT_AUTHORIZED, "the login took too long");
            refuse(&mut talk, tether, Refused::Told(failure)).await;
            None
        }
    }
}

async fn refuse(talk: &mut Talk, tether: &Tether, refused: Refused) {
    let Refused::Told(failure) = refused else { return };
    tracing::debug!(code = %failure.code, error = %failure.message, "a client was refused");
    tether.deadline.set(after(LINGER));
    let _in_time = tether
        .deadline
        .guard(async {
            if talk.say(|out| failure.write(Severity::Fatal, out)).await.is_ok() {
                linger(&mut talk.socket).await;
            }
        })
        .await;
}

/// Says that no more comes, and listens for what the client still sends.
pub(crate) async fn linger(socket: &mut Socket) {
    socket.shut_down();
    let (mut input, mut heard) = (Vec::new(), 0);
    while let Ok(count @ 1..) = receive(socket, &mut input).await {
        heard += count;
        input.clear();
        if heard > LINGER_BYTES_MAX {
            return;
        }
    }
}

/// The bytes of a whole message's body, for steps of SASL.
pub(crate) fn sasl(message: &[u8]) -> &[u8] {
    wire::frontend::sasl_response(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        std::mem::size_of::<F>()
    }

    /// Ten thousand idle clients have ten thousand of these, and one that is awaited by value is kept twice.
    #[test]
    fn a_client_takes_little_more_than_its_session() {
        let (client, session) = (size_of_future(serve), std::mem::size_of::<Session>());
        assert!(client < session + 1280 && session < 1800, "{client} bytes, of which its session takes {session}");
    }
}
