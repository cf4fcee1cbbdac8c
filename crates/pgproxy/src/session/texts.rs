//! Statements that are prepared by a text, `PREPARE`, and named by others: `EXECUTE`, `DEALLOCATE`, `CREATE TABLE ... AS EXECUTE`.
//!
//! They live on a backend under their client's names. A text that names one has it prepared there first, by the client's own words, where it is
//! not there yet; whatever else had the name there is forgotten. So a session with such statements is on any backend what it is on the first.
//! One that was prepared by a message has a name of ours on backends, and its client's beside that once a text names it.
//! All of that is put before the client's message, in messages that an error drops together.

use std::sync::Arc;

use pgroute::SqlState;
use pgroute::classify::{Kind, Plan};
use pgroute::prepared::{Key, NameError, Named};
use pgroute::session::{Pin, Question};
use pgroute::wire::frontend::{Parse, Target, tag};
use pgroute::wire::write;

use super::Session;
use super::effect::Effect;
use super::request::is_plain;
use crate::failure::Failure;
use crate::params::Mode;

/// The name of the statement, and of its portal, by which something of ours is run. It is there for no longer than that.
pub(super) const RUN: &[u8] = b"tf_run";

/// Names that backends know statements of messages by begin with this.
const OURS: &str = "tf_";

/// Why a backend is to have a statement under its client's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The client names it.
    Named,
    /// The client names it to have it forgotten, or takes the name: anything of that name will do.
    Forgotten,
    /// The client looks at all of its statements.
    Shown,
}

impl Session {
    /// The client prepares a statement by a text: it takes the name, which the backend has forgotten whatever it stood for. What the question is
    /// to be known by, or why the name cannot be taken; nothing if the text is something else, or the session keeps its backend for such.
    pub(super) fn prepare_by_text(&mut self, plan: &Arc<Plan>) -> Option<Result<u64, Failure>> {
        let Some(Kind::Prepare { name, .. }) = plan.single().map(|one| &one.kind) else { return None };
        let text = plan.prepares.as_deref()?;
        if self.mode == Mode::Session || self.has_own_texts && self.names.find(name.as_bytes()).is_none() {
            return None;
        }
        if name.starts_with(OURS) {
            let message =
                format!("prepared statement name \"{name}\" is reserved: those with \"{OURS}\" are Tenfold's");
            return Some(Err(Failure::new(SqlState::RESERVED_NAME, message)));
        }
        let key = Key { text: text.into(), types: [].into(), reading: self.reading() };
        let (statement, now) = (self.seat.database.statement(key), self.seat.database.changes());
        let (number, taken) = (statement.number, self.names.number());
        let named = Named { statement, prepared_at: now, plan: Arc::clone(plan), by_text: true, taken };
        match self.names.take(name.as_bytes(), named) {
            Ok(()) => {}
            Err(NameError::Taken) => {
                // The server says so, once it has looked at the text: it has something by that name then.
                self.ensure_text(name.as_bytes(), Why::Forgotten);
                return Some(Ok(0));
            }
            Err(error) => return Some(Err(Failure::new(SqlState::LIMIT_EXCEEDED, error.to_string()))),
        }
        self.close_text(name.as_bytes());
        let oldest = self.backend.as_mut().and_then(|backend| backend.texts.prepare(name.as_bytes(), number, now));
        oldest.into_iter().for_each(|oldest| self.close_text(&oldest));
        Some(Ok(self.label(Effect::Prepared { name: name.as_bytes().into(), taken, is_done: false })))
    }

    /// Sees to it that the backend has what a text names; whether anything was put before it for that.
    pub(super) fn ensure_texts(&mut self, plan: &Plan) -> bool {
        let Some(backend) = self.backend.as_ref().filter(|_| self.mode != Mode::Session) else { return false };
        let due = backend.ledger.len();
        let is_forgotten = matches!(plan.single().map(|one| &one.kind), Some(Kind::Deallocate(_)));
        let why = if is_forgotten { Why::Forgotten } else { Why::Named };
        for name in &plan.executes {
            self.ensure_text(name.as_bytes(), why);
        }
        if plan.prepares.is_none() {
            // Those of a text of several, which are the backend's own from then on.
            for statement in &plan.statements {
                if let Kind::Prepare { name, .. } = &statement.kind {
                    self.ensure_text(name.as_bytes(), Why::Named);
                }
            }
        }
        self.backend.as_ref().is_some_and(|backend| backend.ledger.len() > due)
    }

