//! Least connections: exact on one core, nearly exact over many, and fair among equals.

use balance::{Algorithm, Picker, Request};
use proptest::prelude::*;

use crate::scene::{Counters, FIRST, candidates, plan};

/// Whether the load of `a` is at most that of `b`, without rounding.
fn at_most(loads: &Counters, weights: &[u32], a: usize, b: usize) -> bool {
    let load = |index: usize| u64::from(loads.in_flight[index].get());
    load(a) * u64::from(weights[b]) <= load(b) * u64::from(weights[a])
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pick,
    Retry { tried: u16 },
    End { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Pick),
        1 => (0..12_u16).prop_map(|tried| Step::Retry { tried }),
        3 => any::<usize>().prop_map(|nth| Step::End { nth }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn one_core_always_picks_the_least_loaded(
        weights in prop::collection::vec(1..6_u32, 1..40),
        steps in prop::collection::vec(step(), 1..300),
        seed: u64,
    ) {
        let plan = plan(Algorithm::LeastConnections, &candidates(&weights));
        let (mut picker, loads) = (Picker::new(seed), Counters::idle(weights.len()));
        let mut under_way: Vec<u16> = Vec::new();
        for step in steps {
            let tried = match step {
                Step::Pick => [u16::MAX],
                Step::Retry { tried } => [tried % weights.len() as u16],
                Step::End { .. } if under_way.is_empty() => continue,
                Step::End { nth } => {
                    let ended = under_way.swap_remove(nth % under_way.len());
                    loads.end(ended);
                    picker.touch(&plan, ended, &loads);
                    continue;
                }
            };
            let request = if tried[0] == u16::MAX { FIRST } else { Request { key: 0, tried: &tried } };
            let picked = picker.pick(&plan, request, &loads).unwrap();
            let others = (0..weights.len()).filter(|&other| request.tried != [other as u16]);
            for other in others {
                prop_assert!(
                    at_most(&loads, &weights, usize::from(picked), other),
                    "{} was picked, but {} has less: {:?} on {:?}", picked, other, loads.in_flight, weights
                );
            }
            loads.begin(picked);
            under_way.push(picked);
        }
    }

    #[test]
    fn equals_take_turns_by_least_recent_pick(
        len in 2..16_usize,
        ends in prop::collection::vec(prop::option::of(any::<usize>()), 1..60),
    ) {
        let plan = plan(Algorithm::LeastConnections, &candidates(&vec![1; len]));
        let (mut picker, loads) = (Picker::new(0), Counters::idle(len));
        // When each was picked last; those that never were are the least recent, in their order.
        let mut last_picked: Vec<i64> = (0..len as i64).map(|index| index - len as i64).collect();
        let mut under_way: Vec<u16> = Vec::new();
        for (now, end) in ends.into_iter().enumerate() {
            let expected = (0..len).min_by_key(|&index| (loads.in_flight[index].get(), last_picked[index])).unwrap();
            let picked = picker.pick(&plan, FIRST, &loads).unwrap();
            prop_assert_eq!(usize::from(picked), expected, "{:?}, picked at {:?}", loads.in_flight, last_picked);
            last_picked[expected] = now as i64;
            loads.begin(picked);
            under_way.push(picked);
            if let Some(nth) = end {
                let ended = under_way.swap_remove(nth % under_way.len());
                loads.end(ended);
                picker.touch(&plan, ended, &loads);
            }
        }
    }
}

#[test]
fn an_idle_service_is_used_by_weight() {
    let plan = plan(Algorithm::LeastConnections, &candidates(&[3, 1]));
    let (mut picker, loads) = (Picker::new(0), Counters::idle(2));
    let mut counts = [0; 2];
    for _ in 0..400 {
        let picked = picker.pick(&plan, FIRST, &loads).unwrap();
        loads.begin(picked);
        loads.end(picked);
        picker.touch(&plan, picked, &loads);
        counts[usize::from(picked)] += 1;
    }
    assert_eq!(counts, [300, 100]);
}

#[test]
fn what_other_cores_did_is_seen_within_half_as_many_picks_as_members() {
    let plan = plan(Algorithm::LeastConnections, &candidates(&[1; 40]));
    for freed in 0..40 {
        let (mut picker, loads) = (Picker::new(0), Counters::idle(40));
        loads.in_flight.iter().for_each(|count| count.set(30));
        picker.pick(&plan, FIRST, &loads).map(|picked| loads.begin(picked)).unwrap();
        // Another core's requests have ended.
        loads.in_flight[freed].set(0);
        let seen = (0..20).any(|_| {
            let picked = picker.pick(&plan, FIRST, &loads).unwrap();
            loads.begin(picked);
            usize::from(picked) == freed
        });
        assert!(seen, "endpoint {freed} was not picked in 20 picks");
    }
}

#[test]
fn a_winner_that_other_cores_have_loaded_meanwhile_is_not_picked() {
    let plan = plan(Algorithm::LeastConnections, &candidates(&[1; 10]));
    let (mut picker, loads) = (Picker::new(0), Counters::idle(10));
    picker.pick(&plan, FIRST, &loads).map(|picked| loads.begin(picked)).unwrap();
    // The next in turn is 1, and its live load is not to be overlooked.
    loads.in_flight[1].set(50);
    loads.in_flight[2].set(50);
    assert_eq!(picker.pick(&plan, FIRST, &loads), Some(3));
}

#[test]
fn many_cores_come_close_to_the_exact_choice() {
    const CORES: usize = 8;
    const ENDPOINTS: usize = 20;
    let plan = plan(Algorithm::LeastConnections, &candidates(&[1; ENDPOINTS]));
    let loads = Counters::idle(ENDPOINTS);
    let mut pickers: Vec<Picker> = (0..CORES as u64).map(Picker::new).collect();
    let mut under_way: Vec<(usize, u16)> = Vec::new();
    let mut random = fastrand::Rng::with_seed(17);
    let (mut worst, mut sum) = (0, 0);
    for pick in 0..50_000 {
        let core = random.usize(0..CORES);
        let picked = pickers[core].pick(&plan, FIRST, &loads).unwrap();
        loads.begin(picked);
        under_way.push((core, picked));
        if under_way.len() > 200 {
            let (core, ended) = under_way.swap_remove(random.usize(0..under_way.len()));
            loads.end(ended);
            pickers[core].touch(&plan, ended, &loads);
        }
        if pick > 1_000 {
            let counts = loads.in_flight.iter().map(|count| count.get());
            let spread = counts.clone().max().unwrap() - counts.min().unwrap();
            worst = worst.max(spread);
            sum += u64::from(spread);
        }
    }
    // Ten each on average. Random picks would spread by about twelve, always.
    let mean = sum as f64 / 49_000.0;
    assert!(worst <= 8 && mean < 4.0, "the largest spread is {worst}, the mean {mean}");
}

#[test]
fn a_new_plan_keeps_turns_and_reads_all_loads() {
    let all = candidates(&[1; 6]);
    let (mut picker, loads) = (Picker::new(0), Counters::idle(6));
    let first = plan(Algorithm::LeastConnections, &all[..4]);
    let take = |picker: &mut Picker, plan: &balance::Plan, loads: &Counters| {
        let picked = picker.pick(plan, FIRST, loads).unwrap();
        plan.candidates()[usize::from(picked)].id
    };
    // Idle: 0 and 1 had their turns.
    assert_eq!([all[0].id, all[1].id], [0; 2].map(|_| take(&mut picker, &first, &loads)));
    // Candidate 0 has gone, positions have shifted, and the turns of the others are as before; all are idle.
    let second = plan(Algorithm::LeastConnections, &all[1..4]);
    assert_eq!([2, 3, 1].map(|index| all[index].id), [0; 3].map(|_| take(&mut picker, &second, &loads)));
    // The load of a plan's members is known from its first pick on.
    loads.in_flight[0].set(9);
    loads.in_flight[1].set(9);
    loads.in_flight[2].set(1);
    let third = plan(Algorithm::LeastConnections, &all[1..4]);
    assert_eq!(take(&mut picker, &third, &loads), all[3].id);
}

#[test]
fn a_request_of_an_older_plan_may_end_late() {
    let all = candidates(&[1; 40]);
    let (old, new) = (plan(Algorithm::LeastConnections, &all), plan(Algorithm::LeastConnections, &all[20..]));
    let mut picker = Picker::new(0);
    let (old_loads, new_loads) = (Counters::idle(40), Counters::idle(20));
    new_loads.in_flight.iter().for_each(|count| count.set(5));
    picker.pick(&old, FIRST, &old_loads).unwrap();
    picker.pick(&new, FIRST, &new_loads).unwrap();
    // Candidate 35 of the old plan is 15 of the new; the live number is one and the same.
    old_loads.in_flight[35].set(0);
    new_loads.in_flight[15].set(0);
    picker.touch(&old, 35, &old_loads);
    assert_eq!(picker.pick(&new, FIRST, &new_loads), Some(15));
    // One that has gone, and a position that never was.
    picker.touch(&old, 3, &old_loads);
    picker.touch(&old, 60_000, &old_loads);
}
