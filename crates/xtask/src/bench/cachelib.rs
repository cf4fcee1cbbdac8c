//! What a hit of the cache library costs: in memory beside the bare engine and other caches, in Redis beside the bare client.
//!
//! The example `cache_cost` of the library measures all of them in one process, in turns, so that whatever else the machine does meets
//! all; here its rounds are judged. The difference to the engine and the ratio to the client are taken within a round.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::Redis;

use super::callgrind::Program;
use super::report::{Report, Row, Spread, rounded};
use crate::proof::{self, ProofArgs};

/// Arguments of `bench cachelib`.
#[derive(Debug, Args)]
pub struct CachelibArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,
}

/// What is judged.
const TENFOLD: &str = "tenfold";
/// Kinds of keys, and the engine under the library.
const KEYS: &[&str] = &["text", "number"];
const ENGINE: &str = "engine";
/// The kind of case with Redis, and the bare client.
const REDIS: &str = "redis";
const CLIENT: &str = "client";
/// What a hit in memory may take beyond the engine's own: two comparisons of numbers, a count, a reading of the clock.
const ABOVE_ENGINE_NS_MAX: f64 = 60.0;
/// Throughput of hits in Redis over that of the bare client, at least.
const CLIENT_SHARE_MIN: f64 = 0.8;

/// Numbers by case and subject, one for each round.
type Rounds = BTreeMap<(String, String), Vec<f64>>;

pub(super) fn run(args: &CachelibArgs) -> Result<()> {
    let quick = args.proof.quick;
    let rounds = args.rounds.unwrap_or(if quick { 5 } else { 31 });
    let (lookups, millis) = if quick { (200_000, 500) } else { (1_000_000, 1_000) };
    let program = Program::build("tenfold", "cache_cost", ["", ""])?;
    let hits = read(&program.output(&["hits", &rounds.to_string(), &lookups.to_string()])?)?;
    let redis = Redis::start(&[])?;
    let url = format!("redis://{}", redis.address());
    let shared = read(&program.output(&[REDIS, &url, &rounds.to_string(), &millis.to_string()])?)?;
    let mut report = Report::new(hits.iter().map(in_memory).chain(shared.iter().map(in_redis)).collect());
    let mut problems = Vec::new();
    for case in KEYS {
        let above = paired(&hits, case, (TENFOLD, ENGINE), |tenfold, engine| tenfold - engine)?;
        println!("{case}: {:.1} ns above the engine (quartiles {:.1} to {:.1})", above.median, above.q1, above.q3);
        if above.median > ABOVE_ENGINE_NS_MAX {
            problems.push(format!("{case}: {:.1} ns above the engine's own get", above.median));
        }
        report.add_ratio(format!("{case}/{ENGINE}, ns above"), above);
    }
    for peer in ["moka", "foyer"] {
        let ratio = paired(&hits, KEYS[0], (TENFOLD, peer), |tenfold, peer| tenfold / peer)?;
        report.add_ratio(format!("{}/{peer}", KEYS[0]), ratio);
    }
    let share = paired(&shared, REDIS, (TENFOLD, CLIENT), |tenfold, client| tenfold / client)?;
    if share.median < CLIENT_SHARE_MIN {
        problems.push(format!("{REDIS}: {:.2} of the bare client's throughput", share.median));
    }
    report.add_ratio(format!("{REDIS}/{CLIENT}"), share);
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

/// Reads lines of case, subject and number.
fn read(output: &str) -> Result<Rounds> {
    let mut rounds = Rounds::new();
    for line in output.lines() {
        let [case, subject, number] = line.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("the example printed {line:?}")
        };
        let number = number.parse().with_context(|| format!("the example printed {line:?}"))?;
        rounds.entry((case.to_owned(), subject.to_owned())).or_default().push(number);
    }
    Ok(rounds)
}

/// How two subjects compare within each round.
fn paired(rounds: &Rounds, case: &str, subjects: (&str, &str), compare: fn(f64, f64) -> f64) -> Result<Spread> {
    let of = |subject: &str| rounds.get(&(case.to_owned(), subject.to_owned())).map(Vec::as_slice).unwrap_or_default();
    let pairs = of(subjects.0).iter().zip(of(subjects.1)).map(|(left, right)| compare(*left, *right));
    Spread::of(pairs).with_context(|| format!("{case}: nothing was measured of {} and {}", subjects.0, subjects.1))
}

fn median(numbers: &[f64]) -> Option<f64> {
    Spread::of(numbers.iter().copied()).map(|spread| rounded(spread.median))
}

fn in_memory(((case, subject), numbers): (&(String, String), &Vec<f64>)) -> Row {
    let (case, subject) = (case.clone(), subject.clone());
    Row { subject, case, ns_per_op: median(numbers), rounds: Some(numbers.len()), ..Row::default() }
}

fn in_redis(((case, subject), numbers): (&(String, String), &Vec<f64>)) -> Row {
    let (case, subject) = (case.clone(), subject.clone());
    Row { subject, case, ops_per_s: median(numbers), rounds: Some(numbers.len()), ..Row::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_compared_with_themselves() {
        let rounds = read("text engine 40\ntext tenfold 70\ntext engine 100\ntext tenfold 135\n").unwrap();
        let above = paired(&rounds, "text", (TENFOLD, ENGINE), |tenfold, engine| tenfold - engine).unwrap();
        assert_eq!((above.min, above.max), (30.0, 35.0));
        assert!(paired(&rounds, "number", (TENFOLD, ENGINE), |tenfold, _| tenfold).is_err());
        assert!(read("text engine\n").is_err() && read("text engine x\n").is_err());
    }
}
