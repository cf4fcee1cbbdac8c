//! What holds for every algorithm and any candidates, against a model that lists who may be picked.

use std::collections::BTreeSet;

use balance::{Algorithm, Availability, Candidate, Picker, Plan, Rank, Request};
use proptest::prelude::*;

use crate::scene::{ALGORITHMS, Counters, shares};

fn candidate() -> impl Strategy<Value = Candidate> {
    let availability = prop_oneof![
        4 => Just(Availability::Available),
        1 => Just(Availability::Draining),
        1 => Just(Availability::Suspect),
        2 => Just(Availability::Unavailable),
    ];
    let weight = prop_oneof![1 => Just(0), 4 => 1..2_000_u32, 1 => Just(256), 1 => any::<u32>()];
    let rank = (0..3_u8, prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    (any::<u64>(), weight, rank, availability).prop_map(|(id, weight, (priority, away, backup), availability)| {
        Candidate { id, weight, priority, away, backup, availability }
    })
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(ALGORITHMS.to_vec())
}

/// Ranks in order, each with its positions that may be used, and whether it gets traffic.
fn tiers(candidates: &[Candidate]) -> Vec<(Vec<u16>, bool)> {
    let ranks: BTreeSet<Rank> = candidates.iter().map(Candidate::rank).collect();
    let sum = |rank: &Rank, which: &[Availability]| -> f64 {
        let of_rank = candidates.iter().filter(|c| c.rank() == *rank && which.contains(&c.availability));
        of_rank.map(|c| f64::from(c.weight)).sum()
    };
    let all = [Availability::Available, Availability::Suspect, Availability::Draining, Availability::Unavailable];
    let well = |rank: &Rank| match sum(rank, &all) {
        0.0 => 0.0,
        total => (1.4 * sum(rank, &all[..1]) / total).min(1.0),
    };
    let first_choice = || ranks.iter().filter(|rank| !rank.backup);
    let bear_all = first_choice().map(well).sum::<f64>() >= 1.0;
    let usable = if first_choice().count() > 1 && bear_all { &all[..1] } else { &all[..2] };
    // Those that are well, of the first choice and then of the backups; suspects where nobody is.
    let mut borne = 0.0;
    let mut group_with = |group: bool, which: &[Availability]| -> Vec<bool> {
        let of_group = ranks.iter().map(|rank| (rank, rank.backup == group && sum(rank, which) > 0.0));
        let gets = |(rank, loaded): (&Rank, bool)| {
            let gets = loaded && borne < 1.0;
            borne += if loaded { (1.4 * sum(rank, which) / sum(rank, &all)).min(1.0) } else { 0.0 };
            gets
        };
        of_group.map(gets).collect()
    };
    let mut traffic = Vec::new();
    for (group, which) in [(false, &all[..1]), (false, usable), (true, &all[..1]), (true, usable)] {
        if !traffic.contains(&true) {
            traffic = group_with(group, which);
        }
    }
    let members = |rank: &Rank| -> Vec<u16> {
        let is_usable = |c: &Candidate| c.rank() == *rank && c.weight > 0 && usable.contains(&c.availability);
        (0..candidates.len() as u16).filter(|&position| is_usable(&candidates[usize::from(position)])).collect()
    };
    ranks.iter().zip(traffic).map(|(rank, gets)| (members(rank), gets)).collect()
}

/// Positions that a pick may give.
fn permitted(candidates: &[Candidate], tried: &[u16]) -> BTreeSet<u16> {
    let tiers = tiers(candidates);
    let last = &tried[tried.len().saturating_sub(1)..];
    for excluded in [tried, last, &[]] {
        let left = |members: &[u16]| -> Vec<u16> {
            members.iter().copied().filter(|position| !excluded.contains(position)).collect()
        };
        let Some(first) = tiers.iter().map(|(members, _)| left(members)).find(|left| !left.is_empty()) else {
            continue;
        };
        // Whichever tier the request belongs to, if it has anyone left.
        let belongs = tiers.iter().filter(|(_, gets)| *gets).map(|(members, _)| left(members));
        return belongs.flat_map(|left| if left.is_empty() { first.clone() } else { left }).collect();
    }
    BTreeSet::new()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn picks_whom_the_rules_permit(
        algorithm in algorithm(),
        plans in prop::collection::vec(prop::collection::vec(candidate(), 0..25), 1..4),
        requests in prop::collection::vec((any::<u64>(), prop::collection::vec(0..25_u16, 0..6)), 1..40),
        seed: u64,
        factor in prop::option::of(1.0..3.0_f64),
    ) {
        // One picker outlives several plans, loads change under it, and requests of old plans end late.
        let mut picker = Picker::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut old: Option<Plan> = None;
        for candidates in plans {
            let loads = Counters::idle(25);
            let plan = Plan::with_load_factor(algorithm, factor, candidates.clone()).unwrap();
            for (key, tried) in &requests {
                let found = picker.pick(&plan, Request { key: *key, tried }, &loads);
                let permitted = permitted(&candidates, tried);
                match found {
                    Some(position) => {
                        prop_assert!(permitted.contains(&position), "{} is not among {:?}", position, permitted);
                        loads.begin(position);
                    }
                    None => prop_assert!(permitted.is_empty(), "none, though there are {:?}", permitted),
                }
                loads.in_flight[random.usize(0..25)].set(random.u32(0..4));
                loads.latency_micros[random.usize(0..25)].set(random.f32() * 1e5);
                picker.touch(old.as_ref().unwrap_or(&plan), random.u16(0..25), &loads);
            }
            old = Some(plan);
        }
    }

    #[test]
    fn shares_follow_the_weights(
        algorithm in prop::sample::select(vec![
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::Random,
            Algorithm::Maglev,
        ]),
        weights in prop::collection::vec(1..10_u32, 1..12),
        seed: u64,
    ) {
        let plan = Plan::new(algorithm, crate::scene::candidates(&weights)).unwrap();
        let picks = 20_000;
        let counts = shares(&plan, &mut Picker::new(seed), picks);
        let total: u32 = weights.iter().sum();
        for (&weight, &count) in weights.iter().zip(&counts) {
            let share = f64::from(weight) / f64::from(total);
            let expected = share * picks as f64;
            // Six standard deviations where chance decides, and Maglev's rounding to slots.
            let off = 6.0 * (expected * (1.0 - share)).sqrt() + expected * 0.005 + 2.0;
            prop_assert!((count as f64 - expected).abs() <= off, "weights {:?}: {:?}", weights, counts);
        }
    }
}
