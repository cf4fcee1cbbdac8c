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
    ("conformance of the database proxy", Action::Proof(&["conformance", "db", "--quick"])),
    ("faults", Action::Proof(&["fault", "gateway", "--quick"])),
    ("faults of the cache", Action::Proof(&["fault", "cache", "--quick"])),
    ("faults of coherence", Action::Proof(&["fault", "coherence", "--quick"])),
    ("faults of an outage", Action::Proof(&["fault", "outage", "--quick"])),
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

/// What the tests of all steps came to.
#[derive(Debug, Default)]
struct Results {
    counts: TestCounts,
    /// Tests that failed, and passed when they were run again.
    unsteady: Vec<String>,
}

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
    let mut results = Results::default();
    let mut failed = Vec::new();
    for (name, action) in STEPS {
        println!("== {name}");
        let step = Instant::now();
        let outcome = action.run(&mut results);
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
    for name in &results.unsteady {
        println!("unsteady: {name} failed, and passed alone: mend the test, or what it tests");
    }
    println!("\n{}", results.counts.summary(failed.is_empty(), start.elapsed()));
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
    fn run(&self, results: &mut Results) -> Result<()> {
        match self {
            Self::Own(function) => function(),
            Self::Proof(arguments) => {
                let mut command = Command::new(std::env::current_exe()?);
                succeed(command.args(*arguments).env("TENFOLD_BIN", testkit::Tenfold::binary()?))
            }
            Self::Cargo(arguments, variables) => succeed(cargo(arguments).envs(variables.iter().copied())),
            Self::Tests(arguments) => test(arguments, results),
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

/// Most failed tests that are run again: more than that are no accident.
const AGAIN_MAX: usize = 5;

/// Runs tests with their output passed on as it comes. What fails is run once more, alone: a machine that was busy elsewhere is no
/// fault of a change. Whatever passes only then is named at the end, since either it or what it tests is not as steady as it should be.
fn test(arguments: &[&str], results: &mut Results) -> Result<()> {
    let (run, failures) = run_tests(arguments)?;
    ensure!(run != TestCounts::default(), "cargo {} ran no test", arguments.join(" "));
    results.counts.join(run);
    // A binary that could not be built, or died, names no test.
    ensure!(run.failed == failures.len() as u64, "cargo {} failed", arguments.join(" "));
    ensure!(failures.len() <= AGAIN_MAX, "cargo {}: {} tests failed", arguments.join(" "), failures.len());
    for name in failures {
        println!("== again: {name}");
        let (again, _) = run_tests(&[arguments, &["--", "--exact", &name]].concat())?;
        ensure!(again.failed == 0 && again.passed > 0, "{name} failed again");
        results.counts.failed -= 1;
        results.counts.passed += 1;
        results.unsteady.push(name);
    }
    Ok(())
}

/// The results of tests, and the names of those that failed.
fn run_tests(arguments: &[&str]) -> Result<(TestCounts, Vec<String>)> {
    let mut child = cargo(arguments).stdout(Stdio::piped()).spawn().context("cargo test")?;
    let output = child.stdout.take().context("no output of cargo test")?;
    let (mut counts, mut failures) = (TestCounts::default(), Vec::new());
    for line in BufReader::new(output).split(b'\n') {
        // A test may print bytes that are not text.
        let line = line?;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&line)?;
        stdout.write_all(b"\n")?;
        let line = String::from_utf8_lossy(&line);
        counts.add(&line);
        failures.extend(failed_test(&line).map(str::to_owned));
    }
    let status = child.wait()?;
    ensure!(status.success() || !failures.is_empty(), "cargo {}: {status}", arguments.join(" "));
    Ok((counts, failures))
}

/// The name in a line such as `test some::test ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
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

    fn join(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.measured += other.measured;
        self.filtered_out += other.filtered_out;
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
    fn failed_tests_are_found_by_name() {
        let table = [
            ("test some::test ... FAILED", Some("some::test")),
            ("test src/lib.rs - Cache (line 4) ... FAILED", Some("src/lib.rs - Cache (line 4)")),
            ("test some::test ... ok", None),
            ("test result: FAILED. 4 passed; 1 failed;", None),
        ];
        for (line, name) in table {
            assert_eq!(failed_test(line), name, "{line}");
        }
    }

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
