//! What a text asks of the database, and so where it may go.
//!
//! A replica may serve what only reads. Which statements those are is decided here by their words, found exactly as PostgreSQL
//! finds them ([`crate::scan`]), and not by a tree: `docs/architecture/pgproxy.md` has the measurements. The rule leans one way.
//! A text is [`Route::Replica`] when everything in it is known to be harmless; whatever is unknown, broken or too new goes to the
//! primary, where it means what it means without a proxy. So what can be wrong is that a read does not reach a replica.
//!
//! What makes a `SELECT` more than a read:
//!
//! - `INTO`, which makes a table; `FOR UPDATE` and its kin, which lock rows; `INSERT`, `UPDATE`, `DELETE` or `MERGE` behind a
//!   parenthesis, which is a common table expression that writes or stands before a statement that does.
//! - A function that is not known to be stable, from the [`Catalogue`]: volatile ones may write, lock, or ask about their own server.
//! - A name that only the primary can answer for: sequences, unlogged tables, views over volatile functions, the server's own
//!   statistics; and, since `t.f` may mean `f(t)`, functions that can be written like a column.
//! - An operator that stands for such a function.
//!
//! What words cannot show is a cast by a volatile function, a row policy that calls one, or a function that lies about itself.
//! `docs/architecture/pgproxy.md` says so to operators.
//!
//! Beside the route, a text has [`Effects`] on its session, which [`crate::session`] keeps account of.

mod cache;
mod catalogue;
mod read;
mod setting;
mod statement;

use crate::scan::{Kind as Lexeme, Scanner, Token};

pub use cache::Cache;
pub use catalogue::{Catalogue, Function};
pub(crate) use setting::literal;
pub use setting::{Scope, Setting};
pub use statement::{Access, Global, Kind, Statement};

/// Where a text may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Route {
    /// To a replica that is current enough for its client, or to the primary.
    Replica,
    /// To the primary alone.
    #[default]
    Primary,
}

/// What a text does to its session beyond its transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It makes temporary tables, which live as long as their connection.
    pub temporary: bool,
    /// It takes an advisory lock that its session holds.
    pub advisory_lock: bool,
    /// It opens a cursor that outlives its transaction.
    pub holds_cursor: bool,
    /// It loads a library or changes something that no reset takes back.
    pub irreversible: bool,
    /// It asks what its session has done before, such as `currval`.
    pub recalls: bool,
    /// It may do anything to its session where nobody can see it, such as within a function: settings, temporary tables, prepared statements, locks.
    /// Its backend is reset before anybody else has it.
    pub opaque: bool,
    /// It could not be looked into at all, so that whatever it leaves to its session would be taken away by a reset.
    pub unknown: bool,
    /// It changes a setting for its session by a function, and nobody tells to what.
    pub hides_setting: bool,
    /// It runs statements that were prepared before, and does what those do.
    pub executes: bool,
    /// It notifies a channel for certain, if it does what it says.
    pub notifies: bool,
}

impl Effects {
    fn join(&mut self, other: Self) {
        self.temporary |= other.temporary;
        self.advisory_lock |= other.advisory_lock;
        self.holds_cursor |= other.holds_cursor;
        self.irreversible |= other.irreversible;
        self.recalls |= other.recalls;
        self.opaque |= other.opaque;
        self.unknown |= other.unknown;
        self.hides_setting |= other.hides_setting;
        self.executes |= other.executes;
        self.notifies |= other.notifies;
    }
}

/// What a comment asks for: `/* tenfold: primary */` or `/* tenfold: replica */`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// To the primary.
    Primary,
    /// To a replica, whatever the text looks like. Whoever writes this answers for it; a replica refuses what writes.
    Replica,
}

/// What a text is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where it may go, its hint considered.
    pub route: Route,
    /// What it does to its session.
    pub effects: Effects,
    /// Its statements, in order. Empty ones between semicolons are left out.
    pub statements: Vec<Statement>,
    /// What its comment asks for.
    pub hint: Option<Hint>,
    /// Names of prepared statements that it runs, describes or forgets.
    pub executes: Vec<String>,
    /// The text itself, where it prepares one statement and does nothing else: to be said again elsewhere.
    pub prepares: Option<Box<[u8]>>,
    /// Whether it may look at what its session has prepared: it names `pg_prepared_statements`, or the function behind it.
    pub shows_prepared: bool,
}

impl Plan {
    /// What is assumed of a text that cannot be looked into: anything. Its session keeps its backend.
    pub fn unknown() -> Self {
        Self::with(Effects { opaque: true, unknown: true, ..Effects::default() })
    }

    /// What runs a prepared statement.
    pub fn execute(name: &str) -> Self {
        let plan = Self::with(Effects { executes: true, ..Effects::default() });
        let kind = Kind::Execute(name.to_owned());
        let statements = plan.statements.into_iter().map(|one| Statement { kind: kind.clone(), ..one }).collect();
        Self { statements, executes: vec![name.to_owned()], ..plan }
    }

    /// What is assumed of a text that no server takes as a whole, as far as can be seen.
    fn broken() -> Self {
        Self::with(Effects { opaque: true, ..Effects::default() })
    }

    /// Whether it reads rows by one statement, and its session does not have to know of it: it names nothing that was prepared, changes nothing, and
    /// leaves nothing behind.
    pub fn is_mere_read(&self) -> bool {
        let [one] = &self.statements[..] else { return false };
        one.is_read
            && matches!(one.kind, Kind::Query)
            && self.effects == Effects::default()
            && self.executes.is_empty()
            && self.prepares.is_none()
            && !self.shows_prepared
    }

    fn with(effects: Effects) -> Self {
        let statements = vec![Statement { kind: Kind::Other, effects, is_read: false }];
        Self { effects, statements, ..Self::default() }
    }

