//! Hashing with bounded loads: who is passed over, for whom, and what a key keeps.

use std::cell::Cell;

use balance::{Algorithm, Availability, Candidate, Picker, Plan, Request, hash};
use proptest::prelude::*;

use crate::scene::{Counters, candidates};

const HASHED: [Algorithm; 2] = [Algorithm::Ring, Algorithm::Maglev];

fn bounded(algorithm: Algorithm, factor: f64, candidates: &[Candidate]) -> Plan {
    Plan::with_load_factor(algorithm, Some(factor), candidates.to_vec()).unwrap()
}

fn key(number: u64) -> u64 {
    hash::bytes(&number.to_le_bytes())
}

/// Where requests of a key go without bounds when each is tried again: the order of preference.
fn order(algorithm: Algorithm, candidates: &[Candidate], key: u64) -> Vec<u16> {
    let plan = Plan::new(algorithm, candidates.to_vec()).unwrap();
    let (mut picker, loads) = (Picker::new(0), Counters::idle(plan.len()));
    let mut tried = Vec::new();
    while let Some(position) = picker.pick(&plan, Request { key, tried: &tried }, &loads) {
        if tried.contains(&position) {
            break;
        }
        tried.push(position);
    }
    tried
}

/// How many requests each may have when there are `total` already.
fn most(candidates: &[Candidate], factor: f64, total: u32) -> Vec<u32> {
    let eligible = |candidate: &&Candidate| candidate.availability == Availability::Available;
    let weights: u32 = candidates.iter().filter(eligible).map(|candidate| candidate.weight).sum();
    let bound = |candidate: &Candidate| {
        // A hair less, so that rounding does not make one of nothing.
        (factor * f64::from(candidate.weight) / f64::from(weights) * f64::from(total + 1) - 1e-9).ceil() as u32
    };
    candidates.iter().map(bound).collect()
}

#[test]
fn while_there_is_room_nothing_changes() {
    let all = candidates(&[1, 2, 1, 3, 1]);
    for algorithm in HASHED {
        let (free, plan) = (Plan::new(algorithm, all.clone()).unwrap(), bounded(algorithm, 1.25, &all));
        let loads = Counters::idle(5);
        for number in 0..500 {
            let request = Request { key: key(number), tried: &[] };
            let pick = |plan: &Plan| Picker::new(number).pick(plan, request, &loads);
            assert_eq!(pick(&plan), pick(&free), "{algorithm:?}");
        }
    }
}

#[test]
fn one_hot_key_fills_the_same_few_in_order() {
    for algorithm in HASHED {
        let all = candidates(&[1; 10]);
        let plan = bounded(algorithm, 1.5, &all);
        let (mut picker, loads) = (Picker::new(1), Counters::idle(10));
        for _ in 0..100 {
            let position = picker.pick(&plan, Request { key: 7, tried: &[] }, &loads).unwrap();
            loads.begin(position);
        }
        // 15 each; the last place is not needed.
        let found: Vec<u32> =
            order(algorithm, &all, 7).iter().map(|&p| loads.in_flight[usize::from(p)].get()).collect();
        assert_eq!(found[..6], [15; 6], "{algorithm:?}");
        assert_eq!((found[6], found[7..].iter().sum::<u32>()), (10, 0), "{algorithm:?}");
    }
}

#[test]
fn a_retry_also_minds_the_bounds() {
    for algorithm in HASHED {
        let all = candidates(&[1; 5]);
        let plan = bounded(algorithm, 1.25, &all);
        let order = order(algorithm, &all, 42);
        let loads = Counters::idle(5);
        loads.in_flight[usize::from(order[1])].set(9);
        let pick = |tried: &[u16]| Picker::new(3).pick(&plan, Request { key: 42, tried }, &loads);
        assert_eq!(pick(&[]), Some(order[0]), "{algorithm:?}");
        assert_eq!(pick(&[order[0]]), Some(order[2]), "{algorithm:?}");
        // Rather a full one than none, and rather an untried one.
        assert_eq!(pick(&[order[0], order[2], order[3], order[4]]), Some(order[1]), "{algorithm:?}");
    }
}

