//! Tables whose keys are names of HTTP's: of header fields, cookies, parameters.

use std::marker::PhantomData;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value, wrong_kind};
use crate::http::{self, Wrong};
use crate::node::{Node, Value as NodeValue};

/// Most entries of a table. What is beyond is a mistake of a program that writes the file.
const ENTRIES_MAX: usize = 100;

/// Entries in the file's order, each name once.
#[derive(Clone, Debug)]
pub(crate) struct Map<K, V>(pub(crate) Vec<(String, Field<V>)>, PhantomData<K>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new(), PhantomData)
    }
}

/// What the keys of a [`Map`] are.
pub(crate) trait MapKey {
    /// In words.
    const EXPECTED: &str;

    /// The name as it is compared, or what it is not.
    fn read(text: &str) -> Result<String, Wrong>;
}

/// Header fields of requests, to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct AskedField;

/// Cookies.
#[derive(Clone, Debug)]
pub(crate) struct AskedCookie;

/// Parameters of queries.
#[derive(Clone, Debug)]
pub(crate) struct AskedParameter;

impl MapKey for AskedField {
    const EXPECTED: &str = "the name of a header field, such as \"X-User\"";

    fn read(text: &str) -> Result<String, Wrong> {
        match http::field_name(text)?.0 {
            name if name == "host" => Err(("is not compared as a field; use the route's key `host`", None)),
            name => Ok(name),
        }
    }
}

impl MapKey for AskedCookie {
    const EXPECTED: &str = "the name of a cookie, such as \"session\"";

    fn read(text: &str) -> Result<String, Wrong> {
        Ok(http::cookie_name(text)?.0)
    }
}

impl MapKey for AskedParameter {
    const EXPECTED: &str = "the name of a parameter, without escapes";

    fn read(text: &str) -> Result<String, Wrong> {
        match text {
            "" => Err(("is not the name of a parameter", None)),
            _ => Ok(text.to_owned()),
        }
    }
}

impl<K: MapKey, V: Value> Value for Map<K, V> {
    fn expected() -> String {
        format!("a table, each key {}, each value {}", K::EXPECTED, V::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let NodeValue::Table(entries) = &node.value else {
            let fix = node.text().map(|_| "write { NAME = \"VALUE\" }".to_owned());
            wrong_kind(node, key, &Self::expected(), fix, sink);
            return None;
        };
        if let Some(beyond) = entries.get(ENTRIES_MAX) {
            let message = format!("the table has {} entries", entries.len());
            sink.push(Diagnostic::error(beyond.key_place, key, message).allowed(format!("at most {ENTRIES_MAX}")));
            return None;
        }
        let (mut map, mut sound) = (Vec::<(String, Field<V>)>::new(), true);
        for entry in entries {
            let name_key = Key::Name(key, &entry.key);
            let wrong = |message: String| Diagnostic::error(entry.key_place, name_key, message);
            let name = match K::read(&entry.key) {
                Ok(name) if map.iter().any(|(known, _)| *known == name) => {
                    sink.push(wrong(format!("{name:?} stands here twice")).fix("remove one of them".to_owned()));
                    None
                }
                Ok(name) => Some(name),
                Err((problem, fix)) => {
                    let fix = fix.map(|text| format!("write \"{text}\""));
                    sink.push(wrong(format!("{:?} {problem}", entry.key)).allowed(K::EXPECTED).fix(fix));
                    None
                }
            };
            match (name, V::read(&entry.node, &name_key, sink)) {
                (Some(name), Some(value)) => map.push((name, Field { value, place: entry.node.place, set: true })),
                _ => sound = false,
            }
        }
        sound.then_some(Self(map, PhantomData))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": V::schema(generator) })
    }

    fn effective(&self) -> Json {
        let entry = |(name, field): &(String, Field<V>)| (name.clone(), field.value.effective());
        self.0.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }
}
