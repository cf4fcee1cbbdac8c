//! The `tenfold` command: reads its arguments, runs one command, and says what went wrong.

mod args;
mod cache;
mod check;
mod completions;
mod control;
mod demo;
mod import;
mod run;
mod schema;

use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.parent {
        Some(parent) => die_with(parent).and_then(|()| dispatch(&cli)),
        None => dispatch(&cli),
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn dispatch(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Import(args) => import::run(args),
        Command::Status(args) => control::status::run(args),
        Command::Top(args) => control::top::run(args),
        Command::Routes(args) => control::routes::run(args),
        Command::Endpoint(args) => control::endpoint::run(args),
        Command::Breaker(args) => control::breaker::run(args),
        Command::Cache(command) => cache::run(command),
        Command::Db(command) => control::database::run(command),
        Command::Reload(args) => control::reload::run(args),
        Command::Upgrade(args) => control::upgrade::run(args),
        Command::Demo(args) => demo::run(args),
        Command::DemoInstance(args) => demo::instance::run(args),
        Command::Completions(args) => completions::run(args),
    }
}

/// Prints an error and what caused it, one line each.
fn complain(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    // When standard error is gone, the exit code still tells.
    let _ = writeln!(stderr, "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(stderr, "  caused by: {cause}");
    }
}

/// Has the system kill this process when the one that started it ends, however that ends.
fn die_with(parent: u32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // It may have ended before the request was made; then this process has another parent by now.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
    anyhow::ensure!(now == Some(parent), "the process that started this one has ended");
    Ok(())
}
