//! What a client says: which of it passes, and what it asks.

use pgroute::SqlState;
use pgroute::classify::{Kind, Plan};
use pgroute::session::{Owner, Pin, Question};
use pgroute::wire::backend::{TransactionStatus, tag as answer_tag};
use pgroute::wire::frontend::{self, Execute, Target, tag};
use pgroute::wire::{Piece, write};

use std::sync::Arc;

use super::effect::Effect;
use super::{Cut, Session, Turn};
use crate::failure::Failure;
use crate::params::Mode;

/// What becomes of a message.
pub(super) enum Forward {
    /// It passes as it is.
    Pass,
    /// So many bytes at its beginning are replaced by what was put before it; the rest passes.
    From(usize),
    /// It goes nowhere.
    Drop,
    /// It waits for a backend.
    Need,
    /// It waits until something that was sent before it is answered.
    Wait,
}

impl Session {
    /// Looks at what the client has sent, as far as it is there and may be sent on.
    pub(super) fn requests(&mut self) -> Result<Option<Turn>, Cut> {
        self.gives_way = false;
        loop {
            if self.is_client_gone || self.is_server_full() || self.is_client_full() || self.is_pipeline_full() {
                self.client.wants = 0;
                return Ok(None);
            }
            self.restores_within();
            if self.stalls() || self.awaits_discard() || self.group.is_refused() {
                self.client.wants = 0;
                return Ok(None);
            }
            // Between groups of messages others come first who wait.
            if self.unanswered == 0
                && self.yields()
                && self.is_used
                && !self.is_group_open
                && self.backend.as_ref().is_some_and(|backend| backend.is_clean())
                && self.keeps().is_none()
                && self.client.splitter.is_between_messages()
            {
                // Noted, because nobody may wait any more a moment later.
                (self.gives_way, self.client.wants) = (true, 0);
                return Ok(None);
            }
            let Some(input) = self.client.input.take() else {
                self.client.wants = 1;
                return Ok(None);
            };
            let turn = self.request_in(input);
            match turn {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(Blocked::Need) => return Ok(Some(Turn::Need)),
                Err(Blocked::Wait) => {
                    self.client.wants = 0;
                    return Ok(None);
                }
                Err(Blocked::Cut(cut)) => return Err(cut),
            }
        }
    }

