//! Types of values: switches, texts, secrets, choices and lists.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value, wrong_kind};
use crate::habits::nearest;
use crate::node::{Node, Value as NodeValue};

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch(pub(crate) bool);

/// Any text but an empty one.
#[derive(Clone, Debug)]
pub(crate) struct Text(pub(crate) String);

/// Any text, even an empty one.
#[derive(Clone, Debug)]
pub(crate) struct AnyText(pub(crate) String);

/// A text that is never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

/// A list: the items that could be read, and how many are written.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(pub(crate) Vec<Field<T>>, pub(crate) usize);

/// One value or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<Field<T>>);

/// A value, or a word that stands for its absence.
#[derive(Clone, Debug)]
pub(crate) enum Or<W, T> {
    Word(W),
    Value(T),
}

/// The word of an [`Or`].
pub(crate) trait Word: Default {
    const TEXT: &str;
}

/// `"off"`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Off;

/// `"unlimited"`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unlimited;

/// `"*"`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Star;

impl Word for Star {
    const TEXT: &str = "*";
}

impl Word for Off {
    const TEXT: &str = "off";
}

impl Word for Unlimited {
    const TEXT: &str = "unlimited";
}

impl<T> Or<Off, T> {
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Word(Off) => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// `"a", "b" or "c"`.
pub(crate) fn one_of(texts: &[&str]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    }
}

/// The text of `texts` that a node holds.
pub(crate) fn chosen(
    node: &Node,
    texts: &'static [&'static str],
    others: &[(&'static str, &[&str])],
    key: &Key<'_>,
    sink: &mut Sink,
) -> Option<&'static str> {
    let text = text(node, key, &one_of(texts), None, sink)?;
    if let Some(found) = texts.iter().find(|known| **known == text) {
        return Some(found);
    }
    let plain = text.to_lowercase().replace(['-', ' '], "_");
    let other = others.iter().find(|(_, others)| others.contains(&plain.as_str())).map(|(meant, _)| *meant);
    let meant = other.or_else(|| nearest(text, texts.iter().copied()));
    let fix = meant.map(|meant| format!("did you mean \"{meant}\"?"));
    sink.push(invalid(node, key, "is not one of the choices").allowed(one_of(texts)).fix(fix));
    None
}

/// The text of a node, or a report that it is something else.
pub(crate) fn text<'a>(
    node: &'a Node,
    key: &Key<'_>,
    expected: &str,
    fix: Option<String>,
    sink: &mut Sink,
) -> Option<&'a str> {
    let found = node.text();
    if found.is_none() {
        wrong_kind(node, key, expected, fix, sink);
    }
    found
}

/// An error that quotes the value found and says what it is not.
pub(crate) fn invalid(node: &Node, key: &Key<'_>, problem: &str) -> Diagnostic {
    match &node.value {
        NodeValue::Text { text, expanded } => {
            let label = if *expanded { "after replacing its variables" } else { "" };
            Diagnostic::error(node.place, key, format!("{:?} {problem}", shortened(text))).label(label)
        }
        NodeValue::Integer(text, _) | NodeValue::Float(text) => {
            Diagnostic::error(node.place, key, format!("{} {problem}", shortened(text)))
        }
        _ => Diagnostic::error(node.place, key, format!("the value {problem}")),
    }
}

