//! Retries: how many, when, and that they stay within their budget.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use proptest::prelude::*;
use tenfold::resilience::{BackoffParams, BudgetParams, Retry, RetryParams, Verdict};
use tenfold::testing::ManualClock;

use crate::poll;

const NONE: BackoffParams = BackoffParams { base: Duration::ZERO, max: Duration::ZERO };

#[test]
fn tries_go_by_the_verdicts() {
    use Verdict::{Failed, Fine};
    const AGAIN: Verdict = Verdict::TRANSIENT;
    // What each try is judged to be, and how many there are with at most two retries.
    let table: [(&[Verdict], usize); 7] = [
        (&[Fine], 1),
        (&[Failed], 1),
        (&[AGAIN, Fine], 2),
        (&[AGAIN, Failed], 2),
        (&[AGAIN, AGAIN, Fine], 3),
        (&[AGAIN, AGAIN, AGAIN], 3),
        (&[AGAIN, AGAIN, AGAIN, AGAIN], 3),
    ];
    for (verdicts, expected) in table {
        let clock = ManualClock::new();
        let retry = Retry::with_clock("stock", RetryParams::default(), &clock);
        let tries = Cell::new(0);
        let call = || async {
            tries.set(tries.get() + 1);
            Ok::<_, &str>(tries.get())
        };
        let judge = |result: &Result<usize, &str>| verdicts[result.unwrap() - 1];
        assert_eq!(clock.run(retry.call_judged(judge, call)), Ok(expected), "{verdicts:?}");
        assert_eq!(retry.snapshot().retries_total as usize, expected - 1);
    }
}

#[test]
fn it_waits_for_as_long_as_it_is_asked_to_and_a_little_more() {
    for (asked, retries) in [(0, 1), (3, 1), (10, 1), (11, 0)] {
        let clock = ManualClock::new();
        let params = RetryParams { retries_max: 1, ..RetryParams::default() };
        let retry = Retry::with_clock("stock", params, &clock);
        let asked = Duration::from_secs(asked);
        let judge = |_: &Result<(), ()>| Verdict::Transient { retry_after: Some(asked) };
        let _failed = clock.run(retry.call_judged(judge, || async { Err(()) }));
        assert_eq!(retry.snapshot().retries_total, retries, "{asked:?}");
        if retries > 0 {
            assert!((asked..=asked + Duration::from_millis(50)).contains(&clock.elapsed()), "{:?}", clock.elapsed());
        }
    }
}

#[test]
fn pauses_are_spread_and_repeat_with_the_seed() {
    let pauses = |seed| -> Vec<Duration> {
        let clock = ManualClock::with_seed(seed);
        let params = RetryParams { retries_max: 6, ..RetryParams::default() };
        let retry = Retry::with_clock("stock", params, &clock);
        let moments = RefCell::new(Vec::new());
        let call = || async {
            moments.borrow_mut().push(clock.elapsed());
            Err::<(), _>(())
        };
        assert!(clock.run(retry.call(call)).is_err());
        moments.borrow().windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    assert_eq!(pauses(1), pauses(1));
    assert_ne!(pauses(1), pauses(2));
    for (pause, bound) in pauses(3).into_iter().zip([50, 100, 200, 400, 800, 1000]) {
        assert!(pause <= Duration::from_millis(bound), "{pause:?}");
    }
}

#[test]
fn a_call_that_is_dropped_in_a_pause_leaves_nothing() {
    let clock = ManualClock::new();
    let retry = Retry::with_clock("stock", RetryParams::default(), &clock);
    let mut call = Box::pin(retry.call(|| async { Err::<(), _>(()) }));
    assert!(poll(call.as_mut()).is_pending());
    assert!(clock.next_wake().is_some());
    drop(call);
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn without_a_budget_only_the_number_of_tries_bounds_them() {
    let clock = ManualClock::new();
    let params = RetryParams { backoff: NONE, budget: None, ..RetryParams::default() };
    let retry = Retry::with_clock("stock", params, &clock);
    for _ in 0..1_000 {
        assert!(clock.run(retry.call(|| async { Err::<(), _>(()) })).is_err());
    }
    assert_eq!((retry.snapshot().retries_total, retry.snapshot().budget_left), (2_000, None));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// An outage of any length under any load: in the long run retries are the share and the floor.
    #[test]
    fn an_outage_gets_no_more_retries_than_the_budget(
        share in 0.0_f64..1.0,
        floor_per_sec in 0_u32..20,
        per_sec in 1_u64..200,
        seconds in 1_u64..60,
    ) {
        let clock = ManualClock::new();
        let budget = BudgetParams { share, floor_per_sec, window: Duration::from_secs(10) };
        let params = RetryParams { retries_max: 5, backoff: NONE, budget: Some(budget), ..RetryParams::default() };
        let retry = Retry::with_clock("stock", params, &clock);
        let mut tries = 0_u64;
        for _ in 0..seconds * per_sec {
            clock.advance(Duration::from_secs(1) / per_sec as u32);
            let call = || { tries += 1; async { Err::<(), _>(()) } };
            prop_assert!(clock.run(retry.call(call)).is_err());
        }
        let calls = seconds * per_sec;
        let retries = tries - calls;
        prop_assert_eq!(retry.snapshot().retries_total, retries);
        // The window lies at the start of the outage as well, so the floor is there for ten seconds more.
        let most = share * calls as f64 + f64::from(floor_per_sec) * (seconds + 10) as f64;
        prop_assert!(retries as f64 <= most + 1.0, "{} retries of {} calls, at most {}", retries, calls, most);
        prop_assert!(retries <= 5 * calls);
        // And they are not far fewer: at least half of the share, as far as five tries a call can use it.
        let least = (share / 2.0 * calls as f64).floor();
        prop_assert!(retries as f64 >= least, "{} retries of {} calls, at least {}", retries, calls, least);
    }
}