#[test]
fn cores_that_share_endpoints_keep_the_bounds_nearly() {
    // Four cores, each with a view of its own; half of the requests are for one key, and each lasts for 300 others.
    for algorithm in HASHED {
        let all = candidates(&[1; 40]);
        let plan = bounded(algorithm, 1.25, &all);
        let loads = Counters::idle(40);
        let mut pickers: Vec<Picker> = (0..4).map(Picker::new).collect();
        let mut random = fastrand::Rng::with_seed(11);
        let mut under_way = std::collections::VecDeque::new();
        let mut highest = 0;
        for _ in 0..20_000 {
            let core = random.usize(0..4);
            let hot = random.bool();
            let request = Request { key: if hot { 1 } else { random.u64(..) }, tried: &[] };
            let position = pickers[core].pick(&plan, request, &loads).unwrap();
            loads.begin(position);
            under_way.push_back((core, position));
            if under_way.len() > 300 {
                let (core, ended) = under_way.pop_front().unwrap();
                loads.end(ended);
                pickers[core].touch(&plan, ended, &loads);
                highest = highest.max(loads.in_flight.iter().map(Cell::get).max().unwrap());
            }
        }
        // 300 over 40 are 7.5 each, times 1.25 are 9.4: ten, and one more for sums that lag behind.
        assert!(highest <= 11, "{algorithm:?}: {highest}");
    }
}

#[test]
fn what_other_plans_knew_does_no_harm() {
    // From plan to plan of other kinds, with requests that end under a later plan than they began under.
    let all = candidates(&[1; 6]);
    let plans = [
        bounded(Algorithm::Ring, 1.25, &all),
        Plan::new(Algorithm::LeastConnections, all.clone()).unwrap(),
        bounded(Algorithm::Maglev, 2.0, &all[..3]),
        Plan::new(Algorithm::Maglev, all.clone()).unwrap(),
        bounded(Algorithm::Maglev, 1.1, &[]),
        bounded(Algorithm::Maglev, 1.1, &all),
    ];
    let (mut picker, loads) = (Picker::new(0), Counters::idle(6));
    for round in 0..60_usize {
        let (plan, older) = (&plans[round % 6], &plans[(round + 5) % 6]);
        let tried = [round as u16 % 3];
        let request = Request { key: key(round as u64), tried: &tried[..round % 2] };
        assert_eq!(picker.pick(plan, request, &loads).is_none(), plan.is_empty());
        (0..6).for_each(|position| picker.touch(older, position, &loads));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_core_picks_the_first_in_order_with_room(
        algorithm in prop::sample::select(HASHED.to_vec()),
        weights in prop::collection::vec(1..5_u32, 1..12),
        out in prop::collection::vec(prop::bool::weighted(0.2), 12),
        factor in 1.05..3.0_f64,
        requests in prop::collection::vec((0..8_u64, 0..40_usize), 1..150),
    ) {
        let mut all = candidates(&weights);
        for (candidate, out) in all.iter_mut().zip(out) {
            candidate.availability = if out { Availability::Unavailable } else { Availability::Available };
        }
        let plan = bounded(algorithm, factor, &all);
        let orders: Vec<Vec<u16>> = (0..8).map(|number| order(algorithm, &all, key(number))).collect();
        let (mut picker, loads) = (Picker::new(5), Counters::idle(all.len()));
        let mut under_way = Vec::new();
        for (number, ended) in requests {
            let total = under_way.len() as u32;
            let most = most(&all, factor, total);
            let has_room = |&&position: &&u16| loads.in_flight[usize::from(position)].get() < most[usize::from(position)];
            let order = &orders[number as usize];
            let expected = order.iter().find(has_room).copied();
            prop_assert!(expected.is_some() || order.is_empty(), "somebody always has room");
            let found = picker.pick(&plan, Request { key: key(number), tried: &[] }, &loads);
            prop_assert_eq!(found, expected, "{:?} of {:?}", order, loads.in_flight);
            if let Some(position) = found {
                loads.begin(position);
                under_way.push(position);
            }
            if ended < under_way.len() {
                let position = under_way.swap_remove(ended);
                loads.end(position);
                picker.touch(&plan, position, &loads);
            }
        }
    }
}
