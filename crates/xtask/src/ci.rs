//! `cargo xtask ci`: what has to pass before a change lands, step by step.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{repository, tidy};

/// Arguments of `ci`.
#[derive(Debug, Args)]
pub struct CiArgs {
    /// Run the steps that follow a failed one as well
    #[arg(long)]
    keep_going: bool,
}

/// A step: a cargo command, with variables where it needs some, or a function.
enum Action {
    Cargo(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// As `Cargo`, with the results of tests added up.
    Tests(&'static [&'static str]),
    Own(fn() -> Result<()>),
    /// A proof in its short form, on the program that the tests ran.
    Proof(&'static [&'static str]),
}

const STEPS: &[(&str, Action)] = &[
    ("format", Action::Cargo(&["fmt", "--all", "--", "--check"], &[])),
    ("tidy", Action::Own(tidy::run)),
    ("clippy", Action::Cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"], &[])),
    // `--no-fail-fast`: one run shows everything that is broken.
    ("tests", Action::Tests(&["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"])),
    ("doc tests", Action::Tests(&["test", "--workspace", "--doc", "--no-fail-fast"])),
    ("conformance", Action::Proof(&["conformance", "http1", "--quick"])),
    ("conformance of HTTP/2", Action::Proof(&["conformance", "http2", "--quick"])),
    ("conformance of WebSocket", Action::Proof(&["conformance", "websocket", "--quick"])),
    ("conformance of the cache", Action::Proof(&["conformance", "cache", "--quick"])),
    ("faults", Action::Proof(&["fault", "gateway", "--quick"])),
    ("faults of the cache", Action::Proof(&["fault", "cache", "--quick"])),
    ("faults of coherence", Action::Proof(&["fault", "coherence", "--quick"])),
    ("faults of write-behind", Action::Proof(&["fault", "writebehind", "--quick"])),
    ("upgrades", Action::Proof(&["fault", "upgrade", "--quick"])),
    (
        "documentation",
        Action::Cargo(
            &["doc", "--workspace", "--no-deps", "--features", "tenfold/resilience"],
            &[("RUSTDOCFLAGS", "--deny warnings")],
        ),
    ),
];

/// Results of tests, as each test binary states them at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TestCounts {
    passed: u64,
    failed: u64,
    ignored: u64,
    measured: u64,
    filtered_out: u64,
}

/// Runs the steps, each with its time, and ends with a summary of the tests.
///
/// # Errors
/// When a step failed.
pub fn run(args: &CiArgs) -> Result<()> {
    let start = Instant::now();
    let mut counts = TestCounts::default();
    let mut failed = Vec::new();
    for (name, action) in STEPS {
        println!("== {name}");
        let step = Instant::now();
        let outcome = action.run(&mut counts);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("== {name}: {word} in {:.1} s", step.elapsed().as_secs_f64());
        if let Err(error) = outcome {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
            if !args.keep_going {
                break;
            }
        }
    }
    println!("\n{}", counts.summary(failed.is_empty(), start.elapsed()));
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs cargo-deny, installing it first where it is missing.
///
/// # Errors
/// When it cannot be installed or finds something.
pub fn deny() -> Result<()> {
    let is_there = cargo(&["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !is_there {
        println!("deny: cargo-deny is missing; building it, which takes minutes");
        succeed(&mut cargo(&["install", "--locked", "cargo-deny"]))?;
    }
    succeed(&mut cargo(&["deny", "check"]))
}

impl Action {
    fn run(&self, counts: &mut TestCounts) -> Result<()> {
        match self {
            Self::Own(function) => function(),
            Self::Proof(arguments) => {
                let mut command = Command::new(std::env::current_exe()?);
                succeed(command.args(*arguments).env("TENFOLD_BIN", testkit::Tenfold::binary()?))
            }
            Self::Cargo(arguments, variables) => succeed(cargo(arguments).envs(variables.iter().copied())),
            Self::Tests(arguments) => test(arguments, counts),
        }
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(repository::cargo());
    command.args(arguments).current_dir(repository::root());
    command
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Runs tests with their output passed on as it comes.
fn test(arguments: &[&str], counts: &mut TestCounts) -> Result<()> {
    let mut child = cargo(arguments).stdout(Stdio::piped()).spawn().context("cargo test")?;
    let output = child.stdout.take().context("no output of cargo test")?;
    let before = *counts;
    for line in BufReader::new(output).split(b'\n') {
        // A test may print bytes that are not text.
        let line = line?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.write_all(b"\n")?;
        counts.add(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    ensure!(*counts != before, "cargo {} ran no test", arguments.join(" "));
    Ok(())
}

impl TestCounts {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0 s`.
    fn add(&mut self, line: &str) {
        let Some((_, parts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in parts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "measured" => self.measured += number,
                "filtered out" => self.filtered_out += number,
                _ => {}
            }
        }
    }

    /// In the form of a test binary's own last line.
    fn summary(&self, ok: bool, time: Duration) -> String {
        let word = if ok && self.failed == 0 { "ok" } else { "FAILED" };
        format!(
            "test result: {word}. {} passed; {} failed; {} ignored; {} measured; {} filtered out; finished in {:.2}s",
            self.passed,
            self.failed,
            self.ignored,
            self.measured,
            self.filtered_out,
            time.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_binaries_are_added_up() {
        let mut counts = TestCounts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.10s");
        counts.add("test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s");
        counts.add("test some::test ... ok");
        let expected = TestCounts { passed: 7, failed: 1, ignored: 1, measured: 0, filtered_out: 2 };
        assert_eq!(counts, expected);
        let summary = counts.summary(true, Duration::from_millis(1500));
        assert!(summary.starts_with("test result: FAILED. 7 passed; 1 failed;"), "{summary}");
        assert!(TestCounts::default().summary(false, Duration::ZERO).contains("FAILED"));
    }
}
