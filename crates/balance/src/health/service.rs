//! The endpoints of one service, judged together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::change::{Cause, Change, Ejection, Outcome, State};
use super::endpoint::{Endpoint, Move};
use super::params::HealthParams;
use super::success_rate::{self, Sample};
use crate::candidate::Availability;

/// The health of one service's endpoints, by candidate id. It lives in one place, and what it decides is published.
///
/// Every event returns the moves that it caused. After any move, [`availability`](Self::availability) and
/// [`wants_success`](Self::wants_success) of any endpoint may have changed, so a new plan is due, and
/// [`next_deadline`](Self::next_deadline) as well. Events of unknown ids are of endpoints that have gone; they are
/// ignored.
///
/// | from | event | to |
/// |---|---|---|
/// | any but unhealthy | `fall` failed checks in a row | unhealthy |
/// | unhealthy | `rise` passed checks in a row | healthy |
/// | ejected, probing | a passed check | healthy |
/// | healthy | `max_fails` failures within `fail_timeout` | ejected for `fail_timeout` |
/// | healthy | `consecutive` failures in a row | ejected, each time for longer |
/// | healthy | a success rate far below that of the others | ejected, each time for longer |
/// | ejected by `max_fails` | time over | probing |
/// | ejected by `consecutive` or success rate | time over | healthy; probing if nobody is healthy |
/// | probing | success | healthy |
/// | probing | failure | ejected again |
/// | ejected | success, while it gets requests in a panic | healthy |
/// | ejected | another becomes healthy by a success while nobody was | probing |
///
/// # Who may not be ejected
///
/// The only endpoint of a service is never ejected after failures of requests, as in nginx: there is nobody else to
/// ask. By consecutive failures and success rates at most `ejected_share_max` of the endpoints are out at once, but at
/// least one may be: each of the two rules ejects only while fewer than its own share are out by both. When endpoints go,
/// those that are then too many come back.
///
/// # When nobody is left
///
/// When failures of requests have taken out everyone that checks have not, health from requests is ignored and all
/// ejected endpoints get requests ([`Panic::LastResort`]): a request that may succeed is better than a certain 503.
/// What only active checks took out stays out, since these would see it come back. The first success makes its endpoint
/// healthy and lets all other ejected ones probe, so that one endpoint bears the traffic of all for a moment only.
#[derive(Debug)]
pub struct ServiceHealth {
    params: HealthParams,
    endpoints: BTreeMap<u64, Endpoint>,
    tally: Tally,
}

/// Whether health is being ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panic {
    /// It is not.
    #[default]
    Off,
    /// Nobody is healthy, and those that were ejected after failures of requests get requests again.
    LastResort,
    /// The share of healthy endpoints is below the threshold: all get requests.
    All,
}

/// What a product of a share may be off by: 29 % of 100 endpoints are 29, not 28.999999999999996.
const ROUNDING: f64 = 1e-9;

/// Sums over the endpoints that are not set aside.
#[derive(Debug, Default)]
struct Tally {
    endpoints: usize,
    healthy: usize,
    /// Ejected or probing by the rule of consecutive failures.
    by_consecutive: usize,
    /// Ejected or probing by the rule of success rates.
    by_success_rate: usize,
    /// Earliest end of an ejection, of all endpoints.
    deadline: Option<Instant>,
    panic: Panic,
}

impl ServiceHealth {
    /// A service without endpoints.
    pub fn new(params: HealthParams) -> Self {
        Self { params, endpoints: BTreeMap::new(), tally: Tally::default() }
    }

    /// Judges by other parameters from now on. Endpoints that are out by a rule that is no longer there come back;
    /// ejections under way keep their time.
    pub fn set_params(&mut self, params: HealthParams, now: Instant) -> Vec<Change> {
        let by_max_fails = params.passive.is_some_and(|passive| passive.max_fails > 0);
        let by_consecutive = params.outlier.is_some_and(|outlier| outlier.consecutive > 0);
        let by_success_rate = params.success_rate.is_some();
        let checked = params.active.is_some();
        self.params = params;
        let mut changes = self.move_all(now, |endpoint| {
            let kept = match endpoint.out_by() {
                Some(Ejection::MaxFails) => by_max_fails,
                Some(Ejection::Consecutive) => by_consecutive,
                Some(Ejection::SuccessRate) => by_success_rate,
                None => checked || endpoint.state != State::Unhealthy,
            };
            (!kept).then_some((State::Healthy, Cause::RuleRemoved))
        });
        self.bring_back_surplus(now, &mut changes);
        changes
    }

    /// Makes these ids the service's endpoints. New ones start healthy, those that have gone are forgotten, and all
    /// others keep their state.
    pub fn sync(&mut self, ids: &[u64], now: Instant) -> Vec<Change> {
        let ids: BTreeSet<u64> = ids.iter().copied().collect();
        self.endpoints.retain(|id, _| ids.contains(id));
        for id in ids {
            self.endpoints.entry(id).or_insert_with(|| Endpoint::new(now));
        }
        self.count();
        let mut changes = Vec::new();
        self.bring_back_surplus(now, &mut changes);
        changes
    }

