//! One try at one endpoint: picking it, and telling everyone concerned how it went.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use balance::health::{FailureKind as HealthFailure, Outcome};
use balance::{Availability, Request};
use telemetry::FailureKind;

use super::core::Core;
use super::local::{LocalEndpoint, LocalService};
use crate::state::Report;

/// Latency that a failure counts as at least. An endpoint that fails fast would otherwise look like the fastest.
const FAILURE_LATENCY: Duration = Duration::from_secs(1);

/// A try under way. Dropping it ends the endpoint's request in flight.
pub(crate) struct Attempt<'c> {
    core: &'c Core,
    service: &'c Rc<LocalService>,
    /// The endpoint's position.
    pub(crate) index: u16,
    /// Whether this is the one request that may find out how a failed endpoint is.
    probe: bool,
    reported: bool,
}

impl<'c> Attempt<'c> {
    /// Picks an endpoint at `now`. `sticky` is the id of the one that the client had before.
    pub(crate) fn pick(
        core: &'c Core,
        service: &'c Rc<LocalService>,
        request: Request<'_>,
        sticky: Option<u64>,
        now: Instant,
    ) -> Option<Self> {
        let view = &service.view;
        let stuck = sticky.and_then(|id| view.plan.position(id)).filter(|&position| {
            let candidate = &view.plan.candidates()[usize::from(position)];
            candidate.availability != Availability::Unavailable && !request.tried.contains(&position)
        });
        let probe = || view.probing.iter().copied().find(|position| takes_permit(service, *position));
        let (index, probe) = match stuck.or_else(probe) {
            Some(index) => (index, stuck.is_none()),
            None => {
                let loads = service.loads(core.shared.epoch, now);
                (service.picker.borrow_mut().pick(&view.plan, request, &loads)?, false)
            }
        };
        let mut attempt = Self::at(core, service, index);
        attempt.probe = probe;
        Some(attempt)
    }

    /// Tries the endpoint at a position.
    pub(crate) fn at(core: &'c Core, service: &'c Rc<LocalService>, index: u16) -> Self {
        service.endpoints[usize::from(index)].state.in_flight.0.fetch_add(1, Ordering::Relaxed);
        Self { core, service, index, probe: false, reported: false }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &'c Rc<LocalEndpoint> {
        &self.service.endpoints[usize::from(self.index)]
    }

    /// The endpoint has answered: its status, whether that counts as a failure, and how long its head took.
    pub(crate) fn answered(&mut self, status: u16, is_failure: bool, sent: Instant, now: Instant) {
        let endpoint = self.endpoint();
        let latency = now.saturating_duration_since(sent);
        endpoint.state.metrics.response(self.core.id, status, latency.as_micros() as u64);
        self.observe(now, latency);
        if is_failure {
            self.report(Outcome::Failure(HealthFailure::Status(status)));
        } else if self.probe || endpoint.state.wants_success.load(Ordering::Relaxed) {
            self.report(Outcome::Success);
        }
    }

    /// The endpoint has failed before its response's head was complete.
    pub(crate) fn failed(&mut self, kind: FailureKind, sent: Instant) {
        let endpoint = self.endpoint();
        endpoint.state.metrics.failure(self.core.id, kind);
        let now = Instant::now();
        self.observe(now, now.saturating_duration_since(sent).max(FAILURE_LATENCY));
        self.report(Outcome::Failure(match kind {
            FailureKind::Connect | FailureKind::Closed => HealthFailure::Connection,
            FailureKind::ConnectTimeout | FailureKind::Timeout => HealthFailure::Timeout,
            FailureKind::Invalid => HealthFailure::InvalidResponse,
        }));
    }

    fn observe(&self, now: Instant, latency: Duration) {
        if self.service.view.plan.algorithm() == balance::Algorithm::PeakEwma {
            let since_epoch = now.saturating_duration_since(self.core.shared.epoch);
            self.endpoint().observe_latency(since_epoch, latency);
        }
    }

    fn report(&mut self, outcome: Outcome) {
        let service = Arc::clone(&self.service.view.state);
        let report = Report { service, endpoint: self.endpoint().state.id, outcome };
        // A full channel means that the control plane hears of more failures than it can count; one less changes
        // nothing. A probe's permit goes back then, so that another request can ask again.
        self.reported = self.core.shared.reports.try_send(report).is_ok();
    }
}

/// Takes the permit to probe an endpoint, if it is there.
fn takes_permit(service: &LocalService, position: u16) -> bool {
    let permit = &service.endpoints[usize::from(position)].state.probe;
    permit.load(Ordering::Relaxed) && permit.swap(false, Ordering::Relaxed)
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let state = &self.endpoint().state;
        state.in_flight.0.fetch_sub(1, Ordering::Relaxed);
        if self.probe && !self.reported {
            state.probe.store(true, Ordering::Relaxed);
        }
        // Only requests in flight are asked for here, and they have no age.
        let epoch = self.core.shared.epoch;
        let loads = self.service.loads(epoch, epoch);
        self.service.picker.borrow_mut().touch(&self.service.view.plan, self.index, &loads);
    }
}
