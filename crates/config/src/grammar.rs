//! How a table of the file is described once and used four ways: to read it, to write its effective values, as JSON
//! Schema, and as reference documentation.
//!
//! [`table!`] takes a struct whose fields are the keys. Each key says after `=` whether it is `required`, `optional`
//! or has a default, which is written as it would be in the file. Types of values implement [`Value`].
//!
//! Reading goes on after an error: a required or optional key whose value is wrong reads as `None`, a key with a default
//! reads as its default, and the error is in the sink. So that what follows can be checked too, nothing else may be
//! concluded from an absent key.

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Sink};
use crate::habits::{self, nearest};
use crate::node::{Entry, Node, Value as NodeValue};
use crate::source::Place;
use crate::value::{holds_login, shortened};

/// A type that a value in the file can have.
pub(crate) trait Value: Sized {
    /// What is allowed, in words.
    fn expected() -> String;

    /// Reads a value, or reports why not.
    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self>;

    /// JSON Schema of it.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// The value as the file would write it.
    fn effective(&self) -> Json;
}

/// Where in the tree a value is; shows as `service.api.endpoints[1].weight`.
#[derive(Clone, Copy)]
pub(crate) enum Key<'a> {
    Root,
    Name(&'a Key<'a>, &'a str),
    Index(&'a Key<'a>, usize),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Name(Self::Root, name) => f.write_str(&shortened(name)),
            Self::Name(parent, name) => write!(f, "{parent}.{}", shortened(name)),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The value of a key.
#[derive(Clone, Debug)]
pub(crate) struct Field<T> {
    pub(crate) value: T,
    /// The value's place; the table's when the key is absent.
    pub(crate) place: Place,
    /// Whether the key is in the file.
    pub(crate) set: bool,
}

/// The entries of a table that is being read.
pub(crate) struct Fields<'a> {
    entries: &'a [Entry],
    key: &'a Key<'a>,
    place: Place,
    /// Keys that are there but could not be read, so that nobody takes them for absent.
    pub(crate) failed: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Takes a node for a table and reports the keys that it may not have.
    pub(crate) fn open(
        node: &'a Node,
        key: &'a Key<'a>,
        label: &str,
        allowed: &[&str],
        sink: &mut Sink,
    ) -> Option<Self> {
        let NodeValue::Table(entries) = &node.value else {
            let fix = match (&node.value, key) {
                (NodeValue::Array(_), Key::Name(..)) => Some(format!("write [{key}] with single brackets")),
                (NodeValue::Text { .. } | NodeValue::Boolean(true), _) => {
                    Some(format!("write {{ {} = ... }}", allowed[0]))
                }
                _ => None,
            };
            wrong_kind(node, key, &format!("a table with the keys of {label}"), fix, sink);
            return None;
        };
        for entry in entries {
            if !allowed.contains(&entry.key.as_str()) {
                unknown_key(entry, key, label, allowed, sink);
            }
        }
        Some(Self { entries, key, place: node.place, failed: Vec::new() })
    }

    pub(crate) fn required<T: Value>(&mut self, name: &'static str, sink: &mut Sink) -> Option<Field<T>> {
        if self.entry(name).is_none() {
            let diagnostic = Diagnostic::error(self.place, self.key, format!("the key `{name}` is missing"));
            sink.push(diagnostic.allowed(T::expected()).fix(format!("add {name} = ...")));
        }
        self.optional(name, sink)
    }

    pub(crate) fn optional<T: Value>(&mut self, name: &'static str, sink: &mut Sink) -> Option<Field<T>> {
        let entry = self.entry(name)?;
        let Some(value) = T::read(&entry.node, &Key::Name(self.key, name), sink) else {
            self.failed.push(name);
            return None;
        };
        Some(Field { value, place: entry.node.place, set: true })
    }

    pub(crate) fn or_default<T: Value>(&mut self, name: &'static str, default: &Json, sink: &mut Sink) -> Field<T> {
        self.optional(name, sink).unwrap_or_else(|| {
            let node = Node::of_default(default, self.place);
            let value = T::read(&node, &Key::Name(self.key, name), sink).expect("defaults are values of their type");
            Field { value, place: self.place, set: false }
        })
    }

    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == name)
    }
}

fn unknown_key(entry: &Entry, key: &Key<'_>, label: &str, allowed: &[&str], sink: &mut Sink) {
    if sink.is_full() {
        return sink.leave_out(1);
    }
    hide(entry, sink);
    let message = format!("unknown key `{}`", shortened(&entry.key));
    let diagnostic = Diagnostic::error(entry.key_place, Key::Name(key, &entry.key), message)
        .label(format!("not a key of {label}"))
        .allowed(allowed.join(", "))
        .fix(habits::instead_of(&entry.key, label, allowed));
    sink.push(diagnostic);
}

/// Keys whose values are secrets, or may hold some.
const SECRETS: [&str; 7] = ["token", "secret", "password", "requirepass", "users", "hmac_key", "store"];

/// Keeps secrets of a key that is not known from being shown: a misspelt one is one all the same, and a URL may have a password.
pub(crate) fn hide(entry: &Entry, sink: &mut Sink) {
    if nearest(&entry.key, SECRETS.into_iter()).is_some() || entry.node.text().is_some_and(holds_login) {
        sink.hide(entry.node.place);
    }
    if let NodeValue::Table(inner) = &entry.node.value {
        inner.iter().for_each(|entry| hide(entry, sink));
    }
}

/// Reports a value of the wrong kind. Values that were reported before are passed over.
pub(crate) fn wrong_kind(node: &Node, key: &Key<'_>, expected: &str, fix: Option<String>, sink: &mut Sink) {
    if matches!(node.value, NodeValue::Broken) {
        return;
    }
    let diagnostic = Diagnostic::error(node.place, key, format!("{} does not belong here", node.kind()));
    sink.push(diagnostic.allowed(expected).fix(fix));
}

