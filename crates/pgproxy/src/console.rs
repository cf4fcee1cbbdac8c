//! The console: a database of the listener's that is the proxy itself, for whoever its configuration names. `pgroute::console` has its words and
//! tables; here it is logged in to and answered.
//!
//! It is PgBouncer's, whose tools speak simple queries alone. What others speak is refused up to the next `Sync`, and the connection stays in step.
//! Nobody comes in without a password, and what changes something is for those alone who may.

mod snapshot;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pgroute::SqlState;
use pgroute::console::{Change, Command, HELP, Kind, NAMES, Show, Table, Wrong, table};
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::startup::{Replication, Startup};
use pgroute::wire::write::{self, Report, Severity};
use pgroute::wire::{Look, Piece, Splitter, frontend};

use crate::client::{Refused, Talk, linger};
use crate::control::{ControlError, Pause, Whom};
use crate::core::{Held, Tether, after};
use crate::failure::Failure;
use crate::login;
use crate::params::{ConsoleParams, ConsoleUser};
use crate::process::Process;
use crate::random;

pub(crate) use snapshot::look;

/// Longest text of a command.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// How often a pause looks whether all connections have come back.
const LOOK: Duration = Duration::from_millis(20);

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// Somebody who may use the console, and has proved it.
pub(crate) struct Console {
    user: String,
}

/// The console that a client means, if its listener has one.
pub(crate) fn meant(held: &Held, startup: &Startup) -> Option<ConsoleParams> {
    let is_meant = NAMES.contains(&startup.database.as_str()) && startup.replication == Replication::No;
    held.place.listener.params().console.clone().filter(|_| is_meant)
}

/// Has a client prove who it is, and tells it what it has to know.
///
/// # Errors
/// When it is nobody who may use the console, or does not prove it.
pub(crate) async fn enter(
    held: &Held,
    tether: &Tether,
    (params, startup): (&ConsoleParams, &Startup),
    talk: &mut Talk,
) -> Result<Console, Refused> {
    let process = &held.core.process;
    let stored = params.user(&startup.user).map(|user| &user.stored);
    login::by(params.method, (process, &process.console_secrets), stored, &startup.user, talk).await?;
    let _first = tether.note.set(process.clients.enter(process.next_session(), startup, talk));
    let secret = random::bytes::<4>();
    tether.set_secret(secret.to_vec());
    let version = format!("{}/tenfold", env!("CARGO_PKG_VERSION"));
    let settings = [
        ("server_version", version.as_str()),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
    ];
    let pid = held.tell(None);
    talk.say(|out| {
        write::authentication_ok(out);
        settings.iter().for_each(|(name, value)| write::parameter_status(out, name.as_bytes(), value.as_bytes()));
        write::backend_key(out, pid, &secret);
        write::ready(out, TransactionStatus::Idle);
    })
    .await?;
    Ok(Console { user: startup.user.clone() })
}

impl Console {
    /// Answers until the client goes, or nobody is served here any more.
    pub(crate) async fn serve(self, held: Held, tether: Rc<Tether>, talk: Talk) {
        let mut talk = Conversation { held, tether, talk, splitter: Splitter::default(), user: self.user };
        let Err(cut) = talk.converse().await;
        if let Some(failure) = cut {
            let mut out = Vec::new();
            failure.write(Severity::Fatal, &mut out);
            if talk.say(&out).await.is_ok() {
                talk.tether.deadline.set(after(Duration::from_secs(1)));
                let _in_time = talk.tether.deadline.guard(linger(&mut talk.talk.socket)).await;
            }
        }
    }
}

struct Conversation {
    held: Held,
    tether: Rc<Tether>,
    talk: Talk,
    splitter: Splitter,
    user: String,
}

/// What came of listening.
enum Heard {
    Nothing,
    /// So many bytes.
    Bytes(usize),
    Cancel,
}

/// Why a conversation ends: with words for the client, or without.
type Cut = Option<Failure>;

