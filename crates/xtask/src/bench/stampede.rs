//! Stampedes: 1,000 clients that ask at once for one thing that a cache does not have, or no longer.
//!
//! The origin takes 200 ms for an answer and counts its requests. One request to it, and all answered within little more than that
//! time, is what collapsing is for. What turns out to be for one client alone may not be given to the others, so each
//! of them needs a request of its own; but all of these can go at once, and need not wait for each other.
//!
//! Whether an entry that has expired may be served once more while it is fetched again is the answer's to say, and these
//! do not say it. Varnish and nginx are set up to do so all the same, as they are in most places.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use testkit::{Burst, CacheOrigin};

use super::report::Spread;
use crate::caches::{Cache, Setting};
use crate::install;
use crate::proof::{self, ProofArgs};

/// Arguments of `bench stampede`.
#[derive(Debug, Args)]
pub struct StampedeArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Subjects: tenfold, varnish, nginx; haproxy, which does not collapse, when asked for
    #[arg(long, value_delimiter = ',', default_values_t = SUBJECTS.iter().map(|&name| name.to_owned()))]
    subject: Vec<String>,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,
}

const SUBJECTS: &[&str] = &["tenfold", "varnish", "nginx"];
const CONNECTIONS: usize = 1_000;
const BYTES: usize = 1024;
const ORIGIN_TAKES: Duration = Duration::from_millis(200);
/// How long entries are fresh that are to expire.
const MAX_AGE: Duration = Duration::from_secs(1);
/// After it they have expired everywhere: nginx counts whole seconds, and is one late.
const EXPIRED: Duration = Duration::from_millis(2_500);
/// By then requests that a cache makes in the background have come to the origin.
const SETTLED: Duration = Duration::from_millis(500);
/// Asked directly, the origin has answered all by then, or the machine is busy with something else: that round would say
/// nothing of the cache, and is done again.
const CALM: Duration = Duration::from_millis(250);
/// Rounds that are done again, at most so many for each that counts.
const DISTURBED_MAX: usize = 3;
/// Enough for connections on both sides of all, and to spare.
const DESCRIPTORS: u64 = 8_192;

/// What is asked for, what it may take, and whether one request to the origin has to do.
struct Case {
    name: &'static str,
    slowest_max: Duration,
    collapses: bool,
}

const CASES: [Case; 3] = [
    Case { name: "cold", slowest_max: Duration::from_millis(300), collapses: true },
    Case { name: "expired", slowest_max: Duration::from_millis(300), collapses: true },
    Case { name: "uncacheable", slowest_max: Duration::from_millis(600), collapses: false },
];

/// What came of a case, in its worst round.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    subject: String,
    case: &'static str,
    rounds: usize,
    origin_requests: u64,
    slowest_ms: f64,
    median_ms: f64,
    held: bool,
}

pub(super) fn run(args: &StampedeArgs) -> Result<()> {
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 1 } else { 5 });
    ensure!(rounds > 0, "there is nothing to do in no rounds");
    proof::raise_descriptor_limit(DESCRIPTORS)?;
    install::require(&["varnishd", "nginx", "haproxy"])?;
    let is_own = args.subject.iter().any(|name| name == "tenfold");
    let binary = is_own.then(proof::release_binary).transpose()?;
    let mut outcomes = Vec::new();
    for name in &args.subject {
        outcomes.extend(measure(name, binary.as_ref(), rounds).with_context(|| format!("subject {name}"))?);
    }
    println!("{:<10} {:<12} {:>16} {:>12} {:>12}", "subject", "case", "origin requests", "slowest ms", "median ms");
    for outcome in &outcomes {
        let Outcome { subject, case, origin_requests, slowest_ms, median_ms, held, .. } = outcome;
        let word = if *held { "held" } else { "missed" };
        println!("{subject:<10} {case:<12} {origin_requests:>16} {slowest_ms:>12.0} {median_ms:>12.0}  {word}");
    }
    proof::write_json(&outcomes, args.proof.json.as_deref())?;
    let missed = outcomes.iter().filter(|outcome| outcome.subject == "tenfold" && !outcome.held);
    let missed: Vec<_> = missed.map(|outcome| outcome.case).collect();
    ensure!(missed.is_empty(), "tenfold missed: {}", missed.join(", "));
    Ok(())
}

