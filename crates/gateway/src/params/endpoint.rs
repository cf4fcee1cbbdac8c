//! What is written of an endpoint.

use discovery::Source;
use vocab::Name;

/// One entry of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointParams {
    /// Address or host name, as written.
    pub host: Host,
    /// TCP port.
    pub port: u16,
    /// Share of the traffic relative to the other endpoints; 0 gets none but keeps sticky sessions.
    pub weight: u16,
    /// Lower ones come first; others get what those before them cannot bear.
    pub priority: u8,
    /// The zone that it is in, if that is known.
    pub zone: Option<Name>,
    /// Used only while no other endpoint is available.
    pub backup: bool,
    /// Gets no new requests; those under way finish.
    pub drain: bool,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal IPv4 or IPv6 address.
    Address(std::net::IpAddr),
    /// A host name to resolve, lower case.
    Name(String),
    /// A name of `SRV` records such as `_http._tcp.example.com`, lower case. The records say the port, which is 0 here.
    Srv(String),
}

impl Host {
    /// Who has to be asked where it is; `None` for an address.
    pub(crate) fn source(&self) -> Option<Source> {
        match self {
            Self::Address(_) => None,
            Self::Name(name) => Some(Source::Host(name.clone())),
            Self::Srv(name) => Some(Source::Srv(name.clone())),
        }
    }
}

impl EndpointParams {
    /// An endpoint of which only the address is said.
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port, weight: 1, priority: 0, zone: None, backup: false, drain: false }
    }
}
