//! `cargo xtask`: see `cargo xtask --help`.

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, ci, conformance, fault, fuzz, install, tidy};

/// Checks, benches and proofs of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that has to pass: format, clippy, tidy, tests, doc tests, documentation
    Ci(ci::CiArgs),
    /// What the compiler does not know: arrows between crates, sizes, links, licences
    Tidy,
    /// Install the programs that tests and benches need, where they are missing
    Install,
    /// Run cargo-deny: advisories, licences, sources; installs it if it is missing
    Deny,
    /// Measure beside peers
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Hold to a standard, row by row
    #[command(subcommand)]
    Conformance(conformance::ConformanceCommand),
    /// Break something on purpose under load
    #[command(subcommand)]
    Fault(fault::FaultCommand),
    /// Run a fuzz target of fuzz/
    Fuzz(fuzz::FuzzArgs),
    /// The sample service that proofs run as a child process; ends with its standard input
    #[command(hide = true)]
    Origin {
        #[arg(long)]
        address: SocketAddr,
        #[arg(long)]
        name: String,
    },
    /// A proxy that does nothing but splice; ends with its standard input
    #[command(hide = true)]
    SpliceConnections {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// Open connections that each make one request and stay; ends with its standard input
    #[command(hide = true)]
    IdleConnections(bench::IdleArgs),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Ci(args) => ci::run(&args),
        Command::Tidy => tidy::run(),
        Command::Install => install::run(),
        Command::Deny => ci::deny(),
        Command::Bench(command) => bench::run(command),
        Command::Conformance(command) => conformance::run(command),
        Command::Fault(command) => fault::run(command),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Origin { address, name } => {
            xtask::proof::end_with_standard_input();
            testkit::serve_origin(address, &name)
        }
        Command::SpliceConnections { listen, upstream } => {
            xtask::proof::end_with_standard_input();
            bench::splice_connections(listen, upstream)
        }
        Command::IdleConnections(args) => bench::hold_idle_connections(&args),
    }
}
