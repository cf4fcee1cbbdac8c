//! A policy around plain calls: to a stock that is away for a while, as a service would ask it over a network.
//!
//! `cargo run --package tenfold --example plain`

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tenfold::Clock;
use tenfold::resilience::{BackoffParams, BreakerParams, Error, Policy, RetryParams};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for line in run(&Clock::default()).await {
        println!("{line}");
    }
}

/// Something that can be away, and counts how often it is asked.
#[derive(Default)]
struct Stock {
    is_away: AtomicBool,
    asked: AtomicU32,
}

impl Stock {
    async fn count(&self, article: &str) -> Result<usize, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_away.load(Ordering::Relaxed) { Err("connection refused".to_owned()) } else { Ok(article.len()) }
    }
}

/// By a clock, so that a test need not wait.
pub(crate) async fn run(clock: &Clock) -> Vec<String> {
    let stock = Stock::default();
    // Made once, and shared by all callers of the stock.
    let policy = Policy::builder_with_clock("stock", clock.clone())
        .deadline(Duration::from_secs(1))
        .retry(RetryParams {
            backoff: BackoffParams { base: Duration::from_millis(2), max: Duration::from_millis(20) },
            ..RetryParams::default()
        })
        .breaker(BreakerParams { failures: Some(3), open_for: Duration::from_secs(1), ..BreakerParams::default() })
        .attempt_timeout(Duration::from_millis(200))
        .build();
    let count = || policy.call(|| stock.count("screws"));
    let asked = || stock.asked.swap(0, Ordering::Relaxed);
    let mut lines = Vec::new();

    let answer = count().await;
    lines.push(format!("{answer:?} after {} tries", asked()));

    stock.is_away.store(true, Ordering::Relaxed);
    let answer = count().await;
    lines.push(format!("{answer:?} after {} tries", asked()));

    // Three failures in a row have opened the breaker, so the stock is left alone.
    let open_for = match count().await {
        Err(Error::Open { name, retry_after }) => {
            lines.push(format!("{name} is left alone, after {} tries", asked()));
            retry_after.unwrap_or_default()
        }
        other => panic!("{other:?}"),
    };

    stock.is_away.store(false, Ordering::Relaxed);
    clock.sleep(open_for).await;
    let answer = count().await;
    let state = policy.breaker().map_or("none", |breaker| breaker.state().as_str());
    lines.push(format!("{answer:?} after {} tries, the breaker is {state}", asked()));
    lines
}
