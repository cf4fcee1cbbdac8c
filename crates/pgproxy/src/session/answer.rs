//! What the server answers: which of it is for the client, and what it says of the session.

use pgroute::SqlState;
use pgroute::session::{Due, Owner, Question};
use pgroute::wire::backend::{self, Fields, TransactionStatus, tag};
use pgroute::wire::{Piece, write};

use super::effect::UNNAMED;
use super::{Armed, Cut, Session};
use crate::backend::out_of_step;
use crate::failure::Failure;
use crate::params::Mode;

/// The routine of the server that finds a plan to be older than the schema.
const STALE_ROUTINE: &[u8] = b"RevalidateCachedQuery";

/// What becomes of an answer.
enum Deliver {
    Pass,
    Drop,
}

impl Session {
    /// Looks at what the server has sent; whether there was anything.
    pub(super) fn answers(&mut self) -> Result<bool, Cut> {
        let mut moved = false;
        loop {
            if self.backend.is_none() || self.is_client_full() {
                self.server_wants = 0;
                return Ok(moved);
            }
            let Some(mut input) = self.server_input.take() else {
                self.server_wants = 1;
                return Ok(moved);
            };
            let looked = self.answer_in(&mut input);
            self.server_input = Some(input);
            if !looked? {
                return Ok(moved);
            }
            moved = true;
        }
    }

    /// Looks at the next piece of what is in the buffer; whether there was one.
    fn answer_in(&mut self, input: &mut net::Buffer) -> Result<bool, Cut> {
        let Some(backend) = &mut self.backend else { return Ok(false) };
        let unread = &input.filled()[self.server_pass..];
        if backend.ledger.expects_rows() {
            let is_mere = backend.ledger.expects_mere_rows() && !self.is_copying && !self.group.is_kept();
            // Until the first row it may yet be asked elsewhere.
            let is_mere = is_mere && self.place.again.bytes.is_empty();
            let rows = backend.splitter.run(unread, |kind| match kind {
                tag::DATA_ROW | tag::COPY_DATA => true,
                tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE => is_mere,
                _ => false,
            });
            match rows {
                Ok((0, _)) => {}
                Ok((len, _)) => {
                    backend.ledger.has_passed();
                    self.place.again.forget();
                    self.server_pass += len;
                    return Ok(true);
                }
                Err(error) => return Err(self.broken(&Failure::of_wire(error))),
            }
        }
        let piece = match backend.splitter.next(unread, backend::look) {
            Ok(piece) => piece,
            Err(error) => return Err(self.broken(&Failure::of_wire(error))),
        };
        let len = piece.len();
        let deliver = match piece {
            Piece::Wait { bytes } => {
                self.server_wants = bytes;
                return Ok(false);
            }
            Piece::More { is_last, .. } => {
                let deliver = if self.server_drops { Deliver::Drop } else { Deliver::Pass };
                self.server_drops &= !is_last;
                deliver
            }
            Piece::Message { tag, len } => self.answer(tag, &unread[..len])?,
            Piece::Begin { tag, len, .. } => {
                let deliver = self.answer(tag, &unread[..len])?;
                self.server_drops = matches!(deliver, Deliver::Drop);
                deliver
            }
        };
        match deliver {
            Deliver::Pass if self.scratch.is_empty() => self.server_pass += len,
            deliver => {
                self.to_client.extend(&input.filled()[..self.server_pass]);
                self.to_client.bytes().append(&mut self.scratch);
                input.consume(self.server_pass);
                self.server_pass = 0;
                match deliver {
                    Deliver::Pass => self.server_pass = len,
                    Deliver::Drop => input.consume(len),
                }
            }
        }
        Ok(true)
    }

