//! What a breaker does, case by case.

use std::time::{Duration, Instant};

use breaker::circuit::{Cause, Change, Force, State};
use breaker::{Admission, Breaker, BreakerParams, Outcome, Permit, SlowParams};

const QUICK: Duration = Duration::from_millis(1);

/// A breaker with a clock of its own.
struct Scene {
    breaker: Breaker,
    start: Instant,
    millis: u64,
}

impl Scene {
    fn new(params: BreakerParams) -> Self {
        let start = Instant::now();
        Self { breaker: Breaker::new(params, 2, start), start, millis: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.millis)
    }

    fn permit(&self) -> Option<Permit> {
        match self.breaker.admit(self.now()) {
            Admission::Admitted(permit) => Some(permit),
            Admission::Refused { .. } => None,
        }
    }

    fn end(&self, permit: Permit, failed: bool, took: Duration) -> Option<Change> {
        self.breaker.record(permit, Outcome { failed, took }, self.now(), (0, 0))
    }

    /// Makes calls, `x` for one that fails, `s` for one that is slow, `.` for one that goes well, and gives the cause of
    /// the last move.
    fn calls(&self, calls: &str) -> Option<Cause> {
        let mut cause = None;
        for call in calls.chars() {
            let permit = self.permit().expect("it may pass");
            let took = if call == 's' { Duration::from_secs(2) } else { QUICK };
            cause = self.end(permit, call == 'x', took).map(|change| change.cause).or(cause);
        }
        cause
    }

    /// The milliseconds that it stays open.
    fn open_millis(&self) -> u64 {
        match self.breaker.state() {
            State::Open { until } => (until - self.now()).as_millis() as u64,
            other => panic!("it is {other}"),
        }
    }
}

fn in_a_row(failures: u32) -> BreakerParams {
    BreakerParams { failures: Some(failures), ..BreakerParams::default() }
}

fn by_rate(rate: f64, calls_min: u32) -> BreakerParams {
    BreakerParams { failures: None, failure_rate: Some(rate), calls_min, ..BreakerParams::default() }
}

fn by_slowness(rate: f64, calls_min: u32) -> BreakerParams {
    let slow = Some(SlowParams { after: Duration::from_secs(1), rate });
    BreakerParams { failures: None, slow, calls_min, ..BreakerParams::default() }
}

