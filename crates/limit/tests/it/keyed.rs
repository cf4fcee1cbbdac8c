//! Limits by key: exact while there is room, and never too much when there is none.

use std::collections::HashMap;
use std::time::Duration;

use limit::{KeyHasher, Keyed, Moment, Quota, QuotaError, Rate, Single};
use proptest::prelude::*;

fn hash(key: u64) -> u64 {
    KeyHasher::new((3, 5)).number(key).finish()
}

#[test]
fn each_key_has_its_own_limit() {
    let keyed = Keyed::new(Quota::gcra(Rate::per_sec(1), 2).unwrap(), 10_000).unwrap();
    let now = Moment::from_nanos(7);
    for key in 0..1_000 {
        assert_eq!(keyed.check(hash(key), now, 1).remaining, 1);
    }
    assert_eq!(keyed.keys_in_debt(now), 1_000);
    assert_eq!(keyed.slots(), 20_000);
    for key in 0..1_000 {
        let allowed = (0..3).filter(|_| keyed.check(hash(key), now, 1).is_allowed()).count();
        assert_eq!(allowed, 1);
    }
    assert_eq!(keyed.keys_in_debt(now + Duration::from_secs(3)), 0);
}

#[test]
fn what_leaves_no_room_for_a_key_is_refused() {
    let build = |quota: Result<Quota, QuotaError>| Keyed::new(quota.unwrap(), 10).map(|keyed| keyed.slots());
    let second = Duration::from_secs(1);
    assert_eq!(build(Quota::gcra(Rate::per_sec(1_000_000), 1_000)), Ok(24));
    let too_fast = |amount: u32| Err(QuotaError::TooFast { amount, per: second });
    assert_eq!(build(Quota::gcra(Rate::per_sec(100_000_000), 1_000)), too_fast(100_000_000));
    assert_eq!(build(Quota::sliding_window(1_000, second)), Ok(24));
    assert_eq!(build(Quota::sliding_window(1_000_000, Duration::from_secs(86_400))), Ok(24));
    assert_eq!(build(Quota::sliding_window(100_000, second)), too_fast(100_000));
    // For the quotas that people write, the key keeps 24 bits and more.
    for quota in [
        Quota::gcra(Rate::per_sec(100), 200),
        Quota::gcra(Rate { amount: 5, per: Duration::from_secs(60) }, 5),
        Quota::token_bucket(1_000, 1_000, Duration::from_secs(3_600)),
        Quota::sliding_window(100, Duration::from_secs(60)),
    ] {
        assert!(quota.as_ref().unwrap().state_bits() <= 40, "{quota:?}");
    }
}

/// 100,000 keys on a table for a tenth of them: whatever is pushed out, none is above its rate.
#[test]
fn a_flood_of_keys_gives_none_more_than_its_rate() {
    const KEYS: u64 = 100_000;
    for quota in [
        Quota::gcra(Rate { amount: 60, per: Duration::from_secs(60) }, 5).unwrap(),
        Quota::token_bucket(5, 5, Duration::from_secs(5)).unwrap(),
    ] {
        let keyed = Keyed::new(quota, 10_000).unwrap();
        let mut random = fastrand::Rng::with_seed(42);
        let mut allowed = HashMap::<u64, u64>::new();
        let (mut displaced, mut nanos) = (0_u64, 0);
        for _ in 0..1_000_000 {
            nanos += 10_000;
            // Some keys come far more often than others.
            let key = if random.bool() { random.u64(..100) } else { random.u64(..KEYS) };
            let decision = keyed.check(hash(key), Moment::from_nanos(nanos), 1);
            displaced += u64::from(decision.displaced);
            *allowed.entry(key).or_default() += u64::from(decision.is_allowed());
        }
        let most = 5 + nanos / 1_000_000_000;
        assert!(displaced > 10_000, "the table was too small: {displaced}");
        assert!(allowed.values().all(|&count| count <= most), "{:?} of {most}", allowed.values().max());
        // And those who come all the time still get nearly theirs: what they had spent is not lost either.
        let busy: u64 = (0..100).map(|key| allowed[&key]).sum();
        assert!(busy > 100 * most / 2, "{busy}");
    }
}

