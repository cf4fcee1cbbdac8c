//! The gateway seen from outside: its metrics, and what it serves as JSON.

mod breaker;
mod cache;
mod names;
mod shedding;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use balance::Candidate;
use balance::health::State;
use coding::Coding;
use limit::Moment;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use telemetry::encode::{self, CertificateLabels, EndpointLabels, LeaseRow, LimitRow};
use telemetry::{ConnectionType, LatencyBuckets};

use crate::change::Target;
use crate::control::names::NameView;
use crate::control::overrides::{Setting, Shown};
use crate::limits::{Limits, Shared as SharedLimit, stores_up};
use crate::params::{EndpointParams, Host, ListenerKind};
use crate::router::{self, Goal};
use crate::state::{EndpointView, ListenerView, ServiceView, Shared, Snapshot};

/// A view of a running gateway. Cheap to clone; every call answers from memory.
#[derive(Clone, Debug)]
pub struct GatewayView {
    shared: Arc<Shared>,
    buckets: LatencyBuckets,
}

/// Something that is not ready, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// As `service api` or `listener web`.
    pub component: String,
    /// What is missing.
    pub reason: String,
}

impl GatewayView {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, buckets: LatencyBuckets::default() }
    }

    /// The same view with other buckets for durations.
    #[must_use]
    pub fn with_buckets(self, buckets: LatencyBuckets) -> Self {
        Self { buckets, ..self }
    }

    /// What keeps the gateway from serving: services that routes lead to and that have no endpoint to go to.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let snapshot = self.shared.snapshot();
        if snapshot.generation == 0 {
            return vec![NotReady { component: "gateway".to_owned(), reason: "it is starting".to_owned() }];
        }
        let routed = |index: usize| {
            let mut routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
            let mut streams = snapshot.listeners.iter().flat_map(|listener| listener.streams.routes());
            routes.any(|route| route.leads_to(index)) || streams.any(|route| route.service == index)
        };
        let services = snapshot.services.iter().enumerate().filter(|(index, _)| routed(*index));
        services
            .filter_map(|(_, service)| {
                let reason = unready_reason(service)?;
                Some(NotReady { component: format!("service {}", service.state.name), reason })
            })
            .collect()
    }

    /// The services, in the file's order.
    pub fn services(&self) -> Value {
        let snapshot = self.shared.snapshot();
        let names = self.shared.names();
        snapshot.services.iter().map(|service| service_json(service, &snapshot, &names)).collect()
    }

    /// What was changed at run time, in the order in which it was set.
    pub fn overrides(&self) -> Value {
        let with_place = |shown: &Shown| {
            let mut object =
                json!({ "service": shown.over.service.as_str(), "address": shown.over.target.to_string() });
            if let (Some(object), Value::Object(setting)) = (object.as_object_mut(), override_json(shown)) {
                object.extend(setting);
            }
            object
        };
        let snapshot = self.shared.snapshot();
        snapshot.overrides.iter().map(with_place).chain(snapshot.forced.iter().map(breaker::forced_json)).collect()
    }

    /// A service by name.
    pub fn service(&self, name: &str) -> Option<Value> {
        let snapshot = self.shared.snapshot();
        let found = snapshot.services.iter().find(|service| service.state.name.as_str() == name)?;
        Some(service_json(found, &snapshot, &self.shared.names()))
    }

    /// The listeners, in the file's order.
    pub fn listeners(&self) -> Value {
        self.shared.snapshot().listeners.iter().map(|listener| listener_json(listener)).collect()
    }

    /// The routes, by listener, in the file's order.
    pub fn routes(&self) -> Value {
        let snapshot = self.shared.snapshot();
        let of_listener = |listener: &Arc<ListenerView>| {
            let name = listener.state.name.clone();
            let services = &snapshot.services;
            let name_of = |at: usize| services[at].state.name.as_str();
            let share_json = |(at, weight): (usize, u32)| json!({ "service": name_of(at), "weight": weight });
            let routes = listener.router.routes().iter().map(|route| {
                let (service, split) = match &route.goal {
                    Goal::Forward(router::Target::Service(at)) => (name_of(*at).into(), Value::Null),
                    Goal::Forward(router::Target::Split(split)) => {
                        (Value::Null, split.shares().map(share_json).collect())
                    }
                    Goal::Answer(_) | Goal::Files(_) => (Value::Null, Value::Null),
                };
                json!({
                    "name": route.state.name.as_str(),
                    "listener": name.as_str(),
                    "host": route.host.text(),
                    "path": route.path.text(),
                    "conditions": route.conditions_count,
                    "service": service,
                    "split": split,
                    "requests": route.state.metrics.requests(),
                    "in_flight": route.state.in_flight_total(),
                })
            });
            let streams = listener.streams.routes().iter().map(|route| {
                let service = name_of(route.service);
                json!({
                    "name": route.name.as_ref().map_or(service, vocab::Name::as_str),
                    "listener": name.as_str(),
                    "host": route.host.text(),
                    "path": Value::Null,
                    "conditions": usize::from(!route.alpn.is_empty()),
                    "service": service,
                    "split": Value::Null,
                    "requests": Value::Null,
                    "in_flight": Value::Null,
                })
            });
            routes.chain(streams).collect::<Vec<_>>()
        };
        snapshot.listeners.iter().flat_map(of_listener).collect()
    }
}