    /// An answer, of which the beginning may be enough.
    fn answer(&mut self, kind: u8, message: &[u8]) -> Result<Deliver, Cut> {
        let Some(backend) = &mut self.backend else { return Ok(Deliver::Drop) };
        let front = backend.ledger.next().copied();
        let (due, number) = (backend.ledger.len(), backend.ledger.answered());
        let answer = match backend.ledger.answer(kind) {
            Ok(answer) => answer,
            // The server says why it goes.
            Err(_) if kind == tag::ERROR => return self.farewell(message),
            Err(error) => return Err(self.broken(&out_of_step(&error))),
        };
        if answer.closes.is_some() {
            self.unanswered -= self.unanswered / due.max(1);
        }
        let is_ours = front.is_some_and(|due| due.owner == Owner::Ours);
        let mut is_replaced = false;
        match kind {
            tag::COMMAND_COMPLETE | tag::EMPTY_QUERY => {
                if !is_ours {
                    self.place.again.forget();
                }
                if kind == tag::COMMAND_COMPLETE
                    && let Some(due) = front.filter(|due| due.label != 0)
                {
                    let said = backend::command_complete(message).map_err(|error| self.of_server(error))?;
                    if let Some(instead) = self.succeeded(due.label, said) {
                        write::command_complete(&mut self.scratch, instead);
                        is_replaced = true;
                    }
                }
                self.is_copying = false;
            }
            tag::READY => {
                self.ready(message, is_ours)?;
                if !self.place.again.is_refused {
                    self.place.again.forget();
                }
                if self.runs_again() {
                    return Ok(Deliver::Drop);
                }
            }
            tag::ERROR => return Ok(self.error(message, front, number)),
            tag::PARAMETER_STATUS => {
                // What is set again for the client's sake is reported to it as well.
                self.reported(message)?;
                return Ok(Deliver::Pass);
            }
            tag::NOTIFICATION if self.pin.is_none() && self.mode != Mode::Session => return Ok(Deliver::Drop),
            tag::DATA_ROW | tag::COPY_OUT | tag::PORTAL_SUSPENDED => self.place.again.forget(),
            tag::COPY_IN => self.is_copying = true,
            tag::PARAMETER_DESCRIPTION | tag::ROW_DESCRIPTION | tag::NO_DATA => {
                if let Some(due) = front.filter(|due| due.label != 0) {
                    self.was_told(due.label, message).map_err(|error| self.of_server(error))?;
                }
            }
            _ => {}
        }
        if !is_ours && self.group.answers(kind) {
            return Ok(Deliver::Drop);
        }
        if answer.closes.is_some_and(|due| due.question == Question::Query && due.owner == Owner::Client) {
            self.instead = None;
        }
        let instead = answer.closes.and_then(|due| self.closed(due.label));
        if let Some(tag) = instead {
            self.group.answers(tag);
            write::bare(&mut self.scratch, tag);
        }
        Ok(if is_ours || is_replaced { Deliver::Drop } else { Deliver::Pass })
    }

    /// The server waits for the next question.
    fn ready(&mut self, message: &[u8], is_ours: bool) -> Result<(), Cut> {
        let status = backend::ready(message).map_err(|error| self.of_server(error))?;
        self.settings.ready(status);
        self.listen_now(status);
        if status == TransactionStatus::Idle && !is_ours {
            self.tell_heard_before();
        }
        self.has_made_way();
        self.is_copying = false;
        if self.armed == Armed::Statement {
            // The next statement has a time of its own.
            self.armed = Armed::Nothing;
        }
        if let Some(backend) = &mut self.backend {
            backend.status = status;
            if backend.ledger.is_empty() {
                self.ahead.clear();
                self.unnamed.settle();
            }
        }
        if status == TransactionStatus::Idle {
            self.cells().transactions.increment();
            // Those of a group that was sent meanwhile are still to come.
            if self.backend.as_ref().is_none_or(|backend| backend.ledger.is_empty()) {
                self.portals.clear();
            }
            self.has_ended();
            self.begins_anew();
            if std::mem::take(&mut self.changed.schema) {
                // What was parsed within the transaction, elsewhere, was parsed before the change.
                self.seat.database.changed();
            }
        }
        Ok(())
    }

