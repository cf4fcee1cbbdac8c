//! A connection to a server, with what it has been told.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgroute::pool::BackendId;
use pgroute::prepared::{Held, Shape, Texts};
use pgroute::session::{Applied, Ledger, Owner, Question, Sequences};
use pgroute::wire::backend::{self, Fields, TransactionStatus, tag};
use pgroute::wire::{Piece, Splitter, WireError, write};

use crate::cluster::Flight;
use crate::connect::Connected;
use crate::failure::Failure;
use crate::lease::Deadline;
use crate::notify::Noted;
use crate::params::ServerAddress;
use crate::pool::{Own, Whereabouts};
use crate::socket::Socket;

/// Most bytes of an answer to a question of ours.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What is read at once of such an answer.
const READ_BYTES: usize = 8 * 1024;

/// A backend.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) id: BackendId,
    /// Whose event queue has its socket.
    pub(crate) core: usize,
    pub(crate) socket: Socket,
    pub(crate) splitter: Splitter,
    pub(crate) ledger: Ledger,
    pub(crate) status: TransactionStatus,
    /// Settings that it was told.
    pub(crate) applied: Applied,
    /// Whether it may have others that nobody knows of.
    pub(crate) is_tainted: bool,
    /// Whose unnamed statement it has, as the session's number and the number of its text there.
    pub(crate) unnamed: Option<(u64, u64)>,
    /// Who had it last, as the session's number.
    pub(crate) last_session: u64,
    /// The number of that one's settings, as the backend was left.
    pub(crate) settings_number: u64,
    /// Prepared statements that it has.
    pub(crate) held: Held,
    /// Those that were prepared by texts.
    pub(crate) texts: Texts,
    /// Whose numbers its sequences remember.
    pub(crate) sequences: Sequences,
    /// Names of clients under which it has statements, for the client that looks at them.
    pub(crate) shown: Vec<Box<[u8]>>,
    /// Notifications that came while something of ours was asked, as they came.
    pub(crate) overheard: Vec<u8>,
    /// The beginning of a message that was read before something of ours is asked.
    pub(crate) begun: Vec<u8>,
    pub(crate) key: CancelKey,
    pub(crate) dies_at: Option<Instant>,
    /// Where it is, for whoever owns it.
    pub(crate) whereabouts: Whereabouts,
    pub(crate) age: Age,
    /// Somebody is noted as who may have notified by it.
    pub(crate) noted: Option<Noted>,
    /// While it is lent: counts it among those that sessions use.
    pub(crate) flight: Option<Flight>,
    /// Until when it may be used, if that is for a primary with a lease.
    pub(crate) lease: Option<Arc<Deadline>>,
    /// It is from now on the own one of whoever asked for it.
    pub(crate) own: Option<Own>,
}

/// What had happened to a pool when a backend of it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age {
    /// How often it had been told to connect anew.
    pub(crate) generation: u64,
    /// How often what sessions begin with had changed.
    pub(crate) epoch: u64,
}

/// What cancels a backend's statements.
#[derive(Clone, Debug)]
pub(crate) struct CancelKey {
    pub(crate) pid: i32,
    pub(crate) secret: Vec<u8>,
    pub(crate) address: ServerAddress,
    /// Where it is connected to, so that a name which stands for several servers does not lead to another one.
    pub(crate) peer: Option<SocketAddr>,
}

/// Why a question of ours has no answer.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The connection is of no use any more.
    Broken(Failure),
    /// The server refuses. The connection is as good as before.
    Refused(Failure),
}

/// What a server has answered to a question of ours.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Rows of all its statements, of texts.
    pub(crate) rows: Vec<Vec<Option<String>>>,
    /// Settings that it reported.
    pub(crate) reports: Vec<(Vec<u8>, Vec<u8>)>,
    /// What a statement takes and gives, if that was asked.
    pub(crate) shape: Shape,
}

impl Backend {
    /// One that was just connected to.
    pub(crate) fn new(id: BackendId, core: usize, connected: Connected, statements_max: usize, age: Age) -> Self {
        Self {
            id,
            core,
            socket: connected.socket,
            splitter: Splitter::default(),
            ledger: Ledger::default(),
            status: TransactionStatus::Idle,
            applied: Applied::default(),
            is_tainted: false,
            unnamed: None,
            last_session: 0,
            settings_number: 0,
            held: Held::new(statements_max),
            texts: Texts::new(statements_max),
            sequences: Sequences::default(),
            shown: Vec::new(),
            overheard: Vec::new(),
            begun: Vec::new(),
            key: connected.key,
            dies_at: None,
            whereabouts: Whereabouts::default(),
            age,
            noted: None,
            flight: None,
            lease: None,
            own: None,
        }
    }

    /// It is lent no more: what it had for that.
    pub(crate) fn end_loan(&mut self) -> (Option<Flight>, Option<Own>) {
        self.lease = None;
        (self.flight.take(), self.own.take())
    }

    /// Whether it can serve anybody: every question has its answer, no transaction is open, and nobody doubts it.
    pub(crate) fn is_clean(&self) -> bool {
        self.ledger.is_empty()
            && !self.ledger.is_uncertain()
            && self.splitter.is_between_messages()
            && self.status == TransactionStatus::Idle
    }

    /// Has it in this thread's event queue, which is that of `core`.
    ///
    /// # Errors
    /// Those of the system; it is closed then.
    pub(crate) fn move_to(mut self: Box<Self>, core: usize) -> io::Result<Box<Self>> {
        if self.core != core {
            let Self { socket, .. } = *self;
            self = Box::new(Self { socket: socket.move_here()?, core, ..*self });
        }
        Ok(self)
    }

