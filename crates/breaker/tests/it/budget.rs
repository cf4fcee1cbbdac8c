//! What a budget allows, case by case.

use std::time::{Duration, Instant};

use breaker::{BudgetParams, RetryBudget, WINDOW_MAX};

/// A budget with a clock of its own.
struct Scene {
    budget: RetryBudget,
    start: Instant,
}

impl Scene {
    fn new(share: f64, window_secs: u64, floor_per_sec: u32) -> Self {
        let start = Instant::now();
        let params = BudgetParams { share, window: Duration::from_secs(window_secs), floor_per_sec };
        Self { budget: RetryBudget::new(params, start, 0), start }
    }

    fn observe(&self, secs: f64, requests_total: u64) {
        self.budget.observe(self.start + Duration::from_secs_f64(secs), requests_total);
    }

    /// Takes all there is.
    fn drain(&self, secs: f64, requests_total: u64) -> u64 {
        let now = self.start + Duration::from_secs_f64(secs);
        let left = self.budget.remaining(now, requests_total);
        let mut taken = 0;
        while self.budget.try_withdraw(now, requests_total) {
            taken += 1;
        }
        assert_eq!(left, taken, "what is shown as left is what can be taken");
        taken
    }
}

#[test]
fn a_fifth_of_the_requests_and_ten_a_second() {
    let check = |share: f64, window_secs: u64, floor: u32, requests: u64, expected: u64| {
        let taken = Scene::new(share, window_secs, floor).drain(0.5, requests);
        assert_eq!(taken, expected, "{share} of {requests} requests and {floor} a second over {window_secs} s");
    };
    check(0.2, 10, 10, 0, 100);
    check(0.2, 10, 10, 1000, 300);
    check(0.2, 10, 0, 4, 0);
    check(0.2, 10, 0, 5, 1);
    check(0.2, 10, 0, 9, 1);
    check(0.2, 10, 0, 100, 20);
    check(0.0, 10, 0, 1_000_000, 0);
    check(1.0, 1, 0, 7, 7);
    check(0.1, 10, 1, 5, 10);
    check(0.1, 10, 1, 10, 11);
}

#[test]
fn a_retry_is_given_back_when_it_leaves_the_window() {
    let scene = Scene::new(0.0, 3, 1);
    assert_eq!(scene.drain(0.9, 0), 3);
    for tenths in 9..40 {
        // The second of the retries, three whole ones after it, and none in between.
        assert_eq!(scene.drain(f64::from(tenths) / 10.0, 0), 0, "at {tenths} tenths");
    }
    assert_eq!(scene.drain(4.0, 0), 3);
}

#[test]
fn requests_leave_the_window_as_well() {
    let scene = Scene::new(0.5, 2, 0);
    scene.observe(0.0, 0);
    scene.observe(1.0, 100);
    scene.observe(2.0, 100);
    scene.observe(3.0, 100);
    // In second 3 the window begins with second 1.
    assert_eq!(scene.drain(3.5, 120), 10);
}

#[test]
fn seconds_that_nobody_noted_do_not_add_to_the_budget() {
    // A control plane that hung for a minute hands in a minute's requests at once.
    let scene = Scene::new(0.2, 10, 0);
    scene.observe(1.0, 1_000);
    assert_eq!(scene.drain(61.0, 60_000), 0);
    assert_eq!(scene.drain(61.5, 60_100), 20);
}

#[test]
fn a_total_that_lags_is_never_an_advance() {
    let scene = Scene::new(1.0, 2, 0);
    scene.observe(1.0, 1_000);
    scene.observe(2.0, 900);
    scene.observe(3.0, 900);
    assert_eq!(scene.drain(4.5, 1_000), 0);
    assert_eq!(scene.drain(4.6, 1_003), 3);
}

#[test]
fn a_clock_that_reads_early_is_no_reason_to_panic() {
    let scene = Scene::new(0.0, 2, 5);
    scene.observe(3.0, 0);
    assert_eq!(scene.drain(1.0, 0), 10);
    assert_eq!(scene.drain(3.0, 0), 0);
}

#[test]
fn totals_of_years_are_exact() {
    // The sums in millionths overflow 64 bits from 18 million million requests on.
    let start = Instant::now();
    let params = BudgetParams { share: 0.2, window: Duration::from_secs(10), floor_per_sec: 0 };
    let total = u64::MAX / 3;
    let budget = RetryBudget::new(params, start, total);
    let taken = (0..100).filter(|_| budget.try_withdraw(start, total + 50)).count();
    assert_eq!((taken, budget.withdrawn_total()), (10, 10));
}

#[test]
fn windows_are_cut_to_an_hour() {
    let start = Instant::now();
    let params = BudgetParams { share: 0.0, window: Duration::MAX, floor_per_sec: 1 };
    let budget = RetryBudget::new(params, start, 0);
    assert_eq!(budget.remaining(start, 0), WINDOW_MAX.as_secs());
}
