//! The connection that listens for all clients of a database.

use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pgroute::session::{Owner, Question};
use pgroute::wire::backend::{self, Fields, Notification, tag};
use pgroute::wire::{Look, Piece, write};

use super::{CORE, Channels, Notice, State, Wanted};
use crate::backend::{Age, Backend, send};
use crate::cluster::Cluster;
use crate::connect;
use crate::core::Core;
use crate::database::Database;
use crate::failure::Failure;
use crate::params::ServerAddress;

/// What the connection calls itself.
const NAME: &str = "tenfold listener";

/// How often it is looked whether it is still the right server's, and wanted.
const LOOK: Duration = Duration::from_millis(500);

/// How long nobody may listen before the connection is given up.
const IDLE: Duration = Duration::from_secs(10);

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
            Err(failure) => Err(failure.message),
        };
        let hub = &database.hub;
        let mut state = hub.state();
        if why.is_ok() && !state.wanted.is_empty() {
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
        let (mut input, mut chunk) = (Vec::new(), vec![0; 8 * 1024]);
        let (mut asked_at, mut idle_since) = (None, None);
        loop {
            let text = if asked_at.is_none() { hub.state().next_text() } else { None };
            if let Some(text) = text {
                let mut message = Vec::new();
                write::query(&mut message, &text);
                backend.ledger.ask(Question::Query, Owner::Ours, 0);
                send(&mut backend.socket, &message).await.map_err(|error| error.to_string())?;
                asked_at = Some(Instant::now());
            }
            tokio::select! {
                () = hub.nudge.notified() => continue,
                () = tokio::time::sleep(LOOK) => {}
                read = poll_fn(|cx| backend.socket.poll_read(cx, &mut chunk)) => {
                    input.extend_from_slice(&chunk[..count(read)?]);
                    if self.hear(&mut backend, &mut input)? {
                        asked_at = None;
                        hub.state().has_asked();
                    }
                    continue;
                }
            }
            let timeout = self.database.settings().timeouts.connect;
            if asked_at.is_some_and(|at: Instant| at.elapsed() > timeout) {
                return Err(format!("the server did not answer within {timeout:?}"));
            }
            self.check()?;
            let is_idle = hub.state().is_idle();
            let since = *idle_since.get_or_insert_with(Instant::now);
            match is_idle {
                true if since.elapsed() > IDLE => return Ok(()),
                true => {}
                false => idle_since = None,
            }
        }
    }

    /// Whether the connection is still to the server that notifies.
    fn check(&self) -> Result<(), String> {
        let cluster = self.database.cluster();
        let primary = cluster.view().primary.map(|at| &cluster.members[at].params.address);
        // As long as none is known, the last one may still be it: its connection says whether it lives.
        let is_other = primary.is_some_and(|primary| *primary != self.address);
        let is_gone = cluster.at(&self.address).is_none();
        if is_other || is_gone || self.database.is_retired() {
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
                tag::ERROR => return Err(Failure::of_server(&Fields::of(message)).message),
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
        let state = hub.state();
        let Some(who) = state.listened.get(channel) else { return };
        let notice = Arc::new(Notice { pid, channel: channel.to_owned(), payload: heard.payload.to_vec() });
        self.database.metrics.core(self.core.id).notifications.add(who.len() as u64);
        who.values().for_each(|mailbox| mailbox.put(&notice));
    }
}

fn count(read: io::Result<usize>) -> Result<usize, String> {
    match read {
        Ok(0) => Err("the server closed the connection".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

impl Channels {
    /// What the server is to be asked next, if anything: to listen to what is wanted, and no more to what nobody wants. Channels that are
    /// listened to already are asked for again, so that who comes to one hears nothing from before.
    fn next_text(&mut self) -> Option<String> {
        self.asked = std::mem::take(&mut self.wanted);
        let mut text = String::new();
        let wanted = |asked: &[Wanted], channel: &str| {
            asked.iter().flat_map(|wanted| &wanted.channels).any(|known| known == channel)
        };
        let asked = &self.asked;
        self.listened.retain(|channel, who| {
            let stays = !who.is_empty() || wanted(asked, channel);
            if !stays {
                text.push_str(&format!("UNLISTEN {};", quoted(channel)));
            }
            stays
        });
        for channel in self.asked.iter().flat_map(|wanted| &wanted.channels) {
            text.push_str(&format!("LISTEN {};", quoted(channel)));
        }
        if text.is_empty() && !self.asked.is_empty() {
            // All of it was taken back meanwhile.
            self.has_asked();
        }
        (!text.is_empty()).then_some(text)
    }

    /// The server has done what it was asked.
    fn has_asked(&mut self) {
        for Wanted { channels, mailbox, done } in self.asked.drain(..) {
            if mailbox.state() == State::Open {
                for channel in channels {
                    let who = match self.listened.entry(channel) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(free) => free.insert(Default::default()),
                    };
                    who.insert(mailbox.session, Arc::clone(&mailbox));
                }
            }
            // It may have gone.
            let _gone = done.send(());
        }
    }

    /// The connection is lost: how many sessions hear of that.
    fn lose(&mut self) -> usize {
        let mut lost = std::collections::HashSet::new();
        for mailbox in self.listened.drain().flat_map(|(_, who)| who.into_values()) {
            mailbox.close(State::Lost);
            lost.insert(mailbox.session);
        }
        for wanted in self.wanted.drain(..).chain(self.asked.drain(..)) {
            wanted.mailbox.close(State::Lost);
            lost.insert(wanted.mailbox.session);
        }
        lost.len()
    }

    /// Whether nobody listens.
    fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.asked.is_empty() && self.listened.values().all(|who| who.is_empty())
    }
}

fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}
