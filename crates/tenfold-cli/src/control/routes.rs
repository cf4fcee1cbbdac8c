//! `tenfold routes`: which requests go where.

use std::process::ExitCode;

use clap::Args;

use super::ConnectArgs;
use super::client::Client;
use super::status::{list, number, text};
use super::table::Table;

const EXAMPLES: &str = "\
Examples:
  tenfold routes                     Of the process that runs by ./tenfold.toml
  tenfold routes --json              For programs

The most specific route wins, whatever the order.";

/// What `tenfold routes` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RoutesArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints the routes.
///
/// # Errors
/// When nothing answers as the admin listener does.
pub(crate) fn run(args: &RoutesArgs) -> anyhow::Result<ExitCode> {
    let routes = Client::new(&args.connect)?.get("/api/routes")?;
    if args.json {
        super::print(&format!("{routes:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["ROUTE", "LISTENER", "HOST", "PATH", "SERVICE", "#IN FLIGHT", "#REQUESTS"]);
    for route in list(&routes) {
        table.row(vec![
            text(route, "name").into(),
            text(route, "listener").into(),
            route["host"].as_str().unwrap_or("any").into(),
            text(route, "path").into(),
            text(route, "service").into(),
            number(route, "in_flight").into(),
            number(route, "requests").into(),
        ]);
    }
    super::print(&table.render(super::wants_color()))?;
    Ok(ExitCode::SUCCESS)
}
