//! Instructions per pick of an endpoint. The same loop without picking is subtracted.

use anyhow::{Result, ensure};
use clap::Args;

use super::callgrind::Program;
use super::report::{Report, Row};
use crate::proof::{self, ProofArgs};

/// Arguments of `bench balance`.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    #[command(flatten)]
    proof: ProofArgs,
}

/// Names as `pick_cost` takes them.
const ALGORITHMS: &[&str] = &[
    "round_robin",
    "least_connections",
    "random",
    "power_of_two",
    "peak_ewma",
    "ring",
    "maglev",
    "ring_bounded",
    "maglev_bounded",
    "round_robin_spilling",
    "least_connections_spilling",
    "maglev_spilling",
];
/// The loop alone.
const NOTHING: &str = "none";
/// A pick among 100 endpoints costs at most this.
const INSTRUCTIONS_MAX: f64 = 300.0;

pub(super) fn run(args: &BalanceArgs) -> Result<()> {
    // Enough picks for an average over every weight and key; the short form only to see that it works.
    let picks: u64 = if args.proof.quick { 20_000 } else { 200_000 };
    let program = Program::build("balance", "pick_cost", ["--algorithm", "--picks"])?;
    let around = program.per_operation(NOTHING, picks)?;
    let mut rows = Vec::new();
    for algorithm in ALGORITHMS {
        let cost = program.per_operation(algorithm, picks)? - around;
        println!("{algorithm:<27} {cost:.0} instructions per pick");
        let instructions_per_op = Some(super::report::rounded(cost));
        let (subject, case) = ("tenfold".to_owned(), (*algorithm).to_owned());
        rows.push(Row { subject, case, instructions_per_op, ..Row::default() });
    }
    let report = Report::new(rows);
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    let dear = report.rows.iter().filter(|row| row.instructions_per_op.is_none_or(|cost| cost > INSTRUCTIONS_MAX));
    let dear: Vec<_> = dear.map(|row| row.case.as_str()).collect();
    ensure!(dear.is_empty(), "above {INSTRUCTIONS_MAX} instructions per pick: {}", dear.join(", "));
    Ok(())
}
