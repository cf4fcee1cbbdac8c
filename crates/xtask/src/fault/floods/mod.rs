//! Clients that mean harm, beside clients that do not.
//!
//! Each flood is done for a while to a gateway that serves a steady load. What is judged is what the others notice, what
//! the gateway spends on an offender, whether all offenders are cut and counted, and whether all is given back.

mod judge;
mod offenders;
mod site;
mod table;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::{Steady, procfs};

use self::judge::{LATENCY, Seen};
use self::offenders::{Extent, Offence, offend};
use self::site::{CONNECTIONS, Site};
use self::table::{Flood, NAMES};
use super::leaks::{Footprint, MEMORY};
use crate::proof::{self, ProofArgs, Verdict};

/// Arguments of `fault floods`.
#[derive(Debug, Args)]
pub struct FloodsArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Floods: rapid_reset, continuation, settings, slow_read, slow_read_http2, slow_head, tls_silent, tls_first_byte, tls_hello, passed_silent, passed_hello, announced_silent, announced_header; all of them by default
    #[arg(long, value_delimiter = ',')]
    flood: Vec<String>,
}

/// Descriptors beyond those of the offenders, on either side.
const DESCRIPTORS_SPARE: u64 = 1000;
/// Time for the load to come to rest before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two looks at the gateway's memory.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn run(args: &FloodsArgs) -> Result<()> {
    let quick = args.proof.quick;
    let names: Vec<&str> = match args.flood.as_slice() {
        [] => NAMES.to_vec(),
        chosen => chosen.iter().map(String::as_str).collect(),
    };
    let unknown = names.iter().find(|name| !NAMES.contains(name));
    ensure!(unknown.is_none(), "no flood {}; there are {}", unknown.unwrap_or(&""), NAMES.join(", "));
    let binary = proof::release_binary()?;
    // The gateway inherits it.
    proof::raise_descriptor_limit(if quick { 2000 } else { 10_000 } + DESCRIPTORS_SPARE)?;
    let patience = Duration::from_secs(if quick { 2 } else { 6 });
    let site = Site::start(&binary, patience)?;
    let mut verdict = Verdict::default();
    for name in names {
        let flood = table::flood(name, &site.authority.file())?.context("a flood that is named is there")?;
        prove(&site, &flood, patience, quick, &mut verdict)
            .with_context(|| format!("{name}: {}", site.tenfold.output()))?;
    }
    verdict.conclude("fault floods", &args.proof)
}

fn prove(site: &Site, flood: &Flood, patience: Duration, quick: bool, verdict: &mut Verdict) -> Result<()> {
    let extent = Extent {
        clients: if quick { flood.clients.1 } else { flood.clients.0 },
        time: Duration::from_secs(if quick { 2 } else { 6 }),
        patience,
    };
    let load = site.load(flood.entry);
    std::thread::sleep(WARM_UP);
    // Requests that are delayed meet, and each needs a connection to the service.
    let baseline = Footprint::of(site.tenfold.pid())?.with_descriptors(CONNECTIONS as usize);
    // What an allocator keeps of a first flood serves the second one. What is lost, is lost again.
    let mut kept = baseline.clone();
    let mut latency = Ok(());
    for round in ["once", "again"] {
        if quick && round == "again" && latency.is_ok() {
            break;
        }
        let seen = measure(site, &load, flood, extent)?;
        let (family, label) = flood.metric;
        println!("{}", seen.told(&format!("{} {round}", flood.name), &format!("{family}{{{label}}}")));
        for (name, outcome) in seen.checks(expected_at_once(flood, extent), &flood.bounds) {
            match name {
                LATENCY if round == "again" => latency = latency.or(outcome),
                LATENCY => latency = outcome,
                _ => verdict.check(flood.name, name, &outcome),
            }
        }
        let after = Footprint::closed(site.tenfold.pid(), &baseline)?;
        println!("  afterwards: {after}; before: {baseline}");
        let is_again = round == "again";
        for (name, outcome) in after.leaks_beyond(if is_again { &kept } else { &baseline }) {
            if is_again || name != MEMORY {
                verdict.check(flood.name, name, &outcome);
            }
        }
        kept = after;
        verdict.notes.insert(format!("{} {round}: offenders", flood.name), seen.offence.offenders);
        verdict.notes.insert(format!("{} {round}: p99 before us", flood.name), seen.p99_before_us);
        verdict.notes.insert(format!("{} {round}: p99 meanwhile us", flood.name), seen.p99_during_us);
    }
    verdict.check(flood.name, LATENCY, &latency);
    Ok(())
}

/// Offenders that have to be there at one time, or nothing was shown.
fn expected_at_once(flood: &Flood, extent: Extent) -> u64 {
    match flood.deed {
        offenders::Deed::Send { .. } => 1,
        offenders::Deed::Hold { requests, .. } => u64::from(extent.clients) * requests,
    }
}

fn measure(site: &Site, load: &Steady, flood: &Flood, extent: Extent) -> Result<Seen> {
    let pid = site.tenfold.pid();
    let counted = || site.tenfold.metric(flood.metric.0, &[flood.metric.1]);
    let cpu = || procfs::cpu_time(&[pid]);
    load.window();
    let (quiet_from, cpu_from) = (Instant::now(), cpu()?);
    std::thread::sleep(extent.time);
    let (quiet, quiet_cpu) = (quiet_from.elapsed(), cpu()?.saturating_sub(cpu_from));
    let before = load.window();

    let (counted_before, memory_before) = (counted()?, procfs::rss_bytes(pid)?);
    let (begun, cpu_from) = (Instant::now(), cpu()?);
    let (offence, memory_most) = std::thread::scope(|scope| {
        let offender = scope.spawn(|| offend(site, flood.entry, &flood.deed, extent));
        let mut most = memory_before;
        while !offender.is_finished() {
            most = most.max(procfs::rss_bytes(pid)?);
            std::thread::sleep(LOOK);
        }
        let offence: Result<Offence> = offender.join().expect("an offender panicked");
        Ok::<_, anyhow::Error>((offence?, most))
    })?;
    let spent = cpu()?.saturating_sub(cpu_from);
    let during = load.window();
    let others = quiet_cpu.mul_f64(begun.elapsed().as_secs_f64() / quiet.as_secs_f64());
    // A connection that was cut is counted before its socket closes.
    let counted = (counted()? - counted_before) as u64;
    Ok(Seen {
        offence,
        counted,
        p99_before_us: before.latency.percentile(0.99),
        p99_during_us: during.latency.percentile(0.99),
        requests: before.latency.count() + during.latency.count() + before.failed + during.failed,
        failed: before.failed + during.failed,
        failures: before.failures.into_iter().chain(during.failures).collect(),
        memory_bytes: memory_most.saturating_sub(memory_before),
        cpu: spent.saturating_sub(others),
    })
}
