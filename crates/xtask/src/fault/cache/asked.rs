//! What the store's example is asked for, and what it says.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::fault::subject::Subject;

/// It stores more than the disk takes, says how that went, and after that there is room.
pub(super) fn full_disk(mut subject: Subject) -> Result<()> {
    let line = subject.line()?;
    println!("full disk: {line}");
    ensure!(line.starts_with("wrong 0 "), "it served what is wrong: {line}");
    ensure!(!line.contains("errors 0 "), "the disk refused nothing: {line}");
    subject.answer()?;
    let line = subject.line()?;
    println!("full disk: {line}");
    ensure!(line.starts_with("back there"), "the disk was not used again: {line}");
    Ok(())
}

/// What a restart found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) open_millis: u64,
    /// By number: `there`, `absent` or `wrong`.
    pub(super) states: BTreeMap<u64, String>,
}

/// Starts it anew, and asks for entries.
pub(super) fn read(program: &Path, folder: &Path, numbers: &[u64]) -> Result<Found> {
    let mut subject = Subject::start(program, &["read", &folder.display().to_string()])?;
    let mut found = Found::default();
    let line = subject.line()?;
    found.open_millis = line.strip_prefix("open ").context(line.clone())?.parse()?;
    for number in numbers {
        subject.tell(&number.to_string())?;
        let line = subject.line()?;
        let (state, of) = line.split_once(' ').context("two words")?;
        ensure!(of.parse::<u64>()? == *number, "{line:?} is no answer to {number}");
        found.states.insert(*number, state.to_owned());
    }
    Ok(found)
}
