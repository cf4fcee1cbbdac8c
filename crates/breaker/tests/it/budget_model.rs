//! The budget against a model that keeps every event and looks at all of them.

use std::time::{Duration, Instant};

use breaker::{BudgetParams, RetryBudget};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait { millis: u64 },
    Requests { count: u64 },
    Observe,
    Withdraw,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..2_500_u64).prop_map(|millis| Step::Wait { millis }),
        1 => (2_500..30_000_u64).prop_map(|millis| Step::Wait { millis }),
        4 => (0..50_u64).prop_map(|count| Step::Requests { count }),
        4 => Just(Step::Observe),
        10 => Just(Step::Withdraw),
    ]
}

/// Every call, and whether it was a retry that was allowed.
struct Model {
    window_secs: u64,
    share_millionths: u64,
    floor_millionths: u64,
    calls: Vec<(u64, u64, bool)>,
}

impl Model {
    /// Whether a retry is allowed. The window begins with the second that is `window_secs` before the present one, and
    /// the requests before it are those that the first call in it, or else after it, had seen.
    fn allows(&self, second: u64, requests: u64) -> bool {
        let in_window = |call: &&(u64, u64, bool)| call.0 + self.window_secs >= second;
        let before = self.calls.iter().find(in_window).map_or(requests, |call| call.1);
        let retries = self.calls.iter().filter(in_window).filter(|call| call.2).count() as u64;
        (retries + 1) * 1_000_000 <= self.floor_millionths + self.share_millionths * (requests - before)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn agrees_with_a_model_that_forgets_nothing(
        share_millionths in 0..=1_000_000_u64,
        window_millis in 1_000..6_000_u64,
        floor in 0..4_u32,
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let start = Instant::now();
        let window = Duration::from_millis(window_millis);
        let params = BudgetParams { share: share_millionths as f64 / 1e6, window, floor_per_sec: floor };
        let budget = RetryBudget::new(params, start, 0);
        let mut model = Model {
            window_secs: window_millis.div_ceil(1_000),
            share_millionths,
            floor_millionths: u64::from(floor) * window_millis * 1_000,
            calls: vec![(0, 0, false)],
        };
        let (mut millis, mut requests) = (0, 0);
        for step in steps {
            let (now, second) = (start + Duration::from_millis(millis), millis / 1_000);
            match step {
                Step::Wait { millis: wait } => millis += wait,
                Step::Requests { count } => requests += count,
                Step::Observe => {
                    budget.observe(now, requests);
                    model.calls.push((second, requests, false));
                }
                Step::Withdraw => {
                    let expected = model.allows(second, requests);
                    prop_assert_eq!(budget.try_withdraw(now, requests), expected, "at {} ms", millis);
                    model.calls.push((second, requests, expected));
                }
            }
        }
        prop_assert_eq!(budget.withdrawn_total(), model.calls.iter().filter(|call| call.2).count() as u64);
    }
}
