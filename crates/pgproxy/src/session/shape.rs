//! What a client was told of its statements, and whether it is still so.
//!
//! Drivers ask once what a statement takes and gives, and read rows by that from then on. A server without a proxy keeps to it: it
//! refuses a statement whose columns have changed, and its parameters keep their types. Here the statement is parsed anew on another backend,
//! after a change, and would take and give something else without a word. So one that was parsed there after a change
//! which its client has not heard of is looked at before it is used, once: it is described to us, with the types that the client was
//! told. If it gives something else, the client hears what it would hear without a proxy, and prepares it again.
//!
//! This is done where a group of messages begins, when nothing else is under way. Drivers that use statements again begin with them.

use std::sync::Arc;

use pgroute::SqlState;
use pgroute::prepared::{Changes, Held, Key, Named, Need, Number, Shape};
use pgroute::session::{Owner, Question};
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::frontend::{Parse, Target, tag};
use pgroute::wire::{WireError, write};

use super::effect::Effect;
use super::{Cut, Session};
use crate::backend::{AskError, Asked};
use crate::failure::Failure;

/// The server's words for a statement whose columns have changed, and the routine by which drivers know them.
const STALE: (&str, &str) = ("cached plan must not change result type", "RevalidateCachedQuery");

/// What a client was told of a statement.
#[derive(Debug)]
pub(super) struct Told {
    /// The statement, and how many changes there had been when its client prepared it: another one may have its name since.
    number: Number,
    since: Changes,
    shape: Shape,
}

/// The portal that was bound last, where its client was told nothing of the statement yet: who asks what the portal gives is told then.
#[derive(Default)]
pub(super) struct Bound {
    portal: Vec<u8>,
    /// Empty if there is no such portal.
    statement: Vec<u8>,
    /// Which statement the name stood for, and how many changes there had been when it was prepared.
    number: Number,
    since: Changes,
}

impl Bound {
    fn set(&mut self, portal: &[u8], statement: &[u8], (number, since): (Number, Changes)) {
        (self.number, self.since) = (number, since);
        self.portal.clear();
        self.portal.extend_from_slice(portal);
        self.statement.clear();
        self.statement.extend_from_slice(statement);
    }

    /// Another portal was bound, or anything may have the name.
    pub(super) fn forget(&mut self) {
        self.statement.clear();
    }
}

impl Session {
    /// What a question for what a portal gives is to be known by. Its statement's parameters are those that the client has told.
    pub(super) fn asks_of_portal(&mut self, portal: &[u8]) -> u64 {
        if self.bound.statement.is_empty() || self.bound.portal != portal {
            return 0;
        }
        let name: Box<[u8]> = self.bound.statement[..].into();
        self.bound.forget();
        let (number, since) = (self.bound.number, self.bound.since);
        let named =
            self.names.find(&name).filter(|named| (named.statement.number, named.prepared_at) == (number, since));
        let Some(named) = named else { return 0 };
        let shape = Shape { types: named.statement.key.types.clone(), ..Shape::default() };
        self.label(Effect::Described { name, number, since, shape })
    }

    /// Notes what the server tells a client of a statement.
    pub(super) fn was_told(&mut self, label: u64, message: &[u8]) -> Result<(), WireError> {
        let Some(Effect::Described { name, number, since, shape }) = self.effect(label) else { return Ok(()) };
        if shape.told(message)? {
            let (name, shape) = (std::mem::take(name), std::mem::take(shape));
            let (number, since) = (*number, *since);
            // The name may stand for another one since.
            let is_still = |named: &Named| (named.statement.number, named.prepared_at) == (number, since);
            if self.names.find(&name).is_some_and(is_still) {
                self.told.insert(name, Told { number, since, shape });
            }
        }
        Ok(())
    }

