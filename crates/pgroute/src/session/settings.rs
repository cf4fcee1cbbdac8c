//! What a session has set.
//!
//! A change counts when its statement has succeeded, and for good when its transaction has. A failed transaction takes back what
//! was set in it, and `ROLLBACK TO` what was set since the savepoint. Several statements in one text without `BEGIN` are one
//! transaction too: when the last of them fails, the first one's `SET` is taken back.
//!
//! `SET LOCAL` is not kept: it ends with the transaction, and until then the backend is the session's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::classify::{Kind, Scope, Setting};
use crate::wire::backend::TransactionStatus;

/// A setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// As it stood in a `SET`: it can stand in another one.
    Written(String),
    /// As the startup message or a report had it: a plain text.
    Plain(String),
}

/// What a backend has been told, by name. What is not there is as the backend began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied(BTreeMap<String, Value>);

impl Applied {
    /// Whether the backend is as it began.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It has been reset.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Settings that say who the session is. What others may be set to depends on them.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

/// Changes since a savepoint, or since the beginning of the transaction.
#[derive(Clone, Debug, Default)]
struct Level {
    savepoint: Option<String>,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Set(Setting),
    ResetAll,
    Discard,
}

/// What a session has set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    initial: BTreeMap<String, Value>,
    current: BTreeMap<String, Value>,
    open: Vec<Level>,
    has_failed: bool,
}

impl Settings {
    /// Of a session that begins with these settings, from its startup message.
    pub fn new(startup: &[(String, String)]) -> Self {
        let pairs = startup.iter().map(|(name, value)| (name.to_ascii_lowercase(), Value::Plain(value.clone())));
        let initial: BTreeMap<_, _> = pairs.collect();
        Self { current: initial.clone(), initial, open: Vec::new(), has_failed: false }
    }

