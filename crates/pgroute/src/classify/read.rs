//! Statements that read, unless something in them does more: `SELECT`, `WITH`, `VALUES`, `TABLE`.

use std::borrow::Cow;

use super::{Catalogue, Effects, Function, Keyword, Lexeme, Token, Words};
use crate::scan::Scanner;

/// Keywords that are no name without quotes, neither of a function nor of a table. These lists are in order.
const RESERVED: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "current_time",
    "current_timestamp",
    "default",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "from",
    "group",
    "having",
    "in",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "returning",
    "select",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// Names of types and of functions with a grammar of their own. PostgreSQL lets no function be called by one of these names without quotes or a
/// schema, so a parenthesis behind them calls nothing.
const GRAMMAR: &[&str] = &[
    "between",
    "bigint",
    "bit",
    "boolean",
    "char",
    "character",
    "coalesce",
    "dec",
    "decimal",
    "exists",
    "extract",
    "float",
    "greatest",
    "grouping",
    "int",
    "integer",
    "interval",
    "least",
    "national",
    "nchar",
    "normalize",
    "nullif",
    "numeric",
    "overlay",
    "position",
    "precision",
    "real",
    "row",
    "smallint",
    "substring",
    "time",
    "timestamp",
    "treat",
    "trim",
    "values",
    "varchar",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

/// Keywords that may stand before a parenthesis and call nothing, although a function could have their names. If there is one
/// that does more than read, the catalogue decides.
const STRUCTURE: &[&str] = &[
    "by",
    "bytea",
    "cross",
    "cube",
    "escape",
    "filter",
    "full",
    "ilike",
    "inner",
    "is",
    "join",
    "json",
    "jsonb",
    "like",
    "materialized",
    "natural",
    "outer",
    "over",
    "overlaps",
    "range",
    "recursive",
    "rollup",
    "rows",
    "sets",
    "similar",
    "text",
    "timestamptz",
    "to",
    "uuid",
    "varying",
    "zone",
];

/// The same in statements that change or copy rows.
const STRUCTURE_OF_CHANGES: &[&str] =
    &["conflict", "csv", "force_not_null", "force_null", "force_quote", "insert", "set", "stdin", "stdout", "value"];
/// Settings that servers report when they change, and the two that are asked for after what nobody sees into.
const TOLD: &[&str] = &[
    "application_name",
    "client_encoding",
    "datestyle",
    "intervalstyle",
    "role",
    "search_path",
    "session_authorization",
    "standard_conforming_strings",
    "timezone",
];

/// What was found in a statement that begins as a read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) is_read: bool,
    pub(super) effects: Effects,
    /// Whether a part of it inserts, updates, deletes or merges.
    pub(super) changes: bool,
    is_change: bool,
    /// Whether something stands in it that must not be changed without a look at the session afterwards.
    has_triggers: bool,
}

/// Reads to the end of a statement that begins as a read.
pub(super) fn read(words: &mut Words<'_>, catalogue: &Catalogue) -> Found {
    read_as(words, catalogue, false)
}

/// Reads to the end of a statement that changes or copies rows.
pub(super) fn read_change(words: &mut Words<'_>, catalogue: &Catalogue) -> Found {
    read_as(words, catalogue, true)
}

fn read_as(words: &mut Words<'_>, catalogue: &Catalogue, is_change: bool) -> Found {
    let mut found = Found { is_read: true, is_change, ..Found::default() };
    let mut list = List { is_open: words.keyword().as_str() == "with", ..List::default() };
    // Whether a table stands here that columns may follow: `INSERT INTO s.t (a)`.
    let mut is_table = false;
    while !words.is_end() {
        let Some(token) = words.token else { break };
        let is_after = |keyword: &str| words.before.is_some_and(|before| before.is_word(keyword));
        let is_alias = is_after("as");
        let is_member = words.before.is_some_and(|before| before.is_mark(b'.'));
        let keyword = Keyword::of(&token);
        list.see(&token, keyword, words);
        let is_name = matches!(token.kind, Lexeme::Word | Lexeme::Quoted);
        is_table = is_name && (is_after("into") || is_change && is_after("copy") || is_table && is_member)
            || token.is_mark(b'.') && is_table;
        match token.kind {
            Lexeme::Word if !is_member => found.keyword(keyword.as_bytes(), words, list.is_open),
            Lexeme::Operator => found.operator(&token, catalogue),
            _ => {}
        }
        words.advance();
        if is_name {
            let is_call = words.token.is_some_and(|next| next.is_mark(b'('));
            let calls = is_call && !is_alias && !list.is_name && !is_table;
            found.name(&token, keyword, Place { calls, is_member }, &words.scanner, catalogue);
        }
    }
    words.depth = 0;
    found.effects.opaque |= found.has_triggers && (is_change || found.changes);
    found
}

