//! Ring and Maglev: shares, stability, and how little moves.

use balance::maglev::{Permutation, populate};
use balance::{Algorithm, Availability, Candidate, Picker, Plan, Request, hash};
use proptest::prelude::*;

use crate::scene::{Counters, candidates, plan};

/// The ids that some keys are sent to.
fn owners(plan: &Plan, keys: u64) -> Vec<u64> {
    let (mut picker, loads) = (Picker::new(0), Counters::idle(plan.len()));
    (0..keys)
        .map(|key| {
            let request = Request { key: hash::bytes(&key.to_le_bytes()), tried: &[] };
            plan.candidates()[usize::from(picker.pick(plan, request, &loads).unwrap())].id
        })
        .collect()
}

#[test]
fn maglev_gives_the_tables_of_its_paper() {
    // Table 1 and figure 4: offsets 3, 0, 3 and skips 4, 2, 1 in a table of 7.
    let backend = |(offset, skip)| Permutation { offset, skip, weight: 1 };
    let backends = [(3, 4), (0, 2), (3, 1)].map(backend);
    assert_eq!(populate(7, &backends), [1, 0, 1, 0, 2, 2, 0]);
    // Without B1; B2 is the second of the two that are left.
    assert_eq!(populate(7, &[backends[0], backends[2]]), [0, 0, 0, 0, 1, 1, 1]);
    assert_eq!(populate(7, &[]), [0; 0]);
}

#[test]
fn maglev_slots_follow_the_weights() {
    let check = |weights: &[u32], size: usize, expected: &[usize]| {
        let permutations: Vec<_> =
            weights.iter().enumerate().map(|(id, &weight)| Permutation::of(id as u64, weight, size)).collect();
        let table = populate(size, &permutations);
        let found: Vec<usize> = (0..weights.len())
            .map(|backend| table.iter().filter(|&&slot| usize::from(slot) == backend).count())
            .collect();
        assert_eq!(found.iter().sum::<usize>(), size);
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.abs_diff(*expected) <= 1, "{weights:?} in {size}: {found} slots, not {expected}");
        }
    };
    check(&[1, 1, 1], 65_537, &[21_846, 21_846, 21_846]);
    check(&[256, 512, 256], 1_009, &[252, 505, 252]);
    check(&[1, 100], 1_009, &[10, 999]);
    check(&[u32::MAX, 1], 101, &[100, 1]);
    // More backends than slots: the first get one each.
    check(&[1; 9], 7, &[1, 1, 1, 1, 1, 1, 1, 0, 0]);
}

#[test]
fn a_file_may_list_its_endpoints_in_any_order() {
    let all = candidates(&[1, 3, 2, 1, 5, 1, 1, 1, 1, 1, 1]);
    let mut shuffled = all.clone();
    shuffled.reverse();
    shuffled.swap(1, 3);
    for algorithm in [Algorithm::Ring, Algorithm::Maglev] {
        // Enough keys to meet nearly every slot: few would change hands.
        let (before, after) = (owners(&plan(algorithm, &all), 300_000), owners(&plan(algorithm, &shuffled), 300_000));
        assert!(before == after, "{algorithm:?}");
    }
}

#[test]
fn a_key_has_one_endpoint_for_ever() {
    // These values bind every release: another one would empty the caches behind a service of ours at an upgrade.
    let position = |algorithm, key: &[u8]| {
        let plan = plan(algorithm, &candidates(&[1; 10]));
        Picker::new(0).pick(&plan, Request { key: hash::bytes(key), tried: &[] }, &Counters::idle(10)).unwrap()
    };
    let keys: [&[u8]; 6] = [b"/", b"/index.html", b"alice", b"bob", b"10.1.2.3", b""];
    assert_eq!(keys.map(|key| position(Algorithm::Ring, key)), RING);
    assert_eq!(keys.map(|key| position(Algorithm::Maglev, key)), MAGLEV);
}

const RING: [u16; 6] = [8, 8, 6, 3, 6, 8];
const MAGLEV: [u16; 6] = [3, 7, 5, 8, 8, 2];

