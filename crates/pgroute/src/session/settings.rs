//! What a session has set.
//!
//! A change counts when its statement has succeeded, and for good when its transaction has. A failed transaction takes back what
//! was set in it, and `ROLLBACK TO` what was set since the savepoint. Several statements in one text without `BEGIN` are one
//! transaction too: when the last of them fails, the first one's `SET` is taken back.
//!
//! `SET LOCAL` ends with the transaction, and until then the backend is the session's own. It is kept for that long, since it changes what
//! texts mean.
//!
//! What a session begins with is told to its backends by `SET`, and `RESET` there gives what the backend began with. A client that
//! resets something expects what it began with itself: [`Settings::restore`] sets it again, and until then the backend counts as one
//! without it.
//!
//! A backend is told in one text, which it reads under the settings of whoever had it before. So strings are written in the form `E'...'`, which
//! means the same to all of them, and a change of the encoding goes before everything that is not ASCII.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::Pin;
use crate::classify::{Kind, Scope, Setting, literal};
use crate::scan::Scanner;
use crate::wire::backend::TransactionStatus;

/// A setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// As it stood in a `SET`, its strings decoded and written anew: it can stand in another one.
    Written(String),
    /// As the startup message or a report had it: a plain text.
    Plain(String),
}

impl Value {
    /// What it says, without quotes and escapes.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Written(value) => written_text(value),
            Self::Plain(value) => Cow::Borrowed(value),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Written(value) | Self::Plain(value) => value,
        }
    }
}

/// What a value says that is written as in a `SET` of ours: one string, or a word or number.
pub fn written_text(value: &str) -> Cow<'_, str> {
    let inner = value.trim().strip_prefix("E'").and_then(|rest| rest.strip_suffix('\''));
    inner.map_or(Cow::Borrowed(value.trim()), |inner| Cow::Owned(inner.replace("''", "'").replace("\\\\", "\\")))
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

/// The encoding in which a session's texts are written, those included that tell a backend of its settings.
const ENCODING: &str = "client_encoding";

/// Settings that are reported, and that nobody can set.
const OF_THE_SERVER: [&str; 5] =
    ["in_hot_standby", "integer_datetimes", "is_superuser", "server_encoding", "server_version"];

/// Settings whose values are lists of names. As a plain text all of it would be one name.
const LISTS: [&str; 4] = ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"];

/// Settings by which no text ever means anything else: they say who asks, how long it may take, and what is logged.
const NOT_OF_READING: &[&str] = &[
    "application_name",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
];

/// Names and values of a session take no more than this; one that is a fifth of it is a mistake, or an attack. Beyond, its session has to keep its
/// backend.
const BYTES_MAX: usize = 256 * 1024;

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
    /// What resets took from the backend was set again.
    Restored,
}

/// What a session has set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    initial: BTreeMap<String, Value>,
    current: BTreeMap<String, Value>,
    /// Names that the session has from its beginning, and that its backend does not have any more: a reset there gives what the backend
    /// began with.
    lost: BTreeSet<String>,
    open: Vec<Level>,
    /// What the server has said since it was outside of transactions, and whether that is how a backend begins.
    reports: BTreeMap<String, (String, bool)>,
    has_failed: bool,
    is_over: bool,
}

/// A state of settings that changes are made to.
#[derive(Clone, Debug)]
struct Now {
    current: BTreeMap<String, Value>,
    lost: BTreeSet<String>,
}

impl Settings {
    /// Of a session that begins with these settings, from its startup message.
    pub fn new(startup: &[(String, String)]) -> Self {
        let pairs = startup.iter().map(|(name, value)| (name.to_ascii_lowercase(), Value::Plain(value.clone())));
        let initial: BTreeMap<_, _> = pairs.collect();
        Self { current: initial.clone(), initial, ..Self::default() }
    }

