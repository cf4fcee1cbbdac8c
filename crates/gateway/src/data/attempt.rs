//! One try at one endpoint: picking it, and telling everyone concerned how it went.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use balance::health::{FailureKind as HealthFailure, Outcome};
use balance::{Availability, Request};
use breaker::circuit::{Cause, Change, State};
use telemetry::{FailureKind, TripCause};
use vocab::ErrorCode;

use super::core::Core;
use super::leave::{Leave, Refusal};
use super::local::{LocalEndpoint, LocalService};
use super::upstream::NoConnection;
use crate::params::RetryOn;
use crate::state::{Happened, Report, ServiceState};

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
    /// Leave of a breaker, until its result is told.
    leave: Option<Leave<'c>>,
    /// When the time is over that the client has given, which says nothing about the endpoint: one who gives a
    /// millisecond would have every endpoint taken out.
    pub(crate) given: Option<Instant>,
}

/// Why there is no try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpicked {
    /// No endpoint may take the request.
    Nobody,
    /// A breaker keeps it back.
    Refused(Refusal),
}

impl Unpicked {
    /// Counts it: what the client is told.
    pub(crate) fn count(self, core: &Core, service: &ServiceState) -> ErrorCode {
        match self {
            Self::Nobody => {
                service.metrics.pick_failed(core.id);
                ErrorCode::NoEndpoint
            }
            Self::Refused(_) => {
                service.metrics.breaker_refused(core.id);
                ErrorCode::BreakerOpen
            }
        }
    }
}

impl<'c> Attempt<'c> {
    /// Picks an endpoint at `now`. `sticky` is the id of the one that the client had before.
    pub(crate) fn pick(
        core: &'c Core,
        service: &'c Rc<LocalService>,
        request: Request<'_>,
        sticky: Option<u64>,
        now: Instant,
    ) -> Result<Self, Unpicked> {
        if service.view.params.breaker.is_some() {
            return Self::pick_with_leave(core, service, request, sticky, now);
        }
        Self::pick_any(core, service, request, sticky, now).ok_or(Unpicked::Nobody)
    }