    /// Whether a statement has to be looked at before a portal is bound to it; then why it cannot be, if that has been done.
    pub(super) fn doubt(&mut self, name: &[u8], portal: &[u8]) -> Option<Option<Failure>> {
        if let Some((_, failure)) = self.doubted.take_if(|(doubted, _)| **doubted == *name) {
            return failure.map(Some);
        }
        let (named, backend) = (self.names.find(name)?, self.backend.as_ref()?);
        let (number, since) = (named.statement.number, named.prepared_at);
        if self.told.get(name).is_none_or(|told| (told.number, told.since) != (number, since)) {
            if !named.by_text {
                self.bound.set(portal, name, (number, since));
            }
            return None;
        }
        let now = self.seat.database.changes();
        let parsed_at = backend.held.parsed_at(number).filter(|at| *at >= since.max(self.floor)).unwrap_or(now);
        let has_input = self.server_input.as_ref().is_some_and(|input| !input.is_empty());
        let may_ask = backend.ledger.is_empty()
            && backend.splitter.is_between_messages()
            && backend.status != TransactionStatus::Failed
            && !self.is_group_open
            && !has_input
            && (self.client.pass, self.to_server.len(), self.scratch.len()) == (0, 0, 0);
        if parsed_at <= since || !may_ask {
            return None;
        }
        self.doubted = Some((name.into(), None));
        Some(None)
    }

    /// Looks at the statement that is in doubt.
    pub(super) async fn verify(&mut self) -> Result<(), Cut> {
        let Some((name, _)) = self.doubted.take() else { return Ok(()) };
        let described = self.described(&name).await;
        self.tell_overheard();
        let failure = match described {
            Ok(failure) => failure,
            Err(AskError::Refused(failure)) => Some(failure),
            Err(AskError::Broken(failure)) => {
                self.is_doubtful = true;
                // Nothing of the client's was asked: its messages are still here, and are not to be put before themselves.
                self.backend.iter_mut().for_each(|backend| drop(backend.ledger.abandon()));
                self.place.again.forget();
                return Err(self.lost(failure));
            }
        };
        self.doubted = Some((name, failure));
        Ok(())
    }

    /// Has the backend describe a statement, and holds that against what its client was told: why it cannot be used, if that is so.
    async fn described(&mut self, name: &[u8]) -> Result<Option<Failure>, AskError> {
        let timeout = self.params.timeouts.clean;
        let (Some(named), Some(told), Some(backend)) =
            (self.names.find(name), self.told.get_mut(name), self.backend.as_mut())
        else {
            return Ok(None);
        };
        let database = &self.seat.database;
        let key = Key { types: told.shape.types.clone(), ..named.statement.key.clone() };
        let statement = if key == named.statement.key { Arc::clone(&named.statement) } else { database.statement(key) };
        let (number, now) = (statement.number, database.changes());
        let mut messages = Vec::new();
        let ours = number.to_string();
        // The server refuses to describe one that a later change has made stale: only a new one says what it gives now.
        let mut room = None;
        if let Need::Parse { anew, close } = backend.held.use_of(number, now, now) {
            room = close.map(|close| backend.held.sent(close));
            for close in anew.then_some(number).into_iter().chain(close) {
                backend.ledger.ask(Question::Close, Owner::Ours, 0);
                write::target(&mut messages, tag::CLOSE, Target::Statement(close.to_string().as_bytes()));
            }
            let parse = Parse { name: ours.as_bytes(), text: &statement.key.text, types: &statement.key.types };
            backend.ledger.ask(Question::Parse, Owner::Ours, 0);
            write::parse(&mut messages, ours.as_bytes(), &parse);
        }
        let parsed_at = backend.held.parsed_at(number).unwrap_or(now);
        backend.ledger.ask(Question::DescribeStatement, Owner::Ours, 0);
        write::target(&mut messages, tag::DESCRIBE, Target::Statement(ours.as_bytes()));
        backend.ledger.ask(Question::Sync, Owner::Ours, 0);
        write::sync(&mut messages);
        let asked = backend.exchange_within(&messages, timeout).await;
        // Whether it was parsed before something failed is not known.
        if asked.is_err() {
            backend.held.kept(number);
        }
        let settle = if asked.is_ok() { Held::closed } else { Held::unclosed };
        room.into_iter().for_each(|sent| settle(&mut backend.held, sent));
        let Asked { shape, .. } = asked?;
        if shape.columns != told.shape.columns {
            let mut failure = Failure::new(SqlState::NOT_SUPPORTED, STALE.0);
            failure.routine = STALE.1;
            return Ok(Some(failure));
        }
        (told.number, told.since) = (number, parsed_at);
        self.names.renew(name, statement, parsed_at);
        Ok(None)
    }
}
