//! Values that are written in more than one way, and tables whose keys are names.

use std::fmt;
use std::path::PathBuf;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use telemetry::AccessLogTarget;
use vocab::{Name, NameError};

use crate::address::HostPort;
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value, hide, wrong_kind};
use crate::habits::nearest;
use crate::http::{CookieName, FieldName};
use crate::node::{Entry, Node, Value as NodeValue};
use crate::quantity::Time;
use crate::raw::{RawEndpoint, RawHashKey, RawLimit, RawListener, RawService, RawSlowStart};
use crate::source::Place;
use crate::value::{invalid, text};

/// Most tables of a kind. What is beyond is a mistake of a program that writes the file.
const TABLES_MAX: usize = 10_000;

/// A name of something that is defined elsewhere in the file.
#[derive(Clone, Debug)]
pub(crate) struct NameValue(pub(crate) Name);

/// Tables by name, in the file's order.
#[derive(Clone, Debug)]
pub(crate) struct Named<T, N = Name> {
    /// Those that could be read, with the place of the name.
    pub(crate) tables: Vec<(Field<N>, T)>,
    /// Names as written, also of tables that could not be read.
    pub(crate) written: Vec<String>,
    /// Whether keys stand where a name should.
    pub(crate) nameless: bool,
}

/// What names tables.
pub(crate) trait TableName: Clone + fmt::Debug + fmt::Display {
    /// As a regular expression.
    const PATTERN: &str;

    /// In words.
    fn expected() -> String;

    /// Takes a text for a name, or says why it is none.
    fn of(text: &str) -> Result<Self, String>;
}

impl TableName for Name {
    const PATTERN: &str = "^[A-Za-z0-9_.-]{1,64}$";

    fn expected() -> String {
        NameValue::expected()
    }

    fn of(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: NameError| error.to_string())
    }
}

/// A table that has a name: its keys tell whether the name was forgotten.
pub(crate) trait NamedTable: Value {
    const HEADER: &str;
    const KEYS: &[&str];
}

impl NamedTable for RawListener {
    const HEADER: &str = "listener";
    const KEYS: &[&str] = Self::KEYS;
}

impl NamedTable for RawLimit {
    const HEADER: &str = "limit";
    const KEYS: &[&str] = Self::KEYS;
}

impl NamedTable for RawService {
    const HEADER: &str = "service";
    const KEYS: &[&str] = Self::KEYS;
}

/// An endpoint, from an address alone or from a table.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(pub(crate) RawEndpoint);

/// A zone's name, or none when empty, as a variable may be.
#[derive(Clone, Debug)]
pub(crate) struct Zone(pub(crate) Option<Name>);

/// A slow start, from its time alone or from a table.
#[derive(Clone, Debug)]
pub(crate) struct SlowStart(pub(crate) RawSlowStart);

/// What is hashed.
#[derive(Clone, Debug)]
pub(crate) enum HashBy {
    ClientIp,
    Path,
    Header(String),
    Cookie(String),
}

/// Where the access log goes.
#[derive(Clone, Debug)]
pub(crate) struct AccessTarget(pub(crate) AccessLogTarget);

