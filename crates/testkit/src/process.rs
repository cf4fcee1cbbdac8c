use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{is_listening, procfs};

/// How much of a process's output is kept for error messages; what came first is dropped.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Pause between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Time that a process gets to end by itself when its guard is dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A child process that never outlives its guard: it is stopped, then killed with its own children, and reaped.
///
/// Its standard input is a pipe that ends when the guard goes, so that a child which watches it ends even when the
/// process that started it was killed. What it prints is captured.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; `name` stands for it in messages.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{name}: cannot start {:?}", command.get_program()))?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(capture(stdout, Arc::clone(&output)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(capture(stderr, Arc::clone(&output)));
        }
        Ok(Self { name: name.to_owned(), child, output, readers, status: None })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process's id and those of all its descendants.
    pub fn pids(&self) -> Vec<u32> {
        procfs::with_descendants(self.pid())
    }

    /// What the process printed so far, standard output and error in order of arrival, at most the last 256 KiB.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("a reader panicked")).into_owned()
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Sends a signal to the process, not to its children.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.try_wait() {
            bail!("{}: ended with {status}", self.name);
        }
        send(self.pid(), signal).with_context(|| format!("{}: signal", self.name))
    }

    /// Waits until something listens on the TCP port, without connecting to it.
    ///
    /// # Errors
    /// When the process ends first or the time is up; the message holds what it printed.
    pub fn wait_for_port(&mut self, port: u16, timeout: Duration) -> Result<()> {
        self.wait_until(&format!("nothing listens on port {port}"), timeout, |_| is_listening(port))
    }

    /// Waits until the process has printed `text`.
    ///
    /// # Errors
    /// When the process ends first or the time is up; the message holds what it printed.
    pub fn wait_for_output(&mut self, text: &str, timeout: Duration) -> Result<()> {
        self.wait_until(&format!("did not print {text:?}"), timeout, |process| process.output().contains(text))
    }

    fn wait_until(&mut self, missing: &str, timeout: Duration, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            // Asked before looking at the end of the process, whose last words may be what is awaited.
            let ended = self.try_wait();
            if done(self) {
                return Ok(());
            }
            if let Some(status) = ended {
                self.join_readers();
                if done(self) {
                    return Ok(());
                }
                bail!("{}: ended with {status}; it printed:\n{}", self.name, self.output());
            }
            if Instant::now() > deadline {
                bail!("{}: {missing} after {timeout:?}; it printed:\n{}", self.name, self.output());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait() {
                self.join_readers();
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{}: still runs after {timeout:?}; it printed:\n{}", self.name, self.output());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.is_running() {
            send(self.pid(), Signal::TERM)?;
        }
        self.wait(timeout)
    }

    /// Kills the process (SIGKILL) and its descendants, and reaps it. Nothing happens when it has ended already.
    pub fn kill(&mut self) {
        if self.try_wait().is_some() {
            return;
        }
        // Descendants of a process that was killed belong to no one and would stay, so they are found first.
        let descendants = self.pids();
        let _ = self.child.kill();
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
        for pid in descendants.into_iter().skip(1) {
            let _ = send(pid, Signal::KILL);
        }
        self.join_readers();
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() && (send(self.pid(), Signal::TERM).is_err() || self.wait(STOP_TIMEOUT).is_err()) {
            self.kill();
        }
    }
}

/// Kills a process that may be nobody's child (SIGKILL).
pub(crate) fn kill(pid: u32) {
    // It may have ended, which is what is wanted.
    let _ = send(pid, Signal::KILL);
}

pub(crate) fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    Ok(kill_process(pid, signal)?)
}

fn capture(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let Ok(mut kept) = into.lock() else { return };
            kept.extend_from_slice(&buffer[..count]);
            let excess = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
            kept.drain(..excess);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell", command).unwrap()
    }

    #[test]
    fn output_is_awaited_and_an_early_end_is_an_error_with_the_output() {
        let mut process = shell("echo ready; read line");
        process.wait_for_output("ready", Duration::from_secs(5)).unwrap();
        assert!(process.is_running());

        let mut process = shell("echo broken >&2; exit 3");
        let error = process.wait_for_output("ready", Duration::from_secs(5)).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_dropped_guard_leaves_no_process_behind() {
        // The shell ignores SIGTERM, so that only the kill ends it, and has a child of its own.
        let mut process = shell("trap '' TERM; sleep 1000 & echo ready; wait; wait");
        process.wait_for_output("ready", Duration::from_secs(5)).unwrap();
        let pids = process.pids();
        assert_eq!(pids.len(), 2, "{pids:?}");
        process.kill();
        for pid in pids {
            // The orphan is reaped by init at its leisure; a zombie has ended all the same.
            let ended = || procfs::state(pid).is_none_or(|state| state == 'Z');
            let deadline = Instant::now() + Duration::from_secs(5);
            while !ended() && Instant::now() < deadline {
                std::thread::sleep(LOOK_AGAIN);
            }
            assert!(ended(), "{pid}");
        }
    }
}