    /// Looks at the next piece of what is in the buffer; whether there was one.
    fn request_in(&mut self, mut input: net::Buffer) -> Result<bool, Blocked> {
        let bytes_max = self.params.limits.statement_bytes_max;
        let before = self.client.splitter;
        let unread = &input.filled()[self.client.pass..];
        let piece = self.client.splitter.next(unread, |tag| frontend::look(tag, bytes_max));
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                self.client.input = Some(input);
                return Err(Blocked::Cut(Cut::Told(Failure::of_wire(error))));
            }
        };
        let len = piece.len();
        let forward = match piece {
            Piece::Wait { bytes } => {
                self.client.wants = bytes;
                self.client.input = Some(input);
                return Ok(false);
            }
            Piece::More { is_last, .. } => {
                let forward = if self.client.drops { Forward::Drop } else { Forward::Pass };
                self.client.drops &= !is_last;
                Ok(forward)
            }
            Piece::Message { tag, len } => self.request(tag, &unread[..len], len),
            Piece::Begin { tag, len, total } => {
                let forward = self.request(tag, &unread[..len], total);
                self.client.drops = matches!(forward, Ok(Forward::Drop));
                forward
            }
        };
        match forward {
            Ok(Forward::Need | Forward::Wait) | Err(_) => {
                self.client.splitter = before;
                self.client.drops = false;
                if !self.scratch.is_empty() {
                    self.to_server.extend(&input.filled()[..self.client.pass]);
                    self.to_server.bytes().append(&mut self.scratch);
                    input.consume(std::mem::take(&mut self.client.pass));
                }
            }
            Ok(Forward::Pass) if self.scratch.is_empty() => self.client.pass += len,
            Ok(ref forward) => {
                // What passed before goes before what is put in between.
                let skipped = match forward {
                    Forward::From(at) => *at,
                    Forward::Drop => len,
                    Forward::Pass | Forward::Need | Forward::Wait => 0,
                };
                self.to_server.extend(&input.filled()[..self.client.pass]);
                self.to_server.bytes().append(&mut self.scratch);
                input.consume(self.client.pass + skipped);
                self.client.pass = len - skipped;
            }
        }
        self.client.input = Some(input);
        match forward {
            Ok(Forward::Need) => Err(Blocked::Need),
            Ok(Forward::Wait) => Err(Blocked::Wait),
            Ok(_) => {
                self.unanswered += len;
                Ok(true)
            }
            Err(cut) => Err(Blocked::Cut(cut)),
        }
    }

    /// Whether what comes next waits until the session is as it began: by the answer everything is forgotten, and what is noted of later messages
    /// must not be among it. Within a group the server may answer nothing before its end, nor while it waits for rows.
    fn awaits_discard(&mut self) -> bool {
        if !self.is_discarding {
            return false;
        }
        self.is_discarding = self.backend.as_ref().is_some_and(|backend| !backend.ledger.is_empty());
        self.is_discarding && !self.is_group_open && !self.is_copying && self.client.splitter.is_between_messages()
    }

    /// Whether more has been asked than may be before it is answered.
    fn is_pipeline_full(&mut self) -> bool {
        if self.unanswered == 0 && !self.has_flushed {
            return false;
        }
        let max = self.params.limits.pipeline_bytes_max;
        let Some(backend) = &self.backend else {
            self.unanswered = 0;
            return false;
        };
        // After an error the server passes over everything up to a `Sync`, without a word that could be waited for.
        if backend.ledger.next().is_none() {
            self.unanswered = 0;
        }
        let is_full = self.unanswered > max && self.client.splitter.is_between_messages() && !self.is_copying;
        if is_full && !self.has_flushed {
            // The server may hold its answers back until somebody asks for them.
            self.has_flushed = true;
            let passing = std::mem::take(&mut self.client.pass);
            if let Some(input) = &mut self.client.input {
                self.to_server.extend(&input.filled()[..passing]);
                input.consume(passing);
            }
            write::message(self.to_server.bytes(), tag::FLUSH, |_| ());
        }
        self.has_flushed &= is_full;
        is_full
    }

    /// A message, of which the beginning may be enough; `total` is its length.
    fn request(&mut self, kind: u8, message: &[u8], total: usize) -> Result<Forward, Cut> {
        if self.waits(kind, message) {
            return Ok(Forward::Wait);
        }
        if self.backend.is_some() {
            self.remember(kind, message, message.len() == total);
        }
        if kind == tag::TERMINATE {
            return Err(Cut::Goodbye);
        }
        if self.skips {
            if kind == tag::SYNC {
                self.skips = false;
                write::ready(self.to_client.bytes(), TransactionStatus::Idle);
            }
            return Ok(Forward::Drop);
        }
        if kind != tag::SYNC && self.backend.as_ref().is_some_and(|backend| backend.ledger.is_passed_over()) {
            // What the server would not look at does nothing here either.
            return Ok(Forward::Drop);
        }
        if self.backend.is_none() {
            match kind {
                tag::SYNC => write::ready(self.to_client.bytes(), TransactionStatus::Idle),
                tag::CLOSE => self.close_here(message)?,
                tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
                _ => match self.fails.take() {
                    // What was to be taken back is gone.
                    Some(failure)
                        if self.is_rollback(kind, message) && failure.code == SqlState::SERIALIZATION_FAILURE =>
                    {
                        write::command_complete(self.to_client.bytes(), "ROLLBACK");
                        write::ready(self.to_client.bytes(), TransactionStatus::Idle);
                    }
                    Some(failure) => self.fail_here(kind, &failure),
                    None => return Ok(Forward::Need),
                },
            }
            return Ok(Forward::Drop);
        }
        match kind {
            tag::QUERY => self.query(message),
            tag::PARSE => self.parse(message),
            tag::BIND => self.bind(message, total),
            tag::DESCRIBE => self.describe(message),
            tag::CLOSE => self.close(message),
            tag::EXECUTE => self.execute(message),
            tag::SYNC => Ok(self.ask(Question::Sync, 0)),
            tag::FUNCTION_CALL => {
                self.taint();
                Ok(self.ask(Question::FunctionCall, 0))
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                self.is_copying = false;
                Ok(self.ask(Question::CopyEnd, 0))
            }
            // Rows to copy, and questions for what is buffered.
            _ => Ok(Forward::Pass),
        }
    }

    /// Notes a question of the client's, which passes.
    pub(super) fn ask(&mut self, question: Question, label: u64) -> Forward {
        let was_open = self.open_group();
        self.is_group_open = match question {
            Question::Query | Question::Sync | Question::FunctionCall => false,
            // The server passes over `Sync` while it copies: another one has to come, but for a simple query.
            Question::CopyEnd => {
                let next = self.backend.as_ref().and_then(|backend| backend.ledger.next());
                was_open || next.is_some_and(|due| due.question == Question::Execute)
            }
            _ => true,
        };
        if let Some(backend) = &mut self.backend {
            if was_open && matches!(question, Question::Query | Question::FunctionCall) {
                self.ahead.ends_group(&backend.ledger);
            }
            backend.ledger.ask(question, Owner::Client, label);
        }
        Forward::Pass
    }

    /// A message of the client's belongs to a group, which is open from then on; whether it was.
    pub(super) fn open_group(&mut self) -> bool {
        if self.holds() && self.is_used && !self.is_group_open {
            // Another group goes with the one that is under way: neither can be done again.
            self.place.again.forget();
        }
        self.is_used = true;
        std::mem::replace(&mut self.is_group_open, true)
    }

    fn query(&mut self, message: &[u8]) -> Result<Forward, Cut> {
        let text = frontend::query(message).map_err(told)?;
        let plan = self.plan(text);
        self.bound.forget();
        self.cells().statements.increment();
        if plan.is_mere_read() {
            // Most texts are: none of what follows has to do with them.
            self.forgets_unnamed();
            return Ok(self.ask(Question::Query, 0));
        }
        if let Some(failure) = self.refusal(&plan).or_else(|| self.refused_within(&plan)) {
            return Ok(self.refuse_query(failure));
        }
        // Before it could pin the session.
        let listen = self.instead_of_listen(&plan, text);
        let due = self.backend.as_ref().map_or(0, |backend| backend.ledger.len());
        let label = match self.prepare_by_text(&plan) {
            Some(Ok(label)) => label,
            Some(Err(failure)) => return Ok(self.refuse_query(failure)),
            None => self.runs(&plan),
        };
        self.begins(&plan);
        if plan.shows_prepared {
            self.show_prepared(None);
        }
        self.ensure_texts(&plan);
        if !self.is_group_open && self.backend.as_ref().is_some_and(|backend| backend.ledger.len() > due) {
            // A failure of ours must not have the server pass over what follows. Within a group nothing is put here that can fail.
            self.put(Question::Sync, None, write::sync);
        }
        // It forgets the statement without a name, whatever it is.
        self.forgets_unnamed();
        let instead = self.told_position(&plan).map(String::into_bytes).or(listen);
        self.ask(Question::Query, label);
        self.changes_names(&plan);
        let Some(text) = instead else { return Ok(Forward::Pass) };
        write::message(&mut self.scratch, tag::QUERY, |out| out.extend(text.iter().chain(b"\0")));
        Ok(Forward::Drop)
    }

    fn execute(&mut self, message: &[u8]) -> Result<Forward, Cut> {
        let portal = Execute::read(message).map_err(told)?.portal;
        self.cells().statements.increment();
        let plan = self.portals.get(portal).map(Arc::clone);
        let label = match &plan {
            None => 0,
            Some(plan) => {
                if let Some(failure) = self.refused_more(plan) {
                    return Ok(self.refuse(failure));
                }
                self.begins(plan);
                match self.prepare_by_text(plan) {
                    Some(Ok(label)) => label,
                    Some(Err(failure)) => return Ok(self.refuse(failure)),
                    None => self.runs(plan),
                }
            }
        };
        self.ask(Question::Execute, label);
        plan.iter().for_each(|plan| self.changes_names(plan));
        Ok(Forward::Pass)
    }

    fn describe(&mut self, message: &[u8]) -> Result<Forward, Cut> {
        match frontend::target(message).map_err(told)? {
            Target::Portal(name) => {
                let label = self.asks_of_portal(name);
                Ok(self.ask(Question::DescribePortal, label))
            }
            Target::Statement(name) => Ok(self.with_statement(name, Question::DescribeStatement, |out, name| {
                write::target(out, tag::DESCRIBE, Target::Statement(name));
            })),
        }
    }

    /// What a text is.
    pub(super) fn plan(&mut self, text: &[u8]) -> Arc<Plan> {
        if !self.is_readable {
            return Arc::new(Plan::unknown());
        }
        self.plans.borrow_mut().plan(&self.seat.database, text, self.standard_strings)
    }

    /// A text is about to run: what it may do to the session that no answer shows.
    pub(super) fn begins(&mut self, plan: &Plan) {
        self.is_discarding |= plan
            .statements
            .iter()
            .any(|one| matches!(one.kind, Kind::DiscardAll | Kind::Discard | Kind::ResetAll | Kind::Deallocate(None)));
        if plan.effects.opaque || self.executes_opaque(plan) {
            self.taint();
            self.makes_way(plan);
        }
        self.begins_with_sequences(plan);
        self.has_own_texts |= self.mode != Mode::Session && prepares_several(plan);
        if self.mode != Mode::Session
            && self.pin.is_none()
            && let Some(pin) = self.pin_for(plan).or_else(|| self.pin_of_executed(plan))
        {
            self.pin(pin);
        }
    }

    /// A text is about to run that may have sequences give numbers, or asks for those that they gave. Nobody hears another one's.
    pub(super) fn begins_with_sequences(&mut self, plan: &Plan) {
        let (number, is_session) = (self.number, self.mode == Mode::Session);
        let Some(backend) = self.backend.as_mut().filter(|_| !is_session) else { return };
        if plan.effects.recalls && backend.sequences.is_foreign(number) {
            backend.sequences.clear();
            self.run_ours(b"DISCARD SEQUENCES", Effect::SequencesForgotten);
        }
        if may_use_sequences(plan) || plan.effects.notifies {
            self.uses_sequences();
            self.notes_sender(plan.effects.notifies);
        }
    }

    /// Sequences of the backend may remember this session's numbers from now on.
    pub(super) fn uses_sequences(&mut self) {
        let number = self.number;
        if let Some(backend) = &mut self.backend {
            backend.sequences.used(number);
        }
    }

    fn pin(&mut self, pin: Pin) {
        self.pin = Some(pin);
        self.cells().pinned(pin);
        if !std::mem::replace(&mut self.was_pinned, true) {
            let (database, user, reason) = (&self.seat.database.name, &self.user, pin.as_str());
            tracing::info!(%database, %user, reason, "a session keeps its connection");
        }
    }

    /// Something may be set that nobody sees.
    pub(super) fn taint(&mut self) {
        self.is_opaque = true;
        if let Some(backend) = &mut self.backend {
            backend.is_tainted = true;
        }
    }

    /// A statement or portal is forgotten while there is no backend.
    fn close_here(&mut self, message: &[u8]) -> Result<(), Cut> {
        if let Target::Statement(name) = frontend::target(message).map_err(told)? {
            self.told.remove(name);
            self.names.close(name);
            if name.is_empty() {
                self.unnamed.forget();
            }
        }
        write::bare(self.to_client.bytes(), answer_tag::CLOSE_COMPLETE);
        Ok(())
    }
}

