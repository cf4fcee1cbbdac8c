//! Who may be picked at all: backups, drained endpoints, weight 0, and endpoints tried before.

use balance::{Algorithm, Availability, CANDIDATES_MAX, Picker, Plan, Request, TooManyCandidates};

use crate::scene::{ALGORITHMS, Counters, FIRST, candidate, candidates, plan};

/// Candidates from a text: `p` first choice, `b` backup, `0` weight 0, `d` drained, `x` unavailable, `X` unavailable
/// backup.
fn plan_of(algorithm: Algorithm, text: &str) -> Plan {
    let candidate = |(index, kind): (usize, char)| {
        let mut candidate = candidate(index, u32::from(kind != '0'));
        candidate.backup = matches!(kind, 'b' | 'X');
        candidate.availability = match kind {
            'x' | 'X' => Availability::Unavailable,
            'd' => Availability::Draining,
            _ => Availability::Available,
        };
        candidate
    };
    plan(algorithm, &text.chars().enumerate().map(candidate).collect::<Vec<_>>())
}

/// Everyone who comes up in many picks.
fn picked(plan: &Plan, tried: &[u16]) -> Vec<u16> {
    let (mut picker, loads) = (Picker::new(5), Counters::idle(plan.len()));
    let mut met: Vec<u16> = (0..600)
        .filter_map(|pick| {
            let key = balance::hash::bytes(&[pick as u8, (pick >> 8) as u8]);
            picker.pick(plan, Request { key, tried }, &loads)
        })
        .collect();
    met.sort_unstable();
    met.dedup();
    met
}

#[test]
fn every_algorithm_keeps_the_tiers() {
    let check = |text: &str, tried: &[u16], expected: &[u16]| {
        for algorithm in ALGORITHMS {
            let mut found = picked(&plan_of(algorithm, text), tried);
            if algorithm == Algorithm::LeastConnections || algorithm == Algorithm::RoundRobin {
                // Idle and unkeyed picks go round as well, so nothing is special here.
                found.sort_unstable();
            }
            assert_eq!(found, expected, "{algorithm:?} among {text}, tried {tried:?}");
        }
    };
    check("", &[], &[]);
    check("xxd0", &[], &[]);
    check("ppp", &[], &[0, 1, 2]);
    check("pxp", &[], &[0, 2]);
    check("pdp", &[], &[0, 2]);
    check("p0p", &[], &[0, 2]);
    check("pbb", &[], &[0]);
    check("xbb", &[], &[1, 2]);
    check("dbX0", &[], &[1]);
    check("0bb", &[], &[1, 2]);
    // The untried of the same tier, then backups, then the tried, but not the one tried last if there is another.
    check("ppp", &[1], &[0, 2]);
    check("ppp", &[1, 0], &[2]);
    check("ppp", &[1, 0, 2], &[0, 1]);
    check("ppb", &[0], &[1]);
    check("ppb", &[0, 1], &[2]);
    check("ppb", &[0, 1, 2], &[0, 1]);
    check("pb", &[0, 1, 0], &[1]);
    check("pxX", &[0], &[0]);
    check("p", &[0, 0], &[0]);
    check("bb", &[0], &[1]);
    // Positions of another plan that mean nothing here.
    check("pp", &[7, 65_535], &[0, 1]);
    check("pp", &[0, 0, 0, 0], &[1]);
}

#[test]
fn a_plan_says_what_it_holds() {
    let all = candidates(&[1, 2, 3]);
    let plan = plan(Algorithm::Maglev, &all);
    assert_eq!((plan.len(), plan.is_empty(), plan.algorithm()), (3, false, Algorithm::Maglev));
    assert_eq!(plan.candidates(), all);
    for (position, candidate) in all.iter().enumerate() {
        assert_eq!(plan.position(candidate.id), Some(position as u16));
    }
    assert_eq!(plan.position(42), None);
}

#[test]
fn a_drained_candidate_is_found_by_its_id() {
    let plan = plan_of(Algorithm::RoundRobin, "pd");
    assert_eq!(plan.position(plan.candidates()[1].id), Some(1));
    assert_eq!(picked(&plan, &[]), [0]);
}

#[test]
fn as_many_candidates_as_positions_allow_and_no_more() {
    let many: Vec<_> = (0..=CANDIDATES_MAX).map(|index| candidate(index, 1)).collect();
    let error = Plan::new(Algorithm::Random, many.clone()).unwrap_err();
    assert_eq!(error, TooManyCandidates { count: 65_536 });
    assert_eq!(error.to_string(), "65536 candidates: a plan holds at most 65535");
    let loads = Counters::idle(CANDIDATES_MAX);
    for algorithm in ALGORITHMS {
        let plan = Plan::new(algorithm, many[..CANDIDATES_MAX].to_vec()).unwrap();
        let mut picker = Picker::new(3);
        let tried = picker.pick(&plan, FIRST, &loads).unwrap();
        let next = picker.pick(&plan, Request { key: 0, tried: &[tried] }, &loads).unwrap();
        assert_ne!(tried, next, "{algorithm:?}");
    }
}
