//! The cache store, by itself and in a gateway, killed and damaged: what is found after a restart is right or is not there, and little is lost.

mod asked;
mod gateway;
mod trouble;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use testkit::TempDir;

use super::subject::{self, Event, Subject};
use crate::proof::{self, ProofArgs, Verdict};
use trouble::Damage;
pub(super) use trouble::Random;

/// Arguments of `fault cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How often the process is killed
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
}

/// What was stored so long before the kill is to be there.
const SETTLED: Duration = Duration::from_secs(1);
/// So much of it, at least.
const SURVIVING_SHARE: f64 = 0.9;
/// Resident memory, over the bound.
const MEMORY_FACTOR: f64 = 1.25;
/// Free memory that the allocator keeps at the top of each heap, in bytes.
const TRIM_THRESHOLD_BYTES: &str = "4194304";

pub(super) fn run(args: &CacheArgs) -> Result<()> {
    let program = subject::build("store", "fault_subject", args.proof.quick)?;
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 10 } else { 100 });
    let mut verdict = Verdict::default();
    kill_often(&program, rounds, &mut verdict)?;
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 4 } else { 40 });
    gateway::kill_often(&proof::release_binary()?, rounds, &mut verdict)?;
    fill_disks(&program, &mut verdict)?;
    let bounds: &[(u64, u64)] = if args.proof.quick { &[(128, 5)] } else { &[(64, 30), (256, 40), (1024, 60)] };
    for &(mib, seconds) in bounds {
        hold_memory(&program, mib, seconds, &mut verdict)?;
    }
    verdict.conclude("fault cache", &args.proof)
}

/// What is known of the entries of all rounds.
#[derive(Debug, Default)]
struct Record {
    /// When each was stored.
    stored: BTreeMap<u64, Instant>,
    /// Up to which number entries of a tag were purged.
    purged: BTreeMap<u64, u64>,
}

impl Record {
    fn is_purged(&self, number: u64) -> bool {
        self.purged.get(&(number % 16)).is_some_and(|last| number <= *last)
    }
}

fn kill_often(program: &Path, rounds: u32, verdict: &mut Verdict) -> Result<()> {
    let folder = TempDir::new()?;
    let mut random = Random::new(7);
    let mut record = Record::default();
    let (mut settled, mut survived) = (0_u64, 0_u64);
    for round in 0..rounds {
        let first = u64::from(round) * 1_000_000;
        let killed = write_and_kill(program, folder.path(), first, &mut random, &mut record)?;
        let damage = Damage::of_round(round);
        let hit = damage.apply(folder.path(), &mut random)?;
        let concerned: Vec<u64> = record.stored.keys().copied().filter(|number| *number >= first).collect();
        ensure!(!concerned.is_empty(), "round {round}: nothing was stored");
        let earlier: Vec<u64> = record.stored.keys().copied().filter(|number| *number < first).step_by(37).collect();
        let found = asked::read(program, folder.path(), &[concerned.clone(), earlier].concat())?;
        let mut there = 0;
        for (number, state) in &found.states {
            let name = format!("round {round}, {damage:?} {hit}: k{number}");
            let outcome = match state.as_str() {
                "wrong" => Err("is served damaged".to_owned()),
                "there" if record.is_purged(*number) => Err("was purged and came back".to_owned()),
                _ => Ok(()),
            };
            verdict.check("never_wrong", &name, &outcome);
        }
        if damage.spares_records() {
            let early = concerned.iter().filter(|number| {
                record.stored.get(number).is_some_and(|at| *at + SETTLED <= killed) && !record.is_purged(**number)
            });
            let early: Vec<_> = early.collect();
            there = early.iter().filter(|number| found.states.get(number).is_some_and(|s| s == "there")).count();
            let share = there as f64 / early.len().max(1) as f64;
            let outcome = if early.is_empty() || share >= SURVIVING_SHARE {
                Ok(())
            } else {
                Err(format!("{there} of {} are there", early.len()))
            };
            verdict.check("survival", &format!("round {round}, {damage:?}"), &outcome);
            settled += early.len() as u64;
            survived += there as u64;
        }
        if round % 10 == 0 {
            println!("round {round}: {damage:?} {hit}, {there} there, opened in {} ms", found.open_millis);
        }
    }
    ensure!(settled > 0, "nothing was stored a second before its kill: nothing was proved of what survives");
    verdict.notes.insert("stored a second before".into(), settled);
    verdict.notes.insert("of them there".into(), survived);
    Ok(())
}

/// Has a process store until it is killed; says when that was.
fn write_and_kill(
    program: &Path,
    folder: &Path,
    first: u64,
    random: &mut Random,
    record: &mut Record,
) -> Result<Instant> {
    let mut subject = Subject::start(program, &["write", &folder.display().to_string(), &first.to_string()])?;
    subject.wait_for("open")?;
    std::thread::sleep(Duration::from_millis(1_300 + random.below(900)));
    let (killed, events) = subject.kill()?;
    for Event { at, line } in events {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["stored", number] => {
                record.stored.insert(number.parse()?, at);
            }
            ["purged", tag, number] => {
                record.purged.insert(tag.parse()?, number.parse()?);
            }
            _ => {}
        }
    }
    Ok(killed)
}

/// Disks without room: a file system of a few MiB where one can be mounted, and files that may not grow.
fn fill_disks(program: &Path, verdict: &mut Verdict) -> Result<()> {
    let folder = TempDir::new()?;
    let limited = trouble::with_small_files(program, folder.path(), 64);
    let outcome = limited.and_then(asked::full_disk).map_err(|error| format!("{error:#}"));
    verdict.check("full_disk", "files that may not grow", &outcome);
    let folder = TempDir::new()?;
    match trouble::mount_small(folder.path()) {
        Some(mounted) => {
            let path: PathBuf = mounted.path().to_owned();
            let subject = Subject::start(program, &["full", &path.display().to_string(), "64"]);
            let outcome = subject.and_then(asked::full_disk).map_err(|error| format!("{error:#}"));
            verdict.check("full_disk", "a small file system", &outcome);
        }
        None => {
            println!("a small file system cannot be mounted here");
            verdict.not_applicable += 1;
        }
    }
    Ok(())
}

/// A mixed load, while resident memory is measured.
fn hold_memory(program: &Path, mib: u64, seconds: u64, verdict: &mut Verdict) -> Result<()> {
    let bound = (mib * 1024 * 1024) as f64;
    let mut command = Command::new(program);
    command.args(["memory", &mib.to_string(), &seconds.to_string()]);
    // The allocator as `tenfold run` sets it.
    command.env("MALLOC_TRIM_THRESHOLD_", TRIM_THRESHOLD_BYTES);
    let mut subject = Subject::spawn(command)?;
    subject.wait_for("empty")?;
    let before = testkit::procfs::rss_bytes(subject.pid())?;
    subject.answer()?;
    let mut most = 0_u64;
    let done = loop {
        most = most.max(testkit::procfs::rss_bytes(subject.pid())?);
        if let Some(line) = subject.line_within(Duration::from_millis(100))? {
            break line;
        }
    };
    most = most.max(testkit::procfs::rss_bytes(subject.pid())?);
    let factor = most.saturating_sub(before) as f64 / bound;
    println!("{mib} MiB of cache: {factor:.2} times that in memory; {done}");
    let outcome = if factor <= MEMORY_FACTOR { Ok(()) } else { Err(format!("{factor:.2} times the bound")) };
    verdict.check("memory", &format!("{mib} MiB"), &outcome);
    verdict.notes.insert(format!("memory of {mib} MiB in percent"), (factor * 100.0) as u64);
    Ok(())
}
