//! What a question does when it is answered, and what is taken back when an error drops it.

use std::sync::Arc;

use pgroute::classify::{Kind, Plan};
use pgroute::prepared::{Changes, Named, Number, Sent, Shape};
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
    Named { name: Box<[u8]>, taken: u64, sent: Sent },
    /// The client asks what a statement takes and gives, which was prepared when there had been so many changes; what it was told of that so far.
    Described { name: Box<[u8]>, number: Number, since: Changes, shape: Shape },
    /// The client forgets a name, and what that stood for.
    Forgotten { name: Box<[u8]>, named: Box<Named> },
    /// We prepare a statement.
    Parsed(Sent),
    /// We have the backend forget one.
    Closed(Sent),
    /// We prepare the statement without a name, or have the backend forget it: whose it has then, as it is noted there.
    Unnamed(Option<(u64, u64)>),
    /// The client prepares a statement by a text, under a name that it has from the moment of asking; whether it has been told so.
    Prepared { name: Box<[u8]>, taken: u64, is_done: bool },
    /// We prepare a statement by a client's text, because the client names it, or else because it looks at all of them.
    TextPrepared { name: Box<[u8]>, is_named: bool },
    /// We have the backend forget a client's name.
    TextClosed(Box<[u8]>),
    /// We prepare a statement under its client's name, which looks at it.
    Shown(Box<[u8]>),
    /// We have the backend forget what its sequences gave.
    SequencesForgotten,
    /// Something of ours is answered; the client is told this instead, and the name goes if it is not.
    Marker { tag: u8, name: Box<[u8]>, taken: u64 },
    /// An error of ours, in place of the server's.
    Refusal(Failure),
}

/// The label of the client's `Parse` without a name, beside the number of its text. No other label is as large.
pub(super) const UNNAMED: u64 = 1 << 63;

