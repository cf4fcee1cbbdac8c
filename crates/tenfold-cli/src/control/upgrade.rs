//! `tenfold upgrade`: has the program start anew and take over from the process that runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::ConnectArgs;
use super::client::Client;
use super::status::{number, text};

const EXAMPLES: &str = "\
Examples:
  tenfold upgrade                    After the program or what starts with it has changed
  tenfold upgrade --wait 10m         Wait as well until the old process has ended
  tenfold upgrade --binary /opt/tenfold-2/tenfold

Without an admin listener, or by hand: kill -USR2 PID, and look at the log.

Exit codes:
  0  the new process serves
  1  it does not, and the old one goes on as before; or the old one has not ended in time. The reason is on standard error";

/// Time for the answer beyond that which the new process has to be ready: the most that the file may give it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(630);

/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(200);

/// What `tenfold upgrade` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpgradeArgs {
    /// The program to start, instead of the one that runs as it lies in its place now; needs an admin token
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,

    /// Wait at most this long until the old process has ended
    #[arg(long, value_name = "DURATION", value_parser = vocab::units::parse_duration)]
    wait: Option<Duration>,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Upgrades.
///
/// # Errors
/// When nothing answers as the admin listener does, or no other process has taken over.
pub(crate) fn run(args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect)?.with_answer_timeout(ANSWER_TIMEOUT);
    let status = client.get("/api/status")?;
    let (pid, version) = (number(&status, "pid"), text(&status, "version"));
    super::print(&format!("process {pid} ({version}) serves; starting another one\n"))?;
    let body = match &args.binary {
        None => json!({}),
        Some(path) => {
            let path = std::path::absolute(path).with_context(|| path.display().to_string())?;
            json!({ "binary": path.to_str().context("the path is not UTF-8")? })
        }
    };
    let taken = client.send("POST", "/api/upgrade", Some(&body))?;
    let (new, version, left) = (number(&taken, "pid"), text(&taken, "version"), number(&taken, "connections"));
    let left = connections(left);
    super::print(&format!("process {new} ({version}) serves; process {pid} finishes {left}\n"))?;
    if let Some(wait) = args.wait {
        await_end(&client, pid, wait)?;
        super::print(&format!("process {pid} has ended\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the process before the one that serves has ended.
fn await_end(client: &Client, pid: u64, wait: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + wait;
    loop {
        let predecessor = match client.get("/api/status") {
            Ok(status) => status["predecessor"].clone(),
            // A connection may still have reached the old process, which closes what it does not answer any more.
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => json!({ "pid": pid }),
        };
        if predecessor == Value::Null || number(&predecessor, "pid") != pid {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("process {pid} still has {} after {wait:?}", connections(number(&predecessor, "connections")));
        }
        std::thread::sleep(LOOK);
    }
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}
