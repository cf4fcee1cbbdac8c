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

/// Names of types and of functions with a grammar of their own. PostgreSQL lets no function have one of these names without quotes, so a
/// parenthesis behind them calls nothing.
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
pub(super) struct Found {
    pub(super) is_read: bool,
    pub(super) effects: Effects,
    /// Whether a function is called that is known to do anything.
    pub(super) calls_opaque: bool,
}

/// Reads to the statement's end.
pub(super) fn read(words: &mut Words<'_>, catalogue: &Catalogue) -> Found {
    let mut found = Found { is_read: true, effects: Effects::default(), calls_opaque: false };
    // Names of common table expressions may have columns in parentheses, and are no calls. Only a `WITH` at the very beginning has
    // such: further on it belongs to a type or to a table.
    let mut is_list = words.keyword().as_str() == "with";
    while !words.is_end() {
        let Some(token) = words.token else { break };
        let is_alias = words.before.is_some_and(|before| before.is_word("as"));
        let keyword = Keyword::of(&token);
        match token.kind {
            Lexeme::Word if words.depth == 0 && is_list => match keyword.as_bytes() {
                b"select" | b"values" | b"table" => is_list = false,
                // The statement that they stand before.
                b"insert" | b"update" | b"delete" | b"merge" => {
                    is_list = false;
                    found.is_read = false;
                }
                _ => {}
            },
            Lexeme::Word => found.keyword(keyword.as_bytes(), words),
            Lexeme::Operator if std::str::from_utf8(token.text).is_ok_and(|it| catalogue.is_volatile_operator(it)) => {
                found.is_read = false;
                found.effects.opaque = true;
            }
            _ => {}
        }
        words.advance();
        if matches!(token.kind, Lexeme::Word | Lexeme::Quoted) {
            let is_call = words.token.is_some_and(|next| next.is_mark(b'('));
            let calls = is_call && !is_alias && !(is_list && words.depth == 0);
            found.name(&token, keyword, calls.then_some(&words.scanner), catalogue);
        }
    }
    words.depth = 0;
    found
}

impl Found {
    /// A word in its place: whether it makes more of the statement than a read.
    fn keyword(&mut self, keyword: &[u8], words: &Words<'_>) {
        let before = words.before;
        let is_after = |keyword: &str| before.is_some_and(|before| before.is_word(keyword));
        match keyword {
            // Reserved, so it can be nothing else: a table is made, or rows are put into one.
            b"into" => self.is_read = false,
            b"temp" | b"temporary" if is_after("into") || is_after("local") || is_after("global") => {
                self.effects.temporary = true;
            }
            b"update" | b"share" | b"no" | b"key" if is_after("for") => self.is_read = false,
            // A statement within a common table expression, or the one that they stand before.
            b"insert" | b"update" | b"delete" | b"merge"
                if before.is_none_or(|before| before.is_mark(b'(') || before.is_mark(b')')) =>
            {
                self.is_read = false;
            }
            _ => {}
        }
    }

    /// A name, and what follows its parenthesis if it stands where it may call a function.
    fn name(&mut self, token: &Token<'_>, keyword: Keyword, arguments: Option<&Scanner<'_>>, catalogue: &Catalogue) {
        let calls = arguments.is_some();
        let is_escaped = token.kind == Lexeme::Quoted && token.text[0] != b'"';
        // Most names call nothing, and most databases have few names that are the primary's.
        if !calls && !is_escaped && !catalogue.may_be_of_primary(token.text) {
            return;
        }
        let keyword = keyword.as_str();
        let is_in = |list: &[&str]| list.binary_search(&keyword).is_ok();
        if is_in(RESERVED) || calls && is_in(GRAMMAR) {
            return;
        }
        let name = if keyword.is_empty() { token.name() } else { Some(Cow::Borrowed(keyword)) };
        // Bytes that are not UTF-8, and names with escapes, stand for something that is not known here.
        let Some(name) = name.filter(|_| !is_escaped) else {
            self.is_read = false;
            return;
        };
        if catalogue.is_of_primary(&name) || name == "pg_temp" {
            self.is_read = false;
        }
        if let Some(arguments) = arguments {
            let function = catalogue.function(&name);
            if name == "set_config" {
                self.set_config(arguments.clone());
            } else if !is_in(STRUCTURE) || function.is_some() {
                self.call(&name, function);
            }
        }
    }

    fn call(&mut self, name: &str, function: Option<Function>) {
        match function {
            Some(Function::Stable) => return,
            Some(Function::Volatile) => {}
            Some(Function::Opaque) | None => self.effects.opaque = true,
        }
        self.is_read = false;
        self.calls_opaque |= function == Some(Function::Opaque);
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
        self.calls_opaque = true;
        let is_told = |name: &[u8]| TOLD.iter().any(|told| name.eq_ignore_ascii_case(told.as_bytes()));
        self.effects.hides_setting |= !name.is_some_and(is_told);
    }
}

/// What functions of PostgreSQL's own do to the session that calls them.
pub(super) fn effects_of(function: &str) -> Effects {
    let mut effects = Effects::default();
    match function {
        "pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
            effects.advisory_lock = true;
        }
        "set_config" => effects.opaque = true,
        // What the next call gives depends on it, and so does what others would get.
        "setseed" | "pg_replication_origin_session_setup" => effects.irreversible = true,
        "currval" | "lastval" => effects.recalls = true,
        _ => {}
    }
    effects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_keywords_are_in_order() {
        for list in [RESERVED, GRAMMAR, STRUCTURE] {
            assert!(list.is_sorted() && list.iter().all(|word| word.len() <= 20), "{list:?}");
        }
    }
}
