//! `tenfold reload`: has a running process read its configuration again, and says what came of it.

use std::process::ExitCode;

use clap::Args;

use super::ConnectArgs;
use super::client::Client;

const EXAMPLES: &str = "\
Examples:
  tenfold check && tenfold reload    Apply a changed file; a change is also noticed by itself

Exit codes:
  0  the configuration was applied
  1  it was refused, and the one before stays; the reason is on standard error";

/// What `tenfold reload` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Reloads.
///
/// # Errors
/// When nothing answers as the admin listener does, or the configuration was refused.
pub(crate) fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    Client::new(&args.connect)?.send("POST", "/api/reload", None)?;
    super::print("configuration applied\n")?;
    Ok(ExitCode::SUCCESS)
}
