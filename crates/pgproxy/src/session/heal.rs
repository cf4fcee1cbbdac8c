//! Groups of messages that are run a second time.
//!
//! A statement that clients share may have a plan from before a change of the schema that nobody saw here. The server refuses it, and the
//! client would hear of something that is not its doing. As long as nothing of the group was answered, and no transaction is open that
//! the refusal could have failed, the group is run again, and its statements are parsed anew. For that a short group is remembered
//! from its first message to its end.

use pgroute::session::Question;
use pgroute::wire::frontend::tag;

use super::Session;
use crate::params::Mode;

/// Longest group that is remembered. Values may be long; what is longer hears the server's error.
const GROUP_BYTES_MAX: usize = 16 * 1024;

/// A group as the client sent it.
#[derive(Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It is not remembered, or cannot be run again any more.
    #[default]
    Lost,
    /// So far it is here, and nothing of it was answered.
    Kept,
    /// It was refused: it is to be run again when the server is ready.
    Refused,
}

impl Group {
    /// Something of it was answered.
    pub(super) fn answered(&mut self) {
        if self.state == State::Kept {
            self.state = State::Lost;
        }
    }
}

impl Session {
    /// Remembers a message, before it is sent; all of it is here if `is_whole`.
    pub(super) fn remember(&mut self, kind: u8, message: &[u8], is_whole: bool) {
        if self.mode == Mode::Session {
            return;
        }
        let group = &mut self.group;
        if self.backend.as_ref().is_none_or(|backend| backend.is_clean()) {
            group.bytes.clear();
            group.state = State::Kept;
        }
        let fits = group.bytes.len() + message.len() <= GROUP_BYTES_MAX;
        let may_be = matches!(kind, tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::SYNC);
        if group.state == State::Kept && is_whole && fits && may_be {
            group.bytes.extend_from_slice(message);
        } else {
            group.state = State::Lost;
        }
    }

    /// A plan is older than a change that nobody saw. Whether the group can be run again; its statements are parsed anew then, and those of
    /// everybody who prepares from now on.
    pub(super) fn is_healed(&mut self) -> bool {
        self.seat.database.changed();
        self.floor = self.seat.database.changes();
        let is_next = |due: &pgroute::session::Due| due.question == Question::Sync;
        let is_last = self.backend.as_ref().is_some_and(|backend| {
            backend.status == pgroute::wire::backend::TransactionStatus::Idle
                && backend.ledger.len() == 1
                && backend.ledger.next().is_some_and(is_next)
        });
        if self.group.state != State::Kept || !is_last || self.is_client_gone {
            return false;
        }
        self.group.state = State::Refused;
        self.cells().healed.increment();
        true
    }

    /// Whether the server's readiness ends a group that is to be run again. It is put before what the client has sent since.
    pub(super) fn runs_again(&mut self) -> bool {
        if self.group.state != State::Refused {
            return false;
        }
        self.group.state = State::Lost;
        let mut input = self.held.core.client_buffers.take();
        input.extend(&self.group.bytes);
        if let Some(rest) = &self.client.input {
            // All of the group has been sent, or it would not have been refused.
            input.extend(&rest.filled()[self.client.pass..]);
        }
        (self.client.input, self.client.pass, self.client.wants) = (Some(input), 0, 0);
        true
    }
}
