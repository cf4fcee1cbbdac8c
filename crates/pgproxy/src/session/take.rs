//! A backend for a session, and back.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use pgroute::SqlState;
use pgroute::session::{Pin, Question};
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::write;
use tokio::sync::mpsc;

use super::{Armed, Cut, Session};
use crate::backend::AskError;
use crate::connect;
use crate::core::after;
use crate::engage;
use crate::failure::Failure;
use crate::params::{Mode, Pid};
use crate::pool::{Lent, NotLent, Taken, Waiting};

/// Backends that are tried when one after the other turns out to be broken.
const TRIES_MAX: usize = 5;

/// What functions may have set that no server reports.
const OBSERVE: &str = "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('role')";

/// The same, and what a session begins with.
const OBSERVE_FIRST: &str = "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('role'), \
                             (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path')";

/// Why there is no backend.
enum Without {
    /// The statement fails.
    Failed(Failure),
    /// The session ends.
    Cut(Cut),
}

/// Whether a backend is of use.
enum Ready {
    Yes,
    Broken,
    /// It does not take the session's settings.
    Refused(Failure),
}

/// Why a session keeps its backend.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keeps {
    Session,
    Pinned(#[allow(dead_code)] Pin),
}

impl Session {
    /// Why the backend stays, if there is a reason.
    pub(super) fn keeps(&self) -> Option<Keeps> {
        match (self.mode, self.pin) {
            (Mode::Session, _) => Some(Keeps::Session),
            (_, pin) => pin.map(Keeps::Pinned),
        }
    }

    /// Has a backend of the pool that was chosen; or why there is none.
    pub(super) async fn engage_here(&mut self) -> Result<Result<(), Failure>, Cut> {
        for _ in 0..TRIES_MAX {
            let lent = match self.take_backend().await {
                Ok(lent) => lent,
                Err(Without::Cut(cut)) => return Err(cut),
                Err(Without::Failed(failure)) => return Ok(Err(failure)),
            };
            match self.make_ready(lent).await? {
                Ready::Yes => return Ok(Ok(())),
                Ready::Broken => {}
                Ready::Refused(failure) => return Ok(Err(failure)),
            }
        }
        let message = "one connection to the server after the other was broken";
        Ok(Err(Failure::new(SqlState::CONNECTION_FAILURE, message)))
    }

    /// Makes a backend as this session left its last one; whether it is of use.
    async fn make_ready(&mut self, mut lent: Lent) -> Result<Ready, Cut> {
        let is_mine = lent.last_session == self.number && lent.settings_number == self.settings_number;
        if !is_mine && !engage::is_prepared(&lent, self.number, &self.settings) {
            let (core, database) = (&self.held.core, &self.seat.database);
            // Boxed, as all that is rare: a session is as large as the largest thing that it waits for.
            let prepared = Box::pin(engage::prepare(core, database, &mut lent, self.number, &self.settings));
            match prepared.await {
                Ok(_) => {}
                Err(AskError::Broken(_)) => return Ok(Ready::Broken),
                // Another server may take it.
                Err(AskError::Refused(mut failure)) if self.place.is_replica => {
                    failure.code = SqlState::CANNOT_CONNECT_NOW;
                    return Ok(Ready::Refused(failure));
                }
                Err(AskError::Refused(failure)) => return Err(Cut::Told(failure)),
            }
        }
        // What is said on it from now on is this session's.
        lent.last_session = 0;
        lent.sequences.lent();
        lent.overheard.clear();
        self.applied_number = self.settings_number;
        self.ahead.moves();
        self.unnamed.moves();
        // What was to be cancelled on the last one, or is being, has nothing to do with this one.
        if self.has_cancels() {
            self.cancels = Rc::default();
        }
        (self.is_doubtful, self.is_used, self.server_wants) = (false, false, 1);
        self.backend = Some(lent);
        Ok(Ready::Yes)
    }

