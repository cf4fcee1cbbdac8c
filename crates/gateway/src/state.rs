//! What all cores share: one object per configured name, kept across reloads, and the snapshot that joins them.
//!
//! The control plane alone changes anything here but the named atomics. Per request: an endpoint's requests in flight and,
//! for `peak_ewma`, its average latency; a service's requests under way where they are bounded, and its breaker. Per retry: the service's retry budget. Per connection: an endpoint's and a
//! listener's open connections, and the cores' loads. Per failed endpoint: its probe permit. It publishes a new
//! [`Snapshot`] for every change; a core notices by one number that it reads per request.

use std::mem::Discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use balance::Plan;
use balance::health::{Outcome, State};
use breaker::{Breaker, RetryBudget};
use coding::Coding;
use net::tls::ServerName;
use telemetry::cell::{Counter, Gauge, Sharded};
use telemetry::{EndpointMetrics, ListenerMetrics, RouteMetrics, ServiceMetrics};
use tokio::sync::mpsc;
use vocab::Name;

use crate::cache::{Apart, CacheCounts, Current, Tiers};
use crate::change::Target;
use crate::clients::Clients;
use crate::control::breakers::Forced;
use crate::control::names::NameView;
use crate::control::overrides::Shown;
use crate::limits::Seed;
use crate::params::{ListenerKind, ListenerParams, ServiceParams};
use crate::router::{Router, StreamRouter};
use crate::shed::Gate;

/// The root of everything shared.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How many cores there are.
    pub(crate) cores: usize,
    /// The moment that latencies' ages count from.
    pub(crate) epoch: Instant,
    /// Where cores report how requests went.
    pub(crate) reports: mpsc::Sender<Report>,
    /// What keys of limits are hashed under.
    pub(crate) limit_seed: Seed,
    /// What routes cache in.
    pub(crate) cache: Arc<Current>,
    /// Of which keys answers were not to be stored lately.
    pub(crate) apart: Apart,
    /// Answers to authorities that ask who holds a host.
    pub(crate) tokens: acme::Tokens,
    snapshot: ArcSwap<Snapshot>,
    /// Names of endpoints, for whoever looks; no core does.
    names: ArcSwap<Vec<NameView>>,
    generation: Padded<AtomicU64>,
}

/// What is served at a moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Counts snapshots.
    pub(crate) generation: u64,
    /// Listeners that accept connections.
    pub(crate) listeners: Vec<Arc<ListenerView>>,
    /// Services; routes name them by position.
    pub(crate) services: Vec<Arc<ServiceView>>,
    /// What was changed at run time, for whoever looks; the services' views have it applied.
    pub(crate) overrides: Arc<[Shown]>,
    /// Breakers that are held open or closed, for whoever looks.
    pub(crate) forced: Arc<[Forced]>,
}

/// A listener as it is configured now.
#[derive(Debug)]
pub(crate) struct ListenerView {
    /// What outlives configurations.
    pub(crate) state: Arc<ListenerState>,
    /// Its settings.
    pub(crate) params: ListenerParams,
    /// Addresses that it really listens on, where the settings leave the port to the system.
    pub(crate) bound: Vec<SocketAddr>,
    /// Bounds on request heads.
    pub(crate) limits: http1::Limits,
    /// Which route a request takes.
    pub(crate) router: Router,
    /// Which route a connection takes, if the listener serves no HTTP.
    pub(crate) streams: StreamRouter,
    /// Certificates that are ordered and renewed.
    pub(crate) kept: Vec<Arc<acme::Kept>>,
}

/// What outlives a listener's configurations.
#[derive(Debug)]
pub(crate) struct ListenerState {
    /// Its name.
    pub(crate) name: Name,
    /// What it serves. Another kind makes it another listener.
    pub(crate) kind: Discriminant<ListenerKind>,
    is_udp: bool,
    /// Its counts.
    pub(crate) metrics: ListenerMetrics,
    /// Client connections, held against the cap.
    pub(crate) open: Padded<AtomicU32>,
    /// The cap, changed by reloads.
    pub(crate) connections_max: AtomicU32,
    /// Connections by client, where they have a cap.
    pub(crate) clients: Clients,
}

