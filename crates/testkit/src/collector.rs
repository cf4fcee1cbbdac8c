use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span as ProtoSpan, span::SpanKind, status::StatusCode};
use prost::Message;

use crate::message::Request;
use crate::{RawUpstream, Script};

/// Time for spans to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A collector that takes OTLP over HTTP, and reads what it is sent by the types that OpenTelemetry publishes.
#[derive(Debug)]
pub struct Collector {
    upstream: RawUpstream,
}

/// A span as it arrived, its ids in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the resource.
    pub service: String,
    /// The trace.
    pub trace_id: String,
    /// The span.
    pub span_id: String,
    /// The span above it; empty for a root.
    pub parent_id: String,
    /// What other systems said about the trace.
    pub trace_state: String,
    /// Its name.
    pub name: String,
    /// Whether it is a server's span; otherwise it is a client's.
    pub is_server: bool,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// Attributes, numbers as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is an error.
    pub is_error: bool,
}

impl Collector {
    /// Starts one that takes everything.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start() -> Result<Self> {
        Self::start_with(Self::takes_all())
    }

    /// Starts one that answers by a script.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub fn start_with(script: Script) -> Result<Self> {
        Ok(Self { upstream: RawUpstream::start(script)? })
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        Ok(Self { upstream: RawUpstream::start_at(address, Self::takes_all())? })
    }

    /// The script of a collector that takes everything.
    pub fn takes_all() -> Script {
        Script::answer("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// Changes how it answers from now on.
    pub fn set_script(&self, script: Script) {
        self.upstream.set_script(script);
    }

    /// The exports so far, as requests.
    ///
    /// # Errors
    /// When one is not well-formed.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.upstream.requests().context("an export")
    }

    /// The spans of all exports so far.
    ///
    /// # Errors
    /// When an export cannot be decoded.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let mut spans = Vec::new();
        for request in self.requests()? {
            spans.extend(decode(&request.body)?);
        }
        Ok(spans)
    }

    /// Waits until this many spans have come.
    ///
    /// # Errors
    /// When they do not come within 10 s, or more come.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Span>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let spans = self.spans()?;
            if spans.len() == count {
                return Ok(spans);
            }
            ensure!(spans.len() < count, "{} spans instead of {count}: {spans:#?}", spans.len());
            if Instant::now() > deadline {
                bail!("{} spans of {count} after {TIMEOUT:?}: {spans:#?}", spans.len());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Span {
    /// An attribute, empty if it is absent.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// Reads an export.
///
/// # Errors
/// When it is not the message that it should be.
fn decode(body: &[u8]) -> Result<Vec<Span>> {
    let export = ExportTraceServiceRequest::decode(body).context("an ExportTraceServiceRequest")?;
    let mut spans = Vec::new();
    for resource_spans in export.resource_spans {
        let resource = attributes(resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default())?;
        let service = resource.get("service.name").cloned().unwrap_or_default();
        for scope in resource_spans.scope_spans {
            ensure!(scope.scope.is_some_and(|scope| !scope.name.is_empty()), "a scope without a name");
            for span in scope.spans {
                spans.push(read(span, &service)?);
            }
        }
    }
    Ok(spans)
}

fn read(span: ProtoSpan, service: &str) -> Result<Span> {
    ensure!(span.trace_id.len() == 16 && span.span_id.len() == 8, "an id of another length: {span:?}");
    ensure!(matches!(span.parent_span_id.len(), 0 | 8), "a parent's id of another length: {span:?}");
    let is_server = match span.kind() {
        SpanKind::Server => true,
        SpanKind::Client => false,
        other => bail!("a span of kind {other:?}"),
    };
    Ok(Span {
        service: service.to_owned(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        trace_state: span.trace_state,
        name: span.name,
        is_server,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(span.attributes)?,
        is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
    })
}

fn attributes(pairs: Vec<KeyValue>) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for pair in pairs {
        let value = match pair.value {
            Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => text,
            Some(AnyValue { value: Some(any_value::Value::IntValue(number)) }) => number.to_string(),
            other => bail!("attribute {}: {other:?}", pair.key),
        };
        ensure!(map.insert(pair.key.clone(), value).is_none(), "attribute {} comes twice", pair.key);
    }
    Ok(map)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