    async fn take_backend(&mut self) -> Result<Lent, Without> {
        let mut deadline = None;
        loop {
            let now = Instant::now();
            let wants_own = self.params.pid == Pid::Server
                && !self.place.is_replica
                && self.own.as_ref().is_none_or(|own| !own.is_of(&self.local.pool));
            let (lent, ping) = match engage::take(&self.held.core, &self.local, now, self.own.as_ref(), wants_own) {
                Taken::Now(lent, ping) => (lent, ping),
                Taken::Wait(waiting) => {
                    self.cells().waits.increment();
                    let until = *deadline.get_or_insert_with(|| now + self.local.pool.acquire_timeout());
                    self.tether.deadline.set(until);
                    self.armed = Armed::Nothing;
                    self.begin_to_wait(now);
                    let waited = self.wait_for_backend(waiting).await;
                    self.has_waited();
                    waited?
                }
            };
            if let Some(mut lent) = engage::bring(&self.held.core, &self.seat.database, lent, ping).await {
                if let Some(own) = lent.own.take() {
                    self.own = Some(own);
                }
                return Ok(lent);
            }
        }
    }

    /// Whether anybody still waits for what was asked; or why not.
    pub(super) fn is_still_wanted(&mut self) -> Result<Result<(), Failure>, Cut> {
        if self.tether.is_killed(None) {
            return Err(Cut::Told(super::killed()));
        }
        if self.tether.is_ending.get() {
            return Err(Cut::Told(super::stopping()));
        }
        if let Err(cancelled) = self.is_not_cancelled() {
            return Ok(Err(cancelled));
        }
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match self.client.input.as_mut().filter(|input| input.room() > 0) {
            Some(input) => match self.client.socket.poll_read_into(&mut cx, input) {
                Poll::Ready(Ok(0) | Err(_)) => Err(Cut::Gone),
                _ => Ok(Ok(())),
            },
            None => Ok(Ok(())),
        }
    }

    /// Whether what waits for a backend was not cancelled meanwhile: nothing runs yet that the server could be asked to cancel.
    pub(super) fn is_not_cancelled(&self) -> Result<(), Failure> {
        if self.tether.take_cancels().is_empty() {
            return Ok(());
        }
        Err(cancelled())
    }

    /// Waits as long as the client is there and the pool's time lasts.
    async fn wait_for_backend(&mut self, mut waiting: Waiting) -> Result<(Lent, bool), Without> {
        let (tether, client) = (&self.tether, &mut self.client);
        let handed = poll_fn(|cx| {
            tether.register(cx);
            if let Poll::Ready(handed) = waiting.poll(cx) {
                return Poll::Ready(match handed {
                    Ok(lent) => Some(Ok(lent)),
                    Err(NotLent::Failed(failure)) => Some(Err(Without::Failed(Failure::clone(&failure)))),
                    Err(NotLent::TimedOut) => None,
                });
            }
            if tether.is_killed(None) {
                return Poll::Ready(Some(Err(Without::Cut(Cut::Told(super::killed())))));
            }
            if !tether.take_cancels().is_empty() {
                return Poll::Ready(Some(Err(Without::Failed(cancelled()))));
            }
            // Whoever goes leaves the queue.
            while let Some(input) = client.input.as_mut().filter(|input| input.room() > 0) {
                match client.socket.poll_read_into(cx, input) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(Without::Cut(Cut::Gone)))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            tether.deadline.poll_expired(cx).map(|_| None)
        });
        match handed.await {
            Some(handed) => handed,
            None => {
                self.cells().acquire_timeouts.increment();
                Err(Without::Failed(self.local.pool.timed_out()))
            }
        }
    }

    fn begin_to_wait(&self, now: Instant) {
        if let Some(note) = self.tether.note.get() {
            note.wait(now);
        }
    }

    fn has_waited(&self) {
        if let Some(note) = self.tether.note.get() {
            self.cells().wait_micros.add(note.wait_over());
        }
    }

