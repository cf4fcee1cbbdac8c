//! What the database's own catalogue says of names, as far as it matters here. A shell asks [`Catalogue::QUERY`] and hands in what comes.

mod known;

use std::collections::{HashMap, HashSet};

use self::known::{HARMLESS, OF_THE_PRIMARY, RUNS_TEXT, STABLE};
use super::read::{self, effects_of};
use super::{Effects, Words};

/// What a function of a name may do; the worst of all that have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// It only reads.
    Stable,
    /// It may write, or it answers for its own server, but it leaves the session as it was.
    Volatile,
    /// It may do anything: volatile functions that users have written, and those of PostgreSQL's own that run a text.
    Opaque,
}

/// What a name stands for beside functions.
#[derive(Clone, Copy, Debug, Default)]
struct Special {
    /// Only the primary may be asked of it.
    primary: bool,
    /// Whoever reads from it may run any function.
    opaque: bool,
    /// Whoever changes it may.
    triggers: bool,
}

/// A text that belongs to a name: what a view or a rule runs, a default, a check, a policy.
#[derive(Clone, Debug)]
struct Definition {
    name: Box<str>,
    text: Box<str>,
    /// Whether it runs for whoever reads, too.
    is_read: bool,
}

/// Names of a database. Without any, what can be known of every database is used.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    functions: HashMap<Box<str>, Function>,
    names: HashMap<Box<str>, Special>,
    operators: HashSet<Box<str>>,
    has_opaque: bool,
    definitions: Vec<Definition>,
    /// Whoever changes the first changes the second: by a foreign key that acts, or by inheritance.
    leads: Vec<(Box<str>, Box<str>)>,
}

impl Catalogue {
    /// Asks a database for all of it: three columns of text, for [`Catalogue::add_row`]. Any role may ask.
    pub const QUERY: &str = known::QUERY;

    /// Takes a row of the answer to [`Catalogue::QUERY`]. [`Catalogue::settle`] is to be called behind the last one.
    pub fn add_row(&mut self, kind: &str, name: &str, detail: &str) {
        let boxed = |text: &str| -> Box<str> { text.into() };
        match (kind, detail.as_bytes()) {
            ("function", [volatility, owner, ..]) => self.add_function(name, *owner == b'b', *volatility),
            ("operator", _) => self.add_operator(name),
            ("primary", _) => self.add_primary(name),
            ("column", _) => self.add_opaque(name),
            ("trigger", _) => self.add_triggers(name),
            ("leads", _) => self.leads.push((boxed(name), boxed(detail))),
            ("view" | "policy" | "rule" | "expression", _) => {
                let is_read = matches!(kind, "view" | "policy");
                self.definitions.push(Definition { name: boxed(name), text: boxed(detail), is_read });
            }
            _ => {}
        }
    }

    /// Draws from texts and from what leads to what, until nothing new comes of it.
    pub fn settle(&mut self) {
        let (definitions, leads) = (std::mem::take(&mut self.definitions), std::mem::take(&mut self.leads));
        loop {
            let mut found = Vec::new();
            for definition in &definitions {
                let special = self.special_of(definition);
                let known = self.special(&definition.name);
                let is_new = |new: bool, known: bool| new && !known;
                if is_new(special.primary, known.primary)
                    || is_new(special.opaque, known.opaque)
                    || is_new(special.triggers, known.triggers)
                {
                    found.push((definition.name.clone(), special));
                }
            }
            let has_triggers = |name: &str| self.special(name).triggers;
            let led = leads.iter().filter(|(from, to)| has_triggers(to) && !has_triggers(from));
            found.extend(led.map(|(from, _)| (from.clone(), Special { triggers: true, ..Special::default() })));
            if found.is_empty() {
                return;
            }
            found.into_iter().for_each(|(name, special)| self.note(&name, special));
        }
    }

    /// What a text makes of the name that it belongs to.
    fn special_of(&self, definition: &Definition) -> Special {
        let text = &definition.text;
        let effects = |found: &read::Found| found.effects != Effects::default();
        let read = read::read(&mut Words::new(text.as_bytes(), true), self);
        let change = read::read_change(&mut Words::new(text.as_bytes(), true), self);
        Special {
            primary: definition.is_read && !read.is_read,
            opaque: definition.is_read && effects(&read),
            triggers: effects(&change),
        }
    }