/// The list of common table expressions at a statement's very beginning: their names may have columns in parentheses, and are no calls. Further
/// on a `WITH` belongs to a type or to a table.
#[derive(Debug, Default)]
struct List {
    is_open: bool,
    /// Whether the token is the name of one.
    is_name: bool,
}

impl List {
    fn see(&mut self, token: &Token<'_>, keyword: Keyword, words: &Words<'_>) {
        let was_name = std::mem::take(&mut self.is_name);
        if !self.is_open || words.depth > 0 {
            return;
        }
        let is_after = |keyword: &str| words.before.is_some_and(|before| before.is_word(keyword));
        match token.kind {
            Lexeme::Word if matches!(keyword.as_bytes(), b"select" | b"values" | b"table") => self.is_open = false,
            Lexeme::Word | Lexeme::Quoted => {
                self.is_name = is_after("with")
                    || is_after("recursive")
                    || words.before.is_some_and(|before| before.is_mark(b','));
            }
            // The statement that they stand before, unless one of them or its columns are in there.
            Lexeme::Mark(b'(') => self.is_open = was_name || is_after("as") || is_after("materialized"),
            _ => {}
        }
    }
}

/// Where a name stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where it may call a function.
    calls: bool,
    /// Behind a dot, where any keyword is a name.
    is_member: bool,
}

/// Whether a schema is one of those for temporary tables.
pub(super) fn is_temporary_schema(name: &str) -> bool {
    name == "pg_temp" || name.starts_with("pg_temp_")
}

impl Found {
    /// A word in its place: whether it makes more of the statement than a read.
    fn keyword(&mut self, keyword: &[u8], words: &Words<'_>, is_list: bool) {
        let before = words.before;
        let is_after = |keyword: &str| before.is_some_and(|before| before.is_word(keyword));
        match keyword {
            // Reserved, so it can be nothing else: a table is made, or rows are put into one.
            b"into" => {
                self.is_read = false;
                // What makes a table is a definition.
                self.effects.opaque |= !self.is_change && !is_after("insert") && !is_after("merge");
            }
            b"temp" | b"temporary" if is_after("into") || is_after("local") || is_after("global") => {
                self.effects.temporary = true;
            }
            b"update" | b"share" | b"no" | b"key" if is_after("for") => self.is_read = false,
            // `TRUNCATE` reaches tables by foreign keys that do nothing else.
            b"cascade" if self.is_change => self.has_triggers = true,
            // A statement within a common table expression, or the one that they stand before. `SEARCH` and `CYCLE` end with a name.
            b"insert" | b"update" | b"delete" | b"merge"
                if before
                    .is_none_or(|before| before.is_mark(b'(') || before.is_mark(b')') || is_plain_name(&before))
                    || is_list && words.depth == 0 =>
            {
                self.is_read = false;
                self.changes = true;
            }
            _ => {}
        }
    }

    fn operator(&mut self, token: &Token<'_>, catalogue: &Catalogue) {
        if std::str::from_utf8(token.text).is_ok_and(|symbol| catalogue.is_volatile_operator(symbol)) {
            self.is_read = false;
            self.effects.opaque = true;
        }
    }