    /// Gives the backend back, unless something keeps it.
    pub(super) async fn release(&mut self) -> Result<(), Cut> {
        if self.backend.is_none() {
            return Ok(());
        }
        if self.has_cancels() {
            Box::pin(self.await_cancels()).await;
        }
        if self.has_farewell {
            return Err(Cut::Ended);
        }
        if self.is_doubtful {
            self.backend = None;
            return Ok(());
        }
        if self.is_opaque && self.mode != Mode::Session {
            Box::pin(self.observe()).await?;
        }
        if std::mem::take(&mut self.is_reset) {
            Box::pin(self.restore()).await?;
        }
        if self.keeps().is_none() {
            self.give_back();
        }
        if self.place.again.is_refused {
            self.cells().refusals.increment();
            self.rewind();
        }
        Ok(())
    }

    /// Gives a clean backend back.
    pub(super) fn give_back(&mut self) {
        let Some(lent) = self.part() else { return };
        match &self.own {
            // Another one's goes to where its owner finds it, from whatever core; or two that had each other's would never have their own again.
            Some(own) if own.is_of(&self.local.pool) && !own.is(&lent) => lent.release(),
            _ => self.local.give(lent),
        }
    }

    /// Parts from a clean backend, which is as this session left it.
    pub(super) fn part(&mut self) -> Option<Lent> {
        if self.backend.is_some() && self.has_rest() {
            // Whoever came next would read on in the middle of a message.
            self.keep_passing();
            (self.backend, self.server_input) = (None, None);
            self.cells().unclean.increment();
        }
        let mut lent = self.backend.take()?;
        // Whoever has it next may be on another core.
        lent.socket.settle();
        if lent.socket.has_unsent() {
            self.cells().unclean.increment();
            return None;
        }
        if lent.texts.is_overfull() {
            // What its server has by those names nobody needs, and all of them would be looked through for ever.
            return None;
        }
        if self.applied_number != self.settings_number {
            lent.applied = self.settings.applied();
        }
        lent.last_session = self.number;
        lent.settings_number = self.settings_number;
        lent.lease = None;
        self.unanswered = 0;
        if let (Some(flight), Some(cluster)) = (lent.flight.take(), &self.place.cluster) {
            self.held.core.with_picker(cluster.number, |picker| flight.land(picker));
        }
        Some(lent)
    }

    /// Asks for what functions may have set that no server reports.
    async fn observe(&mut self) -> Result<(), Cut> {
        let timeout = self.params.timeouts.clean;
        self.hands_rest_over();
        let Some(backend) = &mut self.backend else { return Ok(()) };
        let known = self.local.pool.search_path();
        let epoch = backend.age.epoch;
        let asked = backend.ask(if known.is_some() { OBSERVE } else { OBSERVE_FIRST }, timeout).await;
        self.tell_overheard();
        let asked = match asked {
            Ok(asked) => asked,
            // What it keeps its backend for must not be lost without a word. It is asked again after its next statement.
            Err(AskError::Refused(_)) if self.keeps().is_some() => return Ok(()),
            // Nor what a function may have set, where there is only this server: without a proxy it would be cut off as well.
            Err(AskError::Broken(failure)) if !self.may_survive() => {
                self.is_doubtful = true;
                return Err(self.lost(failure));
            }
            Err(_) => {
                self.backend = None;
                return Ok(());
            }
        };
        self.is_opaque = false;
        let mut values = asked.rows.into_iter().flatten();
        let (path, role) = (values.next().flatten(), values.next().flatten());
        let default = known.unwrap_or_else(|| {
            let found: Arc<str> = values.next().flatten().unwrap_or_default().into();
            self.local.pool.set_search_path(Arc::clone(&found), epoch);
            found
        });
        if let (Some(path), Some(role)) = (path, role) {
            self.settings.observed("search_path", &path, &default);
            self.settings.observed("role", &role, "none");
            self.settings_number += 1;
        }
        Ok(())
    }

    /// The beginning of a message may have been read already, whose rest stands before the answer to a question of ours.
    fn hands_rest_over(&mut self) {
        self.keep_passing();
        if let (Some(backend), Some(input)) = (&mut self.backend, &mut self.server_input) {
            backend.begun.extend_from_slice(input.filled());
            input.clear();
        }
    }