    /// Adds a function. `is_builtin` says that it belongs to PostgreSQL, and `volatility` is `pg_proc.provolatile`.
    pub fn add_function(&mut self, name: &str, is_builtin: bool, volatility: u8) {
        let function = match volatility {
            _ if is_builtin && RUNS_TEXT.contains(&name) => Function::Opaque,
            b'i' | b's' if OF_THE_PRIMARY.contains(&name) => Function::Volatile,
            b'i' | b's' => Function::Stable,
            _ if is_builtin && HARMLESS.contains(&name) => Function::Stable,
            _ if is_builtin => Function::Volatile,
            _ => Function::Opaque,
        };
        let known = self.functions.entry(name.into()).or_insert(function);
        *known = function.max(*known);
    }

    /// Adds a name of which only the primary may be asked: a sequence, an unlogged table, a view over volatile functions.
    pub fn add_primary(&mut self, name: &str) {
        self.note(name, Special { primary: true, ..Special::default() });
    }

    /// Adds a name that runs functions which may do anything: a view over such, or one of them that takes one row and can be written like one of
    /// its columns.
    pub fn add_opaque(&mut self, name: &str) {
        self.note(name, Special { primary: true, opaque: true, triggers: true });
    }

    /// Adds a table where whoever changes rows runs functions that may do anything: by triggers, defaults, checks or rules.
    pub fn add_triggers(&mut self, name: &str) {
        self.note(name, Special { triggers: true, ..Special::default() });
    }

    fn note(&mut self, name: &str, special: Special) {
        let known = self.names.entry(name.into()).or_default();
        known.primary |= special.primary;
        known.opaque |= special.opaque;
        known.triggers |= special.triggers;
        self.has_opaque |= special.opaque || special.triggers;
    }

    fn special(&self, name: &str) -> Special {
        self.names.get(name).copied().unwrap_or_default()
    }

    /// Adds an operator whose function is volatile.
    pub fn add_operator(&mut self, symbol: &str) {
        self.operators.insert(symbol.into());
    }

    /// Whether a database was asked.
    pub fn is_known(&self) -> bool {
        !self.functions.is_empty()
    }

    /// What a function of this name may do, if there is one that is known.
    pub fn function(&self, name: &str) -> Option<Function> {
        match self.functions.get(name) {
            Some(function) => Some(*function),
            None if self.is_known() => None,
            None if STABLE.contains(&name) => Some(Function::Stable),
            // What these do is known, and looked at apart.
            None if effects_of(name) != Effects::default() || known::VOLATILE.contains(&name) => {
                Some(Function::Volatile)
            }
            None => None,
        }
    }

    /// Whether a name, as it stands in a text, could be a special one. Cheap, and often wrong.
    pub(super) fn may_be_special(&self, text: &[u8]) -> bool {
        let name = text.strip_prefix(b"\"").unwrap_or(text);
        !self.names.is_empty() || name.first().is_some_and(|first| matches!(first, b'p' | b'P')) || !text.is_ascii()
    }

    /// Whether only the primary may be asked of this name, wherever it stands.
    pub fn is_of_primary(&self, name: &str) -> bool {
        // Statistics and locks are those of one server, and of the session that asks.
        name.starts_with("pg_stat")
            || matches!(
                name,
                "pg_locks" | "pg_cursors" | "pg_prepared_statements" | "pg_settings" | "pg_replication_slots"
            )
            || self.special(name).primary
    }

    /// Whether whoever reads from this name, or, with `changes`, changes it, may run a function that may do anything.
    pub fn is_opaque(&self, name: &str, changes: bool) -> bool {
        let special = self.special(name);
        special.opaque || changes && special.triggers
    }

    /// Whether there is any name of which that is so.
    pub(super) fn has_opaque(&self) -> bool {
        self.has_opaque
    }

    /// Whether an operator stands for a function that a replica may not run.
    pub fn is_volatile_operator(&self, symbol: &str) -> bool {
        !self.operators.is_empty() && self.operators.contains(symbol)
    }
}