    /// Sees to it that the backend has a statement under its client's name, if the name stands for one, and nobody else's if it does not.
    pub(super) fn ensure_text(&mut self, name: &[u8], why: Why) {
        let Some(named) = self.names.find(name) else {
            let Some(backend) = &mut self.backend else { return };
            let is_shown =
                backend.shown.iter().position(|shown| **shown == *name).map(|at| backend.shown.swap_remove(at));
            if backend.texts.forget(name) || is_shown.is_some() {
                self.close_text(name);
            }
            return;
        };
        let (number, since) = (named.statement.number, named.prepared_at.max(self.floor));
        let by_text = named.by_text;
        if why == Why::Named {
            self.group.uses(named.prepared_at);
        }
        let now = self.seat.database.changes();
        if self.backend.as_mut().is_none_or(|backend| backend.texts.has(name, number, since)) {
            return;
        }
        if why == Why::Forgotten {
            self.close_text(name);
            self.put(Question::Parse, None, |out| {
                write::parse(out, name, &Parse { name, text: b"", types: &[] });
            });
            self.backend.iter_mut().for_each(|backend| backend.texts.doubt(name));
            return;
        }
        let Some(statement) = self.as_read_now(name, |_, _| false) else { return };
        let oldest = self.backend.as_mut().and_then(|backend| backend.texts.prepare(name, statement.number, now));
        self.cells().parses.increment();
        self.close_text(name);
        oldest.into_iter().for_each(|oldest| self.close_text(&oldest));
        let (key, effect) = (&statement.key, Effect::TextPrepared { name: name.into(), is_named: why == Why::Named });
        if by_text {
            self.run_ours(&key.text, effect);
        } else {
            self.put(Question::Parse, Some(effect), |out| {
                write::parse(out, name, &Parse { name, text: &key.text, types: &key.types });
            });
        }
        self.changes_name(name);
    }

    /// Has the backend forget texts that are not the session's own, whose names are given.
    pub(super) fn forget_others_texts(&mut self) -> Vec<Box<[u8]>> {
        let own: Vec<Box<[u8]>> = self.names.by_text().map(Into::into).collect();
        let Some(backend) = &mut self.backend else { return own };
        for name in backend.texts.keep_only(|name| own.iter().any(|known| **known == *name)) {
            self.close_text(&name);
        }
        own
    }

    pub(super) fn close_text(&mut self, name: &[u8]) {
        let effect = (*name != *RUN).then(|| Effect::TextClosed(name.into()));
        // What a client that looked was shown by this name is not there any more.
        self.backend.iter_mut().for_each(|backend| backend.shown.retain(|shown| **shown != *name));
        self.put(Question::Close, effect, |out| write::target(out, tag::CLOSE, Target::Statement(name)));
    }

    /// Puts a text of ours before the client's message, as a group that has no end yet.
    pub(super) fn run_ours(&mut self, text: &[u8], effect: Effect) {
        // What an error left of the one before has to go.
        self.close_text(RUN);
        self.put(Question::Close, None, |out| write::target(out, tag::CLOSE, Target::Portal(RUN)));
        self.put(Question::Parse, None, |out| write::parse(out, RUN, &Parse { name: RUN, text, types: &[] }));
        self.put(Question::Bind, None, |out| write::bind(out, RUN, RUN));
        self.put(Question::Execute, Some(effect), |out| write::execute(out, RUN));
        self.close_text(RUN);
    }

    /// What a text is to be known by that is about to run. One that names a statement does what that does, which a message may have prepared: then it
    /// need not be one of those that `PREPARE` takes.
    pub(super) fn runs(&mut self, plan: &Arc<Plan>) -> u64 {
        let named = match plan.single().map(|one| &one.kind) {
            Some(Kind::Execute(name)) => self.names.find(name.as_bytes()).filter(|named| !named.by_text),
            _ => None,
        };
        let plan = match named.map(|named| Arc::clone(&named.plan)) {
            Some(named) => {
                self.begins(&named);
                named
            }
            None => Arc::clone(plan),
        };
        if is_plain(&plan) { 0 } else { self.label(Effect::Text { plan, at: 0 }) }
    }

    /// Whether a text runs a statement of which nobody knows what it does, or which may do anything.
    pub(super) fn executes_opaque(&self, plan: &Plan) -> bool {
        let is_opaque = |name: &String| self.names.find(name.as_bytes()).is_none_or(|named| named.plan.effects.opaque);
        plan.effects.executes && plan.executes.iter().any(is_opaque)
    }

    /// Why the statements that a text runs pin the session.
    pub(super) fn pin_of_executed(&self, plan: &Plan) -> Option<Pin> {
        let named = plan.executes.iter().filter_map(|name| self.names.find(name.as_bytes()));
        named.filter_map(|named| Pin::of(named.plan.effects)).next()
    }
}

/// A name stands for something.
pub(super) fn already_exists(name: &[u8]) -> Failure {
    let message = format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(name));
    Failure::new(SqlState::DUPLICATE_STATEMENT, message)
}
