//! A rate that two gateways share through a Redis, at ten times what it allows: how much of it gets through.
//!
//! Each case has its own gateways and a Redis that is empty. 64 connections ask both gateways without a pause, and the rate
//! is a tenth of what they bring, which is measured before. What gets through is counted by the origin. It must never
//! be more than the rate times the time and the burst, and no more than 2 % less, but for the request that each key's bucket
//! is in the middle of collecting at the end.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use testkit::{Load, LoadParams, Origin, Redis, Tenfold, free_port};

use crate::proof::{self, ProofArgs};

/// Arguments of `bench shared`.
#[derive(Debug, Args)]
pub struct SharedArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Seconds of a case
    #[arg(long)]
    seconds: Option<u64>,
}

/// Names and numbers of keys.
const CASES: &[(&str, usize)] = &[("hot_key", 1), ("thousand_keys", 1_000)];
const GATEWAYS: usize = 2;
const CONNECTIONS: usize = 64;
/// How many times what is allowed is asked for, and a little more, for the machine may be busier later.
const EXCESS: f64 = 11.0;
/// What gets through is at least this share of what may.
const SHARE_MIN: f64 = 0.98;
/// Seconds of rate that come at once at most. With many keys whatever one does not ask for within it is lost to that key.
const BURST_SECS: f64 = 5.0;

/// What came of a case.
#[derive(Debug, Serialize)]
struct Outcome {
    case: String,
    keys: usize,
    seconds: f64,
    /// Per second, of all keys together.
    rate: f64,
    asked: u64,
    allowed: u64,
    allowed_max: f64,
    /// Asks that went to the store.
    leases: u64,
    /// Of those, the ones that failed.
    failed: u64,
}

/// Gateways with a Redis and an origin behind them.
struct Site {
    gateways: Vec<Tenfold>,
    origin: Origin,
    _redis: Redis,
}

pub(super) fn run(args: &SharedArgs) -> Result<()> {
    let seconds = args.seconds.unwrap_or(if args.proof.quick { 5 } else { 30 });
    let trial = Duration::from_secs(if args.proof.quick { 1 } else { 5 });
    let mut outcomes = Vec::new();
    for &(case, keys) in CASES {
        // What clients bring depends on how many of them are served, so it is measured at about the rate that is used then.
        let refused = measure((case, keys), 1.0, trial)?;
        let served = measure((case, keys), refused.asked as f64 / refused.seconds, trial)?;
        let outcome = measure((case, keys), served.asked as f64 / served.seconds, Duration::from_secs(seconds))?;
        println!(
            "{case:<14} {:>7} of {:>9.1} allowed ({:.2} %), {} asked ({:.1} times the rate), {} leases, {} failed",
            outcome.allowed,
            outcome.allowed_max,
            100.0 * outcome.share(),
            outcome.asked,
            outcome.asked as f64 / (outcome.rate * outcome.seconds),
            outcome.leases,
            outcome.failed,
        );
        outcomes.push(outcome);
    }
    proof::write_json(&outcomes, args.proof.json.as_deref())?;
    for outcome in &outcomes {
        let share = outcome.share();
        ensure!(share <= 1.0, "{}: more got through than may: {share:.4}", outcome.case);
        let collected = (outcome.allowed + outcome.keys as u64) as f64 / outcome.allowed_max;
        ensure!(collected >= SHARE_MIN, "{}: only {share:.4} of what may got through", outcome.case);
    }
    Ok(())
}

impl Outcome {
    fn share(&self) -> f64 {
        self.allowed as f64 / self.allowed_max
    }
}

impl Site {
    /// `limit` is the table `[limit.all]` without its store.
    fn start(limit: &str) -> Result<Self> {
        let (binary, origin, redis) = (proof::release_binary()?, Origin::start("origin")?, Redis::start(&[])?);
        let table = format!("[limit.all]\nstore = \"redis://{}\"\n{limit}\n", redis.address());
        let gateway = || {
            let (admin, web, address) = (free_port(), free_port(), origin.address());
            let toml = format!(
                "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[listener.web]\nlisten = \"127.0.0.1:{web}\"\n{table}\
                 [[route]]\nname = \"web\"\nservice = \"api\"\nlimit = \"all\"\n[service.api]\nendpoints = [\"{address}\"]\n"
            );
            Tenfold::start_with(Command::new(&binary), &toml)
        };
        let gateways = (0..GATEWAYS).map(|_| gateway()).collect::<Result<_>>()?;
        Ok(Self { gateways, origin, _redis: redis })
    }

    fn load(&self, keys: usize) -> Vec<Load> {
        let params = |gateway: &Tenfold| LoadParams {
            connections: CONNECTIONS / GATEWAYS,
            pause: Duration::ZERO,
            keys,
            ..LoadParams::new(gateway.address())
        };
        self.gateways.iter().map(|gateway| Load::start(&params(gateway))).collect()
    }

    fn sum(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let value = |gateway: &Tenfold| Ok(gateway.metric(name, labels)? as u64);
        self.gateways.iter().map(value).sum()
    }
}

/// Runs a case at a rate that is a part of what comes.
fn measure((case, keys): (&str, usize), comes: f64, time: Duration) -> Result<Outcome> {
    // By the minute, for a key of many may get less than one in a second.
    let per_minute = (60.0 * comes / EXCESS / keys as f64).floor().max(1.0);
    let burst = (BURST_SECS * per_minute / 60.0).ceil();
    let limit = format!("rate = \"{per_minute}/m\"\nburst = {burst}\nkey = {{ header = \"X-Key\" }}\n");
    let site = Site::start(&limit).with_context(|| format!("case {case}"))?;
    let begun = Instant::now();
    let loads = site.load(keys);
    std::thread::sleep(time);
    loads.into_iter().for_each(|load| drop(load.stop()));
    let seconds = begun.elapsed().as_secs_f64();
    let rate = per_minute / 60.0 * keys as f64;
    Ok(Outcome {
        case: case.to_owned(),
        keys,
        seconds,
        rate,
        asked: site.sum("limit_requests_total", &[])?,
        allowed: site.origin.requests(),
        allowed_max: rate * seconds + burst * keys as f64,
        leases: site.sum("limit_leases_total", &[])?,
        failed: site.sum("limit_leases_total", &["result=\"failed\""])?,
    })
}
