//! The machine under any sequence of events, against what must always hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use balance::Availability;
use balance::health::{
    ActiveParams, Change, Ejection, HealthParams, Outcome, OutlierParams, Panic, PassiveParams, Sample, ServiceHealth,
    State, SuccessRateParams,
};
use proptest::prelude::*;

use crate::health::FAILED;

#[derive(Clone, Copy, Debug)]
enum Event {
    Check {
        id: u64,
        passed: bool,
    },
    Request {
        id: u64,
        passed: bool,
    },
    /// Waits so many milliseconds; deadlines on the way are kept if `punctual`, or all at once at the end.
    Wait {
        millis: u64,
        punctual: bool,
    },
    /// Endpoints 1 to this become the service's.
    Sync {
        endpoints: u64,
    },
    SetAside {
        id: u64,
    },
    /// An interval in which these endpoints failed all of their requests, and the others none.
    Interval {
        bad: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let id = || 1..=12_u64;
    prop_oneof![
        4 => (id(), any::<bool>()).prop_map(|(id, passed)| Event::Check { id, passed }),
        12 => (id(), prop::bool::weighted(0.3)).prop_map(|(id, passed)| Event::Request { id, passed }),
        4 => (0..20_000_u64, any::<bool>()).prop_map(|(millis, punctual)| Event::Wait { millis, punctual }),
        1 => id().prop_map(|endpoints| Event::Sync { endpoints }),
        1 => id().prop_map(|id| Event::SetAside { id }),
        2 => (0..1_u64 << 12).prop_map(|bad| Event::Interval { bad }),
    ]
}

fn params() -> impl Strategy<Value = HealthParams> {
    let active = prop::option::of((1..4_u32, 1..4_u32).prop_map(|(rise, fall)| ActiveParams { rise, fall }));
    let passive = prop::option::of(
        (1..4_u32, 1..30_u64)
            .prop_map(|(max_fails, secs)| PassiveParams { max_fails, fail_timeout: Duration::from_secs(secs) }),
    );
    let outlier = prop::option::of((1..5_u32, 1..40_u64, 1..100_u64, 0.0..=1.0_f64).prop_map(
        |(consecutive, base, max, ejected_share_max)| OutlierParams {
            consecutive,
            base_ejection: Duration::from_secs(base),
            ejection_max: Duration::from_secs(max),
            ejected_share_max,
        },
    ));
    let success_rate = prop::option::of((1..20_u64, 1..40_u64, 0.0..=1.0_f64, 0.0..2.0_f64).prop_map(
        |(interval, base, ejected_share_max, deviations)| SuccessRateParams {
            interval: Duration::from_secs(interval),
            hosts_min: 2,
            deviations,
            base_ejection: Duration::from_secs(base),
            ejected_share_max,
            ..SuccessRateParams::default()
        },
    ));
    (active, passive, outlier, success_rate, prop_oneof![3 => Just(0.0), 1 => 0.0..=1.0_f64]).prop_map(
        |(active, passive, outlier, success_rate, panic_threshold)| HealthParams {
            active,
            passive,
            outlier,
            success_rate,
            panic_threshold,
        },
    )
}

/// The machine, and what a bystander learns from the moves that it tells.
struct Bystander {
    params: HealthParams,
    health: ServiceHealth,
    now: Instant,
    known: BTreeMap<u64, State>,
    aside: Vec<u64>,
    /// Endpoints that are out by the rules that have a share, with the rule.
    by_share: Vec<(u64, Ejection)>,
    checks: BTreeMap<(u64, bool), u32>,
    /// By endpoint and whether it went out.
    moves_by_checks: BTreeMap<(u64, bool), u32>,
}

impl Bystander {
    fn new(params: HealthParams) -> Self {
        let (health, now) = (ServiceHealth::new(params.clone()), Instant::now());
        let (known, checks, moves_by_checks) = Default::default();
        Self { params, health, now, known, aside: vec![], by_share: vec![], checks, moves_by_checks }
    }

    fn play(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Check { id, passed } => {
                *self.checks.entry((id, passed)).or_default() += 1;
                let changes = self.health.on_active(id, self.now, if passed { Ok(()) } else { Err(String::new()) });
                self.see(changes)?;
            }
            Event::Request { id, passed } => {
                let outcome = if passed { Outcome::Success } else { FAILED };
                let changes = self.health.on_passive(id, self.now, outcome);
                self.see(changes)?;
            }
            Event::Wait { millis, punctual } => {
                let end = self.now + Duration::from_millis(millis);
                while let Some(deadline) = self.health.next_deadline().filter(|&next| punctual && next <= end) {
                    self.now = deadline;
                    let changes = self.health.on_deadline(self.now);
                    prop_assert!(!changes.is_empty(), "a deadline without a move");
                    self.see(changes)?;
                }
                self.now = end;
                let changes = self.health.on_deadline(self.now);
                self.see(changes)?;
                prop_assert!(self.health.next_deadline().is_none_or(|deadline| deadline > self.now));
            }
            Event::Sync { endpoints } => {
                let ids: Vec<u64> = (1..=endpoints).collect();
                self.known.retain(|id, _| ids.contains(id));
                self.by_share.retain(|(id, _)| ids.contains(id));
                self.aside.retain(|id| ids.contains(id));
                for &id in &ids {
                    self.known.entry(id).or_insert(State::Healthy);
                }
                let changes = self.health.sync(&ids, self.now);
                self.see(changes)?;
            }
            Event::SetAside { id } => {
                self.aside = self.known.keys().copied().filter(|&known| known == id).collect();
                let changes = self.health.set_aside(&self.aside, self.now);
                self.see(changes)?;
            }
            Event::Interval { bad } => {
                let failures = |id: u64| if bad >> (id - 1) & 1 == 1 { 100 } else { 0 };
                let sample = |id| Sample { id, requests: 100, failures: failures(id) };
                let samples: Vec<Sample> = (1..=12).map(sample).collect();
                let changes = self.health.on_interval(self.now, &samples);
                for change in &changes {
                    let well = change.from == State::Healthy && failures(change.id) > 0;
                    prop_assert!(well && !self.aside.contains(&change.id), "{:?}", change);
                }
                self.see(changes)?;
            }
        }
        self.check()
    }