impl Value for NameValue {
    fn expected() -> String {
        "a name: letters, digits, '_', '-' and '.', at most 64".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let text = text(node, key, &Self::expected(), None, sink)?;
        match text.parse() {
            Ok(name) => Some(Self(name)),
            Err(error) => {
                sink.push(invalid(node, key, &format!("is not a name: {error}")).allowed(Self::expected()));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.as_str().into()
    }
}

impl<T: NamedTable, N: TableName> Value for Named<T, N> {
    fn expected() -> String {
        format!("tables with names: [{}.NAME]", T::HEADER)
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let entries = match &node.value {
            NodeValue::Table(entries) => entries,
            other => {
                let one = matches!(other, NodeValue::Array(_) | NodeValue::Table(_));
                let fix = one.then(|| format!("write [{}.NAME] with single brackets", T::HEADER));
                wrong_kind(node, key, &Self::expected(), fix, sink);
                return None;
            }
        };
        // `[service]` with the keys of a service is one mistake, not one for each key.
        let nameless = entries.iter().find(|entry| is_key_of_table::<T>(entry));
        if let Some(entry) = nameless {
            entries.iter().for_each(|entry| hide(entry, sink));
            let message = format!("every {} has a name", T::HEADER);
            let diagnostic = Diagnostic::error(entry.key_place, Key::Name(key, &entry.key), message)
                .label(format!("a key of [{}.NAME]", T::HEADER))
                .fix(format!("write [{}.NAME] above it", T::HEADER));
            sink.push(diagnostic);
        }
        let mut named = Self { tables: Vec::new(), written: Vec::new(), nameless: nameless.is_some() };
        if let Some(beyond) = entries.get(TABLES_MAX) {
            let message = format!("there are {} of them", entries.len());
            sink.push(Diagnostic::error(beyond.key_place, key, message).allowed(format!("at most {TABLES_MAX}")));
        }
        for entry in entries.iter().take(TABLES_MAX).filter(|entry| !is_key_of_table::<T>(entry)) {
            named.entry(entry, key, sink);
        }
        Some(named)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": N::PATTERN },
            "additionalProperties": T::schema(generator),
        })
    }

    fn effective(&self) -> Json {
        let entry = |(name, table): &(Field<N>, T)| (name.value.to_string(), table.effective());
        self.tables.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }
}

fn is_key_of_table<T: NamedTable>(entry: &Entry) -> bool {
    T::KEYS.contains(&entry.key.as_str()) && !matches!(entry.node.value, NodeValue::Table(_))
}

impl<T: NamedTable, N: TableName> Named<T, N> {
    fn entry(&mut self, entry: &Entry, key: &Key<'_>, sink: &mut Sink) {
        self.written.push(entry.key.clone());
        let key = Key::Name(key, &entry.key);
        let name = N::of(&entry.key);
        if let Err(error) = &name {
            let diagnostic = Diagnostic::error(entry.key_place, key, error.as_str());
            sink.push(diagnostic.allowed(N::expected()));
        }
        let table = T::read(&entry.node, &key, sink);
        if let (Ok(name), Some(table)) = (name, table) {
            self.tables.push((Field { value: name, place: entry.key_place, set: true }, table));
        }
    }
}

impl Value for Zone {
    fn expected() -> String {
        format!("{}; or \"\" for none", NameValue::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match text(node, key, &Self::expected(), None, sink)? {
            "" => Some(Self(None)),
            _ => NameValue::read(node, key, sink).map(|name| Self(Some(name.0))),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{0,64}$", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.as_ref().map_or("", Name::as_str).into()
    }
}

/// The time alone, as the table's `window` has it.
type Window = Time<0, 3_600_000>;

impl Value for SlowStart {
    fn expected() -> String {
        format!("{}, or {{ window = \"30s\", aggression = 1.5 }}", Window::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        if !matches!(node.value, NodeValue::Table(_)) {
            Window::read(node, key, sink)?;
            return RawSlowStart::read(&table_of("window", node), key, sink).map(Self);
        }
        // Without its window, the rest of a table means nothing.
        RawSlowStart::read(node, key, sink).filter(|table| table.window.is_some()).map(Self)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [Window::schema(generator), RawSlowStart::schema(generator)] })
    }

    fn effective(&self) -> Json {
        self.0.effective()
    }
}

/// A short form as the long one: a table with nothing but this key.
pub(crate) fn table_of(key: &str, node: &Node) -> Node {
    let entry = Entry { key: key.to_owned(), key_place: node.place, node: node.clone() };
    Node { value: NodeValue::Table(vec![entry]), place: node.place }
}

impl Value for Endpoint {
    fn expected() -> String {
        format!("{}, or {{ address = \"HOST:PORT\", weight = 2 }}", HostPort::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Table(_) => RawEndpoint::read(node, key, sink).map(Self),
            NodeValue::Text { .. } => {
                HostPort::read(node, key, sink)?;
                RawEndpoint::read(&table_of("address", node), key, sink).map(Self)
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [HostPort::schema(generator), RawEndpoint::schema(generator)] })
    }

