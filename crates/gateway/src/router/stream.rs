//! Which route a connection takes that is not HTTP: the most specific one wins, wherever it stands in the file.
//!
//! First the host that the client names in its TLS handshake: exact, the longest wildcard, any. Then routes that ask
//! for a protocol before those that do not, and last the file's order. A client that names no host takes a route
//! for any.

use std::cmp::Reverse;

use vocab::Name;

use super::table::Table;
use crate::params::{HostMatch, StreamRouteParams};

/// The routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct StreamRouter {
    routes: Vec<StreamRoute>,
    /// Positions of routes, the more specific first.
    exact: Table<Vec<usize>>,
    /// By what follows `*.`.
    domains: Table<Vec<usize>>,
    any: Vec<usize>,
    looks: bool,
}

/// A route as it is configured now.
#[derive(Debug)]
pub(crate) struct StreamRoute {
    /// Its name, if it has one of its own.
    pub(crate) name: Option<Name>,
    /// The host as configured.
    pub(crate) host: HostMatch,
    /// Protocols of which one has to be offered; empty for any client.
    pub(crate) alpn: Vec<String>,
    /// Position of its service in the snapshot.
    pub(crate) service: usize,
}

impl StreamRouter {
    /// A router for these routes. `position` tells where a service stands; a route to one that is not there is left out.
    pub(crate) fn new(params: &[StreamRouteParams], position: impl Fn(&Name) -> Option<usize>) -> Self {
        let mut router = Self::default();
        for route in params {
            let Some(service) = position(&route.service) else { continue };
            let at = router.routes.len();
            match &route.host {
                HostMatch::Exact(host) => router.exact.entry(host.as_bytes().into()).or_default().push(at),
                HostMatch::Under(domain) => router.domains.entry(domain.as_bytes().into()).or_default().push(at),
                HostMatch::Any => router.any.push(at),
            }
            router.looks |= route.looks();
            let (name, host, alpn) = (route.name.clone(), route.host.clone(), route.alpn.clone());
            router.routes.push(StreamRoute { name, host, alpn, service });
        }
        let StreamRouter { routes, exact, domains, any, .. } = &mut router;
        for positions in exact.values_mut().chain(domains.values_mut()).chain([any]) {
            positions.sort_by_key(|&at| Reverse(!routes[at].alpn.is_empty()));
        }
        router
    }

    /// The routes, in the file's order.
    pub(crate) fn routes(&self) -> &[StreamRoute] {
        &self.routes
    }

    /// Whether a route goes by what the client says in its TLS handshake.
    pub(crate) fn looks(&self) -> bool {
        self.looks
    }

    /// The route of a client that names this host, lower case, and offers these protocols.
    pub(crate) fn find(&self, host: Option<&str>, alpn: &[impl AsRef<[u8]>]) -> Option<&StreamRoute> {
        let fits = |positions: &Vec<usize>| {
            let routes = positions.iter().map(|&at| &self.routes[at]);
            let mut fitting = routes.filter(|route| {
                let offered = |wanted: &String| alpn.iter().any(|offered| offered.as_ref() == wanted.as_bytes());
                route.alpn.is_empty() || route.alpn.iter().any(offered)
            });
            fitting.next()
        };
        let of_host = |host: &str| {
            let exact = self.exact.get(host.as_bytes()).and_then(fits);
            let mut parents = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
            exact.or_else(|| parents.find_map(|domain| self.domains.get(domain.as_bytes()).and_then(fits)))
        };
        host.and_then(of_host).or_else(|| fits(&self.any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, alpn: &[&str], service: &str) -> StreamRouteParams {
        let host = match host.strip_prefix("*.") {
            _ if host.is_empty() => HostMatch::Any,
            Some(domain) => HostMatch::Under(domain.to_owned()),
            None => HostMatch::Exact(host.to_owned()),
        };
        let alpn = alpn.iter().map(|&name| name.to_owned()).collect();
        StreamRouteParams { name: None, host, alpn, service: service.parse().unwrap() }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let names = ["s0", "s1", "s2", "s3", "s4", "s5"];
        let position = |name: &Name| names.iter().position(|known| *known == name.as_str());
        let routes = [
            route("", &[], "s0"),
            route("*.example.com", &[], "s1"),
            route("*.api.example.com", &[], "s2"),
            route("api.example.com", &["h2", "spdy"], "s3"),
            route("", &["postgresql"], "s4"),
            route("only.example.com", &["h2"], "s5"),
            route("lost.example.com", &[], "nowhere"),
        ];
        let router = StreamRouter::new(&routes, position);
        assert!(router.looks());
        let check = |host: Option<&str>, alpn: &[&str], expected: usize| {
            assert_eq!(router.find(host, alpn).map(|route| route.service), Some(expected), "{host:?} {alpn:?}");
        };
        check(None, &[], 0);
        check(None, &["h2", "postgresql"], 4);
        check(Some("example.com"), &[], 0);
        check(Some("www.example.com"), &["postgresql"], 1);
        check(Some("api.example.com"), &["http/1.1", "h2"], 3);
        check(Some("api.example.com"), &["http/1.1"], 1);
        check(Some("v1.api.example.com"), &[], 2);
        check(Some("a.b.api.example.com"), &[], 2);
        check(Some("only.example.com"), &[], 1);
        check(Some("other.org"), &[], 0);
    }

    #[test]
    fn without_a_route_for_any_there_may_be_none() {
        let router = StreamRouter::new(&[route("a.example.com", &["h2"], "s")], |_| Some(0));
        assert!(router.find(Some("a.example.com"), &[b"h2"]).is_some());
        assert!(router.find(Some("a.example.com"), &[b"h3"]).is_none());
        assert!(router.find(Some("b.example.com"), &[b"h2"]).is_none());
        assert!(router.find(None, &[b"h2"]).is_none());
        let plain = StreamRouter::new(&[StreamRouteParams::every("s".parse().unwrap())], |_| Some(0));
        assert!(!plain.looks());
    }
}
