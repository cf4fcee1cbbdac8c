//! Instructions of one operation, counted by callgrind at N and 2N of them, so that what is done once falls out.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::report::{Report, Row, rounded};
use crate::proof::ProofArgs;
use crate::{proof, repository};

/// An example that does an operation as often as it is told, built as it is shipped.
pub(super) struct Program {
    path: PathBuf,
    /// Its option for what is done, and its option for how often.
    options: [&'static str; 2],
}

impl Program {
    pub(super) fn build(package: &str, example: &str, options: [&'static str; 2]) -> Result<Self> {
        let mut command = Command::new(repository::cargo());
        command.args(["build", "--release", "--package", package, "--example", example]);
        command.args(["--message-format", "json-render-diagnostics"]).current_dir(repository::root());
        let output = command.stderr(std::process::Stdio::inherit()).output().context("cargo build")?;
        ensure!(output.status.success(), "cargo build: {}", output.status);
        let messages = String::from_utf8(output.stdout)?;
        let mut programs = messages.lines().filter_map(|line| proof::executable_in(line, example));
        let path = programs.next_back().context("cargo build named no executable")?;
        Ok(Self { path, options })
    }

    /// What it prints when it is run with these words.
    pub(super) fn output(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.path).args(words).stderr(std::process::Stdio::inherit()).output()?;
        ensure!(output.status.success(), "{} {}: {}", self.path.display(), words.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Instructions of one operation: the difference of two runs over the difference of their operations.
    pub(super) fn per_operation(&self, what: &str, operations: u64) -> Result<f64> {
        let (once, twice) = (self.instructions(what, operations)?, self.instructions(what, 2 * operations)?);
        Ok((twice as f64 - once as f64) / operations as f64)
    }

    fn instructions(&self, what: &str, operations: u64) -> Result<u64> {
        let path: &Path = &self.path;
        let [which, count] = self.options;
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(path);
        command.args([which, what, count, &operations.to_string()]);
        let output = command.output().context("valgrind; `cargo xtask install` installs it")?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {which} {what}: {text}", path.display());
        collected(&text).with_context(|| format!("{} {which} {what}: {text}", path.display()))
    }
}

/// Operations of a kind, and what one of them may cost.
pub(super) struct Costs<'a> {
    /// The package whose example does them.
    pub(super) package: &'a str,
    /// The example.
    pub(super) example: &'a str,
    /// Its options for what is done and for how often.
    pub(super) options: [&'static str; 2],
    /// Names of the operations.
    pub(super) names: &'a [&'a str],
    /// What one of them is called.
    pub(super) operation: &'a str,
    /// Most instructions of one.
    pub(super) instructions_max: f64,
}

/// The loop alone, which every such example knows.
const NOTHING: &str = "none";

impl Costs<'_> {
    /// Counts them, prints and writes what they cost, and fails where that is too much.
    pub(super) fn judge(&self, args: &ProofArgs) -> Result<()> {
        // Enough for an average; the short form only to see that it works.
        let operations: u64 = if args.quick { 20_000 } else { 200_000 };
        let program = Program::build(self.package, self.example, self.options)?;
        let around = program.per_operation(NOTHING, operations)?;
        let mut rows = Vec::new();
        for name in self.names {
            let cost = program.per_operation(name, operations)? - around;
            println!("{name:<27} {cost:.0} instructions per {}", self.operation);
            let instructions_per_op = Some(rounded(cost));
            let (subject, case) = ("tenfold".to_owned(), (*name).to_owned());
            rows.push(Row { subject, case, instructions_per_op, ..Row::default() });
        }
        let report = Report::new(rows);
        report.print();
        proof::write_json(&report, args.json.as_deref())?;
        let max = self.instructions_max;
        let dear = report.rows.iter().filter(|row| row.instructions_per_op.is_none_or(|cost| cost > max));
        let dear: Vec<_> = dear.map(|row| row.case.as_str()).collect();
        ensure!(dear.is_empty(), "above {max} instructions per {}: {}", self.operation, dear.join(", "));
        Ok(())
    }
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
