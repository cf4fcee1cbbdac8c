//! What is counted about a listener, a route, a service and an endpoint.
//!
//! The gateway makes one object of these per configured name, keeps it across reloads, and hands it to the scrape
//! together with its labels (see [`crate::encode`]). Methods that take `core` belong to the thread that owns that core's
//! shard; methods that take none are for readers, or name their one writer.

use std::sync::OnceLock;

use vocab::ErrorCode;

use crate::cell::{Counter, Gauge, Sharded};
use crate::histogram::{Histogram, HistogramTotals};
use crate::label::{CLASSES, FailureKind, HealthChange, Limit, Method, RefusedReason, RetryReason, STATUS_SLOTS};
use crate::label::{ShedClass, ShedResult, TripCause, class_slot, status_slot};

/// Requests of one route: how many by method and status, and how long they took by method.
#[derive(Debug)]
pub struct RouteMetrics(Sharded<[OnceLock<Box<MethodCells>>; Method::ALL.len()]>);

/// Made when a method is first seen: most routes see two or three of the ten.
#[derive(Debug)]
pub(crate) struct MethodCells {
    statuses: [Counter; STATUS_SLOTS],
    duration: Histogram,
    body_received: Counter,
    body_sent: Counter,
}

/// What a route counts of a request.
#[derive(Clone, Copy, Debug)]
pub struct FinishedRequest {
    /// Its method.
    pub method: Method,
    /// The status that the client got.
    pub status: u16,
    /// Microseconds from the end of its head to the end of the exchange.
    pub micros: u64,
    /// Bytes of its body.
    pub body_received: u64,
    /// Bytes of the response's body.
    pub body_sent: u64,
}

impl RouteMetrics {
    /// Nothing counted yet, for `cores` writers.
    pub fn new(cores: usize) -> Self {
        Self(Sharded::new(cores, || std::array::from_fn(|_| OnceLock::new())))
    }

    /// Counts a finished request.
    #[inline]
    pub fn record(&self, core: usize, request: &FinishedRequest) {
        let cells = self.0.core(core)[request.method as usize].get_or_init(MethodCells::boxed);
        cells.statuses[status_slot(request.status)].increment();
        cells.duration.record_micros(request.micros);
        cells.body_received.add(request.body_received);
        cells.body_sent.add(request.body_sent);
    }

    /// Requests counted so far.
    pub fn requests(&self) -> u64 {
        Method::ALL.iter().map(|&method| self.durations(method).count()).sum()
    }

    /// Counts by status slot of a method, all cores together.
    pub(crate) fn statuses(&self, method: Method) -> [u64; STATUS_SLOTS] {
        let mut sums = [0; STATUS_SLOTS];
        for cells in self.seen(method) {
            sums.iter_mut().zip(&cells.statuses).for_each(|(sum, count)| *sum += count.value());
        }
        sums
    }

    /// Durations of a method, all cores together.
    pub(crate) fn durations(&self, method: Method) -> HistogramTotals {
        let mut totals = HistogramTotals::default();
        self.seen(method).for_each(|cells| cells.duration.add_to(&mut totals));
        totals
    }

    /// Bytes of request bodies and of response bodies of a method, all cores together.
    pub(crate) fn body_bytes(&self, method: Method) -> (u64, u64) {
        self.seen(method).fold((0, 0), |(received, sent), cells| {
            (received + cells.body_received.value(), sent + cells.body_sent.value())
        })
    }

    fn seen(&self, method: Method) -> impl Iterator<Item = &MethodCells> {
        self.0.iter().filter_map(move |methods| methods[method as usize].get()).map(Box::as_ref)
    }
}

impl MethodCells {
    fn boxed() -> Box<Self> {
        let statuses = std::array::from_fn(|_| Counter::default());
        let (body_received, body_sent) = (Counter::default(), Counter::default());
        Box::new(Self { statuses, duration: Histogram::default(), body_received, body_sent })
    }
}

/// What a listener accepted, refused and carried.
#[derive(Debug)]
pub struct ListenerMetrics(Sharded<ListenerCells>);

#[derive(Debug, Default)]
struct ListenerCells {
    accepted: Counter,
    open: Gauge,
    refused: [Counter; RefusedReason::ALL.len()],
    errors: [Counter; ErrorCode::ALL.len()],
    bytes_in: Counter,
    bytes_out: Counter,
    /// Made when the first stream ends: listeners for HTTP have none.
    streams: OnceLock<Box<Histogram>>,
}

impl ListenerMetrics {
    /// Nothing counted yet, for `cores` writers.
    pub fn new(cores: usize) -> Self {
        Self(Sharded::new(cores, ListenerCells::default))
    }

    /// Counts a client connection that will be served.
    #[inline]
    pub fn opened(&self, core: usize) {
        let cells = self.0.core(core);
        cells.accepted.increment();
        cells.open.add(1);
    }

    /// Counts the end of a connection that was [`Self::opened`], on whichever core.
    #[inline]
    pub fn closed(&self, core: usize) {
        self.0.core(core).open.add(-1);
    }