fn unready_reason(service: &ServiceView) -> Option<String> {
    if service.endpoints.is_empty() {
        let written = |endpoint: &EndpointParams| matches!(endpoint.host, Host::Address(_));
        if service.params.endpoints.iter().all(written) {
            return Some("its endpoints are removed by overrides".to_owned());
        }
        return Some("none of its names stands for an endpoint yet".to_owned());
    }
    if service.endpoints.iter().any(is_usable) {
        return None;
    }
    if service.endpoints.iter().all(|endpoint| !endpoint.checked) {
        return Some("its endpoints are not checked yet".to_owned());
    }
    Some("none of its endpoints is available".to_owned())
}

/// Whether an endpoint is known to be well, or nothing says otherwise.
fn is_usable(endpoint: &EndpointView) -> bool {
    endpoint.health == State::Healthy && endpoint.checked && !endpoint.drain && endpoint.weight > 0
}

fn service_json(service: &ServiceView, snapshot: &Snapshot, names: &[NameView]) -> Value {
    let name = &service.state.name;
    let overrides: Vec<&Shown> = snapshot.overrides.iter().filter(|shown| shown.over.service == *name).collect();
    let endpoints: Vec<Value> = service
        .endpoints
        .iter()
        .zip(service.plan.candidates())
        .map(|(endpoint, candidate)| {
            let mut object = endpoint_json(endpoint, candidate);
            let (target, address) = (&endpoint.target, Target::from(endpoint.state.address));
            let own = |shown: &&&Shown| shown.over.target == *target || shown.over.target == address;
            let own: Vec<Value> = overrides.iter().filter(own).map(|shown| override_json(shown)).collect();
            let was_added = own.iter().any(|shown| shown["setting"] == "add");
            object["origin"] = if was_added { "override".into() } else { "file".into() };
            object["overrides"] = own.into();
            object
        })
        .collect();
    let tiers: Vec<Value> = service
        .plan
        .shares()
        .map(|(rank, share)| {
            let share = (share * 1000.0).round() / 1000.0;
            json!({ "backup": rank.backup, "priority": rank.priority, "other_zone": rank.away, "share": share })
        })
        .collect();
    let removed = overrides.iter().filter(|shown| shown.over.setting == Setting::Remove);
    let removed =
        removed.map(|shown| json!({ "name": shown.over.target.to_string(), "since": unix_seconds(shown.over.since) }));
    let hidden = |target: &Target| {
        overrides.iter().any(|shown| shown.over.setting == Setting::Remove && shown.over.target == *target)
    };
    let unresolved = service.params.endpoints.iter().filter(|endpoint| !matches!(endpoint.host, Host::Address(_)));
    let unresolved = unresolved
        .map(Target::of)
        .filter(|target| !hidden(target) && !service.endpoints.iter().any(|endpoint| endpoint.target == *target));
    json!({
        "name": name.as_str(),
        "requests": service.state.requests_total(),
        "breaker": breaker::service_json(service, &snapshot.forced),
        "shedding": shedding::service_json(service),
        "tiers": tiers,
        "endpoints": endpoints,
        "removed": removed.collect::<Vec<_>>(),
        "names": names::json(&service.params.endpoints, names),
        "unresolved": unresolved.map(|target| target.to_string()).collect::<Vec<_>>(),
    })
}

fn endpoint_json(endpoint: &EndpointView, candidate: &Candidate) -> Value {
    let state = &endpoint.state;
    json!({
        "address": state.label,
        "name": endpoint.target.to_string(),
        "host": endpoint.host,
        "weight": endpoint.weight,
        "effective_weight": f64::from(candidate.weight) / f64::from(balance::WEIGHT_UNIT),
        "priority": candidate.priority,
        "zone": endpoint.zone.as_ref().map(vocab::Name::as_str),
        "backup": candidate.backup,
        "drain": endpoint.drain,
        "health": endpoint.health.as_str(),
        "cause": endpoint.cause,
        "breaker": breaker::endpoint_json(endpoint.breaker.as_deref()),
        "in_flight": state.in_flight.0.load(Ordering::Relaxed),
        "connections": state.connections.load(Ordering::Relaxed),
        "requests": state.metrics.requests(),
    })
}

