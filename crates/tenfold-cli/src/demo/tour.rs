//! After the traffic: one thing after another, each shown by requests of its own and by what came of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::http::Client;
use super::load::{self, Load};
use super::multiplexed::{self, AT_ONCE};
use super::stage::{CANARY_PERCENT, FRESH_SECS, INSTANCES, Stage};
use super::tally::Tally;

/// Requests of the steps, enough that a share of a tenth shows as one.
const OVER_HTTP2: usize = 1000;
const SPLIT: u64 = 2000;
const MIRRORED: u64 = 400;
const CACHED: u64 = 2000;
const STALE: u64 = 200;
/// Pages that the cache is asked for, over and over.
const PAGES: u64 = 20;
/// Connections that the split and the mirror are asked over.
const CLIENTS: u64 = 8;
/// A part of the drain: before it, while it lasts, and after it.
const PART: Duration = Duration::from_secs(1);
/// By then what is cached is stale: the file says for how long it is fresh.
const STALE_AFTER: Duration = Duration::from_millis(FRESH_SECS * 1000 + 200);
/// Time for a request, and for the last copies to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// The instance that is drained, and the one that is the new version.
const DRAINED: usize = 0;
const NEXT: usize = 2;

/// Shows it all, line by line, and gives the number of requests that failed.
pub(super) async fn show(stage: &mut Stage) -> anyhow::Result<u64> {
    println!("\nthe rest, by requests of its own:");
    let mut failed = over_http2(stage).await? + split(stage).await? + mirror(stage).await? + drain(stage).await?;
    failed += cache(stage).await? + outage(stage).await?;
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
    let asked = ask(stage, vec!["/canary/hello".to_owned()], SPLIT).await;
    println!("  canary    {}", split_line(&asked));
    Ok(asked.failed)
}

async fn mirror(stage: &Stage) -> anyhow::Result<u64> {
    let before = stage.counted().await?.next_responses;
    let asked = ask(stage, vec!["/mirrored/hello".to_owned()], MIRRORED).await;
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

/// The same pages without the cache and with it: what their service has to do.
async fn cache(stage: &Stage) -> anyhow::Result<u64> {
    let before = stage.counted().await?.pages_responses;
    let plain = ask(stage, pages("/plain"), CACHED).await;
    let without = stage.counted().await?.pages_responses - before;
    let cached = ask(stage, pages("/cached"), CACHED).await;
    let with = stage.counted().await?.pages_responses - before - without;
    println!("  cache     {}", cache_line(without, with));
    Ok(plain.failed + cached.failed)
}

/// The one instance of a service is killed when all that is cached of it is stale, and nobody notices.
async fn outage(stage: &mut Stage) -> anyhow::Result<u64> {
    sleep(STALE_AFTER).await;
    stage.kill_instance(NEXT).await?;
    let asked = ask(stage, pages("/cached"), STALE).await;
    stage.start_instance(NEXT)?;
    let answered: u64 = asked.answers.iter().sum();
    println!(
        "  outage    {} was killed; {answered} of {STALE} requests answered with what it had said before",
        INSTANCES[NEXT]
    );
    Ok(asked.failed)
}

fn pages(beginning: &str) -> Vec<String> {
    (1..=PAGES).map(|page| format!("{beginning}/page-{page}")).collect()
}

/// What came of requests that were sent as fast as they were answered.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    answers: [u64; INSTANCES.len()],
    failed: u64,
}

/// Asks for these paths in turn.
async fn ask(stage: &Stage, paths: Vec<String>, times: u64) -> Asked {
    let (web, paths) = (stage.web(), Rc::new(paths));
    let clients = (0..CLIENTS).map(|_| {
        let paths = Rc::clone(&paths);
        tokio::task::spawn_local(async move {
            let (mut client, mut asked) = (Client::new(web), Asked::default());
            for path in paths.iter().cycle().take((times / CLIENTS) as usize) {
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

fn cache_line(without: u64, with: u64) -> String {
    let hits = 100.0 - with as f64 * 100.0 / CACHED as f64;
    format!(
        "{CACHED} requests for {PAGES} pages: their service got {without} without the cache, {with} with it; {hits:.1} % hits"
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
        let expected = "2000 requests for 20 pages: their service got 2000 without the cache, 20 with it; 99.0 % hits";
        assert_eq!(cache_line(2000, 20), expected);
        let mut tally = Tally::new(INSTANCES.len());
        tally.answered(DRAINED, Duration::ZERO);
        tally.next_scene();
        tally.answered(1, Duration::ZERO);
        tally.failed_with("status 502");
        let expected = "api-1 answered 1 requests, 0 while it was drained, 0 afterwards; 1 of 3 requests failed";
        assert_eq!(drain_line(&tally), expected);
    }
}
