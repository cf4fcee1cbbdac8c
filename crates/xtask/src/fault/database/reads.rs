//! Reads on replicas that stop replaying: nobody misses what was acknowledged, or goes back in time. Without positions the checker has to find
//! that somebody does.

use anyhow::Result;
use clap::Args;
use testkit::{Postgres, PostgresOptions, Registers};

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

pub(in crate::fault) fn run(args: &ReadsArgs) -> Result<()> {
    let program = subject::build("pgproxy", "cluster_subject", args.proof.quick)?;
    let operations = args.operations.unwrap_or(if args.proof.quick { 2_000 } else { 100_000 });
    let mut verdict = Verdict::default();
    for (scope, operations) in [("database", operations), ("none", operations.min(UNPROTECTED))] {
        let options = PostgresOptions { replicas: 2, ..PostgresOptions::default() };
        let mut site = Site::start(&program, Postgres::start(&options)?, scope, 3)?;
        let port = site.port;
        let found = Registers::play(&site.cluster, &|| connect(port), operations)?;
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
        verdict.count("reads", found.reads - found.violations().min(found.reads), found.violations());
        let is_spread = on_replicas > found.reads / 10;
        let outcome = if is_spread { Ok(()) } else { Err(format!("{on_replicas} of {} reads", found.reads)) };
        verdict.check("replicas", "they are read from", &outcome);
    }
    verdict.conclude("fault reads", &args.proof)
}
