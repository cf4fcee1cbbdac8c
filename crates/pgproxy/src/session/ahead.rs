//! What is sent ahead of answers, and what later messages have to do with it.
//!
//! A client may send several groups of messages without waiting. An error drops the rest of its own group and nothing of the next one. So within a
//! group a message may go by what stands before it as if that had succeeded: if it has not, the message is dropped as well. A message of a later
//! group may not. Where it has to do with a name, or with a statement, that an earlier group has changed and of which no answer has come,
//! it waits for that answer. All else goes on.
//!
//! Some things count only once they are answered, also within a group: `DEALLOCATE`. Then the server is asked for what it has to say.
//!
//! A simple query behind messages without their `Sync` ends their group if none of them fails. If one does, the query is passed over like the rest,
//! and so is what follows, up to a `Sync`. Nobody knows which before it is answered: so nothing is looked at until then but what may stand there
//! either way. The server does not hold these answers back.

use std::collections::HashMap;
use std::sync::Arc;

use pgroute::classify::{Kind, Plan};
use pgroute::prepared::Number;
use pgroute::session::Ledger;
use pgroute::wire::frontend::{self, Bind, Execute, Parse, Target, tag};
use pgroute::wire::write;

use super::Session;
use crate::params::Mode;

/// Entries beyond which those that are settled are looked for.
const SETTLED_MAX: usize = 256;

/// What was changed by questions that may have no answer, each by the number of the last one.
#[derive(Default)]
pub(super) struct Ahead {
    /// The client's names of statements.
    names: HashMap<Box<[u8]>, Change>,
    /// Statements that the backend was sent.
    numbers: HashMap<Number, u64>,
    /// The server was asked for what it buffers, when so much had been asked.
    flushed: Option<u64>,
    /// A query that was asked within a group: it ends that, or is passed over with it.
    within: Option<u64>,
}

#[derive(Clone, Copy)]
struct Change {
    at: u64,
    /// It counts from its answer on, and not before.
    is_late: bool,
}

impl Ahead {
    fn name(&mut self, ledger: &Ledger, name: &[u8], is_late: bool) {
        if self.names.len() >= SETTLED_MAX.max(4 * ledger.len()) {
            self.names.retain(|_, change| change.at >= ledger.answered());
        }
        let at = ledger.asked().saturating_sub(1);
        let is_late =
            is_late || self.names.get(name).is_some_and(|known| known.is_late && ledger.answered() <= known.at);
        self.names.insert(name.into(), Change { at, is_late });
    }

    /// Another backend has been asked nothing yet.
    pub(super) fn moves(&mut self) {
        self.clear();
        self.flushed = None;
    }

    /// All is settled.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.numbers.clear();
        self.within = None;
    }

    /// The next question ends a group that is open, if nothing of that fails.
    pub(super) fn ends_group(&mut self, ledger: &Ledger) {
        self.within = Some(ledger.asked());
    }

    /// Whether nobody knows if a group has ended.
    fn is_end_open(&self, ledger: &Ledger) -> bool {
        self.within.is_some_and(|at| ledger.answered() <= at)
    }
}

/// Whether a message can be looked at now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    /// It waits for an earlier group.
    Group,
    /// It waits for something of its own group.
    Answer,
}

impl Session {
    /// Whether a message waits until something that was sent before it is answered.
    pub(super) fn waits(&mut self, kind: u8, message: &[u8]) -> bool {
        let Some(backend) = self.backend.as_ref().filter(|_| self.mode != Mode::Session) else { return false };
        let ledger = &backend.ledger;
        let is_alone = ledger.answered() == ledger.group() && !self.is_discarding && self.ahead.names.is_empty();
        if is_alone || ledger.answered() == ledger.asked() || ledger.is_passed_over() || kind == tag::SYNC {
            return false;
        }
        if self.ahead.is_end_open(ledger) {
            return !stands_anywhere(kind);
        }
        if self.is_discarding && self.is_group_open {
            self.flush_for_answer();
            return true;
        }
        match self.wait_of(kind, message) {
            Wait::No => false,
            Wait::Group => true,
            Wait::Answer => {
                self.flush_for_answer();
                true
            }
        }
    }

    fn wait_of(&mut self, kind: u8, message: &[u8]) -> Wait {
        let statement = match kind {
            tag::QUERY => {
                let Ok(text) = frontend::query(message) else { return Wait::No };
                let plan = self.plan(text);
                return self.wait_of_text(&plan);
            }
            tag::PARSE => {
                let Ok(parse) = Parse::read(message) else { return Wait::No };
                let plan = self.plan(parse.text);
                return match self.wait_of_name(parse.name) {
                    Wait::No => self.wait_of_text(&plan),
                    wait => wait,
                };
            }
            tag::EXECUTE => {
                let Ok(Execute { portal, .. }) = Execute::read(message) else { return Wait::No };
                let Some(plan) = self.portals.get(portal).map(Arc::clone) else { return Wait::No };
                return self.wait_of_text(&plan);
            }
            tag::BIND => Bind::read(message).map(|bind| bind.statement).ok(),
            tag::DESCRIBE | tag::CLOSE => match frontend::target(message) {
                Ok(Target::Statement(name)) => Some(name),
                _ => None,
            },
            _ => None,
        };
        let Some(name) = statement else { return Wait::No };
        if kind == tag::CLOSE {
            return self.wait_of_name(name);
        }
        self.wait_of_statement(name)
    }

