//! Whether a request is sent again.
//!
//! It is where the service wants that, where it is safe, and where the budget has room. It is safe when no endpoint can
//! have seen the request, or when its method is idempotent; and its body must still be there.
//!
//! One retry is free of all but safety: when a connection that was kept from an earlier request turns out to have been
//! closed before anything came back. That is how keep-alive ends, and says nothing about the endpoint; the retry goes
//! over a new connection.

use std::time::{Duration, Instant};

use breaker::Backoff;
use telemetry::{Limit, RetryReason};
use vocab::ErrorCode;

use super::core::Core;
use super::leave::Place;
use super::local::LocalService;
use crate::params::RetryOn;

/// A try that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the client is told if nobody tries again.
    pub(crate) code: ErrorCode,
    /// Whether the endpoint may have seen any of the request.
    pub(crate) sent: bool,
    /// Whether it was a kept connection that had been closed meanwhile.
    pub(crate) stale: bool,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it again after a pause.
    Retry(Duration),
    /// Send it again to the same endpoint, over a new connection.
    Renew,
    /// Tell the client.
    GiveUp,
}

/// The retries of one request.
pub(crate) struct Retries<'c> {
    core: &'c Core,
    service: &'c LocalService,
    idempotent: bool,
    made: u32,
    renewed: bool,
    /// A place among the service's retries, once there is one.
    place: Option<Place<'c>>,
}

impl<'c> Retries<'c> {
    /// None made yet.
    pub(crate) fn new(core: &'c Core, service: &'c LocalService, idempotent: bool) -> Self {
        Self { core, service, idempotent, made: 0, renewed: false, place: None }
    }

    /// Whether a retry could ever happen, so that a body is worth keeping.
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.service.view.params.retry.as_ref().map_or(0, |retry| retry.body_bytes_max as usize)
    }

    /// What to do after a try failed. `overall` is when the request is out of time, and `replayable` tells whether its
    /// body can be sent again.
    pub(crate) fn after_failure(&mut self, failure: &Failure, overall: Option<Instant>, replayable: bool) -> Verdict {
        if overall.is_some_and(|overall| Instant::now() >= overall) {
            return Verdict::GiveUp;
        }
        if !replayable || (failure.sent && !self.idempotent) {
            return Verdict::GiveUp;
        }
        if failure.stale && !self.renewed {
            self.renewed = true;
            return Verdict::Renew;
        }
        reason_of(failure.code).map_or(Verdict::GiveUp, |reason| self.ask(reason, |on| is_wanted(on, reason)))
    }

    /// What to do with a response of this status, of which nothing has been passed on yet.
    pub(crate) fn after_status(&mut self, status: u16, replayable: bool) -> Verdict {
        if !replayable || !self.idempotent {
            return Verdict::GiveUp;
        }
        self.ask(RetryReason::Status, |on| on.statuses.contains(&status))
    }

    fn ask(&mut self, reason: RetryReason, is_wanted: impl Fn(&RetryOn) -> bool) -> Verdict {
        let (view, core) = (&self.service.view, self.core.id);
        let Some(params) = view.params.retry.as_ref().filter(|params| is_wanted(&params.on)) else {
            return Verdict::GiveUp;
        };
        if self.made >= params.retries_max {
            return Verdict::GiveUp;
        }
        // What the client hears of this failure is better than what it would hear of a breaker.
        if view.breaker.as_ref().is_some_and(|breaker| !breaker.would_admit(Instant::now())) {
            return Verdict::GiveUp;
        }
        if self.place.is_none() {
            self.place = Place::take(&view.state.retries_open.0, view.params.limits.retries_max);
        }
        if self.place.is_none() {
            view.state.metrics.limited(core, Limit::Retries);
            return Verdict::GiveUp;
        }
        let allowed = |budget: &std::sync::Arc<breaker::RetryBudget>| {
            budget.try_withdraw(Instant::now(), view.state.requests_total())
        };
        if !view.budget.as_ref().is_none_or(allowed) {
            view.state.metrics.retry_refused(core);
            return Verdict::GiveUp;
        }
        view.state.metrics.retried(core, reason);
        self.made += 1;
        let random = self.core.random.borrow_mut().u64(..);
        Verdict::Retry(Backoff::new(params.backoff).pause(self.made, random))
    }
}

/// Under which heading a failure is retried.
fn reason_of(code: ErrorCode) -> Option<RetryReason> {
    match code {
        ErrorCode::UpstreamConnect | ErrorCode::UpstreamClosed | ErrorCode::Overloaded => Some(RetryReason::Error),
        ErrorCode::UpstreamConnectTimeout | ErrorCode::UpstreamTimeout => Some(RetryReason::Timeout),
        ErrorCode::UpstreamInvalid => Some(RetryReason::InvalidHeader),
        _ => None,
    }
}

fn is_wanted(on: &RetryOn, reason: RetryReason) -> bool {
    match reason {
        RetryReason::Error => on.error,
        RetryReason::Timeout => on.timeout,
        RetryReason::InvalidHeader => on.invalid_header,
        RetryReason::Status => false,
    }
}
