//! The gateway's process: `tenfold run`, as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{command, log_file};

/// Time to stop: there is nothing to drain once the traffic has ended.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of the log that an error shows.
const LAST_LINES: usize = 20;

#[derive(Debug)]
pub(super) struct Gateway {
    pid: Pid,
    watch: Watch,
}

/// Sees the gateway's end.
#[derive(Clone, Debug)]
pub(in crate::demo) struct Watch {
    ended: watch::Receiver<Option<ExitStatus>>,
    log: PathBuf,
}

impl Gateway {
    /// Starts it on a configuration. What it logs goes to a file.
    pub(super) fn spawn(config: &Path, log: &Path) -> anyhow::Result<Self> {
        let mut child = command()?
            .arg("run")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log_file(log)?)
            .spawn()
            .context("demo: the gateway cannot be started")?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("demo: the gateway has ended")?;
        let (tell, ended) = watch::channel(None);
        // The task owns the child: when the demo is dropped so is the task, and the child is killed.
        tokio::task::spawn_local(async move {
            if let Ok(status) = child.wait().await {
                tell.send_replace(Some(status));
            }
        });
        Ok(Self { pid, watch: Watch { ended, log: log.to_owned() } })
    }

    /// Tells it to read its configuration again.
    pub(super) fn reload(&self) -> anyhow::Result<()> {
        self.signal(Signal::HUP)
    }

    /// Ends it gracefully and checks that it ends well.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let mut ended = self.watch.ended.clone();
        let status = match timeout(STOP_TIMEOUT, ended.wait_for(Option::is_some)).await {
            Ok(seen) => *seen.context("demo: the gateway's end was not seen")?,
            Err(_) => bail!("demo: the gateway did not stop; {}", self.last_words()),
        };
        let status = status.expect("it was waited for");
        ensure!(status.success(), "demo: the gateway ended with {status}; {}", self.last_words());
        Ok(())
    }

    pub(super) fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        self.watch.last_words()
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Its id belongs to someone else once it was waited for.
        if let Some(status) = *self.watch.ended.borrow() {
            bail!("demo: the gateway has ended with {status}; {}", self.last_words());
        }
        kill_process(self.pid, signal).context("demo: the gateway cannot be signalled")
    }
}

impl Watch {
    /// Waits for the gateway's end, and says how it came.
    pub(in crate::demo) async fn ended(mut self) -> anyhow::Error {
        let how = match self.ended.wait_for(Option::is_some).await {
            Ok(status) => status.map_or(String::new(), |status| format!(" with {status}")),
            Err(_) => String::new(),
        };
        anyhow!("demo: the gateway ended by itself{how}; {}", self.last_words())
    }

    fn last_words(&self) -> String {
        match fs::read_to_string(&self.log) {
            Ok(text) => {
                let lines: Vec<&str> = text.lines().collect();
                format!("the end of its log:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
            }
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}
