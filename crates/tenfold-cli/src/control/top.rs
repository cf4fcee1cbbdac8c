//! `tenfold top`: what is going on, again and again.
//!
//! The metrics are asked for twice, and what lies between is shown: requests and errors a second, percentiles of the
//! latency, and requests under way.

mod metrics;
mod rates;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::ConnectArgs;
use super::client::Client;
use metrics::Sample;
use rates::Rates;
use screen::Screen;

const EXAMPLES: &str = "\
Examples:
  tenfold top                        Every second, until Ctrl-C
  tenfold top --sort p99             What is slow first
  tenfold top --once                 One table of the next second, then end
  tenfold top --once --json          The same for programs; without --once an object per line

Routes count whole requests as clients see them, endpoints each try. Errors are answers of 500 and above, and tries
that failed. Percentiles are those of the time that passed, from the buckets of the metrics.";

/// What `tenfold top` may be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// What comes first
    #[arg(long, value_enum, value_name = "COLUMN", default_value_t = Sort::Requests)]
    sort: Sort,

    /// Show one interval and end
    #[arg(long)]
    once: bool,

    /// Print JSON: an object per interval, on a line of its own
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Columns to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Requests a second
    Requests,
    /// Errors a second
    Errors,
    /// Median of the latency
    P50,
    /// 99th percentile of the latency
    P99,
    /// Requests under way
    InFlight,
    /// By name
    Name,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = vocab::units::parse_duration(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    if bounds.contains(&interval) { Ok(interval) } else { Err("it is not from 100ms to 1h".to_owned()) }
}

/// Shows what is going on until it is told to stop.
///
/// # Errors
/// When nothing answers as the admin listener does at the beginning, or, with `--once`, at the end.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.connect)?;
    let page = client.text("/metrics")?;
    anyhow::ensure!(page.contains("tenfold_build_info"), "{} has no metrics of Tenfold", client.url());
    let first = Sample::read(&page);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(watch(args, client, first));
    // An answer that is still awaited need not come.
    runtime.shutdown_background();
    result
}

async fn watch(args: &TopArgs, client: Client, first: Sample) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut screen = Screen::new(args.once || args.json);
    let (mut before, mut taken) = (first, Instant::now());
    loop {
        let (asked, client) = (client.clone(), client.clone());
        let next = async {
            tokio::time::sleep(args.interval).await;
            tokio::task::spawn_blocking(move || asked.text("/metrics")).await
        };
        let page = tokio::select! {
            page = next => page?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hang_up.recv() => break,
        };
        let now = Instant::now();
        match page {
            Ok(page) => {
                let sample = Sample::read(&page);
                let mut rates = Rates::between(&before, &sample, now - taken);
                rates.sort(args.sort);
                (before, taken) = (sample, now);
                let text =
                    if args.json { format!("{}\n", rates.to_json()) } else { rates.render(&screen, &client.url()) };
                if !screen.show(&text)? {
                    break;
                }
            }
            Err(error) if args.once => return Err(error),
            // It may be restarting.
            Err(error) => {
                if !screen.show_trouble(&error)? {
                    break;
                }
            }
        }
        if args.once {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
