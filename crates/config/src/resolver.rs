//! `[resolver]`: how names of endpoints are resolved.

use std::net::{IpAddr, SocketAddr};

use gateway::params::{Family, ResolverParams, WhenEmpty};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Sink};
use crate::grammar::{Field, Key, Value};
use crate::node::Node;
use crate::raw::{FamilyWord, RawResolver, WhenEmptyWord};
use crate::service::{check_order, positive};
use crate::value::{invalid, text};

/// Port of name servers.
const PORT: u16 = 53;

/// Most name servers. Nobody waits for more to be asked one after another.
const SERVERS_MAX: usize = 8;

/// The address of a name server; its port is 53 unless it is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameServer(pub(crate) SocketAddr);

impl Value for NameServer {
    fn expected() -> String {
        "an address, such as \"10.0.0.53\", \"10.0.0.53:5353\" or \"[fd00::53]:53\"".to_owned()
    }

    fn read(node: &Node, key: &Key<'_>, sink: &mut Sink) -> Option<Self> {
        let text = text(node, key, &Self::expected(), None, sink)?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Self(SocketAddr::new(ip, PORT)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Some(Self(address)),
            _ => {
                // A name could only be looked up by those that it is to name.
                let problem = "is not the address of a name server";
                sink.push(invalid(node, key, problem).allowed(Self::expected()));
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

/// The table as parameters.
pub(crate) fn params(raw: &RawResolver, sink: &mut Sink) -> ResolverParams {
    check_order("resolver", ("ttl_min", &raw.ttl_min), ("ttl_max", &raw.ttl_max), sink);
    ResolverParams {
        servers: servers(raw, sink),
        timeout: raw.timeout.value.0,
        attempts: positive(raw.attempts.value.0),
        search: raw.search.value.0,
        family: match raw.family.value {
            FamilyWord::All => Family::All,
            FamilyWord::Ipv4 => Family::Ipv4,
            FamilyWord::Ipv6 => Family::Ipv6,
        },
        ttl_min: raw.ttl_min.value.0,
        ttl_max: raw.ttl_max.value.0,
        addresses_max: positive(raw.addresses_max.value.0),
        when_empty: match raw.when_empty.value {
            WhenEmptyWord::Keep => WhenEmpty::Keep,
            WhenEmptyWord::Remove => WhenEmpty::Remove,
        },
        stale_max: raw.stale_max.as_ref().map(|field| field.value.0),
    }
}

fn servers(raw: &RawResolver, sink: &mut Sink) -> Vec<SocketAddr> {
    let Some(Field { value, .. }) = &raw.servers else { return Vec::new() };
    if let Some(beyond) = value.0.get(SERVERS_MAX) {
        let diagnostic = Diagnostic::error(beyond.place, "resolver.servers", "there are too many name servers");
        sink.push(diagnostic.allowed(format!("at most {SERVERS_MAX}")));
    }
    value.0.iter().map(|field| field.value.0).collect()
}
