//! The rule of success rates over hours of simulated intervals whose failures are drawn by chance.

use std::time::{Duration, Instant};

use balance::health::{HealthParams, Sample, ServiceHealth, State, SuccessRateParams};

const HOUR_INTERVALS: u64 = 360;

/// What a run comes to.
#[derive(Debug, Default)]
struct Totals {
    /// Ejections of endpoints that fail as often as most do.
    wrong: u64,
    /// Ejections of endpoints that fail more often.
    right: u64,
    /// Intervals that such an endpoint was in use for.
    borne: u64,
}

/// Endpoints that fail requests with these probabilities, for some hours. Traffic is spread over those in use.
fn run(failing: &[f64], requests: u64, hours: u64, seed: u64) -> Totals {
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let params = HealthParams {
        active: None,
        passive: None,
        outlier: None,
        success_rate: Some(SuccessRateParams::default()),
        panic_threshold: 0.0,
    };
    let usual = failing.iter().copied().fold(f64::INFINITY, f64::min);
    let mut now = Instant::now();
    let mut health = ServiceHealth::new(params);
    health.sync(&(0..failing.len() as u64).collect::<Vec<_>>(), now);
    let mut totals = Totals::default();
    for _ in 0..hours * HOUR_INTERVALS {
        let healthy: Vec<bool> = health.states().map(|(_, state)| state == State::Healthy).collect();
        let share = requests / healthy.iter().filter(|&&healthy| healthy).count() as u64;
        now += Duration::from_secs(10);
        health.on_deadline(now);
        let samples: Vec<Sample> = (0..failing.len())
            .filter(|&id| healthy[id])
            .map(|id| {
                let failures = (0..share).filter(|_| random.f64() < failing[id]).count() as u64;
                totals.borne += u64::from(failing[id] > usual);
                Sample { id: id as u64, requests: share, failures }
            })
            .collect();
        for change in health.on_interval(now, &samples) {
            let is_right = failing[change.id as usize] > usual;
            totals.right += u64::from(is_right);
            totals.wrong += u64::from(!is_right);
        }
    }
    println!("{totals:?}");
    totals
}

#[test]
fn who_fails_more_often_is_hardly_used() {
    let mut failing = vec![0.01; 10];
    failing[3] = 0.2;
    let totals = run(&failing, 2_000, 4, 1);
    // Ejections grow to 300 s, so it is tried for two or three intervals of each 32.
    assert_eq!(totals.wrong, 0, "{totals:?}");
    assert!(totals.right > 30 && totals.borne < 4 * HOUR_INTERVALS / 8, "{totals:?}");
}

#[test]
fn chance_ejects_nobody() {
    // Where all fail alike, rarely or often, the rates of 100 requests differ by up to a fifth.
    for (seed, failing) in [(1, 0.0), (2, 0.02), (3, 0.1), (4, 0.5), (5, 0.95)] {
        let totals = run(&[failing; 12], 1_200, 4, seed);
        assert!(totals.wrong <= 1, "{failing}: {totals:?}");
    }
}

#[test]
fn what_ails_all_ejects_nobody() {
    // The database is slow for all, and a little slower for some.
    let failing: Vec<f64> = (0..12).map(|index| 0.5 + 0.01 * f64::from(index % 4)).collect();
    let totals = run(&failing, 4_800, 4, 9);
    assert!(totals.wrong + totals.right <= 2, "{totals:?}");
}
