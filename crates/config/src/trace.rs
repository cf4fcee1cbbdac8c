//! Traces: where they go, and what goes with them.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;
use telemetry::trace::{ExportHeader, Follow, Sampling, TraceEndpoint, TraceParams};

use crate::address::{self, HostPort};
use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value, wrong_kind};
use crate::http::is_token;
use crate::node::{Node, Value as NodeValue};
use crate::raw::{FollowWord, RawTrace};
use crate::value::{invalid, text};

/// Where a collector takes OTLP over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct CollectorUrl(pub(crate) TraceEndpoint);

/// Fields that go with each export; their values are never shown.
#[derive(Clone, Debug)]
pub(crate) struct SecretFields(pub(crate) Vec<ExportHeader>);

/// The port of OTLP over HTTP.
const HTTP_PORT: u16 = 4318;
/// The port of OTLP over gRPC, which is not spoken here.
const GRPC_PORT: u16 = 4317;

/// Path of traces below a collector's URL.
const TRACES_PATH: &str = "/v1/traces";

/// More fields, or longer ones, than any collector asks for.
const FIELDS_MAX: usize = 32;
const FIELD_BYTES_MAX: usize = 4096;

/// Fields that are the exporter's own.
const OWN_FIELDS: [&str; 6] =
    ["connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding"];

/// The table as parameters; `None` when something of it is wrong, which has been reported.
pub(crate) fn params(raw: &RawTrace) -> Option<TraceParams> {
    let follow = match raw.follow.value {
        FollowWord::Any => Follow::Any,
        FollowWord::Trusted => Follow::Trusted,
        FollowWord::None => Follow::None,
    };
    Some(TraceParams {
        endpoint: raw.endpoint.as_ref()?.value.0.clone(),
        sampling: Sampling { ratio: raw.sample.value.0, follow, client_address: raw.client_address.value.0 },
        service_name: raw.service_name.value.0.clone(),
        headers: raw.headers.value.0.clone(),
        timeout: raw.timeout.value.0,
    })
}

/// Reports what is allowed but probably not meant.
pub(crate) fn warnings(raw: &RawTrace, sink: &mut Sink) {
    let Some(Field { value, place, .. }) = &raw.endpoint else { return };
    if value.0.port == GRPC_PORT {
        let message = format!("{GRPC_PORT} is the port of OTLP over gRPC, which is not spoken here");
        let fix = TraceEndpoint { port: HTTP_PORT, path: String::new(), ..value.0.clone() };
        sink.push(Diagnostic::warning(*place, "trace.endpoint", message).fix(format!("write \"{fix}\"")));
    }
}

