//! The control plane: what is decided once, in one task, and published to all cores.
//!
//! It takes new configurations, checks' and names' results, and the cores' reports of how requests went. Each may
//! change what is served; then a new snapshot is published. Nothing here is on a request's path.

pub(crate) mod breakers;
mod certificates;
mod change;
mod check;
mod datagrams;
mod health_change;
mod listeners;
pub(crate) mod names;
mod naming;
pub(crate) mod overrides;
mod placing;
mod rates;
mod service;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use discovery::{Report as Found, Source};
use net::workers::Cores;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use vocab::Name;

use crate::action::ForwardAuth;
use crate::change::{Change, ChangeError};
use crate::data::Message;
use crate::estate::{Estate, Inheritance, Knowledge};
use crate::gateway::ApplyError;
use crate::limits::{Limit, LimitState, Stores};
use crate::params::{GatewayParams, ListenerKind, ListenerParams, RouteParams, ServiceParams, StreamRouteParams};
use crate::router::{Goal, Mirror, Route, Router, Services, StreamRouter};
use crate::state::{Happened, ListenerState, ListenerView, Report, RouteState, ServiceState, Shared, Snapshot};
use breakers::Forced;
use certificates::Certificates;
use datagrams::Datagrams;
use listeners::Sockets;
use names::Names;
use overrides::{Overrides, Shown};
use service::Service;

/// Reports taken in one go, so that a storm of failures costs one snapshot and not one each.
const REPORTS_MAX: usize = 256;

/// How often retry budgets hear of the requests so far.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(1);

/// Time for the names of a new configuration to be resolved before it takes effect without those that were not.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the control plane is told from outside.
pub(crate) enum Command {
    /// Serve this configuration.
    Apply(Box<GatewayParams>, oneshot::Sender<Result<(), ApplyError>>),
    /// Change something at run time.
    Change(Change, oneshot::Sender<Result<usize, ChangeError>>),
    /// Give what the next process needs.
    HandOver(oneshot::Sender<io::Result<Estate>>),
    /// Close what listens, and order no certificates any more.
    CloseSockets(oneshot::Sender<()>),
}

/// What its own tasks tell it.
pub(crate) enum Event {
    /// A check has ended.
    Checked { service: Arc<ServiceState>, endpoint: u64, result: Result<(), String> },
    /// A name was looked up.
    Found { source: Source, report: Found },
}

/// Why the control plane wakes.
enum Turn {
    Command(Option<Command>),
    Reports(Vec<Report>),
    Event(Event),
    Deadline,
    Observation,
}

