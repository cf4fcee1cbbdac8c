//! The end of a session: what is under way is cancelled or finished, and the backend goes back clean, or is closed.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::write::Severity;

use super::{Cut, Session, Turn};
use crate::client::linger;
use crate::core::after;
use crate::engage;

/// How long the client may take its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// After which time what was cancelled and goes on is cancelled again.
const CANCEL_AGAIN: Duration = Duration::from_millis(200);

impl Session {
    /// Ends it. Made apart, so that who serves it has no room for a second one on the stack.
    #[inline(never)]
    pub(super) fn boxed_end(self, cut: Cut) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(self.end(cut))
    }

    async fn end(mut self, cut: Cut) {
        if let Cut::Told(failure) | Cut::Lost(failure) = &cut {
            // What was put first is complete; what passes is complete up to a message's end, or the client cannot be told anything.
            let is_between = self.backend.as_ref().is_none_or(|backend| backend.splitter.is_between_messages());
            if is_between {
                self.keep_passing();
                failure.write(Severity::Fatal, self.to_client.bytes());
            }
            let (level, code) = (&failure.message, failure.code);
            tracing::debug!(database = %self.seat.database.name, user = %self.user, %code, error = %level, "a client was cut off");
        }
        self.stop_listening();
        self.say_at_once();
        self.leave(&cut).await;
        if let Some(own) = self.own.take() {
            own.give_up(&self.held.core, !self.changed.ever);
        }
        self.unpin();
        if matches!(cut, Cut::Told(_) | Cut::Lost(_) | Cut::Ended) {
            self.tether.deadline.set(after(LAST_WORDS));
            let tether = std::rc::Rc::clone(&self.tether);
            let _in_time = tether.deadline.guard(self.say_last()).await;
        }
    }

    /// Puts what passes to the client behind what was put before it.
    pub(super) fn keep_passing(&mut self) {
        let passing = std::mem::take(&mut self.server_pass);
        if let Some(input) = &mut self.server_input {
            self.to_client.extend(&input.filled()[..passing]);
            input.consume(passing);
        }
    }

    /// Sends what the client takes at once.
    fn say_at_once(&mut self) {
        self.keep_passing();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !self.to_client.is_empty() {
            match self.client.socket.poll_write(&mut cx, [self.to_client.rest(), &[]]) {
                std::task::Poll::Ready(Ok(count @ 1..)) => self.to_client.advance(count),
                _ => break,
            }
        }
        let _later = self.client.socket.poll_flush(&mut cx);
    }

    async fn say_last(&mut self) {
        if crate::backend::send(&mut self.client.socket, self.to_client.rest()).await.is_ok() {
            self.to_client.clear();
            linger(&mut self.client.socket).await;
        }
    }

    /// Parts from the backend.
    async fn leave(&mut self, cut: &Cut) {
        let Some(backend) = &self.backend else { return };
        let is_under_way = !backend.ledger.is_empty() || !self.to_server.is_empty() || self.client.pass > 0;
        let is_open = self.is_group_open || self.is_copying || !self.client.splitter.is_between_messages();
        if is_under_way && !matches!(cut, Cut::Goodbye) {
            self.cancel_at_end();
        }
        let has_rest = !is_under_way && self.has_rest();
        let may_serve = !self.is_doubtful && !has_rest && (!is_under_way || !is_open);
        if may_serve && is_under_way {
            self.finish(cut).await;
        }
        self.await_cancels().await;
        if self.changed.ever && may_serve {
            // It ends as it would without a proxy, and leaves nothing to anybody.
            self.backend = None;
            return;
        }
        if !may_serve || !self.clean().await {
            if self.backend.take().is_some() {
                self.cells().unclean.increment();
            }
            return;
        }
        // Whoever comes next is to find it, on whatever core that is.
        if let Some(lent) = self.part() {
            lent.release();
        }
    }

    /// Hears all answers that are due, for nobody.
    async fn finish(&mut self, cut: &Cut) {
        self.is_client_gone = true;
        self.to_client.clear();
        self.armed = super::Armed::Nothing;
        let tether = std::rc::Rc::clone(&self.tether);
        let until = after(self.params.timeouts.clean);
        self.is_doubtful |= loop {
            match cut {
                // The server does what it was asked before the client went, however long that takes.
                Cut::Goodbye => tether.deadline.clear(),
                _ => tether.deadline.set(until.min(after(CANCEL_AGAIN))),
            }
            match tether.deadline.guard(std::future::poll_fn(|cx| self.poll_relay(cx))).await {
                Ok(drained) => break !matches!(drained, Ok(Turn::Idle)),
                Err(_) if Instant::now() >= until => break true,
                // One that comes before the server has begun cancels nothing.
                Err(_) => self.cancel_at_end(),
            }
        };
    }

    /// Has what runs cancelled, unless that is a commit: it is done, or waits for other servers to have it, which a cancel would end.
    fn cancel_at_end(&mut self) {
        if !self.is_committing() {
            self.cancel();
        }
    }

    /// Makes the backend fit for somebody else; whether it is.
    async fn clean(&mut self) -> bool {
        let timeout = self.params.timeouts.clean;
        let keeps = self.keeps().is_some();
        let (core, database) = (std::rc::Rc::clone(&self.held.core), std::sync::Arc::clone(&self.seat.database));
        let Some(backend) = &mut self.backend else { return false };
        let is_past_resetting = self.pin.is_some_and(|pin| !pin.can_be_reset());
        if self.is_doubtful || is_past_resetting || backend.ledger.is_uncertain() {
            return false;
        }
        // So does a group of messages without its end, whose transaction the server does not speak of.
        if backend.status != TransactionStatus::Idle || std::mem::take(&mut self.is_group_open) {
            if backend.ask("ROLLBACK", timeout).await.is_err() {
                return false;
            }
            self.settings.failed();
            self.settings.ready(TransactionStatus::Idle);
            self.settings_number += 1;
        }
        if keeps && engage::discard(&core, &database, backend).await.is_err() {
            return false;
        }
        if keeps {
            // It is as it began, and not as this session was.
            self.settings = pgroute::session::Settings::default();
            self.settings_number += 1;
        }
        if std::mem::take(&mut self.is_reset) {
            backend.is_tainted = true;
        }
        backend.is_clean()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_listening();
        self.has_made_way();
        self.cells().clients.add(-1);
    }
}