    /// Counts a connection that was closed without being served.
    #[inline]
    pub fn refused(&self, core: usize, reason: RefusedReason) {
        self.0.core(core).refused[reason as usize].increment();
    }

    /// Counts an answer that the gateway gave by itself, or a connection that it broke off, with the reason.
    #[inline]
    pub fn error(&self, core: usize, code: ErrorCode) {
        self.0.core(core).errors[code as usize].increment();
    }

    /// Counts bytes read from clients, heads included.
    #[inline]
    pub fn received(&self, core: usize, bytes: u64) {
        self.0.core(core).bytes_in.add(bytes);
    }

    /// Counts bytes written to clients, heads included.
    #[inline]
    pub fn sent(&self, core: usize, bytes: u64) {
        self.0.core(core).bytes_out.add(bytes);
    }

    /// Counts a TCP connection or a session of UDP that was passed through and has ended: how long it took.
    pub fn stream_ended(&self, core: usize, micros: u64) {
        self.0.core(core).streams.get_or_init(Box::default).record_micros(micros);
    }

    /// Durations of what was passed through, all cores together.
    pub(crate) fn stream_durations(&self) -> HistogramTotals {
        let mut totals = HistogramTotals::default();
        self.0.iter().filter_map(|cells| cells.streams.get()).for_each(|streams| streams.add_to(&mut totals));
        totals
    }

    /// Client connections open now.
    pub fn open(&self) -> u64 {
        let level: i64 = self.0.iter().map(|cells| cells.open.value()).sum();
        // Shards are read one after another, so a connection that moves meanwhile may count as minus one.
        u64::try_from(level).unwrap_or(0)
    }

    /// Client connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.0.sum(|cells| cells.accepted.value())
    }

    /// Connections refused so far for a reason.
    pub fn refusals(&self, reason: RefusedReason) -> u64 {
        self.0.sum(|cells| cells.refused[reason as usize].value())
    }

    /// Errors so far with a code.
    pub fn errors(&self, code: ErrorCode) -> u64 {
        self.0.sum(|cells| cells.errors[code as usize].value())
    }

    /// Bytes read from clients so far.
    pub fn bytes_received(&self) -> u64 {
        self.0.sum(|cells| cells.bytes_in.value())
    }

    /// Bytes written to clients so far.
    pub fn bytes_sent(&self) -> u64 {
        self.0.sum(|cells| cells.bytes_out.value())
    }
}

/// What one endpoint of a service was asked and how it did.
#[derive(Debug)]
pub struct EndpointMetrics {
    cores: Sharded<EndpointCells>,
    changes: [Counter; HealthChange::ALL.len()],
    checks_passed: Counter,
    checks_failed: Counter,
}

#[derive(Debug, Default)]
struct EndpointCells {
    classes: [Counter; CLASSES.len()],
    failures: [Counter; FailureKind::ALL.len()],
    connects: Counter,
    reused: Counter,
    streams: Counter,
    latency: Histogram,
}

impl EndpointMetrics {
    /// Nothing counted yet, for `cores` writers.
    pub fn new(cores: usize) -> Self {
        Self {
            cores: Sharded::new(cores, EndpointCells::default),
            changes: Default::default(),
            checks_passed: Counter::default(),
            checks_failed: Counter::default(),
        }
    }

    /// Counts a response: its status, and the time in microseconds from sending the request to the end of the
    /// response's head.
    #[inline]
    pub fn response(&self, core: usize, status: u16, micros: u64) {
        let cells = self.cores.core(core);
        cells.classes[class_slot(status)].increment();
        cells.latency.record_micros(micros);
    }

    /// Counts a try that failed before a response head was complete.
    #[inline]
    pub fn failure(&self, core: usize, kind: FailureKind) {
        self.cores.core(core).failures[kind as usize].increment();
    }

    /// Counts a new connection to the endpoint.
    #[inline]
    pub fn connected(&self, core: usize) {
        self.cores.core(core).connects.increment();
    }

    /// Counts a TCP connection or a session of UDP that is passed to the endpoint.
    #[inline]
    pub fn streamed(&self, core: usize) {
        self.cores.core(core).streams.increment();
    }

    /// Counts a request that was sent on a connection that had served another before.
    #[inline]
    pub fn reused(&self, core: usize) {
        self.cores.core(core).reused.increment();
    }

    /// Counts a change of health. Only the control plane's thread may call this.
    pub fn health_changed(&self, change: HealthChange) {
        self.changes[change as usize].increment();
    }

    /// Counts an active check. Only the control plane's thread may call this.
    pub fn checked(&self, passed: bool) {
        if passed { self.checks_passed.increment() } else { self.checks_failed.increment() }
    }

    /// TCP connections and sessions of UDP that were passed to the endpoint so far.
    pub fn streams(&self) -> u64 {
        self.cores.sum(|cells| cells.streams.value())
    }

    /// Tries so far: responses, what was passed on without looking into it, and failures together.
    pub fn requests(&self) -> u64 {
        let responses: u64 = (0..CLASSES.len()).map(|class| self.responses_of_class(class)).sum();
        responses + self.streams() + FailureKind::ALL.iter().map(|&kind| self.failures(kind)).sum::<u64>()
    }

