//! What the gateway is told to do, checked. Built by the `config` crate or by a program that embeds the gateway.
//!
//! The parts are plain data of types that hold only valid values; [`GatewayParams::new`] checks what concerns several
//! of them (names are unique, references resolve), and only it can make a [`GatewayParams`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use ::breaker::{BackoffParams, BudgetParams};
use acme::AcmeParams;
use balance::slow_start::SlowStartParams;
use balance::{Algorithm, health};
use ipnet::IpNet;
use net::tls::{ClientTls, ServerTls};
use preface::proxy;
use vocab::Name;

mod action;
mod breaker;
mod cache;
mod compress;
mod endpoint;
mod files;
mod limit;
mod route;
mod shedding;
mod stream;

pub use ::limit::gradient::{Class, GradientParams};
pub use ::limit::lease::store::LeaseQuota;
pub use ::limit::{Prefixes, Rate};
pub use discovery::{Family, ResolverParams, WhenEmpty};
pub use endpoint::{EndpointParams, Host};
pub use limit_redis::StoreParams;

pub use self::breaker::{BreakerScope, FallbackParams, LimitsParams, ServiceBreakerParams};
pub use cache::{CACHE_OWN_FIELDS, CacheDiskParams, CacheParams, CacheStoreParams, CacheTold};
/// What a cache's policy is made of.
pub use httpcache as cache_policy;
pub use httpcache::Policy as CachePolicy;

pub use action::{
    ActionParams, BasicAuthParams, CorsOrigins, CorsParams, Credential, CredentialError, FieldEdits, FieldError,
    FieldLine, FieldName, FixedParams, Message, OriginMatch, PathChange, PathTemplate, RedirectParams, Scheme,
    TemplateError,
};

pub use compress::{CompressParams, Effort, MediaRange};
pub use files::{Coding, FilePath, FilesParams};
pub use limit::{KeyPart, LimitLaw, LimitParams, RateLaw, SharedParams, Tell, WithoutStore};
pub use route::{
    Conditions, ForwardAuthParams, HostMatch, MirrorParams, PathMatch, RouteParams, RouteTarget, ShareParams,
    SplitParams, ValueMatch, ValueSource,
};
pub use shedding::{PriorityParams, SheddingParams};
pub use stream::{ListenerKind, StreamRouteParams};

/// Everything the gateway serves.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayParams {
    workers: NonZeroUsize,
    drain_timeout: Duration,
    listeners: Vec<ListenerParams>,
    routes: Vec<RouteParams>,
    services: Vec<ServiceParams>,
    resolver: ResolverParams,
    cache: CacheStoreParams,
}

/// One `[listener.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerParams {
    /// The listener's name.
    pub name: Name,
    /// What it serves. Further settings that are HTTP's mean nothing to other listeners.
    pub kind: ListenerKind,
    /// Addresses that it accepts connections on; at least one.
    pub addresses: Vec<SocketAddr>,
    /// Most client connections at once; further ones are closed and counted.
    pub connections_max: NonZeroU32,
    /// Most of them from one client, which is an IPv4 address or a /64 of IPv6; `None` without bound.
    pub connections_per_client_max: Option<NonZeroU32>,
    /// Largest request head in bytes, request line included.
    pub head_bytes_max: NonZeroU32,
    /// Most header fields in a request.
    pub head_fields_max: NonZeroU32,
    /// Largest request body in bytes; `None` means without bound (bodies are streamed, not kept).
    pub body_bytes_max: Option<u64>,
    /// Time for a whole request head, from its first byte.
    pub head_timeout: Duration,
    /// Longest pause within a request body.
    pub body_timeout: Duration,
    /// Longest time without progress while the client does not read its response.
    pub write_timeout: Duration,
    /// Longest time that a connection waits for its next request.
    pub idle_timeout: Duration,
    /// Peers whose `X-Forwarded-*` and `Forwarded` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Peers whose connections begin with a header of the PROXY protocol, which says whose they are.
    pub proxy_protocol: Vec<IpNet>,
    /// TLS, if connections are under it.
    pub tls: Option<ServerTls>,
    /// Hosts whose certificates are ordered and renewed; they are those that `tls` has managed.
    pub acme: Option<AcmeParams>,
    /// HTTP/2, if it is spoken: by agreement under TLS, and else with clients that begin with it.
    pub http2: Option<Http2Params>,
    /// Time for a TLS handshake, from the connection on; and for a PROXY header before it.
    pub handshake_timeout: Duration,
}

