//! Where endpoints are: what the configuration writes, and what names stand for.
//!
//! An entry stands for one address, or for each of its name's. What a name's source says of an endpoint (its port, its
//! weight, the name of its host) comes before what the entry says; priorities are added, as an entry's is where its
//! records begin. An address that comes up twice has the settings of its first entry.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use discovery::{Member, Set, Source};

use crate::change::Target;
use crate::params::{EndpointParams, Host};

/// Lowest tier.
const PRIORITY_MAX: u8 = 15;

/// An endpoint at its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The entry that stands for it, as it is written.
    pub(super) written: Target,
    /// Its settings, its name's own among them.
    pub(super) params: EndpointParams,
}

/// Who has to be asked for these endpoints.
pub(super) fn sources(endpoints: &[EndpointParams]) -> impl Iterator<Item = Source> {
    endpoints.iter().filter_map(|endpoint| endpoint.host.source())
}

/// Whether it is known what all these endpoints stand for, be it nothing.
pub(super) fn is_known(endpoints: &[EndpointParams], resolved: &HashMap<Source, Set>) -> bool {
    sources(endpoints).all(|source| resolved.contains_key(&source))
}

/// What these endpoints stand for, in their order.
pub(super) fn placed(endpoints: &[EndpointParams], resolved: &HashMap<Source, Set>) -> Vec<Placed> {
    let mut placed = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        match (&endpoint.host, endpoint.host.source().and_then(|source| resolved.get(&source))) {
            (Host::Address(ip), _) => placed.push(Placed::new(endpoint, *ip, endpoint.clone())),
            (_, Some(set)) => {
                placed.extend(set.iter().map(|member| Placed::new(endpoint, member.address, with(endpoint, member))));
            }
            (_, None) => {}
        }
    }
    placed
}

impl Placed {
    fn new(entry: &EndpointParams, ip: IpAddr, params: EndpointParams) -> Self {
        Self { address: SocketAddr::new(ip, params.port), written: Target::of(entry), params }
    }
}

fn with(entry: &EndpointParams, member: &Member) -> EndpointParams {
    EndpointParams {
        host: member.host.clone().map_or_else(|| entry.host.clone(), Host::Name),
        port: member.port.unwrap_or(entry.port),
        weight: member.weight.unwrap_or(entry.weight),
        priority: entry.priority.saturating_add(member.priority).min(PRIORITY_MAX),
        ..entry.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn what_a_source_says_comes_before_what_the_entry_says() {
        let srv = EndpointParams {
            priority: 14,
            backup: true,
            ..EndpointParams::new(Host::Srv("_http._tcp.example.com".to_owned()), 0)
        };
        let name = EndpointParams { weight: 7, ..EndpointParams::new(Host::Name("api.example.com".to_owned()), 80) };
        let plain = EndpointParams::new(Host::Address(ip(9)), 81);
        let member = |priority, last, host: &str, weight| Member {
            priority,
            address: ip(last),
            port: Some(8080),
            host: Some(host.to_owned()),
            weight: Some(weight),
        };
        let bare = Member { priority: 0, address: ip(3), port: None, host: None, weight: None };
        let mut resolved: HashMap<Source, Set> = HashMap::new();
        resolved.insert(
            Source::Srv("_http._tcp.example.com".to_owned()),
            [member(0, 1, "a.example.com", 5), member(2, 2, "b.example.com", 1)].into(),
        );
        let endpoints = [srv.clone(), name.clone(), plain.clone()];
        assert!(!is_known(&endpoints, &resolved));
        assert_eq!(placed(&endpoints, &resolved).len(), 3);
        resolved.insert(Source::Host("api.example.com".to_owned()), [bare].into());
        assert!(is_known(&endpoints, &resolved));
        let found = placed(&endpoints, &resolved);
        let shown: Vec<_> = found
            .iter()
            .map(|at| (at.address.to_string(), at.written.to_string(), at.params.weight, at.params.priority))
            .collect();
        let row =
            |address: &str, written: &str, weight, priority| (address.to_owned(), written.to_owned(), weight, priority);
        let expected = [
            row("10.0.0.1:8080", "_http._tcp.example.com", 5, 14),
            row("10.0.0.2:8080", "_http._tcp.example.com", 1, 15),
            row("10.0.0.3:80", "api.example.com:80", 7, 0),
            row("10.0.0.9:81", "10.0.0.9:81", 1, 0),
        ];
        assert_eq!(shown, expected);
        assert_eq!(found[1].params.host, Host::Name("b.example.com".to_owned()));
        assert!(found[1].params.backup && !found[2].params.backup);
        assert_eq!((&found[2].params, &found[3].params), (&name, &plain));
    }
}
