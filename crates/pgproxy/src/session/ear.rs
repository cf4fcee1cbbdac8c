//! `LISTEN` of a session whose backends are others' too: another connection listens for it ([`crate::notify`]).
//!
//! The statement goes to the backend as an `UNLISTEN`, which does nothing there and fails where `LISTEN` would. What has committed is asked for
//! at the other connection before the client hears that the server is ready, and before anything of it runs that it has sent behind: what that
//! does not see yet must be heard. What comes is told while the client is idle, or before it hears that it is.

use std::future::Future;
use std::pin::Pin as StdPin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pgroute::SqlState;
use pgroute::classify::{Kind, Plan};
use pgroute::session::{Listens, Pin};
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::write;
use tokio::sync::oneshot;

use super::{Cut, Session};
use crate::failure::Failure;
use crate::notify::{Mailbox, State};
use crate::params::Mode;

/// Channels of a session at most.
const CHANNELS_MAX: usize = 10_000;

/// What a session listens by.
pub(super) struct Ear {
    listens: Listens,
    mailbox: Arc<Mailbox>,
    /// What is not listened to yet, and was acknowledged by the backend.
    awaits: Vec<oneshot::Receiver<()>>,
}

impl Session {
    /// Whether another connection listens for this one when it says this.
    pub(super) fn shares_listen(&self, plan: &Plan) -> bool {
        let is_listen = matches!(plan.single().map(|one| &one.kind), Some(Kind::Listen(_)));
        is_listen && self.params.listen.shared && self.mode != Mode::Session && self.pin.is_none() && self.hears_alike()
    }

    /// What is said to the backend in place of a `LISTEN`: the client's own words where it can be, so that it hears what the server says of them.
    pub(super) fn instead_of_listen(&self, plan: &Plan, text: &[u8]) -> Option<Vec<u8>> {
        match plan.single().map(|one| &one.kind) {
            Some(Kind::Listen(channel)) if self.shares_listen(plan) => {
                self.listens_ahead.set(self.listens_ahead.get() + 1);
                let words = text.trim_ascii_start();
                let is_first = words.get(..6).is_some_and(|first| first.eq_ignore_ascii_case(b"listen"));
                let quoted = || format!("UNLISTEN \"{}\"", channel.replace('"', "\"\"")).into_bytes();
                Some(if is_first { [b"UN", words].concat() } else { quoted() })
            }
            _ => None,
        }
    }

    /// Why a text may not run, as far as it has to do with this.
    pub(super) fn refused_listen(&self, plan: &Plan) -> Option<Failure> {
        let has = |of: fn(&Kind) -> bool| plan.statements.iter().any(|statement| of(&statement.kind));
        let listens = self.ear.as_ref().map(|ear| &ear.listens);
        if has(|kind| matches!(kind, Kind::PrepareTransaction)) && listens.is_some_and(Listens::is_changing) {
            let message = "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY";
            return Some(Failure::new(SqlState::NOT_SUPPORTED, message));
        }
        if let Some(failure) = self.refused_more(plan) {
            return Some(failure);
        }
        let count = listens.map_or(0, Listens::len) + self.listens_ahead.get();
        let is_heard =
            |kind: &Kind| matches!(kind, Kind::Listen(channel) if listens.is_some_and(|known| known.is_heard(channel)));
        let is_new = !plan.single().is_some_and(|one| is_heard(&one.kind));
        if self.shares_listen(plan) && is_new && count >= CHANNELS_MAX {
            let message = format!("more than {CHANNELS_MAX} channels are listened to");
            return Some(Failure::new(SqlState::LIMIT_EXCEEDED, message));
        }
        None
    }

    /// Why a text may not run that was perhaps prepared before so much was said in this transaction.
    pub(super) fn refused_more(&self, plan: &Plan) -> Option<Failure> {
        let is_of_these = |kind: &Kind| matches!(kind, Kind::Listen(_) | Kind::Unlisten(_));
        let is_full = self.ear.as_ref().is_some_and(|ear| ear.listens.is_full());
        (is_full && plan.statements.iter().any(|statement| is_of_these(&statement.kind))).then(|| {
            let message = "too much is listened to and taken back in one transaction";
            Failure::new(SqlState::LIMIT_EXCEEDED, message)
        })
    }

    /// Notifications come in the encoding that servers begin with. A client that has another one hears its own backend's.
    fn hears_alike(&self) -> bool {
        let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let Some(own) = self.settings.value("client_encoding").map(|value| plain(&value.text())) else { return true };
        let template = self.local.pool.template();
        let told =
            template.as_ref().as_ref().and_then(|reports| reports.iter().find(|(name, _)| name == b"client_encoding"));
        told.is_some_and(|(_, value)| {
            let default = plain(&String::from_utf8_lossy(value));
            own == default || own == "unicode" && default == "utf8"
        })
    }