    fn see(&mut self, changes: Vec<Change>) -> Result<(), TestCaseError> {
        for Change { id, from, to, cause } in changes {
            prop_assert_eq!(self.known.insert(id, to), Some(from), "a move from where it was not: {}", cause);
            prop_assert!(from != to);
            match to {
                State::Ejected { until, cause } => {
                    prop_assert!(until > self.now);
                    self.by_share.retain(|&(out, _)| out != id);
                    if cause != Ejection::MaxFails {
                        self.by_share.push((id, cause));
                    }
                }
                State::Probing => {}
                State::Healthy | State::Unhealthy => self.by_share.retain(|&(out, _)| out != id),
            }
            if to == State::Unhealthy || from == State::Unhealthy {
                *self.moves_by_checks.entry((id, to == State::Unhealthy)).or_default() += 1;
            }
        }
        Ok(())
    }

    /// What must hold at any time.
    fn check(&self) -> Result<(), TestCaseError> {
        let counted: Vec<State> =
            self.known.iter().filter(|(id, _)| !self.aside.contains(id)).map(|(_, &state)| state).collect();
        prop_assert_eq!(self.health.states().collect::<BTreeMap<_, _>>(), self.known.clone());
        // The shares, of each rule and of both together.
        let out_by = |rule: &[Ejection]| {
            self.by_share.iter().filter(|(id, by)| !self.aside.contains(id) && rule.contains(by)).count()
        };
        let most = |share: Option<f64>| {
            let most = (counted.len() as f64 * share.unwrap_or(0.0) + 1e-9) as usize;
            if counted.len() < 2 { 0 } else { most.max(1) }
        };
        let consecutive = most(self.params.outlier.map(|outlier| outlier.ejected_share_max));
        let success_rate = most(self.params.success_rate.map(|success_rate| success_rate.ejected_share_max));
        let both = [Ejection::Consecutive, Ejection::SuccessRate];
        for (rules, most) in
            [(&both[..1], consecutive), (&both[1..], success_rate), (&both[..], consecutive.max(success_rate))]
        {
            prop_assert!(out_by(rules) <= most, "{:?} of {} are out, {} may be", self.by_share, counted.len(), most);
        }
        // The deadline is that of the earliest ejection.
        let ends = self.known.values().filter_map(|state| match state {
            State::Ejected { until, .. } => Some(*until),
            _ => None,
        });
        prop_assert_eq!(self.health.next_deadline(), ends.min());
        // Panic and availability follow from the states.
        let healthy = counted.iter().filter(|&&state| state == State::Healthy).count();
        let passively = counted.iter().any(|state| matches!(state, State::Ejected { .. } | State::Probing));
        let panic = if (healthy as f64 + 1e-9) < self.params.panic_threshold * counted.len() as f64 {
            Panic::All
        } else if healthy == 0 && passively {
            Panic::LastResort
        } else {
            Panic::Off
        };
        prop_assert_eq!(self.health.panic(), panic);
        for (&id, &state) in &self.known {
            let expected = match panic {
                Panic::Off => state == State::Healthy,
                Panic::LastResort => state != State::Unhealthy,
                Panic::All => true,
            };
            let availability = self.health.availability(id);
            prop_assert_eq!(availability != Availability::Unavailable, expected);
            let is_suspect = panic == Panic::All && state != State::Healthy;
            prop_assert_eq!(availability == Availability::Suspect, is_suspect);
        }
        // Only checks may leave a service with nobody.
        if !counted.is_empty() && counted.iter().any(|&state| state != State::Unhealthy) {
            let available = self
                .known
                .keys()
                .any(|&id| !self.aside.contains(&id) && self.health.availability(id) != Availability::Unavailable);
            prop_assert!(available, "nobody is available: {:?}", self.known);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn invariants_hold(params in params(), events in prop::collection::vec(event(), 1..150)) {
        let mut bystander = Bystander::new(params.clone());
        bystander.play(Event::Sync { endpoints: 6 })?;
        let mut synced = false;
        for event in events {
            synced |= matches!(event, Event::Sync { .. });
            bystander.play(event)?;
        }
        // Flapping is bounded: each way takes as many results in a row as its threshold says.
        if let (Some(active), false) = (params.active, synced) {
            for (&(id, out), &moves) in &bystander.moves_by_checks {
                let threshold = if out { active.fall } else { active.rise };
                let results = bystander.checks.get(&(id, !out)).copied().unwrap_or(0);
                prop_assert!(moves * threshold <= results, "{} moves after {} results", moves, results);
            }
        }
        // Enough time and success bring everyone back.
        bystander.play(Event::Wait { millis: 200_000, punctual: true })?;
        let ids: Vec<u64> = bystander.known.keys().copied().collect();
        for _ in 0..4 {
            for &id in &ids {
                bystander.play(Event::Check { id, passed: true })?;
                bystander.play(Event::Request { id, passed: true })?;
            }
        }
        prop_assert!(bystander.known.values().all(|&state| state == State::Healthy), "{:?}", bystander.known);
        prop_assert_eq!(bystander.health.next_deadline(), None);
        prop_assert!(ids.iter().all(|&id| !bystander.health.wants_success(id)));
    }
}
