//! Commands about caches.

mod simulate;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use simulate::SimulateArgs;

use crate::control::cache::{PurgeArgs, TopArgs};

/// What the commands look like.
pub(crate) const EXAMPLES: &str = "\
Examples:
  tenfold cache purge --tag product-7                        Whatever carries the tag
  tenfold cache purge --url https://shop.example.com/cart    One URL, with its variants
  tenfold cache purge --prefix shop.example.com/img/         Whatever lies under a path
  tenfold cache purge --host shop.example.com --soft         Stale, rather than gone
  tenfold cache top                                          What is asked for most

What is purged softly is served where its service fails, or while it is fetched again.";

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show the hit ratio that a cache of a size would have had
    Simulate(SimulateArgs),
    /// Have what the edge cache of a running process has stored gone, or stale
    Purge(PurgeArgs),
    /// Show what the edge cache of a running process is asked for most
    Top(TopArgs),
}

/// Runs one of them.
///
/// # Errors
/// As the command has them.
pub(crate) fn run(command: &CacheCommand) -> anyhow::Result<ExitCode> {
    match command {
        CacheCommand::Simulate(args) => simulate::run(args),
        CacheCommand::Purge(args) => crate::control::cache::purge(args),
        CacheCommand::Top(args) => crate::control::cache::top(args),
    }
}
