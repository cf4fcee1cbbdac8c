//! What a session sees of its prepared statements.
//!
//! `pg_prepared_statements` has what the backend has: statements of many clients, under names of ours. Who looks there has to see its own.
//! So before a text that names this view, the backend forgets what it has, and is told the client's statements under the client's names.
//! Nobody else gets it like that: it is reset before.

use pgroute::session::Question;
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::frontend::{Parse, Target, tag};
use pgroute::wire::write;

use super::Session;
use super::effect::Effect;
use crate::params::Mode;

impl Session {
    /// Has the backend know the client's statements under their names, and no others, if a text looks at them.
    pub(super) fn show_prepared(&mut self) {
        let Some(backend) = &mut self.backend else { return };
        // Within a group of messages it is too late: what fails would fail all of it.
        if self.mode == Mode::Session || self.is_group_open || backend.status == TransactionStatus::Failed {
            return;
        }
        backend.is_tainted = true;
        self.ensure_own_texts();
        let Some(backend) = &mut self.backend else { return };
        let (numbers, shown) = (backend.held.numbers(), std::mem::take(&mut backend.shown));
        backend.held.clear();
        for number in numbers {
            self.put(Question::Close, Some(Effect::Closed(number)), |out| {
                write::target(out, tag::CLOSE, Target::Statement(number.to_string().as_bytes()));
            });
        }
        let mut named: Vec<_> = self
            .names
            .iter()
            .filter(|(_, named)| !named.by_text)
            .map(|(name, named)| (name.into(), std::sync::Arc::clone(&named.statement)))
            .collect();
        // Drivers count; where they do, the order is that in which they were prepared.
        named.sort_by(|(one, _): &(Box<[u8]>, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
        for name in shown.iter().chain(named.iter().map(|(name, _)| name)) {
            self.put(Question::Close, None, |out| write::target(out, tag::CLOSE, Target::Statement(name)));
        }
        for (name, statement) in &named {
            let parse = Parse { name, text: &statement.key.text, types: &statement.key.types };
            self.put(Question::Parse, None, |out| write::parse(out, name, &parse));
        }
        // What fails of it, such as a statement whose table is gone, must not fail what looks.
        self.put(Question::Sync, None, write::sync);
        if let Some(backend) = &mut self.backend {
            backend.shown = named.into_iter().map(|(name, _)| name).collect();
        }
    }
}
