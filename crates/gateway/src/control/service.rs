//! A service in the control plane: its endpoints, their health, and the view that is published of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use balance::health::{Change, Outcome, ServiceHealth, State};
use balance::{Availability, Candidate, Plan, slow_start};
use breaker::circuit::Force;
use breaker::{Breaker, RetryBudget};
use discovery::{Set, Source};
use tokio::sync::mpsc;
use vocab::Name;

use super::health_change::{kind_of, log_change};
use super::naming::{host_header, server_name};
use super::overrides::{Below, Overlay};
use super::placing::{self, Placed};
use super::rates::Rates;
use super::{AbortOnDrop, Event, breakers, check};
use crate::change::Target;
use crate::params::{BreakerScope, EndpointParams, ServiceParams};
use crate::shed::Gate;
use crate::state::{EndpointState, EndpointView, ServiceState, ServiceView};

/// Most fields in a response's head.
const RESPONSE_FIELDS_MAX: usize = 256;

/// A service, as the control plane keeps it.
pub(super) struct Service {
    pub(super) state: Arc<ServiceState>,
    params: Arc<ServiceParams>,
    /// What was changed at run time.
    overlay: Overlay,
    health: ServiceHealth,
    /// Counts for the rule of success rates, if it is on.
    rates: Option<Rates>,
    pub(super) endpoints: Vec<Endpoint>,
    /// What its names stand for.
    resolved: HashMap<Source, Set>,
    budget: Option<Arc<RetryBudget>>,
    /// Its breaker, if it has one for all its endpoints.
    pub(super) breaker: Option<Arc<Breaker>>,
    /// What admits requests, if load is shed.
    shedding: Option<Arc<Gate>>,
    /// What its breakers are held as.
    pub(super) forced: Option<Force>,
    /// Why endpoints are not healthy.
    causes: HashMap<u64, String>,
    /// When shares grew last.
    stepped: Instant,
    pub(super) view: Option<Arc<ServiceView>>,
    /// Whether traffic went beyond the first tier at the latest view.
    spilling: bool,
}

/// An endpoint, as the control plane keeps it.
pub(super) struct Endpoint {
    pub(super) state: Arc<EndpointState>,
    host: String,
    /// The entry that stands for it.
    written: Target,
    params: EndpointParams,
    /// Since when its share grows; `None` when it has all of it.
    growing_since: Option<Instant>,
    check: Option<AbortOnDrop>,
    /// Whether a check or a request has told anything yet.
    heard_of: bool,
    /// Its breaker, if it has one of its own.
    pub(super) breaker: Option<Arc<Breaker>>,
    /// Whether the view has it held back by its breaker.
    pub(super) tripped: bool,
}

