//! Prepared statements of a client that shares backends: its names, and ours.
//!
//! A statement with a name is known to backends by a name of ours, under which all clients share it; whoever uses it has it parsed where it
//! is not there.

use std::sync::Arc;

use pgroute::SqlState;
use pgroute::classify::Plan;
use pgroute::prepared::{Changes, Held, Key, NameError, Named, Need, Number, Shape, Statement};
use pgroute::session::{Pin, Question};
use pgroute::wire::backend::TransactionStatus;
use pgroute::wire::frontend::{self, Bind, Parse, Target, tag};
use pgroute::wire::write;

use super::effect::{Effect, PARSED};
use super::request::{Forward, is_plain, may_use_sequences, told};
use super::texts::Why;
use super::{Cut, Session};
use crate::backend::Backend;
use crate::failure::Failure;
use crate::params::Mode;

/// A name that no backend has: to forget it is always answered in the same way, and does nothing.
const NOBODY: &[u8] = b"tf_none";

/// Portals of a session that are kept account of, at most. They end with their transaction.
const PORTALS_MAX: usize = 1000;

/// A statement's name on backends, without memory of its own.
struct OurName {
    bytes: [u8; Number::NAME_BYTES_MAX],
    len: usize,
}

impl OurName {
    fn new(number: Number) -> Self {
        let mut bytes = [0; Number::NAME_BYTES_MAX];
        let len = number.write_name(&mut bytes);
        Self { bytes, len }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What a client's name stands for on its backend.
enum Resolved {
    /// Itself.
    Itself,
    /// A name of ours, which the backend has.
    Ours(OurName),
    /// Nothing.
    Nothing(Failure),
    /// What it stands for has to be looked at first.
    Doubted,
}

impl Session {
    pub(super) fn parse(&mut self, message: &[u8]) -> Result<Forward, Cut> {
        let parse = Parse::read(message).map_err(told)?;
        let plan = self.plan(parse.text);
        if let Some(failure) = self.refusal(&plan) {
            return Ok(self.refuse(failure));
        }
        if plan.shows_prepared {
            self.show_prepared(None);
        }
        self.ensure_texts(&plan);
        // What listens is said to the backend in other words.
        let (listen, mut rewritten) = (self.instead_of_listen(&plan, parse.text), Vec::new());
        let (parse, message) = match &listen {
            None => (parse, message),
            Some(text) => {
                let parse = Parse { name: parse.name, text, types: &[] };
                write::parse(&mut rewritten, parse.name, &parse);
                (parse, &rewritten[..])
            }
        };
        let position = self.told_position(&plan);
        if let Some(text) = &position {
            // It is answered by a statement that the server knows.
            let told = Parse { name: parse.name, text: text.as_bytes(), types: &[] };
            let mut message = Vec::new();
            write::parse(&mut message, parse.name, &told);
            self.scratch.extend_from_slice(&message);
            self.prepares_unnamed(&message, plan);
            return Ok(Forward::Drop);
        }
        if parse.name.is_empty() {
            self.prepares_unnamed(message, plan);
            if listen.is_none() {
                return Ok(Forward::Pass);
            }
            self.scratch.extend_from_slice(message);
            return Ok(Forward::Drop);
        }
        if self.mode == Mode::Session {
            // The name is taken whatever the server says: it says whether it was free.
            self.names.close(parse.name);
            let named = self.named(&parse, plan);
            let _too_many = self.names.take(parse.name, named);
            return Ok(self.ask(Question::Parse, 0));
        }
        let named = self.named(&parse, plan);
        let (statement, since, taken) = (Arc::clone(&named.statement), named.prepared_at, named.taken);
        match self.names.take(parse.name, named) {
            Ok(()) => {
                let forward = self.parse_named(&parse, &statement, since, taken);
                self.changes_name(parse.name);
                Ok(forward)
            }
            Err(NameError::Taken) => Ok(self.refuse_taken(&parse)),
            Err(error @ (NameError::TooMany(_) | NameError::TooLarge(_))) => {
                Ok(self.refuse(Failure::new(SqlState::LIMIT_EXCEEDED, error.to_string())))
            }
        }
    }

    fn named(&mut self, parse: &Parse<'_>, plan: Arc<Plan>) -> Named {
        let database = Arc::clone(&self.seat.database);
        let prepared_at = database.changes();
        // What names another statement means what this session means by that.
        let reading = match plan.executes.is_empty() {
            true => self.reading(),
            false => self.settings.reading(Some(self.number)).into(),
        };
        let key = Key { text: parse.text.into(), types: parse.types.into(), reading };
        let statement = if self.mode == Mode::Session {
            Arc::new(Statement { number: Number(0), key })
        } else {
            database.statement(key)
        };
        Named { statement, prepared_at, plan, by_text: false, taken: self.names.number() }
    }

    fn parse_named(&mut self, parse: &Parse<'_>, statement: &Statement, since: Changes, taken: u64) -> Forward {
        let Some(backend) = &mut self.backend else { return Forward::Need };
        // What it has under the client's name, for one that looked, is another one.
        if let Some(at) = backend.shown.iter().position(|shown| **shown == *parse.name) {
            backend.shown.swap_remove(at);
            backend.texts.doubt(parse.name);
        }
        let number = statement.number;
        let ours = OurName::new(number);
        // A transaction that has failed refuses to prepare, which only the server knows for certain when more has been asked.
        let may_fail = backend.status == TransactionStatus::Failed || !backend.ledger.is_empty();
        if backend.held.has(number, since) && !may_fail {
            backend.held.use_of(number, since, since);
            let effect = Effect::Marker { tag: PARSED, name: parse.name.into(), taken };
            self.put(Question::Close, Some(effect), |out| {
                write::target(out, tag::CLOSE, Target::Statement(NOBODY));
            });
            // It is the client's question all the same: more of its group may come before it is answered.
            self.open_group();
            return Forward::Drop;
        }
        if backend.held.has(number, since) {
            backend.held.kept(number);
        }
        self.make_room(number, since);
        let Some(backend) = &mut self.backend else { return Forward::Need };
        let sent = backend.held.sent(number);
        let label = self.label(Effect::Named { name: parse.name.into(), taken, sent });
        write::parse(&mut self.scratch, ours.as_bytes(), parse);
        self.ask(Question::Parse, label);
        self.parses_ahead(number);
        Forward::Drop
    }

    /// Has the backend forget what has to go for a statement that is about to be parsed, if anything has to.
    fn make_room(&mut self, number: Number, since: Changes) -> bool {
        let now = self.seat.database.changes();
        let Some(backend) = &mut self.backend else { return false };
        match backend.held.use_of(number, since, now) {
            Need::Nothing => false,
            Need::Parse { anew, close } => {
                let before = anew.then(|| (number, Held::overtaken(number)));
                let room = close.map(|close| (close, backend.held.sent(close)));
                for (close, sent) in [before, room].into_iter().flatten() {
                    let name = OurName::new(close);
                    self.put(Question::Close, Some(Effect::Closed(sent)), |out| {
                        write::target(out, tag::CLOSE, Target::Statement(name.as_bytes()));
                    });
                }
                true
            }
        }
    }

    /// Sees to it that the backend has a statement.
    fn ensure(&mut self, statement: &Statement, since: Changes) {
        let since = since.max(self.floor);
        if self.is_parsed_ahead(statement.number)
            && let Some(backend) = &mut self.backend
        {
            // An error may yet drop that.
            backend.held.kept(statement.number);
        }
        if !self.make_room(statement.number, since) {
            return;
        }
        self.cells().parses.increment();
        let (name, key) = (OurName::new(statement.number), &statement.key);
        let Some(sent) = self.backend.as_ref().map(|backend| backend.held.sent(statement.number)) else { return };
        self.put(Question::Parse, Some(Effect::Parsed(sent)), |out| {
            let parse = Parse { name: name.as_bytes(), text: &key.text, types: &key.types };
            write::parse(out, name.as_bytes(), &parse);
        });
        self.parses_ahead(statement.number);
    }

    /// Who asks what a statement is, is told; who binds a portal to it, and knows that from before, must not get something else.
    fn resolve(&mut self, name: &[u8], portal: Option<&[u8]>) -> Resolved {
        if self.mode == Mode::Session {
            return Resolved::Itself;
        }
        if name.is_empty() {
            let needs = |plan: &Arc<Plan>| plan.shows_prepared || !plan.executes.is_empty();
            if let Some(plan) = self.unnamed.plan().filter(|plan| needs(plan)).map(Arc::clone) {
                if plan.shows_prepared {
                    self.show_prepared(None);
                }
                self.ensure_texts(&plan);
            }
            self.ensure_unnamed();
            return Resolved::Itself;
        }
        if self.names.find(name).is_some_and(|named| named.plan.shows_prepared) {
            self.show_prepared(Some(name));
            if self.backend.as_ref().is_some_and(|backend| backend.shown.iter().any(|shown| **shown == *name)) {
                return Resolved::Itself;
            }
        }
        match portal.and_then(|portal| self.doubt(name, portal)) {
            None => {}
            Some(None) => return Resolved::Doubted,
            Some(Some(failure)) => return Resolved::Nothing(failure),
        }
        match self.names.find(name) {
            Some(named) if named.by_text => {
                self.ensure_text(name, Why::Named);
                Resolved::Itself
            }
            Some(named) => {
                let since = named.prepared_at;
                let plan = Arc::clone(&named.plan);
                if !plan.executes.is_empty() {
                    self.ensure_texts(&plan);
                }
                let has = |backend: &Backend, number| backend.held.has(number, since);
                let Some(statement) = self.as_read_now(name, has) else { return Resolved::Itself };
                self.group.uses(since);
                self.ensure(&statement, since);
                Resolved::Ours(OurName::new(statement.number))
            }
            // It may be one of those that were prepared by a text.
            None if self.has_own_texts => Resolved::Itself,
            None => {
                let message = format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name));
                Resolved::Nothing(Failure::new(SqlState::UNKNOWN_STATEMENT, message))
            }
        }
    }