/// Whether a text looks like a URL with somebody's password.
pub(crate) fn holds_login(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

pub(crate) fn shortened(text: &str) -> String {
    // Enough to recognise a value by; the whole of it is in the file.
    const SHOWN_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Most items of a list. What is beyond is a mistake of a program that writes the file.
const ITEMS_MAX: usize = 10_000;

impl Value for Switch {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let fix = match &node.value {
            NodeValue::Boolean(yes) => return Some(Self(*yes)),
            NodeValue::Text { text, expanded: true } if text == "true" => return Some(Self(true)),
            NodeValue::Text { text, expanded: true } if text == "false" => return Some(Self(false)),
            NodeValue::Text { text, .. } => match text.to_lowercase().as_str() {
                "true" | "on" | "yes" => Some("write true without quotes"),
                "false" | "off" | "no" => Some("write false without quotes"),
                _ => None,
            },
            NodeValue::Integer(_, Some(1)) => Some("write true"),
            NodeValue::Integer(_, Some(0)) => Some("write false"),
            _ => None,
        };
        wrong_kind(node, key, &Self::expected(), fix.map(str::to_owned), sink);
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }

    fn effective(&self) -> Json {
        self.0.into()
    }
}

impl Value for Text {
    fn expected() -> String {
        "a text".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let text = text(node, key, &Self::expected(), None, sink)?;
        if text.is_empty() {
            sink.push(Diagnostic::error(node.place, key, "the text is empty"));
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }

    fn effective(&self) -> Json {
        self.0.clone().into()
    }
}

impl Value for AnyText {
    fn expected() -> String {
        "a text".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        text(node, key, &Self::expected(), None, sink).map(|text| Self(text.to_owned()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }

    fn effective(&self) -> Json {
        self.0.clone().into()
    }
}

impl Value for Secret {
    fn expected() -> String {
        "a text of at least 16 visible ASCII characters".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        sink.hide(node.place);
        let text = text(node, key, &Self::expected(), None, sink)?;
        if !vocab::Secret::may_be(text) {
            // What it is instead is not said: the value must not be guessed from the message.
            let diagnostic = Diagnostic::error(node.place, key, "the secret is too short or cannot stand in a header");
            sink.push(diagnostic.allowed(Self::expected()).fix("make one with: openssl rand -hex 32".to_owned()));
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        "***".into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

fn items<T: Value>(nodes: &[Node], key: &Key<'_>, sink: &mut Sink) -> Vec<Field<T>> {
    if let Some(beyond) = nodes.get(ITEMS_MAX) {
        let message = format!("the list has {} items", nodes.len());
        sink.push(Diagnostic::error(beyond.place, key, message).allowed(format!("at most {ITEMS_MAX} items")));
    }
    let nodes = &nodes[..nodes.len().min(ITEMS_MAX)];
    let item = |(index, node): (usize, &Node)| {
        let value = T::read(node, &Key::Index(key, index), sink)?;
        Some(Field { value, place: node.place, set: true })
    };
    nodes.iter().enumerate().filter_map(item).collect()
}

impl<T: Value> Value for List<T> {
    fn expected() -> String {
        format!("a list, each item {}", T::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Array(nodes) => Some(Self(items(nodes, key, sink), nodes.len())),
            NodeValue::Text { text, .. } if holds_login(text) => {
                sink.hide(node.place);
                wrong_kind(node, key, &Self::expected(), Some("write it in brackets: [\"...\"]".to_owned()), sink);
                None
            }
            NodeValue::Text { text, .. } => {
                let fix = format!("write [\"{}\"]", shortened(text));
                wrong_kind(node, key, &Self::expected(), Some(fix), sink);
                None
            }
            NodeValue::Table(_) => {
                // Only `[[route]]` is a list of tables with headers of their own.
                let fix = match key {
                    Key::Name(Key::Root, name) => format!("write [[{name}]]"),
                    _ => "write [{ ... }]".to_owned(),
                };
                wrong_kind(node, key, &Self::expected(), Some(fix), sink);
                None
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }

    fn effective(&self) -> Json {
        self.0.iter().map(|field| field.value.effective()).collect()
    }
}

impl<T: Value> Value for OneOrMany<T> {
    fn expected() -> String {
        format!("{}, or a list of them", T::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Array(nodes) if nodes.is_empty() => {
                sink.push(Diagnostic::error(node.place, key, "the list is empty").allowed(Self::expected()));
                None
            }
            NodeValue::Array(nodes) => Some(Self(items(nodes, key, sink))),
            _ => T::read(node, key, sink).map(|value| Self(vec![Field { value, place: node.place, set: true }])),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = T::schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }

    fn effective(&self) -> Json {
        // Always a list, so that programs need to understand one form only.
        self.0.iter().map(|field| field.value.effective()).collect()
    }
}

impl<W: Word, T: Value> Value for Or<W, T> {
    fn expected() -> String {
        format!("{}, or \"{}\"", T::expected(), W::TEXT)
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Text { text, .. } if text == W::TEXT => Some(Self::Word(W::default())),
            // A misspelt word; quantities are texts as well, but begin with a digit.
            NodeValue::Text { text, .. } if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                let near = nearest(text, [W::TEXT].into_iter()).map(|word| format!("did you mean \"{word}\"?"));
                sink.push(invalid(node, key, "is wrong here").allowed(Self::expected()).fix(near));
                None
            }
            NodeValue::Boolean(false) => {
                wrong_kind(node, key, &Self::expected(), Some(format!("write \"{}\"", W::TEXT)), sink);
                None
            }
            _ => T::read(node, key, sink).map(Self::Value),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [T::schema(generator), { "const": W::TEXT }] })
    }

    fn effective(&self) -> Json {
        match self {
            Self::Word(_) => W::TEXT.into(),
            Self::Value(value) => value.effective(),
        }
    }
}
