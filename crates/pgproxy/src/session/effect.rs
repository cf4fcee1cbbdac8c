//! What a question does when it is answered, and what is taken back when an error drops it.

use std::sync::Arc;

use pgroute::classify::{Kind, Plan};
use pgroute::prepared::{Named, Number, Shape};
use pgroute::session::{Owner, Question};
use pgroute::wire::backend::tag;
use pgroute::wire::write;

use super::Session;
use crate::failure::Failure;
use crate::params::Mode;

/// What a question does.
pub(super) enum Effect {
    /// A text runs: its statements in order, of which so many are done.
    Text { plan: Arc<Plan>, at: usize },
    /// The client prepares a statement under a name, which it has from the moment of asking. The backend has it, too, unless it had it already.
    Named { name: Box<[u8]>, number: Option<Number> },
    /// The client asks what a statement takes and gives; what it was told of that so far.
    Described { name: Box<[u8]>, shape: Shape },
    /// The client forgets a name.
    Forgotten { name: Box<[u8]>, named: Box<Named> },
    /// We prepare a statement.
    Parsed(Number),
    /// We have the backend forget one.
    Closed(Number),
    /// Something of ours is answered; the client is told this instead, and the name goes if it is not.
    Marker { tag: u8, name: Box<[u8]> },
    /// An error of ours, in place of the server's.
    Refusal(Box<Failure>),
}

/// The label of the client's `Parse` without a name.
pub(super) const UNNAMED: u64 = u64::MAX;

impl Session {
    /// A label for a question that does something.
    pub(super) fn label(&mut self, effect: Effect) -> u64 {
        self.effects.insert(effect) as u64 + 1
    }

    pub(super) fn effect(&mut self, label: u64) -> Option<&mut Effect> {
        let key = usize::try_from(label.checked_sub(1)?).ok()?;
        self.effects.get_mut(key)
    }

    fn take_effect(&mut self, label: u64) -> Option<Effect> {
        let key = usize::try_from(label.checked_sub(1)?).ok()?;
        self.effects.try_remove(key)
    }

    /// Puts a message of ours before the client's.
    pub(super) fn put(&mut self, question: Question, effect: Option<Effect>, write: impl FnOnce(&mut Vec<u8>)) {
        let label = effect.map_or(0, |effect| self.label(effect));
        write(&mut self.scratch);
        if let Some(backend) = &mut self.backend {
            backend.ledger.ask(question, Owner::Ours, label);
        }
    }

    /// A statement of a text has succeeded.
    pub(super) fn succeeded(&mut self, label: u64, said: &[u8]) {
        let Some(Effect::Text { plan, at }) = self.effect(label) else { return };
        let (plan, number) = (Arc::clone(plan), *at);
        *at += 1;
        let Some(statement) = plan.statements.get(number) else { return };
        let kind = &statement.kind;
        self.settings.succeeded(kind, said);
        match kind {
            Kind::Set(settings) => {
                self.settings_number += 1;
                self.demand_position(settings);
                self.is_reset |= self.settings.has_initial() && settings.iter().any(|setting| setting.value.is_none());
            }
            Kind::ResetAll => {
                self.settings_number += 1;
                self.is_reset |= self.settings.has_initial();
            }
            Kind::DiscardAll => {
                self.settings_number += 1;
                self.is_reset |= self.settings.has_initial();
                self.forget_all();
                if let Some(backend) = &mut self.backend {
                    backend.is_tainted = false;
                    backend.unnamed = None;
                }
                (self.unnamed_plan, self.is_opaque) = (None, false);
                if self.pin.is_some_and(|pin| pin.ends_with(kind)) {
                    self.unpin();
                }
            }
            Kind::Deallocate(None) => self.forget_all(),
            Kind::Deallocate(Some(name)) => {
                self.told.remove(name.as_bytes());
                let forgotten = self.names.close(name.as_bytes());
                if let (Some(named), Some(backend)) = (forgotten, &mut self.backend) {
                    backend.held.dropped(named.statement.number);
                }
            }
            Kind::Definition => {
                self.has_defined = true;
                self.seat.database.changed();
            }
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_) | Kind::PrepareTransaction => {
                self.settings_number += 1;
            }
            _ => {}
        }
    }

    /// No statement has a name any more, neither the client's nor the backend's.
    fn forget_all(&mut self) {
        if self.mode != Mode::Session {
            self.names.clear();
            self.told.clear();
        }
        if let Some(backend) = &mut self.backend {
            backend.held.clear();
            backend.shown.clear();
        }
    }

    pub(super) fn unpin(&mut self) {
        if self.pin.take().is_some() {
            self.cells().pinned.add(-1);
        }
    }

    /// A question has its last answer. What the client is told instead of it, if that is something else.
    pub(super) fn closed(&mut self, label: u64) -> Option<u8> {
        if label == 0 || label == UNNAMED {
            return None;
        }
        match self.take_effect(label)? {
            Effect::Marker { tag, .. } => Some(tag),
            _ => None,
        }
    }

    /// An error has dropped a question, or was its answer: it took no effect.
    pub(super) fn dropped(&mut self, label: u64) {
        let number = self.number;
        if label == UNNAMED {
            // It has forgotten the one before, too.
            (self.unnamed_plan, self.unnamed_number) = (None, self.unnamed_number + 1);
            if let Some(backend) = &mut self.backend
                && backend.unnamed.is_some_and(|(session, _)| session == number)
            {
                backend.unnamed = Some((0, 0));
            }
            return;
        }
        let Some(effect) = self.take_effect(label) else { return };
        let Some(backend) = &mut self.backend else { return };
        match effect {
            Effect::Named { name, number } => {
                if let Some(number) = number {
                    backend.held.dropped(number);
                }
                self.names.close(&name);
            }
            Effect::Marker { name, .. } => {
                self.names.close(&name);
            }
            Effect::Forgotten { name, named } => {
                let _taken_meanwhile = self.names.take(&name, *named);
            }
            Effect::Parsed(number) => backend.held.dropped(number),
            Effect::Closed(number) => backend.held.kept(number),
            Effect::Text { .. } | Effect::Refusal(_) | Effect::Described { .. } => {}
        }
    }

    /// What the client is told instead of a server's error, if it was ours that we wanted.
    pub(super) fn refused(&mut self, label: u64, out: &mut Vec<u8>) -> bool {
        match self.effect(label) {
            Some(Effect::Refusal(failure)) => {
                failure.write(write::Severity::Error, out);
                true
            }
            _ => false,
        }
    }

    /// Whether a question commits a transaction.
    pub(super) fn commits(&self, label: u64) -> bool {
        let effect = label.checked_sub(1).and_then(|key| self.effects.get(usize::try_from(key).ok()?));
        let Some(Effect::Text { plan, at }) = effect else { return false };
        plan.statements.iter().skip(*at).any(|statement| matches!(statement.kind, Kind::Commit { .. }))
    }
}

/// What the client hears for a `Parse` of what the backend has.
pub(super) const PARSED: u8 = tag::PARSE_COMPLETE;