impl Conversation {
    async fn converse(&mut self) -> Result<std::convert::Infallible, Cut> {
        // What came in a message of the extended protocol was refused, and all up to its `Sync` is.
        let mut skips = false;
        loop {
            self.tether.deadline.clear();
            let piece = self.splitter.next(&self.talk.input, look_at).map_err(|error| Some(Failure::of_wire(error)))?;
            let (tag, message): (_, Vec<u8>) = match piece {
                Piece::Wait { .. } => {
                    self.listen(None).await?;
                    continue;
                }
                Piece::More { len, .. } => {
                    self.talk.input.drain(..len);
                    continue;
                }
                Piece::Message { tag, len } | Piece::Begin { tag, len, .. } => {
                    (tag, self.talk.input.drain(..len).collect())
                }
            };
            let mut out = Vec::new();
            match tag {
                frontend::tag::TERMINATE => return Err(None),
                frontend::tag::SYNC => {
                    skips = false;
                    write::ready(&mut out, TransactionStatus::Idle);
                }
                // As a server does while nothing is copied.
                frontend::tag::FLUSH
                | frontend::tag::COPY_DATA
                | frontend::tag::COPY_DONE
                | frontend::tag::COPY_FAIL => {}
                _ if skips => {}
                frontend::tag::QUERY => {
                    let text = frontend::query(&message).map_err(|error| Some(Failure::of_wire(error)))?;
                    let text = String::from_utf8_lossy(text).into_owned();
                    self.answer(&text, &mut out).await?;
                    write::ready(&mut out, TransactionStatus::Idle);
                }
                tag => {
                    let message = "the console takes simple queries only";
                    let failure = Failure::new(SqlState::NOT_SUPPORTED, message);
                    let hint = "Have the driver send the text as it is, such as with preferQueryMode=simple.";
                    failure.with_hint(hint).write(Severity::Error, &mut out);
                    // Nothing ends a call of a function but its answer.
                    skips = tag != frontend::tag::FUNCTION_CALL;
                    if !skips {
                        write::ready(&mut out, TransactionStatus::Idle);
                    }
                }
            }
            self.say(&out).await?;
        }
    }

    /// Answers a text.
    async fn answer(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), Cut> {
        // It may be somebody else's since.
        let console = self.held.place.listener.params().console.clone();
        let Some(user) = console.as_ref().and_then(|console| console.user(&self.user)) else {
            let message = "terminating connection: the console is not for this user any more";
            return Err(Some(Failure::new(SqlState::ADMIN_SHUTDOWN, message)));
        };
        let done = match Command::parse(text) {
            Ok(Command::Nothing) => {
                write::bare(out, pgroute::wire::backend::tag::EMPTY_QUERY);
                return Ok(());
            }
            Ok(Command::Show(Show::Help)) => {
                let usage = Report::new(Severity::Notice, SqlState::SUCCESSFUL, "Console usage");
                write::report(out, &Report { detail: HELP, ..usage });
                Ok("SHOW")
            }
            Ok(Command::Show(show)) => {
                self.show(show, out).await?;
                Ok("SHOW")
            }
            Ok(Command::Change(change)) => self.change(user, &change).await?,
            Err(wrong) => Err(of_wrong(&wrong)),
        };
        match done {
            Ok(tag) => write::command_complete(out, tag),
            Err(failure) => failure.write(Severity::Error, out),
        }
        Ok(())
    }

