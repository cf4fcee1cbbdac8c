//! Measurements beside peers; see `docs/benchmarks.md`.

mod balance;
mod gateway;
mod h2load;
mod idle;
mod report;
mod subject;
mod wrk;

use anyhow::Result;
use clap::Subcommand;

pub use balance::BalanceArgs;
pub use gateway::GatewayArgs;
pub use idle::{IdleArgs, hold as hold_idle_connections};

/// The benches.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// CPU time per request of whole proxies, and memory per idle connection
    Gateway(GatewayArgs),
    /// Instructions per pick of an endpoint
    Balance(BalanceArgs),
}

/// Runs a bench.
///
/// # Errors
/// When something cannot be run, a request failed, or a bound of the bench is exceeded.
pub fn run(command: BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Gateway(args) => gateway::run(&args),
        BenchCommand::Balance(args) => balance::run(&args),
    }
}
