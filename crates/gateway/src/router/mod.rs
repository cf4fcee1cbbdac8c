//! Which route a request takes: the most specific one wins, wherever it stands in the file.
//!
//! The order is total. First the host: exact, the longest wildcard, any. Then the path: exact, the longest prefix,
//! regular expressions in the file's order, any. Then the number of other conditions, more before fewer; and last the
//! file's order. The first route in that order that matches takes the request, so one whose conditions do not hold
//! leaves it to the next.
//!
//! Paths are compared in normal form; what is sent on is the path as it came. Routes without conditions and expressions
//! cost what they would cost if there were none: a look-up per host, and one per path.

mod conditions;
mod normal;
mod split;
mod stream;
mod table;
mod target;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http1::Request;
use httpcache::KeyParts;

pub(crate) use conditions::Conditions;
pub(crate) use normal::has_dot_segment;
pub use normal::normal_path;
pub(crate) use stream::StreamRouter;
use table::Table;
pub(crate) use target::{Goal, Target};

use crate::action::{Actions, ForwardAuth};
use crate::cache::RouteCache;
use crate::compress::Compress;
use crate::limits::{Limit, Limits};
use crate::params::{HostMatch, MirrorParams, PathMatch, PriorityParams, RouteParams};
use crate::pattern::Search;
use crate::state::RouteState;

/// Longest host that a route can name. A longer one is nobody's but that of routes for any host.
const HOST_BYTES_MAX: usize = 255;

/// The routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
    hosts: Table<Paths>,
    /// Wildcards, by what follows `*.`.
    domains: Table<Paths>,
    /// Length of the longest of `domains`, so that a host of a thousand labels costs no thousand look-ups.
    domain_bytes_max: usize,
    any: Paths,
    /// What keys of caches are made of, each way once; empty where no route caches.
    keys: Vec<KeyParts>,
}

/// A route as it is configured now.
#[derive(Debug)]
pub(crate) struct Route {
    /// What outlives configurations.
    pub(crate) state: Arc<RouteState>,
    /// Where requests go.
    pub(crate) goal: Goal,
    /// What is done on the way, if anything.
    pub(crate) actions: Option<Box<Actions>>,
    /// What requests must pass first, if anything.
    pub(crate) limits: Option<Box<Limits>>,
    /// Who is asked before a request passes.
    pub(crate) auth: Option<Box<ForwardAuth>>,
    /// What responses are compressed, if any.
    pub(crate) compress: Option<Box<Compress>>,
    /// How important its requests are.
    pub(crate) priority: PriorityParams,
    /// Where a share of the requests goes as well.
    pub(crate) mirror: Option<Mirror>,
    /// What answers its requests where it can.
    pub(crate) cache: Option<Arc<RouteCache>>,
    /// Overall time for a response head.
    pub(crate) timeout: Option<Duration>,
    /// Longest pause within bodies, if it has its own.
    pub(crate) body_timeout: Option<Duration>,
    /// The host as configured.
    pub(crate) host: HostMatch,
    /// The path as configured.
    pub(crate) path: PathMatch,
    /// What else a request must have, if anything.
    pub(crate) conditions: Option<Conditions>,
    /// How many conditions these are.
    pub(crate) conditions_count: usize,
}

/// The services that a route names, by their positions.
#[derive(Debug)]
pub(crate) struct Services {
    /// Where requests go.
    pub(crate) goal: Goal,
    /// Who is asked before they pass.
    pub(crate) auth: Option<ForwardAuth>,
    /// Where a share of them goes as well.
    pub(crate) mirror: Option<Mirror>,
}

impl Services {
    /// That requests go to the service at a position, and nothing else.
    pub(crate) fn only(position: usize) -> Self {
        Self { goal: Goal::Forward(Target::Service(position)), auth: None, mirror: None }
    }
}

/// Where a share of a route's requests goes as well.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// Position of the service in the snapshot.
    pub(crate) service: usize,
    /// Largest body that is copied.
    pub(crate) body_bytes_max: usize,
    /// Random numbers up to this one are mirrored.
    bound: u64,
}

impl Mirror {
    /// A mirror with these settings to the service at a position.
    pub(crate) fn new(params: &MirrorParams, service: usize) -> Self {
        // As a whole number, since a float has not all digits of the largest one.
        let bound = if params.share >= 1.0 { u64::MAX } else { (params.share * u64::MAX as f64) as u64 };
        Self { service, body_bytes_max: params.body_bytes_max as usize, bound }
    }

