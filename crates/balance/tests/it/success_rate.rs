//! Ejection by comparison with the others, by table.

use std::time::Duration;

use balance::health::{Cause, HealthParams, OutlierParams, Sample, State, SuccessRateParams};
use proptest::prelude::*;

use crate::health::{Scene, params};

/// Half of the endpoints may be out, so that the cap is not what a table tests.
fn rule() -> SuccessRateParams {
    SuccessRateParams { ejected_share_max: 0.5, ..SuccessRateParams::default() }
}

fn with(rule: SuccessRateParams) -> HealthParams {
    HealthParams { success_rate: Some(rule), ..params(false, false, false) }
}

/// Endpoints 1 and so on, that have been up for an hour.
fn scene(params: HealthParams, endpoints: u64) -> Scene {
    let mut scene = Scene::new(params, &(1..=endpoints).collect::<Vec<_>>());
    scene.play("@3600");
    scene
}

/// Failures of endpoint 1 and so on, out of so many requests each.
fn samples(requests: u64, failures: &[u64]) -> Vec<Sample> {
    failures.iter().zip(1..).map(|(&failures, id)| Sample { id, requests, failures }).collect()
}

/// Who is ejected after one interval, in order.
fn ejected(params: SuccessRateParams, samples: &[Sample]) -> Vec<u64> {
    let mut scene = scene(with(params), samples.len() as u64);
    let now = scene.now();
    scene.health.on_interval(now, samples).into_iter().map(|change| change.id).collect()
}

#[test]
fn who_is_far_below_the_others_goes() {
    let check = |requests: u64, failures: &[u64], expected: &[u64]| {
        assert_eq!(ejected(rule(), &samples(requests, failures)), expected, "{failures:?} of {requests}");
    };
    check(100, &[0, 0, 0, 0, 100], &[5]);
    check(100, &[2, 3, 40, 1, 2], &[3]);
    check(1_000, &[0, 0, 100, 0, 0, 0], &[3]);
    // Four endpoints are too few to tell, a hundred requests just enough.
    check(100, &[0, 0, 0, 100], &[]);
    check(99, &[0, 0, 0, 0, 99], &[]);
    // Two bad ones of five are no outliers, of eleven they are: the worse one first.
    check(100, &[0, 0, 0, 90, 100], &[]);
    check(100, &[0, 0, 0, 90, 0, 0, 100, 0, 0, 0, 0], &[7, 4]);
    check(100, &[], &[]);
}

#[test]
fn equal_rates_eject_nobody() {
    // Sums of these rates are not exact, and a third is not either.
    for (requests, failures) in [(100, 0), (100, 100), (100, 10), (300, 100), (700, 100), (1_000_003, 333_331)] {
        for endpoints in [5, 7, 11, 49] {
            let samples = samples(requests, &vec![failures; endpoints]);
            let exact = SuccessRateParams { deviations: 0.0, margin: 0.0, ..rule() };
            assert_eq!(ejected(exact, &samples), [], "{failures} of {requests}, {endpoints} times");
        }
    }
}

#[test]
fn tiny_differences_eject_nobody() {
    // Many deviations below the others, and yet only one failure, or one in a thousand.
    let mut failures = vec![0; 20];
    failures[7] = 1;
    assert_eq!(ejected(rule(), &samples(100, &failures)), []);
    failures[7] = 1_000;
    assert_eq!(ejected(rule(), &samples(1_000_000, &failures)), []);
    // Without the margin it is an outlier, as many requests say that it is no chance.
    let exact = SuccessRateParams { margin: 0.0, ..rule() };
    assert_eq!(ejected(exact, &samples(1_000_000, &failures)), [8]);
    // With few requests it may be chance, whatever the margin.
    failures[7] = 1;
    assert_eq!(ejected(exact, &samples(100, &failures)), []);
}

#[test]
fn too_few_requests_count_neither_way() {
    // Endpoint 6 failed all of its few requests; without it five are left to compare.
    let mut all = samples(100, &[0, 0, 0, 0, 100, 0]);
    all[5] = Sample { id: 6, requests: 20, failures: 20 };
    assert_eq!(ejected(rule(), &all), [5]);
    all[4].requests = 99;
    assert_eq!(ejected(rule(), &all), []);
}

#[test]
fn the_cap_takes_the_worst_and_minds_the_other_rule() {
    let one = SuccessRateParams::default();
    let mut failures = [0; 19];
    (failures[1], failures[4], failures[8]) = (70, 80, 75);
    assert_eq!(ejected(one, &samples(100, &failures)), [5]);
    let most = SuccessRateParams { ejected_share_max: 0.16, ..one };
    assert_eq!(ejected(most, &samples(100, &failures)), [5, 9, 2]);
    // Out by failures in a row, endpoint 12 counts as well.
    let outlier = Some(OutlierParams { ejected_share_max: 0.16, ..OutlierParams::default() });
    let mut scene = scene(HealthParams { outlier, ..with(one) }, 19);
    assert_eq!(scene.play("12:- 12:- 12:- 12:- 12:-"), "12:ejected");
    let now = scene.now();
    assert_eq!(scene.health.on_interval(now, &samples(100, &failures)), []);
}