/// A task that ends when this is dropped.
pub(crate) struct AbortOnDrop(pub(crate) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What outlives configurations, by name.
type States<S> = HashMap<Name, Arc<S>>;

/// The control plane's state.
pub(crate) struct Control {
    shared: Arc<Shared>,
    cores: Cores<Message>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<Report>,
    events: mpsc::Receiver<Event>,
    event_sender: mpsc::Sender<Event>,
    sockets: Sockets,
    datagrams: Datagrams,
    certificates: Certificates,
    listeners: Vec<Arc<ListenerView>>,
    routes: States<RouteState>,
    limits: States<LimitState>,
    /// Stores of limits that gateways share.
    stores: Stores,
    services: Vec<Service>,
    /// The services as the file has them, below the overrides.
    file: Vec<ServiceParams>,
    overrides: Overrides,
    shown: Arc<[Shown]>,
    /// Breakers that are held open or closed.
    forced: Arc<[Forced]>,
    /// Endpoints whose checks failed in the process before this one, until the first configuration is served.
    unhealthy: Vec<(Name, SocketAddr)>,
    /// What the names of endpoints stand for.
    names: Names,
    /// When retry budgets last heard of the requests.
    observed: Instant,
}

impl Control {
    /// Nothing served yet.
    pub(crate) fn new(
        shared: Arc<Shared>,
        cores: Cores<Message>,
        (commands, reports): (mpsc::Receiver<Command>, mpsc::Receiver<Report>),
        inheritance: Inheritance,
    ) -> Self {
        let (event_sender, events) = mpsc::channel(1024);
        let known = Knowledge::read(&inheritance.knowledge).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was changed at run time before is not understood, and forgotten");
            Knowledge::default()
        });
        let certificates = Certificates::new(shared.tokens.clone());
        Self {
            certificates,
            shared,
            cores,
            commands,
            reports,
            events,
            event_sender,
            sockets: Sockets::new(inheritance.sockets),
            datagrams: Datagrams::default(),
            listeners: Vec::new(),
            routes: HashMap::new(),
            limits: HashMap::new(),
            stores: Stores::default(),
            services: Vec::new(),
            file: Vec::new(),
            overrides: known.overrides,
            shown: Arc::default(),
            forced: known.forced.into(),
            unhealthy: known.unhealthy,
            names: Names::new(known.sets),
            observed: Instant::now(),
        }
    }

    /// Runs until nobody can command it any more.
    pub(crate) async fn run(mut self) {
        loop {
            match self.next_turn(true).await {
                Turn::Command(Some(command)) => self.obey(command).await,
                Turn::Command(None) => return,
                turn => self.take(turn),
            }
            self.publish_changes();
        }
    }

    /// Waits for what comes next. Nothing is lost when the waiting is broken off.
    async fn next_turn(&mut self, takes_commands: bool) -> Turn {
        let deadline = self.services.iter().filter_map(Service::next_deadline).min();
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut reports = Vec::new();
        tokio::select! {
            command = self.commands.recv(), if takes_commands => Turn::Command(command),
            _ = self.reports.recv_many(&mut reports, REPORTS_MAX) => Turn::Reports(reports),
            Some(event) = self.events.recv() => Turn::Event(event),
            () = due => Turn::Deadline,
            () = tokio::time::sleep_until((self.observed + OBSERVE_INTERVAL).into()) => Turn::Observation,
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Apply(params, done) => {
                let applied = self.apply(*params).await;
                let _nobody_waits = done.send(applied);
            }
            Command::Change(change, done) => {
                let changed = self.change(change).await;
                let _nobody_waits = done.send(changed);
            }
            Command::HandOver(done) => {
                let _nobody_waits = done.send(self.hand_over());
            }
            Command::CloseSockets(done) => {
                self.sockets.close();
                // An order under way is broken off, and its lock given up: another process may wait for it.
                drop(self.certificates.begin());
                let _nobody_waits = done.send(());
            }
        }
    }

    /// Takes what concerns the services as they are, which is anything but a command.
    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Command(_) => {}
            Turn::Reports(reports) => {
                for report in reports {
                    if let Some(service) = self.service(&report.service) {
                        match report.event {
                            Happened::Outcome(outcome) => service.on_outcome(report.endpoint, outcome),
                            Happened::Breaker(change) => service.on_breaker(report.endpoint, &change),
                        }
                    }
                }
            }
            Turn::Event(event) => self.on_event(event),
            Turn::Deadline => self.on_deadline(),
            Turn::Observation => {
                self.observed = Instant::now();
                self.services.iter_mut().for_each(Service::observe);
                self.tell_names();
            }
        }
    }

    fn publish_changes(&mut self) {
        if self.services.iter().any(Service::is_changed) {
            self.publish();
        }
    }

    fn service(&mut self, state: &Arc<ServiceState>) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| Arc::ptr_eq(&service.state, state))
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Checked { service, endpoint, result } => {
                if let Some(service) = self.service(&service) {
                    service.on_checked(endpoint, result);
                }
            }
            Event::Found { source, report } => {
                let set = self.names.on_report(&source, report);
                if self.names.has_news() {
                    self.tell_names();
                }
                let Some(set) = set else { return };
                for service in &mut self.services {
                    if service.on_found(&source, &set) {
                        service.place_endpoints(self.shared.cores, &self.event_sender, false);
                    }
                }
            }
        }
    }

    fn on_deadline(&mut self) {
        let now = Instant::now();
        for service in &mut self.services {
            if service.next_deadline().is_some_and(|deadline| deadline <= now) {
                service.on_deadline();
            }
        }
    }

    fn publish(&mut self) {
        let services = self.services.iter_mut().map(Service::view).collect();
        let (listeners, overrides) = (self.listeners.clone(), Arc::clone(&self.shown));
        let forced = Arc::clone(&self.forced);
        self.shared.publish(Snapshot { generation: 0, listeners, services, overrides, forced });
    }

    /// Serves another configuration. What can fail comes first; then nothing is half done.
    async fn apply(&mut self, params: GatewayParams) -> Result<(), ApplyError> {
        let opened = self.sockets.open(params.listeners())?;
        let received = self.datagrams.open(params.listeners(), self.cores.len())?;
        let services = self.adopt_file(params.services());
        self.names.configure(params.resolver(), &self.event_sender);
        self.shared.cache.configure(params.cache()).await;
        self.resolve(&services).await;
        self.configure_services(&services);
        let old = std::mem::take(&mut self.listeners);
        let routes = (std::mem::take(&mut self.routes), std::mem::take(&mut self.limits));
        let mut keepers = self.certificates.begin();
        for listener in params.listeners() {
            let bound = match &listener.kind {
                ListenerKind::Udp(_) => {
                    listener.addresses.iter().map(|&address| self.datagrams.bound(&received, address)).collect()
                }
                ListenerKind::Http | ListenerKind::Tcp(_) => self.sockets.bound(&opened, listener),
            };
            let known = old.iter().find(|view| view.state.is_of(listener));
            let mut view =
                self.listener_view(listener, known.map(Arc::as_ref), bound, params.routes(), (&routes.0, &routes.1));
            if let (Some(acme), Some(tls)) = (&view.params.acme, &view.params.tls) {
                view.kept = self.certificates.keep(&listener.name, acme, tls, &mut keepers);
            }
            self.listeners.push(Arc::new(view));
        }
        drop(keepers);
        self.publish();
        let wanted: Vec<(Arc<ListenerState>, Vec<SocketAddr>)> =
            self.listeners.iter().map(|view| (Arc::clone(&view.state), view.params.addresses.clone())).collect();
        self.sockets.apply(opened, &wanted, &self.cores).await;
        self.datagrams.apply(received, &wanted, &self.cores).await;
        for gone in old {
            if !self.listeners.iter().any(|view| Arc::ptr_eq(&view.state, &gone.state)) {
                listeners::retire(Arc::clone(&gone.state), params.drain_timeout(), self.cores.clone()).await;
            }
        }
        Ok(())
    }

    /// Asks for the names of these services, and waits a little for those that nothing is known of.
    async fn resolve(&mut self, services: &[ServiceParams]) {
        let sources: BTreeSet<Source> =
            services.iter().flat_map(|params| placing::sources(&params.endpoints)).collect();
        self.names.watch(&sources, &self.event_sender);
        let deadline = tokio::time::Instant::now() + RESOLVE_TIMEOUT;
        while self.names.is_waiting(&sources) {
            let Ok(turn) = tokio::time::timeout_at(deadline, self.next_turn(false)).await else {
                tracing::warn!("some names take long to resolve; they are tried again");
                return;
            };
            // Endpoints fail and recover meanwhile as at any other time.
            self.take(turn);
            self.publish_changes();
        }
    }

    /// Forgets names that no service has any more.
    fn forget_names(&mut self) {
        self.names.retain(&self.services.iter().flat_map(Service::sources).collect());
        self.tell_names();
    }

    fn tell_names(&mut self) {
        self.shared.tell_names(self.names.views());
    }

    fn configure_services(&mut self, params: &[ServiceParams]) {
        let mut old = std::mem::take(&mut self.services);
        for params in params {
            let at = old.iter().position(|service| *service.name() == params.name);
            let mut service = match at {
                Some(at) => old.swap_remove(at),
                None => Service::new(params.clone(), self.shared.cores),
            };
            service.set_overlay(self.overrides.overlay(&params.name));
            service.forced = breakers::forced(&self.forced, &params.name);
            service.configure(params.clone(), self.names.sets(), self.shared.cores, &self.event_sender);
            service.recall(&self.unhealthy);
            self.services.push(service);
        }
        self.unhealthy.clear();
        self.forget_names();
    }

    fn listener_view(
        &mut self,
        params: &ListenerParams,
        known: Option<&ListenerView>,
        bound: Vec<SocketAddr>,
        routes: &[RouteParams],
        (known_routes, known_limits): (&States<RouteState>, &States<LimitState>),
    ) -> ListenerView {
        let mut params = params.clone();
        let state = match known {
            None => Arc::new(ListenerState::new(&params, self.shared.cores)),
            Some(known) => {
                // What did not change keeps its session tickets.
                if known.params.tls == params.tls {
                    params.tls.clone_from(&known.params.tls);
                }
                Arc::clone(&known.state)
            }
        };
        state.connections_max.store(params.connections_max.get(), Ordering::Relaxed);
        let routes = routes.iter().filter(|route| route.listener == params.name).filter_map(|route| {
            let position = |name: &Name| self.services.iter().position(|service| service.name() == name);
            let goal = Goal::new(&route.target, &route.path, self.shared.cores, position)?;
            let state = known_routes
                .get(&route.name)
                .cloned()
                .unwrap_or_else(|| Arc::new(RouteState::new(route.name.clone(), self.shared.cores)));
            self.routes.insert(route.name.clone(), Arc::clone(&state));
            let mirror = route.mirror.as_ref().and_then(|mirror| Some(Mirror::new(mirror, position(&mirror.service)?)));
            let auth = match &route.forward_auth {
                Some(auth) => Some(ForwardAuth::new(auth, position(&auth.service)?)),
                None => None,
            };
            let limits = route.limits.iter().filter_map(|params| {
                let known = self.limits.get(&params.name).or_else(|| known_limits.get(&params.name));
                let limit = Limit::new(params, known, self.shared.cores, &mut self.stores)?;
                self.limits.insert(params.name.clone(), Arc::clone(&limit.state));
                Some(Arc::new(limit))
            });
            let limits = limits.collect();
            Some(Route::new(route, state, Services { goal, auth, mirror }, limits, self.shared.cores))
        });
        let router = Router::new(routes.collect(), self.shared.cores);
        let position = |name: &Name| self.services.iter().position(|service| service.name() == name);
        let streams = match &params.kind {
            ListenerKind::Http => StreamRouter::default(),
            ListenerKind::Tcp(routes) => StreamRouter::new(routes, position),
            ListenerKind::Udp(service) => StreamRouter::new(&[StreamRouteParams::every(service.clone())], position),
        };
        let limits = http1::Limits {
            bytes_max: params.head_bytes_max.get() as usize,
            fields_max: params.head_fields_max.get() as usize,
        };
        ListenerView { state, params, bound, limits, router, streams, kept: Vec::new() }
    }
}