/// The slowest answer when the origin is asked directly: less cannot be measured here.
fn floor() -> Result<Duration> {
    let origin = CacheOrigin::start()?;
    let mut burst = Burst::open(origin.address(), CONNECTIONS)?;
    let (_, times) = ask(&origin, &mut burst, &format!("/{BYTES}/{}/0/private/0", ORIGIN_TAKES.as_millis()))?;
    times.last().copied().context("nothing was answered")
}

/// All cases through one cache that runs on as many cores as there are: collapsing has to work across them.
fn measure(name: &str, binary: Option<&PathBuf>, rounds: usize) -> Result<Vec<Outcome>> {
    let origin = CacheOrigin::start()?;
    let setting = Setting {
        folder: "bench/cache",
        origin: origin.address(),
        workers: std::thread::available_parallelism()?.get(),
        memory_mib: 64,
        answers: 200_000,
        // A thread waits for each request of the last case.
        varnish: &["-p", "thread_pool_min=1000", "-p", "thread_pool_max=5000"],
        binary: binary.map(PathBuf::as_path),
    };
    let cache = Cache::start(name, setting)?;
    let mut seen: [Vec<(u64, Vec<Duration>)>; 3] = Default::default();
    let (mut round, mut disturbed) = (0, 0);
    while round < rounds {
        let floor = floor()?;
        let ms = floor.as_secs_f64() * 1e3;
        println!("{name} {}/{rounds}: without a cache, the slowest answer comes after {ms:.0} ms", round + 1);
        if floor > CALM && disturbed < DISTURBED_MAX * rounds {
            println!("the machine is busy with something else, so that once more");
            disturbed += 1;
            continue;
        }
        let mut burst = Burst::open(cache.address(), CONNECTIONS)?;
        let (delay, max_age) = (ORIGIN_TAKES.as_millis(), MAX_AGE.as_secs());
        let shared = format!("/{BYTES}/{delay}/{max_age}/plain/{round}");
        seen[0].push(ask(&origin, &mut burst, &shared)?);
        std::thread::sleep(EXPIRED);
        seen[1].push(ask(&origin, &mut burst, &shared)?);
        seen[2].push(ask(&origin, &mut burst, &format!("/{BYTES}/{delay}/0/private/{round}"))?);
        round += 1;
    }
    Ok(CASES.iter().zip(&seen).map(|(case, seen)| judge(name, case, seen)).collect())
}

/// Requests at the origin, and the times of all answers.
fn ask(origin: &CacheOrigin, burst: &mut Burst, path: &str) -> Result<(u64, Vec<Duration>)> {
    let before = origin.requests();
    let times = burst.ask(path)?;
    std::thread::sleep(SETTLED);
    Ok((origin.requests() - before, times))
}

fn judge(subject: &str, case: &Case, seen: &[(u64, Vec<Duration>)]) -> Outcome {
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let slowest = seen.iter().filter_map(|(_, times)| times.last()).max().map_or(f64::INFINITY, ms);
    let middles = seen.iter().filter_map(|(_, times)| times.get(times.len() / 2)).map(ms);
    // Fewer than one were as wrong as more: nobody would have been told anything new.
    let is_one = |(requests, _): &(u64, Vec<Duration>)| *requests == 1;
    Outcome {
        subject: subject.to_owned(),
        case: case.name,
        rounds: seen.len(),
        origin_requests: seen.iter().map(|(requests, _)| *requests).max().unwrap_or_default(),
        slowest_ms: slowest,
        median_ms: Spread::of(middles).map_or(0.0, |spread| spread.median),
        held: slowest < ms(&case.slowest_max) && (!case.collapses || seen.iter().all(is_one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_round_is_judged() {
        let ms = Duration::from_millis;
        let check = |case: usize, seen: &[(u64, Vec<Duration>)], held: bool| {
            let outcome = judge("a", &CASES[case], seen);
            assert_eq!(outcome.held, held, "{outcome:?}");
        };
        let good = (1, vec![ms(201), ms(205), ms(299)]);
        check(0, std::slice::from_ref(&good), true);
        check(0, &[good.clone(), (1, vec![ms(201), ms(205), ms(300)])], false);
        check(1, &[(2, good.1.clone()), good.clone()], false);
        check(1, &[(0, good.1.clone())], false);
        check(2, &[(1000, vec![ms(201), ms(599)])], true);
        check(2, &[(1000, vec![ms(201), ms(601)])], false);
        check(2, &[], false);
    }
}
