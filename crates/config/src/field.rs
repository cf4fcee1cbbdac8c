//! Values of what a route does: fields that are changed, origins of pages, names with passwords.

use gateway::Pattern;
use gateway::params::{Credential, CredentialError, FieldError, FieldLine, FieldName, Message, OriginMatch};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::address::is_host_name;
use crate::diagnostic::Sink;
use crate::grammar::{Key, Value, wrong_kind};
use crate::http::{Wrong, text_value};
use crate::map::MapKey;
use crate::node::{Node, Value as NodeValue};
use crate::raw::RawOrigin;
use crate::value::{List, invalid, text};

/// The name of a field of requests that may be changed, as a key.
#[derive(Clone, Debug)]
pub(crate) struct RequestField;

/// The name of a field of responses that may be changed, as a key.
#[derive(Clone, Debug)]
pub(crate) struct ResponseField;

/// The name of a field of requests that may be changed.
#[derive(Clone, Debug)]
pub(crate) struct RequestName(pub(crate) FieldName);

/// The name of a field of responses that may be changed.
#[derive(Clone, Debug)]
pub(crate) struct ResponseName(pub(crate) FieldName);

/// The value of a field.
#[derive(Clone, Debug)]
pub(crate) struct FieldText(pub(crate) String);

/// What browsers show to people who are asked for a password.
#[derive(Clone, Debug)]
pub(crate) struct Realm(pub(crate) String);

/// Which origins fit; `None` for all.
#[derive(Clone, Debug)]
pub(crate) struct Origin(pub(crate) Option<OriginMatch>);

/// A name and a hashed password, which is never shown.
#[derive(Clone, Debug)]
pub(crate) struct UserLine(pub(crate) Credential);

const FIELD: &str = "the name of a header field, such as \"X-User\"";

fn changed(message: Message, text: &str) -> Result<FieldName, Wrong> {
    FieldName::new(message, text).map_err(|error| match error {
        FieldError::Reserved(reason) => (reason, None),
        _ => {
            let bare = text.trim_end_matches([':', ' ']);
            let fix = (bare != text && FieldName::new(message, bare).is_ok()).then(|| bare.to_owned());
            ("is not the name of a header field", fix)
        }
    })
}

impl MapKey for RequestField {
    const EXPECTED: &str = FIELD;

    fn read(text: &str) -> Result<String, Wrong> {
        changed(Message::Request, text).map(|name| name.as_str().to_owned())
    }
}

impl MapKey for ResponseField {
    const EXPECTED: &str = FIELD;

    fn read(text: &str) -> Result<String, Wrong> {
        changed(Message::Response, text).map(|name| name.as_str().to_owned())
    }
}

text_value!(
    RequestName,
    "the name of a header field, such as \"X-User\"",
    |text| changed(Message::Request, text).map(RequestName),
    |name| name.0.as_str().to_owned()
);
text_value!(
    ResponseName,
    "the name of a header field, such as \"X-User\"",
    |text| changed(Message::Response, text).map(ResponseName),
    |name| name.0.as_str().to_owned()
);
text_value!(FieldText, "the value of a header field, in one line", field_text, |value| value.0.clone());
text_value!(Realm, "visible ASCII characters and spaces without '\"' and '\\\\'", realm, |realm| realm.0.clone());

fn field_text(text: &str) -> Result<FieldText, Wrong> {
    match FieldLine::new(Message::Response, "X", text) {
        Ok(_) => Ok(FieldText(text.to_owned())),
        Err(_) if text.trim_ascii() != text => Err(("begins or ends with a space", Some(text.trim_ascii().to_owned()))),
        Err(_) => Err(("has a line end or another control character, which a field cannot have", None)),
    }
}

fn realm(text: &str) -> Result<Realm, Wrong> {
    let good = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(good) { Ok(Realm(text.to_owned())) } else { Err(("has a character that it cannot have", None)) }
}

impl Value for Origin {
    fn expected() -> String {
        "an origin such as \"https://app.example.com\" or \"https://*.example.com\", { regex = \"...\" }, or \"*\" for all"
            .to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            NodeValue::Table(_) => {
                let pattern: Pattern = RawOrigin::read(node, key, sink)?.regex?.value.0;
                Some(Self(Some(OriginMatch::Regex(pattern))))
            }
            NodeValue::Text { text, .. } => match origin(text) {
                Ok(origin) => Some(origin),
                Err((problem, fix)) => {
                    let fix = fix.map(|text| format!("write \"{text}\""));
                    sink.push(invalid(node, key, problem).allowed(Self::expected()).fix(fix));
                    None
                }
            },
            _ => {
                wrong_kind(node, key, &Self::expected(), None, sink);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "x-value": "an origin such as \"https://app.example.com\"" },
                RawOrigin::schema(generator),
            ],
        })
    }

    fn effective(&self) -> Json {
        match &self.0 {
            None => "*".into(),
            Some(OriginMatch::Exact(text)) => text.clone().into(),
            Some(OriginMatch::Under(scheme, domain)) => format!("{scheme}*{domain}").into(),
            Some(OriginMatch::Regex(pattern)) => json!({ "regex": pattern.as_str() }),
        }
    }
}

