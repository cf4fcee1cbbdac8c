//! A core's own copy of what is served: the snapshot, and beside it the state that no other core touches.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use balance::latency::{Decay, Moment, PeakEwma};
use balance::{Loads, Picker};

use super::http2::pool::Multiplexed;
use super::upstream::IdleConnections;
use crate::limits::{Leases, Limits};
use crate::state::{EndpointState, EndpointView, ListenerState, ListenerView, ServiceState, ServiceView, Snapshot};

/// What a core serves from.
#[derive(Debug, Default)]
pub(crate) struct Local {
    snapshot: Arc<Snapshot>,
    services: Vec<Rc<LocalService>>,
    leases: Vec<Rc<Leases>>,
}

/// A service, with this core's picker and pools.
#[derive(Debug)]
pub(crate) struct LocalService {
    /// The service as it stands now.
    pub(crate) view: Arc<ServiceView>,
    /// Outlives configurations.
    pub(crate) picker: Rc<RefCell<Picker>>,
    /// Endpoints, at the positions of the plan.
    pub(crate) endpoints: Vec<Rc<LocalEndpoint>>,
}

/// An endpoint, with this core's idle connections to it.
#[derive(Debug)]
pub(crate) struct LocalEndpoint {
    /// What all cores share.
    pub(crate) state: Arc<EndpointState>,
    /// Connections that wait for their next request.
    pub(crate) idle: IdleConnections,
    /// Connections of HTTP/2.
    pub(crate) multiplexed: Multiplexed,
    /// Whether it is no longer served, so that connections to it are not kept.
    pub(crate) retired: Cell<bool>,
}

impl Local {
    /// Takes over a snapshot, keeping what `old` knows of the services and endpoints that stay.
    pub(crate) fn adopt(
        snapshot: Arc<Snapshot>,
        old: &Self,
        (core, epoch): (usize, Instant),
        seed: &mut impl FnMut() -> u64,
    ) -> Self {
        let services: Vec<_> = snapshot
            .services
            .iter()
            .map(|view| {
                let known = old.services.iter().find(|service| Arc::ptr_eq(&service.view.state, &view.state));
                Rc::new(LocalService::adopt(Arc::clone(view), known.map(Rc::as_ref), seed))
            })
            .collect();
        let kept = |endpoint: &Rc<LocalEndpoint>| {
            services.iter().flat_map(|service| &service.endpoints).any(|other| Rc::ptr_eq(other, endpoint))
        };
        for endpoint in old.services.iter().flat_map(|service| &service.endpoints) {
            if !kept(endpoint) {
                endpoint.retired.set(true);
                endpoint.idle.clear(core);
                endpoint.multiplexed.clear();
            }
        }
        let leases = adopt_leases(&snapshot, &old.leases, (core, epoch), seed);
        Self { snapshot, services, leases }
    }

    /// What the core holds of limits that gateways share.
    pub(crate) fn leases(&self) -> &[Rc<Leases>] {
        &self.leases
    }

    /// Gives back what it holds.
    pub(crate) async fn give_leases_back(&self) {
        let told: Vec<_> =
            self.leases.iter().map(|leases| tokio::task::spawn_local(Rc::clone(leases).give_back())).collect();
        for told in told {
            let _nothing_to_hear = told.await;
        }
    }

    /// Number of the snapshot.
    pub(crate) fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// A listener as it is configured now; `None` once it has been taken away.
    pub(crate) fn listener(&self, state: &Arc<ListenerState>) -> Option<&ListenerView> {
        self.snapshot.listeners.iter().find(|view| Arc::ptr_eq(&view.state, state)).map(Arc::as_ref)
    }

    /// The service at a position.
    pub(crate) fn service(&self, index: usize) -> &Rc<LocalService> {
        &self.services[index]
    }

    /// The service with this state, if it is still there.
    pub(crate) fn service_of(&self, state: &Arc<ServiceState>) -> Option<&Rc<LocalService>> {
        self.services.iter().find(|service| Arc::ptr_eq(&service.view.state, state))
    }

    /// The position of the service of a name.
    pub(crate) fn position(&self, name: &vocab::Name) -> Option<usize> {
        self.services.iter().position(|service| service.view.state.name == *name)
    }

