//! One endpoint's state and counters.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::change::{Cause, Ejection, FailureKind, State};
use super::params::{ActiveParams, HealthParams};

/// A move that an event calls for.
pub(super) type Move = (State, Cause);

/// Longer ejections end this late. It keeps sums of times within what the clock can hold.
const EJECTION_LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What is known of an endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) state: State,
    /// Takes no new requests by the operator's wish, so it counts neither as available nor as ejected.
    pub(super) aside: bool,
    /// The rule of the last ejection; in `Probing`, the one that it is out by.
    ejection: Ejection,
    /// Checks in a row that spoke against the state: failures, or when unhealthy successes.
    checks: u32,
    /// Times of failures within `fail_timeout`; at most `max_fails`.
    fails: VecDeque<Instant>,
    /// Failures in a row.
    consecutive: u32,
    /// Ejections after Envoy's rules, less those forgiven.
    ejections: u32,
    healthy_since: Instant,
}

impl Endpoint {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Healthy,
            aside: false,
            ejection: Ejection::MaxFails,
            checks: 0,
            fails: VecDeque::new(),
            consecutive: 0,
            ejections: 0,
            healthy_since: now,
        }
    }

    /// The rule that it is out by, if it is out after failures of requests.
    pub(super) fn out_by(&self) -> Option<Ejection> {
        matches!(self.state, State::Ejected { .. } | State::Probing).then_some(self.ejection)
    }

    /// Whether a success would tell something new. `last_resort` when ejected endpoints get requests as well.
    pub(super) fn wants_success(&self, last_resort: bool) -> bool {
        match self.state {
            State::Healthy => self.consecutive > 0,
            State::Ejected { .. } => last_resort,
            State::Probing => true,
            State::Unhealthy => false,
        }
    }

    pub(super) fn on_check(&mut self, params: ActiveParams, result: Result<(), String>) -> Option<Move> {
        match (self.state, result) {
            (State::Unhealthy, Ok(())) => {
                self.checks = self.checks.saturating_add(1);
                let successes = self.checks;
                (successes >= params.rise.max(1)).then_some((State::Healthy, Cause::ChecksPassed { successes }))
            }
            (State::Unhealthy, Err(_)) => {
                self.checks = 0;
                None
            }
            (_, Ok(())) => {
                self.checks = 0;
                self.out_by().map(|_| (State::Healthy, Cause::CheckPassed))
            }
            (_, Err(reason)) => {
                self.checks = self.checks.saturating_add(1);
                let failures = self.checks;
                (failures >= params.fall.max(1)).then_some((State::Unhealthy, Cause::ChecksFailed { failures, reason }))
            }
        }
    }

    pub(super) fn on_success(&mut self, last_resort: bool) -> Option<Move> {
        match self.state {
            State::Healthy => {
                self.consecutive = 0;
                None
            }
            State::Probing => Some((State::Healthy, Cause::ProbePassed)),
            State::Ejected { .. } if last_resort => Some((State::Healthy, Cause::RequestPassed)),
            // A request that was under way when it was ejected says nothing about now; and active checks alone bring
            // back what they took out.
            State::Ejected { .. } | State::Unhealthy => None,
        }
    }

    /// `by_max_fails` and `by_consecutive` say whether each rule may take one more endpoint out.
    pub(super) fn on_failure(
        &mut self,
        now: Instant,
        params: &HealthParams,
        last: FailureKind,
        by_max_fails: bool,
        by_consecutive: bool,
    ) -> Option<Move> {
        match self.state {
            State::Healthy => {}
            State::Probing => return Some((self.eject(now, params, self.ejection), Cause::ProbeFailed { last })),
            State::Ejected { .. } | State::Unhealthy => return None,
        }
        let mut failed = None;
        if let Some(passive) = params.passive.filter(|passive| passive.max_fails > 0) {
            self.fails.push_back(now);
            while self.fails.front().is_some_and(|&at| now.saturating_duration_since(at) >= passive.fail_timeout) {
                self.fails.pop_front();
            }
            // A zero window holds nothing, not even the failure that has just happened.
            let failures = self.fails.len().max(1) as u32;
            if failures >= passive.max_fails {
                self.fails.pop_front();
                failed = by_max_fails.then_some((Ejection::MaxFails, Cause::MaxFails { failures, last }));
            }
        }
        if let Some(outlier) = params.outlier.filter(|outlier| outlier.consecutive > 0) {
            self.consecutive = self.consecutive.saturating_add(1);
            let failures = self.consecutive;
            if failed.is_none() && failures >= outlier.consecutive && by_consecutive {
                failed = Some((Ejection::Consecutive, Cause::ConsecutiveFailures { failures, last }));
            }
        }
        failed.map(|(ejection, cause)| (self.eject(now, params, ejection), cause))
    }

    /// Whether its requests of an interval that ends now may be compared with those of others: none of them is from the
    /// time before it was well, and an operator has not set it aside.
    pub(super) fn is_comparable(&self, now: Instant, interval: Duration) -> bool {
        !self.aside && self.state == State::Healthy && now.saturating_duration_since(self.healthy_since) >= interval
    }

    /// `last_resort` when no endpoint is healthy: then nobody comes back untried to bear all the traffic alone.
    pub(super) fn on_time(&self, now: Instant, last_resort: bool) -> Option<Move> {
        match self.state {
            State::Ejected { until, cause } if until <= now => match cause {
                Ejection::Consecutive | Ejection::SuccessRate if !last_resort => {
                    Some((State::Healthy, Cause::TimeOver))
                }
                _ => Some((State::Probing, Cause::TimeOver)),
            },
            _ => None,
        }
    }

    /// Goes over to a state, and forgets what was counted towards it.
    pub(super) fn enter(&mut self, now: Instant, state: State) {
        if (self.state == State::Unhealthy) != (state == State::Unhealthy) {
            self.checks = 0;
        }
        self.fails.clear();
        self.consecutive = 0;
        match state {
            State::Healthy => self.healthy_since = now,
            State::Ejected { cause, .. } => self.ejection = cause,
            State::Probing | State::Unhealthy => {}
        }
        self.state = state;
    }

    pub(super) fn eject(&mut self, now: Instant, params: &HealthParams, cause: Ejection) -> State {
        let time = match cause {
            Ejection::MaxFails => params.passive.unwrap_or_default().fail_timeout,
            Ejection::Consecutive => {
                let outlier = params.outlier.unwrap_or_default();
                self.next_ejection(now, outlier.base_ejection, outlier.ejection_max)
            }
            Ejection::SuccessRate => {
                let success_rate = params.success_rate.unwrap_or_default();
                self.next_ejection(now, success_rate.base_ejection, success_rate.ejection_max)
            }
        };
        State::Ejected { until: now + time.min(EJECTION_LONGEST), cause }
    }

    /// Counts an ejection and gives its time: `base` for the first. One earlier ejection is forgiven for each `base` of
    /// health.
    fn next_ejection(&mut self, now: Instant, base: Duration, longest: Duration) -> Duration {
        let base_nanos = base.as_nanos().max(1);
        if self.state == State::Healthy {
            let forgiven = now.saturating_duration_since(self.healthy_since).as_nanos() / base_nanos;
            self.ejections = self.ejections.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        }
        // Ejections beyond the longest are not counted, so that health is rewarded from the first moment.
        let most = u32::try_from(longest.as_nanos().div_ceil(base_nanos)).unwrap_or(u32::MAX);
        self.ejections = self.ejections.saturating_add(1).min(most.max(1));
        base.saturating_mul(self.ejections).min(longest)
    }
}
