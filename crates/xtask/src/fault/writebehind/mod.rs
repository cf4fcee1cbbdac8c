//! Write-behind into a SQLite file, killed under writes: the last acknowledged write of every key reaches the database or the dead
//! letters, in order.

mod power;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::TempDir;

use super::cache::Random;
use super::subject::{self, Subject};
use crate::proof::{ProofArgs, Verdict};
use power::Loss;

/// Arguments of `fault writebehind`.
#[derive(Debug, Args)]
pub struct WriteBehindArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How often the process is killed
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,

    /// What the moments of kills, and losses of power, are drawn from
    #[arg(long, default_value_t = 11)]
    seed: u64,
}

/// So many kills come before everything is delivered and looked at, so that what one start leaves is found by the next one.
const KILLS_PER_LOOK: u32 = 4;

pub(super) fn run(args: &WriteBehindArgs) -> Result<()> {
    let program = subject::build("cache", "behind_subject", args.proof.quick)?;
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 12 } else { 200 });
    let mut verdict = Verdict::default();
    println!("{rounds} kills, seed {}", args.seed);
    kill_often(&program, rounds, args.seed, &mut verdict)?;
    fill_disk(&program, &mut verdict)?;
    if !args.proof.quick {
        measure(&program)?;
    }
    verdict.conclude("fault writebehind", &args.proof)
}

/// What is known of all rounds, by key.
#[derive(Debug, Default)]
struct Record {
    /// The latest that was acknowledged.
    acknowledged: BTreeMap<String, u64>,
    /// The latest dead letter.
    dead: BTreeMap<String, u64>,
    /// The latest row of the database.
    rows: BTreeMap<String, u64>,
}

fn kill_often(program: &Path, rounds: u32, seed: u64, verdict: &mut Verdict) -> Result<()> {
    let folder = TempDir::new()?;
    let journal = folder.path().join("journal");
    let mut random = Random::new(seed);
    let mut record = Record::default();
    let (mut puts, mut left, mut loose, mut largest) = (0, 0, 0, 0);
    for round in 0..rounds {
        let seed = random.below(1 << 32).to_string();
        let mut subject = Subject::start(program, &["write", &folder.path().display().to_string(), &seed])?;
        let line = subject.line()?;
        let mut words = line.split(' ');
        let dirty = words.nth(1).with_context(|| line.clone())?;
        left += dirty.parse::<u64>().with_context(|| line.clone())?;
        std::thread::sleep(Duration::from_millis(random.below(200)));
        let (_, events) = subject.kill()?;
        for event in events {
            let words: Vec<&str> = event.line.split(' ').collect();
            let ["put", key, number] = words[..] else { bail!("the subject says {:?}", event.line) };
            record.acknowledged.insert(key.to_owned(), number.parse()?);
            puts += 1;
        }
        loose += Loss::of_round(round).apply(&journal, &record.acknowledged, &mut random)?;
        largest = power::journal_bytes(&journal)?.max(largest);
        if round % KILLS_PER_LOOK == KILLS_PER_LOOK - 1 || round + 1 == rounds {
            look(program, folder.path(), &format!("round {round}"), &mut record, verdict)?;
        }
        if round % 20 == 0 {
            println!("round {round}: {puts} writes acknowledged, {} keys", record.acknowledged.len());
        }
    }
    let notes = [
        ("writes acknowledged", puts),
        ("found dirty at starts", left),
        ("bytes that power could take", loose),
        ("largest journal and letters, bytes", largest),
        ("keys with dead letters", record.dead.len() as u64),
        ("keys in the database", record.rows.len() as u64),
    ];
    verdict.notes.extend(notes.map(|(name, number)| (name.to_owned(), number)));
    let outcome = if puts > 0 { Ok(()) } else { Err("nothing was acknowledged".to_owned()) };
    verdict.check("writes", "there were some", &outcome);
    Ok(())
}

/// Has everything delivered, and compares what is where.
fn look(program: &Path, folder: &Path, name: &str, record: &mut Record, verdict: &mut Verdict) -> Result<()> {
    let mut subject = Subject::start(program, &["drain", &folder.display().to_string()])?;
    let line = subject.line()?;
    let is_well = line.starts_with("drained true damaged 0 ");
    verdict.check("recovery", name, &if is_well { Ok(()) } else { Err(line) });
    loop {
        let line = subject.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let (word, key, number) = match words[..] {
            ["end"] => break,
            [word, key, number] => (word, key.to_owned(), number.parse::<u64>()?),
            _ => bail!("the subject says {line:?}"),
        };
        let outcome = if number == 0 { Err("a value that was never written".to_owned()) } else { Ok(()) };
        verdict.check("values", &format!("{name}: {key}"), &outcome);
        match word {
            "dead" => {
                let latest = record.dead.entry(key).or_default();
                *latest = number.max(*latest);
            }
            // Each row that a key ever had is above the one before.
            "was" => {
                let before = record.rows.insert(key.clone(), number).unwrap_or(0);
                let outcome = if before < number { Ok(()) } else { Err(format!("{number} after {before}")) };
                verdict.check("order", &format!("{name}: {key}"), &outcome);
            }
            _ => {
                let last = record.rows.get(&key).copied();
                let outcome = if last == Some(number) { Ok(()) } else { Err(format!("{number}, not {last:?}")) };
                verdict.check("history", &format!("{name}: {key}"), &outcome);
            }
        }
    }
    for (key, acknowledged) in &record.acknowledged {
        let arrived = record.rows.get(key).max(record.dead.get(key)).copied();
        let outcome = if arrived >= Some(*acknowledged) {
            Ok(())
        } else {
            Err(format!("{acknowledged} was acknowledged, {arrived:?} arrived"))
        };
        verdict.check("nothing_lost", &format!("{name}: {key}"), &outcome);
    }
    Ok(())
}

/// Files that may not grow for a while, the database's too.
fn fill_disk(program: &Path, verdict: &mut Verdict) -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new("sh");
    // The signal is left ignored, so that the write fails and the process goes on.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program);
    command.args(["full", &folder.path().display().to_string()]);
    let line = Subject::spawn(command)?.line()?;
    println!("full disk: {line}");
    let refused = line.split_once("refused ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    let is_well = line.starts_with("lost 0 flushed true") && refused.is_some_and(|refused| refused > 0);
    verdict.check("full_disk", "files that may not grow", &if is_well { Ok(()) } else { Err(line) });
    Ok(())
}

/// Writes in a second, by how many write at once.
fn measure(program: &Path) -> Result<()> {
    for callers in ["1", "8", "64", "512"] {
        let folder = TempDir::new()?;
        let mut subject = Subject::start(program, &["measure", &folder.path().display().to_string(), callers, "5"])?;
        println!("{}", subject.line()?);
    }
    Ok(())
}