impl Service {
    /// A service that nothing is known of but its settings.
    pub(super) fn new(params: ServiceParams, cores: usize) -> Self {
        let state = Arc::new(ServiceState::new(params.name.clone(), cores));
        let budget = new_budget(&params, &state);
        Self {
            health: ServiceHealth::new(params.health.clone()),
            rates: None,
            state,
            params: Arc::new(params),
            overlay: Overlay::default(),
            endpoints: Vec::new(),
            resolved: HashMap::new(),
            budget,
            breaker: None,
            shedding: None,
            forced: None,
            causes: HashMap::new(),
            stepped: Instant::now(),
            view: None,
            spilling: false,
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &vocab::Name {
        &self.params.name
    }

    /// What overrides of it lie over.
    pub(super) fn below<'a>(&'a self, file: &'a ServiceParams) -> Below<'a> {
        Below { service: &file.name, endpoints: &file.endpoints, resolved: &self.resolved }
    }

    /// Who has to be asked for its endpoints.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        placing::sources(&self.params.endpoints)
    }

    /// Takes what was changed at run time; it holds from the next time that the service is configured.
    pub(super) fn set_overlay(&mut self, overlay: Overlay) {
        self.overlay = overlay;
    }

    /// Whether there is an endpoint beside those that a target names.
    pub(super) fn has_other_than(&self, target: &Target) -> bool {
        let is_it = |one: &Endpoint| one.written == *target || Target::from(one.state.address) == *target;
        !self.endpoints.iter().all(is_it)
    }

    /// Goes by other settings from now on, with names that stand for this, and keeps what is known of the endpoints that
    /// stay.
    pub(super) fn configure(
        &mut self,
        mut params: ServiceParams,
        sets: &HashMap<Source, Set>,
        cores: usize,
        events: &mpsc::Sender<Event>,
    ) {
        let now = Instant::now();
        let known = |source: Source| Some((source.clone(), Arc::clone(sets.get(&source)?)));
        self.resolved = placing::sources(&params.endpoints).filter_map(known).collect();
        let budget_params = |params: &ServiceParams| params.retry.as_ref().map(|retry| retry.budget);
        if budget_params(&params) != budget_params(&self.params) {
            self.budget = new_budget(&params, &self.state);
        }
        let new_checks = params.check != self.params.check
            || params.tls != self.params.tls
            || params.protocol != self.params.protocol
            || params.send_proxy != self.params.send_proxy;
        if params.tls == self.params.tls {
            // What did not change keeps its sessions.
            params.tls.clone_from(&self.params.tls);
        }
        let changes = self.health.set_params(params.health.clone(), now);
        self.count_rates(params.health.success_rate.map(|rule| rule.interval), now);
        self.breaker = breakers::keep(self.breaker.take(), params.breaker.as_ref(), BreakerScope::Service, cores);
        self.shedding = Gate::keep(self.shedding.take(), params.shedding.as_ref(), cores);
        self.params = Arc::new(params);
        if new_checks {
            self.endpoints.iter_mut().for_each(|endpoint| endpoint.check = None);
        }
        self.follow(changes, now);
        self.place_endpoints(cores, events, true);
    }

    /// Counts requests for the rule of success rates from now on, unless that is so already.
    fn count_rates(&mut self, interval: Option<Duration>, now: Instant) {
        if self.rates.as_ref().map(Rates::interval) != interval {
            let endpoints = self.endpoints.iter().map(|endpoint| &endpoint.state);
            self.rates = interval.map(|interval| Rates::new(interval, now, endpoints));
        }
    }

    /// Makes the endpoints those of the settings and of what names resolve to.
    pub(super) fn place_endpoints(&mut self, cores: usize, events: &mpsc::Sender<Event>, configured: bool) {
        let now = Instant::now();
        let mut old: HashMap<u64, Endpoint> =
            std::mem::take(&mut self.endpoints).into_iter().map(|endpoint| (endpoint.state.id, endpoint)).collect();
        // At the start all endpoints are equally new, so none has to catch up.
        let is_start = old.is_empty() && configured;
        let params = Arc::clone(&self.params);
        let mut placed = placing::placed(&params.endpoints, &self.resolved);
        let serves = |placed: &Placed| !placed.params.backup && !placed.params.drain && placed.params.weight > 0;
        let are_known = placing::is_known(&params.endpoints, &self.resolved);
        if !are_known && !old.is_empty() && !placed.iter().any(serves) {
            tracing::warn!(service = %params.name, "no address of its names is known yet, so its endpoints stay");
            let mut stay: Vec<Placed> = old.values().map(Endpoint::placed).collect();
            stay.sort_by_key(|placed| placed.address);
            // Of one that is in both, the settings are the new ones.
            placed.extend(stay);
        }
        for Placed { address, written, params: endpoint } in placed {
            let Some(applied) = self.overlay.apply(&written, &endpoint, address) else { continue };
            let endpoint = applied.as_ref();
            let id = balance::hash::endpoint_id(&address.to_string());
            if self.endpoints.iter().any(|other| other.state.id == id) {
                continue;
            }
            let host = host_header(endpoint);
            let mut entry = old.remove(&id).unwrap_or_else(|| Endpoint {
                state: Arc::new(EndpointState::new(address, cores)),
                host: host.clone(),
                written: written.clone(),
                params: endpoint.clone(),
                growing_since: (!is_start && !params.slow_start.window.is_zero()).then_some(now),
                check: None,
                heard_of: false,
                breaker: None,
                tripped: false,
            });
            if entry.host != host {
                // The check asks for the host.
                entry.check = None;
            }
            (entry.host, entry.written, entry.params) = (host, written, endpoint.clone());
            entry.breaker =
                breakers::keep(entry.breaker.take(), params.breaker.as_ref(), BreakerScope::Endpoint, cores);
            if let (Some(check_params), None) = (&params.check, &entry.check) {
                let (state, id) = (Arc::clone(&self.state), entry.state.id);
                let tls = params.tls.as_ref().map(|tls| (tls.clone(), server_name(tls, &endpoint.host)));
                let (host, protocol) = (entry.host.clone(), params.protocol);
                let target = check::Target { address, host, protocol, tls, announced: params.send_proxy };
                entry.check = Some(check::start(state, id, target, check_params.clone(), events.clone()));
            } else if params.check.is_none() {
                entry.check = None;
            }
            self.endpoints.push(entry);
        }
        let ids: Vec<u64> = self.endpoints.iter().map(|endpoint| endpoint.state.id).collect();
        let aside = self.endpoints.iter().filter(|endpoint| endpoint.params.drain || endpoint.params.weight == 0);
        let aside: Vec<u64> = aside.map(|endpoint| endpoint.state.id).collect();
        let mut changes = self.health.sync(&ids, now);
        changes.extend(self.health.set_aside(&aside, now));
        self.causes.retain(|id, _| ids.contains(id));
        self.follow(changes, now);
        self.hold_breakers();
        self.view = None;
    }

    /// A name stands for something else now; true when it is one of this service's.
    pub(super) fn on_found(&mut self, source: &Source, set: &Set) -> bool {
        let is_own = self.sources().any(|own| own == *source);
        if is_own {
            self.resolved.insert(source.clone(), Arc::clone(set));
        }
        is_own
    }

    /// A check has ended.
    pub(super) fn on_checked(&mut self, id: u64, result: Result<(), String>) {
        let now = Instant::now();
        let Some(endpoint) = self.endpoints.iter_mut().find(|endpoint| endpoint.state.id == id) else { return };
        endpoint.state.metrics.checked(result.is_ok());
        let first = !std::mem::replace(&mut endpoint.heard_of, true);
        let changes = self.health.on_active(id, now, result);
        if first {
            self.view = None;
        }
        self.follow(changes, now);
    }

    /// Endpoints whose checks fail.
    pub(super) fn unhealthy(&self) -> impl Iterator<Item = SocketAddr> {
        let fails = |endpoint: &&Endpoint| self.health.state(endpoint.state.id) == Some(State::Unhealthy);
        self.endpoints.iter().filter(fails).map(|endpoint| endpoint.state.address)
    }

    /// Takes endpoints whose checks failed in the process before this one for unhealthy, until their checks say otherwise.
    pub(super) fn recall(&mut self, unhealthy: &[(Name, SocketAddr)]) {
        let now = Instant::now();
        let failed = self.params.health.active.map_or(0, |active| active.fall.max(1));
        let is_theirs = |endpoint: &&Endpoint| {
            unhealthy.iter().any(|(service, address)| service == self.name() && *address == endpoint.state.address)
        };
        let ids: Vec<u64> = self.endpoints.iter().filter(is_theirs).map(|endpoint| endpoint.state.id).collect();
        for id in ids {
            for _ in 0..failed {
                let changes = self.health.on_active(id, now, Err("as before the upgrade".to_owned()));
                self.follow(changes, now);
            }
        }
    }

    /// A request has told how an endpoint is.
    pub(super) fn on_outcome(&mut self, id: u64, outcome: Outcome) {
        let now = Instant::now();
        let changes = self.health.on_passive(id, now, outcome);
        self.follow(changes, now);
        // Whether successes are wanted may change without a change of state.
        self.tell_wishes();
    }

    /// When something is due: the end of an ejection or of an interval of counting, or the next step of a slow start.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let growing = self.endpoints.iter().any(|endpoint| endpoint.growing_since.is_some());
        let step = growing.then(|| self.stepped + self.step());
        let counted = self.rates.as_ref().map(|rates| rates.due);
        [self.health.next_deadline(), counted, step].into_iter().flatten().min()
    }