#[test]
fn it_opens_by_its_rules() {
    let check = |params: BreakerParams, calls: &str, expected: Option<Cause>| {
        assert_eq!(Scene::new(params).calls(calls), expected, "{calls} by {params:?}");
    };
    check(in_a_row(1), "x", Some(Cause::Consecutive { failures: 1 }));
    check(in_a_row(3), "xx", None);
    check(in_a_row(3), "xxx", Some(Cause::Consecutive { failures: 3 }));
    check(in_a_row(3), "xx.xx.xx", None);
    check(in_a_row(3), "xx.xxx", Some(Cause::Consecutive { failures: 3 }));
    check(by_rate(0.5, 4), "xxx", None);
    check(by_rate(0.5, 4), "xxx.", None);
    check(by_rate(0.5, 4), "x.x.x", Some(Cause::FailureRate { calls: 5, failures: 3 }));
    check(by_rate(0.5, 4), "..xx", Some(Cause::FailureRate { calls: 4, failures: 2 }));
    check(by_rate(0.5, 4), "...xx", None);
    check(by_rate(1.0, 2), "xx", Some(Cause::FailureRate { calls: 2, failures: 2 }));
    check(by_rate(1.0, 2), ".xxxxx", None);
    check(by_slowness(0.5, 4), "ssss", Some(Cause::SlowRate { calls: 4, slow: 4 }));
    check(by_slowness(0.5, 4), "....ss", None);
    check(by_slowness(0.5, 4), "..s.xss", None);
    check(by_slowness(0.5, 4), "...sss", Some(Cause::SlowRate { calls: 6, slow: 3 }));
    check(BreakerParams { failures: None, ..in_a_row(1) }, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", None);
}

#[test]
fn the_window_forgets() {
    let mut scene = Scene::new(by_rate(0.5, 2));
    scene.calls("...");
    scene.millis = 9_999;
    assert_eq!(scene.calls("xx"), None, "five calls, two of them failed");
    scene.millis = 10_000;
    assert_eq!(scene.calls("x"), Some(Cause::FailureRate { calls: 3, failures: 3 }));
}

#[test]
fn a_probe_decides() {
    let mut scene = Scene::new(in_a_row(1));
    scene.calls("x");
    assert_eq!(scene.open_millis(), 30_000);
    scene.millis = 29_999;
    let refused = Admission::Refused { retry_after: Some(Duration::from_millis(1)) };
    assert_eq!(scene.breaker.admit(scene.now()), refused);
    assert!(!scene.breaker.would_admit(scene.now()));
    scene.millis = 30_000;
    assert!(scene.breaker.would_admit(scene.now()));
    let probe = scene.permit().expect("the time is over");
    assert!(probe.is_probe() && probe.ends_open_time());
    assert_eq!(scene.breaker.state(), State::HalfOpen);
    assert_eq!(scene.breaker.admit(scene.now()), Admission::Refused { retry_after: None });
    let change = scene.end(probe, true, QUICK).expect("it opens again");
    assert_eq!((change.from, change.cause), (State::HalfOpen, Cause::ProbeFailed));
    assert_eq!(scene.open_millis(), 60_000, "for twice as long");
    scene.millis = 90_000;
    let probe = scene.permit().expect("another probe");
    let change = scene.end(probe, false, QUICK).expect("it closes");
    assert_eq!((change.to, change.cause), (State::Closed, Cause::ProbesPassed { successes: 1 }));
    assert_eq!(scene.calls("."), None);
}

#[test]
fn a_slow_probe_opens_it_again() {
    let mut scene = Scene::new(BreakerParams { failures: Some(1), ..by_slowness(1.0, 1_000) });
    scene.calls("x");
    scene.millis = 30_000;
    assert_eq!(scene.calls("s"), Some(Cause::ProbeSlow));
}

#[test]
fn probes_are_bounded_and_come_back() {
    let mut scene = Scene::new(BreakerParams { probes: 2, successes: 3, ..in_a_row(1) });
    scene.calls("x");
    scene.millis = 30_000;
    let [first, second] = [(); 2].map(|()| scene.permit().expect("a probe"));
    assert!(!second.ends_open_time());
    assert_eq!(scene.permit(), None, "two at once");
    scene.breaker.cancel(first);
    let third = scene.permit().expect("one was given back");
    assert_eq!(scene.end(second, false, QUICK), None);
    assert_eq!(scene.end(third, false, QUICK), None);
    let fourth = scene.permit().expect("one is missing");
    assert_eq!(scene.permit(), None, "three are enough");
    let change = scene.end(fourth, false, QUICK).expect("it closes");
    assert_eq!(change.cause, Cause::ProbesPassed { successes: 3 });
}

#[test]
fn the_past_does_not_count() {
    let mut scene = Scene::new(in_a_row(2));
    let [early, late] = [(); 2].map(|()| scene.permit().expect("a permit"));
    scene.calls("xx");
    assert_eq!(scene.end(early, false, QUICK), None);
    scene.millis = 30_000;
    let probe = scene.permit().expect("a probe");
    assert_eq!(scene.end(late, true, QUICK), None, "it began before the probe");
    assert_eq!(scene.breaker.state(), State::HalfOpen);
    scene.end(probe, false, QUICK);
    assert_eq!(scene.calls("x"), None, "failures in a row begin anew");
}

#[test]
fn the_open_time_grows_is_bounded_and_is_forgotten() {
    let params = BreakerParams { open_max: Duration::from_secs(100), ..in_a_row(1) };
    let mut scene = Scene::new(params);
    let opens = |scene: &mut Scene, expected_secs: u64| {
        scene.calls("x");
        assert_eq!(scene.open_millis(), expected_secs * 1_000);
        scene.millis += expected_secs * 1_000;
    };
    for secs in [30, 60, 100, 100] {
        opens(&mut scene, secs);
    }
    scene.calls(".");
    assert_eq!(scene.breaker.state(), State::Closed);
    opens(&mut scene, 100);
    scene.calls(".");
    scene.millis += 299_999;
    opens(&mut scene, 100);
    scene.calls(".");
    scene.millis += 300_000;
    opens(&mut scene, 30);
}

#[test]
fn up_to_a_fifth_of_the_time_is_taken_off() {
    let check = |random: u64, expected: u64| {
        let start = Instant::now();
        let breaker = Breaker::new(in_a_row(1), 1, start);
        let Admission::Admitted(permit) = breaker.admit(start) else { panic!("it is closed") };
        let outcome = Outcome { failed: true, took: QUICK };
        let change = breaker.record(permit, outcome, start, (0, random)).expect("it opens");
        assert_eq!(change.to, State::Open { until: start + Duration::from_millis(expected) });
    };
    check(0, 30_000);
    check(u64::MAX / 2, 27_000);
    check(u64::MAX, 24_000);
}

#[test]
fn it_can_be_forced() {
    let mut scene = Scene::new(in_a_row(1));
    let permit = scene.permit().expect("a permit");
    let change = scene.breaker.force(Some(Force::Open), scene.now()).expect("a move");
    assert_eq!((change.from, change.to, change.cause), (State::Closed, State::ForcedOpen, Cause::Forced));
    assert_eq!(scene.breaker.force(Some(Force::Open), scene.now()), None, "it is that already");
    assert_eq!(scene.breaker.admit(scene.now()), Admission::Refused { retry_after: None });
    assert_eq!(scene.end(permit, true, QUICK), None);
    scene.millis = 1_000_000;
    assert_eq!(scene.permit(), None);
    scene.breaker.force(Some(Force::Closed), scene.now());
    assert_eq!(scene.calls("xxxx"), None);
    assert_eq!(scene.breaker.state(), State::ForcedClosed);
    let change = scene.breaker.force(None, scene.now()).expect("a move");
    assert_eq!((change.to, change.cause), (State::Closed, Cause::Released));
    assert_eq!(scene.calls("x"), Some(Cause::Consecutive { failures: 1 }));
    assert_eq!(scene.breaker.force(None, scene.now()), None, "nobody forced it");
}

#[test]
fn odd_parameters_and_clocks_are_no_reason_to_panic() {
    let params = BreakerParams {
        failures: Some(0),
        failure_rate: Some(0.0),
        slow: Some(SlowParams { after: Duration::ZERO, rate: 0.0 }),
        window: Duration::ZERO,
        calls_min: 0,
        open_for: Duration::MAX,
        open_max: Duration::from_secs(1 << 40),
        forget_after: Duration::MAX,
        probes: 0,
        successes: u32::MAX,
    };
    let mut scene = Scene::new(params);
    assert_eq!(scene.calls("."), Some(Cause::SlowRate { calls: 1, slow: 1 }));
    assert_eq!(scene.permit(), None);
    scene.millis = 10;
    let early = Scene { start: scene.start - Duration::from_secs(1), ..scene };
    assert_eq!(early.permit(), None);
}