    /// A message about a statement, with the name that the backend knows.
    pub(super) fn with_statement(
        &mut self,
        name: &[u8],
        question: Question,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> Forward {
        match self.resolve(name, None) {
            Resolved::Itself => self.ask(question, 0),
            Resolved::Nothing(failure) => self.refuse(failure),
            Resolved::Doubted => Forward::Need,
            Resolved::Ours(ours) => {
                write(&mut self.scratch, ours.as_bytes());
                let named = self.names.find(name).map(|named| (named.statement.number, named.prepared_at));
                let effect = named.map(|(number, since)| Effect::Described {
                    name: name.into(),
                    number,
                    since,
                    shape: Shape::default(),
                });
                let label = effect.map_or(0, |effect| self.label(effect));
                self.ask(question, label);
                Forward::Drop
            }
        }
    }

    pub(super) fn bind(&mut self, message: &[u8], total: usize) -> Result<Forward, Cut> {
        let bind = Bind::read(message).map_err(told)?;
        self.note_portal(&bind);
        self.bound.forget();
        match self.resolve(bind.statement, Some(bind.portal)) {
            Resolved::Itself => Ok(self.ask(Question::Bind, 0)),
            Resolved::Nothing(failure) => {
                // What is left of a long one goes nowhere.
                Ok(self.refuse(failure))
            }
            Resolved::Doubted => Ok(Forward::Need),
            Resolved::Ours(ours) => {
                write::bind_names(&mut self.scratch, &bind, ours.as_bytes(), total);
                self.ask(Question::Bind, 0);
                Ok(Forward::From(bind.values_at))
            }
        }
    }

    /// Notes what a portal runs, where that does more than read or write rows.
    fn note_portal(&mut self, bind: &Bind<'_>) {
        let plan = if bind.statement.is_empty() {
            self.unnamed.plan().map(Arc::clone)
        } else {
            self.names.find(bind.statement).map(|named| match named.by_text {
                true => Arc::new(Plan::execute(&String::from_utf8_lossy(bind.statement))),
                false => Arc::clone(&named.plan),
            })
        };
        let uses_sequences = plan.as_ref().is_some_and(|plan| may_use_sequences(plan) && !plan.effects.recalls);
        let noted = plan.filter(|plan| !is_plain(plan) || plan.effects != Default::default() || is_preparing(plan));
        match noted {
            Some(plan) if self.portals.len() < PORTALS_MAX => {
                self.portals.insert(bind.portal.into(), plan);
            }
            _ if self.portals.is_empty() => {}
            _ => {
                self.portals.remove(bind.portal);
            }
        }
        if uses_sequences {
            self.uses_sequences();
            self.notes_sender(false);
        }
    }

    pub(super) fn close(&mut self, message: &[u8]) -> Result<Forward, Cut> {
        let Target::Statement(name) = frontend::target(message).map_err(told)? else {
            return Ok(self.ask(Question::Close, 0));
        };
        if name.is_empty() {
            self.forgets_unnamed();
            return Ok(self.ask(Question::Close, 0));
        }
        if self.mode == Mode::Session {
            self.names.close(name);
            return Ok(self.ask(Question::Close, 0));
        }
        self.told.remove(name);
        match self.names.close(name) {
            Some(named) if named.by_text => {
                if let Some(backend) = &mut self.backend {
                    backend.texts.forget(name);
                }
                let label = self.label(Effect::Forgotten { name: name.into(), named: Box::new(named) });
                self.ask(Question::Close, label);
                self.changes_name(name);
                Ok(Forward::Pass)
            }
            None if self.has_own_texts => Ok(self.ask(Question::Close, 0)),
            // The backend keeps it, for others: it is asked to forget nothing.
            forgotten => {
                let label = forgotten
                    .map_or(0, |named| self.label(Effect::Forgotten { name: name.into(), named: Box::new(named) }));
                write::target(&mut self.scratch, tag::CLOSE, Target::Statement(NOBODY));
                self.ask(Question::Close, label);
                self.changes_name(name);
                Ok(Forward::Drop)
            }
        }
    }

    /// What a name stands for. Where the backend has not got it, it is parsed under the settings of now, which may not be those that it was
    /// prepared under: then it is another statement, or others would get what their settings do not say.
    pub(super) fn as_read_now(
        &mut self,
        name: &[u8],
        has: impl FnOnce(&Backend, Number) -> bool,
    ) -> Option<Arc<Statement>> {
        let named = self.names.find(name)?;
        let (statement, is_apart) = (Arc::clone(&named.statement), !named.plan.executes.is_empty());
        if self.backend.as_ref().is_none_or(|backend| has(backend, statement.number)) {
            return Some(statement);
        }
        let reading = if is_apart { self.settings.reading(Some(self.number)).into() } else { self.reading() };
        if *reading == *statement.key.reading {
            return Some(statement);
        }
        let statement = self.seat.database.statement(Key { reading, ..statement.key.clone() });
        self.names.read_as(name, Arc::clone(&statement));
        Some(statement)
    }

    /// What the texts of this session mean, as far as settings say so.
    pub(super) fn reading(&mut self) -> Arc<str> {
        if self.is_opaque || self.pin == Some(Pin::TemporaryTable) || self.settings.is_changing() {
            let apart = self.is_opaque || self.pin == Some(Pin::TemporaryTable);
            return self.settings.reading(apart.then_some(self.number)).into();
        }
        match &self.reading {
            Some((number, reading)) if *number == self.settings_number => Arc::clone(reading),
            _ => {
                let reading: Arc<str> = self.settings.reading(None).into();
                self.reading = Some((self.settings_number, Arc::clone(&reading)));
                reading
            }
        }
    }
}

fn is_preparing(plan: &Plan) -> bool {
    plan.prepares.is_some() || super::request::pin_of(plan).is_some()
}
