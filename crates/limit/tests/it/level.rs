//! GCRA and the token bucket: tables of edges, and a model that keeps fractions exactly.

use std::time::Duration;

use limit::{Decision, Moment, PERIOD_MAX, Quota, QuotaError, Rate, Single, Verdict};
use proptest::prelude::*;

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn gcra(amount: u32, per: Duration, burst: u32) -> Single {
    Single::new(Quota::gcra(Rate { amount, per }, burst).unwrap())
}

#[test]
fn quotas_that_make_no_sense_are_refused() {
    let second = Duration::from_secs(1);
    let check = |quota: Result<Quota, QuotaError>, expected: QuotaError| assert_eq!(quota, Err(expected));
    check(Quota::gcra(Rate::per_sec(0), 1), QuotaError::NoRate);
    check(Quota::gcra(Rate::per_sec(1), 0), QuotaError::NoBurst);
    check(Quota::gcra(Rate { amount: 1, per: Duration::ZERO }, 1), QuotaError::Period(Duration::ZERO));
    let long = PERIOD_MAX + second;
    check(Quota::gcra(Rate { amount: 1, per: long }, 1), QuotaError::Period(long));
    let nano = Duration::from_nanos(1);
    let fast = QuotaError::TooFast { amount: u32::MAX, per: nano };
    check(Quota::gcra(Rate { amount: u32::MAX, per: nano }, 1), fast);
    check(Quota::token_bucket(1, 0, second), QuotaError::NoRate);
    check(Quota::token_bucket(0, 1, second), QuotaError::NoBurst);
    check(Quota::sliding_window(0, second), QuotaError::NoRate);
    assert_eq!(QuotaError::NoRate.to_string(), "the rate is zero, which would refuse everything for ever");
    // The slowest and the fastest that there are.
    for quota in [
        Quota::gcra(Rate { amount: 1, per: PERIOD_MAX }, 1),
        Quota::gcra(Rate::per_sec(1_000_000_000), u32::MAX),
        Quota::token_bucket(u32::MAX, u32::MAX, Duration::from_secs(86_400)),
        Quota::gcra(Rate { amount: u32::MAX, per: PERIOD_MAX }, u32::MAX),
    ] {
        let limit = Single::new(quota.unwrap());
        assert!(limit.check(at(1), 1).is_allowed());
    }
}

#[test]
fn a_burst_passes_then_the_rate() {
    let limit = gcra(10, Duration::from_secs(1), 3);
    let told = |decision: Decision| (decision.verdict, decision.limit, decision.remaining);
    for remaining in [2, 1, 0] {
        assert_eq!(told(limit.check(at(0), 1)), (Verdict::Allowed, 3, remaining));
    }
    let refused = limit.check(at(0), 1);
    let wait = refused.retry_after().unwrap();
    assert!((100_000_000..=103_000_000).contains(&wait.as_nanos()), "{wait:?}");
    assert!((300_000_000..=303_000_000).contains(&refused.reset.as_nanos()), "{:?}", refused.reset);
    assert!(!limit.check(at(99), 1).is_allowed());
    assert!(limit.check(at(102), 1).is_allowed());
    assert_eq!(limit.check(at(10_000), 0).remaining, 3, "full again, and looking costs nothing");
    assert_eq!(limit.check(at(10_000), 4).verdict, Verdict::Never);
    assert!(limit.check(at(10_000), 3).is_allowed());
}

#[test]
fn a_clock_that_goes_back_is_stricter() {
    let limit = gcra(1, Duration::from_secs(1), 1);
    assert!(limit.check(at(60_000), 1).is_allowed());
    assert!(!limit.check(at(59_000), 1).is_allowed());
    assert!(!limit.check(at(30_000), 1).is_allowed());
    assert!(limit.check(at(61_001), 1).is_allowed());
    // As far forward as there is, nothing overflows.
    assert!(limit.check(Moment::from_nanos(u64::MAX), 1).is_allowed());
}

