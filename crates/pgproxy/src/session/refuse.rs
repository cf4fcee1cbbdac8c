//! What a client may not do: it hears so where the server would have said it, in order and in its transaction.

use pgroute::SqlState;
use pgroute::classify::{Kind, Plan};
use pgroute::session::Question;
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::frontend::{Parse, Target, tag};
use pgroute::wire::write;

use super::Session;
use super::effect::Effect;
use super::request::{Forward, prepares_several};
use super::texts::already_exists;
use crate::failure::Failure;
use crate::params::{Mode, PinPolicy};

/// A text that no server takes for a statement: it fails at the right moment, and what the client hears is an error of ours.
const REFUSED: &str = "tenfold refuses this statement";

/// The name under which it is prepared, which is there for no longer than that.
const REFUSED_NAME: &[u8] = b"tf_refused";

impl Session {
    /// Why a text may not run here, if there is a reason.
    pub(super) fn refusal(&self, plan: &Plan) -> Option<Failure> {
        let has = |of: fn(&Kind) -> bool| plan.statements.iter().any(|statement| of(&statement.kind));
        if let Some(failure) = self.refused_position(plan).or_else(|| self.refused_listen(plan)) {
            return Some(failure);
        }
        match self.mode {
            Mode::Statement if has(|kind| matches!(kind, Kind::Begin(_))) => {
                let message = "transactions of several statements are not possible in statement mode";
                Some(Failure::new(SqlState::NOT_SUPPORTED, message))
            }
            Mode::Session => None,
            _ if self.pin.is_none() && self.params.pin == PinPolicy::Error => {
                let pin = self.pin_for(plan)?;
                let message = format!("the session would have to keep its connection ({})", pin.as_str());
                Some(
                    Failure::new(SqlState::NOT_SUPPORTED, message)
                        .with_hint("The database is served with pin = \"error\"."),
                )
            }
            _ => None,
        }
    }

    /// Why a simple query may not run within a group of messages: what it needs could not be put before it, since a failure of that would have the
    /// server pass over the query, and a `Sync` between them would commit what the group has done.
    pub(super) fn refused_within(&self, plan: &Plan) -> Option<Failure> {
        let needs = self.mode != Mode::Session && (!plan.executes.is_empty() || prepares_several(plan));
        let recalls = self.mode != Mode::Session
            && plan.effects.recalls
            && self.backend.as_ref().is_some_and(|backend| backend.sequences.is_foreign(self.number));
        if recalls && self.is_group_open {
            let message =
                "a query that asks what sequences gave has to stand behind the Sync of the messages before it";
            return Some(Failure::new(SqlState::NOT_SUPPORTED, message));
        }
        let message = "a query that names prepared statements has to stand behind the Sync of the messages before it";
        (needs && self.is_group_open).then(|| Failure::new(SqlState::NOT_SUPPORTED, message))
    }

    /// Has a message fail for which there is no backend, and the group that it begins.
    pub(super) fn fail_here(&mut self, kind: u8, failure: &Failure) {
        failure.write(write::Severity::Error, self.to_client.bytes());
        self.cells().errors.increment();
        if matches!(kind, tag::QUERY | tag::FUNCTION_CALL) {
            write::ready(self.to_client.bytes(), TransactionStatus::Idle);
        } else {
            self.skips = true;
        }
    }

    /// Answers a simple query with an error of ours.
    pub(super) fn refuse_query(&mut self, failure: Failure) -> Forward {
        let label = self.label(Effect::Refusal(failure));
        write::query(&mut self.scratch, REFUSED);
        self.forgets_unnamed();
        self.ask(Question::Query, label);
        Forward::Drop
    }

    /// Fails a group of messages with an error of ours.
    pub(super) fn refuse(&mut self, failure: Failure) -> Forward {
        let label = self.label(Effect::Refusal(failure));
        let parse = Parse { name: REFUSED_NAME, text: REFUSED.as_bytes(), types: &[] };
        write::parse(&mut self.scratch, REFUSED_NAME, &parse);
        self.ask(Question::Parse, label);
        Forward::Drop
    }

    /// Fails a `Parse` under a name that is taken. The server looks at the text before it looks for the name, so it is shown the text first.
    pub(super) fn refuse_taken(&mut self, parse: &Parse<'_>) -> Forward {
        let forget = |out: &mut Vec<u8>| write::target(out, tag::CLOSE, Target::Statement(REFUSED_NAME));
        // An error may have left it there.
        self.put(Question::Close, None, forget);
        self.put(Question::Parse, None, |out| write::parse(out, REFUSED_NAME, parse));
        self.put(Question::Close, None, forget);
        self.refuse(already_exists(parse.name))
    }
}
