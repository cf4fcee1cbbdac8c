//! The new process's end.

use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Offer;

/// Time for the offer to arrive, which is under way already when this process starts.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a process that has closed its end of the channel to end, which is then a matter of the system alone.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks whether it has.
const END_LOOK: Duration = Duration::from_millis(2);

/// The process that served before this one, which goes on to serve until it is told that this one is ready.
#[derive(Debug)]
pub struct Predecessor {
    channel: UnixStream,
}

/// What the process before this one still has.
#[derive(Debug)]
pub struct Draining {
    lines: BufReader<tokio::net::UnixStream>,
    /// The process itself, where the system lets it be watched.
    process: Option<OwnedFd>,
}

impl Predecessor {
    /// Takes what standard input is connected to, which is empty from then on, and receives the offer.
    ///
    /// # Errors
    /// When nobody makes an offer there.
    pub fn at_stdin() -> io::Result<(Self, Offer)> {
        let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let nothing = OwnedFd::from(File::open("/dev/null")?);
        rustix::stdio::dup2_stdin(&nothing)?;
        Self::at(channel)
    }

    pub(super) fn at(channel: UnixStream) -> io::Result<(Self, Offer)> {
        channel.set_nonblocking(false)?;
        channel.set_read_timeout(Some(OFFER_TIMEOUT))?;
        let offer = Offer::receive(&channel)?;
        Ok((Self { channel }, offer))
    }

    /// Says that this process serves, which has the one before it, whose id this is, stop to accept. Call it within a runtime.
    ///
    /// # Errors
    /// When the one before is not there any more, or has given up on this one.
    pub fn ready(mut self, version: &str, pid: Option<u32>) -> io::Result<Draining> {
        // Opened before it can end, so that the id is no other process's.
        let process = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let process = process.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        self.channel.write_all(format!("ready {version}\n").as_bytes())?;
        self.channel.set_nonblocking(true)?;
        Ok(Draining { lines: BufReader::new(tokio::net::UnixStream::from_std(self.channel)?), process })
    }

    /// Says why this process cannot serve.
    pub fn failed(mut self, reason: &str) {
        // Whoever does not hear it sees this process end.
        let _told = self.channel.write_all(format!("failed\n{reason}").as_bytes());
        let _told = self.channel.shutdown(Shutdown::Write);
    }
}

impl Draining {
    /// The number of connections that are left, when it is told next; `None` when the process has ended.
    pub async fn next(&mut self) -> Option<usize> {
        loop {
            let mut line = String::new();
            // Lines come from our own kind, and are short.
            if self.lines.read_line(&mut line).await.is_ok_and(|count| count > 0) {
                if let Some(left) = line.trim().strip_prefix("draining ").and_then(|left| left.parse().ok()) {
                    return Some(left);
                }
                continue;
            }
            self.end().await;
            return None;
        }
    }

    /// Waits until the process has ended. A process closes its sockets first, and whoever started it can hear of its end a
    /// moment later.
    async fn end(&mut self) {
        let Some(process) = self.process.take() else { return };
        let begun = Instant::now();
        while begun.elapsed() < END_TIMEOUT {
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if !matches!(rustix::event::poll(&mut ended, Some(&now)), Ok(0)) {
                return;
            }
            tokio::time::sleep(END_LOOK).await;
        }
    }
}
