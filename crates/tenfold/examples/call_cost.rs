//! What a call costs that is ready at once. Without arguments it measures the time of each; with them it makes calls, so that
//! counting the instructions of `--calls N` and of `--calls 2N` gives those of one by difference:
//! `valgrind --tool=callgrind call_cost --piece policy --calls 100000`.
//!
//! `policy` has what most have, a limiter, a breaker and a timeout; `policy_all` has every piece; `none` is the call alone.

use std::future::ready;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tenfold::resilience::{
    Breaker, BreakerParams, Bulkhead, BulkheadParams, Limiter, Policy, Quota, Rate, Retry, RetryParams, Shedder,
    ShedderParams, Timeout,
};

const NAMES: &[&str] =
    &["none", "breaker", "limiter", "bulkhead", "shedder", "retry", "timeout", "policy", "policy_all"];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            for name in NAMES {
                println!("{name}: {:.1} ns a call", measure(name).await);
            }
        }
        ["--piece", name, "--calls", calls] if NAMES.contains(&name) => make(name, calls.parse().unwrap_or(0)).await,
        _ => {
            eprintln!("usage: call_cost [--piece NAME --calls N]");
            std::process::exit(2);
        }
    }
}

/// Nanoseconds of a call: the least of a few rounds.
pub(crate) async fn measure(name: &str) -> f64 {
    const CALLS: u32 = 200_000;
    let mut least = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        make(name, CALLS).await;
        least = least.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    least
}

/// Makes so many calls.
pub(crate) async fn make(name: &str, calls: u32) {
    let quota = Quota::gcra(Rate::per_sec(1_000_000_000), 1_000_000_000).expect("a valid quota");
    let second = Duration::from_secs(1);
    let policy =
        Policy::builder("cost").limiter(quota.clone()).breaker(BreakerParams::default()).attempt_timeout(second);
    macro_rules! calls {
        ($call:expr) => {
            for number in 0..calls {
                let result: Result<u32, _> = $call(number).await;
                black_box(result.is_ok());
            }
        };
    }
    let call = |number| ready(Ok::<u32, std::io::Error>(black_box(number)));
    match name {
        "none" => calls!(call),
        "breaker" => {
            let breaker = Breaker::new("cost", BreakerParams::default());
            calls!(|number| breaker.call(move || call(number)));
        }
        "limiter" => {
            let limiter = Limiter::new("cost", quota);
            calls!(|number| limiter.call(move || call(number)));
        }
        "bulkhead" => {
            let bulkhead = Bulkhead::new("cost", BulkheadParams::default());
            calls!(|number| bulkhead.call(move || call(number)));
        }
        "shedder" => {
            let shedder = Shedder::new("cost", ShedderParams::default());
            calls!(|number| shedder.call(Default::default(), move || call(number)));
        }
        "retry" => {
            let retry = Retry::new("cost", RetryParams::default());
            calls!(|number| retry.call(move || call(number)));
        }
        "timeout" => {
            let timeout = Timeout::new("cost", second);
            calls!(|number| timeout.call(move || call(number)));
        }
        "policy" => {
            let policy = policy.build();
            calls!(|number| policy.call(move || call(number)));
        }
        _ => {
            let policy = policy.deadline(second).bulkhead(BulkheadParams::default()).retry(RetryParams::default());
            let policy = policy.shedder(ShedderParams::default()).build();
            calls!(|number| policy.call(move || call(number)));
        }
    }
}
