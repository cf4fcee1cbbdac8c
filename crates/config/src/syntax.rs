//! Says what is wrong with a text that is not TOML, in terms of what people meant to write.
//!
//! The parser recovers after an error and goes on, so that several mistakes are found at once; the first of a line is
//! reported, since the others follow from it. Keys that are defined twice leave a usable tree. After any other error the
//! tree may hold things that nobody wrote, so no further checks are made on it.

use crate::diagnostic::{Diagnostic, Sink};
use crate::habits;
use crate::source::{FileId, Place, Sources};
use crate::value::shortened;

/// What is proposed where the line holds a secret.
const PROPOSAL_FOR_SECRET: &str = "write token = \"${TENFOLD_ADMIN_TOKEN}\"";

/// Longer lines were not written by people.
const EXPLAINED_BYTES_MAX: usize = 2_000;

/// Whether checks may go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Usable,
    Unusable,
}

/// Reports the errors of a file.
pub(crate) fn report(sources: &Sources, file: FileId, errors: &[toml::de::Error], sink: &mut Sink) -> Tree {
    let mut tree = Tree::Usable;
    let mut last_line = None;
    let mut table_twice = false;
    for error in errors {
        if sink.is_full() {
            break;
        }
        let place = Place::new(file, error.span().unwrap_or_default());
        let duplicate = error.message() == "duplicate key";
        if !duplicate {
            tree = Tree::Unusable;
        }
        let number = sources.line_number(place);
        if last_line.replace(number) == Some(number) {
            continue;
        }
        let line = sources.line(place);
        if !duplicate {
            sink.push(broken(line.text, place, error.message()));
            continue;
        }
        let header = line.text.trim_start().starts_with('[');
        let first = if header { first_header(sources, place) } else { first_key(sources, place) };
        // Keys of a table that is there twice follow from the table.
        if first.is_some() || header || !table_twice {
            sink.push(duplicate_key(sources, place, first));
        }
        table_twice |= header;
    }
    tree
}

fn duplicate_key(sources: &Sources, place: Place, first: Option<Place>) -> Diagnostic {
    let line = sources.line(place);
    let header = line.text.trim();
    let (key, fix) = if header.starts_with('[') {
        (header.trim_matches(['[', ']']), format!("put the keys of both under one {header}"))
    } else {
        (&line.text[line.marked.clone()], "keep one of them".to_owned())
    };
    Diagnostic::error(place, shortened(key), "defined twice").label("again here").related(first, "first here").fix(fix)
}

/// The same header in an earlier line.
fn first_header(sources: &Sources, place: Place) -> Option<Place> {
    let header = sources.line(place).text.trim();
    let mut before = sources.lines_before(place.file, place.start as usize);
    let (start, text) = before.find(|(_, text)| text.trim() == header)?;
    let start = start + text.len() - text.trim_start().len();
    Some(Place::new(place.file, start..start + header.len()))
}

/// The same key earlier in the line, or at the beginning of an earlier line of the table.
fn first_key(sources: &Sources, place: Place) -> Option<Place> {
    let line = sources.line(place);
    let key = &line.text[line.marked.clone()];
    let is_key = |text: &str| text.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
    if let Some((at, _)) = line.text[..line.marked.start].match_indices(key).find(|(at, _)| is_key(&line.text[*at..])) {
        let start = place.start as usize - line.marked.start + at;
        return Some(Place::new(place.file, start..start + key.len()));
    }
    // Keys before the table's header belong to another table.
    let mut of_table = sources
        .lines_before(place.file, place.start as usize)
        .take_while(|(_, text)| !text.trim_start().starts_with('['));
    let (start, text) = of_table.find(|(_, text)| is_key(text.trim_start()))?;
    let start = start + text.len() - text.trim_start().len();
    Some(Place::new(place.file, start..start + key.len()))
}

fn broken(line: &str, place: Place, message: &str) -> Diagnostic {
    let (message, fix) = explained(line, message);
    // A proposal repeats the value, which for a secret must not be.
    let fix = if line.contains("token") { Some(PROPOSAL_FOR_SECRET.to_owned()) } else { fix };
    Diagnostic::error(place, "", message).fix(fix)
}