    /// Sets again what the session began with, where it was reset to what the backend began with.
    async fn restore(&mut self) -> Result<(), Cut> {
        let timeout = self.params.timeouts.clean;
        let Some(text) = self.settings.restore() else { return Ok(()) };
        self.hands_rest_over();
        let Some(backend) = &mut self.backend else { return Ok(()) };
        let asked = backend.ask(&text, timeout).await;
        self.tell_overheard();
        match asked {
            Ok(asked) => {
                self.keep_passing();
                // It was told what the reset gave.
                for (name, value) in &asked.reports {
                    write::parameter_status(self.to_client.bytes(), name, value);
                }
                Ok(())
            }
            Err(AskError::Refused(failure) | AskError::Broken(failure)) => {
                self.is_doubtful = true;
                Err(Cut::Told(failure))
            }
        }
    }

    /// The same within a transaction, before its next statement.
    pub(super) fn restores_within(&mut self) {
        let is_due = self.is_reset
            && self.client.splitter.is_between_messages()
            && self
                .backend
                .as_ref()
                .is_some_and(|backend| backend.ledger.is_empty() && backend.status == TransactionStatus::Open);
        if !is_due {
            return;
        }
        self.is_reset = false;
        if let Some(text) = self.settings.restore() {
            self.put(Question::Query, None, |out| write::query(out, &text));
            if let Some(backend) = &mut self.backend {
                backend.unnamed = None;
            }
            let passing = std::mem::take(&mut self.client.pass);
            if let Some(input) = &mut self.client.input {
                self.to_server.extend(&input.filled()[..passing]);
                input.consume(passing);
            }
            self.to_server.bytes().append(&mut self.scratch);
        }
    }

    /// Has what runs cancelled.
    pub(super) fn cancel(&mut self) {
        self.cancel_for(Vec::new());
    }

    /// The same, for those who wait until the server has heard of it.
    pub(super) fn cancel_for(&mut self, waiting: Vec<mpsc::Sender<()>>) {
        let Some(backend) = self.backend.as_ref().filter(|backend| !backend.ledger.is_empty()) else { return };
        self.cells().cancels.increment();
        let timeout = self.params.timeouts.connect;
        let (key, cancels) = (backend.key.clone(), Rc::clone(&self.cancels));
        cancels.count.set(cancels.count.get() + 1);
        tokio::task::spawn_local(async move {
            let is_astray = !connect::cancel(&key, timeout).await;
            drop(waiting);
            cancels.is_astray.set(cancels.is_astray.get() || is_astray);
            cancels.count.set(cancels.count.get() - 1);
            cancels.done.notify_waiters();
        });
    }

    /// Whether a cancel is on its way, or may be.
    fn has_cancels(&self) -> bool {
        self.cancels.count.get() > 0 || self.cancels.is_astray.get()
    }

    /// Waits until no cancel is on its way, which would reach somebody else's statement. If one may come at any time, nobody else gets the
    /// backend.
    pub(super) async fn await_cancels(&mut self) {
        while self.cancels.count.get() > 0 {
            self.cancels.done.notified().await;
        }
        self.is_doubtful |= self.backend.is_some() && self.cancels.is_astray.take();
    }

    /// What was waited for has not come in time.
    pub(super) async fn expired(&mut self) -> Result<(), Cut> {
        match std::mem::take(&mut self.armed) {
            Armed::Nothing => Ok(()),
            Armed::Stall => Err(Cut::Gone),
            Armed::Statement => {
                self.cancel();
                self.await_cancels().await;
                // It has as long again to hear of it.
                self.tether.deadline.set(after(self.params.timeouts.clean));
                self.armed = Armed::Statement;
                Ok(())
            }
            Armed::Transaction => {
                let message = "terminating connection: its transaction was idle for too long";
                Err(Cut::Told(Failure::new(SqlState::IDLE_IN_TRANSACTION, message)))
            }
            Armed::Client => Err(Cut::Told(super::idle_for_too_long())),
        }
    }
}

fn cancelled() -> Failure {
    Failure::new(SqlState::QUERY_CANCELED, "canceling statement due to user request")
}
