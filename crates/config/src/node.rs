//! The parsed file as a tree in which every key and value knows its place.
//!
//! Variables are replaced here, in values only and after parsing, so that what a variable holds can never become TOML.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::{Expander, Failure};
use crate::source::{FileId, Place, Sources};

/// The grammar is six levels deep; whatever is deeper is a mistake, and recursion stays bounded.
const DEPTH_MAX: usize = 32;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text {
        text: String,
        /// Whether a variable was replaced in it.
        expanded: bool,
    },
    /// As written, and the number if it fits 64 bits.
    Integer(String, Option<i64>),
    Float(String),
    Boolean(bool),
    Date,
    Array(Vec<Node>),
    Table(Vec<Entry>),
    /// An error about it has been reported already.
    Broken,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// The kind of value, with its article.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text { .. } => "a string",
            Value::Integer(..) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "a boolean",
            Value::Date => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Broken => "a broken value",
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// A default as a node, which stands at the place of the table that lacks the key.
    pub(crate) fn of_default(json: &serde_json::Value, place: Place) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::String(text) => Value::Text { text: text.clone(), expanded: false },
            Json::Number(number) => Value::Integer(number.to_string(), number.as_i64()),
            Json::Bool(yes) => Value::Boolean(*yes),
            Json::Array(items) => Value::Array(items.iter().map(|item| Self::of_default(item, place)).collect()),
            Json::Object(map) => {
                let entry = |(key, json): (&String, &Json)| Entry {
                    key: key.clone(),
                    key_place: place,
                    node: Self::of_default(json, place),
                };
                Value::Table(map.iter().map(entry).collect())
            }
            Json::Null => Value::Broken,
        };
        Self { value, place }
    }
}

/// Turns parsed tables of one file into nodes.
pub(crate) struct Reader<'a, 'e> {
    pub(crate) file: FileId,
    pub(crate) sources: &'a Sources,
    pub(crate) expander: &'a mut Expander<'e>,
    pub(crate) sink: &'a mut Sink,
}

impl Reader<'_, '_> {
    pub(crate) fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Vec<Entry> {
        let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
            key: key.get_ref().to_string(),
            key_place: Place::new(self.file, key.span()),
            node: self.node(value, depth),
        };
        table.iter().map(entry).collect()
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
        let place = Place::new(self.file, value.span());
        if depth >= DEPTH_MAX {
            self.sink.push(Diagnostic::error(place, "", format!("nested deeper than {DEPTH_MAX} levels")));
            return Node { value: Value::Broken, place };
        }
        let value = match value.get_ref() {
            DeValue::String(text) => self.text(text, place),
            DeValue::Integer(integer) => {
                let digits = integer.as_str();
                Value::Integer(integer.to_string(), i64::from_str_radix(digits, integer.radix()).ok())
            }
            DeValue::Float(float) => Value::Float(float.as_str().to_owned()),
            DeValue::Boolean(yes) => Value::Boolean(*yes),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => Value::Array(items.iter().map(|item| self.node(item, depth + 1)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table, depth + 1)),
        };
        Node { value, place }
    }

    fn text(&mut self, text: &str, place: Place) -> Value {
        match self.expander.expand(text) {
            Ok(expanded) => Value::Text { expanded: expanded != text, text: expanded },
            Err(Failure { variable, message, fix }) => {
                let written = &self.sources.text(self.file)[place.start as usize..place.end as usize];
                // The variable alone is underlined if it is written as it reads, without escapes.
                let exact = written.find(&variable).map(|at| place.start as usize + at);
                let place = exact.map_or(place, |at| Place::new(self.file, at..at + variable.len()));
                self.sink.push(Diagnostic::error(place, "", message).fix(fix));
                Value::Broken
            }
        }
    }
}
