//! Having another process take over: the old process's part of an upgrade.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gateway::Gateway;
use net::handover::{Offer, Successor};
use pgproxy::{Databases, Listen};
use serde_json::json;

use super::beginning::{tcp_name, unix_name};
use super::reload::Reloader;
use super::{Signals, Told};

/// How long an idle connection may still bring a request after another process has taken over. Clients that are at work
/// ask again within it, and hear of the end with the answer; one that asks in the very moment in which its connection is
/// closed finds it so as it finds any that was idle for too long.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(100);

/// How often the new process hears how far the old one is.
const TELL: Duration = Duration::from_secs(1);

/// Variables of a service manager that are meant for one process, and not for those that it starts.
const ONE_PROCESS: [&str; 5] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "MAINPID"];

/// A process that has taken over.
pub(super) struct Taken {
    pub(super) successor: Successor,
    pub(super) version: String,
}

impl Reloader<'_> {
    /// Starts a program, by default the one that runs as it lies in its place now, and has it take over. Whatever goes
    /// wrong leaves everything as it was.
    ///
    /// # Errors
    /// What is wrong, which has been logged.
    pub(super) async fn upgrade(&mut self, reason: &str, binary: Option<&Path>) -> Result<Taken, String> {
        self.notifier.reloading("starting the process that takes over");
        tracing::info!(reason, "upgrade: another process is started");
        match self.try_upgrade(binary).await {
            Ok(taken) => {
                let (pid, version) = (taken.successor.pid(), &taken.version);
                self.notifier.replaced_by(pid);
                tracing::info!(pid, version, "upgrade: another process serves, this one finishes what it has");
                Ok(taken)
            }
            Err(error) => {
                self.notifier.ready();
                tracing::error!(reason, "upgrade failed, this process goes on as before: {error}");
                self.state.upgrade_failed(&error);
                Err(error)
            }
        }
    }

    async fn try_upgrade(&self, binary: Option<&Path>) -> Result<Taken, String> {
        let lost = |error: std::io::Error| format!("the sockets cannot be handed over: {error}");
        let estate = self.gateway.hand_over().await.map_err(lost)?;
        let mut sockets: Vec<_> =
            estate.sockets.into_iter().map(|(address, socket)| (tcp_name(address), socket)).collect();
        let caches = self.caches.handles().map_err(lost)?;
        sockets.extend(caches.into_iter().map(|(address, socket)| (tcp_name(address), socket)));
        let databases = self.databases.handles().map_err(lost)?;
        sockets.extend(databases.into_iter().map(|(listen, socket)| match listen {
            Listen::Tcp(address) => (tcp_name(address), socket),
            Listen::Unix(path) => (unix_name(&path), socket),
        }));
        let admin = self.admin.handle().map_err(lost)?;
        sockets.extend(admin.map(|(address, socket)| (tcp_name(address), socket)));
        let state = json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "knowledge": estate.knowledge,
        });
        let offer = Offer { sockets, state: state.to_string().into_bytes() };
        let command = command(binary, self.file);
        let mut successor = Successor::start(command, &offer).map_err(|error| error.to_string())?;
        // They are the new process's now, and this one's own stay open.
        drop(offer);
        let timeout = self.running.upgrade.ready_timeout;
        let version = successor.ready(timeout).await.map_err(|error| error.to_string())?;
        Ok(Taken { successor, version })
    }
}

/// What starts the new process. It finds the program and the file from the same folder as this one did.
fn command(binary: Option<&Path>, file: &Path) -> Command {
    let own = || std::env::args_os().next().unwrap_or_else(|| OsString::from("tenfold"));
    let program = binary.map_or_else(own, |path| path.as_os_str().to_owned());
    let mut command = Command::new(program);
    command.arg("run").arg(file).arg("--take-over");
    for name in ONE_PROCESS {
        command.env_remove(name);
    }
    command
}

/// A program that somebody asks to have started.
///
/// # Errors
/// When it cannot be meant.
pub(super) fn program(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(format!("binary {text}: give an absolute path"));
    }
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(path),
        Ok(_) => Err(format!("binary {text}: it is no file")),
        Err(error) => Err(format!("binary {text}: {error}")),
    }
}

/// Has a gateway accept no more, and returns when the last of its connections has ended, or a time is over.
pub(super) async fn drained(gateway: &Gateway, timeout: Duration) {
    let begun = Instant::now();
    gateway.retire(Duration::ZERO).await;
    while gateway.connections() > 0 && begun.elapsed() < timeout {
        tokio::time::sleep(LOOK).await;
    }
}

/// Finishes what is under way here while another process serves, for at most `limit`. Being told to stop shortens that
/// to `drain_timeout`.
pub(super) async fn leave(
    (gateway, databases): (Gateway, Databases),
    mut taken: Taken,
    (limit, drain_timeout): (Duration, Duration),
    mut signals: Signals,
    reopen: impl Fn(),
) {
    signals.beside(gateway.retire(IDLE_GRACE), &reopen).await;
    // Clients between transactions connect anew, and find the other process. Their cores are the gateway's, so they go first.
    let cut = signals.beside(databases.stop(drain_timeout.min(limit)), &reopen).await;
    if cut > 0 {
        tracing::warn!(cut, "clients of databases did not end in time");
    }
    let begun = Instant::now();
    let mut told = None;
    let mut rest = Duration::ZERO;
    while gateway.connections() > 0 && begun.elapsed() < limit {
        if told.is_none_or(|told: Instant| told.elapsed() >= TELL) {
            taken.successor.tell(gateway.connections()).await;
            told = Some(Instant::now());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            signal = signals.next() => match signal {
                Told::Stop => {
                    rest = drain_timeout.min(limit.saturating_sub(begun.elapsed()));
                    break;
                }
                // Both processes write to the file until this one has ended.
                Told::ReopenLogs => reopen(),
                Told::Reload | Told::Upgrade => {
                    tracing::info!(?signal, "another process serves: this one only finishes what it has");
                }
            }
        }
    }
    let stopped = signals.beside(gateway.stop(rest), &reopen).await;
    tracing::info!(cut = stopped.cut, took = ?begun.elapsed(), "stopped, as another process serves");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_that_can_be_meant_are_started() {
        let check = |text: &str, expected: Result<(), &str>| match (program(text), expected) {
            (Ok(path), Ok(())) => assert_eq!(path, Path::new(text)),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("/bin/sh", Ok(()));
        check("tenfold", Err("absolute"));
        check("./tenfold", Err("absolute"));
        check("", Err("absolute"));
        check("/", Err("no file"));
        check("/no/such/file", Err("No such file"));
    }
}