/// Reads an origin as browsers write it: a scheme and a host in lower case, and a port unless it is the scheme's own.
fn origin(text: &str) -> Result<Origin, Wrong> {
    if text == "*" {
        return Ok(Origin(None));
    }
    if text == "null" {
        return Err(("is what any page says that wants to hide where it is from", None));
    }
    let lower = text.to_ascii_lowercase();
    let Some((scheme, rest)) = lower.split_once("://") else {
        let fix = format!("https://{lower}");
        return Err(("has no scheme", origin(&fix).is_ok().then_some(fix)));
    };
    let bare = rest.split('/').next().unwrap_or_default();
    let (host, port) = bare.rsplit_once(':').map_or((bare, None), |(host, port)| (host, Some(port)));
    let own_port = matches!((scheme, port), ("https", Some("443")) | ("http", Some("80")));
    let said = if own_port { format!("{scheme}://{host}") } else { format!("{scheme}://{bare}") };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let good_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !is_host_name(name) || !good_port || !good_scheme {
        return Err(("is not an origin", None));
    }
    if said != text {
        return Err(("is not as browsers write it: lower case, no path, no port that the scheme implies", Some(said)));
    }
    Ok(Origin(Some(match text.split_once('*') {
        Some((before, after)) => OriginMatch::Under(before.to_owned(), after.to_owned()),
        None => OriginMatch::Exact(text.to_owned()),
    })))
}

/// Names and hashed passwords.
#[derive(Clone, Debug)]
pub(crate) struct Users(pub(crate) List<UserLine>);

impl Value for Users {
    fn expected() -> String {
        List::<UserLine>::expected()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        if matches!(node.value, NodeValue::Array(_)) {
            return List::read(node, key, sink).map(Self);
        }
        // Whatever it is, it may hold a password, so it is not quoted.
        sink.hide(node.place);
        wrong_kind(node, key, &Self::expected(), Some("write [\"NAME:HASH\"]".to_owned()), sink);
        None
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        List::<UserLine>::schema(generator)
    }

    fn effective(&self) -> Json {
        self.0.effective()
    }
}

/// What to do about a name with a password that is not taken.
pub(crate) fn mended(error: CredentialError) -> Option<&'static str> {
    match error {
        CredentialError::Form | CredentialError::Scheme | CredentialError::Broken => {
            Some("make one with: htpasswd -nbB NAME PASSWORD")
        }
        CredentialError::Name | CredentialError::Cost => None,
    }
}

impl Value for UserLine {
    fn expected() -> String {
        "NAME:HASH, with a hash of bcrypt or SHA-crypt".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        sink.hide(node.place);
        let text = text(node, key, &Self::expected(), None, sink)?;
        match Credential::new(text) {
            Ok(credential) => Some(Self(credential)),
            Err(error) => {
                let diagnostic = crate::diagnostic::Diagnostic::error(node.place, key, format!("the text {error}"));
                sink.push(diagnostic.allowed(Self::expected()).fix(mended(error).map(str::to_owned)));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        format!("{}:***", self.0.name()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let good = |text: &str| assert_eq!(origin(text).unwrap().effective(), text);
        good("*");
        good("https://app.example.com");
        good("http://localhost:3000");
        good("https://*.example.com:8443");
        good("capacitor://localhost");
        let bad = |text: &str, fix: Option<&str>| assert_eq!(origin(text).unwrap_err().1.as_deref(), fix, "{text}");
        bad("app.example.com", Some("https://app.example.com"));
        bad("https://App.example.com/", Some("https://app.example.com"));
        bad("https://app.example.com:443", Some("https://app.example.com"));
        bad("https://*", None);
        bad("https://app.*.com", None);
        bad("null", None);
        bad("", None);
    }

    #[test]
    fn fields_that_may_be_changed() {
        assert_eq!(changed(Message::Request, "X-User").unwrap().as_str(), "X-User");
        assert_eq!(changed(Message::Request, "X-User:").unwrap_err().1.as_deref(), Some("X-User"));
        assert!(changed(Message::Request, "Host").is_err() && changed(Message::Response, "Connection").is_err());
        assert!(field_text("a\r\nb").is_err() && field_text("a b").is_ok() && realm("a\"b").is_err());
    }
}