#[test]
fn idle_keys_leave_first_and_memory_stays() {
    let keyed = Keyed::new(Quota::gcra(Rate::per_sec(1), 10).unwrap(), 64).unwrap();
    let mut displaced = 0;
    for key in 0..100_000 {
        // Eight keys of a bucket are never in debt at once: each owes for a second, of which 30 keys come.
        let now = Moment::from_nanos(key * 1_000_000_000 / 10);
        let decision = keyed.check(hash(key), now, 1);
        assert!(decision.is_allowed());
        displaced += u32::from(decision.displaced);
    }
    assert_eq!((displaced, keyed.slots()), (0, 128));
}

fn quotas() -> impl Strategy<Value = Quota> {
    let second = Duration::from_secs(1);
    prop_oneof![
        (1..50_u32, 1..20_u32)
            .prop_map(move |(amount, burst)| Quota::gcra(Rate { amount, per: second }, burst).unwrap()),
        (1..20_u32, 1..20_u32)
            .prop_map(move |(capacity, refill)| Quota::token_bucket(capacity, refill, second).unwrap()),
        (1..20_u32).prop_map(move |limit| Quota::sliding_window(limit, second).unwrap()),
    ]
}

proptest! {
    #[test]
    fn with_room_it_is_a_map_and_without_never_looser(
        quota in quotas(),
        steps in prop::collection::vec((0..40_u64, 0..300_u64, 1..4_u32), 1..400),
    ) {
        let wide = Keyed::new(quota.clone(), 10_000).unwrap();
        let narrow = Keyed::new(quota.clone(), 4).unwrap();
        let (mut map, mut told) = (HashMap::<u64, Single>::new(), HashMap::<u64, Single>::new());
        let is_window = quota == Quota::sliding_window(quota.limit(), Duration::from_secs(1)).unwrap();
        let mut millis = 0;
        for (key, wait, cost) in steps {
            millis += wait / 10;
            let now = Moment::from_nanos(millis * 1_000_000);
            let exact = map.entry(key).or_insert_with(|| Single::new(quota.clone())).check(now, cost);
            prop_assert_eq!(wide.check(hash(key), now, cost), exact);
            // What the narrow table allows, one who had followed that key alone would have allowed, too.
            if narrow.check(hash(key), now, cost).is_allowed() && !is_window {
                let own = told.entry(key).or_insert_with(|| Single::new(quota.clone()));
                prop_assert!(own.check(now, cost).is_allowed(), "key {}", key);
            }
        }
    }

    #[test]
    fn with_a_sliding_window_no_aligned_window_has_more(
        limit in 1..20_u32, steps in prop::collection::vec((0..40_u64, 0..300_u64), 1..600),
    ) {
        let narrow = Keyed::new(Quota::sliding_window(limit, Duration::from_secs(1)).unwrap(), 4).unwrap();
        let (mut millis, mut counts) = (0, HashMap::<(u64, u64), u32>::new());
        for (key, wait) in steps {
            millis += wait / 10;
            if narrow.check(hash(key), Moment::from_nanos(millis * 1_000_000), 1).is_allowed() {
                let count = counts.entry((key, millis / 1_000)).or_default();
                *count += 1;
                prop_assert!(*count <= limit);
            }
        }
    }

    #[test]
    fn states_only_grow(quota in quotas(), steps in prop::collection::vec((0..2_000_u64, 0..500_u64, 1..4_u32), 1..200)) {
        let (mut state, mut millis) = (0, 100_000);
        for (wait, back, cost) in steps {
            millis += wait;
            let now = Moment::from_nanos((millis - back) * 1_000_000);
            if let (_, Some(next)) = quota.decide(state, now, cost) {
                prop_assert!(quota.rank(next, now) > quota.rank(state, now));
                state = next;
            }
            prop_assert!(state >> quota.state_bits() == 0);
        }
    }
}