/// One `[service.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceParams {
    /// The service's name.
    pub name: Name,
    /// How an endpoint is picked.
    pub balance: Algorithm,
    /// What of a request is hashed, for the algorithms that hash.
    pub hash_key: HashKey,
    /// For the algorithms that hash: an endpoint is passed over while it has more than this many times its share of the
    /// requests in flight; at least 1. `None` never.
    pub hash_load_factor: Option<f64>,
    /// Sticky sessions by cookie, if wanted.
    pub sticky: Option<StickyParams>,
    /// Endpoints as written; at least one. A host name stands for each of its addresses.
    pub endpoints: Vec<EndpointParams>,
    /// The gateway's own zone, whose endpoints come before others of their priority; `None` when zones do not matter.
    pub zone: Option<Name>,
    /// How health is judged.
    pub health: health::HealthParams,
    /// What an active check asks; `None` when there are no active checks.
    pub check: Option<CheckParams>,
    /// How new endpoints get their share.
    pub slow_start: SlowStartParams,
    /// When and how often a request is sent again; `None` never.
    pub retry: Option<RetryParams>,
    /// What keeps requests from it while it fails; `None` nothing.
    pub breaker: Option<ServiceBreakerParams>,
    /// Bounds on what is under way.
    pub limits: LimitsParams,
    /// How load is shed; `None` when all of it is taken.
    pub shedding: Option<SheddingParams>,
    /// What is served instead when it is not asked.
    pub fallback: Option<FallbackParams>,
    /// Time to connect to an endpoint.
    pub connect_timeout: Duration,
    /// Time for one try, from sending the request to the end of the response's head.
    pub response_timeout: Duration,
    /// Longest pause within a response body.
    pub body_timeout: Duration,
    /// Longest time without progress while the upstream does not read the request.
    pub write_timeout: Duration,
    /// The pools of connections to endpoints.
    pub pool: PoolParams,
    /// Largest response head in bytes.
    pub head_bytes_max: NonZeroU32,
    /// What the endpoints speak.
    pub protocol: Protocol,
    /// TLS to the endpoints, if wanted.
    pub tls: Option<ClientTls>,
    /// The version of the PROXY protocol by which endpoints are told whose each connection is, if they want to know.
    /// Connections for HTTP then carry one request each.
    pub send_proxy: Option<proxy::Version>,
    /// Whether the request's `Host` is passed on (`true`) or replaced by the endpoint's address as written.
    pub keep_host: bool,
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, without asking: what gRPC needs.
    Http2,
}

/// HTTP/2 with clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Params {
    /// Most requests at once on a connection.
    pub streams_max: NonZeroU32,
}

/// What an active check asks of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckParams {
    /// The question.
    pub kind: CheckKind,
    /// Time between the starts of two checks of one endpoint, jittered by a tenth.
    pub interval: Duration,
    /// Time for a check to finish.
    pub timeout: Duration,
    /// Port to ask instead of the endpoint's own.
    pub port: Option<u16>,
}

/// The question of an active check.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// A TCP connection can be made.
    Tcp,
    /// A GET is answered well.
    Http {
        /// Path and query, starting with `/`.
        path: String,
        /// `Host` to send; the endpoint's own when `None`.
        host: Option<String>,
        /// Statuses that count as healthy, inclusive.
        statuses: Vec<(u16, u16)>,
        /// Text that the first 64 KiB of the body must contain.
        body_contains: Option<String>,
    },
    /// gRPC's health protocol says that it serves.
    Grpc {
        /// The service to ask about; empty for the server as a whole.
        service: String,
    },
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// The path without its query.
    Path,
    /// A header field, by lower-case name; requests without it are hashed by client address.
    Header(String),
    /// A cookie, by name; requests without it are hashed by client address.
    Cookie(String),
}