    fn effective(&self) -> Json {
        self.0.effective()
    }
}

impl HashBy {
    const WORDS: [&str; 2] = ["client_ip", "path"];
}

impl Value for HashBy {
    fn expected() -> String {
        "\"client_ip\", \"path\", { header = \"NAME\" } or { cookie = \"NAME\" }".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Text { text, .. } => match text.as_str() {
                "client_ip" => Some(Self::ClientIp),
                "path" => Some(Self::Path),
                _ => {
                    let fix = match text.as_str() {
                        "header" | "cookie" => Some(format!("write {{ {text} = \"NAME\" }}")),
                        "ip" | "source" | "remote_addr" | "$remote_addr" => Some("write \"client_ip\"".to_owned()),
                        "uri" | "url" | "$request_uri" => Some("write \"path\"".to_owned()),
                        _ => nearest(text, Self::WORDS.into_iter()).map(|word| format!("did you mean \"{word}\"?")),
                    };
                    sink.push(invalid(node, key, "cannot be hashed").allowed(Self::expected()).fix(fix));
                    None
                }
            },
            NodeValue::Table(entries) => {
                let table = RawHashKey::read(node, key, sink)?;
                match field_or_cookie(
                    node.place,
                    key,
                    (table.header, table.cookie, entries.len()),
                    &Self::expected(),
                    sink,
                )? {
                    FieldOrCookie::Header(name) => Some(Self::Header(name)),
                    FieldOrCookie::Cookie(name) => Some(Self::Cookie(name)),
                }
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": Self::WORDS }, RawHashKey::schema(generator)] })
    }

    fn effective(&self) -> Json {
        match self {
            Self::ClientIp => "client_ip".into(),
            Self::Path => "path".into(),
            Self::Header(name) => serde_json::json!({ "header": name }),
            Self::Cookie(name) => serde_json::json!({ "cookie": name }),
        }
    }
}

/// A value of a request that a table asks for by its name.
pub(crate) enum FieldOrCookie {
    Header(String),
    Cookie(String),
}

/// What a table of two keys asks for, of which one is needed; it has so many entries.
pub(crate) fn field_or_cookie(
    place: Place,
    key: &Key<'_>,
    (header, cookie, entries): (Option<Field<FieldName>>, Option<Field<CookieName>>, usize),
    expected: &str,
    sink: &mut Sink,
) -> Option<FieldOrCookie> {
    match (header, cookie) {
        (Some(header), None) => Some(FieldOrCookie::Header(header.value.0)),
        (None, Some(cookie)) => Some(FieldOrCookie::Cookie(cookie.value.0)),
        // What is there could not be read, which is reported.
        (None, None) if entries > 0 => None,
        _ => {
            let message = "one of `header` and `cookie` is needed";
            sink.push(Diagnostic::error(place, key, message).allowed(expected));
            None
        }
    }
}

impl Value for AccessTarget {
    fn expected() -> String {
        "\"off\", \"stdout\" or a path with a '/', such as \"./access.log\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let fix = matches!(node.value, NodeValue::Boolean(false)).then(|| "write \"off\"".to_owned());
        let text = text(node, key, &Self::expected(), fix, sink)?;
        match text {
            "off" => Some(Self(AccessLogTarget::Off)),
            "stdout" => Some(Self(AccessLogTarget::Stdout)),
            // Without the slash, a misspelt word would silently become a file.
            _ if text.contains('/') && !text.ends_with('/') && !text.contains('\0') => {
                Some(Self(AccessLogTarget::File(PathBuf::from(text))))
            }
            _ => {
                let near = nearest(text, ["off", "stdout"].into_iter()).map(|word| format!("did you mean \"{word}\"?"));
                let fix =
                    near.or_else(|| Some(format!("write \"./{text}\" for a file")).filter(|_| text.contains('.')));
                sink.push(invalid(node, key, "is neither a word nor a path").allowed(Self::expected()).fix(fix));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        match &self.0 {
            AccessLogTarget::Off => "off".into(),
            AccessLogTarget::Stdout => "stdout".into(),
            AccessLogTarget::File(path) => path.display().to_string().into(),
        }
    }
}