/// What outlives a route's configurations.
#[derive(Debug)]
pub(crate) struct RouteState {
    /// Its name.
    pub(crate) name: Name,
    /// Its counts.
    pub(crate) metrics: RouteMetrics,
    /// Requests under way, by core.
    in_flight: Sharded<Gauge>,
    /// Requests that were mirrored, and those that should have been.
    mirrored: Sharded<[Counter; 2]>,
    /// Requests that another service was asked about, by [`Permission`].
    asked: Sharded<[Counter; 3]>,
    /// Requests for files, by [`Served`].
    served: Sharded<[Counter; 5]>,
    /// Responses that were compressed, by coding; bytes of them before, and after.
    compressed: Sharded<[Counter; Coding::ALL.len() + 2]>,
    /// Requests that the cache was asked for.
    pub(crate) cached: CacheCounts,
}

/// What came of asking a service whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
    /// There was no answer to go by.
    Failed,
}

/// What came of a request for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It was in the kernel's memory.
    Memory,
    /// A disk had to be waited for.
    Disk,
    /// There is none.
    Missing,
    /// The path may not be served, or leads out of the root.
    Refused,
    /// It could not be read.
    Failed,
}

/// A request under way on a route, until this is dropped, however the request ends.
#[derive(Debug)]
pub(crate) struct UnderWay<'r>(&'r Gauge);

/// A service as it stands now.
#[derive(Debug)]
pub(crate) struct ServiceView {
    /// What outlives configurations.
    pub(crate) state: Arc<ServiceState>,
    /// Its settings.
    pub(crate) params: Arc<ServiceParams>,
    /// The tables for picking; positions are those of `endpoints`.
    pub(crate) plan: Arc<Plan>,
    /// Its endpoints.
    pub(crate) endpoints: Vec<EndpointView>,
    /// Positions of endpoints that wait for a probe.
    pub(crate) probing: Vec<u16>,
    /// What keeps requests from it, if it has one breaker.
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// Positions of endpoints whose breakers were not closed.
    pub(crate) tripped: Vec<u16>,
    /// Retries that it may make.
    pub(crate) budget: Option<Arc<RetryBudget>>,
    /// What admits requests, if load is shed.
    pub(crate) shedding: Option<Arc<Gate>>,
    /// Bounds on response heads.
    pub(crate) limits: http1::Limits,
}

/// What outlives a service's configurations.
#[derive(Debug)]
pub(crate) struct ServiceState {
    /// Its name.
    pub(crate) name: Name,
    /// Its counts.
    pub(crate) metrics: ServiceMetrics,
    /// Requests that were to go to it, for the retry budget.
    pub(crate) requests: Sharded<Counter>,
    /// Requests under way, all cores together, while `requests_max` bounds them.
    pub(crate) requests_open: Padded<AtomicU32>,
    /// Requests that are being sent again, all cores together, while `retries_max` bounds them.
    pub(crate) retries_open: Padded<AtomicU32>,
}

/// An endpoint as it stands now.
#[derive(Debug)]
pub(crate) struct EndpointView {
    /// What outlives configurations.
    pub(crate) state: Arc<EndpointState>,
    /// The `Host` to send when the client's is not kept.
    pub(crate) host: String,
    /// The name that its certificate must be for, if the service is under TLS.
    pub(crate) name: Option<ServerName<'static>>,
    /// How the configuration names it.
    pub(crate) target: Target,
    /// Configured weight.
    pub(crate) weight: u16,
    /// Where it is, if that is known.
    pub(crate) zone: Option<Name>,
    /// Whether it gets no new requests by the operator's wish.
    pub(crate) drain: bool,
    /// What keeps requests from it, if it has a breaker of its own.
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// What health says.
    pub(crate) health: State,
    /// Whether anything is known of its health yet.
    pub(crate) checked: bool,
    /// Why, if it is not healthy.
    pub(crate) cause: Option<String>,
}