    /// Sets these endpoints aside, and no others: they take no new requests by the operator's wish (`drain`, or weight
    /// 0). They are judged like all others, but nobody counts on them: they do not keep a service from its last resort,
    /// and make no share of it larger or smaller.
    pub fn set_aside(&mut self, ids: &[u64], now: Instant) -> Vec<Change> {
        for (id, endpoint) in &mut self.endpoints {
            endpoint.aside = ids.contains(id);
        }
        self.count();
        let mut changes = Vec::new();
        self.bring_back_surplus(now, &mut changes);
        changes
    }

    /// An active check has ended; `Err` says what was wrong. Without active checks in the parameters, nothing happens.
    pub fn on_active(&mut self, id: u64, now: Instant, result: Result<(), String>) -> Vec<Change> {
        let Some(params) = self.params.active else { return Vec::new() };
        let called_for = self.endpoints.get_mut(&id).and_then(|endpoint| endpoint.on_check(params, result));
        self.move_one(id, now, called_for)
    }

    /// A real request has ended. Failures are always reported; successes need to be only of endpoints that
    /// [want them](Self::wants_success), and reporting more does no harm.
    pub fn on_passive(&mut self, id: u64, now: Instant, outcome: Outcome) -> Vec<Change> {
        let last_resort = self.tally.panic != Panic::Off;
        let has_room = self.out_by_share() < self.ejections_max(Ejection::Consecutive);
        let Some(endpoint) = self.endpoints.get_mut(&id) else { return Vec::new() };
        let called_for = match outcome {
            Outcome::Success => endpoint.on_success(last_resort),
            Outcome::Failure(kind) => {
                // An endpoint that is set aside may go as long as there is anyone, and is in nobody's share.
                let by_max_fails = self.tally.endpoints > usize::from(!endpoint.aside);
                let by_consecutive = by_max_fails && (endpoint.aside || has_room);
                endpoint.on_failure(now, &self.params, kind, by_max_fails, by_consecutive)
            }
        };
        self.move_one(id, now, called_for)
    }

    /// An interval of the rule of success rates has ended, in which endpoints did what the samples say. Those that were
    /// not healthy for the whole of it are left out. Without the rule in the parameters, nothing happens.
    pub fn on_interval(&mut self, now: Instant, samples: &[Sample]) -> Vec<Change> {
        let Some(params) = self.params.success_rate else { return Vec::new() };
        let comparable = |sample: &&Sample| {
            self.endpoints.get(&sample.id).is_some_and(|endpoint| endpoint.is_comparable(now, params.interval))
        };
        let samples: Vec<Sample> = samples.iter().filter(comparable).copied().collect();
        let mut changes = Vec::new();
        for (id, cause) in success_rate::outliers(&params, &samples) {
            if self.out_by_share() >= self.ejections_max(Ejection::SuccessRate) {
                break;
            }
            let Some(endpoint) = self.endpoints.get_mut(&id) else { continue };
            let state = endpoint.eject(now, &self.params, Ejection::SuccessRate);
            changes.extend(self.move_one(id, now, Some((state, cause))));
        }
        changes
    }

