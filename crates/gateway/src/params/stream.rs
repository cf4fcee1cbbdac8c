//! What a listener serves, if it is not HTTP.

use vocab::Name;

use super::HostMatch;

/// What a listener serves.
#[derive(Clone, Debug, PartialEq)]
pub enum ListenerKind {
    /// Requests of HTTP; `[[route]]` says where they go.
    Http,
    /// Connections of TCP; the most specific of these routes says where they go.
    Tcp(Vec<StreamRouteParams>),
    /// Datagrams of UDP, for this service.
    Udp(Name),
}

/// Which connections of a listener go to which service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRouteParams {
    /// The route's name; `None` for the service that the listener itself names.
    pub name: Option<Name>,
    /// The host that the client names in its TLS handshake.
    pub host: HostMatch,
    /// Protocols of which the client must offer one in its TLS handshake; empty for any client.
    pub alpn: Vec<String>,
    /// The service.
    pub service: Name,
}

impl ListenerKind {
    /// The services that the listener itself leads to.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        let (routes, own) = match self {
            Self::Http => (&[][..], None),
            Self::Tcp(routes) => (routes.as_slice(), None),
            Self::Udp(service) => (&[][..], Some(service)),
        };
        routes.iter().map(|route| &route.service).chain(own)
    }
}

impl StreamRouteParams {
    /// A route for all connections.
    pub fn every(service: Name) -> Self {
        Self { name: None, host: HostMatch::Any, alpn: Vec::new(), service }
    }

    /// Whether the client's TLS handshake has to be looked at.
    pub fn looks(&self) -> bool {
        self.host != HostMatch::Any || !self.alpn.is_empty()
    }
}
