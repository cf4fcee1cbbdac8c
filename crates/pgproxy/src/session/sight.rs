//! What a session sees of its prepared statements.
//!
//! `pg_prepared_statements` has what the backend has: statements of many clients, under names of ours. Who looks there has to see its own.
//! So before a text that names this view, the backend forgets what it has, and is told the client's statements under the client's names.
//! Nobody else gets it like that: it is reset before.
//!
//! What cannot be parsed any more, such as a statement whose table is gone, is in nobody's way: each is a group of its own. Within a group or a
//! transaction of the client's that cannot be, so there the backend only forgets what is others'.

use std::collections::HashSet;
use std::sync::Arc;

use pgroute::prepared::{Named, Number};
use pgroute::session::Question;
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::frontend::{Parse, Target, tag};
use pgroute::wire::write;

use super::Session;
use super::effect::Effect;
use super::texts::{RUN, Why};
use crate::params::Mode;

impl Session {
    /// Has the backend know the client's statements under their names, and no others, before a text that looks at them. If that is the statement
    /// of a name, its failure is the client's.
    pub(super) fn show_prepared(&mut self, name: Option<&[u8]>) {
        let Some(backend) = &mut self.backend else { return };
        if self.mode == Mode::Session || backend.status == TransactionStatus::Failed {
            return;
        }
        backend.is_tainted = true;
        let is_within = self.is_group_open || backend.status == TransactionStatus::Open;
        self.forget_others(is_within);
        let texts = self.forget_others_texts();
        if is_within {
            let shown = self.backend.as_ref().map(|backend| backend.shown.clone()).unwrap_or_default();
            for name in shown {
                // The client has closed it since.
                if self.names.find(&name).is_none() {
                    self.close_text(&name);
                }
            }
            return;
        }
        for text in &texts {
            self.apart(|session| session.ensure_text(text, Why::Shown));
        }
        // An error leaves it behind.
        self.close_text(RUN);
        let shown = self.backend.as_mut().map(|backend| std::mem::take(&mut backend.shown)).unwrap_or_default();
        shown.iter().for_each(|name| self.close_text(name));
        let by_message = |(name, named): (&[u8], &Named)| {
            (!named.by_text).then(|| (Box::<[u8]>::from(name), Arc::clone(&named.statement)))
        };
        let mut named: Vec<_> = self.names.iter().filter_map(by_message).collect();
        // Drivers count; where they do, the order is that in which they were prepared. The one that is used comes last, in the client's own group.
        named.sort_by_key(|(known, _)| (name == Some(&**known), known.len(), known.clone()));
        let mut shown = Vec::with_capacity(named.len());
        for (known, statement) in named {
            let is_used = name == Some(&*known);
            self.close_text(&known);
            let key = &statement.key;
            let write = |out: &mut Vec<u8>| {
                write::parse(out, &known, &Parse { name: &known, text: &key.text, types: &key.types });
            };
            self.put(Question::Parse, Some(Effect::Shown(known.clone())), write);
            if !is_used {
                self.put(Question::Sync, None, write::sync);
            }
            shown.push(known);
        }
        self.backend.iter_mut().for_each(|backend| backend.shown.append(&mut shown));
    }

    /// Has the backend forget statements under names of ours: within a group or a transaction only those that are not the client's.
    fn forget_others(&mut self, is_within: bool) {
        let own: HashSet<Number> = match is_within {
            true => self.names.iter().map(|(_, named)| named.statement.number).collect(),
            false => HashSet::new(),
        };
        let Some(backend) = &mut self.backend else { return };
        let mut numbers = backend.held.numbers();
        numbers.retain(|number| !own.contains(number));
        let closes: Vec<_> = numbers.iter().map(|number| backend.held.close(*number)).collect();
        for (number, sent) in numbers.into_iter().zip(closes) {
            self.put(Question::Close, Some(Effect::Closed(sent)), |out| {
                write::target(out, tag::CLOSE, Target::Statement(number.to_string().as_bytes()));
            });
        }
    }

    /// Ends what is put, if anything is, so that its failure is nobody else's.
    fn apart(&mut self, put: impl FnOnce(&mut Self)) {
        let due = |session: &Self| session.backend.as_ref().map_or(0, |backend| backend.ledger.len());
        let before = due(self);
        put(self);
        if due(self) > before {
            self.put(Question::Sync, None, write::sync);
        }
    }
}