    /// Picks an endpoint, whatever breakers say.
    fn pick_any(
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

    /// Picks an endpoint that a breaker gives leave to ask: the service's, or the endpoint's own.
    #[inline(never)]
    fn pick_with_leave(
        core: &'c Core,
        service: &'c Rc<LocalService>,
        request: Request<'_>,
        sticky: Option<u64>,
        now: Instant,
    ) -> Result<Self, Unpicked> {
        let view = &service.view;
        if let Some(breaker) = &view.breaker {
            let leave = Leave::ask(breaker, now).map_err(Unpicked::Refused)?;
            let mut attempt = Self::pick_any(core, service, request, sticky, now).ok_or(Unpicked::Nobody)?;
            attempt.accept(leave);
            return Ok(attempt);
        }
        // Whoever waits for a probe comes first, or it would wait for as long as the others are well.
        let (mut refusal, mut recovered) = (None, None);
        for &index in view.tripped.iter().filter(|index| !request.tried.contains(index)) {
            let Some(breaker) = &view.endpoints[usize::from(index)].breaker else { continue };
            match Leave::ask(breaker, now) {
                Ok(leave) if leave.is_probe() => {
                    let mut attempt = Self::at(core, service, index);
                    attempt.accept(leave);
                    return Ok(attempt);
                }
                // It has closed, which the plan will know in a moment: until then it is not to get everything.
                Ok(_) => recovered = recovered.or(Some(index)),
                Err(refused) => refusal = sooner(refusal, refused),
            }
        }
        let mut refused_by: Vec<u16> = Vec::new();
        loop {
            // Rare: the plan of the next moment no longer has whom a breaker holds back.
            let tried = if refused_by.is_empty() {
                Cow::Borrowed(request.tried)
            } else {
                [request.tried, &refused_by].concat().into()
            };
            let pick = Request { key: request.key, tried: &tried };
            let sticky = sticky.filter(|_| refused_by.is_empty());
            let picked = Self::pick_any(core, service, pick, sticky, now);
            let Some(attempt) = picked.or_else(|| Some(Self::at(core, service, recovered.take()?))) else {
                return Err(refusal.map_or(Unpicked::Nobody, Unpicked::Refused));
            };
            let index = attempt.index;
            match attempt.with_own_leave(now) {
                Ok(attempt) => return Ok(attempt),
                Err(refused) => refusal = sooner(refusal, refused),
            }
            if refused_by.contains(&index) {
                return Err(refusal.map_or(Unpicked::Nobody, Unpicked::Refused));
            }
            refused_by.push(index);
        }
    }

    /// The try with leave of its endpoint's own breaker.
    fn with_own_leave(mut self, now: Instant) -> Result<Self, Refusal> {
        let service = self.service;
        if let Some(breaker) = &service.view.endpoints[usize::from(self.index)].breaker {
            self.accept(Leave::ask(breaker, now)?);
        }
        Ok(self)
    }

    fn accept(&mut self, leave: Leave<'c>) {
        if leave.ends_open_time() {
            // When it was to end is told by the line before.
            let from = State::Open { until: Instant::now() };
            self.tell(Happened::Breaker(Change { from, to: State::HalfOpen, cause: Cause::TimeOver }));
        }
        self.leave = Some(leave);
    }

    /// Tries the same endpoint again by the same leave: what came of this try says nothing.
    pub(crate) fn renewed(mut self) -> Self {
        let leave = self.leave.take();
        let mut renewed = Self::at(self.core, self.service, self.index);
        renewed.leave = leave;
        renewed
    }

    /// Tries the endpoint at a position.
    pub(crate) fn at(core: &'c Core, service: &'c Rc<LocalService>, index: u16) -> Self {
        service.endpoints[usize::from(index)].state.in_flight.0.fetch_add(1, Ordering::Relaxed);
        Self { core, service, index, probe: false, reported: false, leave: None, given: None }
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &'c Rc<LocalEndpoint> {
        &self.service.endpoints[usize::from(self.index)]
    }

    /// The head of the endpoint's response has come, after so long.
    pub(crate) fn timed(&self, (took, now): (Duration, Instant)) {
        self.observe(now, took);
    }

    /// The endpoint has answered: its status, whether that counts as a failure, and when its head came, after how long.
    pub(crate) fn answered(&mut self, status: u16, is_failure: bool, (took, now): (Duration, Instant)) {
        self.endpoint().state.metrics.response(self.core.id, status, took.as_micros() as u64);
        self.judge((took, now), |on| Some(on.statuses.contains(&status)));
        if is_failure {
            self.report(Outcome::Failure(HealthFailure::Status(status)));
        } else {
            self.succeeded();
        }
    }

    /// The endpoint has taken a connection that is passed through to it; how long that took is its latency.
    pub(crate) fn connected(&mut self, begun: Instant) {
        let metrics = &self.endpoint().state.metrics;
        metrics.connected(self.core.id);
        metrics.streamed(self.core.id);
        let now = Instant::now();
        let took = now.saturating_duration_since(begun);
        self.observe(now, took);
        self.judge((took, now), |_| Some(false));
        self.succeeded();
    }

    /// There is no connection to the endpoint: what the client is told.
    pub(crate) fn unconnected(&mut self, error: &NoConnection, begun: Instant) -> ErrorCode {
        let endpoint = &self.endpoint().state;
        let service = &self.service.view.state.name;
        let (code, kind) = match error {
            NoConnection::Refused(error) => {
                tracing::debug!(%service, endpoint = endpoint.label, %error, "cannot connect");
                (ErrorCode::UpstreamConnect, Some(FailureKind::Connect))
            }
            NoConnection::Insecure(error) => {
                tracing::warn!(%service, endpoint = endpoint.label, %error, "no TLS with the endpoint");
                (ErrorCode::UpstreamConnect, Some(FailureKind::Connect))
            }
            NoConnection::TimedOut => (ErrorCode::UpstreamConnectTimeout, Some(FailureKind::ConnectTimeout)),
            NoConnection::Exhausted(error) => {
                tracing::warn!(%service, endpoint = endpoint.label, %error, "no connection can be made from here");
                (ErrorCode::Overloaded, None)
            }
            NoConnection::Full => (ErrorCode::Overloaded, None),
        };
        if let Some(kind) = kind {
            self.failed(kind, begun);
        }
        code
    }

    /// Tells of a success where that changes something.
    fn succeeded(&mut self) {
        if self.probe || self.endpoint().state.wants_success.load(Ordering::Relaxed) {
            self.report(Outcome::Success);
        }
    }

    /// The endpoint has failed before its response's head was complete.
    pub(crate) fn failed(&mut self, kind: FailureKind, sent: Instant) {
        let endpoint = self.endpoint();
        endpoint.state.metrics.failure(self.core.id, kind);
        let now = Instant::now();
        if is_timeout(kind) && self.given.is_some_and(|given| given <= now) {
            return;
        }
        let took = now.saturating_duration_since(sent);
        self.observe(now, took.max(FAILURE_LATENCY));
        // What is not named says neither that it is well nor that it is not.
        self.judge((took, now), |on| is_named(on, kind).then_some(true));
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

    /// Tells the breaker how the try ended, if `judge` says whether it failed.
    fn judge(&mut self, (took, now): (Duration, Instant), judge: impl Fn(&RetryOn) -> Option<bool>) {
        let Some(leave) = self.leave.take() else { return };
        let Some(failed) = self.service.view.params.breaker.as_ref().and_then(|params| judge(&params.on)) else {
            return;
        };
        let by = (self.core.id, self.core.random.borrow_mut().u64(..));
        if let Some(change) = leave.end(breaker::Outcome { failed, took }, now, by) {
            if let Some(cause) = trip_of(change.cause) {
                self.service.view.state.metrics.breaker_tripped(self.core.id, cause);
            }
            self.tell(Happened::Breaker(change));
        }
    }

    fn report(&mut self, outcome: Outcome) {
        // A full channel means that the control plane hears of more failures than it can count; one less changes
        // nothing. A probe's permit goes back then, so that another request can ask again.
        self.reported = self.tell(Happened::Outcome(outcome));
    }

    fn tell(&self, event: Happened) -> bool {
        let service = Arc::clone(&self.service.view.state);
        let report = Report { service, endpoint: self.endpoint().state.id, event };
        self.core.shared.reports.try_send(report).is_ok()
    }
}

/// Of two refusals the one that is over first.
fn sooner(known: Option<Refusal>, other: Refusal) -> Option<Refusal> {
    let first = [known.and_then(|refusal| refusal.0), other.0].into_iter().flatten().min();
    Some(Refusal(first))
}

/// Whether a failure is that a time was over.
fn is_timeout(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::ConnectTimeout | FailureKind::Timeout)
}

/// Whether a failure before a response's head counts.
fn is_named(on: &RetryOn, kind: FailureKind) -> bool {
    match kind {
        FailureKind::Connect | FailureKind::Closed => on.error,
        FailureKind::ConnectTimeout | FailureKind::Timeout => on.timeout,
        FailureKind::Invalid => on.invalid_header,
    }
}

fn trip_of(cause: Cause) -> Option<TripCause> {
    match cause {
        Cause::Consecutive { .. } => Some(TripCause::Failures),
        Cause::FailureRate { .. } => Some(TripCause::FailureRate),
        Cause::SlowRate { .. } => Some(TripCause::SlowRate),
        Cause::ProbeFailed | Cause::ProbeSlow => Some(TripCause::Probe),
        Cause::ProbesPassed { .. } | Cause::TimeOver | Cause::Forced | Cause::Released => None,
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
