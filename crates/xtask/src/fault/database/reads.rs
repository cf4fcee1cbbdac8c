//! Reads on replicas that stop replaying: nobody misses what was acknowledged, or goes back in time. Without positions the checker has to find
//! that somebody does.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use testkit::{MustSee, Postgres, PostgresOptions, Registers};

use super::{Site, connect};
use crate::fault::subject;
use crate::proof::{ProofArgs, Verdict};

/// Arguments of `fault reads`.
#[derive(Debug, Args)]
pub struct ReadsArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How many reads and writes are checked
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    operations: Option<u64>,
}

/// What finds violations where nothing prevents them: they are found at once, or not at all.
const UNPROTECTED: u64 = 5_000;

/// A mistake that is planted is found before so many reads and writes are done.
const FOUND_WITHIN: u64 = 200_000;

/// Reads and writes between two looks whether it was found.
const FOUND_STEP: u64 = 5_000;

/// Mistakes that can be planted in the proxy, in its own order, and the scope in which each shows. The checker has to find them all, or it would find
/// none that nobody planted.
const MISTAKES: [(&str, &str); 5] = [
    ("what a replica has received counts as replayed", "database"),
    ("a probe counts from its answer", "database"),
    ("a write that others need not see", "database"),
    ("a write that a session forgets", "connection"),
    ("a read that a session forgets", "connection"),
];

pub(in crate::fault) fn run(args: &ReadsArgs) -> Result<()> {
    let program = subject::build("pgproxy", "cluster_subject", args.proof.quick)?;
    let operations = args.operations.unwrap_or(if args.proof.quick { 2_000 } else { 100_000 });
    let mut verdict = Verdict::default();
    for (scope, operations) in
        [("database", operations), ("connection", operations / 4), ("none", operations.min(UNPROTECTED))]
    {
        let mut site = start(&program, scope)?;
        let found = play(&site, scope, operations)?;
        let on_replicas = site.count("replica_reads")?;
        println!("{scope}: {found:?}, {on_replicas} on replicas; {}", site.told()?);
        for (name, number) in [("reads", found.reads), ("writes", found.writes), ("on replicas", on_replicas)] {
            verdict.notes.insert(format!("{scope}: {name}"), number);
        }
        verdict.notes.insert(format!("{scope}: violations"), found.violations());
        if scope == "none" {
            let outcome = if found.violations() > 0 { Ok(()) } else { Err("it found none".to_owned()) };
            verdict.check("without positions", "the checker finds violations", &outcome);
            continue;
        }
        verdict.count(
            &format!("{scope}: reads"),
            found.reads - found.violations().min(found.reads),
            found.violations(),
        );
        let is_spread = on_replicas > found.reads / 10;
        let outcome = if is_spread { Ok(()) } else { Err(format!("{on_replicas} of {} reads", found.reads)) };
        verdict.check("replicas are read from", scope, &outcome);
    }
    for (place, (mistake, scope)) in MISTAKES.iter().enumerate().filter(|_| !args.proof.quick) {
        let outcome = seek(&program, &format!("{scope}:{place}"), mistake)?;
        verdict.check("planted mistakes", mistake, &outcome);
    }
    verdict.conclude("fault reads", &args.proof)
}

fn start(program: &Path, scope: &str) -> Result<Site> {
    let options = PostgresOptions { replicas: 2, ..PostgresOptions::default() };
    Site::start(program, Postgres::start(&options)?, scope, 3)
}

fn play(site: &Site, scope: &str, operations: u64) -> Result<Registers> {
    let port = site.port;
    // Without positions nothing is promised, and everything is looked for.
    let must_see = if scope.starts_with("connection") { MustSee::Own } else { MustSee::Everyones };
    Registers::play(&site.cluster, &|| connect(port), operations, must_see)
}

/// Whether a mistake that is planted shows.
fn seek(program: &Path, word: &str, mistake: &str) -> Result<Result<(), String>> {
    let site = start(program, word)?;
    for step in 1..=FOUND_WITHIN / FOUND_STEP {
        let found = play(&site, word, FOUND_STEP)?;
        if found.violations() > 0 {
            println!("{mistake}: found within {} operations: {found:?}", step * FOUND_STEP);
            return Ok(Ok(()));
        }
    }
    Ok(Err(format!("not found in {FOUND_WITHIN} operations")))
}