/// An override's setting, its value, the file's, and since when.
fn override_json(shown: &Shown) -> Value {
    let below = shown.below.as_ref();
    let (value, file) = match &shown.over.setting {
        Setting::Add(endpoint) => {
            let EndpointParams { weight, priority, backup, drain, .. } = *endpoint;
            let mut value = json!({ "weight": weight, "priority": priority, "backup": backup, "drain": drain });
            if let Some(zone) = &endpoint.zone {
                value["zone"] = zone.as_str().into();
            }
            (value, Value::Null)
        }
        Setting::Remove => (Value::Null, Value::Null),
        Setting::Weight(weight) => {
            // What records say is not the file's.
            let below = below.filter(|below| !matches!(below.host, Host::Srv(_)));
            ((*weight).into(), below.map_or(Value::Null, |below| below.weight.into()))
        }
        Setting::Drain(drain) => ((*drain).into(), below.map_or(Value::Null, |below| below.drain.into())),
    };
    json!({
        "setting": shown.over.setting.name(),
        "value": value,
        "file": file,
        "since": unix_seconds(shown.over.since),
    })
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn listener_json(listener: &ListenerView) -> Value {
    let kind = match &listener.params.kind {
        ListenerKind::Http => "http",
        ListenerKind::Tcp(_) => "tcp",
        ListenerKind::Udp(_) => "udp",
    };
    json!({
        "name": listener.state.name.as_str(),
        "kind": kind,
        "addresses": listener.bound.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "connections": listener.state.open.0.load(Ordering::Relaxed),
        "connections_max": listener.params.connections_max.get(),
        "accepted": listener.state.metrics.accepted(),
        "certificates": listener.kept.iter().map(|kept| certificate_json(kept)).collect::<Vec<_>>(),
    })
}

fn certificate_json(kept: &acme::Kept) -> Value {
    let not_after = kept.not_after().map(unix_seconds);
    json!({ "host": kept.host(), "not_after": not_after, "error": kept.error() })
}

impl Collector for GatewayView {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.shared.snapshot();
        encode_routes(&snapshot, &self.buckets, &mut encoder)?;
        cache::encode(&snapshot, &self.shared.cache.look(), &mut encoder)?;
        encode_limits(&snapshot, Moment::since(self.shared.epoch, Instant::now()), &mut encoder)?;
        let listeners: Vec<_> =
            snapshot.listeners.iter().map(|listener| (listener.state.name.as_str(), &listener.state.metrics)).collect();
        encode::listeners(&listeners, &self.buckets, &mut encoder)?;
        encode_certificates(&snapshot, &mut encoder)?;
        let services: Vec<_> =
            snapshot.services.iter().map(|service| (service.state.name.as_str(), &service.state.metrics)).collect();
        encode::services(&services, &mut encoder)?;
        breaker::encode(&snapshot, &mut encoder)?;
        shedding::encode(&snapshot, &mut encoder)?;
        encode_overrides(&snapshot, &mut encoder)?;
        names::encode(&self.shared.names(), &mut encoder)?;
        encode_endpoints(&snapshot, &self.buckets, &mut encoder)?;
        encode_connections(&snapshot, &mut encoder)
    }
}

fn encode_routes(snapshot: &Snapshot, buckets: &LatencyBuckets, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let routes: Vec<_> = snapshot
        .listeners
        .iter()
        .flat_map(|listener| listener.router.routes())
        .map(|route| (route.state.name.as_str(), &route.state.metrics))
        .collect();
    encode::routes(&routes, buckets, encoder)?;
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    let rows: Vec<_> = routes.map(|route| (route.state.name.as_str(), route.state.in_flight_total())).collect();
    encode::routes_in_flight(&rows, encoder)?;
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    let mirrors = routes.filter(|route| route.mirror.is_some());
    let rows: Vec<_> = mirrors.map(|route| (route.state.name.as_str(), route.state.mirrored_total())).collect();
    encode::routes_mirrored(&rows, encoder)?;
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    let asking = routes.filter(|route| route.auth.is_some());
    let rows: Vec<_> = asking.map(|route| (route.state.name.as_str(), route.state.asked_total())).collect();
    encode::routes_asked(&rows, encoder)?;
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    let serving = routes.filter(|route| matches!(route.goal, Goal::Files(_)));
    let rows: Vec<_> = serving.map(|route| (route.state.name.as_str(), route.state.served_total())).collect();
    encode::routes_files(&rows, encoder)?;
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    let compressing = routes.filter(|route| route.compress.is_some());
    let rows: Vec<_> = compressing.map(|route| (route.state.name.as_str(), route.state.compressed_total())).collect();
    encode::routes_compressed(&rows, Coding::ALL.map(Coding::as_str), encoder)
}

