//! Drivers of Rust through a pool that has fewer connections than there are clients: `tokio-postgres` or `sqlx`, as the first argument says,
//! and the scenarios that follow it, or all. Each says a line of JSON about its outcome.

mod native;
mod sqlx_driver;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

/// How long a scenario may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Clients of the scenario of many.
const CLIENTS: i32 = 64;

/// A scenario by its name.
type Scenario = (&'static str, fn() -> Pin<Box<dyn Future<Output = Result<()>>>>);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn is_quick() -> bool {
    variable("QUICK") == "1"
}

/// Until when the clients of the scenario of many work.
fn until() -> Instant {
    Instant::now() + Duration::from_secs(if is_quick() { 2 } else { 10 })
}

/// Rows of 1,000 bytes of a large result.
fn large_rows() -> i64 {
    if is_quick() { 20_000 } else { 100_000 }
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<()> {
    ensure!(found == wanted, "found {found:?} and not {wanted:?}");
    Ok(())
}

/// An error must have this SQLSTATE.
fn refused<T>(found: Result<T, Option<String>>, code: &str) -> Result<()> {
    match found {
        Ok(_) => bail!("it succeeded, and ought to fail with {code}"),
        Err(found) => same(found.as_deref().unwrap_or("no code"), code),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (driver, wanted) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let scenarios = if driver == "sqlx" { sqlx_driver::SCENARIOS } else { native::SCENARIOS };
    for (name, scenario) in
        scenarios.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|one| one == name))
    {
        let start = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, scenario()).await;
        let (outcome, reason) = match outcome {
            Ok(Ok(())) => ("passed", String::new()),
            Ok(Err(error)) if error.to_string() == "absent" => ("absent", String::new()),
            Ok(Err(error)) => ("failed", format!("{error:#}")),
            Err(_) => ("failed", "it took too long".to_owned()),
        };
        let seconds = start.elapsed().as_secs_f64();
        let line = serde_json::json!({ "scenario": name, "outcome": outcome, "reason": reason, "seconds": seconds });
        println!("{line}");
    }
}
