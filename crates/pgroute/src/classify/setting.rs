//! `SET` and `RESET`, in all the forms that they have.
//!
//! A value is kept in a form that means the same to every backend, whatever that has for `standard_conforming_strings`: strings are decoded
//! and written anew.

use super::{Keyword, Lexeme, Words};
use crate::scan::Token;

/// How long a change of a setting is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// To the end of the session, unless the transaction fails that it was made in.
    Session,
    /// To the end of the transaction.
    Local,
}

/// A setting that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// How long it is good.
    pub scope: Scope,
    /// Its name in lower case, as `pg_settings` has it.
    pub name: String,
    /// The value, ready to stand behind `SET name TO`: its strings as `E'...'`; `None` for what it was at the session's beginning.
    pub value: Option<String>,
}

impl Setting {
    fn new(scope: Scope, name: &str, value: Option<String>) -> Self {
        // `DEFAULT` is a keyword here; in quotes it would be a value.
        let value = value.filter(|value| !value.eq_ignore_ascii_case("default"));
        // These end with the transaction that is under way, and are errors outside of one.
        let scope = if OF_TRANSACTION.contains(&name) { Scope::Local } else { scope };
        Self { scope, name: name.to_owned(), value }
    }
}

/// Modes of a transaction, which are written like settings as well.
const OF_TRANSACTION: [&str; 3] = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

/// What `SET` changes, from behind the word. `None` when it is not understood, or is about one transaction alone.
pub(super) fn set(words: &mut Words<'_>) -> Option<Vec<Setting>> {
    let scope = match words.keyword().as_str() {
        "local" => {
            words.advance();
            Scope::Local
        }
        "session" => {
            words.advance();
            match words.keyword().as_str() {
                "characteristics" => return characteristics(words),
                "authorization" => {
                    words.advance();
                    return Some(vec![Setting::new(Scope::Session, "session_authorization", Some(rest(words)?))]);
                }
                _ => Scope::Session,
            }
        }
        _ => Scope::Session,
    };
    // These have no sign between name and value.
    let bare = match words.keyword().as_str() {
        "time" => Some("timezone"),
        "role" => Some("role"),
        "names" => Some("client_encoding"),
        "schema" => Some("search_path"),
        "transaction" | "constraints" | "catalog" => return None,
        _ => None,
    };
    let mut name = words.take_name()?.to_ascii_lowercase();
    if let Some(bare) = bare
        && !is_sign(words)
    {
        if bare == "timezone" && !words.take("zone") {
            return None;
        }
        let value = rest(words)?;
        // `LOCAL` is another word for the default here.
        let value =
            if bare == "timezone" && value.eq_ignore_ascii_case("local") { "default".to_owned() } else { value };
        return Some(vec![Setting::new(scope, bare, Some(value))]);
    }
    while words.token?.is_mark(b'.') {
        words.advance();
        name = format!("{name}.{}", words.take_name()?.to_ascii_lowercase());
    }
    // What a name in other characters is depends on the encoding in which it came.
    if !is_sign(words) || !name.is_ascii() {
        return None;
    }
    words.advance();
    Some(vec![Setting::new(scope, &name, Some(rest(words)?))])
}

fn is_sign(words: &Words<'_>) -> bool {
    words.token.is_some_and(|token| token.text == b"=" || token.is_word("to"))
}

/// What is left of the statement, without comments. Tokens that touch each other do so here: `1e-1` is three of them.
fn rest(words: &mut Words<'_>) -> Option<String> {
    let mut text = String::new();
    while !words.is_end() {
        let token = words.token?;
        let touches = words.before.is_some_and(|before| before.at + before.text.len() == token.at);
        if !text.is_empty() && !touches {
            text.push(' ');
        }
        written(&token, words.standard_strings, &mut text)?;
        words.advance();
    }
    (!text.is_empty()).then_some(text)
}

/// A token, so that it means the same on every backend.
fn written(token: &Token<'_>, standard_strings: bool, text: &mut String) -> Option<()> {
    match token.kind {
        Lexeme::String => text.push_str(&literal(&token.string(standard_strings)?)),
        Lexeme::Quoted if token.text[0] != b'"' => return None,
        Lexeme::Parameter | Lexeme::Broken => return None,
        _ => text.push_str(std::str::from_utf8(token.text).ok()?),
    }
    Some(())
}

/// A text in quotes, whatever a session thinks of backslashes.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// `SESSION CHARACTERISTICS AS TRANSACTION`, which sets the defaults of the modes that it names.
fn characteristics(words: &mut Words<'_>) -> Option<Vec<Setting>> {
    words.advance();
    if !words.take("as") || !words.take("transaction") {
        return None;
    }
    let modes = modes(words);
    if !words.is_end() {
        return None;
    }
    let setting = |name: &str, value: &str| Setting::new(Scope::Session, name, Some(value.to_owned()));
    let on_or_off = |on: bool| if on { "on" } else { "off" };
    let mut settings = Vec::new();
    if let Some(level) = modes.isolation {
        settings.push(setting("default_transaction_isolation", &literal(level)));
    }
    if let Some(read_only) = modes.read_only {
        settings.push(setting("default_transaction_read_only", on_or_off(read_only)));
    }
    if let Some(deferrable) = modes.deferrable {
        settings.push(setting("default_transaction_deferrable", on_or_off(deferrable)));
    }
    Some(settings)
}

/// What a transaction may be told at its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    pub(super) isolation: Option<&'static str>,
    pub(super) read_only: Option<bool>,
    pub(super) deferrable: Option<bool>,
}

/// Modes up to what is none.
pub(super) fn modes(words: &mut Words<'_>) -> Modes {
    let mut modes = Modes::default();
    loop {
        match words.keyword().as_str() {
            "isolation" => {
                words.advance();
                words.take("level");
                modes.isolation = Some(if words.take("serializable") {
                    "serializable"
                } else if words.take("repeatable") {
                    words.take("read");
                    "repeatable read"
                } else {
                    words.take("read");
                    if words.take("committed") {
                        "read committed"
                    } else {
                        words.take("uncommitted");
                        "read uncommitted"
                    }
                });
            }
            "read" => {
                words.advance();
                modes.read_only = Some(words.take("only"));
                words.take("write");
            }
            "not" => {
                words.advance();
                words.take("deferrable");
                modes.deferrable = Some(false);
            }
            "deferrable" => {
                words.advance();
                modes.deferrable = Some(true);
            }
            _ if words.token.is_some_and(|token| token.is_mark(b',')) => words.advance(),
            _ => return modes,
        }
    }
}

/// What `RESET` changes, from behind the word: a setting, or all of them (`None` within).
pub(super) fn reset(words: &mut Words<'_>) -> Option<Option<Setting>> {
    let keyword: Keyword = words.keyword();
    let name = match keyword.as_str() {
        "all" => {
            words.advance();
            return words.is_end().then_some(None);
        }
        "session" => {
            words.advance();
            words.take("authorization").then_some("session_authorization".to_owned())?
        }
        "time" => {
            words.advance();
            words.take("zone").then_some("timezone".to_owned())?
        }
        "transaction" => return None,
        _ => {
            let mut name = words.take_name()?.to_ascii_lowercase();
            while words.token.is_some_and(|token| token.is_mark(b'.')) {
                words.advance();
                name = format!("{name}.{}", words.take_name()?.to_ascii_lowercase());
            }
            name
        }
    };
    words.is_end().then(|| Some(Setting::new(Scope::Session, &name, None)))
}