    /// When [`on_deadline`](Self::on_deadline) is due; `None` while nobody is ejected.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.tally.deadline
    }

    /// Ends all ejections whose time is over.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Change> {
        if self.tally.deadline.is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let last_resort = self.tally.healthy == 0;
        self.move_all(now, |endpoint| endpoint.on_time(now, last_resort))
    }

    /// Where an endpoint stands; `None` for an unknown id.
    pub fn state(&self, id: u64) -> Option<State> {
        self.endpoints.get(&id).map(|endpoint| endpoint.state)
    }

    /// All endpoints and where they stand, by id.
    pub fn states(&self) -> impl Iterator<Item = (u64, State)> {
        self.endpoints.iter().map(|(&id, endpoint)| (id, endpoint.state))
    }

    /// Whether requests may go to an endpoint, a panic taken into account. An unknown one has not been judged, so they
    /// may. A probing endpoint is unavailable but for its one permit. Where health is ignored, whoever is not healthy is a
    /// suspect: priorities may make it needless.
    pub fn availability(&self, id: u64) -> Availability {
        let Some(endpoint) = self.endpoints.get(&id) else { return Availability::Available };
        match (self.tally.panic, endpoint.state) {
            (_, State::Healthy) => Availability::Available,
            (Panic::All, _) => Availability::Suspect,
            (Panic::LastResort, State::Ejected { .. } | State::Probing) => Availability::Available,
            _ => Availability::Unavailable,
        }
    }

    /// Whether successes of this endpoint are worth reporting: it has failed lately, or is to prove itself.
    pub fn wants_success(&self, id: u64) -> bool {
        let last_resort = self.tally.panic != Panic::Off;
        self.endpoints.get(&id).is_some_and(|endpoint| endpoint.wants_success(last_resort))
    }

    /// Whether health is being ignored at the moment.
    pub fn panic(&self) -> Panic {
        self.tally.panic
    }

    /// Endpoints that are out by the rules that bound their share.
    fn out_by_share(&self) -> usize {
        self.tally.by_consecutive + self.tally.by_success_rate
    }

    /// Most endpoints that a rule may have out at once.
    fn ejections_max(&self, rule: Ejection) -> usize {
        let share = match rule {
            Ejection::MaxFails => Some(1.0),
            Ejection::Consecutive => self.params.outlier.map(|outlier| outlier.ejected_share_max),
            Ejection::SuccessRate => self.params.success_rate.map(|success_rate| success_rate.ejected_share_max),
        };
        let share = share.unwrap_or(0.0);
        match self.tally.endpoints {
            0 | 1 => 0,
            endpoints => ((endpoints as f64 * share + ROUNDING) as usize).clamp(1, endpoints),
        }
    }

    /// Moves an endpoint if its event called for it. Should it be the first to come back by a success, the others that
    /// were ejected may probe.
    fn move_one(&mut self, id: u64, now: Instant, called_for: Option<Move>) -> Vec<Change> {
        let Some((endpoint, called_for)) = self.endpoints.get_mut(&id).zip(called_for) else { return Vec::new() };
        let revived = called_for.0 == State::Healthy && self.tally.healthy == 0;
        let mut changes = vec![change(id, endpoint, now, called_for)];
        self.count();
        if revived {
            changes.extend(self.move_all(now, |endpoint| {
                matches!(endpoint.state, State::Ejected { .. }).then_some((State::Probing, Cause::OtherRevived))
            }));
        }
        changes
    }

    fn move_all(&mut self, now: Instant, mut called_for: impl FnMut(&Endpoint) -> Option<Move>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (&id, endpoint) in &mut self.endpoints {
            changes.extend(called_for(endpoint).map(|called_for| change(id, endpoint, now, called_for)));
        }
        self.count();
        changes
    }

    /// Brings back whoever may no longer be out now that there are fewer endpoints: those first whose time is over
    /// first.
    fn bring_back_surplus(&mut self, now: Instant, changes: &mut Vec<Change>) {
        let mut out: Vec<(Option<Instant>, u64, Ejection)> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| !endpoint.aside)
            .filter_map(|(&id, endpoint)| match (endpoint.out_by()?, endpoint.state) {
                (rule, State::Ejected { until, .. }) => Some((Some(until), id, rule)),
                (rule, _) => Some((None, id, rule)),
            })
            .collect();
        out.sort_unstable_by_key(|&(until, id, _)| (until, id));
        let most = [Ejection::Consecutive, Ejection::SuccessRate].map(|rule| self.ejections_max(rule));
        let mut left = [self.tally.by_consecutive, self.tally.by_success_rate];
        for (_, id, rule) in out {
            let is_surplus = match rule {
                Ejection::MaxFails => self.tally.endpoints == 1,
                Ejection::Consecutive | Ejection::SuccessRate => {
                    let at = usize::from(rule == Ejection::SuccessRate);
                    let too_many = left[at] > most[at] || left[0] + left[1] > most[0].max(most[1]);
                    left[at] -= usize::from(too_many);
                    too_many
                }
            };
            if let Some(endpoint) = self.endpoints.get_mut(&id).filter(|_| is_surplus) {
                changes.push(change(id, endpoint, now, (State::Healthy, Cause::FewerEndpoints)));
            }
        }
        self.count();
    }

    fn count(&mut self) {
        let mut tally = Tally::default();
        let mut passively_out = false;
        for endpoint in self.endpoints.values() {
            if let State::Ejected { until, .. } = endpoint.state {
                tally.deadline = Some(tally.deadline.map_or(until, |deadline| deadline.min(until)));
            }
            if !endpoint.aside {
                tally.endpoints += 1;
                tally.healthy += usize::from(endpoint.state == State::Healthy);
                tally.by_consecutive += usize::from(endpoint.out_by() == Some(Ejection::Consecutive));
                tally.by_success_rate += usize::from(endpoint.out_by() == Some(Ejection::SuccessRate));
                passively_out |= endpoint.out_by().is_some();
            }
        }
        tally.panic = if tally.healthy as f64 + ROUNDING < self.params.panic_threshold * tally.endpoints as f64 {
            Panic::All
        } else if tally.healthy == 0 && passively_out {
            Panic::LastResort
        } else {
            Panic::Off
        };
        self.tally = tally;
    }
}

fn change(id: u64, endpoint: &mut Endpoint, now: Instant, (to, cause): Move) -> Change {
    let from = endpoint.state;
    endpoint.enter(now, to);
    Change { id, from, to, cause }
}