/// What outlives an endpoint's configurations.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Identity among the service's endpoints.
    pub(crate) id: u64,
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// The address as metrics name it.
    pub(crate) label: String,
    /// Its counts.
    pub(crate) metrics: EndpointMetrics,
    /// Requests under way, all cores together.
    pub(crate) in_flight: Padded<AtomicU32>,
    /// Peak EWMA of its latency, packed.
    pub(crate) latency: Padded<AtomicU64>,
    /// Open connections, all cores together.
    pub(crate) connections: AtomicU32,
    /// Idle connections, by core.
    pub(crate) idle: Sharded<Gauge>,
    /// Whether health wants to hear of successes.
    pub(crate) wants_success: AtomicBool,
    /// The one permit to probe, there to be taken.
    pub(crate) probe: AtomicBool,
}

/// What a core has to tell of a service.
#[derive(Debug)]
pub(crate) struct Report {
    /// The service, by identity of its state.
    pub(crate) service: Arc<ServiceState>,
    /// The endpoint.
    pub(crate) endpoint: u64,
    /// What happened.
    pub(crate) event: Happened,
}

/// What happened at an endpoint.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A request has ended.
    Outcome(Outcome),
    /// A breaker has moved: that of the endpoint, or of its service.
    Breaker(breaker::circuit::Change),
}

/// A value on cache lines of its own, because all cores write it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl Shared {
    /// Nothing served yet.
    pub(crate) fn new(cores: usize, reports: mpsc::Sender<Report>, cache: Tiers) -> Self {
        Self {
            cores,
            epoch: Instant::now(),
            reports,
            limit_seed: Seed::random(),
            cache: Current::new(cache),
            apart: Apart::default(),
            tokens: acme::Tokens::default(),
            snapshot: ArcSwap::default(),
            names: ArcSwap::default(),
            generation: Padded::default(),
        }
    }

    /// Replaces the snapshot, whose generation is filled in here. Only the control plane may call this.
    pub(crate) fn publish(&self, mut snapshot: Snapshot) {
        snapshot.generation = self.generation.0.load(Ordering::Relaxed) + 1;
        let generation = snapshot.generation;
        self.snapshot.store(Arc::new(snapshot));
        // Release: who sees the number finds the snapshot.
        self.generation.0.store(generation, Ordering::Release);
    }

    /// Tells how names stand.
    pub(crate) fn tell_names(&self, names: Vec<NameView>) {
        self.names.store(Arc::new(names));
    }

    /// How names stand.
    pub(crate) fn names(&self) -> Arc<Vec<NameView>> {
        self.names.load_full()
    }

    /// The number of the latest snapshot.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    /// The latest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

impl ListenerState {
    /// A listener that has accepted nothing yet.
    pub(crate) fn new(params: &ListenerParams, cores: usize) -> Self {
        Self {
            name: params.name.clone(),
            kind: std::mem::discriminant(&params.kind),
            is_udp: matches!(params.kind, ListenerKind::Udp(_)),
            metrics: ListenerMetrics::new(cores),
            open: Padded::default(),
            connections_max: AtomicU32::new(params.connections_max.get()),
            clients: Clients::default(),
        }
    }

    /// Whether it serves HTTP.
    pub(crate) fn is_http(&self) -> bool {
        self.kind == std::mem::discriminant(&ListenerKind::Http)
    }

    /// Whether it serves datagrams.
    pub(crate) fn is_udp(&self) -> bool {
        self.is_udp
    }

    /// Whether it is the one of these settings.
    pub(crate) fn is_of(&self, params: &ListenerParams) -> bool {
        self.name == params.name && self.kind == std::mem::discriminant(&params.kind)
    }

    /// Takes a place for a connection under the cap.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Place> {
        let max = self.connections_max.load(Ordering::Relaxed);
        if self.open.0.fetch_add(1, Ordering::Relaxed) < max {
            return Some(Place(Arc::clone(self)));
        }
        self.open.0.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// A connection's place under its listener's cap, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(pub(crate) Arc<ListenerState>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RouteState {
    /// A route that has seen no request.
    pub(crate) fn new(name: Name, cores: usize) -> Self {
        let mirrored = Sharded::new(cores, <[Counter; 2]>::default);
        let asked = Sharded::new(cores, <[Counter; 3]>::default);
        Self {
            name,
            metrics: RouteMetrics::new(cores),
            in_flight: Sharded::new(cores, Gauge::default),
            mirrored,
            asked,
            served: Sharded::new(cores, <[Counter; 5]>::default),
            compressed: Sharded::new(cores, <[Counter; Coding::ALL.len() + 2]>::default),
            cached: CacheCounts::new(cores),
        }
    }

