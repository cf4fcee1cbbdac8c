//! What mirroring adds to the latency of the originals.
//!
//! Requests come at a fixed rate, far below what a core can take, to gateways that differ in their mirror alone: none,
//! none once more (what differs there is noise), one that answers, one where nothing listens, and one that takes
//! connections and never answers. Each round measures all of them, in an order that rotates, and ratios are taken
//! within a round. The gateway has a core to itself. What the mirror costs by itself is not its: on the other core it
//! runs only when nobody else wants to, as if it had a machine of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use testkit::{Steady, SteadyParams, Tenfold, Window, free_port};

use super::report::{Report, Row, Spread};
use super::subject::{OTHER_CORE, PROXY_CORE, Subject, on_core};
use crate::proof::{self, ProofArgs};

/// Arguments of `bench mirror`.
#[derive(Debug, Args)]
pub struct MirrorArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of a round
    #[arg(long)]
    seconds: Option<u64>,

    /// Requests per second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
}

/// Gateway without a mirror, and those that are held against it.
const OFF: &str = "off";
const OTHERS: &[&str] = &["off_again", "alive", "dead", "silent"];
/// The originals' 99th percentile with a mirror over that without, at most.
const P99_RATIO_MAX: f64 = 1.05;
const CONNECTIONS: u32 = 16;

/// A gateway, and the windows that were measured of it.
struct Variant {
    name: &'static str,
    tenfold: Tenfold,
    windows: Vec<Window>,
}

pub(super) fn run(args: &MirrorArgs) -> Result<()> {
    let quick = args.proof.quick;
    let rounds = args.rounds.unwrap_or(if quick { 3 } else { 12 });
    let seconds = args.seconds.unwrap_or(if quick { 2 } else { 3 });
    let binary = proof::release_binary()?;
    let (origin, shadow) = (Subject::origin()?, Subject::origin()?);
    shadow.pids().into_iter().try_for_each(proof::give_way)?;
    // The kernel takes connections for it, and nobody reads what comes.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mirror_of = |name| match name {
        "alive" => Some(shadow.port),
        "dead" => Some(free_port()),
        "silent" => silent.local_addr().ok().map(|address| address.port()),
        _ => None,
    };
    let mut variants = Vec::new();
    for &name in [OFF].iter().chain(OTHERS) {
        let tenfold = on_core(Some(PROXY_CORE), || start(&binary, origin.port, mirror_of(name)))?;
        variants.push(Variant { name, tenfold, windows: Vec::new() });
    }
    for number in 0..rounds {
        for turn in 0..variants.len() {
            let at = (number + turn) % variants.len();
            let variant = &mut variants[at];
            let window = on_core(Some(OTHER_CORE), || measure(&variant.tenfold, args.rate, seconds))?;
            let [p50, p99] = [0.5, 0.99].map(|share| window.latency.percentile(share));
            println!("{}/{rounds} {:<10} p50 {p50} us, p99 {p99} us", number + 1, variant.name);
            variant.windows.push(window);
        }
    }
    for variant in &variants {
        let count =
            |result| Ok::<_, anyhow::Error>(variant.tenfold.metric("http_requests_mirrored_total", &[result])? as u64);
        println!("{:<10} {} mirrored, {} not", variant.name, count("result=\"sent\"")?, count("result=\"dropped\"")?);
    }
    let report = report(&variants, seconds);
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    let slow = report.ratios.iter().filter(|(name, ratio)| name.starts_with("p99/") && **ratio > P99_RATIO_MAX);
    let slow: Vec<_> = slow.filter(|(name, _)| !name.ends_with(OTHERS[0])).map(|(name, _)| name.as_str()).collect();
    ensure!(slow.is_empty(), "above {P99_RATIO_MAX}: {}", slow.join(", "));
    Ok(())
}

fn start(binary: &Path, origin: u16, mirror: Option<u16>) -> Result<Tenfold> {
    let (admin, web) = (free_port(), free_port());
    let (copied, shadow) = match mirror {
        None => ("", String::new()),
        Some(port) => (
            "mirror = { service = \"shadow\", share = \"100%\" }\n",
            format!("[service.shadow]\nendpoints = [\"127.0.0.1:{port}\"]\n"),
        ),
    };
    let toml = format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[runtime]\nworkers = 1\n[listener.web]\nlisten = \"127.0.0.1:{web}\"\n\
         [[route]]\nname = \"web\"\nservice = \"api\"\n{copied}[service.api]\nendpoints = [\"127.0.0.1:{origin}\"]\n{shadow}"
    );
    Tenfold::start_with(Command::new(binary), &toml)
}

fn measure(tenfold: &Tenfold, rate: u32, seconds: u64) -> Result<Window> {
    let address: SocketAddr = tenfold.address();
    let path = "/128B".to_owned();
    let load = Steady::start(SteadyParams { address, path, rate, connections: CONNECTIONS, fresh_every: 0, tls: None });
    // Connections are made, and what the round before has left comes to rest.
    std::thread::sleep(Duration::from_millis(500));
    load.window();
    std::thread::sleep(Duration::from_secs(seconds));
    let window = load.window();
    ensure!(window.failed == 0, "{} requests failed: {}", window.failed, window.failures.join("; "));
    Ok(window)
}

fn report(variants: &[Variant], seconds: u64) -> Report {
    let latencies = |variant: &Variant, share: f64| -> Vec<f64> {
        variant.windows.iter().map(|window| window.latency.percentile(share) as f64).collect()
    };
    let median = |values: Vec<f64>| Spread::of(values).map(|spread| spread.median);
    let rows = variants.iter().map(|variant| Row {
        subject: variant.name.to_owned(),
        case: "mirror".to_owned(),
        ops_per_s: median(
            variant.windows.iter().map(|window| window.latency.count() as f64 / seconds as f64).collect(),
        ),
        p50_us: median(latencies(variant, 0.5)),
        p99_us: median(latencies(variant, 0.99)),
        rounds: Some(variant.windows.len()),
        ..Row::default()
    });
    let mut report = Report::new(rows.collect());
    let (off, others) = variants.split_first().expect("one is without a mirror");
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let base = latencies(off, share);
        for other in others {
            let ratios = latencies(other, share).into_iter().zip(&base).map(|(with, without)| with / without.max(1.0));
            if let Some(spread) = Spread::of(ratios) {
                report.add_ratio(format!("{name}/{}", other.name), spread);
            }
        }
    }
    report
}