    /// Closes connections that have been idle for too long, or that their endpoints closed.
    pub(crate) fn sweep(&self, core: usize) {
        for service in &self.services {
            for endpoint in &service.endpoints {
                let idle_timeout = service.view.params.pool.idle_timeout;
                endpoint.idle.sweep(core, idle_timeout);
                endpoint.multiplexed.sweep(idle_timeout);
            }
        }
        let now = Instant::now();
        self.leases.iter().for_each(|leases| leases.sweep(now));
    }
}

/// Keeps the leases of limits that stay, makes those of new ones, and gives back what is left of others.
fn adopt_leases(
    snapshot: &Snapshot,
    old: &[Rc<Leases>],
    of_core: (usize, Instant),
    seed: &mut impl FnMut() -> u64,
) -> Vec<Rc<Leases>> {
    let mut leases: Vec<Rc<Leases>> = Vec::new();
    let routes = snapshot.listeners.iter().flat_map(|listener| listener.router.routes());
    for limit in routes.filter_map(|route| route.limits.as_deref()).flat_map(Limits::iter) {
        if limit.state.shared().is_none() || leases.iter().any(|known| known.is_of(&limit.state)) {
            continue;
        }
        let known = old.iter().find(|known| known.is_of(&limit.state)).map(Rc::clone);
        let others = || old.iter().chain(&leases);
        let found = known.or_else(|| Leases::new(&limit.state, of_core, seed(), others()));
        leases.extend(found);
    }
    for gone in old.iter().filter(|old| !leases.iter().any(|kept| Rc::ptr_eq(kept, old))) {
        tokio::task::spawn_local(Rc::clone(gone).give_back());
    }
    leases
}

impl LocalService {
    fn adopt(view: Arc<ServiceView>, known: Option<&Self>, seed: &mut impl FnMut() -> u64) -> Self {
        // Connections made in another way are not those that are wanted now.
        let same_way = known.is_some_and(|known| {
            let (old, new) = (&known.view.params, &view.params);
            old.tls == new.tls && old.protocol == new.protocol && old.send_proxy == new.send_proxy
        });
        let picker = match known {
            Some(known) => Rc::clone(&known.picker),
            None => Rc::new(RefCell::new(Picker::new(seed()))),
        };
        let endpoint = |endpoint: &EndpointView| {
            let mut known = known.iter().filter(|_| same_way).flat_map(|service| &service.endpoints);
            match known.find(|known| Arc::ptr_eq(&known.state, &endpoint.state)) {
                Some(known) => Rc::clone(known),
                None => Rc::new(LocalEndpoint {
                    state: Arc::clone(&endpoint.state),
                    idle: IdleConnections::default(),
                    multiplexed: Multiplexed::default(),
                    retired: Cell::new(false),
                }),
            }
        };
        let endpoints = view.endpoints.iter().map(endpoint).collect();
        Self { view, picker, endpoints }
    }

    /// The live numbers for picking at `now`, which only latencies depend on.
    pub(crate) fn loads(&self, epoch: Instant, now: Instant) -> LiveLoads<'_> {
        LiveLoads { endpoints: &self.endpoints, now: Moment::new(now.saturating_duration_since(epoch)) }
    }
}

/// Reads the atomics that all cores share.
pub(crate) struct LiveLoads<'s> {
    endpoints: &'s [Rc<LocalEndpoint>],
    now: Moment,
}

impl Loads for LiveLoads<'_> {
    fn in_flight(&self, index: usize) -> u32 {
        self.endpoints[index].state.in_flight.0.load(Ordering::Relaxed)
    }

    fn latency_micros(&self, index: usize) -> f32 {
        let packed = self.endpoints[index].state.latency.0.load(Ordering::Relaxed);
        PeakEwma::unpack(packed).decayed(self.now, Decay::default())
    }
}

impl LocalEndpoint {
    /// Adds a latency to the average that all cores share. Two cores that add at once lose one of the two samples,
    /// which an average can bear and a loop of compare-exchange would not be worth.
    pub(crate) fn observe_latency(&self, since_epoch: Duration, latency: Duration) {
        let word = &self.state.latency.0;
        let average = PeakEwma::unpack(word.load(Ordering::Relaxed));
        word.store(average.observe(Moment::new(since_epoch), latency, Decay::default()).pack(), Ordering::Relaxed);
    }
}