    /// Counts a request of a core as under way.
    pub(crate) fn begin(&self, core: usize) -> UnderWay<'_> {
        let gauge = self.in_flight.core(core);
        gauge.add(1);
        UnderWay(gauge)
    }

    /// Counts a request of a core that was mirrored, or should have been.
    pub(crate) fn mirrored(&self, core: usize, sent: bool) {
        self.mirrored.core(core)[usize::from(!sent)].increment();
    }

    /// Requests that were mirrored, and those that should have been, all cores together.
    pub(crate) fn mirrored_total(&self) -> [u64; 2] {
        [0, 1].map(|at| self.mirrored.iter().map(|counts| counts[at].value()).sum())
    }

    /// Counts a request of a core that another service was asked about.
    pub(crate) fn asked(&self, core: usize, permission: Permission) {
        self.asked.core(core)[permission as usize].increment();
    }

    /// Requests that another service was asked about: allowed, denied and failed, all cores together.
    pub(crate) fn asked_total(&self) -> [u64; 3] {
        [0, 1, 2].map(|at| self.asked.iter().map(|counts| counts[at].value()).sum())
    }

    /// Counts a request of a core for a file.
    pub(crate) fn served(&self, core: usize, served: Served) {
        self.served.core(core)[served as usize].increment();
    }

    /// Requests for files, by [`Served`], all cores together.
    pub(crate) fn served_total(&self) -> [u64; 5] {
        [0, 1, 2, 3, 4].map(|at| self.served.iter().map(|counts| counts[at].value()).sum())
    }

    /// Counts a response of a core that was compressed, by so many bytes to so many.
    pub(crate) fn compressed(&self, core: usize, coding: Coding, (from, to): (u64, u64)) {
        let counts = self.compressed.core(core);
        counts[coding as usize].increment();
        counts[Coding::ALL.len()].add(from);
        counts[Coding::ALL.len() + 1].add(to);
    }

    /// Responses that were compressed, by coding, and bytes before and after, all cores together.
    pub(crate) fn compressed_total(&self) -> [u64; Coding::ALL.len() + 2] {
        std::array::from_fn(|at| self.compressed.iter().map(|counts| counts[at].value()).sum())
    }

    /// Requests under way, all cores together.
    pub(crate) fn in_flight_total(&self) -> u64 {
        let level: i64 = self.in_flight.iter().map(Gauge::value).sum();
        u64::try_from(level).unwrap_or(0)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // A request stays on its core, so that this is the gauge's one writer.
        self.0.add(-1);
    }
}

impl ServiceState {
    /// A service that has seen no request.
    pub(crate) fn new(name: Name, cores: usize) -> Self {
        Self {
            name,
            metrics: ServiceMetrics::new(cores),
            requests: Sharded::new(cores, Counter::default),
            requests_open: Padded::default(),
            retries_open: Padded::default(),
        }
    }

    /// Requests so far, all cores together.
    pub(crate) fn requests_total(&self) -> u64 {
        self.requests.sum(Counter::value)
    }
}

impl EndpointState {
    /// An endpoint of which nothing is known.
    pub(crate) fn new(address: SocketAddr, cores: usize) -> Self {
        let label = address.to_string();
        Self {
            id: balance::hash::endpoint_id(&label),
            address,
            label,
            metrics: EndpointMetrics::new(cores),
            in_flight: Padded::default(),
            latency: Padded::default(),
            connections: AtomicU32::new(0),
            idle: Sharded::new(cores, Gauge::default),
            wants_success: AtomicBool::new(false),
            probe: AtomicBool::new(false),
        }
    }

    /// Idle connections, all cores together.
    pub(crate) fn idle_total(&self) -> u64 {
        let level: i64 = self.idle.iter().map(Gauge::value).sum();
        u64::try_from(level).unwrap_or(0)
    }
}
