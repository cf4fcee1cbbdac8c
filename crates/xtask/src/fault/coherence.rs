//! Processes that share a cache, while they stand still, are killed and lose their connections, and Redis hangs and is killed: no read
//! that begins after a write was acknowledged returns anything older.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use testkit::coherence::{Coherence, CoherenceReport};
use testkit::history::Promise;

use super::subject;
use crate::proof::{ProofArgs, Verdict};

/// Arguments of `fault coherence`.
#[derive(Debug, Args)]
pub struct CoherenceArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How many reads and writes are checked
    #[arg(long, value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    operations: Option<u64>,

    /// What troubles are drawn from
    #[arg(long, default_value_t = 11)]
    seed: u64,
}

/// Operations of one run. What a checker has to remember is bounded by it.
const OPERATIONS_PER_RUN: u64 = 50_000;
const LONGEST: Duration = Duration::from_secs(600);
/// Mistakes that can be planted in the library, in its own order. The checker has to find each, or it would find none that nobody planted.
const MISTAKES: [&str; 6] = [
    "a lease that is reckoned from the answer",
    "a change that does not wait",
    "an invalidation of a tag that does not wait",
    "a Redis that forgot and is believed",
    "a fill during a write",
    "what is kept without Redis",
];
/// It is found before so many operations are done.
const FOUND_WITHIN: u64 = 400_000;

pub(super) fn run(args: &CoherenceArgs) -> Result<()> {
    let program = subject::build("cache", "coherence_subject", args.proof.quick)?;
    let operations = args.operations.unwrap_or(if args.proof.quick { 10_000 } else { 100_000 });
    let mut verdict = Verdict::default();
    for (mode, promise) in [("leased", Promise::All), ("bounded", Promise::Own)] {
        // What an instance reads of its own is the lesser promise, and the lesser part of the proof.
        let mut left = if promise == Promise::All { operations } else { operations / 4 };
        let mut seed = args.seed;
        while left > 0 {
            println!("{mode}, seed {seed}");
            let part = left.min(OPERATIONS_PER_RUN);
            let report = observe(&program, (part, seed), promise, mode.to_owned())?;
            judge(mode, &report, &mut verdict);
            left -= part;
            seed += 1;
        }
    }
    // The tests of the library find those of them that are found soon.
    for (place, mistake) in MISTAKES.iter().enumerate().filter(|_| !args.proof.quick) {
        let report = observe(&program, (FOUND_WITHIN, args.seed), Promise::All, format!("leased:{place}"))?;
        println!("{mistake}: {} violations in {} operations", report.violations.len(), report.reads + report.writes);
        let outcome = if report.violations.is_empty() { Err("it was not found".to_owned()) } else { Ok(()) };
        verdict.check("planted mistakes", mistake, &outcome);
    }
    verdict.conclude("fault coherence", &args.proof)
}

/// Runs three processes, to which the last word says what they are to do.
fn observe(program: &Path, (operations, seed): (u64, u64), promise: Promise, word: String) -> Result<CoherenceReport> {
    let redis_forgets = promise == Promise::All;
    let coherence = Coherence { operations, longest: LONGEST, seed, instances: 3, promise, redis_forgets, word };
    coherence.run(&|words| {
        let mut command = Command::new(program);
        command.args(words);
        command
    })
}

fn judge(mode: &str, report: &CoherenceReport, verdict: &mut Verdict) {
    let CoherenceReport { reads, writes, violations, longest, .. } = report;
    let troubles: Vec<_> = report.troubles.iter().map(|(name, count)| format!("{count} × {name}")).collect();
    println!("  {reads} reads, {writes} writes acknowledged, {} violations; {}", violations.len(), troubles.join(", "));
    let [read, write] = longest.map(|nanos| Duration::from_nanos(nanos).as_millis());
    println!("  the longest read took {read} ms, the longest write {write} ms");
    violations.iter().take(10).for_each(|violation| eprintln!("FAILED {mode}: {violation}"));
    verdict.count(&format!("{mode}: reads"), reads.saturating_sub(violations.len() as u64), violations.len() as u64);
    for (name, number) in [("reads", *reads), ("writes", *writes), ("violations", violations.len() as u64)] {
        *verdict.notes.entry(format!("{mode}: {name}")).or_default() += number;
    }
    let outcome = if *writes > 0 { Ok(()) } else { Err("none was acknowledged".to_owned()) };
    verdict.check("writes", mode, &outcome);
}
