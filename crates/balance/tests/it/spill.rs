//! Traffic over priorities and zones, by every algorithm.

use std::collections::BTreeMap;

use balance::{Algorithm, Availability, Candidate, Picker, Plan, Rank, Request, hash};
use proptest::prelude::*;

use crate::scene::{ALGORITHMS, Counters, FIRST, candidate, plan};

/// Candidates from a text: a digit is a priority, a letter after it `x` unavailable, `d` drained, `s` suspect, `a` away,
/// `b` a backup. `0 0x 1a`
fn candidates(text: &str) -> Vec<Candidate> {
    let one = |(index, word): (usize, &str)| {
        let mut candidate = candidate(index, 1);
        candidate.priority = word[..1].parse().unwrap();
        candidate.away = word.contains('a');
        candidate.backup = word.contains('b');
        candidate.availability = match word {
            word if word.contains('x') => Availability::Unavailable,
            word if word.contains('d') => Availability::Draining,
            word if word.contains('s') => Availability::Suspect,
            _ => Availability::Available,
        };
        candidate
    };
    text.split_whitespace().enumerate().map(one).collect()
}

/// Per cent of the traffic by rank, as the plan says.
fn planned(plan: &Plan) -> Vec<f64> {
    plan.shares().map(|(_, share)| (share * 1000.0).round() / 10.0).collect()
}

/// Picks by different keys, counted by rank.
fn counted(plan: &Plan, picker: &mut Picker, picks: u64) -> BTreeMap<Rank, u64> {
    let loads = Counters::idle(plan.len());
    let mut counts = BTreeMap::new();
    for pick in 0..picks {
        let request = Request { key: hash::bytes(&pick.to_le_bytes()), tried: &[] };
        let position = picker.pick(plan, request, &loads).unwrap();
        *counts.entry(plan.candidates()[usize::from(position)].rank()).or_default() += 1;
        picker.touch(plan, position, &loads);
    }
    counts
}

#[test]
fn priorities_come_before_zones_and_backups_last() {
    let check = |text: &str, expected: &[f64]| {
        for algorithm in ALGORITHMS {
            let plan = plan(algorithm, &candidates(text));
            assert_eq!(planned(&plan), expected, "{text}");
            let counts = counted(&plan, &mut Picker::new(3), 10_000);
            for (rank, share) in plan.shares() {
                let found = counts.get(&rank).copied().unwrap_or(0) as f64 / 10_000.0;
                // The golden ratio keeps to shares within some picks; keys are as random as a hash.
                let off = if matches!(algorithm, Algorithm::Ring | Algorithm::Maglev) { 0.02 } else { 0.001 };
                assert!((found - share).abs() <= off, "{algorithm:?} among {text}: {found} for {rank:?}, not {share}");
            }
        }
    };
    check("0 0 1 1", &[100.0, 0.0]);
    check("2 7 2", &[100.0, 0.0]);
    check("0 0x 1 1", &[70.0, 30.0]);
    check("0 0d 1 1", &[70.0, 30.0]);
    check("0 0x 0x 0x 1 1x 2", &[35.0, 65.0, 0.0]);
    check("0x 0x 1", &[0.0, 100.0]);
    // Zones: the own one, and the others.
    check("0a 0 0a", &[100.0, 0.0]);
    check("0 0x 0a 0a 0a", &[70.0, 30.0]);
    check("0x 0x 0a 0a", &[0.0, 100.0]);
    check("0a 0a", &[100.0]);
    // The other zones of a priority come before the next priority.
    check("0 0x 0a 1 1a", &[70.0, 30.0, 0.0, 0.0]);
    check("0x 0ax 1a 1x", &[0.0, 0.0, 0.0, 100.0]);
    // Backups after everything, and in their own order.
    check("0 0x 1x 0b 0b", &[100.0, 0.0, 0.0]);
    check("0x 1x 0b 1b 0bx", &[0.0, 0.0, 70.0, 30.0]);
    // Health is ignored where all together bear less than everything.
    check("0s 0s 0s 1 1", &[0.0, 100.0]);
    check("0 0s 0s 0s 1s 1s 1s 1", &[50.0, 50.0]);
    check("0s 1s", &[100.0, 0.0]);
}

#[test]
fn a_retry_stays_in_its_tier_and_then_goes_in_order() {
    let all = candidates("0 0x 1 1 2 0b");
    let check = |tried: &[u16], expected: &[u16]| {
        for algorithm in ALGORITHMS {
            let plan = plan(algorithm, &all);
            let (mut picker, loads) = (Picker::new(5), Counters::idle(6));
            let keys = (0..400_u32).map(|pick| hash::bytes(&pick.to_le_bytes()));
            let mut met: Vec<u16> = keys.filter_map(|key| picker.pick(&plan, Request { key, tried }, &loads)).collect();
            met.sort_unstable();
            met.dedup();
            assert_eq!(met, expected, "{algorithm:?}, tried {tried:?}");
        }
    };
    // 70 % to the only one of the first tier, 30 % to the second.
    check(&[], &[0, 2, 3]);
    check(&[0], &[2, 3]);
    check(&[2], &[0, 3]);
    check(&[0, 2], &[3]);
    check(&[0, 2, 3], &[4]);
    check(&[0, 2, 3, 4], &[5]);
    check(&[0, 2, 3, 4, 5], &[0, 2, 3]);
}

