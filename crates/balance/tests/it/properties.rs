//! What holds for every algorithm and any candidates, against a model that lists who may be picked.

use balance::{Algorithm, Availability, Candidate, Picker, Plan, Request};
use proptest::prelude::*;

use crate::scene::{ALGORITHMS, Counters, shares};

fn candidate() -> impl Strategy<Value = Candidate> {
    let availability = prop_oneof![
        4 => Just(Availability::Available),
        1 => Just(Availability::Draining),
        2 => Just(Availability::Unavailable),
    ];
    let weight = prop_oneof![1 => Just(0), 4 => 1..2_000_u32, 1 => Just(256), 1 => any::<u32>()];
    (any::<u64>(), weight, prop::bool::weighted(0.3), availability)
        .prop_map(|(id, weight, backup, availability)| Candidate { id, weight, backup, availability })
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(ALGORITHMS.to_vec())
}

/// Positions that a pick may give.
fn permitted(candidates: &[Candidate], tried: &[u16]) -> Vec<u16> {
    let eligible = |backup: bool| -> Vec<u16> {
        (0..candidates.len() as u16)
            .filter(|&position| {
                let candidate = &candidates[usize::from(position)];
                candidate.backup == backup && candidate.weight > 0 && candidate.availability == Availability::Available
            })
            .collect()
    };
    let without = |tier: Vec<u16>, excluded: &[u16]| -> Vec<u16> {
        tier.into_iter().filter(|position| !excluded.contains(position)).collect()
    };
    let last = &tried[tried.len().saturating_sub(1)..];
    [tried, last, &[]]
        .into_iter()
        .flat_map(|excluded| [false, true].map(|backup| without(eligible(backup), excluded)))
        .find(|tier| !tier.is_empty())
        .unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]
    #[test]
    fn picks_whom_the_rules_permit(
        algorithm in algorithm(),
        plans in prop::collection::vec(prop::collection::vec(candidate(), 0..25), 1..4),
        requests in prop::collection::vec((any::<u64>(), prop::collection::vec(0..25_u16, 0..6)), 1..40),
        seed: u64,
    ) {
        // One picker outlives several plans, loads change under it, and requests of old plans end late.
        let mut picker = Picker::new(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut old: Option<Plan> = None;
        for candidates in plans {
            let loads = Counters::idle(25);
            let plan = Plan::new(algorithm, candidates).unwrap();
            for (key, tried) in &requests {
                let found = picker.pick(&plan, Request { key: *key, tried }, &loads);
                let permitted = permitted(plan.candidates(), tried);
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