    /// A value that is not as a backend begins, transactions that are under way left aside.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.current.get(name)
    }

    /// A statement has succeeded, and said `tag` at its end.
    pub fn succeeded(&mut self, kind: &Kind, tag: &[u8]) {
        match kind {
            Kind::Set(settings) => settings.iter().for_each(|setting| self.change(setting)),
            Kind::ResetAll => self.level().changes.push(Change::ResetAll),
            Kind::DiscardAll => self.level().changes.push(Change::Discard),
            Kind::Begin(_) => {
                self.level();
            }
            // A `COMMIT` of a transaction that has failed says that it was a rollback.
            Kind::Commit { chain } | Kind::Rollback { chain } => {
                if matches!(kind, Kind::Commit { .. }) && tag != b"ROLLBACK" {
                    self.commit();
                }
                self.open.clear();
                if *chain {
                    self.level();
                }
            }
            Kind::PrepareTransaction if tag != b"ROLLBACK" => self.commit(),
            Kind::PrepareTransaction => self.open.clear(),
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

    fn change(&mut self, setting: &Setting) {
        let bytes = |setting: &Setting| setting.name.len() + setting.value.as_ref().map_or(0, String::len) + 64;
        let changes = self.open.iter().flat_map(|level| &level.changes);
        let open: usize =
            changes.map(|change| if let Change::Set(setting) = change { bytes(setting) } else { 64 }).sum();
        let known: usize = self.current.iter().map(|(name, value)| name.len() + value.as_str().len() + 64).sum();
        if open + known + bytes(setting) > BYTES_MAX {
            self.is_over = true;
            return;
        }
        self.level().changes.push(Change::Set(setting.clone()));
    }

    /// Why the session has to keep its backend, as far as that is for its settings: there are more than are tracked, or its tables are temporary
    /// without saying so. To be asked when settings have changed, and once at the beginning.
    pub fn pin(&self) -> Option<Pin> {
        let is_temporary = |map: &BTreeMap<String, Value>| {
            map.get("search_path").is_some_and(|path| path.as_str().to_ascii_lowercase().contains("pg_temp"))
        };
        if self.is_over {
            return Some(Pin::Unknown);
        }
        (is_temporary(&self.initial) || is_temporary(&self.current)).then_some(Pin::TemporaryTable)
    }

    /// The backend waits for the next query: outside of a transaction, what was set without one counts now, or not at all. What it has
    /// reported until then is the truth.
    pub fn ready(&mut self, status: TransactionStatus) {
        if status == TransactionStatus::Idle {
            if self.has_failed {
                self.open.clear();
            } else {
                self.commit();
            }
            while let Some((name, (value, is_default))) = self.reports.pop_first() {
                if !self.lost.contains(&name) && (!is_default || self.current.contains_key(&name)) {
                    self.current.insert(name, Value::Plain(value));
                }
            }
        }
        self.has_failed = false;
    }

    /// The backend has reported a value. It counts when no transaction is open any more: what was reported within one is reported again if it is
    /// taken back. `default` is what backends report at their beginning, if it is known.
    pub fn reported(&mut self, name: &str, value: &str, default: Option<&str>) {
        let name = name.to_ascii_lowercase();
        if !OF_THE_SERVER.contains(&name.as_str()) {
            self.reports.insert(name, (value.to_owned(), default.is_none_or(|default| default == value)));
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

    /// Whether the session began with settings of its own, which no `RESET` of a backend brings back.
    pub fn has_initial(&self) -> bool {
        !self.initial.is_empty()
    }

    /// Whether a transaction is open that has changed any.
    pub fn is_changing(&self) -> bool {
        !self.open.is_empty()
    }

    /// Everything that may change what the texts of statements mean, as one text: all settings but a few, those included that end with the
    /// transaction. Literals become values when they are parsed, by the time zone among others. `apart` is the number of a session that has what
    /// others have not: temporary tables, or settings that nobody could see.
    pub fn reading(&self, apart: Option<u64>) -> String {
        let now = self.now(true);
        let mut text = apart.map_or_else(String::new, |number| format!("#{number};"));
        for (name, value) in now.current.iter().filter(|(name, _)| !NOT_OF_READING.contains(&name.as_str())) {
            let (sign, value) = (if matches!(value, Value::Plain(_)) { ':' } else { '=' }, value.as_str());
            write!(text, "{name}{sign}{}:{value};", value.len()).expect("a string takes everything");
        }
        text
    }

    /// Whether a backend is as this client left it.
    pub fn is_applied(&self, applied: &Applied) -> bool {
        applied.0 == self.current
    }

    /// What a backend has to be told, as one text, to be as this client left it; nothing if it is. It counts as told. **To be called again
    /// until there is nothing**: a text is read as a whole before any of it is run, so a change of the encoding goes before what is written in it.
    pub fn difference(&self, applied: &mut Applied) -> Option<String> {
        if self.is_applied(applied) {
            return None;
        }
        let mut text = String::new();
        if self.encoding(applied, &mut text) && !self.current.values().all(|value| value.as_str().is_ascii()) {
            return Some(text);
        }
        // Whoever it was before may not be allowed to set what follows. A change of the session's user takes the role with it.
        let differs = |applied: &Applied, name: &str| applied.0.get(name) != self.current.get(name);
        if differs(applied, IDENTITY[0]) && applied.0.remove(IDENTITY[0]).is_some() {
            reset(&mut text, IDENTITY[0]);
            applied.0.remove(IDENTITY[1]);
        } else if IDENTITY.iter().any(|name| differs(applied, name)) && applied.0.remove(IDENTITY[1]).is_some() {
            reset(&mut text, IDENTITY[1]);
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

    /// Tells a backend of the encoding, if it has another one.
    fn encoding(&self, applied: &mut Applied, text: &mut String) -> bool {
        let wanted = self.current.get(ENCODING);
        if applied.0.get(ENCODING) == wanted {
            return false;
        }
        // The same bytes were other characters until now, so that nothing of it is as this client has it.
        let others = applied.0.values_mut().filter(|value| !value.as_str().is_ascii());
        others.for_each(|value| *value = Value::Written(String::new()));
        match wanted {
            Some(value) => {
                set(text, ENCODING, value);
                applied.0.insert(ENCODING.to_owned(), value.clone());
            }
            None => {
                reset(text, ENCODING);
                applied.0.remove(ENCODING);
            }
        }
        true
    }

    /// What resets took from the backend although the session has it from its beginning, as one text that sets it again; it counts as set. To be
    /// sent to the backend that the session has, before its next statement, within a transaction as well, but not in one that has failed.
    pub fn restore(&mut self) -> Option<String> {
        if self.initial.is_empty() {
            return None;
        }
        let now = self.now(false);
        let mut text = String::new();
        for name in &now.lost {
            if let Some(value) = now.current.get(name) {
                set(&mut text, name, value);
            }
        }
        if !text.is_empty() {
            match self.open.last_mut() {
                Some(level) => level.changes.push(Change::Restored),
                None => self.lost.clear(),
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// What a backend has that ran everything which was asked for here: what resets took from it is not among it. From now on, it is compared with
    /// what the session has by [`Settings::difference`].
    pub fn applied(&mut self) -> Applied {
        let lost = std::mem::take(&mut self.lost);
        Applied(
            self.current
                .iter()
                .filter(|(name, _)| !lost.contains(*name))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect(),
        )
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
        if self.open.is_empty() {
            return;
        }
        let mut now = Now { current: std::mem::take(&mut self.current), lost: std::mem::take(&mut self.lost) };
        for change in std::mem::take(&mut self.open).iter().flat_map(|level| &level.changes) {
            now.change(change, &self.initial, false);
        }
        (self.current, self.lost) = (now.current, now.lost);
    }

    /// How it is within the transaction that is under way. `locals` are settings that end with it.
    fn now(&self, locals: bool) -> Now {
        let mut now = Now { current: self.current.clone(), lost: self.lost.clone() };
        let changes = self.open.iter().flat_map(|level| &level.changes);
        changes.for_each(|change| now.change(change, &self.initial, locals));
        now
    }
}

impl Now {
    fn change(&mut self, change: &Change, initial: &BTreeMap<String, Value>, locals: bool) {
        match change {
            Change::Set(setting) if setting.scope == Scope::Session || locals => self.set(setting, initial),
            Change::Set(_) => {}
            Change::ResetAll => {
                self.current.retain(|name, _| IDENTITY.contains(&name.as_str()));
                for (name, value) in initial.iter().filter(|(name, _)| !IDENTITY.contains(&name.as_str())) {
                    self.current.insert(name.clone(), value.clone());
                    self.lost.insert(name.clone());
                }
            }
            Change::Discard => {
                self.current.clone_from(initial);
                self.lost = initial.keys().cloned().collect();
            }
            Change::Restored => self.lost.clear(),
        }
    }

    fn set(&mut self, setting: &Setting, initial: &BTreeMap<String, Value>) {
        // A new user of the session begins without a role.
        if setting.name == IDENTITY[0] {
            self.current.remove(IDENTITY[1]);
            self.lost.remove(IDENTITY[1]);
        }
        let name = setting.name.clone();
        match (&setting.value, initial.get(&name)) {
            (Some(value), _) => {
                self.lost.remove(&name);
                self.current.insert(name, Value::Written(value.clone()));
            }
            (None, Some(value)) => {
                self.lost.insert(name.clone());
                self.current.insert(name, value.clone());
            }
            (None, None) => {
                self.current.remove(&name);
            }
        }
    }
}

fn set(text: &mut String, name: &str, value: &Value) {
    let list = |value: &str| names(value).filter(|_| LISTS.contains(&name));
    let written = match value {
        // These two have no form with a sign.
        Value::Written(value) if name == "session_authorization" => write!(text, "SET SESSION AUTHORIZATION {value};"),
        Value::Written(value) if name == "timezone" => write!(text, "SET TIME ZONE {value};"),
        Value::Written(value) => write!(text, "SET {} TO {value};", identifier(name)),
        Value::Plain(value) if LISTS.contains(&name) => match list(value) {
            Some(names) => write!(text, "SET {} TO {};", identifier(name), names.join(", ")),
            // It is empty, or no list: the server says what it thinks of it.
            None => write!(text, "SELECT pg_catalog.set_config({}, {}, false);", literal(name), literal(value)),
        },
        // A statement that only sets, so that a transaction may still choose its mode behind it.
        Value::Plain(value) => write!(text, "SET {} TO {};", identifier(name), literal(value)),
    };
    written.expect("a string takes everything");
}

/// The names of a list as the server reads it, each as a string; nothing if there is none.
fn names(list: &str) -> Option<Vec<String>> {
    if list.contains("--") || list.contains("/*") {
        return None;
    }
    let (mut names, mut tokens) = (Vec::new(), Scanner::new(list.as_bytes(), true));
    loop {
        let token = tokens.next()?;
        names.push(literal(&token.name()?));
        match tokens.next() {
            None => return Some(names),
            Some(token) if token.is_mark(b',') => {}
            Some(_) => return None,
        }
    }
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