    /// Whether the request with this random number is mirrored.
    pub(crate) fn takes(&self, random: u64) -> bool {
        random <= self.bound && self.bound > 0
    }
}

/// A request, as far as routing looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The core that asks.
    pub(crate) core: usize,
    /// The request.
    pub(crate) request: &'a Request,
    /// The head that it was parsed from.
    pub(crate) head: &'a [u8],
    /// Its path in normal form.
    pub(crate) path: &'a [u8],
}

/// The routes of a host, or of hosts that have no routes of their own.
#[derive(Debug, Default)]
struct Paths {
    exact: Table<Bucket>,
    /// Longest first. The prefix `/` is not among them.
    prefixes: Vec<(Box<[u8]>, Bucket)>,
    /// In the file's order, each expression once.
    patterns: Vec<(Search, Bucket)>,
    /// Routes for every path.
    any: Bucket,
}

/// The routes of one host and path, by position.
#[derive(Debug, Default)]
struct Bucket {
    /// Those with the most conditions first, then in the file's order.
    conditional: Vec<usize>,
    /// The one without conditions.
    plain: Option<usize>,
}

impl Route {
    /// The route with these settings.
    pub(crate) fn new(
        params: &RouteParams,
        state: Arc<RouteState>,
        services: Services,
        limits: Vec<Arc<Limit>>,
        cores: usize,
    ) -> Self {
        Self {
            cache: params.cache.as_ref().map(|cache| Arc::new(RouteCache::new(cache, params))),
            state,
            limits: Limits::new(limits, params.cost),
            goal: services.goal,
            auth: services.auth.map(Box::new),
            compress: params.compress.as_ref().map(|params| Box::new(Compress::new(params))),
            priority: params.priority.clone(),
            mirror: services.mirror,
            actions: Actions::new(&params.actions, &params.path, cores).map(Box::new),
            timeout: params.timeout,
            body_timeout: params.body_timeout,
            host: params.host.clone(),
            path: params.path.clone(),
            conditions: Conditions::new(&params.conditions, params.actions.cors.is_some(), cores),
            conditions_count: params.conditions.count(),
        }
    }
}

impl Route {
    /// Whether its requests need the service at a position.
    pub(crate) fn leads_to(&self, service: usize) -> bool {
        self.goal.leads_to(service) || self.auth.as_ref().is_some_and(|auth| auth.service == service)
    }
}

impl Router {
    /// A router over these routes, for so many cores.
    pub(crate) fn new(routes: Vec<Route>, cores: usize) -> Self {
        let mut router = Self::default();
        // Where the expressions of a host are, while the tables are built.
        let mut patterns = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostMatch::Exact(host) => router.hosts.entry(host.as_bytes().into()).or_default(),
                HostMatch::Under(domain) => router.domains.entry(domain.as_bytes().into()).or_default(),
                HostMatch::Any => &mut router.any,
            };
            let bucket = match &route.path {
                PathMatch::Exact(path) => paths.exact.entry(path.as_bytes().into()).or_default(),
                PathMatch::Prefix(prefix) if prefix == "/" => &mut paths.any,
                PathMatch::Prefix(prefix) => paths.prefix(prefix.as_bytes()),
                PathMatch::Regex(pattern) => {
                    let at = *patterns.entry((&route.host, pattern.as_str())).or_insert_with(|| {
                        paths.patterns.push((Search::new(pattern, cores), Bucket::default()));
                        paths.patterns.len() - 1
                    });
                    &mut paths.patterns[at].1
                }
            };
            bucket.add(index, route);
        }
        for paths in router.hosts.values_mut().chain(router.domains.values_mut()).chain([&mut router.any]) {
            paths.prefixes.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
            paths
                .buckets()
                .for_each(|bucket| bucket.conditional.sort_by_key(|&at| Reverse(routes[at].conditions_count)));
        }
        router.domain_bytes_max = router.domains.keys().map(|domain| domain.len()).max().unwrap_or(0);
        for cache in routes.iter().filter_map(|route| route.cache.as_ref()) {
            let key = &cache.params.policy.key;
            if !router.keys.contains(key) {
                router.keys.push(key.clone());
            }
        }
        router.routes = routes;
        router
    }

    /// Where one of the routes stands among them.
    pub(crate) fn position(&self, route: &Route) -> usize {
        self.routes.iter().position(|other| std::ptr::eq(other, route)).unwrap_or(usize::MAX)
    }

    /// What keys of caches are made of, each way once; empty where no route caches.
    pub(crate) fn keys(&self) -> &[KeyParts] {
        &self.keys
    }

    /// The routes, in the file's order.
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The position of the route that a request takes.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Option<usize> {
        if !self.hosts.is_empty() || !self.domains.is_empty() {
            let mut room = [0; HOST_BYTES_MAX];
            if let Some(host) = lower_host(asked.request.host.of_buf(asked.head), &mut room)
                && let Some(found) = self.find_by_host(host, asked)
            {
                return Some(found);
            }
        }
        self.any.find(&self.routes, asked)
    }

    fn find_by_host(&self, host: &[u8], asked: &Asked<'_>) -> Option<usize> {
        if let Some(found) = self.hosts.get(host).and_then(|paths| paths.find(&self.routes, asked)) {
            return Some(found);
        }
        if self.domains.is_empty() {
            return None;
        }
        let dots = memchr::memchr_iter(b'.', host).filter(|&at| at > 0 && host[at - 1] != b'.');
        let domains = dots.map(|at| &host[at + 1..]).filter(|domain| domain.len() <= self.domain_bytes_max);
        domains.filter_map(|domain| self.domains.get(domain)).find_map(|paths| paths.find(&self.routes, asked))
    }
}

