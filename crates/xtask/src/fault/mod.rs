//! What breaks while a gateway, a cache or a database serves, and what is noticed of it.

mod cache;
mod coherence;
mod database;
mod floods;
mod kills;
mod leaks;
mod origins;
mod outage;
mod reloads;
mod sockets;
mod subject;
mod upgrades;
mod writebehind;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use testkit::{Load, LoadParams, Report, Tenfold};

pub use cache::CacheArgs;
pub use coherence::CoherenceArgs;
pub use database::{FailoverArgs, IsolationArgs, ReadsArgs, StormArgs};
pub use floods::FloodsArgs;
pub use kills::{Kills, kill_and_return};
pub use origins::Origins;
pub use outage::OutageArgs;
pub use upgrades::UpgradeArgs;
pub use writebehind::WriteBehindArgs;

use crate::proof::{self, ProofArgs, Verdict};
use leaks::Footprint;
use reloads::Site;

/// The fault proofs.
#[derive(Debug, Subcommand)]
pub enum FaultCommand {
    /// Endpoints killed and configurations reloaded under load
    Gateway(GatewayArgs),
    /// The cache's store killed under writes, its files damaged, its disk full
    Cache(CacheArgs),
    /// Processes that share a cache in the library's two modes, while everything around them breaks
    Coherence(CoherenceArgs),
    /// Primaries of a database killed under writes, and replicas promoted
    Failover(FailoverArgs),
    /// Clients that flood, stall and hold, beside a steady load
    Floods(FloodsArgs),
    /// Many clients on few connections to a database, each of which looks after its own
    Isolation(IsolationArgs),
    /// The Redis of a cache of the library stopped, and killed, under load
    Outage(OutageArgs),
    /// Reads on replicas that stop replaying, held against what they have to show
    Reads(ReadsArgs),
    /// Clients of a database that vanish at any byte, under pauses, reloads and kills
    Storm(StormArgs),
    /// The process replaced by new ones under load and with WebSockets open
    Upgrade(UpgradeArgs),
    /// Write-behind killed under writes, its journal torn where power would be lost, its disk full
    #[command(name = "writebehind")]
    WriteBehind(WriteBehindArgs),
}

/// Arguments of `fault gateway`.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How often an endpoint is killed and returns; five reloads go with each
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
}

/// Reloads for each kill: 20 kills go with 110 reloads, a few more than the hundred that have to be shown.
const RELOADS_PER_KILL: f64 = 5.5;
/// Between the starts of two reloads, so that 110 of them take over a minute.
const RELOAD_INTERVAL: Duration = Duration::from_millis(600);

/// Runs a fault proof.
///
/// # Errors
/// When something cannot be run, or a check failed.
pub fn run(command: FaultCommand) -> Result<()> {
    match command {
        FaultCommand::Gateway(args) => gateway(&args),
        FaultCommand::Cache(args) => cache::run(&args),
        FaultCommand::Coherence(args) => coherence::run(&args),
        FaultCommand::Failover(args) => database::run_failover(&args),
        FaultCommand::Isolation(args) => database::run_isolation(&args),
        FaultCommand::Floods(args) => floods::run(&args),
        FaultCommand::Outage(args) => outage::run(&args),
        FaultCommand::Reads(args) => database::run_reads(&args),
        FaultCommand::Storm(args) => database::run_storm(&args),
        FaultCommand::Upgrade(args) => upgrades::run(&args),
        FaultCommand::WriteBehind(args) => writebehind::run(&args),
    }
}

fn gateway(args: &GatewayArgs) -> Result<()> {
    let binary = proof::release_binary()?;
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 6 } else { 20 });
    let reloads = (f64::from(rounds) * RELOADS_PER_KILL).ceil() as u32;
    let interval = if args.proof.quick { RELOAD_INTERVAL / 3 } else { RELOAD_INTERVAL };
    let verdict = prove(&binary, rounds, reloads, interval)?;
    verdict.conclude("fault gateway", &args.proof)
}

fn prove(binary: &Path, kills: u32, reloads: u32, interval: Duration) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut origins = Origins::start(3)?;
    let site = Site::new(&origins)?;
    let mut tenfold = Tenfold::start_with(Command::new(binary), &site.config(0))?;
    let address = tenfold.address();

    // What a process keeps once it has served the load for the first time is its baseline.
    let warm = Load::start(&LoadParams::new(address));
    std::thread::sleep(Duration::from_secs(2));
    count_load(&mut verdict, "warm_up", &warm.stop());
    let baseline = Footprint::settled(tenfold.pid(), None)?;
    println!("baseline: {baseline}");

    println!("killing endpoints, {kills} times");
    let found = kill_and_return(address, &mut origins, kills).with_context(|| tenfold.output())?;
    count_load(&mut verdict, "load_while_killed", &found.report);
    verdict.check("returns", "every endpoint that returned is used again", &found.unused());

    println!("reloading, {reloads} times");
    let load = Load::start(&LoadParams::new(address));
    let outcomes = reloads::reload_often(&mut tenfold, &site, reloads, interval);
    let report = load.stop();
    for (generation, outcome) in (1..).zip(outcomes) {
        verdict.check("reloads", &format!("reload {generation}"), &outcome.map_err(|error| format!("{error:#}")));
    }
    count_load(&mut verdict, "load_while_reloaded", &report);
    let kept = LoadParams::new(address).connections as u64;
    let lost = report.connections.saturating_sub(kept);
    let outcome = if lost == 0 { Ok(()) } else { Err(format!("{lost} of {kept} client connections were lost")) };
    verdict.check("connections_kept", "a listener that did not change", &outcome);

    let after = Footprint::settled(tenfold.pid(), Some(&baseline))?;
    println!("afterwards: {after}");
    for (name, outcome) in after.leaks_beyond(&baseline) {
        verdict.check("leaks", name, &outcome);
    }
    Ok(verdict)
}

/// Requests that failed before their answer had begun are failures; the others are counted apart.
fn count_load(verdict: &mut Verdict, class: &str, report: &Report) {
    let counts = report.counts;
    verdict.count(class, counts.ok, counts.failed_before_head);
    verdict.notes.insert(format!("{class}: failed after head"), counts.failed_after_head);
    let (p50, p99) = (report.latency.percentile(0.5), report.latency.percentile(0.99));
    println!("{class}: {counts:?}, {} connections, p50 {p50} us, p99 {p99} us", report.connections);
    for failure in &report.failures {
        println!("  {failure}");
    }
}
