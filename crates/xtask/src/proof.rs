//! What all proofs share: their arguments, the form of their results, and the program that they test.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::repository;

/// Arguments of every proof.
#[derive(Clone, Debug, Args)]
pub struct ProofArgs {
    /// A short form that ends within a minute
    #[arg(long)]
    pub quick: bool,

    /// Write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The result of a conformance or fault proof.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Checks that do not concern the subject.
    pub not_applicable: u64,
    /// The same by class.
    pub classes: BTreeMap<String, Class>,
    /// Numbers that are no checks but belong to the result.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, u64>,
}

/// Checks of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
}

impl Verdict {
    /// Counts so many passed and failed checks of a class.
    pub fn count(&mut self, class: &str, passed: u64, failed: u64) {
        let entry = self.classes.entry(class.to_owned()).or_default();
        entry.passed += passed;
        entry.failed += failed;
        self.passed += passed;
        self.failed += failed;
    }

    /// Counts one check of a class, and prints it when it failed.
    pub fn check(&mut self, class: &str, name: &str, outcome: &Result<(), String>) {
        if let Err(problem) = outcome {
            eprintln!("FAILED {class}: {name}: {problem}");
        }
        self.count(class, u64::from(outcome.is_ok()), u64::from(outcome.is_err()));
    }

    /// Prints the verdict, writes it where the arguments say, and is an error when a check failed.
    ///
    /// # Errors
    /// When the file cannot be written, no check was made, or one failed.
    pub fn conclude(&self, name: &str, args: &ProofArgs) -> Result<()> {
        for (class, counts) in &self.classes {
            println!("{class:<28} {:>8} passed {:>6} failed", counts.passed, counts.failed);
        }
        for (note, number) in &self.notes {
            println!("{note:<28} {number:>8}");
        }
        println!("{name}: {} passed, {} failed, {} not applicable", self.passed, self.failed, self.not_applicable);
        write_json(self, args.json.as_deref())?;
        ensure!(self.passed + self.failed > 0, "{name}: nothing was checked");
        ensure!(self.failed == 0, "{name}: {} failed", self.failed);
        Ok(())
    }
}

/// Writes a result to a file, when one is given.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(result: &impl Serialize, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(result)? + "\n";
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// The program that proofs test: that of the variable `TENFOLD_BIN`, or what is shipped, built first.
///
/// # Errors
/// When it cannot be built.
pub fn release_binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("TENFOLD_BIN") {
        let path = PathBuf::from(given);
        ensure!(path.is_file(), "TENFOLD_BIN is {}, which is no file", path.display());
        return Ok(path);
    }
    println!("building tenfold as it is shipped (cargo build --release)");
    let mut command = Command::new(repository::cargo());
    command.args(["build", "--release", "--package", "tenfold-cli", "--message-format", "json-render-diagnostics"]);
    let command = command.current_dir(repository::root()).stderr(std::process::Stdio::inherit());
    let output = command.output().context("cargo build")?;
    ensure!(output.status.success(), "cargo build --release: {}", output.status);
    // Cargo says where the program is, which respects a target folder chosen by variable or configuration.
    let messages = String::from_utf8(output.stdout)?;
    let executable = messages.lines().filter_map(|line| executable_in(line, "tenfold")).next_back();
    executable.context("cargo build named no executable")
}

/// The program in one of cargo's JSON messages, when it is that of the target of this name.
pub(crate) fn executable_in(message: &str, target: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_wanted = message.get("target")?.get("name")?.as_str()? == target;
    is_wanted.then(|| message.get("executable")?.as_str().map(PathBuf::from))?
}

/// Raises this process's soft limit on descriptors, which its children inherit, to the hard one.
///
/// # Errors
/// When the hard limit is below what is needed.
pub fn raise_descriptor_limit(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    ensure!(
        limit.maximum.is_none_or(|most| most >= needed),
        "{needed} descriptors are needed, and the hard limit is {}: see ulimit -Hn",
        limit.maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// Has a thread, or a process of one, run only where no other thread wants to. A low priority would not do: whoever wakes
/// waits for the end of a time slice, which are milliseconds.
///
/// # Errors
/// When `chrt` is not there, or there is no such thread.
pub fn give_way(thread: u32) -> Result<()> {
    let status = Command::new("chrt").args(["--idle", "--pid", "0", &thread.to_string()]).status();
    let status = status.context("chrt, of the package util-linux")?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}

/// Ends this process when its standard input does, which is when the process that started it is gone.
pub fn end_with_standard_input() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        #[allow(clippy::exit, reason = "a child without its parent has nothing to tidy up")]
        std::process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_has_the_agreed_form_and_fails_with_a_check() {
        let args = ProofArgs { quick: false, json: None };
        let mut verdict = Verdict::default();
        assert!(verdict.conclude("none", &args).is_err(), "nothing checked is no pass");
        verdict.check("lengths", "one", &Ok(()));
        verdict.conclude("some", &args).unwrap();
        verdict.check("lengths", "two", &Err("was accepted".into()));
        assert!(verdict.conclude("some", &args).is_err());
        let expected = serde_json::json!({
            "passed": 1, "failed": 1, "not_applicable": 0, "classes": { "lengths": { "passed": 1, "failed": 1 } }
        });
        assert_eq!(serde_json::to_value(&verdict).unwrap(), expected);
    }

    #[test]
    fn the_executable_is_read_from_what_cargo_says() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"tenfold"},"executable":"/t/release/tenfold"}"#;
        assert_eq!(executable_in(line, "tenfold"), Some("/t/release/tenfold".into()));
        assert_eq!(executable_in(&line.replace("\"name\":\"tenfold\"", "\"name\":\"http1\""), "tenfold"), None);
        assert_eq!(executable_in("warning: something", "tenfold"), None);
    }
}