#[test]
fn shares_follow_the_weights() {
    let check = |algorithm, weights: &[u32], tolerance: f64| {
        let plan = plan(algorithm, &candidates(weights));
        let owners = owners(&plan, 100_000);
        let total: u32 = weights.iter().sum();
        for (candidate, &weight) in plan.candidates().iter().zip(weights) {
            let found = owners.iter().filter(|&&id| id == candidate.id).count() as f64 / 100_000.0;
            let expected = f64::from(weight) / f64::from(total);
            let off = (found - expected).abs() / expected.max(1e-9);
            assert!(off <= tolerance, "{algorithm:?} {weights:?}: {found}, not {expected}");
        }
    };
    // 160 points spread by 8 % (one standard deviation), Maglev by sampling alone.
    check(Algorithm::Ring, &[1; 10], 0.25);
    check(Algorithm::Ring, &[1, 2, 4, 8], 0.25);
    check(Algorithm::Ring, &[1000, 2000, 3000], 0.05);
    check(Algorithm::Maglev, &[1; 10], 0.05);
    check(Algorithm::Maglev, &[1, 2, 4, 8], 0.07);
    check(Algorithm::Maglev, &[1000, 2000, 3000], 0.03);
}

#[test]
fn a_retry_of_a_key_goes_to_the_same_next_one() {
    for algorithm in [Algorithm::Ring, Algorithm::Maglev] {
        let plan = plan(algorithm, &candidates(&[1; 20]));
        let loads = Counters::idle(20);
        for key in 0..500 {
            let pick = |seed, tried: &[u16]| Picker::new(seed).pick(&plan, Request { key, tried }, &loads).unwrap();
            let first = pick(1, &[]);
            let second = pick(1, &[first]);
            let third = pick(1, &[first, second]);
            assert!(first != second && second != third && first != third);
            assert_eq!((second, third), (pick(2, &[first]), pick(2, &[first, second])), "{algorithm:?}");
        }
    }
}

fn hashed() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(vec![Algorithm::Ring, Algorithm::Maglev])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn only_the_keys_of_who_is_out_move(
        algorithm in hashed(), weights in prop::collection::vec(1..5_u32, 2..30), out: prop::sample::Index,
    ) {
        let mut all = candidates(&weights);
        let before = owners(&plan(algorithm, &all), 2_000);
        let out = out.index(all.len());
        for availability in [Availability::Unavailable, Availability::Draining] {
            all[out].availability = availability;
            let after = owners(&plan(algorithm, &all), 2_000);
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(before == after || *before == all[out].id);
                prop_assert!(*after != all[out].id);
            }
        }
    }

    #[test]
    fn who_leaves_moves_its_own_keys_and_hardly_others(
        algorithm in hashed(), weights in prop::collection::vec(1..5_u32, 3..30), gone: prop::sample::Index,
    ) {
        let all = candidates(&weights);
        let gone = gone.index(all.len());
        let left: Vec<Candidate> =
            all.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, candidate)| *candidate).collect();
        let (before, after) = (owners(&plan(algorithm, &all), 4_000), owners(&plan(algorithm, &left), 4_000));
        let moved = before.iter().zip(&after).filter(|(before, after)| {
            before != after && **before != all[gone].id
        }).count();
        // A ring moves nobody else's keys; Maglev's paper measures a few per cent.
        let most = if algorithm == Algorithm::Ring { 0 } else { 4_000 / 12 };
        prop_assert!(moved <= most, "{} of 4,000 keys of others moved", moved);
    }

    #[test]
    fn a_grown_weight_takes_keys_and_gives_none(
        weights in prop::collection::vec(1..5_u32, 2..20), grown: prop::sample::Index,
    ) {
        // A slow start on a ring: its own points grow in number, and those of the others stay.
        let mut all = candidates(&weights);
        let grown = grown.index(all.len());
        let before = owners(&plan(Algorithm::Ring, &all), 2_000);
        all[grown].weight += 100;
        let after = owners(&plan(Algorithm::Ring, &all), 2_000);
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(before == after || *after == all[grown].id);
        }
    }

    #[test]
    fn a_table_is_full_and_fair(size in prop::sample::select(vec![7_usize, 101, 251, 1_009]), backends in 1..60_usize) {
        let permutations: Vec<_> =
            (0..backends).map(|id| Permutation::of(hash::bytes(&[id as u8]), 256, size)).collect();
        let table = populate(size, &permutations);
        prop_assert_eq!(table.len(), size);
        let count = |backend: usize| table.iter().filter(|&&slot| usize::from(slot) == backend).count();
        let counts: Vec<usize> = (0..backends).map(count).collect();
        prop_assert_eq!(counts.iter().sum::<usize>(), size);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }
}
