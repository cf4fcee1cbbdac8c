//! One statement: what kind it is.

use super::read::{self, effects_of};
use super::setting::{self, Setting};
use super::{Catalogue, Effects, Lexeme, Words};

/// A statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What kind it is.
    pub kind: Kind,
    /// What it does to its session.
    pub effects: Effects,
    /// Whether a replica may serve it.
    pub is_read: bool,
}

/// How a transaction that begins may access the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether it only reads, if it says so.
    pub read_only: Option<bool>,
    /// Whether it is serializable, which a replica cannot do, if it says so.
    pub serializable: Option<bool>,
}

/// What kind of statement it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It begins as a read does; whether it is one is [`Statement::is_read`].
    Query,
    /// It changes rows.
    Change,
    /// It changes what there is: tables, functions, schemas. Plans that were made before may be stale afterwards.
    Definition,
    /// The same, for all databases of the server.
    Global(Global),
    /// A transaction begins.
    Begin(Access),
    /// Modes of the transaction that is under way.
    SetTransaction(Access),
    /// The transaction ends well; with `AND CHAIN` another one begins.
    Commit {
        /// Whether another one begins.
        chain: bool,
    },
    /// The transaction is taken back as a whole.
    Rollback {
        /// Whether another one begins.
        chain: bool,
    },
    /// A part of the transaction begins.
    Savepoint(String),
    /// A part of the transaction becomes one with what is around it.
    Release(String),
    /// The transaction is taken back to where a part of it began.
    RollbackTo(String),
    /// When constraints are checked changes, for the transaction that is under way.
    SetConstraints,
    /// The transaction is prepared for a commit in two phases; it belongs to no session then.
    PrepareTransaction,
    /// A prepared transaction ends.
    FinishPrepared,
    /// Settings change.
    Set(Vec<Setting>),
    /// All settings become what they were at the session's beginning.
    ResetAll,
    /// The value of a setting is asked for.
    Show(String),
    /// The session is made new, as a whole.
    DiscardAll,
    /// Plans, sequences or temporary tables are dropped.
    Discard,
    /// A statement is prepared by a statement.
    Prepare {
        /// Its name.
        name: String,
        /// Whether a replica may serve it.
        is_read: bool,
    },
    /// A prepared statement is run by a statement.
    Execute(String),
    /// A prepared statement is forgotten, or all of them are.
    Deallocate(Option<String>),
    /// A cursor is opened, read from, or closed.
    Cursor,
    /// A channel is listened to.
    Listen(String),
    /// A channel is no longer listened to, or none is.
    Unlisten(Option<String>),
    /// A channel is notified.
    Notify,
    /// Rows are copied in or out.
    Copy,
    /// Anything else. It goes to the primary, and may do anything.
    Other,
}

/// What a change of databases and roles asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Global {
    /// Nobody else may be connected to this database meanwhile: it is dropped, renamed, moved or copied.
    Alone(String),
    /// Sessions begin with something else from then on, or may not begin: a database or a role was changed.
    Beginning,
}

/// Reads one statement to its end, where a semicolon or nothing stands.
pub(super) fn read(words: &mut Words<'_>, catalogue: &Catalogue) -> Statement {
    let mut effects = Effects::default();
    let (kind, is_read) = kind(words, catalogue, &mut effects);
    words.skip_rest();
    Statement { kind, effects, is_read }
}

fn kind(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects) -> (Kind, bool) {
    let keyword = words.keyword();
    let at_start = matches!(keyword.as_str(), "select" | "with" | "values" | "table")
        || words.token.is_some_and(|token| token.is_mark(b'('));
    if at_start {
        return query(words, catalogue, effects);
    }
    if words.token.is_some_and(|token| token.kind == Lexeme::Word) {
        words.advance();
    }
    let kind = match keyword.as_str() {
        "insert" | "update" | "delete" | "merge" | "truncate" | "lock" | "refresh" => {
            calls(words, catalogue, effects);
            // Triggers and defaults of tables: without a catalogue, nobody knows of them.
            effects.opaque |= !catalogue.is_known();
            Kind::Change
        }
        "begin" | "start" => begin(words),
        "commit" | "end" | "rollback" | "abort" => end(words, keyword.as_str(), effects),
        "savepoint" => words.take_name().map_or_else(|| other(effects), Kind::Savepoint),
        "release" => {
            words.take("savepoint");
            words.take_name().map_or_else(|| other(effects), Kind::Release)
        }
        "set" => return (set(words, effects), false),
        "reset" => match setting::reset(words) {
            Some(Some(setting)) => Kind::Set(vec![setting]),
            Some(None) => Kind::ResetAll,
            None => other(effects),
        },
        "show" => show(words),
        "discard" => match words.keyword().as_str() {
            "all" => Kind::DiscardAll,
            _ => Kind::Discard,
        },
        "prepare" => prepare(words, catalogue, effects),
        "execute" => execute(words, catalogue, effects),
        "deallocate" => deallocate(words).unwrap_or_else(|| other(effects)),
        "declare" | "fetch" | "move" | "close" => cursor(words, catalogue, effects, keyword.as_str()),
        "listen" => match words.take_name() {
            Some(name) if words.is_end() => Kind::Listen(name),
            _ => other(effects),
        },
        "unlisten" => match words.token {
            Some(token) if token.text == b"*" => Kind::Unlisten(None),
            _ => words.take_name().map_or_else(|| other(effects), |name| Kind::Unlisten(Some(name))),
        },
        "notify" => {
            effects.notifies = true;
            Kind::Notify
        }
        "copy" => {
            calls(words, catalogue, effects);
            effects.opaque |= !catalogue.is_known();
            Kind::Copy
        }
        "explain" => return explain(words, catalogue, effects),
        "create" | "alter" | "drop" | "grant" | "revoke" | "comment" | "security" | "reindex" | "cluster"
        | "import" | "reassign" => definition(words, keyword.as_str(), effects),
        "vacuum" | "analyze" | "analyse" | "checkpoint" => Kind::Change,
        "load" => {
            effects.irreversible = true;
            Kind::Other
        }
        _ => other(effects),
    };
    (kind, false)
}

