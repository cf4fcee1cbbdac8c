//! Instructions per pick, counted by callgrind at N and 2N picks, so that what is done once falls out. The same loop
//! without picking is subtracted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::report::{Report, Row};
use crate::proof::{self, ProofArgs};
use crate::repository;

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
    let program = build()?;
    let around = per_pick(&program, NOTHING, picks)?;
    let mut rows = Vec::new();
    for algorithm in ALGORITHMS {
        let cost = per_pick(&program, algorithm, picks)? - around;
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

fn build() -> Result<PathBuf> {
    let mut command = Command::new(repository::cargo());
    command.args(["build", "--release", "--package", "balance", "--example", "pick_cost"]);
    command.args(["--message-format", "json-render-diagnostics"]).current_dir(repository::root());
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cargo build")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let messages = String::from_utf8(output.stdout)?;
    let mut programs = messages.lines().filter_map(|line| proof::executable_in(line, "pick_cost"));
    programs.next_back().context("cargo build named no executable")
}

/// Instructions of one pick: the difference of two runs over the difference of their picks.
fn per_pick(program: &Path, algorithm: &str, picks: u64) -> Result<f64> {
    let (once, twice) = (instructions(program, algorithm, picks)?, instructions(program, algorithm, 2 * picks)?);
    Ok((twice as f64 - once as f64) / picks as f64)
}

fn instructions(program: &Path, algorithm: &str, picks: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    command.args(["--algorithm", algorithm, "--picks", &picks.to_string()]);
    let output = command.output().context("valgrind; `cargo xtask install` installs it")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pick_cost --algorithm {algorithm}: {text}");
    collected(&text).with_context(|| format!("pick_cost --algorithm {algorithm}: {text}"))
}

/// The number in callgrind's line `==123== Collected : 456`.
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"));
    line.and_then(|(_, number)| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_callgrind_prints() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 123456\n==1==\n"), Some(123_456));
        assert_eq!(collected("==1== Events    : Ir\n"), None);
    }
}
