//! Commands that look at a running process and change it, over its admin listener.

pub(crate) mod breaker;
pub(crate) mod cache;
mod client;
pub(crate) mod database;
pub(crate) mod endpoint;
pub(crate) mod named_cache;
pub(crate) mod reload;
pub(crate) mod routes;
pub(crate) mod service_cache;
pub(crate) mod status;
mod table;
mod target;
pub(crate) mod top;
pub(crate) mod upgrade;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

/// Heads the arguments that say which process is meant.
const WHICH: &str = "Which process";

/// Which process is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConnectArgs {
    /// The file that the process runs by, which tells its admin listener and token [default: ./tenfold.toml, if there]
    #[arg(long, value_name = "FILE", conflicts_with = "admin", help_heading = WHICH)]
    config: Option<PathBuf>,

    /// Its admin listener, as http://HOST:PORT; a token is taken from TENFOLD_ADMIN_TOKEN
    #[arg(long, value_name = "URL", help_heading = WHICH)]
    admin: Option<String>,
}

/// Prints to standard output. Whoever reads may stop early, as `head` does.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// Whether standard output shows colours and they are wanted (<https://no-color.org>).
fn wants_color() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A time span as people read it, in its two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// How long ago a time in seconds since 1970 was.
fn ago(time: u64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    span(now.saturating_sub(time))
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_have_two_units() {
        let check = |seconds: u64, expected: &str| assert_eq!(super::span(seconds), expected);
        check(0, "0s");
        check(59, "59s");
        check(61, "1m 1s");
        check(7_260, "2h 1m");
        check(100_000, "1d 3h");
    }
}