/// What is not understood, `DO` and `CALL` among others, may do anything.
fn other(effects: &mut Effects) -> Kind {
    effects.opaque = true;
    Kind::Other
}

fn query(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects) -> (Kind, bool) {
    let found = read::read(words, catalogue);
    effects.join(found.effects);
    // A query with a statement before it that changes rows.
    effects.opaque |= found.changes && !catalogue.is_known();
    (Kind::Query, found.is_read)
}

/// What the functions that a statement calls do to its session, whatever else it is.
fn calls(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects) {
    effects.join(read::read_change(words, catalogue).effects);
}

/// What is run is not said here: whoever knows the name knows what it does.
fn execute(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects) -> Kind {
    let Some(name) = words.take_name() else { return other(effects) };
    calls(words, catalogue, effects);
    effects.executes = true;
    words.executes.push(name.clone());
    Kind::Execute(name)
}

fn begin(words: &mut Words<'_>) -> Kind {
    words.take("work");
    words.take("transaction");
    Kind::Begin(access(words))
}

fn access(words: &mut Words<'_>) -> Access {
    let modes = setting::modes(words);
    Access { read_only: modes.read_only, serializable: modes.isolation.map(|level| level == "serializable") }
}

fn end(words: &mut Words<'_>, keyword: &str, effects: &mut Effects) -> Kind {
    if words.take("prepared") {
        return Kind::FinishPrepared;
    }
    words.take("work");
    words.take("transaction");
    if words.take("to") {
        words.take("savepoint");
        return words.take_name().map_or_else(|| other(effects), Kind::RollbackTo);
    }
    let chain = words.take("and") && !words.take("no") && words.take("chain");
    match keyword {
        "commit" | "end" => Kind::Commit { chain },
        _ => Kind::Rollback { chain },
    }
}

fn set(words: &mut Words<'_>, effects: &mut Effects) -> Kind {
    if words.keyword().as_str() == "transaction" {
        words.advance();
        // A snapshot of another transaction belongs to one server; it passes as it is.
        return Kind::SetTransaction(access(words));
    }
    if words.keyword().as_str() == "constraints" {
        return Kind::SetConstraints;
    }
    let Some(settings) = setting::set(words) else { return other(effects) };
    for setting in &settings {
        // What is made from now on may be temporary without saying so.
        let is_path = setting.name == "search_path";
        let names_temporary = |value: &String| value.to_ascii_lowercase().contains("pg_temp");
        effects.temporary |= is_path && setting.value.as_ref().is_some_and(names_temporary);
        // `setseed` by another name.
        effects.irreversible |= setting.name == "seed";
    }
    Kind::Set(settings.into_iter().filter(|setting| setting.name != "seed").collect())
}

fn show(words: &mut Words<'_>) -> Kind {
    let mut name = String::new();
    while !words.is_end() {
        match words.take_name() {
            Some(part) => name.push_str(&part.to_ascii_lowercase()),
            None if words.token.is_some_and(|token| token.is_mark(b'.')) => {
                name.push('.');
                words.advance();
            }
            None => break,
        }
    }
    // The two that are written as several words.
    let name = match name.as_str() {
        "timezone" => "timezone".to_owned(),
        "transactionisolationlevel" => "transaction_isolation".to_owned(),
        "sessionauthorization" => "session_authorization".to_owned(),
        _ => name,
    };
    Kind::Show(name)
}

