//! The breaker against a model that keeps every call and looks at all of them.

use std::time::{Duration, Instant};

use breaker::circuit::{Force, State};
use breaker::{Admission, Breaker, BreakerParams, Outcome, Permit, SlowParams};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait {
        millis: u64,
    },
    /// A call begins.
    Begin,
    /// One of those under way ends.
    End {
        which: usize,
        failed: bool,
        took_millis: u64,
    },
    /// One of those under way has no result.
    Drop {
        which: usize,
    },
    Force(Option<Force>),
}

fn step() -> impl Strategy<Value = Step> {
    let end = (0..6_usize, prop::bool::weighted(0.6), 0..200_u64);
    prop_oneof![
        4 => (0..400_u64).prop_map(|millis| Step::Wait { millis }),
        1 => (400..5_000_u64).prop_map(|millis| Step::Wait { millis }),
        20 => Just(Step::Begin),
        20 => end.prop_map(|(which, failed, took_millis)| Step::End { which, failed, took_millis }),
        2 => (0..6_usize).prop_map(|which| Step::Drop { which }),
        1 => prop_oneof![3 => Just(None), 1 => Just(Some(Force::Open)), 1 => Just(Some(Force::Closed))]
            .prop_map(Step::Force),
    ]
}

fn params() -> impl Strategy<Value = BreakerParams> {
    let rules = (
        prop::option::of(1..5_u32),
        prop::option::of(1..=10_u32),
        prop::option::of((0..150_u64, 1..=10_u32)),
        100..3_000_u64,
        1..6_u32,
    );
    let times = (1..1_000_u64, 1..3_000_u64, 0..3_000_u64, 1..4_u32, 1..4_u32);
    (rules, times).prop_map(|((failures, rate, slow, window, calls_min), (open, max, forget, probes, successes))| {
        BreakerParams {
            failures,
            failure_rate: rate.map(|tenths| f64::from(tenths) / 10.0),
            slow: slow.map(|(after, tenths)| SlowParams {
                after: Duration::from_millis(after),
                rate: f64::from(tenths) / 10.0,
            }),
            window: Duration::from_millis(window),
            calls_min,
            open_for: Duration::from_millis(open),
            open_max: Duration::from_millis(max.max(open)),
            forget_after: Duration::from_millis(forget),
            probes,
            successes,
        }
    })
}

/// What the model believes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed { since: u64 },
    Open { until: u64 },
    HalfOpen,
    Forced(Force),
}

/// A call under way, and the phase, counted from the start, that it began in.
struct Call {
    permit: Permit,
    phase: usize,
}

struct Model {
    params: BreakerParams,
    phase: Phase,
    /// Phases so far.
    phases: usize,
    /// Openings that are not forgotten.
    openings: u32,
    /// Calls that ended in the present phase: when, whether each failed, and whether it was slow.
    ended: Vec<(u64, bool, bool)>,
}

impl Model {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phases += 1;
        self.ended.clear();
    }

    fn out(&self, under_way: &[Call]) -> u32 {
        under_way.iter().filter(|call| call.phase == self.phases).count() as u32
    }

    fn admits(&self, millis: u64, under_way: &[Call]) -> bool {
        match self.phase {
            Phase::Closed { .. } | Phase::Forced(Force::Closed) => true,
            Phase::Forced(Force::Open) => false,
            Phase::Open { until } => millis >= until,
            Phase::HalfOpen => {
                let (out, passed) = (self.out(under_way), self.ended.len() as u32);
                out < self.params.probes && out + passed < self.params.probes.max(self.params.successes)
            }
        }
    }

    /// Whether the calls of the window that ends now say that it has to open, the last of which is the latest.
    fn has_to_open(&self, millis: u64) -> bool {
        let &(_, failed, slow) = self.ended.last().unwrap();
        let in_a_row = self.ended.iter().rev().take_while(|call| call.1).count();
        let bucket = (self.params.window.as_millis() as u64 / 10).max(1);
        let in_window: Vec<_> = self.ended.iter().filter(|call| call.0 / bucket + 10 > millis / bucket).collect();
        let share = |count: usize| count as f64 / in_window.len() as f64 + 1e-9;
        let enough = in_window.len() >= self.params.calls_min as usize;
        let failures = share(in_window.iter().filter(|call| call.1).count());
        let slow_ones = share(in_window.iter().filter(|call| call.2).count());
        self.params.failures.is_some_and(|max| failed && in_a_row >= max as usize)
            || enough && failed && self.params.failure_rate.is_some_and(|rate| failures >= rate)
            || enough && slow && self.params.slow.is_some_and(|params| slow_ones >= params.rate)
    }

    /// It opens, until a time that the breaker drew: within its bounds.
    fn open(&mut self, millis: u64, breaker: &Breaker, start: Instant) -> Result<(), TestCaseError> {
        let State::Open { until } = breaker.state() else {
            return Err(TestCaseError::fail(format!("{} instead of open", breaker.state())));
        };
        let until = (until - start).as_millis() as u64;
        let doubled = self.params.open_for.as_millis() as u64 * 2_u64.pow(self.openings.min(20));
        let bound = doubled.min(self.params.open_max.as_millis() as u64);
        prop_assert!(until - millis <= bound, "{} of {} ms", until - millis, bound);
        prop_assert!((until - millis + 1) * 10 >= bound * 8, "{} of {} ms", until - millis, bound);
        self.openings += 1;
        self.enter(Phase::Open { until });
        Ok(())
    }

    fn end(
        &mut self,
        phase: usize,
        (failed, slow): (bool, bool),
        millis: u64,
        (breaker, start): (&Breaker, Instant),
    ) -> Result<(), TestCaseError> {
        if phase != self.phases {
            return Ok(());
        }
        match self.phase {
            Phase::Closed { since } => {
                self.ended.push((millis, failed, slow));
                if self.has_to_open(millis) {
                    let forgets = u128::from(millis - since) >= self.params.forget_after.as_millis();
                    self.openings = if forgets { 0 } else { self.openings };
                    self.open(millis, breaker, start)?;
                }
            }
            Phase::HalfOpen if failed || slow => self.open(millis, breaker, start)?,
            Phase::HalfOpen => {
                self.ended.push((millis, failed, slow));
                if self.ended.len() as u32 >= self.params.successes {
                    self.enter(Phase::Closed { since: millis });
                }
            }
            Phase::Open { .. } | Phase::Forced(_) => {}
        }
        Ok(())
    }
}