#[test]
fn a_token_bucket_is_refilled_in_steps() {
    let limit = Single::new(Quota::token_bucket(5, 3, Duration::from_secs(10)).unwrap());
    assert!(limit.check(at(1_000), 5).is_allowed());
    let refused = limit.check(at(9_999), 1);
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(1)));
    assert_eq!(refused.reset, Duration::from_millis(10_001), "two steps");
    assert_eq!(limit.check(at(10_000), 2).remaining, 1);
    assert_eq!(limit.check(at(40_000), 0).remaining, 5, "never more than the capacity");
}

/// Debt in fractions of `amount / per_nanos`, exact: units of which a token has `per_nanos`.
struct Model {
    amount: u128,
    token: u128,
    burst: u128,
    debt: u128,
    at: u64,
}

impl Model {
    fn decide(&mut self, now: u64, cost: u32, slack_nanos: u128) -> Result<bool, ()> {
        self.debt = self.debt.saturating_sub(u128::from(now - self.at) * self.amount);
        self.at = now;
        let after = self.debt + u128::from(cost) * self.token;
        let (most, slack) = (self.burst * self.token, slack_nanos * self.amount);
        // Within a tick of the border either answer is right.
        if after > most + slack {
            Ok(false)
        } else if after + slack <= most {
            Ok(true)
        } else {
            Err(())
        }
    }
}

proptest! {
    #[test]
    fn gcra_agrees_with_exact_fractions(
        amount in 1..100_000_u32,
        per_millis in 1..100_000_u64,
        burst in 1..1_000_u32,
        steps in prop::collection::vec((0..2_000_u64, 1..5_u32), 1..200),
    ) {
        // Beyond a million a second, roundings to a nanosecond weigh more than what is compared here.
        prop_assume!(u64::from(amount) <= per_millis * 1_000);
        let quota = Quota::gcra(Rate { amount, per: Duration::from_millis(per_millis) }, burst).unwrap();
        let limit = Single::new(quota);
        let token = u128::from(per_millis) * 1_000_000;
        // At most an eighth of a token for rates below a million a second, and a nanosecond or two of rounding.
        let slack = token / u128::from(amount) / 8 + 3;
        let mut model = Model { amount: amount.into(), token, burst: burst.into(), debt: 0, at: 0 };
        let (mut now, mut allowed_cost) = (0_u64, 0_u128);
        for (wait, cost) in steps {
            // In parts of the emission interval, so that borders are met.
            now += wait * (token as u64 / u64::from(amount)) / 500;
            let decision = limit.check(Moment::from_nanos(now), cost);
            if let Ok(expected) = model.decide(now, cost, slack) {
                prop_assert_eq!(decision.is_allowed(), expected && cost <= burst, "at {} ns", now);
            }
            if decision.is_allowed() {
                model.debt += u128::from(cost) * token;
                allowed_cost += u128::from(cost);
                let most = (u128::from(burst) * token + (u128::from(now) + slack) * u128::from(amount)) / token;
                prop_assert!(allowed_cost <= most, "{} of at most {}", allowed_cost, most);
            }
        }
    }

    #[test]
    fn whoever_waits_as_told_passes(
        amount in 1..10_000_u32, per_millis in 100..100_000_u64, burst in 1..100_u32, cost in 1..100_u32, start in 0..u64::MAX / 4,
    ) {
        let per = Duration::from_millis(per_millis);
        for quota in [
            Quota::gcra(Rate { amount, per }, burst),
            Quota::token_bucket(burst, amount, per),
            Quota::sliding_window(burst, per),
        ] {
            let limit = Single::new(quota.unwrap());
            let now = Moment::from_nanos(start);
            let cost = cost.min(burst);
            prop_assert!(limit.check(now, burst).is_allowed());
            let refused = limit.check(now, cost);
            let wait = refused.retry_after().unwrap();
            prop_assert!(wait <= refused.reset + Duration::from_nanos(2));
            if let Some(early) = wait.checked_sub(wait / 2 + Duration::from_nanos(3)) {
                prop_assert!(!limit.check(now + early, cost).is_allowed(), "{:?} of {:?}", early, wait);
            }
            prop_assert!(limit.check(now + wait, 0).remaining >= cost, "{:?} after {:?}", limit, wait);
            let passed = limit.check(now + wait, cost);
            prop_assert!(passed.is_allowed());
            prop_assert_eq!(limit.check(now + wait + passed.reset, 0).remaining, burst);
        }
    }
}
