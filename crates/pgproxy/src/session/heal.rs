//! Groups of messages that are run a second time.
//!
//! A statement that clients share may have a plan from before a change of the schema that nobody saw here. The server refuses it, and the
//! client would hear of something that need not be its doing. As long as nothing of the group was answered, and no transaction is open
//! that the refusal could have failed, the group is run again, and its statements are parsed anew. For that a short group is
//! remembered from its first message to its end. What it prepared and closed at its beginning stays so whatever fails behind it: that is
//! not done again.
//!
//! It is run again only if it asks what its rows are. A client that knows that from before must hear that it is not so any more, as
//! it would without a proxy; and so must one that had prepared before a change that was seen.

use pgroute::prepared::Changes;
use pgroute::session::Question;
use pgroute::wire::backend::tag as answer_tag;
use pgroute::wire::frontend::tag;

use super::{Session, peek};
use crate::params::Mode;

/// Longest group that is remembered. Values may be long; what is longer hears the server's error.
const GROUP_BYTES_MAX: usize = 16 * 1024;

/// A group as the client sent it.
#[derive(Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    /// So many of them are answered for good.
    answered: usize,
    state: State,
    /// It asks what its rows are.
    describes: bool,
    /// Its first answer told the types of parameters, which stand before the columns; it is not told them again.
    has_parameters: bool,
    /// The oldest of its statements was prepared when there had been so many changes.
    since: Changes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It is not remembered, or cannot be run again any more.
    #[default]
    Lost,
    /// So far it is here, and nothing of it was answered that would have to be done again.
    Kept,
    /// It was refused: it is to be run again when the server is ready.
    Refused,
    /// It runs again.
    Again,
}

impl Group {
    /// It uses a statement that its client has prepared when there had been so many changes.
    pub(super) fn uses(&mut self, since: Changes) {
        self.since = self.since.min(since);
    }

    /// Something of it is answered. Whether the client has had that already.
    pub(super) fn answers(&mut self, kind: u8) -> bool {
        let tells_parameters = kind == answer_tag::PARAMETER_DESCRIPTION;
        match self.state {
            State::Again => {
                self.state = State::Lost;
                return tells_parameters && self.has_parameters;
            }
            State::Kept if tells_parameters && !self.has_parameters => self.has_parameters = true,
            State::Kept => {
                if !self.stays(kind) {
                    self.state = State::Lost;
                }
            }
            State::Lost | State::Refused => {}
        }
        false
    }

    /// Whether its first message without an answer, which has this one, has done something that stays.
    fn stays(&mut self, kind: u8) -> bool {
        let question = match kind {
            answer_tag::PARSE_COMPLETE => tag::PARSE,
            answer_tag::CLOSE_COMPLETE => tag::CLOSE,
            _ => return false,
        };
        let message = peek::message(&self.bytes[self.answered..]).filter(|message| message[0] == question);
        self.answered += message.map_or(0, <[u8]>::len);
        message.is_some()
    }

    /// It may be run again, or is: what answers it counts.
    pub(super) fn is_kept(&self) -> bool {
        self.state != State::Lost
    }

    /// It was refused, and the server has not come to its end. Nothing else is asked before that.
    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }
}

impl Session {
    /// Remembers a message, before it is sent; all of it is here if `is_whole`.
    pub(super) fn remember(&mut self, kind: u8, message: &[u8], is_whole: bool) {
        if self.mode == Mode::Session {
            return;
        }
        let group = &mut self.group;
        if group.state == State::Again {
            return;
        }
        if !self.is_group_open && self.backend.as_ref().is_none_or(|backend| backend.is_clean()) {
            group.bytes.clear();
            *group = Group { bytes: std::mem::take(&mut group.bytes), since: Changes(u64::MAX), ..Group::default() };
            group.state = State::Kept;
        }
        group.describes |= kind == tag::DESCRIBE;
        let fits = group.bytes.len() + message.len() <= GROUP_BYTES_MAX;
        let may_be = matches!(kind, tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE | tag::SYNC);
        if group.state == State::Kept && is_whole && fits && may_be {
            group.bytes.extend_from_slice(message);
        } else {
            group.state = State::Lost;
        }
    }

    /// A plan is older than a change. Whether the group can be run again; its statements are parsed anew then, and those of everybody who prepares
    /// from now on. Where the client had prepared before a change that was seen, the others of its statements stay what they are: each of them
    /// is older than the change as well, and to say so.
    pub(super) fn is_healed(&mut self) -> bool {
        let is_seen = self.group.since < self.seat.database.changes();
        self.seat.database.changed();
        if !is_seen {
            self.floor = self.seat.database.changes();
        }
        let is_next = |due: &pgroute::session::Due| due.question == Question::Sync;
        let is_last = self.backend.as_ref().is_some_and(|backend| {
            backend.status == pgroute::wire::backend::TransactionStatus::Idle
                && backend.ledger.len() == 1
                && backend.ledger.next().is_some_and(is_next)
        });
        if self.group.state != State::Kept || !self.group.describes || is_seen || !is_last || self.is_client_gone {
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
        self.group.state = State::Again;
        let bytes = std::mem::take(&mut self.group.bytes);
        // All of the group has been sent, or it would not have been refused.
        self.reads_again(&bytes[self.group.answered..]);
        self.group.bytes = bytes;
        true
    }
}