/// Reads a URL, or says what is wrong with it, and what was probably meant.
fn collector(text: &str) -> Result<TraceEndpoint, (&'static str, Option<String>)> {
    let Some((scheme, rest)) = text.split_once("://") else {
        let fix = format!("http://{text}");
        return Err(("has no scheme", collector(&fix).is_ok().then_some(fix)));
    };
    match scheme {
        "http" => {}
        "https" => return Err(("is reached by TLS, which exports do not speak; name a collector nearby", None)),
        "grpc" => return Err(("is OTLP over gRPC, which is not spoken here", None)),
        _ => return Err(("has an unknown scheme", None)),
    }
    if text.contains(['?', '#', '@']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(("has more than host, port and path", None));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let HostPort { host, port } = address::host_port_with(authority, HTTP_PORT)
        .map_err(|wrong| (wrong.problem, wrong.fix.map(|fix| format!("http://{fix}{path}"))))?;
    if port == 0 {
        return Err(("has port 0, where nothing can listen", None));
    }
    let path = path.trim_end_matches('/');
    let path = if path.ends_with(TRACES_PATH) { path.to_owned() } else { format!("{path}{TRACES_PATH}") };
    let host = match host {
        gateway::params::Host::Address(address) => address.to_string(),
        gateway::params::Host::Name(name) | gateway::params::Host::Srv(name) => name,
    };
    Ok(TraceEndpoint { host, port, path })
}

impl Value for CollectorUrl {
    fn expected() -> String {
        "an http URL with a port, such as \"http://127.0.0.1:4318\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let text = text(node, key, &Self::expected(), None, sink)?;
        match collector(text) {
            Ok(endpoint) => Some(Self(endpoint)),
            Err((problem, fix)) => {
                let fix = fix.map(|text| format!("write \"{text}\""));
                sink.push(invalid(node, key, problem).allowed(Self::expected()).fix(fix));
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.to_string().into()
    }
}

impl Value for SecretFields {
    fn expected() -> String {
        "a table of header fields, such as { Authorization = \"Bearer ${TOKEN}\" }".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let NodeValue::Table(entries) = &node.value else {
            sink.hide(node.place);
            wrong_kind(node, key, &Self::expected(), None, sink);
            return None;
        };
        entries.iter().for_each(|entry| sink.hide(entry.node.place));
        if let Some(beyond) = entries.get(FIELDS_MAX) {
            let message = format!("there are {} of them", entries.len());
            sink.push(Diagnostic::error(beyond.key_place, key, message).allowed(format!("at most {FIELDS_MAX}")));
            return None;
        }
        let mut fields = Vec::new();
        for entry in entries {
            let key = Key::Name(key, &entry.key);
            let mut wrong = |place, message: &str, allowed: &str| {
                sink.push(Diagnostic::error(place, key, message).allowed(allowed.to_owned()));
            };
            let NodeValue::Text { text: value, .. } = &entry.node.value else {
                wrong(entry.node.place, "the value of a field is a text", &Self::expected());
                continue;
            };
            // What the value is instead is not said: it may be a secret.
            let is_field = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            if !is_token(&entry.key) {
                wrong(entry.key_place, "this is not the name of a header field", "letters, digits and '-'");
            } else if OWN_FIELDS.contains(&entry.key.to_ascii_lowercase().as_str()) {
                wrong(entry.key_place, "the exporter sets this field itself", "any other field");
            } else if value.trim() != value || value.is_empty() || !value.bytes().all(is_field) {
                wrong(entry.node.place, "the value is empty or cannot stand in a header", "visible ASCII characters");
            } else if value.len() > FIELD_BYTES_MAX {
                wrong(entry.node.place, "the value is too long", &format!("at most {FIELD_BYTES_MAX} bytes"));
            } else {
                fields.push(ExportHeader { name: entry.key.clone(), value: value.clone() });
            }
        }
        (fields.len() == entries.len()).then_some(Self(fields))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" }, "x-value": Self::expected() })
    }

    fn effective(&self) -> Json {
        self.0.iter().map(|field| (field.name.clone(), "***".into())).collect::<serde_json::Map<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors() {
        let good = |text: &str, expected: &str| {
            assert_eq!(collector(text).map(|endpoint| endpoint.to_string()), Ok(expected.to_owned()), "{text}");
        };
        good("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces");
        good("http://Collector.example.com:80/", "http://collector.example.com:80/v1/traces");
        good("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp/v1/traces");
        good("http://10.0.0.1:4318/v1/traces", "http://10.0.0.1:4318/v1/traces");
        let bad = |text: &str, fix: Option<&str>| {
            assert_eq!(collector(text).unwrap_err().1.as_deref(), fix, "{text}");
        };
        bad("127.0.0.1:4318", Some("http://127.0.0.1:4318"));
        bad("http://127.0.0.1", Some("http://127.0.0.1:4318"));
        bad("http://collector/otlp", Some("http://collector:4318/otlp"));
        bad("https://collector.example.com:4318", None);
        bad("grpc://127.0.0.1:4317", None);
        bad("http://user@127.0.0.1:4318", None);
        bad("http://127.0.0.1:0", None);
        bad("", None);
    }
}