    /// A value that is not as a backend begins, transactions that are under way left aside.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.current.get(name)
    }

    /// A statement has succeeded, and said `tag` at its end.
    pub fn succeeded(&mut self, kind: &Kind, tag: &[u8]) {
        match kind {
            Kind::Set(settings) => {
                let session = settings.iter().filter(|setting| setting.scope == Scope::Session);
                let changes = session.cloned().map(Change::Set);
                self.level().changes.extend(changes);
            }
            Kind::ResetAll => self.level().changes.push(Change::ResetAll),
            Kind::DiscardAll => self.level().changes.push(Change::Discard),
            // A `COMMIT` of a transaction that has failed says that it was a rollback.
            Kind::Commit { .. } | Kind::PrepareTransaction if tag != b"ROLLBACK" => self.commit(),
            Kind::Commit { .. } | Kind::PrepareTransaction | Kind::Rollback { .. } => self.open.clear(),
            Kind::Savepoint(name) => {
                self.level();
                self.open.push(Level { savepoint: Some(name.clone()), changes: Vec::new() });
            }
            Kind::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    let changes = self.open.drain(at..).flat_map(|level| level.changes).collect::<Vec<_>>();
                    self.level().changes.extend(changes);
                }
            }
            Kind::RollbackTo(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.open.truncate(at + 1);
                    self.open[at].changes.clear();
                    self.has_failed = false;
                }
            }
            _ => {}
        }
    }

    /// A statement has failed.
    pub fn failed(&mut self) {
        self.has_failed = true;
    }

    /// The backend waits for the next query: outside of a transaction, what was set without one counts now, or not at all.
    pub fn ready(&mut self, status: TransactionStatus) {
        if status == TransactionStatus::Idle {
            if self.has_failed {
                self.open.clear();
            } else {
                self.commit();
            }
        }
        self.has_failed = false;
    }

    /// The backend has reported a value: what was tracked is corrected by it where it was something else. Reports come in the middle of
    /// transactions as well, and those are not for good; so only what the session has outside of one is corrected.
    pub fn reported(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        if self.open.is_empty() && self.current.contains_key(&name) {
            self.current.insert(name, Value::Plain(value.to_owned()));
        }
    }

    /// What was found to be set, outside of a transaction, where nobody could see it change.
    pub fn observed(&mut self, name: &str, value: &str, default: &str) {
        let is_known = match self.current.get(name) {
            Some(Value::Plain(known)) => known == value,
            Some(Value::Written(_)) => false,
            None => value == default,
        };
        if !is_known {
            self.current.insert(name.to_owned(), Value::Plain(value.to_owned()));
        }
    }

    /// Everything that may change what the texts of statements mean, as one text: all settings but these.
    pub fn reading(&self, but: &[&str]) -> String {
        let mut text = String::new();
        for (name, value) in self.current.iter().filter(|(name, _)| !but.contains(&name.as_str())) {
            let (kind, value) = match value {
                Value::Written(value) => ('=', value),
                Value::Plain(value) => (':', value),
            };
            write!(text, "{name}{kind}{}:{value};", value.len()).expect("a string takes everything");
        }
        text
    }

    /// Whether the session began with settings of its own, which no `RESET` of a backend brings back.
    pub fn has_initial(&self) -> bool {
        !self.initial.is_empty()
    }

    /// What a backend has to be told, as one text, to be as this client left it; nothing if it is. It counts as told.
    pub fn difference(&self, applied: &mut Applied) -> Option<String> {
        if applied.0 == self.current {
            return None;
        }
        let mut text = String::new();
        // Whoever it was before may not be allowed to set what follows.
        for name in IDENTITY.iter().rev() {
            if applied.0.get(*name) != self.current.get(*name) && applied.0.remove(*name).is_some() {
                reset(&mut text, name);
            }
        }
        let gone: Vec<_> = applied.0.keys().filter(|name| !self.current.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| reset(&mut text, name));
        let is_identity = |name: &str| IDENTITY.contains(&name);
        let others = self.current.iter().filter(|(name, _)| !is_identity(name));
        let identity = IDENTITY.iter().filter_map(|name| self.current.get_key_value(*name));
        for (name, value) in others.chain(identity).filter(|(name, value)| applied.0.get(*name) != Some(value)) {
            set(&mut text, name, value);
        }
        applied.0.clone_from(&self.current);
        (!text.is_empty()).then_some(text)
    }

    /// A backend that ran everything that was asked for here is like it.
    pub fn applied(&self) -> Applied {
        Applied(self.current.clone())
    }

    fn level(&mut self) -> &mut Level {
        if self.open.is_empty() {
            self.open.push(Level::default());
        }
        self.open.last_mut().expect("there is one at least")
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.open.iter().rposition(|level| level.savepoint.as_deref() == Some(name))
    }

    fn commit(&mut self) {
        for change in std::mem::take(&mut self.open).into_iter().flat_map(|level| level.changes) {
            match change {
                Change::Set(setting) => self.set(setting),
                Change::ResetAll => {
                    let identity = |(name, _): &(&String, &Value)| IDENTITY.contains(&name.as_str());
                    let kept: Vec<_> = self
                        .current
                        .iter()
                        .filter(identity)
                        .map(|(name, value)| (name.clone(), value.clone()))
                        .collect();
                    self.current = self.initial.clone();
                    self.current.extend(kept);
                }
                Change::Discard => self.current = self.initial.clone(),
            }
        }
    }

    fn set(&mut self, setting: Setting) {
        // A new user of the session begins without a role.
        if setting.name == IDENTITY[0] {
            self.current.remove(IDENTITY[1]);
        }
        let value = setting.value.map(Value::Written).or_else(|| self.initial.get(&setting.name).cloned());
        match value {
            Some(value) => self.current.insert(setting.name, value),
            None => self.current.remove(&setting.name),
        };
    }
}

fn set(text: &mut String, name: &str, value: &Value) {
    let written = match value {
        // These two have no form with a sign.
        Value::Written(value) if name == "session_authorization" => write!(text, "SET SESSION AUTHORIZATION {value};"),
        Value::Written(value) if name == "timezone" => write!(text, "SET TIME ZONE {value};"),
        Value::Written(value) => write!(text, "SET {} TO {value};", identifier(name)),
        Value::Plain(value) => {
            write!(text, "SELECT pg_catalog.set_config({}, {}, false);", literal(name), literal(value))
        }
    };
    written.expect("a string takes everything");
}

fn reset(text: &mut String, name: &str) {
    let written = match name {
        "session_authorization" => write!(text, "RESET SESSION AUTHORIZATION;"),
        _ => write!(text, "RESET {};", identifier(name)),
    };
    written.expect("a string takes everything");
}

/// A name in quotes, each of its parts.
fn identifier(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

/// A text in quotes, whatever the session thinks of backslashes.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}
