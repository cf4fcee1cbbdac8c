//! `tenfold db`: databases of a running process.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

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
  tenfold db clients shop            Who is there, by numbers
  tenfold db kill shop --client 17   End one client, with what it has under way
  tenfold db kill shop --and-refuse   End all, and take no new ones
  tenfold db enable shop             Take new ones again

A database is told, and not its pools: users who come for the first time afterwards find it so. A restart or an upgrade
forgets what it was told.";

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
    /// Show the clients of a database
    Clients(ClientsArgs),
    /// Close clients' connections at once; they hear 57P01, and may come again
    Kill(KillArgs),
    /// Take no new clients of a database; those that are there stay
    Disable(NameArgs),
    /// Take new clients again
    Enable(NameArgs),
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

/// What `tenfold db clients` is told.
#[derive(Debug, Args)]
pub(crate) struct ClientsArgs {
    /// The database's name, as clients ask for it
    database: String,

    /// Print a JSON array
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// What `tenfold db kill` is told.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The database's name, as clients ask for it
    database: String,

    /// Only the client with this number, as `tenfold db clients` shows it
    #[arg(long, value_name = "N", conflicts_with = "server")]
    client: Option<u64>,

    /// Only clients that have a connection to this server just now, and all connections to it
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,

    /// Take no new clients either, until `tenfold db enable`
    #[arg(long)]
    and_refuse: bool,

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
        DatabaseCommand::Clients(args) => clients(args),
        DatabaseCommand::Kill(args) => kill(args),
        DatabaseCommand::Disable(args) => change(args, "disable"),
        DatabaseCommand::Enable(args) => change(args, "enable"),
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

fn clients(args: &ClientsArgs) -> anyhow::Result<ExitCode> {
    let clients = Client::new(&args.connect)?.get(&format!("/api/databases/{}/clients", encoded(&args.database)))?;
    super::print(&if args.json { format!("{clients:#}\n") } else { table_of_clients(&clients) })?;
    Ok(ExitCode::SUCCESS)
}

fn table_of_clients(clients: &Value) -> String {
    let mut table = Table::new(&["#CLIENT", "USER", "ADDRESS", "APPLICATION", "CONNECTED", "WAITS"]);
    for client in items(clients) {
        let waits = client["waits_seconds"].as_f64().map_or_else(String::new, |waits| format!("{waits:.3}s"));
        let connected = super::ago(client["since"].as_u64().unwrap_or_default());
        let address = client["address"].as_str().unwrap_or("unix").to_owned();
        let [user, application] = ["user", "application"].map(|key| text(client, key).into());
        let number = number(client, "number").into();
        table.row(vec![number, user, address.into(), application, connected.into(), waits.into()]);
    }
    table.render(super::wants_color())
}

fn kill(args: &KillArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/api/databases/{}/kill", encoded(&args.database));
    let mut order = json!({ "refuse": args.and_refuse });
    if let Some(client) = args.client {
        order["client"] = client.into();
    }
    if let Some(server) = &args.server {
        order["server"] = server.as_str().into();
    }
    let told = Client::new(&args.connect)?.send("POST", &path, Some(&order))?;
    super::print(&format!("{}: {}\n", args.database, text(&told, "state")))?;
    Ok(ExitCode::SUCCESS)
}

fn change(args: &NameArgs, what: &str) -> anyhow::Result<ExitCode> {
    let path = format!("/api/databases/{}/{what}", encoded(&args.database));
    let told = Client::new(&args.connect)?.send("POST", &path, None)?;
    super::print(&format!("{}: {}\n", args.database, text(&told, "state")))?;
    Ok(ExitCode::SUCCESS)
}