    /// A statement has succeeded. What the client hears of it, where that is something else.
    pub(super) fn has_listened(&mut self, kind: &Kind, said: &[u8]) -> Option<&'static str> {
        // The backend was told something else only where another connection listens.
        let is_shared = matches!(kind, Kind::Listen(_)) && said == b"UNLISTEN";
        if is_shared && self.ear.is_none() {
            let mailbox = Mailbox::new(self.number, self.params.listen.notifications_max);
            self.ear = Some(Box::new(Ear { listens: Listens::default(), mailbox, awaits: Vec::new() }));
        }
        let ear = self.ear.as_mut()?;
        match kind {
            // Its own backend listens from now on, and it is not to hear everything twice.
            Kind::Listen(channel) if !is_shared => ear.listens.succeeded(&Kind::Unlisten(Some(channel.clone())), said),
            kind => ear.listens.succeeded(kind, said),
        }
        is_shared.then_some("LISTEN")
    }

    /// A statement has failed.
    pub(super) fn has_not_listened(&mut self) {
        if let Some(ear) = &mut self.ear {
            ear.listens.failed();
        }
    }

    /// The server is ready: what has committed is asked for.
    pub(super) fn listen_now(&mut self, status: TransactionStatus) {
        if self.backend.as_ref().is_none_or(|backend| backend.ledger.is_empty()) {
            self.listens_ahead.set(0);
        }
        let Some(ear) = &mut self.ear else { return };
        ear.listens.ready(status);
        let (database, process) = (&self.seat.database, &self.held.core.process);
        ear.awaits.extend(database.hub.change(process, database, ear.listens.take_due(), &ear.mailbox));
    }

    /// Whether what the client has sent has to wait: for the answer to a `LISTEN`, or until it is listened to.
    pub(super) fn begins_to_listen(&self) -> bool {
        let ear = self.ear.as_ref();
        if ear.is_some_and(|ear| ear.awaits.iter().any(oneshot::Receiver::is_empty)) {
            return true;
        }
        let is_said = self.listens_ahead.get() > 0 || ear.is_some_and(|ear| ear.listens.is_changing());
        // Rows that the server waits for are no group of their own.
        let is_between = !self.is_group_open && !self.is_copying;
        is_said && is_between && self.backend.as_ref().is_some_and(|backend| !backend.ledger.is_empty())
    }

    /// Whether what was said to be listened to is. The client hears nothing before that.
    pub(super) fn poll_listening(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let Some(ear) = &mut self.ear else { return Poll::Ready(Ok(())) };
        while let Some(awaits) = ear.awaits.first_mut() {
            match StdPin::new(awaits).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => drop(ear.awaits.remove(0)),
                Poll::Ready(Err(_)) => {
                    ear.awaits.clear();
                    return Poll::Ready(Err(Cut::Told(lost())));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether something has come, or the session cannot listen any more. The task is woken otherwise when that is so.
    #[inline]
    pub(super) fn poll_heard(&self, cx: &Context<'_>) -> bool {
        let hears = |ear: &Ear| {
            ear.mailbox.register(cx.waker());
            ear.mailbox.is_due()
        };
        self.ear.as_deref().is_some_and(hears)
    }

    /// Tells the client what has come; whether there was anything.
    pub(super) fn tell_heard(&mut self) -> Result<bool, Cut> {
        let out = self.to_client.bytes();
        let Some(ear) = self.ear.as_ref().filter(|ear| ear.mailbox.is_due()) else { return Ok(false) };
        tell(ear, out)
    }

    /// The same before the message that is looked at, as far as that may be told.
    pub(super) fn tell_heard_before(&mut self) {
        let out = &mut self.scratch;
        if let Some(ear) = self.ear.as_ref().filter(|ear| ear.mailbox.is_due() && ear.awaits.is_empty()) {
            // Why it cannot listen is told when the answer is complete.
            let _later = tell(ear, out);
        }
    }

    /// Tells the client what its own backend has told of while something of ours was asked.
    pub(super) fn tell_overheard(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        let overheard = std::mem::take(&mut backend.overheard);
        if !overheard.is_empty() && self.keeps().is_some() {
            self.keep_passing();
            self.to_client.extend(&overheard);
        }
    }

    /// Why the session cannot go on listening, if it cannot.
    pub(super) fn cannot_listen(&self) -> Option<Failure> {
        let ear = self.ear.as_ref().filter(|ear| ear.mailbox.is_due())?;
        closed(ear.mailbox.state())
    }

    /// The session ends.
    pub(super) fn stop_listening(&mut self) {
        if let Some(mut ear) = self.ear.take() {
            let mut channels = ear.listens.take_due().unlistens;
            channels.extend(ear.listens.channels().map(str::to_owned));
            self.seat.database.hub.leave(&ear.mailbox, &channels);
        }
    }

    /// Notes who may notify by this backend, so that whoever listens knows it by the client's own number.
    pub(super) fn notes_sender(&mut self, is_certain: bool) {
        let senders = &self.seat.database.hub.senders;
        if let Some(backend) = self.backend.as_mut().filter(|_| senders.is_active()) {
            let pid = backend.key.pid;
            senders.note(&mut backend.noted, pid, self.held.number(), is_certain);
        }
    }

    /// Why a text that is about to run pins its session, other ways considered.
    pub(super) fn pin_for(&self, plan: &Plan) -> Option<Pin> {
        let pin = super::request::pin_of(plan)?;
        if pin == Pin::Listen && self.shares_listen(plan) {
            // It may have been prepared long ago.
            self.listens_ahead.set(self.listens_ahead.get().max(1));
            return None;
        }
        Some(pin)
    }
}

fn tell(ear: &Ear, out: &mut Vec<u8>) -> Result<bool, Cut> {
    let (notices, state) = ear.mailbox.take();
    for notice in &notices {
        write::notification(out, notice.pid, notice.channel.as_bytes(), &notice.payload);
    }
    match closed(state) {
        Some(failure) => Err(Cut::Told(failure)),
        None => Ok(!notices.is_empty()),
    }
}

fn closed(state: State) -> Option<Failure> {
    match state {
        State::Open | State::Gone => None,
        State::Lost => Some(lost()),
        State::Full => {
            let message = "terminating connection: too many notifications wait for it";
            Some(Failure::new(SqlState::LIMIT_EXCEEDED, message))
        }
    }
}

fn lost() -> Failure {
    let message = "terminating connection: the server's notifications cannot be heard, and some may have been missed";
    Failure::new(SqlState::ADMIN_SHUTDOWN, message)
        .with_hint("Connect again, listen, and look at what may have happened meanwhile.")
}