    /// Whether a name may stand for something else.
    fn wait_of_name(&self, name: &[u8]) -> Wait {
        let Some(backend) = &self.backend else { return Wait::No };
        match self.ahead.names.get(name) {
            Some(change) if backend.ledger.is_doubtful(change.at) => Wait::Group,
            Some(change) if change.is_late && backend.ledger.answered() <= change.at => Wait::Answer,
            _ => Wait::No,
        }
    }

    /// Whether a statement may be used.
    fn wait_of_statement(&self, name: &[u8]) -> Wait {
        let Some(backend) = &self.backend else { return Wait::No };
        let plan = if name.is_empty() {
            if self.unnamed.is_doubtful(&backend.ledger) {
                return Wait::Group;
            }
            self.unnamed.plan()
        } else {
            let named = self.names.find(name);
            if named.is_some_and(|named| self.is_parsed_ahead(named.statement.number)) {
                return Wait::Group;
            }
            named.map(|named| &named.plan)
        };
        match (self.wait_of_name(name), plan) {
            (Wait::No, Some(plan)) => self.wait_of_text(plan),
            (wait, _) => wait,
        }
    }

    /// Whether what a text names may stand for something else; or it looks at all of them, which depends on whether a transaction is open.
    fn wait_of_text(&self, plan: &Plan) -> Wait {
        let Some(backend) = &self.backend else { return Wait::No };
        if plan.shows_prepared && !self.is_group_open && backend.ledger.answered() < backend.ledger.group() {
            return Wait::Group;
        }
        let waits = names(plan).map(|name| self.wait_of_name(name.as_bytes()));
        waits.fold(Wait::No, |all, one| if all == Wait::No { one } else { all })
    }

    /// Whether an earlier group has a statement parsed, if nothing of it fails.
    pub(super) fn is_parsed_ahead(&self, number: Number) -> bool {
        let at = self.ahead.numbers.get(&number);
        at.is_some_and(|at| self.backend.as_ref().is_some_and(|backend| backend.ledger.is_doubtful(*at)))
    }

    /// What was asked last changes what a name stands for.
    pub(super) fn changes_name(&mut self, name: &[u8]) {
        if let Some(backend) = self.backend.as_ref().filter(|_| self.mode != Mode::Session && !name.is_empty()) {
            self.ahead.name(&backend.ledger, name, false);
        }
    }

    /// What was asked last has the backend parse a statement.
    pub(super) fn parses_ahead(&mut self, number: Number) {
        let Some(backend) = &self.backend else { return };
        let (ledger, numbers) = (&backend.ledger, &mut self.ahead.numbers);
        if numbers.len() >= SETTLED_MAX.max(4 * ledger.len()) {
            numbers.retain(|_, at| *at >= ledger.answered());
        }
        numbers.insert(number, ledger.asked().saturating_sub(1));
    }

    /// A text was asked last: names that it changes.
    pub(super) fn changes_names(&mut self, plan: &Plan) {
        let Some(backend) = self.backend.as_ref().filter(|_| self.mode != Mode::Session) else { return };
        for statement in &plan.statements {
            match &statement.kind {
                Kind::Prepare { name, .. } => self.ahead.name(&backend.ledger, name.as_bytes(), false),
                Kind::Deallocate(Some(name)) => self.ahead.name(&backend.ledger, name.as_bytes(), true),
                _ => {}
            }
        }
    }

    /// The server may hold its answers back until somebody asks for them.
    fn flush_for_answer(&mut self) {
        let Some(asked) = self.backend.as_ref().map(|backend| backend.ledger.asked()) else { return };
        if self.ahead.flushed.replace(asked) != Some(asked) {
            write::message(&mut self.scratch, tag::FLUSH, |_| ());
        }
    }
}

/// Whether a message is the same within a group and between two: rows, what asks for answers, and a good-bye. `Sync` never waits.
fn stands_anywhere(kind: u8) -> bool {
    matches!(kind, tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::TERMINATE)
}

/// Names of statements in a text.
fn names(plan: &Plan) -> impl Iterator<Item = &String> {
    let prepared = plan.statements.iter().filter_map(|statement| match &statement.kind {
        Kind::Prepare { name, .. } => Some(name),
        _ => None,
    });
    plan.executes.iter().chain(prepared)
}
