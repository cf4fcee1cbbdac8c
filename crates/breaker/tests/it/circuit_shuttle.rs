//! The breaker under a thousand callers, with the very source of the crate on Shuttle's atomics: schedules are drawn at
//! random, and a failing one is printed so that it can be run again.

#[path = "../../src/circuit/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the crate's source, of which a proof uses a part")]
mod circuit;

mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

    pub(crate) fn run(test: impl Fn() + Send + Sync + 'static) {
        shuttle::check_random(test, 1);
    }
}

use std::time::{Duration, Instant};

use circuit::{Admission, Breaker, BreakerParams, Outcome, State};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::{Config, FailurePersistence, Runner, scheduler::RandomScheduler};

const CALLERS: usize = 1_000;
const PROBES: u32 = 5;
const QUICK: Duration = Duration::from_millis(1);

fn explore(schedules: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::Print;
    config.max_steps = shuttle::MaxSteps::None;
    Runner::new(RandomScheduler::new_from_seed(11, schedules), config).run(test);
}

/// An open breaker, and the moment when its time is over.
fn open() -> (Arc<Breaker>, Instant) {
    let start = Instant::now();
    let params = BreakerParams { failures: Some(1), probes: PROBES, successes: PROBES, ..BreakerParams::default() };
    let breaker = Breaker::new(params, 1, start);
    let Admission::Admitted(permit) = breaker.admit(start) else { panic!("it is closed") };
    breaker.record(permit, Outcome { failed: true, took: QUICK }, start, (0, 0));
    let State::Open { until } = breaker.state() else { panic!("it is open") };
    (Arc::new(breaker), until)
}

fn callers(count: usize, call: impl Fn(usize) + Clone + Send + 'static) {
    let call = |index| {
        let call = call.clone();
        shuttle::thread::spawn(move || call(index))
    };
    let threads: Vec<_> = (0..count).map(call).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_thousand_callers_get_no_more_than_the_probes() {
    explore(20, || {
        let (breaker, now) = open();
        let admitted = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&breaker), Arc::clone(&admitted));
        callers(CALLERS, move |_| {
            // Nobody ends a probe, so that whoever is admitted stays.
            if let Admission::Admitted(_kept) = shared.0.admit(now) {
                shared.1.fetch_add(1, Ordering::SeqCst);
            }
        });
        assert_eq!(admitted.load(Ordering::SeqCst), PROBES as usize);
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn probes_that_come_and_go_are_never_too_many() {
    explore(20, || {
        let (breaker, now) = open();
        let (under_way, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let shared = (Arc::clone(&breaker), under_way, Arc::clone(&passed));
        callers(CALLERS, move |index| {
            let (breaker, under_way, passed) = &shared;
            let Admission::Admitted(permit) = breaker.admit(now) else { return };
            if !permit.is_probe() {
                return;
            }
            let others = under_way.fetch_add(1, Ordering::SeqCst);
            assert!(others < PROBES as usize, "{others} beside this one");
            shuttle::thread::yield_now();
            // It is counted as gone before its permit is.
            under_way.fetch_sub(1, Ordering::SeqCst);
            if index % 3 == 0 {
                breaker.cancel(permit);
            } else {
                passed.fetch_add(1, Ordering::SeqCst);
                breaker.record(permit, Outcome { failed: false, took: QUICK }, now, (0, 0));
            }
        });
        let passed = passed.load(Ordering::SeqCst);
        assert_eq!((passed, breaker.state()), (PROBES as usize, State::Closed), "as many as needed, and no more");
    });
}

#[test]
fn one_of_many_that_fail_at_once_opens_it() {
    explore(100, || {
        let start = Instant::now();
        let params = BreakerParams { failures: Some(10), ..BreakerParams::default() };
        let breaker = Arc::new(Breaker::new(params, 1, start));
        let moves = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&breaker), Arc::clone(&moves));
        callers(30, move |_| {
            let Admission::Admitted(permit) = shared.0.admit(start) else { return };
            let change = shared.0.record(permit, Outcome { failed: true, took: QUICK }, start, (0, 0));
            shared.1.fetch_add(usize::from(change.is_some()), Ordering::SeqCst);
        });
        assert_eq!(moves.load(Ordering::SeqCst), 1);
        assert!(matches!(breaker.state(), State::Open { .. }));
    });
}