enum Blocked {
    Need,
    Wait,
    Cut(Cut),
}

/// What the client is told of a message that is malformed.
pub(super) fn told(error: pgroute::wire::WireError) -> Cut {
    Cut::Told(Failure::of_wire(error))
}

/// Whether a text may have sequences give numbers: what reads rows by more than reading, or changes them, may.
pub(super) fn may_use_sequences(plan: &Plan) -> bool {
    let runs = |kind: &Kind| {
        matches!(
            kind,
            Kind::Query | Kind::Change | Kind::Definition | Kind::Execute(_) | Kind::Cursor | Kind::Copy | Kind::Other
        )
    };
    plan.statements.iter().any(|statement| !statement.is_read && runs(&statement.kind))
}

/// Whether a text prepares statements among others: they are where they were prepared, and nowhere else.
pub(super) fn prepares_several(plan: &Plan) -> bool {
    plan.prepares.is_none() && plan.statements.iter().any(|one| matches!(one.kind, Kind::Prepare { .. }))
}

/// Why a text pins its session.
pub(super) fn pin_of(plan: &Plan) -> Option<Pin> {
    let has = |of: fn(&Kind) -> bool| plan.statements.iter().any(|statement| of(&statement.kind));
    Pin::of(plan.effects)
        .or_else(|| prepares_several(plan).then_some(Pin::Prepare))
        .or_else(|| has(|kind| matches!(kind, Kind::Listen(_))).then_some(Pin::Listen))
}

/// Whether nothing has to be noted when a text succeeds.
pub(super) fn is_plain(plan: &Plan) -> bool {
    plan.statements.iter().all(|statement| {
        matches!(
            statement.kind,
            Kind::Query
                | Kind::Change
                | Kind::Copy
                | Kind::Cursor
                | Kind::Notify
                | Kind::Show(_)
                | Kind::Begin(_)
                | Kind::SetTransaction(_)
                | Kind::SetConstraints
                | Kind::Execute(_)
                | Kind::Prepare { .. }
                | Kind::FinishPrepared
                | Kind::Other
        )
    })
}