/// Adds what a schema lacks: a description and a default.
pub(crate) fn describe(mut schema: Schema, doc: &str, default: Option<Json>) -> Schema {
    schema.insert("description".to_owned(), doc.into());
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    schema
}

/// Joins the lines of a doc comment.
pub(crate) fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// Describes a table: see the module.
macro_rules! table {
    ($(#[doc = $about:literal])* $label:literal struct $name:ident {
        $($(#[doc = $doc:literal])* $key:ident : $type:ty = $rule:tt;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $key: table!(@type $rule, $type),)*
            /// Where the table is.
            #[allow(dead_code, reason = "not every table needs it")]
            pub(crate) place: $crate::source::Place,
            /// Keys that are there but could not be read.
            #[allow(dead_code, reason = "not every table needs it")]
            pub(crate) failed: Vec<&'static str>,
        }

        impl $name {
            /// How messages and documentation name the table.
            pub(crate) const LABEL: &str = $label;
            /// Its keys.
            pub(crate) const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// The keys that are in the file, with the places of their values.
            #[allow(dead_code, reason = "not every table needs it")]
            pub(crate) fn written(&self) -> Vec<(&'static str, $crate::source::Place)> {
                let mut written = Vec::new();
                $(table!(@written $rule, self.$key, stringify!($key), written);)*
                written
            }
        }

        impl $crate::grammar::Value for $name {
            fn expected() -> String {
                format!("a table with the keys of {}", Self::LABEL)
            }

            fn read(
                node: &$crate::node::Node,
                key: &$crate::grammar::Key<'_>,
                sink: &mut $crate::diagnostic::Sink,
            ) -> Option<Self> {
                let mut fields = $crate::grammar::Fields::open(node, key, Self::LABEL, Self::KEYS, sink)?;
                Some(Self {
                    $($key: table!(@read $rule, fields, stringify!($key), sink),)*
                    place: node.place,
                    failed: fields.failed,
                })
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }

            fn effective(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $(table!(@effective $rule, self.$key, stringify!($key), map);)*
                map.into()
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).trim_start_matches("Raw").into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use $crate::grammar::{Value as _, describe, joined};
                let mut properties = serde_json::Map::new();
                $(
                    let schema = describe(
                        <$type>::schema(generator), &joined(&[$($doc),*]), table!(@default $rule),
                    );
                    properties.insert(stringify!($key).to_owned(), schema.to_value());
                )*
                let required: Vec<&str> =
                    [$(table!(@required $rule, stringify!($key))),*].into_iter().flatten().collect();
                schemars::json_schema!({
                    "title": Self::LABEL,
                    "description": joined(&[$($about),*]),
                    "type": "object",
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }
        }
    };
    (@type required, $type:ty) => { Option<$crate::grammar::Field<$type>> };
    (@type optional, $type:ty) => { Option<$crate::grammar::Field<$type>> };
    (@type $default:tt, $type:ty) => { $crate::grammar::Field<$type> };
    (@read required, $fields:ident, $key:expr, $sink:ident) => { $fields.required($key, $sink) };
    (@read optional, $fields:ident, $key:expr, $sink:ident) => { $fields.optional($key, $sink) };
    (@read $default:tt, $fields:ident, $key:expr, $sink:ident) => {
        $fields.or_default($key, &serde_json::json!($default), $sink)
    };
    (@effective required, $field:expr, $key:expr, $map:ident) => { table!(@effective optional, $field, $key, $map) };
    (@effective optional, $field:expr, $key:expr, $map:ident) => {
        if let Some(field) = &$field {
            $map.insert($key.to_owned(), field.value.effective());
        }
    };
    (@effective $default:tt, $field:expr, $key:expr, $map:ident) => {
        $map.insert($key.to_owned(), $field.value.effective());
    };
    (@written required, $field:expr, $key:expr, $list:ident) => { table!(@written optional, $field, $key, $list) };
    (@written optional, $field:expr, $key:expr, $list:ident) => {
        if let Some(field) = $field.as_ref().filter(|field| field.set) {
            $list.push(($key, field.place));
        }
    };
    (@written $default:tt, $field:expr, $key:expr, $list:ident) => {
        if $field.set {
            $list.push(($key, $field.place));
        }
    };
    (@default required) => { None };
    (@default optional) => { None };
    (@default $default:tt) => { Some(serde_json::json!($default)) };
    (@required required, $key:expr) => { Some($key) };
    (@required $other:tt, $key:expr) => { None };
}
pub(crate) use table;

/// Describes a type with a few named values: the variants, their texts, and texts of other programs for them.
macro_rules! choice {
    ($(#[doc = $about:literal])* enum $name:ident {
        $($variant:ident = $text:literal $(also $($other:literal),+)?;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),* }

        impl $name {
            const TEXTS: &[&str] = &[$($text),*];
            const OTHERS: &[(&str, &[&str])] = &[$(($text, &[$($($other),+)?])),*];
        }

        impl $crate::grammar::Value for $name {
            fn expected() -> String {
                $crate::value::one_of(Self::TEXTS)
            }

            fn read(
                node: &$crate::node::Node,
                key: &$crate::grammar::Key<'_>,
                sink: &mut $crate::diagnostic::Sink,
            ) -> Option<Self> {
                match $crate::value::chosen(node, Self::TEXTS, Self::OTHERS, key, sink)? {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": Self::TEXTS })
            }

            fn effective(&self) -> serde_json::Value {
                match self { $(Self::$variant => $text.into()),* }
            }
        }
    };
}
pub(crate) use choice;