/// Sticky sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyParams {
    /// The cookie's name.
    pub cookie: String,
    /// Its lifetime; `None` for a session cookie.
    pub ttl: Option<Duration>,
}

/// When and how often a request is sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryParams {
    /// What is retried.
    pub on: RetryOn,
    /// Most tries after the first.
    pub retries_max: u32,
    /// Pause before a retry.
    pub backoff: BackoffParams,
    /// Share of requests that retries may add.
    pub budget: BudgetParams,
    /// Request bodies up to this size are kept so that they can be sent again.
    pub body_bytes_max: u32,
}

/// Failures that are retried where it is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// A connection could not be made, or broke before the response head.
    pub error: bool,
    /// Connecting or the response head took too long.
    pub timeout: bool,
    /// The response head was not HTTP.
    pub invalid_header: bool,
    /// Response statuses, each 400 to 599.
    pub statuses: Vec<u16>,
}

/// Pools of upstream connections. Every worker core has its own pool per endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolParams {
    /// Most idle connections per endpoint and core.
    pub idle_max: u32,
    /// An idle connection is closed after this time.
    pub idle_timeout: Duration,
    /// Most connections per endpoint, all cores together.
    pub connections_max: NonZeroU32,
}

/// A contradiction between parts of the parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Two listeners, routes or services have one name.
    #[error("{kind} {name}: the name is used twice")]
    Duplicate {
        /// `listener`, `route` or `service`.
        kind: &'static str,
        /// The name.
        name: Name,
    },
    /// A route names a listener or service that does not exist.
    #[error("route {route}: no {kind} is named {name}")]
    Unknown {
        /// The route.
        route: Name,
        /// `listener` or `service`.
        kind: &'static str,
        /// The name that is not there.
        name: Name,
    },
    /// A listener leads to a service that does not exist.
    #[error("listener {listener}: no service is named {name}")]
    UnknownOfListener {
        /// The listener.
        listener: Name,
        /// The name that is not there.
        name: Name,
    },
    /// A service is to fall back on one that does not exist, or on itself.
    #[error("service {service}: {name} is no other service to fall back on")]
    Fallback {
        /// The service.
        service: Name,
        /// What it names.
        name: Name,
    },
    /// Two routes of a listener match the same requests.
    #[error("route {second}: matches the same requests as route {first}")]
    Shadowed {
        /// The route that wins.
        first: Name,
        /// The route that would never be used.
        second: Name,
    },
    /// Two listeners want one address.
    #[error("listener {second}: {address} is taken by listener {first}")]
    AddressTaken {
        /// The address.
        address: SocketAddr,
        /// Who has it.
        first: Name,
        /// Who wants it too.
        second: Name,
    },
}