    /// Asks a question of ours, when nothing is due, and waits for all of its answer.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub(crate) async fn ask(&mut self, text: &str, timeout: Duration) -> Result<Asked, AskError> {
        let mut message = Vec::new();
        write::query(&mut message, text);
        // A simple query forgets the statement without a name, whoever's it was.
        self.unnamed = None;
        self.ledger.ask(Question::Query, Owner::Ours, 0);
        self.exchange_within(&message, timeout).await
    }

    /// Sends messages of ours that the ledger knows of, the last of which the server says to be ready after, and waits for the answers.
    ///
    /// # Errors
    /// When the server refuses one, or the connection breaks.
    pub(crate) async fn exchange_within(&mut self, messages: &[u8], timeout: Duration) -> Result<Asked, AskError> {
        match tokio::time::timeout(timeout, self.exchange(messages)).await {
            Ok(answered) => answered,
            Err(_) => {
                let message = format!("the server did not answer within {timeout:?}");
                Err(AskError::Broken(Failure::new(pgroute::SqlState::CONNECTION_FAILURE, message)))
            }
        }
    }

    async fn exchange(&mut self, message: &[u8]) -> Result<Asked, AskError> {
        send(&mut self.socket, message).await.map_err(|error| AskError::Broken(went_away(&error)))?;
        let (mut asked, mut refused, mut input) = (Asked::default(), None, std::mem::take(&mut self.begun));
        let mut is_ready = false;
        loop {
            let look = |kind| match backend::look(kind) {
                pgroute::wire::Look::Refuse => pgroute::wire::Look::Refuse,
                _ => pgroute::wire::Look::Whole(ANSWER_BYTES_MAX),
            };
            let piece = self.splitter.next(&input, look).map_err(broken)?;
            let Piece::Message { tag, len } = piece else {
                let count = receive(&mut self.socket, &mut input).await;
                match count {
                    Ok(0) => return Err(AskError::Broken(ended())),
                    Ok(_) => continue,
                    Err(error) => return Err(AskError::Broken(went_away(&error))),
                }
            };
            let message = &input[..len];
            self.ledger.answer(tag).map_err(|error| AskError::Broken(out_of_step(&error)))?;
            match tag {
                tag::ERROR => refused = Some(Failure::of_server(&Fields::of(message))),
                tag::PARAMETER_DESCRIPTION | tag::ROW_DESCRIPTION | tag::NO_DATA => {
                    asked.shape.told(message).map_err(broken)?;
                }
                tag::DATA_ROW => asked.rows.push(row(message).map_err(broken)?),
                tag::PARAMETER_STATUS => {
                    let (name, value) = backend::parameter_status(message).map_err(broken)?;
                    asked.reports.push((name.to_vec(), value.to_vec()));
                }
                tag::NOTIFICATION => self.overheard.extend_from_slice(message),
                tag::READY => {
                    self.status = backend::ready(message).map_err(broken)?;
                    is_ready = true;
                }
                _ => {}
            }
            input.drain(..len);
            // What follows at once answers nothing: the ledger would not have it otherwise.
            if is_ready && input.is_empty() {
                return refused.map_or(Ok(asked), |failure| Err(AskError::Refused(failure)));
            }
        }
    }
}

/// The values of a row, which are texts or nothing.
fn row(message: &[u8]) -> Result<Vec<Option<String>>, WireError> {
    let fault = WireError::Body { tag: tag::DATA_ROW, reason: "it is too short" };
    let mut rest = message.get(5..).ok_or(fault)?;
    let mut take = |count: usize| {
        let (taken, after) = rest.split_at_checked(count).ok_or(fault)?;
        rest = after;
        Ok(taken)
    };
    let count = take(2)?;
    let count = u16::from_be_bytes([count[0], count[1]]);
    let mut values = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let len = take(4)?;
        let len = i32::from_be_bytes([len[0], len[1], len[2], len[3]]);
        values.push(match usize::try_from(len) {
            Ok(len) => Some(String::from_utf8_lossy(take(len)?).into_owned()),
            Err(_) => None,
        });
    }
    Ok(values)
}

/// Writes all of it.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn send(socket: &mut Socket, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        let count = poll_fn(|cx| socket.poll_write(cx, [&bytes[sent..], &[]])).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        sent += count;
    }
    socket.settle();
    poll_fn(|cx| socket.poll_flush(cx)).await
}

/// Reads what comes next: how many bytes, 0 at the end.
///
/// # Errors
/// Those of the connection.
pub(crate) async fn receive(socket: &mut Socket, input: &mut Vec<u8>) -> io::Result<usize> {
    let filled = input.len();
    input.resize(filled + READ_BYTES, 0);
    let count = poll_fn(|cx| socket.poll_read(cx, &mut input[filled..])).await;
    input.truncate(filled + count.as_ref().map_or(0, |count| *count));
    count
}

fn broken(error: WireError) -> AskError {
    AskError::Broken(Failure::new(error.sqlstate(), format!("the server: {error}")))
}

/// The server closed the connection.
pub(crate) fn ended() -> Failure {
    Failure::new(pgroute::SqlState::CONNECTION_FAILURE, "the server closed the connection unexpectedly")
}

/// The connection to the server broke.
pub(crate) fn went_away(error: &io::Error) -> Failure {
    Failure::new(pgroute::SqlState::CONNECTION_FAILURE, format!("the connection to the server broke: {error}"))
}

/// The server answers what was not asked.
pub(crate) fn out_of_step(error: &pgroute::session::OutOfStep) -> Failure {
    Failure::new(pgroute::SqlState::PROTOCOL_VIOLATION, error.to_string())
}