/// A host without port and final dot, in lower case. `None` when it is too long to be anyone's.
fn lower_host<'r>(host: &[u8], room: &'r mut [u8; HOST_BYTES_MAX]) -> Option<&'r [u8]> {
    let host = http1::host_without_port(host);
    let host = host.strip_suffix(b".").unwrap_or(host);
    let lower = room.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    Some(lower)
}

impl<'a> Asked<'a> {
    /// The request's query, without its `?`; empty when there is none.
    pub(crate) fn query(&self) -> &'a [u8] {
        let target = self.request.target.path_and_query.of_buf(self.head);
        memchr::memchr(b'?', target).map_or(b"", |at| &target[at + 1..])
    }
}

impl Paths {
    fn prefix(&mut self, prefix: &[u8]) -> &mut Bucket {
        let at = self.prefixes.iter().position(|(known, _)| **known == *prefix).unwrap_or_else(|| {
            self.prefixes.push((prefix.into(), Bucket::default()));
            self.prefixes.len() - 1
        });
        &mut self.prefixes[at].1
    }

    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        let prefixes = self.prefixes.iter_mut().map(|(_, bucket)| bucket);
        let patterns = self.patterns.iter_mut().map(|(_, bucket)| bucket);
        self.exact.values_mut().chain(prefixes).chain(patterns).chain([&mut self.any])
    }

    fn find(&self, routes: &[Route], asked: &Asked<'_>) -> Option<usize> {
        let path = asked.path;
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(path).and_then(|bucket| bucket.find(routes, asked))
        {
            return Some(found);
        }
        for (prefix, bucket) in &self.prefixes {
            if is_under(path, prefix)
                && let Some(found) = bucket.find(routes, asked)
            {
                return Some(found);
            }
        }
        for (search, bucket) in &self.patterns {
            if search.matches(asked.core, path)
                && let Some(found) = bucket.find(routes, asked)
            {
                return Some(found);
            }
        }
        self.any.find(routes, asked)
    }
}

impl Bucket {
    fn add(&mut self, index: usize, route: &Route) {
        if route.conditions.is_some() {
            self.conditional.push(index);
        } else {
            // A second one would never be used, and is refused with the parameters.
            self.plain.get_or_insert(index);
        }
    }

    fn find(&self, routes: &[Route], asked: &Asked<'_>) -> Option<usize> {
        if self.conditional.is_empty() {
            return self.plain;
        }
        let holds = |at: &&usize| routes[**at].conditions.as_ref().is_some_and(|conditions| conditions.hold(asked));
        self.conditional.iter().find(holds).copied().or(self.plain)
    }
}

/// Whether a path is under a prefix that ends with `/`, or is the prefix without that.
fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    path.starts_with(prefix) || prefix.strip_suffix(b"/").is_some_and(|bare| bare == path)
}
