//! Drivers of PostgreSQL through the database proxy, in transaction mode with four connections to the server: what programs do with
//! them, scenario by scenario, and 64 clients at once, each of which looks after its own data, settings and names.
//!
//! The programs are in `tests/database`, one for each driver. They know nothing of the proxy and pass without one (`--subject direct`);
//! what they find is what a team would find that points its URL at Tenfold.

mod drivers;
mod report;
mod site;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::proof::{self, ProofArgs, Verdict};
use drivers::{DRIVERS, Driver, Outcome};
use report::Table;
use site::Site;

/// Arguments of `conformance db`.
#[derive(Debug, Args)]
pub struct DbArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// tenfold, or direct for the server without a proxy
    #[arg(long, default_value = "tenfold")]
    subject: String,

    /// Drivers; all by default
    #[arg(long)]
    driver: Vec<String>,

    /// Scenarios; all by default
    #[arg(long)]
    scenario: Vec<String>,
}

/// The scenario of many clients, which is the load whose share of pinned sessions counts.
const MANY: &str = "many";

/// Most sessions of a load that may keep their connections: of a hundred.
const PINNED_PERCENT_MAX: f64 = 5.0;

/// Most memory that Tenfold may take for whatever one driver does, results of 100 MB included.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

/// How long all scenarios of a driver may take: one that hangs is given up by its program before.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(900);

pub(super) fn run(args: &DbArgs) -> Result<()> {
    let known = DRIVERS.map(|driver| driver.name);
    for name in &args.driver {
        ensure!(known.contains(&name.as_str()), "there is no driver {name:?}; there are {}", known.join(", "));
    }
    let is_wanted = |driver: &&Driver| args.driver.is_empty() || args.driver.iter().any(|name| name == driver.name);
    let chosen: Vec<_> = DRIVERS.iter().filter(is_wanted).collect();
    for driver in &chosen {
        driver.install()?;
    }
    ensure!(["tenfold", "direct"].contains(&args.subject.as_str()), "the subject is tenfold or direct");
    let binary = (args.subject == "tenfold").then(proof::release_binary).transpose()?;
    let site = Site::start(binary.as_deref())?;
    let (mut table, mut verdict) = (Table::default(), Verdict::default());
    for driver in chosen {
        println!("{}", driver.name);
        let outcomes = hold(&site, driver, args)?;
        for outcome in &outcomes {
            if outcome.is_absent() {
                verdict.not_applicable += 1;
            } else {
                verdict.check(driver.name, &outcome.scenario, &outcome.result());
            }
        }
        if let Some(load) = outcomes.iter().find_map(|outcome| outcome.load) {
            verdict.notes.insert(format!("pinned of 1000, {}", driver.name), (load.pinned_percent() * 10.0) as u64);
        }
        table.add(driver.name, outcomes);
    }
    table.print();
    verdict.conclude("conformance db", &args.proof)
}

/// Runs a driver's scenarios, then its many clients, and looks at what it leaves.
fn hold(site: &Site, driver: &Driver, args: &DbArgs) -> Result<Vec<Outcome>> {
    let wants = |scenario: &str| args.scenario.is_empty() || args.scenario.iter().any(|one| one == scenario);
    let growth = site.watch_memory();
    let mut outcomes = Vec::new();
    let single: Vec<_> = driver.scenarios.iter().copied().filter(|one| *one != MANY && wants(one)).collect();
    if !single.is_empty() {
        outcomes.extend(driver.run(site, &single, args.proof.quick)?);
    }
    if driver.scenarios.contains(&MANY) && wants(MANY) {
        let before = site.load()?;
        let mut many = driver.run(site, &[MANY], args.proof.quick)?;
        let load = before.zip(site.load()?).map(|(before, after)| after.since(before));
        if let Some(load) = load {
            let is_pinned = load.pinned_percent() >= PINNED_PERCENT_MAX || load.sessions == 0.0;
            let problem = || format!("{:.1} % of {} sessions were pinned", load.pinned_percent(), load.sessions);
            many.push(Outcome::of("pinned", is_pinned.then(problem)).with(load));
        }
        outcomes.extend(many);
    }
    outcomes.push(Outcome::of("left behind", site.left_behind()?));
    if let Some(growth) = growth.map(|growth| growth.end()).transpose()? {
        let problem = || format!("resident memory grew by {} KiB", growth / 1024);
        outcomes.push(Outcome::of("memory", (growth > GROWTH_BYTES_MAX).then(problem)));
    }
    Ok(outcomes)
}