fn is_same(state: State, phase: Phase, start: Instant) -> bool {
    match (state, phase) {
        (State::Closed, Phase::Closed { .. }) | (State::HalfOpen, Phase::HalfOpen) => true,
        (State::ForcedOpen, Phase::Forced(force)) => force == Force::Open,
        (State::ForcedClosed, Phase::Forced(force)) => force == Force::Closed,
        (State::Open { until }, Phase::Open { until: expected }) => until == start + Duration::from_millis(expected),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn agrees_with_a_model_that_forgets_nothing(
        params in params(),
        steps in prop::collection::vec(step(), 0..200),
        seed: u64,
    ) {
        let start = Instant::now();
        let breaker = Breaker::new(params, 3, start);
        let mut random = fastrand::Rng::with_seed(seed);
        let phase = Phase::Closed { since: 0 };
        let mut model = Model { params, phase, phases: 0, openings: 0, ended: Vec::new() };
        let mut under_way: Vec<Call> = Vec::new();
        let mut millis = 0;
        for step in steps {
            let now = start + Duration::from_millis(millis);
            match step {
                Step::Wait { millis: wait } => millis += wait,
                Step::Begin => {
                    let expected = model.admits(millis, &under_way);
                    prop_assert_eq!(breaker.would_admit(now), expected);
                    match breaker.admit(now) {
                        Admission::Admitted(permit) => {
                            prop_assert!(expected, "it must not pass in {:?}", model.phase);
                            if matches!(model.phase, Phase::Open { .. }) {
                                prop_assert!(permit.ends_open_time());
                                model.enter(Phase::HalfOpen);
                            }
                            prop_assert_eq!(permit.is_probe(), model.phase == Phase::HalfOpen);
                            under_way.push(Call { permit, phase: model.phases });
                        }
                        Admission::Refused { .. } => prop_assert!(!expected, "it must pass in {:?}", model.phase),
                    }
                }
                Step::End { which, failed, took_millis } if !under_way.is_empty() => {
                    let call = under_way.swap_remove(which % under_way.len());
                    let took = Duration::from_millis(took_millis);
                    let slow = params.slow.is_some_and(|slow| took >= slow.after);
                    breaker.record(call.permit, Outcome { failed, took }, now, (random.usize(..3), random.u64(..)));
                    model.end(call.phase, (failed, slow), millis, (&breaker, start))?;
                }
                Step::Drop { which } if !under_way.is_empty() => {
                    breaker.cancel(under_way.swap_remove(which % under_way.len()).permit);
                }
                Step::End { .. } | Step::Drop { .. } => {}
                Step::Force(force) => {
                    let moved = breaker.force(force, now).is_some();
                    let phase = match (force, model.phase) {
                        (None, Phase::Forced(_)) => Some(Phase::Closed { since: millis }),
                        (Some(force), phase) if phase != Phase::Forced(force) => Some(Phase::Forced(force)),
                        _ => None,
                    };
                    prop_assert_eq!(moved, phase.is_some());
                    if let Some(phase) = phase {
                        model.openings = 0;
                        model.enter(phase);
                    }
                }
            }
            prop_assert!(is_same(breaker.state(), model.phase, start), "{} and {:?}", breaker.state(), model.phase);
        }
    }
}
