use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use testkit::{Load, LoadParams, Tenfold, free_port, procfs};

use super::sockets::{self, Sockets};
use super::{Origins, count_load};
use crate::proof::{self, ProofArgs, Verdict};

/// Arguments of `fault upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How often a new process takes over
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// WebSockets that are open all the time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    sockets: u32,
}

/// Load before the first upgrade, and between two.
const BETWEEN: Duration = Duration::from_secs(2);
/// Time for messages after an upgrade, and for old processes to end with their last sockets.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn run(args: &UpgradeArgs) -> Result<()> {
    let binary = proof::release_binary()?;
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 4 } else { 10 });
    let between = if args.proof.quick { BETWEEN / 2 } else { BETWEEN };
    prove(&binary, rounds, args.sockets as usize, between)?.conclude("fault upgrade", &args.proof)
}

fn prove(binary: &Path, rounds: u32, count: usize, between: Duration) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let origins = Origins::start(3)?;
    let config = config(&origins, &sockets::serve()?.to_string());
    let mut tenfold = Tenfold::start_with(Command::new(binary), &config)?;
    let mut processes = vec![tenfold.pid()];
    let sockets = Sockets::open(tenfold.address(), count).with_context(|| tenfold.output())?;
    let load = Load::start(&LoadParams::new(tenfold.address()));
    std::thread::sleep(between);
    for round in 1..=rounds {
        let begun = Instant::now();
        let taken = tenfold.upgrade();
        let took = begun.elapsed();
        let outcome = taken.as_ref().map(drop).map_err(|error| format!("{error:#}"));
        verdict.check("upgrades", &format!("upgrade {round}"), &outcome);
        processes.extend(taken.ok());
        let outcome = messages_come(&sockets, count);
        verdict.check("messages", &format!("messages after upgrade {round}"), &outcome);
        std::thread::sleep(between);
        let counts = load.counts();
        println!(
            "  upgrade {round}/{rounds} in {} ms: {} ok, {} failed before their answer, {} within; {} messages",
            took.as_millis(),
            counts.ok,
            counts.failed_before_head,
            counts.failed_after_head,
            sockets.messages()
        );
    }
    let report = load.stop();
    count_load(&mut verdict, "load_while_upgraded", &report);
    verdict.count("load_within_answers", report.counts.ok, report.counts.failed_after_head);
    verdict.notes.insert("messages on sockets".to_owned(), sockets.messages());
    let dropped = sockets.close();
    dropped.iter().for_each(|reason| println!("  {reason}"));
    verdict.count("sockets_kept", (count - dropped.len()) as u64, dropped.len() as u64);
    // The last one serves; those before it have nothing left.
    processes.pop();
    for pid in processes {
        verdict.check("old_processes_end", &format!("process {pid}"), &ends(pid));
    }
    Ok(verdict)
}

fn config(origins: &Origins, chat: &str) -> String {
    let addresses: Vec<String> = origins.addresses().iter().map(|address| format!("\"{address}\"")).collect();
    let (admin, web) = (free_port(), free_port());
    format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{web}\"\n\
         [[route]]\nname = \"all\"\nservice = \"api\"\n[[route]]\nname = \"chat\"\npath = \"/chat\"\nservice = \"chat\"\n\
         [service.api]\nendpoints = [{}]\n[service.chat]\nendpoints = [\"{chat}\"]\n",
        addresses.join(", ")
    )
}

/// Waits until there were twice as many messages as sockets, so that most have had one.
fn messages_come(sockets: &Sockets, count: usize) -> Result<(), String> {
    let (begun, before) = (Instant::now(), sockets.messages());
    while sockets.messages() < before + 2 * count as u64 {
        if begun.elapsed() > TIMEOUT {
            return Err(format!("{} in {TIMEOUT:?}", sockets.messages() - before));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn ends(pid: u32) -> Result<(), String> {
    let begun = Instant::now();
    while procfs::state(pid).is_some_and(|state| state != 'Z') {
        if begun.elapsed() > TIMEOUT {
            return Err(format!("still there after {TIMEOUT:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
