//! `tenfold db`: databases of a running process.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::ConnectArgs;
use super::client::{Client, encoded};
use super::status::{list as items, number, text};
use super::table::Table;

/// What the commands look like.
pub(crate) const EXAMPLES: &str = "\
Examples:
  tenfold db status                  Databases, their clients, and the connections of each user
  tenfold db pause shop              Lend no connections any more: clients wait, transactions under way end
  tenfold db resume shop             Lend them again
  tenfold db reconnect shop          Make all connections anew, as they come back

A pool is told that is there: a user who comes for the first time afterwards has another one.";

#[derive(Debug, Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Show the databases, and the pools of their users
    Status(StatusArgs),
    /// Have the pools of a database lend no connections
    Pause(NameArgs),
    /// Have them lend connections again
    Resume(NameArgs),
    /// Have all connections of a database made anew
    Reconnect(NameArgs),
}

/// What `tenfold db status` may be told.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// What the others are told.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The database's name, as clients ask for it
    database: String,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs one of them.
///
/// # Errors
/// When nothing answers as the admin listener does, or there is no such database.
pub(crate) fn run(command: &DatabaseCommand) -> anyhow::Result<ExitCode> {
    match command {
        DatabaseCommand::Status(args) => status(args),
        DatabaseCommand::Pause(args) => change(args, "pause"),
        DatabaseCommand::Resume(args) => change(args, "resume"),
        DatabaseCommand::Reconnect(args) => change(args, "reconnect"),
    }
}

fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let databases = Client::new(&args.connect)?.get("/api/databases")?;
    super::print(&if args.json { format!("{databases:#}\n") } else { table(&databases) })?;
    Ok(ExitCode::SUCCESS)
}

fn table(databases: &Value) -> String {
    let mut table = Table::new(&["DATABASE", "USER", "#CLIENTS", "#OPENING", "#IDLE", "#LENT", "#WAITING"]);
    for database in items(databases) {
        let clients = number(database, "clients").into();
        let none = || String::new().into();
        table.row(vec![text(database, "name").into(), none(), clients, none(), none(), none(), none()]);
        for pool in items(&database["pools"]) {
            let mut row = vec![none(), text(pool, "user").into(), none()];
            row.extend(["opening", "idle", "lent", "waiting"].map(|key| number(pool, key).into()));
            table.row(row);
        }
    }
    table.render(super::wants_color())
}

fn change(args: &NameArgs, what: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/api/databases/{}/{what}", encoded(&args.database));
    let told = Client::new(&args.connect)?.send("POST", &path, None)?;
    super::print(&format!("{}: {}\n", args.database, text(&told, "state")))?;
    Ok(ExitCode::SUCCESS)
}