impl GatewayParams {
    /// Checks what concerns several parts.
    ///
    /// # Errors
    /// Every contradiction found, in the order of the parts.
    pub fn new(
        workers: NonZeroUsize,
        drain_timeout: Duration,
        listeners: Vec<ListenerParams>,
        routes: Vec<RouteParams>,
        services: Vec<ServiceParams>,
    ) -> Result<Self, Vec<ParamsError>> {
        let mut errors = Vec::new();
        duplicates("listener", listeners.iter().map(|l| &l.name), &mut errors);
        duplicates("route", routes.iter().map(|r| &r.name), &mut errors);
        duplicates("service", services.iter().map(|s| &s.name), &mut errors);
        taken_addresses(&listeners, &mut errors);
        for listener in &listeners {
            for name in listener.kind.services().filter(|name| !services.iter().any(|s| s.name == **name)) {
                errors.push(ParamsError::UnknownOfListener { listener: listener.name.clone(), name: name.clone() });
            }
        }
        fallbacks(&services, &mut errors);
        #[allow(clippy::mutable_key_type, reason = "patterns are compared and hashed by their texts")]
        let mut served = HashMap::new();
        for route in &routes {
            let mut unknown = |kind, name: &Name| {
                errors.push(ParamsError::Unknown { route: route.name.clone(), kind, name: name.clone() });
            };
            if !listeners.iter().any(|l| l.name == route.listener) {
                unknown("listener", &route.listener);
            }
            for service in route.services().filter(|name| !services.iter().any(|s| s.name == **name)) {
                unknown("service", service);
            }
            let first = *served.entry(route.served()).or_insert(route);
            if !std::ptr::eq(first, route) {
                errors.push(ParamsError::Shadowed { first: first.name.clone(), second: route.name.clone() });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let (resolver, cache) = (ResolverParams::default(), CacheStoreParams::default());
        Ok(Self { workers, drain_timeout, listeners, routes, services, resolver, cache })
    }

    /// The same with names resolved in this way.
    #[must_use]
    pub fn with_resolver(self, resolver: ResolverParams) -> Self {
        Self { resolver, ..self }
    }

    /// The same with this to cache in.
    #[must_use]
    pub fn with_cache(self, cache: CacheStoreParams) -> Self {
        Self { cache, ..self }
    }

    /// What routes cache in.
    pub fn cache(&self) -> &CacheStoreParams {
        &self.cache
    }

    /// How names of endpoints are resolved.
    pub fn resolver(&self) -> &ResolverParams {
        &self.resolver
    }

    /// Worker cores, one thread each.
    pub fn workers(&self) -> NonZeroUsize {
        self.workers
    }

    /// Longest time that a stop waits for requests under way.
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// The listeners, in the file's order.
    pub fn listeners(&self) -> &[ListenerParams] {
        &self.listeners
    }

    /// The routes, in the file's order.
    pub fn routes(&self) -> &[RouteParams] {
        &self.routes
    }

    /// The services, in the file's order.
    pub fn services(&self) -> &[ServiceParams] {
        &self.services
    }
}

fn fallbacks(services: &[ServiceParams], errors: &mut Vec<ParamsError>) {
    for service in services {
        let Some(FallbackParams::Service(name)) = &service.fallback else { continue };
        if *name == service.name || !services.iter().any(|other| other.name == *name) {
            errors.push(ParamsError::Fallback { service: service.name.clone(), name: name.clone() });
        }
    }
}

fn duplicates<'a>(kind: &'static str, names: impl Iterator<Item = &'a Name>, errors: &mut Vec<ParamsError>) {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            errors.push(ParamsError::Duplicate { kind, name: name.clone() });
        }
    }
}

fn taken_addresses(listeners: &[ListenerParams], errors: &mut Vec<ParamsError>) {
    let mut taken: Vec<(SocketAddr, bool, &Name)> = Vec::new();
    for listener in listeners {
        // Ports of TCP and of UDP have nothing to do with each other.
        let udp = matches!(listener.kind, ListenerKind::Udp(_));
        for &address in &listener.addresses {
            // Port 0 asks the system for a free port, so two of them never meet.
            let same = |other: &&(SocketAddr, bool, &Name)| (other.0, other.1) == (address, udp);
            let clash = taken.iter().find(same).filter(|_| address.port() != 0);
            if let Some((_, _, first)) = clash {
                let (first, second) = ((*first).clone(), listener.name.clone());
                errors.push(ParamsError::AddressTaken { address, first, second });
            }
            taken.push((address, udp, &listener.name));
        }
    }
}

impl Default for PoolParams {
    fn default() -> Self {
        // 32 idle connections a core cover the concurrency of most services; 60 s is below the keep-alive time of
        // common servers (75 s in nginx), so that it is rarely the server that closes first.
        Self {
            idle_max: 32,
            idle_timeout: Duration::from_secs(60),
            connections_max: NonZeroU32::new(1024).expect("1024 is not zero"),
        }
    }
}