    /// A name, whether it stands where it may call a function, and what follows its parenthesis if so.
    fn name(
        &mut self,
        token: &Token<'_>,
        keyword: Keyword,
        place: Place,
        arguments: &Scanner<'_>,
        catalogue: &Catalogue,
    ) {
        let is_escaped = token.kind == Lexeme::Quoted && token.text[0] != b'"';
        let Place { calls, is_member } = place;
        // Most names call nothing, and most databases have few names that are special.
        if !calls && !is_escaped && !catalogue.may_be_special(token.text) {
            return;
        }
        let keyword = keyword.as_str();
        let is_in = |list: &[&str]| !is_member && list.binary_search(&keyword).is_ok();
        if is_in(RESERVED) || calls && is_in(GRAMMAR) {
            return;
        }
        let name = if keyword.is_empty() { token.name() } else { Some(Cow::Borrowed(keyword)) };
        // Bytes that are not UTF-8, and names with escapes, stand for something that is not known here.
        let Some(name) = name else {
            self.is_read = false;
            self.effects.opaque |= calls || catalogue.has_opaque();
            return;
        };
        if catalogue.is_of_primary(&name) {
            self.is_read = false;
        }
        self.has_triggers |= catalogue.is_opaque(&name, true);
        if catalogue.is_opaque(&name, false) {
            self.is_read = false;
            self.effects.opaque = true;
        }
        if is_temporary_schema(&name) {
            self.is_read = false;
            self.effects.temporary = true;
        }
        if calls {
            let function = catalogue.function(&name);
            let is_structure = is_in(STRUCTURE) || self.is_change && is_in(STRUCTURE_OF_CHANGES);
            if name == "set_config" {
                self.set_config(arguments.clone());
            } else if !is_structure || function.is_some() {
                self.call(&name, function);
            }
        }
    }

    fn call(&mut self, name: &str, function: Option<Function>) {
        match function {
            Some(Function::Stable) => {}
            Some(Function::Volatile) => self.is_read = false,
            Some(Function::Opaque) | None => {
                self.is_read = false;
                self.effects.opaque = true;
            }
        }
        self.effects.join(effects_of(name));
    }

    /// A setting is changed by a function. With `true` at the end that is for the transaction alone; otherwise it shows whether anybody
    /// tells what it is now.
    fn set_config(&mut self, arguments: Scanner<'_>) {
        self.is_read = false;
        let (mut depth, mut count, mut name, mut last, mut is_alone) = (0_usize, 0, None, None, false);
        for token in arguments {
            match token.kind {
                Lexeme::Mark(b'(') => depth += 1,
                Lexeme::Mark(b')') if depth == 0 => break,
                Lexeme::Mark(b')') => depth -= 1,
                Lexeme::Mark(b',') if depth == 0 => {
                    (last, is_alone) = (None, true);
                    continue;
                }
                _ => {}
            }
            if count == 0 && token.kind == Lexeme::String {
                name = token.text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'"));
            }
            count += 1;
            is_alone &= last.is_none();
            last = Some(token);
        }
        if is_alone && last.is_some_and(|last| last.is_word("true")) {
            return;
        }
        self.effects.opaque = true;
        let is_told = |name: &[u8]| TOLD.iter().any(|told| name.eq_ignore_ascii_case(told.as_bytes()));
        self.effects.hides_setting |= !name.is_some_and(is_told);
    }
}

/// Whether it is a name that is no keyword which only the grammar may use.
fn is_plain_name(token: &Token<'_>) -> bool {
    match token.kind {
        Lexeme::Quoted => true,
        Lexeme::Word => RESERVED.binary_search(&Keyword::of(token).as_str()).is_err(),
        _ => false,
    }
}

/// What functions of PostgreSQL's own do to the session that calls them, whoever is asked of their names.
pub(super) fn effects_of(function: &str) -> Effects {
    let mut effects = Effects::default();
    match function {
        "pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
            effects.advisory_lock = true;
        }
        "set_config" => effects.opaque = true,
        // What the next call gives depends on it, and so does what others would get; or it ends with the connection.
        "setseed"
        | "pg_replication_origin_session_setup"
        | "pg_create_logical_replication_slot"
        | "pg_create_physical_replication_slot"
        | "pg_copy_logical_replication_slot"
        | "pg_copy_physical_replication_slot"
        | "pg_backup_start"
        | "pg_start_backup" => effects.irreversible = true,
        "currval" | "lastval" => effects.recalls = true,
        "pg_notify" => effects.notifies = true,
        _ => {}
    }
    effects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_keywords_are_in_order() {
        for list in [RESERVED, GRAMMAR, STRUCTURE, STRUCTURE_OF_CHANGES] {
            assert!(list.is_sorted() && list.iter().all(|word| word.len() <= 20), "{list:?}");
        }
    }
}