    /// The one statement, if there is just one.
    pub fn single(&self) -> Option<&Statement> {
        match &self.statements[..] {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// Most statements of a text that are looked at one by one; dumps and migrations come in such texts, and go to the primary.
pub const STATEMENTS_MAX: usize = 1000;

/// Says what a text is. `standard_strings` is the session's `standard_conforming_strings`.
///
/// ```
/// use pgroute::classify::{Catalogue, Route, classify};
///
/// let catalogue = Catalogue::default();
/// assert_eq!(classify(b"SELECT * FROM t WHERE id = $1", true, &catalogue).route, Route::Replica);
/// assert_eq!(classify(b"SELECT * FROM t FOR UPDATE", true, &catalogue).route, Route::Primary);
/// ```
pub fn classify(text: &[u8], standard_strings: bool, catalogue: &Catalogue) -> Plan {
    let mut words = Words::new(text, standard_strings);
    let shows_prepared = names_prepared(text);
    let mut plan = Plan { route: Route::Replica, shows_prepared, ..Plan::default() };
    loop {
        while words.token.is_some_and(|token| token.is_mark(b';')) {
            words.advance();
        }
        if words.token.is_none() {
            break;
        }
        if plan.statements.len() == STATEMENTS_MAX {
            return Plan::unknown();
        }
        let statement = statement::read(&mut words, catalogue);
        if words.is_broken {
            return Plan { hint: hint(&words), ..Plan::broken() };
        }
        plan.effects.join(statement.effects);
        if !statement.is_read {
            plan.route = Route::Primary;
        }
        plan.statements.push(statement);
    }
    plan.hint = hint(&words);
    plan.executes = std::mem::take(&mut words.executes);
    if matches!(plan.single().map(|one| &one.kind), Some(Kind::Prepare { .. })) {
        plan.prepares = Some(text.into());
    }
    match plan.hint {
        Some(Hint::Primary) => plan.route = Route::Primary,
        Some(Hint::Replica) => plan.route = Route::Replica,
        None if plan.statements.is_empty() => plan.route = Route::Primary,
        None => {}
    }
    plan
}

/// Whether a text has the name of the view of prepared statements, or of the function behind it, in small letters or in capitals. A name with
/// escapes may be that.
fn names_prepared(text: &[u8]) -> bool {
    const NAME: &[u8] = b"pg_prepared_statement";
    let names = memchr::memchr2_iter(b'p', b'P', text).filter_map(|at| text.get(at..at + NAME.len()));
    let is_escaped =
        memchr::memmem::find_iter(text, b"&\"").any(|at| at > 0 && text[at - 1].eq_ignore_ascii_case(&b'u'));
    is_escaped || names.into_iter().any(|name| name.eq_ignore_ascii_case(NAME))
}

fn hint(words: &Words<'_>) -> Option<Hint> {
    match words.scanner.hint()? {
        b"primary" => Some(Hint::Primary),
        b"replica" => Some(Hint::Replica),
        _ => None,
    }
}

/// The tokens of a text with one to look at, the one before it, and how deep in parentheses it stands.
struct Words<'t> {
    scanner: Scanner<'t>,
    token: Option<Token<'t>>,
    before: Option<Token<'t>>,
    depth: usize,
    standard_strings: bool,
    is_broken: bool,
    /// Prepared statements that were named so far.
    executes: Vec<String>,
}

impl<'t> Words<'t> {
    fn new(text: &'t [u8], standard_strings: bool) -> Self {
        let mut words = Self {
            scanner: Scanner::new(text, standard_strings),
            token: None,
            before: None,
            depth: 0,
            standard_strings,
            is_broken: false,
            executes: Vec::new(),
        };
        words.advance();
        words
    }

    fn advance(&mut self) {
        match self.token {
            Some(token) if token.is_mark(b'(') => self.depth += 1,
            Some(token) if token.is_mark(b')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.before = self.token;
        self.token = self.scanner.next();
        self.is_broken |= self.token.is_some_and(|token| token.kind == Lexeme::Broken);
    }

    /// Whether the statement is over here.
    fn is_end(&self) -> bool {
        self.token.is_none_or(|token| token.is_mark(b';') && self.depth == 0) || self.is_broken
    }

    /// The keyword here in lower case; empty if there is none.
    fn keyword(&self) -> Keyword {
        self.token.map_or_else(Keyword::default, |token| Keyword::of(&token))
    }

    /// Passes over a keyword if it is here.
    fn take(&mut self, keyword: &str) -> bool {
        let is_here = self.token.is_some_and(|token| token.is_word(keyword));
        if is_here {
            self.advance();
        }
        is_here
    }

    /// Passes over a name, and gives it as PostgreSQL folds it.
    fn take_name(&mut self) -> Option<String> {
        let name = self.token.as_ref()?.name()?.into_owned();
        self.advance();
        Some(name)
    }

    /// Passes over what is left of the statement.
    fn skip_rest(&mut self) {
        while !self.is_end() {
            self.advance();
        }
        self.depth = 0;
    }
}

/// A word in lower case, without memory of its own. Keywords are short: what is longer is none.
#[derive(Clone, Copy, Default)]
struct Keyword {
    bytes: [u8; 20],
    len: usize,
}

impl Keyword {
    fn of(token: &Token<'_>) -> Self {
        let mut keyword = Self::default();
        if token.kind == Lexeme::Word && token.text.len() <= keyword.bytes.len() {
            keyword.len = token.text.len();
            let bytes = &mut keyword.bytes[..keyword.len];
            bytes.copy_from_slice(token.text);
            bytes.make_ascii_lowercase();
        }
        keyword
    }

    /// The bytes of it, which cost no look at whether they are a text.
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}
