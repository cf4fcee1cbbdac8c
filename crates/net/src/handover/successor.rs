//! The old process's end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::Offer;

/// Bytes of the reason for a failure that are read. A configuration's mistakes may be many.
const REASON_BYTES_MAX: u64 = 64 * 1024;

/// Time for a process that has said its last word to end by itself, so that its exit code can be told.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause between two looks whether it has ended.
const END_LOOK: Duration = Duration::from_millis(10);

/// A process that was started to take over. Dropped before it was ready, it is killed.
#[derive(Debug)]
pub struct Successor {
    child: Child,
    channel: BufReader<UnixStream>,
    is_ready: bool,
}

/// Why a process did not take over. Whoever started it goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It could not be started.
    #[error("{program}: cannot be started: {cause}")]
    Spawn {
        /// What was to be started.
        program: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The sockets could not be handed over.
    #[error("the sockets could not be handed over: {0}")]
    Offer(#[source] io::Error),
    /// It said why it cannot serve.
    #[error("the new process refused: {reason}")]
    Refused {
        /// In its words.
        reason: String,
    },
    /// It ended without a word.
    #[error("the new process ended before it was ready ({status}); what it printed tells more")]
    Ended {
        /// How.
        status: ExitStatus,
    },
    /// It took too long.
    #[error("the new process was not ready within {timeout:?}, and was killed")]
    TimedOut {
        /// The time that it had.
        timeout: Duration,
    },
}

impl Successor {
    /// Starts a process and makes it an offer. Its standard input is where it hears of it; call this within a runtime.
    ///
    /// # Errors
    /// [`StartError::Spawn`] and [`StartError::Offer`]; no process is left then.
    pub fn start(mut command: Command, offer: &Offer) -> Result<Self, StartError> {
        let (ours, theirs) = StdUnixStream::pair().map_err(StartError::Offer)?;
        ours.set_nonblocking(true).map_err(StartError::Offer)?;
        let channel = UnixStream::from_std(ours.try_clone().map_err(StartError::Offer)?).map_err(StartError::Offer)?;
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn().map_err(|cause| {
            let program = command.get_program().to_string_lossy().into_owned();
            StartError::Spawn { program, cause }
        })?;
        // The command holds the other end, which must end with the process.
        drop(command);
        let successor = Self { child, channel: BufReader::new(channel), is_ready: false };
        match offer.send(&ours) {
            // It has ended already; how is told to whoever waits for it.
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(successor),
            Err(cause) => Err(StartError::Offer(cause)),
            Ok(()) => Ok(successor),
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process serves, and gives its version.
    ///
    /// # Errors
    /// Why it does not; it has ended then.
    pub async fn ready(&mut self, timeout: Duration) -> Result<String, StartError> {
        let Ok(answer) = tokio::time::timeout(timeout, self.answer()).await else {
            self.kill();
            return Err(StartError::TimedOut { timeout });
        };
        match answer {
            Some(Ok(version)) => {
                self.is_ready = true;
                Ok(version)
            }
            Some(Err(reason)) => {
                self.end().await;
                Err(StartError::Refused { reason: reason.trim_end().to_owned() })
            }
            None => Err(StartError::Ended { status: self.end().await }),
        }
    }

    /// Its version, or why it cannot serve; `None` when it ends without either.
    async fn answer(&mut self) -> Option<Result<String, String>> {
        let mut line = String::new();
        let mut bounded = (&mut self.channel).take(REASON_BYTES_MAX);
        bounded.read_line(&mut line).await.ok()?;
        if line.trim_end() == "failed" {
            let mut reason = Vec::new();
            bounded.read_to_end(&mut reason).await.ok()?;
            return Some(Err(String::from_utf8_lossy(&reason).into_owned()));
        }
        let version = line.strip_prefix("ready ")?.strip_suffix('\n')?;
        Some(Ok(version.to_owned()))
    }

    /// Tells the process how many connections are left here.
    pub async fn tell(&mut self, connections: usize) {
        let line = format!("draining {connections}\n");
        // It may have been replaced itself, and whoever came after it does not listen here.
        let _told = self.channel.get_mut().write_all(line.as_bytes()).await;
    }

    /// Waits a moment for the process to end by itself, and kills it otherwise.
    async fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < END_TIMEOUT {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            tokio::time::sleep(END_LOOK).await;
        }
        self.kill()
    }

    fn kill(&mut self) -> ExitStatus {
        let _has_ended = self.child.kill();
        self.child.wait().unwrap_or_default()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.is_ready {
            self.kill();
        }
    }
}

#[cfg(test)]
mod tests;
