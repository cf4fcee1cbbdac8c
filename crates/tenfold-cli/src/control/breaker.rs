//! `tenfold breaker`: holds the breakers of a running process open or closed.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConnectArgs;
use super::client::{Client, encoded};
use super::status::services_table;

const EXAMPLES: &str = "\
Examples:
  tenfold breaker open api     No requests to the service, whatever it does; its fallback answers
  tenfold breaker close api    All requests to the service, however many fail
  tenfold breaker reset api    By its calls again, beginning closed

A breaker that is held outlives reloads, but not the process. `tenfold status` shows it.";

/// What `tenfold breaker` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BreakerArgs {
    #[command(subcommand)]
    command: BreakerCommand,
}

#[derive(Debug, Subcommand)]
enum BreakerCommand {
    /// Hold a service's breakers open: no requests
    Open(Which),
    /// Hold a service's breakers closed: all requests
    Close(Which),
    /// Let a service's breakers decide by themselves again
    Reset(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// The service's name
    service: String,
    /// Print the service afterwards as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Makes the change.
///
/// # Errors
/// When nothing answers as the admin listener does, or the change was refused.
pub(crate) fn run(args: &BreakerArgs) -> anyhow::Result<ExitCode> {
    let (which, force) = match &args.command {
        BreakerCommand::Open(which) => (which, Value::from("open")),
        BreakerCommand::Close(which) => (which, Value::from("closed")),
        BreakerCommand::Reset(which) => (which, Value::Null),
    };
    let path = format!("/api/services/{}/breaker", encoded(&which.service));
    let service = Client::new(&which.connect)?.send("PUT", &path, Some(&json!({ "force": force })))?;
    let text = if which.json {
        format!("{service:#}\n")
    } else {
        services_table(std::slice::from_ref(&service)).render(super::wants_color())
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
