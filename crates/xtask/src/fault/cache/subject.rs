//! The process that is broken, and what it says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{proof, repository};

const EXAMPLE: &str = "fault_subject";
/// Nothing that it does takes longer.
const PATIENCE: Duration = Duration::from_secs(150);

/// A line that it said, and when.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: Instant,
    pub(super) line: String,
}

pub(super) struct Subject {
    child: Child,
    stdin: ChildStdin,
    events: Receiver<Event>,
}

/// Builds the program; the short form takes what tests have built.
pub(super) fn build(quick: bool) -> Result<PathBuf> {
    let mut command = Command::new(repository::cargo());
    command.args(["build", "--package", "store", "--example", EXAMPLE, "--message-format"]);
    command.arg("json-render-diagnostics").args((!quick).then_some("--release"));
    let output = command.current_dir(repository::root()).stderr(Stdio::inherit()).output().context("cargo build")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let messages = String::from_utf8(output.stdout)?;
    let mut programs = messages.lines().filter_map(|line| proof::executable_in(line, EXAMPLE));
    programs.next_back().context("cargo build named no executable")
}

impl Subject {
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command)
    }

    pub(super) fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("fault_subject")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        // Its lines are read as they come, so that their times are right; a second of them fits in.
        let (sender, events) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(Event { at: Instant::now(), line }).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, events })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line, if there is one in time. An error when it has ended.
    pub(super) fn line_within(&mut self, time: Duration) -> Result<Option<String>> {
        match self.events.recv_timeout(time) {
            Ok(event) => Ok(Some(event.line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("fault_subject ended: {}", self.child.wait()?),
        }
    }

    fn line(&mut self) -> Result<String> {
        self.line_within(PATIENCE)?.context("fault_subject says nothing")
    }

    pub(super) fn wait_for(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line.starts_with(word), "fault_subject says {line:?} instead of {word:?}");
        Ok(())
    }

    /// Lets it go on.
    pub(super) fn answer(&mut self) -> Result<()> {
        writeln!(self.stdin, "go on").context("fault_subject")
    }

    /// Kills it, and gives the time with all that it said before.
    pub(super) fn kill(mut self) -> Result<(Instant, Vec<Event>)> {
        self.child.kill()?;
        let killed = Instant::now();
        self.child.wait()?;
        Ok((killed, self.events.iter().collect()))
    }

    /// It stores more than the disk takes, says how that went, and after that there is room.
    pub(super) fn full_disk(mut self) -> Result<()> {
        let line = self.line()?;
        println!("full disk: {line}");
        ensure!(line.starts_with("wrong 0 "), "it served what is wrong: {line}");
        ensure!(!line.contains("errors 0 "), "the disk refused nothing: {line}");
        self.answer()?;
        let line = self.line()?;
        println!("full disk: {line}");
        ensure!(line.starts_with("back there"), "the disk was not used again: {line}");
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        writeln!(subject.stdin, "{number}")?;
        let line = subject.line()?;
        let (state, of) = line.split_once(' ').context("two words")?;
        ensure!(of.parse::<u64>()? == *number, "{line:?} is no answer to {number}");
        found.states.insert(*number, state.to_owned());
    }
    Ok(found)
}
