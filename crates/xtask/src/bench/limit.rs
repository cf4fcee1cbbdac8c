//! Instructions per decision of a limit. The same loop, with the hash of an address, is subtracted.

use anyhow::{Result, ensure};
use clap::Args;

use super::callgrind::Program;
use super::report::{Report, Row};
use crate::proof::{self, ProofArgs};

/// Arguments of `bench limit`.
#[derive(Debug, Args)]
pub struct LimitArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `check_cost` takes them.
const LIMITS: &[&str] = &[
    "single_gcra",
    "keyed_gcra",
    "keyed_token_bucket",
    "keyed_sliding_window",
    "keyed_flood",
    "keyed_concurrency",
    "lease",
];
/// The loop alone.
const NOTHING: &str = "none";
/// A decision costs at most this.
const INSTRUCTIONS_MAX: f64 = 600.0;

pub(super) fn run(args: &LimitArgs) -> Result<()> {
    // Enough decisions for an average over new and known keys; the short form only to see that it works.
    let checks: u64 = if args.proof.quick { 20_000 } else { 200_000 };
    let program = Program::build("limit", "check_cost", ["--limit", "--checks"])?;
    let around = program.per_operation(NOTHING, checks)?;
    let mut rows = Vec::new();
    for limit in LIMITS {
        let cost = program.per_operation(limit, checks)? - around;
        println!("{limit:<27} {cost:.0} instructions per decision");
        let instructions_per_op = Some(super::report::rounded(cost));
        let (subject, case) = ("tenfold".to_owned(), (*limit).to_owned());
        rows.push(Row { subject, case, instructions_per_op, ..Row::default() });
    }
    let report = Report::new(rows);
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    let dear = report.rows.iter().filter(|row| row.instructions_per_op.is_none_or(|cost| cost > INSTRUCTIONS_MAX));
    let dear: Vec<_> = dear.map(|row| row.case.as_str()).collect();
    ensure!(dear.is_empty(), "above {INSTRUCTIONS_MAX} instructions per decision: {}", dear.join(", "));
    Ok(())
}
