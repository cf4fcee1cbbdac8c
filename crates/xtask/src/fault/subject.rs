//! A process that is broken, and what it says: an example of the crate that is to be proved.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{proof, repository};

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

/// Builds an example of a package; the short form takes what tests have built.
pub(super) fn build(package: &str, example: &str, quick: bool) -> Result<PathBuf> {
    let mut command = Command::new(repository::cargo());
    // For the whole workspace, as tests are built: for one package libraries have other features, and are built once more.
    let of: &[&str] = if quick { &["--workspace"] } else { &["--package", package, "--release"] };
    command.arg("build").args(of).args(["--example", example, "--message-format", "json-render-diagnostics"]);
    let output = command.current_dir(repository::root()).stderr(Stdio::inherit()).output().context("cargo build")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let messages = String::from_utf8(output.stdout)?;
    let mut programs = messages.lines().filter_map(|line| proof::executable_in(line, example));
    programs.next_back().context("cargo build named no executable")
}

impl Subject {
    pub(super) fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command)
    }

    pub(super) fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the subject")?;
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
            Err(RecvTimeoutError::Disconnected) => bail!("the subject ended: {}", self.child.wait()?),
        }
    }

    pub(super) fn line(&mut self) -> Result<String> {
        self.line_within(PATIENCE)?.context("the subject says nothing")
    }

    pub(super) fn wait_for(&mut self, word: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line.starts_with(word), "the subject says {line:?} instead of {word:?}");
        Ok(())
    }

    /// Lets it go on.
    pub(super) fn answer(&mut self) -> Result<()> {
        self.tell("go on")
    }

    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("the subject")
    }

    /// Kills it, and gives the time with all that it said before.
    pub(super) fn kill(mut self) -> Result<(Instant, Vec<Event>)> {
        self.child.kill()?;
        let killed = Instant::now();
        self.child.wait()?;
        Ok((killed, self.events.iter().collect()))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
