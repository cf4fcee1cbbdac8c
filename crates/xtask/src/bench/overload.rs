//! What is left of a service that is offered three times what it can do, with load shedding and without.
//!
//! The service has 20 slots of 20 ms, so that it can do 1,000 requests per second, and queues the rest in their order, as
//! most do. Clients come at random moments whatever becomes of those before them, and give up after a deadline. What counts
//! is what was answered in time: the goodput. A tenth of the requests is critical, three tenths are normal and six low, so
//! that those which matter are well within what the service can do.
//!
//! The same gateway is asked at a tenth of the capacity first: what it takes then is what requests take at ease.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use testkit::{Histogram, Offered, OpenLoop, SlotServer, Tenfold, free_port};

use super::report::{Report, Row, Spread};
use crate::proof::{self, ProofArgs};

/// Arguments of `bench overload`.
#[derive(Debug, Args)]
pub struct OverloadArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of an overload that are measured, after five that are not
    #[arg(long)]
    seconds: Option<u64>,
}

const SLOTS: usize = 20;
const SERVICE_TIME: Duration = Duration::from_millis(20);
/// Requests per second that the service can do.
const CAPACITY: u32 = 1_000;
const OVERLOAD: u32 = 3;
/// How long clients wait.
const DEADLINE: Duration = Duration::from_millis(250);
const WARM_UP: Duration = Duration::from_secs(5);
/// Classes, and their shares of the requests in tenths.
const CLASSES: [(&str, u32); 3] = [("critical", 1), ("normal", 3), ("low", 6)];

/// With shedding at least this share of the capacity is answered in time, and critical requests nearly always.
const GOODPUT_MIN: f64 = 0.85;
const CRITICAL_MIN: f64 = 0.98;
/// The 99th percentile of what was admitted, over that at ease, at most.
const P99_RATIO_MAX: f64 = 3.0;
/// Without shedding it collapses: less than this is answered in time, or the load is none.
const COLLAPSED_MAX: f64 = 0.2;
/// A client that is this late itself measures nothing.
const LATE_MAX_MICROS: u64 = 10_000;
/// How often a measurement may be disturbed before it is given up.
const TRIES: usize = 4;

/// What was measured of a gateway.
#[derive(Default)]
struct Measured {
    /// 99th percentiles at ease, in microseconds, and in the overload.
    at_ease: Vec<f64>,
    p99: Vec<f64>,
    p50: Vec<f64>,
    /// Shares of the capacity that were answered in time.
    goodput: Vec<f64>,
    /// By class: shares of what was offered.
    served: [Vec<f64>; CLASSES.len()],
}

pub(super) fn run(args: &OverloadArgs) -> Result<()> {
    let quick = args.proof.quick;
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { 3 });
    let seconds = args.seconds.unwrap_or(if quick { 8 } else { 20 });
    let binary = proof::release_binary()?;
    let mut all = [("shedding", "shedding = {}", Measured::default()), ("none", "", Measured::default())];
    for round in 1..=rounds {
        for (name, setting, measured) in &mut all {
            undisturbed(&binary, setting, Duration::from_secs(seconds), round as u64, measured)?;
            let last = |values: &[f64]| values.last().copied().unwrap_or_default();
            let served: Vec<String> = CLASSES
                .iter()
                .zip(&measured.served)
                .map(|((class, _), shares)| format!("{class} {:.1}%", 100.0 * last(shares)))
                .collect();
            println!(
                "{round}/{rounds} {name:<9} goodput {:.1}% of the capacity, p99 {:.1} ms (at ease {:.1} ms), served {}",
                100.0 * last(&measured.goodput),
                last(&measured.p99) / 1e3,
                last(&measured.at_ease) / 1e3,
                served.join(", ")
            );
        }
    }
    let report = report(&all);
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    let ratio = |name: &str| report.ratios.get(name).copied().unwrap_or_default();
    let goodput = ratio("goodput/shedding");
    ensure!(goodput >= GOODPUT_MIN, "goodput {goodput} of the capacity, and not {GOODPUT_MIN}");
    let critical = ratio("critical/shedding");
    ensure!(critical >= CRITICAL_MIN, "{critical} of the critical requests were served, and not {CRITICAL_MIN}");
    let p99 = ratio("p99/shedding");
    ensure!(p99 < P99_RATIO_MAX, "the 99th percentile is {p99} times that at ease, and not below {P99_RATIO_MAX}");
    let collapsed = ratio("goodput/none");
    ensure!(collapsed < COLLAPSED_MAX, "without shedding the goodput is {collapsed}: that is no overload");
    Ok(())
}