    /// Tries so far that failed in a way.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.cores.sum(|cells| cells.failures[kind as usize].value())
    }

    /// Tries so far that failed, or that were answered by a status that says the server is at fault (5xx).
    pub fn unsuccessful(&self) -> u64 {
        let failures: u64 = FailureKind::ALL.iter().map(|&kind| self.failures(kind)).sum();
        failures + self.responses_of_class(class_slot(500))
    }

    /// Connections made so far.
    pub fn connects(&self) -> u64 {
        self.cores.sum(|cells| cells.connects.value())
    }

    /// Requests sent so far on a connection that was open already.
    pub fn reuses(&self) -> u64 {
        self.cores.sum(|cells| cells.reused.value())
    }

    /// Active checks so far: passed and failed.
    pub fn checks(&self) -> (u64, u64) {
        (self.checks_passed.value(), self.checks_failed.value())
    }

    /// Changes of health so far.
    pub fn health_changes(&self, change: HealthChange) -> u64 {
        self.changes[change as usize].value()
    }

    pub(crate) fn responses_of_class(&self, class: usize) -> u64 {
        self.cores.sum(|cells| cells.classes[class].value())
    }

    pub(crate) fn latency(&self) -> HistogramTotals {
        let mut totals = HistogramTotals::default();
        self.cores.iter().for_each(|cells| cells.latency.add_to(&mut totals));
        totals
    }
}

/// What a service did beyond its single endpoints.
#[derive(Debug)]
pub struct ServiceMetrics(Sharded<ServiceCells>);

#[derive(Debug, Default)]
struct ServiceCells {
    retries: [Counter; RetryReason::ALL.len()],
    budget_refused: Counter,
    pick_failures: Counter,
    trips: [Counter; TripCause::ALL.len()],
    breaker_refused: Counter,
    limited: [Counter; Limit::ALL.len()],
    fallbacks: Counter,
    shed: [[Counter; ShedResult::ALL.len()]; ShedClass::ALL.len()],
}

impl ServiceMetrics {
    /// Nothing counted yet, for `cores` writers.
    pub fn new(cores: usize) -> Self {
        Self(Sharded::new(cores, ServiceCells::default))
    }

    /// Counts a request that was sent again.
    #[inline]
    pub fn retried(&self, core: usize, reason: RetryReason) {
        self.0.core(core).retries[reason as usize].increment();
    }

    /// Counts a retry that was wanted and safe, but that the budget refused.
    #[inline]
    pub fn retry_refused(&self, core: usize) {
        self.0.core(core).budget_refused.increment();
    }

    /// Counts a request for which no endpoint could be picked.
    #[inline]
    pub fn pick_failed(&self, core: usize) {
        self.0.core(core).pick_failures.increment();
    }

    /// Counts an opening of a breaker of the service or of one of its endpoints.
    #[inline]
    pub fn breaker_tripped(&self, core: usize, cause: TripCause) {
        self.0.core(core).trips[cause as usize].increment();
    }

    /// Counts a try that breakers kept back.
    #[inline]
    pub fn breaker_refused(&self, core: usize) {
        self.0.core(core).breaker_refused.increment();
    }

    /// Counts a request, or a retry, that a bound kept back.
    #[inline]
    pub fn limited(&self, core: usize, limit: Limit) {
        self.0.core(core).limited[limit as usize].increment();
    }

    /// Counts a request that the service's fallback served.
    #[inline]
    pub fn fell_back(&self, core: usize) {
        self.0.core(core).fallbacks.increment();
    }

    /// Counts what became of a request where load is shed.
    #[inline]
    pub fn shed(&self, core: usize, class: ShedClass, result: ShedResult) {
        self.0.core(core).shed[class as usize][result as usize].increment();
    }

    /// Requests of a class of which something became so far, where load is shed.
    pub fn shed_requests(&self, class: ShedClass, result: ShedResult) -> u64 {
        self.0.sum(|cells| cells.shed[class as usize][result as usize].value())
    }

    /// Openings of breakers so far for a cause.
    pub fn trips(&self, cause: TripCause) -> u64 {
        self.0.sum(|cells| cells.trips[cause as usize].value())
    }

    /// Tries that breakers kept back so far.
    pub fn breaker_refusals(&self) -> u64 {
        self.0.sum(|cells| cells.breaker_refused.value())
    }

    /// Requests or retries that a bound kept back so far.
    pub fn limit_refusals(&self, limit: Limit) -> u64 {
        self.0.sum(|cells| cells.limited[limit as usize].value())
    }

    /// Requests that the fallback served so far.
    pub fn fallbacks(&self) -> u64 {
        self.0.sum(|cells| cells.fallbacks.value())
    }

    /// Retries so far for a reason.
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.0.sum(|cells| cells.retries[reason as usize].value())
    }

    /// Retries refused by the budget so far.
    pub fn retries_refused(&self) -> u64 {
        self.0.sum(|cells| cells.budget_refused.value())
    }

    /// Requests so far for which no endpoint could be picked.
    pub fn pick_failures(&self) -> u64 {
        self.0.sum(|cells| cells.pick_failures.value())
    }
}