#[test]
fn what_is_told_of_a_member_of_any_tier_arrives() {
    // The picks of a second tier with a load of its own: the idle one of its members is found by what touch told.
    let plan = plan(Algorithm::LeastConnections, &candidates("0x 0x 0x 0 1 1"));
    let (mut picker, loads) = (Picker::new(0), Counters::idle(6));
    let mut held = Vec::new();
    for _ in 0..100 {
        let position = picker.pick(&plan, FIRST, &loads).unwrap();
        loads.begin(position);
        held.push(position);
    }
    let of = |position: u16| held.iter().filter(|&&other| other == position).count();
    assert_eq!((of(3), of(4), of(5)), (35, 33, 32));
    for _ in 0..of(5) {
        loads.end(5);
        picker.touch(&plan, 5, &loads);
    }
    for _ in 0..40 {
        let position = picker.pick(&plan, FIRST, &loads).unwrap();
        assert_ne!(position, 4, "5 has nothing to do");
        loads.begin(position);
    }
}

#[test]
fn a_core_keeps_what_it_knows_when_traffic_begins_and_ends_to_spill() {
    let spilling = plan(Algorithm::LeastConnections, &candidates("0 0x 1 1"));
    let whole = plan(Algorithm::LeastConnections, &candidates("0 0 1 1"));
    let (mut picker, loads) = (Picker::new(9), Counters::idle(4));
    let mut held = Vec::new();
    for pick in 0..400_u32 {
        let plan = if pick / 20 % 2 == 0 { &spilling } else { &whole };
        let position = picker.pick(plan, FIRST, &loads).unwrap();
        loads.begin(position);
        held.push((pick, position));
        // Requests end under another plan than they began under.
        if held.len() > 30 {
            let (begun, position) = held.remove(0);
            loads.end(position);
            picker.touch(if begun / 20 % 2 == 0 { &spilling } else { &whole }, position, &loads);
        }
    }
    assert_eq!(loads.in_flight.iter().map(std::cell::Cell::get).sum::<u32>(), 30);
}

/// Where keys are, by id.
fn owners(algorithm: Algorithm, candidates: &[Candidate], seed: u64) -> Vec<u64> {
    let plan = plan(algorithm, candidates);
    let (mut picker, loads) = (Picker::new(seed), Counters::idle(plan.len()));
    let keys = (0..3_000_u32).map(|key| hash::bytes(&key.to_le_bytes()));
    let pick =
        |key| plan.candidates()[usize::from(picker.pick(&plan, Request { key, tried: &[] }, &loads).unwrap())].id;
    keys.map(pick).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_key_moves_only_if_its_endpoint_is_out_or_its_share_spills(
        algorithm in prop::sample::select(vec![Algorithm::Ring, Algorithm::Maglev]),
        first in 2..12_usize, second in 1..8_usize, out in 1..12_usize,
    ) {
        let mut all = candidates(&"0 ".repeat(first));
        all.extend(candidates(&"1 ".repeat(first + second)).into_iter().skip(first));
        let before = owners(algorithm, &all, 1);
        prop_assert_eq!(&before, &owners(algorithm, &all, 2), "cores disagree");
        let out = out.min(first);
        for candidate in &mut all[..out] {
            candidate.availability = Availability::Unavailable;
        }
        let after = owners(algorithm, &all, 1);
        let tier_of = |id: u64| all.iter().find(|candidate| candidate.id == id).unwrap().priority;
        let is_out = |id: u64| all[..out].iter().any(|candidate| candidate.id == id);
        let mut spilled = 0;
        for (before, after) in before.iter().zip(&after) {
            if tier_of(*after) == 1 {
                spilled += 1;
            } else {
                prop_assert!(before == after || is_out(*before));
            }
        }
        let expected = (1.0 - 1.4 * (first - out) as f64 / first as f64).max(0.0);
        let found = f64::from(spilled) / 3_000.0;
        prop_assert!((found - expected).abs() <= 0.05, "{} spilled, not {}", found, expected);
        for candidate in &mut all[..out] {
            candidate.availability = Availability::Available;
        }
        prop_assert_eq!(before, owners(algorithm, &all, 1));
    }

    #[test]
    fn shares_are_of_a_whole_and_follow_health(
        tiers in prop::collection::vec((1..20_u64, 0..20_u64), 1..6), better: prop::sample::Index,
    ) {
        let shares = |tiers: &[(u64, u64)]| {
            let words = tiers.iter().enumerate().flat_map(|(priority, &(all, well))| {
                (0..all).map(move |index| format!("{priority}{}", if index < well { "" } else { "x" }))
            });
            let plan = plan(Algorithm::Random, &candidates(&words.collect::<Vec<_>>().join(" ")));
            plan.shares().map(|(_, share)| share).collect::<Vec<f64>>()
        };
        let before = shares(&tiers);
        let sum: f64 = before.iter().sum();
        let none = tiers.iter().all(|&(_, well)| well == 0);
        prop_assert!((sum - if none { 0.0 } else { 1.0 }).abs() < 1e-9, "{:?}", before);
        // One more that is well never costs its tier traffic, nor brings any to the others.
        let better = better.index(tiers.len());
        let mut grown = tiers.clone();
        grown[better].1 += 1;
        for (tier, (before, after)) in before.iter().zip(shares(&grown)).enumerate() {
            let fits = if tier == better { after >= before - 1e-9 } else { none || after <= before + 1e-9 };
            prop_assert!(fits, "{:?} to {:?} in tier {}", before, after, tier);
        }
    }
}
