//! What passes through without being looked into: a TCP connection, or a session of UDP. Its endpoint, and what is counted
//! and logged of it.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use balance::health::Outcome;
use telemetry::AccessEntry;
use vocab::{ErrorCode, Name};

use super::core::Core;
use super::tunnel::Way;
use crate::state::{EndpointState, Happened, ListenerState, Report, ServiceState};

/// A connection or session under way, counted and logged when it is dropped, however it ends.
pub(crate) struct Passage {
    core: Rc<Core>,
    listener: Arc<ListenerState>,
    client: IpAddr,
    protocol: &'static str,
    started: Instant,
    up: Cell<u64>,
    down: Cell<u64>,
    /// What became known of it on the way.
    pub(crate) found: RefCell<Found>,
}

/// What becomes known of a passage on the way.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The host that the client named.
    pub(crate) host: Option<Box<str>>,
    /// The route, if it has a name.
    pub(crate) route: Option<Name>,
    /// The service.
    pub(crate) service: Option<Arc<ServiceState>>,
    /// The endpoint that was tried last.
    pub(crate) upstream: Option<SocketAddr>,
    /// How many endpoints were tried.
    pub(crate) tries: u32,
    /// Why it was not passed on, or broke off.
    pub(crate) error: Option<ErrorCode>,
}

impl Passage {
    /// Begins now.
    pub(crate) fn begin(
        core: &Rc<Core>,
        listener: &Arc<ListenerState>,
        client: IpAddr,
        protocol: &'static str,
    ) -> Self {
        Self {
            core: Rc::clone(core),
            listener: Arc::clone(listener),
            client: client.to_canonical(),
            protocol,
            started: Instant::now(),
            up: Cell::new(0),
            down: Cell::new(0),
            found: RefCell::default(),
        }
    }

    /// Who the client is.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    /// Counts bytes at once, as a connection may last for days.
    pub(crate) fn moved(&self, way: Way, bytes: usize) {
        let (core, metrics) = (self.core.id, &self.listener.metrics);
        match way {
            Way::Up => {
                self.up.set(self.up.get() + bytes as u64);
                metrics.received(core, bytes as u64);
            }
            Way::Down => {
                self.down.set(self.down.get() + bytes as u64);
                metrics.sent(core, bytes as u64);
            }
        }
    }

    /// What a session takes on its listener is free again.
    pub(crate) fn closed(&self) {
        self.listener.metrics.closed(self.core.id);
    }

    /// It is not passed on, or broke off.
    pub(crate) fn failed(&self, code: ErrorCode) {
        self.listener.metrics.error(self.core.id, code);
        self.found.borrow_mut().error = Some(code);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let micros = self.started.elapsed().as_micros() as u64;
        self.listener.metrics.stream_ended(self.core.id, micros);
        let mut access = self.core.access.borrow_mut();
        if !access.is_on() {
            return;
        }
        let (now, found) = (SystemTime::now(), self.found.borrow());
        access.record(&AccessEntry {
            time: now.checked_sub(Duration::from_micros(micros)).unwrap_or(now),
            client: self.client,
            method: b"",
            host: found.host.as_deref().unwrap_or_default().as_bytes(),
            path: b"",
            protocol: self.protocol,
            // As nginx tells it of streams: one that was passed on is well, whatever was said in it.
            status: Some(found.error.map_or(200, ErrorCode::status)),
            bytes_in: self.up.get(),
            bytes_out: self.down.get(),
            duration_micros: micros,
            listener: self.listener.name.as_str(),
            route: found.route.as_ref().map(Name::as_str),
            service: found.service.as_ref().map(|service| service.name.as_str()),
            upstream: found.upstream,
            tries: found.tries,
            request_id: b"",
            user_agent: b"",
            referer: b"",
            error: found.error,
        });
    }
}

/// One of an endpoint's connections or sessions in flight, until this is dropped. It may last for days, and holds no
/// configuration meanwhile.
pub(crate) struct InFlight {
    core: Rc<Core>,
    service: Arc<ServiceState>,
    endpoint: Arc<EndpointState>,
}

impl InFlight {
    /// Counts it from now on.
    pub(crate) fn begin(core: &Rc<Core>, service: &Arc<ServiceState>, endpoint: &Arc<EndpointState>) -> Self {
        endpoint.in_flight.0.fetch_add(1, Ordering::Relaxed);
        Self { core: Rc::clone(core), service: Arc::clone(service), endpoint: Arc::clone(endpoint) }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// The service.
    pub(crate) fn service(&self) -> &Arc<ServiceState> {
        &self.service
    }

    /// Tells of how the endpoint did, of a success only where that changes something.
    pub(crate) fn report(&self, outcome: Outcome) {
        if outcome == Outcome::Success && !self.endpoint.wants_success.load(Ordering::Relaxed) {
            return;
        }
        let report = Report {
            service: Arc::clone(&self.service),
            endpoint: self.endpoint.id,
            event: Happened::Outcome(outcome),
        };
        // A full channel means that the control plane hears of more than it can count.
        let _one_less = self.core.shared.reports.try_send(report);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.in_flight.0.fetch_sub(1, Ordering::Relaxed);
        let local = self.core.local();
        if let Some(service) = local.service_of(&self.service)
            && let Some(position) = service.view.plan.position(self.endpoint.id)
        {
            // Only what is in flight is asked for here, and that has no age.
            let epoch = self.core.shared.epoch;
            service.picker.borrow_mut().touch(&service.view.plan, position, &service.loads(epoch, epoch));
        }
    }
}
