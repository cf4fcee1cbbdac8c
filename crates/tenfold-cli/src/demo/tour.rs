//! After the traffic: one thing after another, each shown by requests of its own and by what came of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::http::Client;
use super::load::{self, Load};
use super::multiplexed::{self, AT_ONCE};
use super::stage::{CANARY_PERCENT, INSTANCES, Stage};
use super::tally::Tally;

/// Requests of the steps, enough that a share of a tenth shows as one.
const OVER_HTTP2: usize = 1000;
const SPLIT: u64 = 2000;
const MIRRORED: u64 = 400;
/// Connections that the split and the mirror are asked over.
const CLIENTS: u64 = 8;
/// A part of the drain: before it, while it lasts, and after it.
const PART: Duration = Duration::from_secs(1);
/// Time for a request, and for the last copies to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// The instance that is drained, and the one that is the new version.
const DRAINED: usize = 0;
const NEXT: usize = 2;

/// Shows it all, line by line, and gives the number of requests that failed.
pub(super) async fn show(stage: &Stage) -> anyhow::Result<u64> {
    println!("\nthe rest, by requests of its own:");
    let failed = over_http2(stage).await? + split(stage).await? + mirror(stage).await? + drain(stage).await?;
    println!("\n`tenfold routes` tells which requests go where:\n");
    print!("{}", stage.tell(&["routes"]).await?);
    Ok(failed)
}

async fn over_http2(stage: &Stage) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let certificate = stage.certificate();
    let asked = multiplexed::ask(stage.secure(), &certificate, "/hello", OVER_HTTP2);
    let answered = timeout(PATIENCE * 4, asked).await.context("demo: HTTP/2: no answers in time")?;
    let answered = answered.context("demo: HTTP/2")?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "  HTTPS     {answered} of {OVER_HTTP2} requests answered over HTTP/2, {AT_ONCE} at once on one connection, in {seconds:.2} s"
    );
    Ok((OVER_HTTP2 - answered) as u64)
}

async fn split(stage: &Stage) -> anyhow::Result<u64> {
    let asked = ask(stage, "/canary/hello", SPLIT).await;
    println!("  canary    {}", split_line(&asked));
    Ok(asked.failed)
}

async fn mirror(stage: &Stage) -> anyhow::Result<u64> {
    let before = stage.counted().await?.next_responses;
    let asked = ask(stage, "/mirrored/hello", MIRRORED).await;
    // Nobody waits for copies, so the last of them may be on their way.
    let deadline = Instant::now() + PATIENCE;
    let copies = loop {
        let copies = stage.counted().await?.next_responses - before;
        if copies >= MIRRORED || Instant::now() > deadline {
            break copies;
        }
        sleep(Duration::from_millis(20)).await;
    };
    let [first, second, next] = asked.answers;
    println!(
        "  mirror    {} of {MIRRORED} requests answered by {} and {}, {next} by {}, which got {copies} copies",
        first + second,
        INSTANCES[0],
        INSTANCES[1],
        INSTANCES[NEXT],
    );
    Ok(asked.failed + next + MIRRORED.saturating_sub(copies))
}

/// Drains an instance under load by the command that an operator would use, and undrains it again.
async fn drain(stage: &Stage) -> anyhow::Result<u64> {
    let tally = Rc::new(RefCell::new(Tally::new(INSTANCES.len())));
    let start = Instant::now() + Duration::from_millis(100);
    let load = Load::start(stage.web(), start, PART * 4, &tally)?;
    let address = stage.instances()[DRAINED].to_string();
    sleep_until(start + PART).await;
    stage.tell(&["endpoint", "drain", "api", &address, "--wait", "5s"]).await?;
    tally.borrow_mut().next_scene();
    sleep(PART).await;
    tally.borrow_mut().next_scene();
    stage.tell(&["endpoint", "undrain", "api", &address]).await?;
    load.finish().await;
    let tally = tally.borrow();
    println!("  drain     {}", drain_line(&tally));
    for (reason, times) in tally.reasons() {
        println!("            {times} x {reason}");
    }
    Ok(tally.failed())
}

/// What came of requests that were sent as fast as they were answered.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    answers: [u64; INSTANCES.len()],
    failed: u64,
}

async fn ask(stage: &Stage, path: &'static str, times: u64) -> Asked {
    let web = stage.web();
    let clients = (0..CLIENTS).map(|_| {
        tokio::task::spawn_local(async move {
            let (mut client, mut asked) = (Client::new(web), Asked::default());
            for _ in 0..times / CLIENTS {
                match load::ask(&mut client, path).await {
                    Ok(instance) => asked.answers[instance] += 1,
                    Err(_) => asked.failed += 1,
                }
            }
            asked
        })
    });
    let mut sum = Asked::default();
    for client in clients.collect::<Vec<_>>() {
        let asked = client.await.expect("a client's task does not panic");
        asked.answers.iter().zip(&mut sum.answers).for_each(|(answers, sum)| *sum += answers);
        sum.failed += asked.failed;
    }
    sum
}

fn split_line(asked: &Asked) -> String {
    let answered: u64 = asked.answers.iter().sum();
    let next = asked.answers[NEXT];
    let share = next as f64 * 100.0 / answered.max(1) as f64;
    format!(
        "{next} of {answered} requests answered by {}: {share:.1} %, and {CANARY_PERCENT} % are its share",
        INSTANCES[NEXT]
    )
}

fn drain_line(tally: &Tally) -> String {
    let of = |scene: usize| tally.scenes().get(scene).map_or(0, |answers| answers[DRAINED]);
    format!(
        "{} answered {} requests, {} while it was drained, {} afterwards; {} of {} requests failed",
        INSTANCES[DRAINED],
        of(0),
        of(1),
        of(2),
        tally.failed(),
        tally.answers() + tally.failed(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_told() {
        let asked = Asked { answers: [901, 888, 211], failed: 0 };
        assert_eq!(split_line(&asked), "211 of 2000 requests answered by api-3: 10.6 %, and 10 % are its share");
        let mut tally = Tally::new(INSTANCES.len());
        tally.answered(DRAINED, Duration::ZERO);
        tally.next_scene();
        tally.answered(1, Duration::ZERO);
        tally.failed_with("status 502");
        let expected = "api-1 answered 1 requests, 0 while it was drained, 0 afterwards; 1 of 3 requests failed";
        assert_eq!(drain_line(&tally), expected);
    }
}
