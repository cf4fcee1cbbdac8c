//! The breaker under three callers, with the very source of the crate on Loom's atomics: every order of their steps, and
//! every value that C11's memory model lets a relaxed load return.

#[path = "../../src/circuit/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the crate's source, of which a proof uses a part")]
mod circuit;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

    pub(crate) fn run(test: impl Fn() + Send + Sync + 'static) {
        loom::model(test);
    }
}

use std::time::{Duration, Instant};

use circuit::{Admission, Breaker, BreakerParams, Force, Outcome, State};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

const QUICK: Duration = Duration::from_millis(1);

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // Orders with more changes of thread than that find nothing new in words of one compare-exchange each, and three
    // callers without the bound take minutes.
    builder.preemption_bound = Some(3);
    builder.check(test);
}

fn end(breaker: &Breaker, permit: circuit::Permit, failed: bool, now: Instant) -> bool {
    breaker.record(permit, Outcome { failed, took: QUICK }, now, (0, 0)).is_some()
}

/// An open breaker, and the moment when its time is over.
fn open(probes: u32, successes: u32) -> (Arc<Breaker>, Instant) {
    let start = Instant::now();
    let params = BreakerParams { failures: Some(1), probes, successes, ..BreakerParams::default() };
    let breaker = Breaker::new(params, 1, start);
    let Admission::Admitted(permit) = breaker.admit(start) else { panic!("it is closed") };
    end(&breaker, permit, true, start);
    let State::Open { until } = breaker.state() else { panic!("it is open") };
    (Arc::new(breaker), until)
}

/// Two callers beside the one that asks.
fn three(call: impl Fn(usize) + Clone + Send + 'static) {
    let others = [1, 2].map(|index| {
        let call = call.clone();
        thread::spawn(move || call(index))
    });
    call(0);
    others.into_iter().for_each(|other| other.join().unwrap());
}

#[test]
fn three_callers_share_two_permits() {
    explore(|| {
        let (breaker, now) = open(2, 2);
        let admitted = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&breaker), Arc::clone(&admitted));
        three(move |_| {
            if let Admission::Admitted(_kept) = shared.0.admit(now) {
                shared.1.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(admitted.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_permit_that_comes_back_is_taken_once() {
    explore(|| {
        let (breaker, now) = open(1, 2);
        let under_way = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&breaker), under_way);
        three(move |index| {
            let (breaker, under_way) = &shared;
            let Admission::Admitted(permit) = breaker.admit(now) else { return };
            if !permit.is_probe() {
                return;
            }
            assert_eq!(under_way.fetch_add(1, Ordering::AcqRel), 0, "one at a time");
            under_way.fetch_sub(1, Ordering::AcqRel);
            match index {
                0 => breaker.cancel(permit),
                _ => drop(end(breaker, permit, false, now)),
            }
        });
        assert!(matches!(breaker.state(), State::HalfOpen | State::Closed));
    });
}

#[test]
fn failures_and_successes_at_once_move_it_once() {
    explore(|| {
        let start = Instant::now();
        let params = BreakerParams { failures: Some(2), ..BreakerParams::default() };
        let breaker = Arc::new(Breaker::new(params, 1, start));
        let moves = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&breaker), Arc::clone(&moves));
        three(move |_| {
            let Admission::Admitted(permit) = shared.0.admit(start) else { return };
            shared.1.fetch_add(usize::from(end(&shared.0, permit, true, start)), Ordering::Relaxed);
        });
        assert_eq!(moves.load(Ordering::Relaxed), 1, "three failures, of which two are enough");
        assert!(matches!(breaker.state(), State::Open { .. }));
    });
}

#[test]
fn what_is_forced_stays_forced() {
    explore(|| {
        let (breaker, now) = open(1, 1);
        let shared = Arc::clone(&breaker);
        three(move |index| {
            if index == 0 {
                shared.force(Some(Force::Open), now);
            } else if let Admission::Admitted(permit) = shared.admit(now) {
                end(&shared, permit, index == 1, now);
            }
        });
        assert_eq!(breaker.state(), State::ForcedOpen);
    });
}