/// Measures, and does so again when something else kept this machine busy meanwhile.
fn undisturbed(binary: &Path, setting: &str, time: Duration, seed: u64, measured: &mut Measured) -> Result<()> {
    for _ in 1..TRIES {
        match measure(binary, setting, time, seed, measured) {
            Err(error) if error.is::<Disturbed>() => println!("once more: {error}"),
            other => return other,
        }
    }
    measure(binary, setting, time, seed, measured)
}

/// The client was not in time, so that nothing was measured.
#[derive(Debug)]
struct Disturbed(u64);

impl std::fmt::Display for Disturbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the client itself was {} us late", self.0)
    }
}

impl std::error::Error for Disturbed {}

/// Starts a service and a gateway, and offers them little and then too much.
fn measure(binary: &Path, setting: &str, time: Duration, seed: u64, measured: &mut Measured) -> Result<()> {
    let server = SlotServer::start(SLOTS, SERVICE_TIME)?;
    let tenfold = start(binary, &server, setting)?;
    let paths = CLASSES.map(|(class, share)| (format!("/{class}"), share)).to_vec();
    let (address, warm_up) = (tenfold.address(), Duration::from_secs(1));
    let calm = OpenLoop { address, rate: CAPACITY / 10, time, warm_up, deadline: DEADLINE, paths, seed };
    let at_ease = checked(calm.run()?)?;
    let busy = OpenLoop { rate: OVERLOAD * CAPACITY, time: WARM_UP + time, warm_up: WARM_UP, ..calm };
    let overload = checked(busy.run()?)?;
    let percentile = |offered: &[Offered], share: f64| {
        let mut latency = Histogram::default();
        offered.iter().for_each(|one| latency.merge(&one.latency));
        latency.percentile(share) as f64
    };
    measured.at_ease.push(percentile(&at_ease, 0.99));
    measured.p99.push(percentile(&overload, 0.99));
    measured.p50.push(percentile(&overload, 0.5));
    let good: u64 = overload.iter().map(|one| one.good).sum();
    measured.goodput.push(good as f64 / (f64::from(CAPACITY) * time.as_secs_f64()));
    for (shares, one) in measured.served.iter_mut().zip(&overload) {
        shares.push(one.good as f64 / one.due.max(1) as f64);
    }
    Ok(())
}

/// What was measured, unless the client was too busy to tell, or something failed that was no overload.
fn checked(offered: Vec<Offered>) -> Result<Vec<Offered>> {
    for one in &offered {
        let late = one.late.percentile(0.99);
        ensure!(late < LATE_MAX_MICROS, Disturbed(late));
        let failure = one.failure.as_deref().unwrap_or_default();
        ensure!(one.failed == 0, "{} requests failed: {failure}", one.failed);
        let (refused, told) = (one.refused, one.told_when);
        ensure!(told == refused, "{refused} were refused, and {told} of them told when to come again");
    }
    Ok(offered)
}

fn start(binary: &Path, server: &SlotServer, setting: &str) -> Result<Tenfold> {
    let (admin, web, endpoint) = (free_port(), free_port(), server.address());
    let route = |(class, _): (&str, u32)| {
        format!("[[route]]\nname = \"{class}\"\npath = \"/{class}\"\nservice = \"api\"\npriority = \"{class}\"\n")
    };
    let routes: String = CLASSES.map(route).concat();
    let toml = format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{web}\"\n{routes}\
         [service.api]\nendpoints = [\"{endpoint}\"]\n{setting}\n"
    );
    Tenfold::start_with(Command::new(binary), &toml)
}

fn report(all: &[(&str, &str, Measured)]) -> Report {
    let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
    let rows = all.iter().flat_map(|(name, _, measured)| {
        let row = |case: &str, ops, p50, p99| Row {
            subject: (*name).to_owned(),
            case: case.to_owned(),
            ops_per_s: ops,
            p50_us: p50,
            p99_us: p99,
            rounds: Some(measured.goodput.len()),
            ..Row::default()
        };
        let goodput = median(&measured.goodput).map(|share| share * f64::from(CAPACITY));
        [
            row("at_ease", None, None, median(&measured.at_ease)),
            row("overload", goodput, median(&measured.p50), median(&measured.p99)),
        ]
    });
    let mut report = Report::new(rows.collect());
    for (name, _, measured) in all {
        let p99 = measured.p99.iter().zip(&measured.at_ease).map(|(busy, calm)| busy / calm.max(1.0)).collect();
        let mut ratios = vec![("goodput", measured.goodput.clone()), ("p99", p99)];
        ratios.extend(CLASSES.iter().zip(&measured.served).map(|((class, _), shares)| (*class, shares.clone())));
        for (ratio, values) in ratios {
            if let Some(spread) = Spread::of(values) {
                report.add_ratio(format!("{ratio}/{name}"), spread);
            }
        }
    }
    report
}
