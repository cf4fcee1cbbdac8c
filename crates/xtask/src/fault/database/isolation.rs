//! Many clients on few backends, each of which sets and checks what is its own: nobody finds what is somebody else's.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use testkit::{Isolation, PgClient, Postgres, PostgresOptions};

use super::Site;
use crate::fault::subject;
use crate::proof::{ProofArgs, Verdict};

/// Arguments of `fault isolation`.
#[derive(Debug, Args)]
pub struct IsolationArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Seconds for which they do so
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
}

/// On eight backends.
const CLIENTS: usize = 64;

pub(in crate::fault) fn run(args: &IsolationArgs) -> Result<()> {
    let program = subject::build("pgproxy", "cluster_subject", args.proof.quick)?;
    let seconds = args.seconds.unwrap_or(if args.proof.quick { 5 } else { 60 });
    let site = Site::start(&program, Postgres::start(&PostgresOptions::default())?, "database", 1)?;
    let connect = |settings: &[(&str, &str)]| {
        let parameters = [&[("user", "web"), ("database", "shop")], settings].concat();
        PgClient::connect_with(site.port, &parameters, "")
    };
    println!("{CLIENTS} clients for {seconds} s");
    let found = Isolation::play(&connect, CLIENTS, Duration::from_secs(seconds))?;
    println!("{} steps, {} leaks", found.steps, found.leaks.len());
    found.leaks.iter().take(10).for_each(|leak| eprintln!("FAILED {leak}"));
    let mut verdict = Verdict::default();
    let leaks = found.leaks.len() as u64;
    verdict.count("steps", found.steps.saturating_sub(leaks), leaks);
    verdict.conclude("fault isolation", &args.proof)
}
