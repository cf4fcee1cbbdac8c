//! `tenfold endpoint`: changes the endpoints of a running process.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConnectArgs;
use super::client::{Client, encoded};
use super::status::{list, number, services_table, text};

const EXAMPLES: &str = "\
Examples:
  tenfold endpoint drain api 10.0.0.1:8080 --wait 30s    No new requests; wait until those under way have ended
  tenfold endpoint undrain api 10.0.0.1:8080             Requests again
  tenfold endpoint weight api 10.0.0.2:8080 5            Another share of the traffic
  tenfold endpoint add api 10.0.0.9:8080 --weight 2      One that the file does not have
  tenfold endpoint remove api 10.0.0.2:8080              Hide one that it has
  tenfold endpoint reset api 10.0.0.2:8080               By the file again
  tenfold endpoint reset --all                           Everything by the file again

A change lies over the file: it outlives reloads, but not the process. To keep it, write it into the file.
`tenfold status` lists what was changed.";

/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(100);

/// What `tenfold endpoint` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Add an endpoint that the file does not have
    #[command(after_help = "Example:\n  tenfold endpoint add api 10.0.0.9:8080 --weight 2")]
    Add {
        #[command(flatten)]
        place: Place,
        /// Its share of the traffic, from 0 to 1000
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = weight())]
        weight: u16,
        /// Lower ones come first, from 0 to 15
        #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=15))]
        priority: u8,
        /// The zone that it is in
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Use it only while no other endpoint is available
        #[arg(long)]
        backup: bool,
        /// Give it no requests yet
        #[arg(long)]
        drain: bool,
    },
    /// Give an endpoint no new requests; those under way finish
    #[command(
        after_help = "Example:\n  tenfold endpoint drain api 10.0.0.1:8080 --wait 30s && ssh 10.0.0.1 restart-api"
    )]
    Drain {
        #[command(flatten)]
        place: Place,
        /// Wait until no request is under way there, and fail after this time
        #[arg(long, value_name = "TIME", value_parser = vocab::units::parse_duration)]
        wait: Option<Duration>,
    },
    /// Give a drained endpoint requests again
    Undrain {
        #[command(flatten)]
        place: Place,
    },
    /// Give an endpoint another share of the traffic
    #[command(after_help = "Example:\n  tenfold endpoint weight api 10.0.0.2:8080 5")]
    Weight {
        #[command(flatten)]
        place: Place,
        /// Its share, relative to the others: from 0 to 1000
        #[arg(value_parser = weight())]
        weight: u16,
    },
    /// Hide an endpoint of the file, or take one away that was added
    Remove {
        #[command(flatten)]
        place: Place,
    },
    /// Let an endpoint go by the file again
    #[command(after_help = "Examples:\n  tenfold endpoint reset api 10.0.0.2:8080\n  tenfold endpoint reset --all")]
    Reset {
        /// The service's name
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        service: Option<String>,
        /// The endpoint's HOST:PORT
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        address: Option<String>,
        /// Everything that was changed at run time
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// An endpoint, and how to answer.
#[derive(Debug, Args)]
struct Place {
    /// The service's name
    service: String,
    /// The endpoint's HOST:PORT, as the file writes it, or one address that its host name stands for
    address: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// Print the service afterwards as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn weight() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(0..=1000)
}

/// Makes the change.
///
/// # Errors
/// When nothing answers as the admin listener does, or the change was refused.
pub(crate) fn run(args: &EndpointArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        EndpointCommand::Add { place, weight, priority, zone, backup, drain } => {
            let mut body = json!({ "address": place.address, "weight": weight, "backup": backup, "drain": drain });
            body["priority"] = (*priority).into();
            body["zone"] = zone.clone().into();
            let path = format!("/api/services/{}/endpoints", encoded(&place.service));
            place.output.show(|client| client.send("POST", &path, Some(&body)))
        }
        EndpointCommand::Drain { place, wait } => place.output.show(|client| {
            let service = client.send("PATCH", &place.path(), Some(&json!({ "drain": true })))?;
            match wait {
                Some(wait) => place.await_idle(client, service, *wait),
                None => Ok(service),
            }
        }),
        EndpointCommand::Undrain { place } => place.edit(&json!({ "drain": false })),
        EndpointCommand::Weight { place, weight } => place.edit(&json!({ "weight": weight })),
        EndpointCommand::Remove { place } => place.output.show(|client| client.send("DELETE", &place.path(), None)),
        EndpointCommand::Reset { service: Some(service), address: Some(address), output, .. } => {
            let path = format!("{}/overrides", endpoint_path(service, address));
            output.show(|client| client.send("DELETE", &path, None))
        }
        EndpointCommand::Reset { output, .. } => {
            let reset = Client::new(&output.connect)?.send("DELETE", "/api/overrides", None)?;
            let text = match (output.json, number(&reset, "reset")) {
                (true, _) => format!("{reset:#}\n"),
                (false, 1) => "1 setting goes by the file again\n".to_owned(),
                (false, many) => format!("{many} settings go by the file again\n"),
            };
            super::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn endpoint_path(service: &str, address: &str) -> String {
    format!("/api/services/{}/endpoints/{}", encoded(service), encoded(address))
}

impl Place {
    fn path(&self) -> String {
        endpoint_path(&self.service, &self.address)
    }

    fn edit(&self, body: &Value) -> anyhow::Result<ExitCode> {
        self.output.show(|client| client.send("PATCH", &self.path(), Some(body)))
    }

    /// Waits until no request is under way at the endpoint.
    fn await_idle(&self, client: &Client, mut service: Value, wait: Duration) -> anyhow::Result<Value> {
        let deadline = Instant::now() + wait;
        loop {
            let in_flight = in_flight(&service, &self.address);
            if in_flight == 0 {
                return Ok(service);
            }
            if Instant::now() >= deadline {
                let (name, address) = (&self.service, &self.address);
                let requests = if in_flight == 1 { "request is" } else { "requests are" };
                bail!(
                    "service {name}: {address} is drained, but {in_flight} {requests} still under way after {wait:?}"
                );
            }
            std::thread::sleep(LOOK);
            service = client.get(&format!("/api/services/{}", encoded(&self.service)))?;
        }
    }
}

/// Requests under way at an endpoint, by its name or its address.
fn in_flight(service: &Value, address: &str) -> u64 {
    let is_it =
        |endpoint: &&Value| ["name", "address"].iter().any(|key| text(endpoint, key).eq_ignore_ascii_case(address));
    list(&service["endpoints"]).iter().filter(is_it).map(|endpoint| number(endpoint, "in_flight")).sum()
}

impl Output {
    /// Does something that gives a service, and shows that.
    fn show(&self, act: impl FnOnce(&Client) -> anyhow::Result<Value>) -> anyhow::Result<ExitCode> {
        let service = act(&Client::new(&self.connect)?)?;
        let text = if self.json {
            format!("{service:#}\n")
        } else {
            services_table(std::slice::from_ref(&service)).render(super::wants_color())
        };
        super::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