fn encode_limits(snapshot: &Snapshot, now: Moment, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    let limits = routes.filter_map(|route| route.limits.as_deref()).flat_map(Limits::iter);
    // Routes may share one.
    let states: BTreeMap<_, _> = limits.map(|limit| (limit.state.name.as_str(), &limit.state)).collect();
    let counts: Vec<_> =
        states.values().map(|state| (state.outcomes(), state.shared().map(SharedLimit::totals))).collect();
    let rows = states.iter().zip(&counts).map(|((limit, state), (requests, totals))| LimitRow {
        limit,
        requests,
        keys: state.keys(now),
        displaced: state.displaced(),
        leases: totals.as_ref().map(|(asks, leased, without_store)| LeaseRow {
            asks,
            leased: *leased,
            without_store: *without_store,
        }),
    });
    let rows: Vec<_> = rows.collect();
    encode::limits(&rows, encoder)?;
    let shared = states.values().filter_map(|state| state.shared());
    let rows: Vec<_> = stores_up(shared.map(|shared| &*shared.store)).into_iter().collect();
    encode::limit_stores(&rows, encoder)
}

fn encode_certificates(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (mut expiries, mut orders) = (Vec::new(), Vec::new());
    for listener in &snapshot.listeners {
        let name = listener.state.name.as_str();
        let mut hosts = HashMap::new();
        let files = listener.params.tls.iter().flat_map(|tls| &tls.params().certificates);
        for certificate in files {
            let not_after = unix_seconds(certificate.not_after());
            for host in certificate.names() {
                // Where several are for one host, what is said is when the first of them expires.
                let known = hosts.entry(host.as_str()).or_insert(not_after);
                *known = not_after.min(*known);
            }
        }
        for kept in &listener.kept {
            let (host, counts) = (kept.host(), kept.orders());
            orders.push((CertificateLabels { listener: name, host }, counts.succeeded, counts.failed));
            match kept.not_after() {
                Some(not_after) => hosts.insert(host, unix_seconds(not_after)),
                None => Some(*hosts.entry(host).or_insert(0)),
            };
        }
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        hosts.sort_unstable();
        let labels = |(host, at)| (CertificateLabels { listener: name, host }, at);
        expiries.extend(hosts.into_iter().map(labels));
    }
    encode::certificates(&expiries, encoder)?;
    encode::orders(&orders, encoder)
}

fn encode_overrides(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let count = |name: &vocab::Name| {
        let forced = snapshot.forced.iter().filter(|forced| forced.service == *name).count();
        forced + snapshot.overrides.iter().filter(|shown| shown.over.service == *name).count()
    };
    let names = snapshot.services.iter().map(|service| &service.state.name);
    let rows: Vec<_> = names.map(|name| (name.as_str(), count(name) as u64)).collect();
    encode::overrides(&rows, encoder)
}

fn encode_endpoints(snapshot: &Snapshot, buckets: &LatencyBuckets, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (mut counts, mut states) = (Vec::new(), Vec::new());
    for service in &snapshot.services {
        for (endpoint, candidate) in service.endpoints.iter().zip(service.plan.candidates()) {
            let state = &endpoint.state;
            let labels = EndpointLabels { service: service.state.name.as_str(), instance: &state.label };
            let is_up = candidate.availability != balance::Availability::Unavailable;
            counts.push((labels, &state.metrics));
            states.push((labels, is_up, u64::from(state.in_flight.0.load(Ordering::Relaxed))));
        }
    }
    encode::endpoints(&counts, buckets, encoder)?;
    encode::endpoint_states(&states, encoder)
}

fn encode_connections(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut rows = Vec::new();
    for listener in &snapshot.listeners {
        rows.push((listener.state.name.as_str(), ConnectionType::Client, listener.state.metrics.open()));
    }
    for service in &snapshot.services {
        let endpoints = || service.endpoints.iter().map(|endpoint| &endpoint.state);
        let open: u64 = endpoints().map(|state| u64::from(state.connections.load(Ordering::Relaxed))).sum();
        let idle: u64 = endpoints().map(|state| state.idle_total()).sum();
        let name = service.state.name.as_str();
        rows.push((name, ConnectionType::UpstreamActive, open.saturating_sub(idle)));
        rows.push((name, ConnectionType::UpstreamIdle, idle.min(open)));
    }
    encode::active_connections(&rows, encoder)
}