fn prepare(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects) -> Kind {
    if words.take("transaction") {
        return Kind::PrepareTransaction;
    }
    let Some(name) = words.take_name() else { return other(effects) };
    if words.token.is_some_and(|token| token.is_mark(b'(')) {
        while !(words.is_end() || words.depth == 0 && words.token.is_some_and(|token| token.is_word("as"))) {
            words.advance();
        }
    }
    if !words.take("as") {
        return other(effects);
    }
    let (_, is_read) = kind(words, catalogue, effects);
    Kind::Prepare { name, is_read }
}

fn deallocate(words: &mut Words<'_>) -> Option<Kind> {
    words.take("prepare");
    let is_all = words.token.is_some_and(|token| token.is_word("all"));
    let name = words.take_name()?;
    if !is_all {
        words.executes.push(name.clone());
    }
    Some(Kind::Deallocate((!is_all).then_some(name)))
}

fn cursor(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects, keyword: &str) -> Kind {
    if keyword == "declare" {
        while !words.is_end() && !words.token.is_some_and(|token| token.is_word("for")) {
            effects.holds_cursor |= words.token.is_some_and(|token| token.is_word("hold"))
                && words.before.is_some_and(|before| before.is_word("with"));
            words.advance();
        }
        words.advance();
        let _ = query(words, catalogue, effects);
    }
    Kind::Cursor
}

/// `EXPLAIN` does what it explains only with `ANALYZE`; without, it plans, which a replica can do for a read.
fn explain(words: &mut Words<'_>, catalogue: &Catalogue, effects: &mut Effects) -> (Kind, bool) {
    if words.token.is_some_and(|token| token.is_mark(b'(')) {
        words.advance();
        while !words.is_end() && words.depth > 0 {
            words.advance();
        }
    }
    while ["analyze", "analyse", "verbose"].iter().any(|word| words.take(word)) {}
    match kind(words, catalogue, effects) {
        (Kind::Query, is_read) => (Kind::Query, is_read),
        (kind @ (Kind::Definition | Kind::Global(_) | Kind::Execute(_)), _) => (kind, false),
        _ => (Kind::Change, false),
    }
}

fn definition(words: &mut Words<'_>, keyword: &str, effects: &mut Effects) -> Kind {
    // Defaults, checks, queries, scripts of extensions and triggers of events run functions, and what stands before a parenthesis here is mostly
    // something else. Definitions are rare: all of them may do anything.
    effects.opaque = true;
    let global = global(words, keyword);
    // The body of a function in SQL is a statement within this one, with semicolons of its own. Whatever follows cannot be told from
    // it, so all of it counts as this statement.
    let mut is_body = false;
    while let Some(token) = words.token {
        if words.is_broken || !is_body && words.is_end() {
            break;
        }
        let is_after = |keyword: &str| words.before.is_some_and(|before| before.is_word(keyword));
        is_body |= token.is_word("atomic") && is_after("begin");
        effects.temporary |= token.is_word("temp") || token.is_word("temporary");
        if let Some(name) = token.name() {
            // `CREATE TABLE ... AS EXECUTE name`. That something else may stand here, such as `FUNCTION`, does no harm.
            if is_after("execute") {
                words.executes.push(name.clone().into_owned());
            }
            effects.temporary |= read::is_temporary_schema(&name);
            effects.join(effects_of(&name));
        }
        words.advance();
    }
    global.map_or(Kind::Definition, Kind::Global)
}

/// What a definition asks for that is of a database or a role, from behind its keyword.
fn global(words: &mut Words<'_>, keyword: &str) -> Option<Global> {
    match words.keyword().as_str() {
        "database" => {
            words.advance();
            if words.take("if") {
                words.take("exists");
            }
            let name = words.take_name()?;
            match keyword {
                "drop" => Some(Global::Alone(name)),
                "create" => Some(Global::Alone(template(words))),
                "alter" if ["rename", "set"].iter().any(|word| words.take(word)) => {
                    let is_moved = words.take("to") || words.take("tablespace");
                    Some(if is_moved { Global::Alone(name) } else { Global::Beginning })
                }
                "alter" => Some(Global::Beginning),
                _ => None,
            }
        }
        "role" | "user" | "group" if matches!(keyword, "alter" | "drop") => {
            words.advance();
            (!words.take("mapping")).then_some(Global::Beginning)
        }
        _ => None,
    }
}

/// The database that a new one is a copy of.
fn template(words: &mut Words<'_>) -> String {
    while !words.is_end() {
        if words.take("template") {
            if words.token.is_some_and(|token| token.text == b"=") {
                words.advance();
            }
            let is_default = words.token.is_some_and(|token| token.is_word("default"));
            return words.take_name().filter(|_| !is_default).unwrap_or_else(|| TEMPLATE.to_owned());
        }
        words.advance();
    }
    TEMPLATE.to_owned()
}

/// What new databases are a copy of where nothing else is said.
const TEMPLATE: &str = "template1";