    /// Shows a table, which is made beside the core: there may be many clients.
    async fn show(&self, show: Show, out: &mut Vec<u8>) -> Result<(), Cut> {
        let (process, listener) = (Arc::clone(&self.held.core.process), Arc::clone(&self.held.place.listener));
        let made = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            if let Some(table) = table(show, &snapshot::take(&process, &listener)) {
                write_table(&table, &mut out);
            }
            out
        });
        out.extend(made.await.map_err(|_| None)?);
        Ok(())
    }

    /// Does what is asked for: what the client is told then.
    async fn change(&mut self, user: &ConsoleUser, change: &Change) -> Result<Result<&'static str, Failure>, Cut> {
        if !user.is_admin {
            let code = SqlState::parse(b"42501").expect("it is one");
            let failure = Failure::new(code, "admin access needed");
            return Ok(Err(failure.with_hint("The user has to have admin = true in the listener's console.")));
        }
        tracing::info!(user = %self.user, ?change, "asked for in the console");
        let process = Arc::clone(&self.held.core.process);
        let told = |done: Result<(), ControlError>, tag| done.map(|()| tag).map_err(|error| of_control(&error));
        Ok(match change {
            Change::Pause(name) => match process.pause(name.as_deref()) {
                Ok(pause) => self.until_back(&process, &pause).await?.map(|()| "PAUSE"),
                Err(error) => Err(of_control(&error)),
            },
            Change::Resume(name) => told(process.resume(name.as_deref()), "RESUME"),
            Change::Reconnect(name) => told(process.reconnect(name.as_deref()), "RECONNECT"),
            Change::Disable(name) => told(process.set_disabled(name, true), "DISABLE"),
            Change::Enable(name) => told(process.set_disabled(name, false), "ENABLE"),
            Change::Kill(name) => match process.pause(Some(name)) {
                Ok(_) => told(process.kill(name, &Whom::All, false).await, "KILL"),
                Err(error) => Err(of_control(&error)),
            },
            Change::Reload => match process.reload().await {
                Ok(()) => Ok("RELOAD"),
                Err(error) => {
                    let failure =
                        Failure::new(SqlState::INVALID_VALUE, "the configuration was refused, the old one stays");
                    Err(failure.with_detail(error))
                }
            },
        })
    }

    /// Waits until no client has a connection, as PgBouncer does after `PAUSE`. As with that one, nothing is paused after a cancel.
    async fn until_back(&mut self, process: &Process, pause: &Pause) -> Result<Result<(), Failure>, Cut> {
        loop {
            if !pause.is_on() {
                let code = SqlState::parse(b"55000").expect("it is one");
                return Ok(Err(Failure::new(code, "somebody has resumed it meanwhile")));
            }
            if pause.lent() == 0 {
                return Ok(Ok(()));
            }
            if self.listen(Some(Instant::now() + LOOK)).await? {
                process.undo(pause);
                let message = "canceling statement due to user request";
                return Ok(Err(Failure::new(SqlState::QUERY_CANCELED, message)));
            }
        }
    }

    /// Reads what comes, or waits until a time is over; whether what is done meanwhile was cancelled.
    async fn listen(&mut self, until: Option<Instant>) -> Result<bool, Cut> {
        let (tether, talk) = (&self.tether, &mut self.talk);
        if let Some(until) = until {
            tether.deadline.set(until);
        }
        let filled = talk.input.len();
        // What comes while something is done is read later, but the end of the connection has to be seen.
        let room = if filled < TEXT_BYTES_MAX { READ_BYTES } else { 0 };
        talk.input.resize(filled + room, 0);
        let heard = poll_fn(|cx| {
            tether.register(cx);
            // Without a time, nothing is done that could be cancelled.
            if !tether.take_cancels().is_empty() && until.is_some() {
                return Poll::Ready(Ok(Heard::Cancel));
            }
            if tether.is_ending.get() {
                let message = "terminating connection: the process does not serve any more";
                return Poll::Ready(Err(Some(Failure::new(SqlState::ADMIN_SHUTDOWN, message))));
            }
            if until.is_some() && tether.deadline.poll_expired(cx).is_ready() {
                return Poll::Ready(Ok(Heard::Nothing));
            }
            if room == 0 && until.is_some() {
                return Poll::Pending;
            }
            talk.socket.poll_read(cx, &mut talk.input[filled..]).map(|read| match read {
                Ok(0) | Err(_) => Err(None),
                Ok(count) => Ok(Heard::Bytes(count)),
            })
        })
        .await;
        let count = match heard {
            Ok(Heard::Bytes(count)) => count,
            _ => 0,
        };
        talk.input.truncate(filled + count);
        heard.map(|heard| matches!(heard, Heard::Cancel))
    }

    /// Sends an answer; a client that does not take it is given up.
    async fn say(&mut self, out: &[u8]) -> Result<(), Cut> {
        self.tether.deadline.set(after(self.held.place.listener.params().stall_timeout));
        let sent = crate::backend::send(&mut self.talk.socket, out);
        match self.tether.deadline.guard(sent).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(None),
        }
    }
}

/// How much of a message has to be there.
fn look_at(tag: u8) -> Look {
    match frontend::look(tag, TEXT_BYTES_MAX) {
        Look::Refuse => Look::Refuse,
        _ if matches!(tag, frontend::tag::QUERY | frontend::tag::SYNC | frontend::tag::TERMINATE) => {
            Look::Whole(TEXT_BYTES_MAX)
        }
        _ => Look::Pass,
    }
}

fn write_table(table: &Table, out: &mut Vec<u8>) {
    let columns = table.columns.iter().map(|(name, kind)| {
        // Numbers and sizes of PostgreSQL's types.
        let kind = match kind {
            Kind::Text => (25, -1),
            Kind::Int => (23, 4),
            Kind::Numeric => (1700, -1),
        };
        (*name, kind)
    });
    write::typed_row_description(out, columns);
    table.rows.iter().for_each(|row| write::data_row(out, row));
}

fn of_wrong(wrong: &Wrong) -> Failure {
    Failure::new(wrong.sqlstate(), wrong.to_string())
}

fn of_control(error: &ControlError) -> Failure {
    let code = match error {
        ControlError::NoDatabase(_) => SqlState::UNKNOWN_DATABASE,
        ControlError::NoClient(..) | ControlError::NoServer(..) => SqlState::INVALID_VALUE,
    };
    Failure::new(code, error.to_string())
}
