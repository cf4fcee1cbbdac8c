//! A service over hours, in simulated time that jumps from event to event: endpoints fail and recover, health is
//! judged, plans are rebuilt, requests are picked and retried.

use std::time::{Duration, Instant};

use balance::health::{ActiveParams, HealthParams, Outcome, OutlierParams, PassiveParams, ServiceHealth, State};
use balance::{Algorithm, Candidate, Picker, Plan, Request};

use crate::health::FAILED;
use crate::scene::{Counters, candidates};

const ENDPOINTS: usize = 8;
const HOURS: u64 = 2;
const REQUEST_INTERVAL: Duration = Duration::from_millis(50);
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// What a run comes to.
#[derive(Debug, Default)]
struct Totals {
    requests: u64,
    /// Tries at endpoints that were down.
    wasted: u64,
    /// Requests whose second try failed as well.
    failed: u64,
    /// Requests while no endpoint was up.
    hopeless: u64,
    /// Down times of endpoints.
    outages: u64,
    moves: u64,
}

struct Simulation {
    random: fastrand::Rng,
    now: Instant,
    health: ServiceHealth,
    candidates: Vec<Candidate>,
    plan: Plan,
    picker: Picker,
    loads: Counters,
    /// Whether each endpoint is up, and when that changes.
    up: Vec<(bool, Instant)>,
    totals: Totals,
}

impl Simulation {
    fn new(params: HealthParams, seed: u64) -> Self {
        println!("seed {seed}");
        let now = Instant::now();
        let candidates = candidates(&[1; ENDPOINTS]);
        let ids: Vec<u64> = candidates.iter().map(|candidate| candidate.id).collect();
        let mut health = ServiceHealth::new(params);
        health.sync(&ids, now);
        let mut random = fastrand::Rng::with_seed(seed);
        let plan = Plan::new(Algorithm::RoundRobin, candidates.clone()).unwrap();
        let up = (0..ENDPOINTS).map(|_| (true, now + Duration::from_secs(random.u64(0..600)))).collect();
        let (picker, loads, totals) = (Picker::new(seed), Counters::idle(ENDPOINTS), Totals::default());
        Self { random, now, health, candidates, plan, picker, loads, up, totals }
    }

    /// Runs for some hours, then lets everything recover.
    fn run(mut self, with_checks: bool) -> Totals {
        let end = self.now + Duration::from_secs(HOURS * 3_600);
        let (mut next_request, mut next_check) = (self.now, self.now);
        loop {
            let next_switch = self.up.iter().map(|endpoint| endpoint.1).min().unwrap();
            let deadline = self.health.next_deadline();
            let next_check_due = with_checks.then_some(next_check);
            let next = [Some(next_request), Some(next_switch), next_check_due, deadline].into_iter().flatten().min();
            self.now = next.unwrap();
            if self.now >= end {
                break;
            }
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                let changes = self.health.on_deadline(self.now);
                assert!(!changes.is_empty() && self.health.next_deadline().is_none_or(|next| next > self.now));
                self.publish(changes.len());
            } else if next_switch <= self.now {
                self.switch();
            } else if with_checks && next_check <= self.now {
                next_check += CHECK_INTERVAL;
                for index in 0..ENDPOINTS {
                    let result = if self.up[index].0 { Ok(()) } else { Err("refused".to_owned()) };
                    let changes = self.health.on_active(self.candidates[index].id, self.now, result);
                    self.publish(changes.len());
                }
            } else {
                next_request += REQUEST_INTERVAL;
                self.request();
            }
        }
        self.recover(with_checks);
        self.totals
    }

    fn switch(&mut self) {
        for endpoint in self.up.iter_mut().filter(|endpoint| endpoint.1 <= self.now) {
            endpoint.0 = !endpoint.0;
            self.totals.outages += u64::from(!endpoint.0);
            // Up for ten minutes on average, down for one.
            let most_secs = if endpoint.0 { 1_200 } else { 120 };
            endpoint.1 = self.now + Duration::from_secs(self.random.u64(1..most_secs));
        }
    }

    fn publish(&mut self, moves: usize) {
        if moves > 0 {
            self.totals.moves += moves as u64;
            for candidate in &mut self.candidates {
                candidate.availability = self.health.availability(candidate.id);
            }
            self.plan = Plan::new(Algorithm::RoundRobin, self.candidates.clone()).unwrap();
        }
    }

    /// A request with at most one retry. An endpoint that waits for its probe gets it first.
    fn request(&mut self) {
        self.totals.requests += 1;
        self.totals.hopeless += u64::from(self.up.iter().all(|endpoint| !endpoint.0));
        let probing = self.health.states().find(|(_, state)| *state == State::Probing);
        let probe = probing.and_then(|(id, _)| self.plan.position(id));
        let first = probe.or_else(|| self.picker.pick(&self.plan, Request { key: 0, tried: &[] }, &self.loads));
        let Some(first) = first else {
            self.totals.failed += 1;
            return;
        };
        if !self.attempt(first) {
            let retry = self.picker.pick(&self.plan, Request { key: 0, tried: &[first] }, &self.loads);
            if !retry.is_some_and(|retry| self.attempt(retry)) {
                self.totals.failed += 1;
            }
        }
    }

    fn attempt(&mut self, position: u16) -> bool {
        let up = self.up[usize::from(position)].0;
        let id = self.candidates[usize::from(position)].id;
        self.totals.wasted += u64::from(!up);
        // As the data path does: successes only where they are wanted.
        if !up || self.health.wants_success(id) {
            let changes = self.health.on_passive(id, self.now, if up { Outcome::Success } else { FAILED });
            self.publish(changes.len());
        }
        up
    }

    /// With everyone up, all are healthy after the longest ejection and some requests and checks.
    fn recover(&mut self, with_checks: bool) {
        self.up.iter_mut().for_each(|endpoint| endpoint.0 = true);
        for _ in 0..4_000 {
            self.now += Duration::from_millis(100);
            let changes = self.health.on_deadline(self.now);
            self.publish(changes.len());
            self.request();
            if with_checks {
                let ids: Vec<u64> = self.health.states().map(|(id, _)| id).collect();
                for id in ids {
                    let changes = self.health.on_active(id, self.now, Ok(()));
                    self.publish(changes.len());
                }
            }
        }
        let states: Vec<_> = self.health.states().collect();
        assert!(states.iter().all(|(_, state)| *state == State::Healthy), "{states:?}");
    }
}

