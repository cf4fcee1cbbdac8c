//! `cargo xtask fuzz NAME`: a target of `fuzz/` for a while, with cargo-fuzz on the nightly toolchain.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::proof::{ProofArgs, Verdict};
use crate::repository;

/// Arguments of `fuzz`.
#[derive(Debug, Args)]
pub struct FuzzArgs {
    /// The target: a file of fuzz/fuzz_targets, with seeds in fuzz/seeds and words in fuzz/NAME.dict
    name: String,

    /// How long to run
    #[arg(long, default_value_t = 10)]
    minutes: u64,

    #[command(flatten)]
    proof: ProofArgs,
}

/// How long the short form runs.
const QUICK_SECONDS: u64 = 45;

/// Runs the target until its time is up or it finds something.
///
/// # Errors
/// When there is no such target or no nightly toolchain, or a finding was made; its input stands in `fuzz/artifacts`.
pub fn run(args: &FuzzArgs) -> Result<()> {
    let targets = targets()?;
    let known =
        if targets.is_empty() { "there is none yet".to_owned() } else { format!("there are {}", targets.join(", ")) };
    ensure!(targets.contains(&args.name), "no fuzz target {}; {known}", args.name);
    ensure!(succeeds(&["--version"])?, "fuzzing needs the nightly toolchain: rustup toolchain install nightly");
    if !succeeds(&["fuzz", "--version"])? {
        println!("fuzz: cargo-fuzz is missing; building it");
        let status = nightly(&["install", "--locked", "cargo-fuzz"]).status()?;
        ensure!(status.success(), "cargo install cargo-fuzz: {status}");
    }
    let seconds = if args.proof.quick { QUICK_SECONDS } else { args.minutes * 60 };
    let limit = format!("-max_total_time={seconds}");
    // What is found goes to the first folder; the second is the part of the repository.
    let (corpus, seeds) = (format!("fuzz/corpus/{}", args.name), format!("fuzz/seeds/{}", args.name));
    let words = format!("-dict=fuzz/{}.dict", args.name);
    std::fs::create_dir_all(repository::root().join(&corpus)).with_context(|| corpus.clone())?;
    let status = nightly(&["fuzz", "run", &args.name, &corpus, &seeds, "--", &limit, &words]).status();
    let status = status.context("cargo fuzz")?;
    let mut verdict = Verdict::default();
    let outcome = if status.success() { Ok(()) } else { Err(format!("{status}; see fuzz/artifacts/{}", args.name)) };
    verdict.check(&args.name, "no finding", &outcome);
    verdict.notes.insert("seconds".to_owned(), seconds);
    verdict.conclude("fuzz", &args.proof)
}

/// The names of the targets, in order.
fn targets() -> Result<Vec<String>> {
    let folder = repository::root().join("fuzz/fuzz_targets");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => bail!("{}: {error}", folder.display()),
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let rust = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<_> = rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort_unstable();
    Ok(names)
}

fn succeeds(arguments: &[&str]) -> Result<bool> {
    Ok(nightly(arguments).output()?.status.success())
}

/// `cargo +nightly` from the root. The variables by which rustup pinned this process are taken away, or they would win.
fn nightly(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly").args(arguments).current_dir(repository::root());
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command
}