    /// Time between two steps of a slow start: a fortieth of it, within reason.
    fn step(&self) -> Duration {
        (self.params.slow_start.window / 40).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// Does what is due.
    pub(super) fn on_deadline(&mut self) {
        let now = Instant::now();
        let mut changes = self.health.on_deadline(now);
        if let Some(rates) = self.rates.as_mut().filter(|rates| rates.due <= now) {
            let samples = rates.sample(now, self.endpoints.iter().map(|endpoint| &endpoint.state));
            changes.extend(self.health.on_interval(now, &samples));
        }
        self.follow(changes, now);
        if now < self.stepped + self.step() {
            return;
        }
        self.stepped = now;
        let window = self.params.slow_start.window;
        for endpoint in &mut self.endpoints {
            if let Some(since) = endpoint.growing_since {
                self.view = None;
                endpoint.growing_since = Some(since).filter(|since| now.saturating_duration_since(*since) < window);
            }
        }
    }

    /// Tells log, metrics and cores of changes.
    fn follow(&mut self, changes: Vec<Change>, now: Instant) {
        for change in changes {
            self.view = None;
            let Some(endpoint) = self.endpoints.iter_mut().find(|endpoint| endpoint.state.id == change.id) else {
                continue;
            };
            endpoint.heard_of = true;
            log_change(&self.params.name, &endpoint.state, &change);
            if let Some(kind) = kind_of(&change) {
                endpoint.state.metrics.health_changed(kind);
            }
            if change.to == State::Healthy {
                endpoint.growing_since = Some(now).filter(|_| !self.params.slow_start.window.is_zero());
                self.causes.remove(&change.id);
            } else {
                self.causes.insert(change.id, change.cause.to_string());
            }
            endpoint.state.probe.store(change.to == State::Probing, Ordering::Relaxed);
        }
        self.tell_wishes();
    }

    fn tell_wishes(&self) {
        for endpoint in &self.endpoints {
            let wanted = self.health.wants_success(endpoint.state.id);
            endpoint.state.wants_success.store(wanted, Ordering::Relaxed);
        }
    }

    /// What is due once a second: notes the requests so far, for the retry budget, and looks after breakers whose
    /// moves were not told because there was too much to tell.
    pub(super) fn observe(&mut self) {
        self.follow_breakers();
        if let Some(budget) = &self.budget {
            budget.observe(Instant::now(), self.state.requests_total());
        }
    }

    /// Whether the view that was taken last is no longer true.
    pub(super) fn is_changed(&self) -> bool {
        self.view.is_none()
    }

    /// The view to publish.
    pub(super) fn view(&mut self) -> Arc<ServiceView> {
        if let Some(view) = &self.view {
            return Arc::clone(view);
        }
        let now = Instant::now();
        let endpoints: Vec<EndpointView> = self.endpoints.iter().map(|endpoint| self.endpoint_view(endpoint)).collect();
        let candidates = self.endpoints.iter().map(|endpoint| self.candidate(endpoint, now)).collect();
        let (balance, load_factor) = (self.params.balance, self.params.hash_load_factor);
        let plan = Plan::with_load_factor(balance, load_factor, candidates).unwrap_or_else(|error| {
            tracing::error!(service = %self.params.name, %error, "no endpoint is used");
            Plan::new(balance, Vec::new()).expect("an empty plan is within every bound")
        });
        self.tell_spilling(&plan);
        let is_probing = |(_, endpoint): &(usize, &EndpointView)| endpoint.health == State::Probing && !endpoint.drain;
        let probing = endpoints.iter().enumerate().filter(is_probing).map(|(index, _)| index as u16).collect();
        let is_tripped = |(_, endpoint): &(usize, &Endpoint)| endpoint.tripped && endpoint.takes_requests();
        let tripped = self.endpoints.iter().enumerate().filter(is_tripped).map(|(index, _)| index as u16).collect();
        let view = Arc::new(ServiceView {
            state: Arc::clone(&self.state),
            params: Arc::clone(&self.params),
            endpoints: if plan.is_empty() { Vec::new() } else { endpoints },
            plan: Arc::new(plan),
            probing,
            breaker: self.breaker.clone(),
            tripped,
            budget: self.budget.clone(),
            shedding: self.shedding.clone(),
            limits: http1::Limits {
                bytes_max: self.params.head_bytes_max.get() as usize,
                fields_max: RESPONSE_FIELDS_MAX,
            },
        });
        self.view = Some(Arc::clone(&view));
        view
    }

    /// Logs when traffic begins to go beyond the first tier, and when it no longer does.
    fn tell_spilling(&mut self, plan: &Plan) {
        let first = plan.shares().next().map_or(1.0, |(_, share)| share);
        let is_spilling = first < 1.0 && plan.shares().any(|(_, share)| share > 0.0);
        if is_spilling != std::mem::replace(&mut self.spilling, is_spilling) {
            let (service, first) = (&self.params.name, format!("{:.0}%", first * 100.0));
            if is_spilling {
                tracing::warn!(%service, first, "the first priority or zone cannot bear all traffic, so it spills");
            } else {
                tracing::info!(%service, "the first priority or zone bears all traffic again");
            }
        }
    }

    fn endpoint_view(&self, endpoint: &Endpoint) -> EndpointView {
        let id = endpoint.state.id;
        EndpointView {
            state: Arc::clone(&endpoint.state),
            host: endpoint.host.clone(),
            name: self.params.tls.as_ref().map(|tls| server_name(tls, &endpoint.params.host)),
            target: endpoint.written.clone(),
            weight: endpoint.params.weight,
            zone: endpoint.params.zone.clone(),
            drain: endpoint.params.drain,
            breaker: endpoint.breaker.clone(),
            health: self.health.state(id).unwrap_or(State::Healthy),
            cause: self.causes.get(&id).cloned(),
            checked: endpoint.heard_of || self.params.check.is_none(),
        }
    }

    fn candidate(&self, endpoint: &Endpoint, now: Instant) -> Candidate {
        let weight = endpoint.params.weight;
        let since = endpoint.growing_since.map_or(Duration::MAX, |since| now.saturating_duration_since(since));
        let availability = match self.health.availability(endpoint.state.id) {
            _ if endpoint.tripped => Availability::Unavailable,
            Availability::Available | Availability::Suspect if !endpoint.takes_requests() => Availability::Draining,
            other => other,
        };
        Candidate {
            id: endpoint.state.id,
            weight: slow_start::weight(weight, since, &self.params.slow_start),
            priority: endpoint.params.priority,
            away: self.params.zone.is_some() && endpoint.params.zone != self.params.zone,
            backup: endpoint.params.backup,
            availability,
        }
    }
}

impl Endpoint {
    fn placed(&self) -> Placed {
        Placed { address: self.state.address, written: self.written.clone(), params: self.params.clone() }
    }

    /// Whether new requests may go to it, as far as the operator is concerned.
    fn takes_requests(&self) -> bool {
        !self.params.drain && self.params.weight > 0
    }
}

fn new_budget(params: &ServiceParams, state: &ServiceState) -> Option<Arc<RetryBudget>> {
    let retry = params.retry.as_ref()?;
    Some(Arc::new(RetryBudget::new(retry.budget, Instant::now(), state.requests_total())))
}
