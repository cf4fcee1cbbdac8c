//! What a request must have for a route to take it: methods, and values of fields, cookies and parameters.

use gateway::Pattern;
use gateway::params::ValueMatch;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Key, Value, wrong_kind};
use crate::http::{Wrong, is_token, text_value};
use crate::node::{Node, Value as NodeValue};
use crate::raw::RawValueTest;
use crate::value::{invalid, text};

/// A request method.
#[derive(Clone, Debug)]
pub(crate) struct MethodName(pub(crate) String);

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Expression(pub(crate) Pattern);

/// A regular expression for paths.
#[derive(Clone, Debug)]
pub(crate) struct PathExpression(pub(crate) Pattern);

/// A status of a redirection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedirectStatus(pub(crate) u16);

/// What a value must be.
#[derive(Clone, Debug)]
pub(crate) struct ValueTest(pub(crate) ValueMatch);

text_value!(MethodName, "a method such as \"GET\"", method_name, |method| method.0.clone());

fn method_name(text: &str) -> Result<MethodName, Wrong> {
    let upper = text.to_ascii_uppercase();
    match text {
        _ if upper == "CONNECT" => Err(("is never served", None)),
        _ if !is_token(text) => Err(("is not a method", None)),
        _ if upper != text => Err(("is not a method; their letters are upper case", Some(upper))),
        _ => Ok(MethodName(upper)),
    }
}

/// What an expression may be, in words.
const EXPRESSION: &str = "a regular expression, which matches the whole of a text";

impl Value for Expression {
    fn expected() -> String {
        EXPRESSION.to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match Pattern::new(text(node, key, EXPRESSION, None, sink)?) {
            Ok(pattern) => Some(Self(pattern)),
            Err(error) => {
                sink.push(invalid(node, key, &error.to_string()).allowed(EXPRESSION));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": EXPRESSION })
    }

    fn effective(&self) -> Json {
        self.0.as_str().into()
    }
}

impl Value for PathExpression {
    fn expected() -> String {
        "a regular expression for the whole path, such as \"/users/[0-9]+\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let Expression(pattern) = Expression::read(node, key, sink)?;
        let text = pattern.as_str();
        // Elsewhere `^/api` means all that begins so; here it would mean `/api` alone.
        if let Some(rest) = text.strip_prefix('^').filter(|rest| !rest.ends_with('$')) {
            let problem = "has a beginning and no end, but it matches whole paths";
            let fix = format!("write \"{rest}.*\" for all that begins so, or \"{rest}\"");
            sink.push(invalid(node, key, problem).allowed(Self::expected()).fix(fix));
            return None;
        }
        if text.starts_with('~') {
            let problem = "begins with '~', which no path does";
            let rest = text.trim_start_matches(['~', '*', ' ']);
            sink.push(invalid(node, key, problem).allowed(Self::expected()).fix(format!("write \"{rest}\"")));
            return None;
        }
        Some(Self(pattern))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.as_str().into()
    }
}

impl Value for RedirectStatus {
    fn expected() -> String {
        "301, 302, 303, 307 or 308".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Integer(_, Some(status @ (301 | 302 | 303 | 307 | 308))) => Some(Self(*status as u16)),
            NodeValue::Integer(..) => {
                sink.push(invalid(node, key, "is no status of a redirection").allowed(Self::expected()));
                None
            }
            _ => {
                let fix = match node.text() {
                    Some("permanent") => Some("write 308".to_owned()),
                    Some("temporary") => Some("write 307".to_owned()),
                    _ => None,
                };
                wrong_kind(node, key, &Self::expected(), fix, sink);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "enum": [301, 302, 303, 307, 308], "minimum": 301, "maximum": 308 })
    }

    fn effective(&self) -> Json {
        self.0.into()
    }
}

impl Value for ValueTest {
    fn expected() -> String {
        "a text, a list of texts, true (there), false (not there), { prefix = \"...\" } or { regex = \"...\" }"
            .to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Boolean(true) => Some(Self(ValueMatch::Present)),
            NodeValue::Boolean(false) => Some(Self(ValueMatch::Absent)),
            NodeValue::Text { text, .. } => Some(Self(ValueMatch::OneOf(vec![text.clone()]))),
            NodeValue::Array(nodes) if !nodes.is_empty() => {
                let item = |(index, node): (usize, &Node)| {
                    text(node, &Key::Index(key, index), "a text", None, sink).map(str::to_owned)
                };
                let texts: Vec<_> = nodes.iter().enumerate().map(item).collect();
                texts.into_iter().collect::<Option<Vec<_>>>().map(|texts| Self(ValueMatch::OneOf(texts)))
            }
            NodeValue::Table(entries) => {
                let table = RawValueTest::read(node, key, sink)?;
                match (table.prefix, table.regex) {
                    (Some(prefix), None) => Some(Self(ValueMatch::Prefix(prefix.value.0))),
                    (None, Some(regex)) => Some(Self(ValueMatch::Regex(regex.value.0))),
                    (None, None) if !entries.is_empty() => None,
                    _ => {
                        let message = "one of `prefix` and `regex` is needed";
                        sink.push(Diagnostic::error(node.place, key, message).allowed(Self::expected()));
                        None
                    }
                }
            }
            other => {
                let number = match other {
                    NodeValue::Integer(text, _) | NodeValue::Float(text) => Some(format!("write \"{text}\"")),
                    _ => None,
                };
                wrong_kind(node, key, &Self::expected(), number, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": "string" });
        json_schema!({
            "anyOf": [
                text,
                { "type": "array", "items": text, "minItems": 1 },
                { "type": "boolean" },
                RawValueTest::schema(generator),
            ],
        })
    }

    fn effective(&self) -> Json {
        match &self.0 {
            ValueMatch::Present => true.into(),
            ValueMatch::Absent => false.into(),
            ValueMatch::OneOf(texts) if texts.len() == 1 => texts[0].clone().into(),
            ValueMatch::OneOf(texts) => texts.clone().into(),
            ValueMatch::Prefix(prefix) => json!({ "prefix": prefix }),
            ValueMatch::Regex(pattern) => json!({ "regex": pattern.as_str() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names() {
        assert_eq!(method_name("PURGE").unwrap().0, "PURGE");
        assert_eq!(method_name("get").unwrap_err().1.as_deref(), Some("GET"));
        assert!(method_name("GET,POST").is_err() && method_name("CONNECT").is_err() && method_name("").is_err());
    }
}