    fn reported(&mut self, message: &[u8]) -> Result<(), Cut> {
        let (name, value) = backend::parameter_status(message).map_err(|error| self.of_server(error))?;
        match name {
            b"standard_conforming_strings" => self.standard_strings = value != b"off",
            b"client_encoding" => {
                self.is_readable = std::str::from_utf8(value).is_ok_and(pgroute::scan::is_safe_encoding);
            }
            _ => {}
        }
        if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
            if self.is_opaque {
                self.settings.observed(&name.to_ascii_lowercase(), value, "");
            } else {
                let template = self.local.pool.template();
                let told = template
                    .as_ref()
                    .as_ref()
                    .and_then(|reports| reports.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())));
                let default = told.and_then(|(_, value)| std::str::from_utf8(value).ok());
                self.settings.reported(name, value, default);
            }
            self.settings_number += 1;
        }
        Ok(())
    }

    /// An error: what it dropped took no effect. It is for the client, whoever's question it was, unless nothing of the client's was dropped.
    /// The first question that was open has this number.
    fn error(&mut self, message: &[u8], front: Option<Due>, number: u64) -> Deliver {
        let fields = Fields::of(message);
        self.settings.failed();
        self.has_not_listened();
        self.cells().errors.increment();
        self.is_copying = false;
        let is_fatal = fields.is_fatal();
        if is_fatal && self.may_survive() && is_of_server(&fields) {
            // What becomes of it is decided when the connection ends, which it does now.
            return Deliver::Drop;
        }
        let is_refusal = matches!(fields.sqlstate(), Some(SqlState::READ_ONLY | SqlState::SERIALIZATION_FAILURE));
        if self.place.is_replica && is_refusal && self.holds() {
            self.place.again.is_refused = true;
        } else {
            self.place.again.forget();
        }
        let is_stale = fields.sqlstate() == Some(SqlState::NOT_SUPPORTED) && fields.find(b'R') == Some(STALE_ROUTINE);
        let mut out = std::mem::take(&mut self.scratch);
        let mut is_replaced = front.is_some_and(|due| self.refused(due.label, &mut out));
        let is_query = front.is_some_and(|due| due.question == Question::Query && due.owner == Owner::Client);
        // What fails before it comes to that says so itself. Within a transaction ours has failed all that follows.
        let is_unknown =
            matches!(fields.sqlstate(), Some(SqlState::UNKNOWN_STATEMENT | SqlState::IN_FAILED_TRANSACTION));
        if let Some(said) = self.instead.take_if(|_| is_query && is_unknown && !is_replaced) {
            out.extend_from_slice(&said);
            is_replaced = true;
        }
        self.scratch = out;
        let Some(backend) = &mut self.backend else { return Deliver::Pass };
        let dropped: Vec<_> = backend.ledger.dropped().collect();
        let skipped = number + 1..backend.ledger.answered();
        let next = backend.ledger.next().copied();
        let is_named = dropped.iter().any(|due| self.is_of_named_text(due.label));
        for due in dropped.iter().rev() {
            self.dropped(due.label);
        }
        if let Some(failed) = dropped.first() {
            self.unnamed.dropped(&skipped, (failed.label & UNNAMED != 0).then_some(failed.label & !UNNAMED));
        }
        if is_stale && self.is_healed() {
            return Deliver::Drop;
        }
        if is_fatal {
            self.is_doubtful = true;
            self.has_farewell = true;
            return Deliver::Pass;
        }
        let is_our_group = next.is_some_and(|due| due.question == Question::Sync && due.owner == Owner::Ours);
        let is_ours_alone = !dropped.is_empty() && dropped.iter().all(|due| due.owner == Owner::Ours);
        let is_for_nobody = is_our_group && is_ours_alone;
        if is_for_nobody && is_named && is_whole(message) {
            self.instead = Some(message.into());
        }
        if is_replaced || is_for_nobody { Deliver::Drop } else { Deliver::Pass }
    }

    /// An error that answers nothing: the server stops, or ends this connection.
    fn farewell(&mut self, message: &[u8]) -> Result<Deliver, Cut> {
        self.is_doubtful = true;
        if self.may_survive() && is_of_server(&Fields::of(message)) {
            return Ok(Deliver::Drop);
        }
        if Fields::of(message).is_fatal() && self.needs_it_no_more() {
            // It was about to go back. What the client asks next is answered elsewhere, and this would be taken for a part of that answer.
            return Ok(Deliver::Drop);
        }
        if !Fields::of(message).is_fatal() {
            let tag = message.first().copied().unwrap_or_default();
            let text = format!("the server sent an error that answers nothing (message {})", char::from(tag));
            return Err(self.broken(&Failure::new(SqlState::PROTOCOL_VIOLATION, text)));
        }
        self.has_farewell = true;
        Ok(Deliver::Pass)
    }

    /// Whether the backend is done with: all of the client's has its answer, nothing keeps it, and nothing is to be asked or set there before it goes back.
    fn needs_it_no_more(&self) -> bool {
        let is_between = self.backend.as_ref().is_some_and(|backend| {
            backend.ledger.is_empty() && !backend.ledger.is_uncertain() && backend.status == TransactionStatus::Idle
        });
        is_between && !self.is_group_open && self.keeps().is_none() && !self.is_opaque && !self.is_reset
    }

    /// The connection to the server has ended. The client is told, unless the server has told it.
    pub(super) fn lost(&mut self, failure: Failure) -> Cut {
        if self.may_survive() && !self.has_farewell && !self.is_client_gone {
            return Cut::Lost(failure);
        }
        self.is_doubtful = true;
        if self.has_farewell {
            return Cut::Ended;
        }
        // The server answers a group of messages at its end: what runs is not always what is answered next.
        if self.may_commit() {
            let message = "the connection to the server was lost while it committed: nobody knows whether it has";
            return Cut::Told(Failure::new(SqlState::RESOLUTION_UNKNOWN, message).with_detail(&failure.message));
        }
        Cut::Told(failure)
    }

    /// Somebody wants it to end, whatever is under way.
    pub(super) fn killed(&mut self) -> Cut {
        let failure = super::killed();
        if !self.may_commit() {
            return Cut::Told(failure);
        }
        let message = "the connection was terminated while it committed: nobody knows whether it has";
        Cut::Told(Failure::new(SqlState::RESOLUTION_UNKNOWN, message).with_detail(&failure.message))
    }

    /// The server does not keep to the protocol, or to what was asked.
    fn broken(&mut self, failure: &Failure) -> Cut {
        self.is_doubtful = true;
        self.cells().unclean.increment();
        tracing::warn!(database = %self.seat.database.name, error = %failure.message, "a server's connection is out of step");
        Cut::Told(
            Failure::new(SqlState::PROTOCOL_VIOLATION, "the server's answer was not understood")
                .with_detail(&failure.message),
        )
    }

    fn of_server(&mut self, error: pgroute::wire::WireError) -> Cut {
        self.broken(&Failure::of_wire(error))
    }
}

/// Whether all of a message is there.
fn is_whole(message: &[u8]) -> bool {
    let len = message.get(1..5).and_then(|len| len.try_into().ok()).map(u32::from_be_bytes);
    len.is_some_and(|len| len as usize + 1 == message.len())
}

/// Whether a server ends the connection for reasons of its own: it stops, it crashed, or it has to replay what the statement is in the way of.
fn is_of_server(fields: &Fields<'_>) -> bool {
    let code = fields.sqlstate();
    fields.is_fatal() && code.is_some_and(|code| code.class() == "57" || code == SqlState::SERIALIZATION_FAILURE)
}