#[test]
fn an_ejection_grows_and_ends_by_itself() {
    let mut scene = scene(with(rule()), 6);
    let bad = samples(100, &[0, 0, 50, 0, 0, 0]);
    let now = scene.now();
    let changes = scene.health.on_interval(now, &bad);
    assert_eq!(changes.len(), 1);
    let cause = Cause::SuccessRate { requests: 100, failures: 50, mean_permille: 917 };
    assert_eq!(changes[0].cause, cause);
    assert_eq!(cause.to_string(), "50 of 100 requests failed, while 91.7% succeed in the mean");
    assert_eq!(scene.available(), [1, 2, 4, 5, 6]);
    // What ends late of it while it is out is not held against it.
    assert_eq!(scene.health.on_interval(now, &bad), []);
    assert_eq!(scene.play("@3629.9"), "");
    assert_eq!(scene.play("@3630"), "3:healthy");
    // It is judged again by a whole interval of its own.
    scene.play("@3639.9");
    let now = scene.now();
    assert_eq!(scene.health.on_interval(now, &bad), []);
    scene.play("@3640");
    let now = scene.now();
    let changes = scene.health.on_interval(now, &bad);
    assert!(matches!(changes[0].to, State::Ejected { until, .. } if until == now + Duration::from_secs(60)));
}

#[test]
fn the_rule_goes_with_its_parameters_and_with_its_peers() {
    let mut scene = scene(with(rule()), 6);
    let now = scene.now();
    scene.health.on_interval(now, &samples(100, &[0, 0, 50, 0, 0, 0]));
    let changes = scene.health.set_params(params(false, true, true), now);
    assert_eq!(changes.iter().map(|change| (change.id, &change.cause)).collect::<Vec<_>>(), [(3, &Cause::RuleRemoved)]);
    assert_eq!(scene.health.on_interval(now, &samples(100, &[0, 0, 50, 0, 0, 0])), []);

    let mut scene = self::scene(with(SuccessRateParams { ejected_share_max: 0.2, ..rule() }), 11);
    scene.health.on_interval(now + Duration::from_secs(3_600), &samples(100, &[0, 0, 60, 60, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(scene.available().len(), 9);
    let changes = scene.health.sync(&[1, 2, 3, 4, 5, 6], now);
    assert_eq!(
        changes.iter().map(|change| (change.id, &change.cause)).collect::<Vec<_>>(),
        [(3, &Cause::FewerEndpoints)]
    );
}

#[test]
fn who_is_set_aside_is_neither_judged_nor_compared() {
    let mut scene = scene(with(rule()), 6);
    let now = scene.now();
    scene.health.set_aside(&[3], now);
    assert_eq!(scene.health.on_interval(now, &samples(100, &[0, 0, 100, 0, 0, 0])), []);
    scene.health.set_aside(&[1, 2], now);
    assert_eq!(scene.health.on_interval(now, &samples(100, &[0, 0, 100, 0, 0, 0])), [], "four are left");
}

proptest! {
    #[test]
    fn whoever_goes_is_an_outlier_by_all_three_bounds(
        counts in prop::collection::vec((0..400_u64, 0.0..1.0_f64), 0..30),
        deviations in 0.0..3.0_f64,
        margin in 0.0..0.5_f64,
    ) {
        let sample = |((requests, share), id): (&(u64, f64), u64)| {
            Sample { id, requests: *requests, failures: (*requests as f64 * share * share) as u64 }
        };
        let samples: Vec<Sample> = counts.iter().zip(1..).map(sample).collect();
        let found = ejected(SuccessRateParams { deviations, margin, ejected_share_max: 1.0, ..rule() }, &samples);
        let judged: Vec<&Sample> = samples.iter().filter(|sample| sample.requests >= 100).collect();
        let rate = |sample: &Sample| 1.0 - sample.failures as f64 / sample.requests as f64;
        let n = judged.len() as f64;
        let mean = judged.iter().map(|sample| rate(sample)).sum::<f64>() / n;
        let square = judged.iter().map(|sample| rate(sample).powi(2)).sum::<f64>() / n;
        let deviation = (square - mean * mean).max(0.0).sqrt();
        for sample in &samples {
            let distance = if sample.requests >= 100 && judged.len() >= 5 { mean - rate(sample) } else { 0.0 };
            let bound = (deviations * deviation).max(margin);
            // Chernoff's bound as a product: (p/q)^failures times (r/s)^successes, below one in 30,000.
            let failures = sample.failures as f64;
            let successes = sample.requests as f64 - failures;
            let part = |of: f64, share: f64| if of > 0.0 { of * (share * sample.requests as f64 / of).ln() } else { 0.0 };
            let by_chance = part(failures, 1.0 - mean) + part(successes, mean) + 30_000_f64.ln();
            // The two ways to work these out differ in the last digits.
            if (distance - bound).abs() > 1e-6 && by_chance.abs() > 1e-6 {
                let expected = distance > bound && by_chance < 0.0;
                prop_assert_eq!(found.contains(&sample.id), expected, "{:?} of {:?}", sample, samples);
            }
        }
        let rates: Vec<f64> = found.iter().map(|id| rate(&samples[*id as usize - 1])).collect();
        prop_assert!(rates.is_sorted());
    }
}