/// Several runs in the mean, each with bounds on what an outage may cost.
fn check(params: &HealthParams, wasted_per_outage_max: f64, moves_per_outage_max: f64, failed_share_max: f64) {
    for seed in 1..=3 {
        let totals = Simulation::new(params.clone(), seed).run(params.active.is_some());
        println!("{totals:?}");
        assert!(totals.outages > 40, "{totals:?}");
        let outages = totals.outages as f64;
        assert!(totals.wasted as f64 <= wasted_per_outage_max * outages + 20.0 * totals.hopeless as f64, "{totals:?}");
        assert!(totals.moves as f64 <= moves_per_outage_max * outages, "{totals:?}");
        let avoidable = totals.failed.saturating_sub(totals.hopeless) as f64;
        assert!(avoidable <= failed_share_max * totals.requests as f64, "{totals:?}");
    }
}

#[test]
fn passive_health_after_nginx() {
    let passive = Some(PassiveParams { max_fails: 1, fail_timeout: Duration::from_secs(10) });
    let params = HealthParams { active: None, passive, outlier: None, success_rate: None, panic_threshold: 0.0 };
    // A minute down: one failure, and a failed probe every ten seconds. Without ejection it were 150 tries.
    check(&params, 8.0, 16.0, 0.001);
}

#[test]
fn consecutive_failures_after_envoy() {
    let outlier = Some(OutlierParams { ejected_share_max: 0.5, ..OutlierParams::default() });
    let params = HealthParams { active: None, passive: None, outlier, success_rate: None, panic_threshold: 0.0 };
    // Five failures, and five more at each return; retries hide nearly all.
    check(&params, 20.0, 8.0, 0.01);
}

#[test]
fn active_checks() {
    let active = Some(ActiveParams { rise: 2, fall: 3 });
    let params = HealthParams { active, passive: None, outlier: None, success_rate: None, panic_threshold: 0.0 };
    // Three checks at 2 s: up to 6 s of an eighth of 20 requests a second. One move out, one back.
    check(&params, 20.0, 2.0, 0.01);
}

#[test]
fn active_and_passive_together() {
    let params = HealthParams {
        active: Some(ActiveParams { rise: 2, fall: 3 }),
        passive: Some(PassiveParams::default()),
        outlier: None,
        success_rate: None,
        panic_threshold: 0.0,
    };
    // Out by the first failure, then by checks: nobody probes.
    check(&params, 2.0, 4.0, 0.001);
}
