//! Smooth weighted round robin.

use balance::{Algorithm, Picker, Request};
use proptest::prelude::*;

use crate::scene::{Counters, FIRST, candidates, plan, shares};

/// The order of some picks, as letters.
fn order(weights: &[u32], seed: u64, picks: usize) -> String {
    let plan = plan(Algorithm::RoundRobin, &candidates(weights));
    let (mut picker, loads) = (Picker::new(seed), Counters::idle(weights.len()));
    (0..picks).map(|_| char::from(b'a' + picker.pick(&plan, FIRST, &loads).unwrap() as u8)).collect()
}

#[test]
fn weights_interleave() {
    let check = |weights: &[u32], expected: &str| {
        assert_eq!(order(weights, 0, expected.len()), expected, "weights {weights:?}");
    };
    check(&[5, 1, 1], "aabacaaaabacaa");
    check(&[1, 1, 1], "abcabc");
    check(&[4, 2], "abaaba");
    check(&[1], "aaa");
    check(&[1, 0, 1], "acac");
    check(&[3, 2, 1], "abacba");
}

#[test]
fn cores_start_at_different_endpoints() {
    let starts: std::collections::HashSet<String> = (0..64).map(|seed| order(&[1; 16], seed, 1)).collect();
    assert!(starts.len() >= 12, "64 cores start at {} of 16 endpoints", starts.len());
}

#[test]
fn a_new_plan_goes_on_where_the_old_one_was() {
    // Were the cycle begun anew with every plan, a service whose endpoints flap would use its first ones only.
    let (mut picker, loads) = (Picker::new(0), Counters::idle(10));
    let all = candidates(&[1; 10]);
    let (mut counts, mut random) = ([0; 10], fastrand::Rng::with_seed(3));
    for change in 0..2_000 {
        let plan = plan(Algorithm::RoundRobin, &all[..9 + change % 2]);
        for _ in 0..random.usize(0..4) {
            counts[usize::from(picker.pick(&plan, FIRST, &loads).unwrap())] += 1;
        }
    }
    assert!(counts[..9].iter().all(|count| (240..400).contains(count)), "{counts:?}");
}

#[test]
fn a_retry_goes_to_the_next_one() {
    let plan = plan(Algorithm::RoundRobin, &candidates(&[1000, 1]));
    let (mut picker, loads) = (Picker::new(0), Counters::idle(2));
    // Far from the light one's slot in a cycle of 1,001.
    assert_eq!(picker.pick(&plan, FIRST, &loads), Some(0));
    assert_eq!(picker.pick(&plan, Request { key: 0, tried: &[0] }, &loads), Some(1));
}

proptest! {
    #[test]
    fn a_cycle_gives_each_its_weight_exactly(weights in prop::collection::vec(0..20_u32, 1..20), seed: u64) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let plan = plan(Algorithm::RoundRobin, &candidates(&weights));
        let total: u32 = weights.iter().sum();
        let counts = shares(&plan, &mut Picker::new(seed), u64::from(total));
        prop_assert_eq!(counts, weights.into_iter().map(u64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_shortened_cycle_is_off_by_half_a_slot(weights in prop::collection::vec(1..=65_535_u32, 2..50)) {
        let plan = plan(Algorithm::RoundRobin, &candidates(&weights));
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let picks = 40_960;
        let counts = shares(&plan, &mut Picker::new(0), picks);
        for (&weight, &count) in weights.iter().zip(&counts) {
            let (expected, found) = (f64::from(weight) / total, count as f64 / picks as f64);
            // Half a slot of its own, and as much for the rounding of all others.
            let off = (found - expected).abs();
            prop_assert!(off <= (1.0 + expected * 25.0) / 4096.0, "weight {}: {}, not {}", weight, found, expected);
        }
    }
}