/// Whose statement without a name a backend has of which nobody knows what it is.
pub(super) const NOBODYS: Option<(u64, u64)> = Some((0, 0));

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

    /// A statement of a text has succeeded. What the client hears of it, where that is something else.
    pub(super) fn succeeded(&mut self, label: u64, said: &[u8]) -> Option<&'static str> {
        let (plan, at) = match self.effect(label) {
            Some(Effect::Text { plan, at }) => (plan, at),
            Some(Effect::Prepared { is_done, .. }) => {
                *is_done = true;
                return None;
            }
            _ => return None,
        };
        let (plan, number) = (Arc::clone(plan), *at);
        *at += 1;
        let statement = plan.statements.get(number)?;
        let kind = &statement.kind;
        self.settings.succeeded(kind, said);
        let instead = self.has_listened(kind, said);
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
                    backend.sequences.clear();
                }
                self.unnamed.forget();
                self.is_opaque = false;
                if self.pin.is_some_and(|pin| pin.ends_with(kind)) {
                    self.unpin();
                }
            }
            Kind::Deallocate(None) => self.forget_all(),
            Kind::Deallocate(Some(name)) => {
                self.told.remove(name.as_bytes());
                self.names.close(name.as_bytes());
                if let Some(backend) = &mut self.backend {
                    backend.texts.forget(name.as_bytes());
                }
            }
            Kind::Definition | Kind::Global(_) => {
                self.changed.schema = true;
                // A temporary table is dropped by a reset.
                self.changed.ever |= !statement.effects.temporary;
                self.seat.database.changed();
                self.changed.beginnings |= matches!(kind, Kind::Global(_));
            }
            Kind::Commit { .. } | Kind::Rollback { .. } | Kind::RollbackTo(_) | Kind::PrepareTransaction => {
                self.settings_number += 1;
            }
            _ => {}
        }
        instead
    }

    /// No statement has a name any more, neither the client's nor the backend's.
    fn forget_all(&mut self) {
        if self.mode != Mode::Session {
            self.names.clear();
            self.told.clear();
        }
        if let Some(backend) = &mut self.backend {
            backend.held.clear();
            backend.texts.clear();
            backend.shown.clear();
        }
    }

    pub(super) fn unpin(&mut self) {
        self.has_own_texts = false;
        if self.pin.take().is_some() {
            self.cells().pinned.add(-1);
        }
    }

    /// A question has its last answer. What the client is told instead of it, if that is something else.
    pub(super) fn closed(&mut self, label: u64) -> Option<u8> {
        if label == 0 || label & UNNAMED != 0 {
            return None;
        }
        let effect = self.take_effect(label)?;
        match (effect, &mut self.backend) {
            (Effect::Marker { tag, .. }, _) => return Some(tag),
            (Effect::Prepared { name, taken, is_done: false }, _) => self.unprepared(&name, taken),
            (Effect::Named { sent, .. } | Effect::Parsed(sent), Some(backend)) => backend.held.parsed(sent),
            (Effect::Closed(sent), Some(backend)) => backend.held.closed(sent),
            _ => {}
        }
        None
    }

    /// A text has prepared nothing.
    fn unprepared(&mut self, name: &[u8], taken: u64) {
        _ = self.names.untake(name, taken);
        if let Some(backend) = &mut self.backend {
            backend.texts.forget(name);
        }
    }

    /// An error has dropped a question, or was its answer: it took no effect.
    pub(super) fn dropped(&mut self, label: u64) {
        if label & UNNAMED != 0 {
            let mine = Some((self.number, label & !UNNAMED));
            // Another one may be on its way that is believed instead.
            if let Some(backend) = self.backend.as_mut().filter(|backend| backend.unnamed == mine) {
                backend.unnamed = NOBODYS;
            }
            return;
        }
        let Some(effect) = self.take_effect(label) else { return };
        let Some(backend) = &mut self.backend else { return };
        match effect {
            Effect::Named { name, taken, sent } => {
                backend.held.unparsed(sent);
                _ = self.names.untake(&name, taken);
            }
            Effect::Marker { name, taken, .. } => _ = self.names.untake(&name, taken),
            Effect::Forgotten { name, named } => {
                if named.by_text {
                    backend.texts.doubt(&name);
                }
                let _taken_meanwhile = self.names.take(&name, *named);
            }
            Effect::Parsed(sent) => backend.held.unparsed(sent),
            Effect::Closed(sent) => backend.held.unclosed(sent),
            Effect::Unnamed(of) if backend.unnamed == of => backend.unnamed = NOBODYS,
            Effect::Prepared { name, taken, .. } => {
                backend.texts.doubt(&name);
                self.names.untake(&name, taken);
            }
            Effect::TextPrepared { name, .. } | Effect::TextClosed(name) => backend.texts.doubt(&name),
            Effect::Shown(name) => backend.shown.retain(|shown| *shown != name),
            Effect::SequencesForgotten => backend.sequences.used(0),
            Effect::Text { .. } | Effect::Refusal(_) | Effect::Described { .. } => {}
            Effect::Unnamed(_) => {}
        }
    }

    /// Whether a question prepares what the client's text names.
    pub(super) fn is_of_named_text(&mut self, label: u64) -> bool {
        matches!(self.effect(label), Some(Effect::TextPrepared { is_named: true, .. }))
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

    /// Whether something that was asked may commit a transaction, and has no answer.
    pub(super) fn may_commit(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.ledger.due().any(|due| self.commits(due.label)))
    }

    /// Whether the statement that runs is a commit, unless the server has not come to it yet.
    pub(super) fn is_committing(&self) -> bool {
        let due = self.backend.iter().flat_map(|backend| backend.ledger.due());
        // A text of no effect runs before whatever stands behind it.
        let first = due.take_while(|due| due.question != Question::Query || due.label != 0).find_map(|due| match self
            .effects
            .get(usize::try_from(due.label.checked_sub(1)?).ok()?)?
        {
            Effect::Text { plan, at } => Some(plan.statements.get(*at)),
            _ => None,
        });
        first.flatten().is_some_and(|statement| matches!(statement.kind, Kind::Commit { .. }))
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
