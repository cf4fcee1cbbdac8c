use std::fmt;
use std::time::Duration;

use super::Sampling;

/// What `[trace]` says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceParams {
    /// The collector.
    pub endpoint: TraceEndpoint,
    /// Which requests are sampled.
    pub sampling: Sampling,
    /// The resource attribute `service.name`.
    pub service_name: String,
    /// Fields that go with each export.
    pub headers: Vec<ExportHeader>,
    /// Time for one export, connecting included.
    pub timeout: Duration,
}

/// Where a collector takes OTLP over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEndpoint {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The path of traces, which is `/v1/traces` unless the collector stands behind another.
    pub path: String,
}

/// A field that goes with each export. Its value may be a secret, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ExportHeader {
    /// Its name.
    pub name: String,
    /// Its value: visible ASCII and spaces.
    pub value: String,
}

impl fmt::Debug for ExportHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.name)
    }
}

impl fmt::Display for TraceEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl TraceEndpoint {
    /// Host and port, as the `Host` field has them.
    pub fn authority(&self) -> String {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }
}