/// What is wrong and what was probably meant, by the look of the line.
fn explained(line: &str, message: &str) -> (String, Option<String>) {
    let said = |text: &str, fix: &str| (text.to_owned(), Some(fix.to_owned()));
    let trimmed = line.trim();
    if line.len() > EXPLAINED_BYTES_MAX {
        return (with_subject(message), None);
    }
    if let Some(quote) = line.chars().find(|c| "\u{201c}\u{201d}\u{201e}\u{2018}\u{2019}\u{ab}\u{bb}".contains(*c)) {
        return (format!("{quote} is not a quote that TOML knows"), Some("use straight quotes: \"\"".to_owned()));
    }
    if trimmed.starts_with("//") || trimmed.starts_with("/*") {
        return said("this is not a comment", "comments begin with #");
    }
    if let Some(block) = trimmed.strip_suffix('{').filter(|block| !block.contains('=')) {
        let advice = block.split_whitespace().next().and_then(habits::at_top_level);
        return said("blocks in braces are not TOML", advice.unwrap_or("write a table header in brackets"));
    }
    if trimmed == "}" {
        return said("blocks in braces are not TOML", "remove it; a table ends where the next begins");
    }
    if trimmed.starts_with('[') && !trimmed.contains('=') && !trimmed.ends_with(']') {
        let name = trimmed.trim_matches(['[', ']', ' ']);
        let header = if trimmed.starts_with("[[") { format!("[[{name}]]") } else { format!("[{name}]") };
        return ("the table header is not closed".to_owned(), Some(format!("write {header}")));
    }
    match trimmed.split_once('=') {
        Some((key, value)) => explained_value(key.trim(), value.trim(), message),
        None => explained_key(trimmed.trim_end_matches(';'), message),
    }
}

/// A line without `=`: YAML, or a directive of nginx or HAProxy.
fn explained_key(line: &str, message: &str) -> (String, Option<String>) {
    let parts = line.split_once(": ").or_else(|| line.split_once(char::is_whitespace));
    match parts.map(|(key, value)| (key.trim(), value.trim())) {
        Some((key, value)) if is_bare_key(key) => {
            ("keys are followed by '='".to_owned(), Some(format!("write {key} = {}", quoted(value))))
        }
        _ => (with_subject(message), None),
    }
}

fn explained_value(key: &str, value: &str, message: &str) -> (String, Option<String>) {
    let said = |text: &str, fix: &str| (text.to_owned(), Some(fix.to_owned()));
    let unclosed = |open: char, close: char| value.matches(open).count() > value.matches(close).count();
    let starts_bare = value.starts_with(|c: char| c.is_alphanumeric() || "./:$_-*".contains(c));
    if value.is_empty() {
        return ("the value is missing".to_owned(), Some(format!("write {key} = ...")));
    }
    if value.ends_with(';') {
        return (with_subject(message), Some("end the line without ;".to_owned()));
    }
    if message.contains("missing comma") {
        let in_array = value.starts_with(['[', '{']);
        let fix = if in_array { "put a comma between the items" } else { "close the array above with ]" };
        return (with_subject(message), Some(fix.to_owned()));
    }
    if starts_bare && !value.contains(['"', '\'', '=', ',']) {
        let value = value.split(" #").next().unwrap_or(value).trim();
        return ("the value needs quotes".to_owned(), Some(format!("write {key} = \"{value}\"")));
    }
    if value.starts_with('"') && value.matches('"').count() == 1 {
        return said("the closing quote is missing", "end the value with \"");
    }
    if unclosed('[', ']') {
        return said("the array is not closed", "close it with ]");
    }
    if unclosed('{', '}') {
        return said("the inline table is not closed", "close it with }");
    }
    (with_subject(message), None)
}

/// A value with the quotes that it needs.
fn quoted(value: &str) -> String {
    let plain = value.starts_with(['"', '\'', '[', '{']) || matches!(value, "true" | "false");
    if plain || value.parse::<i64>().is_ok() { value.to_owned() } else { format!("\"{value}\"") }
}

fn is_bare_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The parser's words, which are short, with what they are about.
fn with_subject(message: &str) -> String {
    format!("this is not TOML: {message}")
}
