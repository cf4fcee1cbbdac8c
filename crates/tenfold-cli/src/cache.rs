//! Commands about caches.

mod simulate;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) use simulate::SimulateArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show the hit ratio that a cache of a size would have had
    Simulate(SimulateArgs),
}

/// Runs one of them.
///
/// # Errors
/// As the command has them.
pub(crate) fn run(command: &CacheCommand) -> anyhow::Result<ExitCode> {
    match command {
        CacheCommand::Simulate(args) => simulate::run(args),
    }
}
