//! What becomes of a session whose server has gone: what only read is done again elsewhere, a transaction is cut by an error that drivers try
//! again after, and of a commit that was under way nobody knows anything, which the client is told.

use pgroute::SqlState;
use pgroute::session::{Owner, Question};
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::write;

use super::{Cut, Session, peek};
use crate::failure::Failure;

impl Session {
    /// Whether the session may outlive its backend: there are other servers, and nothing is only on this one.
    pub(super) fn may_survive(&self) -> bool {
        self.place.cluster.as_ref().is_some_and(|cluster| !cluster.is_alone()) && self.keeps().is_none()
    }

    /// Whether what comes from the server is held back, so that what was asked can still be asked elsewhere.
    pub(super) fn holds(&self) -> bool {
        !self.place.again.bytes.is_empty()
    }

    /// The connection to the server is lost.
    pub(super) fn survive(&mut self, failure: Failure) -> Result<(), Cut> {
        let Some(cluster) = self.place.cluster.clone() else { return Err(Cut::Told(failure)) };
        cluster.suspect(self.place.server);
        let Some(backend) = &mut self.backend else { return Ok(()) };
        let status = backend.status;
        // Whether the client has no message of which the rest will not come.
        let is_between = backend.splitter.is_between_messages() || self.server_drops;
        self.unnamed.lost(&backend.ledger);
        let due: Vec<_> = backend.ledger.abandon().collect();
        if due.iter().any(|due| self.commits(due.label)) {
            self.is_doubtful = true;
            let message = "the connection to the server was lost while it committed: nobody knows whether it has";
            return Err(Cut::Told(Failure::new(SqlState::RESOLUTION_UNKNOWN, message).with_detail(&failure.message)));
        }
        for due in due.iter().rev() {
            self.dropped(due.label);
        }
        self.settings.failed();
        self.settings.ready(TransactionStatus::Idle);
        self.has_not_listened();
        self.listen_now(TransactionStatus::Idle);
        self.settings_number += 1;
        self.portals.clear();
        (self.is_copying, self.is_doubtful) = (false, false);
        self.backend = None;
        (self.unanswered, self.instead) = (0, None);
        // What it had begun to say is no part of what the next one says.
        self.keep_passing();
        (self.server_input, self.server_drops) = (None, false);
        if self.holds() {
            self.cells().reruns.increment();
            self.rewind();
            return Ok(());
        }
        if due.is_empty() && status == TransactionStatus::Idle && !self.is_group_open && is_between {
            return Ok(());
        }
        if status == TransactionStatus::Idle && !(due.is_empty() && self.is_group_open) || !is_between {
            return Err(Cut::Told(failure));
        }
        self.cells().cut_transactions.increment();
        let message = "the transaction was cut, because its server has gone or is the primary no more";
        let cut = Failure::new(SqlState::SERIALIZATION_FAILURE, message)
            .with_detail(&failure.message)
            .with_hint("Try the transaction again.");
        let is_idle = due.iter().all(|due| due.owner == Owner::Ours);
        if is_idle && !self.is_group_open {
            self.fails = Some(cut);
            return Ok(());
        }
        self.bury(&due, &cut);
        Ok(())
    }

    /// Answers everything that the server was asked with an error, as it would have.
    fn bury(&mut self, due: &[pgroute::session::Due], failure: &Failure) {
        let mut has_failed = false;
        for due in due.iter().filter(|due| due.owner == Owner::Client) {
            let ends = matches!(due.question, Question::Query | Question::FunctionCall | Question::Sync);
            if !has_failed && due.question != Question::Sync {
                failure.write(write::Severity::Error, self.to_client.bytes());
            }
            has_failed = !ends;
            if ends {
                write::ready(self.to_client.bytes(), TransactionStatus::Idle);
            }
        }
        if has_failed || self.is_group_open {
            if !has_failed {
                failure.write(write::Severity::Error, self.to_client.bytes());
            }
            self.skips = true;
        }
        self.cells().errors.increment();
        self.is_group_open = false;
        // What of it was not sent is not sent any more.
        self.to_server.clear();
        let passing = std::mem::take(&mut self.client.pass);
        self.client.input.iter_mut().for_each(|input| input.consume(passing));
    }

    /// Has a group of messages read again, as if nothing of it had been.
    pub(super) fn rewind(&mut self) {
        let bytes = std::mem::take(&mut self.place.again.bytes);
        for name in peek::prepared(&bytes).filter(|name| !name.is_empty()) {
            self.names.close(name);
        }
        self.to_server.clear();
        self.to_client.clear();
        (self.server_input, self.server_pass, self.server_drops) = (None, 0, false);
        self.reads_again(&bytes);
        (self.is_group_open, self.skips, self.has_flushed) = (false, false, false);
        self.place.again.count += 1;
    }

    /// Has messages of the client's read once more, before what it has sent since.
    pub(super) fn reads_again(&mut self, messages: &[u8]) {
        let mut input = self.held.core.client_buffers.take();
        input.extend(messages);
        if let Some(since) = &self.client.input {
            input.extend(&since.filled()[self.client.pass..]);
        }
        (self.client.input, self.client.pass, self.client.wants) = (Some(input), 0, 0);
    }
}
