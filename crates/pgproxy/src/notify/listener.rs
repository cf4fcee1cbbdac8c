//! The connection that listens for all clients of a database.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pgroute::session::{Owner, Question};
use pgroute::wire::backend::{self, Fields, Notification, tag};
use pgroute::wire::{Look, Piece, write};

use super::CORE;
use super::upkeep::{Due, Upkeep};
use crate::backend::{Age, Backend};
use crate::cluster::Cluster;
use crate::connect;
use crate::core::Core;
use crate::database::Database;
use crate::failure::Failure;
use crate::params::ServerAddress;
use crate::socket::Socket;

/// What the connection calls itself.
const NAME: &str = "tenfold listener";

/// How often it is looked whether it is still the right server's, answers, and is wanted. However much happens between, it is looked in time.
const LOOK: Duration = Duration::from_millis(500);

/// Most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Runs as long as anybody listens.
pub(crate) async fn run(core: Rc<Core>, database: Weak<Database>) {
    loop {
        let Some(database) = database.upgrade() else { return };
        let why = match connect(&core, &database).await {
            Ok((backend, cluster, address)) => {
                Listener { core: &core, database: &database, cluster, address }.serve(backend).await
            }
            Err(failure) => Err(failure.into_message()),
        };
        let hub = &database.hub;
        let mut state = hub.state();
        if why.is_ok() && state.is_wanted() {
            state.begin_anew();
            continue;
        }
        let lost = state.lose();
        state.is_running = false;
        hub.senders.set_active(false);
        drop(state);
        if let Err(why) = why {
            tracing::warn!(database = %database.name, sessions = lost, %why, "the connection that listens was lost");
        }
        return;
    }
}

async fn connect(core: &Core, database: &Database) -> Result<(Backend, Arc<Cluster>, ServerAddress), Failure> {
    let none =
        || Failure::new(pgroute::SqlState::CANNOT_CONNECT_NOW, "no primary is known, or no user who could ask it");
    let cluster = database.cluster();
    let primary = cluster.view().primary.ok_or_else(none)?;
    let login = database.watch_login(primary).ok_or_else(none)?;
    let mut server = cluster.members[primary].params.clone();
    server.settings.retain(|(name, _)| name != "application_name");
    server.settings.push(("application_name".to_owned(), NAME.to_owned()));
    let timeout = database.settings().timeouts.connect;
    let connected = connect::connect(&server, &login, timeout).await?;
    let backend = Backend::new(pgroute::pool::BackendId(0), core.id, connected, 1, Age::default());
    debug_assert_eq!(core.id, CORE);
    Ok((backend, cluster, server.address))
}

struct Listener<'d> {
    core: &'d Rc<Core>,
    database: &'d Arc<Database>,
    cluster: Arc<Cluster>,
    address: ServerAddress,
}

impl Listener<'_> {
    /// Listens until nobody wants it any more, or why it cannot.
    async fn serve(&self, mut backend: Backend) -> Result<(), String> {
        let hub = &self.database.hub;
        let (mut input, mut out, mut chunk) = (Vec::new(), Vec::new(), vec![0; 8 * 1024]);
        let mut upkeep = Upkeep::new(Instant::now());
        let mut look_at = Instant::now() + LOOK;
        loop {
            if !upkeep.is_asked()
                && let Some(text) = hub.state().next_text()
            {
                ask(&mut backend, &mut out, &text);
                upkeep.asked(Instant::now());
            }
            tokio::select! {
                biased;
                read = poll_fn(|cx| exchange(cx, &mut backend.socket, &mut out, &mut chunk)) => {
                    input.extend_from_slice(&chunk[..count(read)?]);
                    let is_answered = self.hear(&mut backend, &mut input)?;
                    upkeep.heard(Instant::now(), is_answered);
                    if is_answered {
                        hub.state().has_asked();
                    }
                }
                () = hub.nudge.notified() => {}
                () = tokio::time::sleep_until(look_at.into()) => {}
            }
            let now = Instant::now();
            if now < look_at {
                continue;
            }
            look_at = now + LOOK;
            self.check()?;
            let timeout = self.database.settings().timeouts.connect;
            let is_idle = hub.state().is_idle();
            match upkeep.due(now, is_idle, timeout) {
                Due::Nothing => {}
                Due::Ask => {
                    ask(&mut backend, &mut out, "");
                    upkeep.asked(now);
                }
                Due::Late => return Err(format!("the server did not answer within {timeout:?}")),
                Due::Idle => return Ok(()),
            }
        }
    }

    /// Whether the connection is still to the server that notifies.
    fn check(&self) -> Result<(), String> {
        let cluster = self.database.cluster();
        let primary = cluster.view().primary.map(|at| &cluster.members[at].params.address);
        // As long as none is known, the last one may still be it, unless it is known that it is not: its connection says whether it lives.
        let is_other = primary.is_some_and(|primary| *primary != self.address);
        if is_other || cluster.is_out(&self.address) || self.database.is_retired() {
            return Err("the primary is another server now".to_owned());
        }
        if !Arc::ptr_eq(&cluster, &self.cluster) {
            tracing::debug!(database = %self.database.name, "the configuration has changed, and the primary stays");
        }
        Ok(())
    }

    /// Hears what has come; whether the answer to what was asked is complete.
    fn hear(&self, backend: &mut Backend, input: &mut Vec<u8>) -> Result<bool, String> {
        let look = |kind| match backend::look(kind) {
            Look::Refuse => Look::Refuse,
            _ => Look::Whole(MESSAGE_BYTES_MAX),
        };
        let (mut at, mut is_answered) = (0, false);
        loop {
            let piece = backend.splitter.next(&input[at..], look).map_err(|error| error.to_string())?;
            let Piece::Message { tag: kind, len } = piece else { break };
            let message = &input[at..at + len];
            at += len;
            match kind {
                tag::NOTIFICATION => {
                    let heard = Notification::read(message).map_err(|error| error.to_string())?;
                    self.tell(&heard);
                }
                tag::ERROR => return Err(Failure::of_server(&Fields::of(message)).into_message()),
                _ => {
                    backend.ledger.answer(kind).map_err(|error| error.to_string())?;
                    is_answered |= kind == tag::READY;
                }
            }
        }
        input.drain(..at);
        Ok(is_answered)
    }

    fn tell(&self, heard: &Notification<'_>) {
        let hub = &self.database.hub;
        let Ok(channel) = std::str::from_utf8(heard.channel) else { return };
        let pid = hub.senders.whose(heard.pid);
        let told = hub.state().tell(pid, channel, heard.payload);
        self.database.metrics.core(self.core.id).notifications.add(told as u64);
    }
}

fn ask(backend: &mut Backend, out: &mut Vec<u8>, text: &str) {
    write::query(out, text);
    backend.ledger.ask(Question::Query, Owner::Ours, 0);
}

/// Writes what the server takes, and reads what it says: it may take nothing before it has been heard.
fn exchange(cx: &mut Context<'_>, socket: &mut Socket, out: &mut Vec<u8>, chunk: &mut [u8]) -> Poll<io::Result<usize>> {
    while !out.is_empty() {
        match socket.poll_write(cx, [out, &[]]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => drop(out.drain(..count)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => break,
        }
    }
    if let Poll::Ready(Err(error)) = socket.poll_flush(cx) {
        return Poll::Ready(Err(error));
    }
    socket.poll_read(cx, chunk)
}

fn count(read: io::Result<usize>) -> Result<usize, String> {
    match read {
        Ok(0) => Err("the server closed the connection".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}
