//! Values of a database's tables: names, passwords, and what is written short or as a table.

use std::fmt;

use pgroute::auth::Stored;
use pgroute::lease::Target;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use vocab::Secret;

use crate::diagnostic::{Diagnostic, Sink};
use crate::entry::{TableName, table_of};
use crate::grammar::{Key, Value, wrong_kind};
use crate::http::{Wrong, text_value};
use crate::map::MapKey;
use crate::node::{Node, Value as NodeValue};
use crate::raw::{RawAuthQuery, RawReplica};
use crate::value::{invalid, text};

use super::ServerUrl;

/// Longest name of PostgreSQL's own, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// A name of PostgreSQL's: of a database, a user or a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PgName(pub(crate) String);

/// A password, or what PostgreSQL keeps instead of one.
#[derive(Clone, Debug)]
pub(crate) struct Password {
    pub(crate) secret: Secret,
    /// Whether it stands in the file as it is.
    pub(crate) in_clear: bool,
}

/// A replica, from a URL alone or from a table.
#[derive(Clone, Debug)]
pub(crate) struct Replica(pub(crate) RawReplica);

/// A question about users, from its text alone or from a table.
#[derive(Clone, Debug)]
pub(crate) struct Query(pub(crate) RawAuthQuery);

/// The text of such a question.
#[derive(Clone, Debug)]
pub(crate) struct AuthQueryText(pub(crate) String);

/// Where a lease is asked for.
#[derive(Clone, Debug)]
pub(crate) struct LeaseUrl(pub(crate) String);

/// The name of a setting, as a key.
#[derive(Clone, Debug)]
pub(crate) struct SettingName;

impl fmt::Display for PgName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn name(text: &str) -> Result<PgName, Wrong> {
    match text {
        "" => Err(("is empty", None)),
        _ if text.len() > NAME_BYTES_MAX => Err(("is longer than the 63 bytes that PostgreSQL keeps of a name", None)),
        _ if text.contains('\0') => Err(("has a zero byte", None)),
        _ => Ok(PgName(text.to_owned())),
    }
}

text_value!(PgName, "a name as PostgreSQL has it, of at most 63 bytes", name, |name| name.0.clone());

impl TableName for PgName {
    const PATTERN: &str = "^[^\\u0000]{1,63}$";

    fn expected() -> String {
        <Self as Value>::expected()
    }

    fn of(text: &str) -> Result<Self, String> {
        name(text).map_err(|(problem, _)| format!("the name {problem}"))
    }
}

text_value!(
    AuthQueryText,
    "a statement with $1 for the user's name, such as \"SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1\"",
    auth_query,
    |query| query.0.clone()
);
text_value!(LeaseUrl, "an http URL, such as \"http://{host}:8008/primary\"", lease_url, |url| url.0.clone());

fn lease_url(text: &str) -> Result<LeaseUrl, Wrong> {
    if !text.starts_with("http://") {
        return Err(("is not reached by plain HTTP", None));
    }
    // Any server will do to see whether it is a URL.
    if Target::new(text, "db1.example.com", 5432).is_none() {
        return Err(("is no URL", None));
    }
    if !text.contains("{host}") && !text.contains("{port}") {
        return Err(("asks the same for every server", None));
    }
    Ok(LeaseUrl(text.to_owned()))
}

fn auth_query(text: &str) -> Result<AuthQueryText, Wrong> {
    if text.contains("$1") {
        return Ok(AuthQueryText(text.to_owned()));
    }
    Err(("does not ask for $1, the user's name", None))
}

impl MapKey for SettingName {
    const EXPECTED: &str = "the name of a setting, such as \"work_mem\"";

    fn read(text: &str) -> Result<String, Wrong> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        let good = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(letter);
        if good { Ok(text.to_ascii_lowercase()) } else { Err(("is not the name of a setting", None)) }
    }
}

impl Password {
    /// What is known by it.
    pub(crate) fn stored(&self) -> Stored {
        Stored::parse(self.secret.expose())
    }
}

impl Value for Password {
    fn expected() -> String {
        "a password, best as \"${NAME}\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        sink.hide(node.place);
        let NodeValue::Text { text, expanded } = &node.value else {
            wrong_kind(node, key, &Self::expected(), None, sink);
            return None;
        };
        let problem = match text.as_str() {
            "" if *expanded => "the password is empty: its variable is",
            "" => "the password is empty",
            _ if text.contains('\0') => "the password has a zero byte",
            _ => return Some(Self { secret: Secret::new(text.as_str()), in_clear: !expanded }),
        };
        sink.push(Diagnostic::error(node.place, key, problem).allowed(Self::expected()));
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        "***".into()
    }
}

impl Value for Replica {
    fn expected() -> String {
        format!("{}, or {{ url = \"...\", weight = 2 }}", ServerUrl::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Table(_) => RawReplica::read(node, key, sink).map(Self),
            NodeValue::Text { .. } => {
                ServerUrl::read(node, key, sink)?;
                RawReplica::read(&table_of("url", node), key, sink).map(Self)
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [ServerUrl::schema(generator), RawReplica::schema(generator)] })
    }

    fn effective(&self) -> Json {
        self.0.effective()
    }
}

impl Value for Query {
    fn expected() -> String {
        format!("{}, or {{ text = \"...\", user = \"NAME\" }}", AuthQueryText::expected())
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Table(_) => RawAuthQuery::read(node, key, sink).map(Self),
            NodeValue::Text { .. } => {
                AuthQueryText::read(node, key, sink)?;
                RawAuthQuery::read(&table_of("text", node), key, sink).map(Self)
            }
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [AuthQueryText::schema(generator), RawAuthQuery::schema(generator)] })
    }

    fn effective(&self) -> Json {
        self.0.effective()
    }
}
