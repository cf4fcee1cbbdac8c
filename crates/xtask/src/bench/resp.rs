//! A named cache beside a Redis: CPU time of the server per command, as clients of Redis ask, and what its memory comes to.
//!
//! Both run on one core, `redis-benchmark` on the other, and rounds of the two alternate. All keys are stored before, so that `GET` hits.
//! Neither writes anything to disk. Of the memory it is measured how much is resident, with many small values and a bound that they
//! exceed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::{Process, Redis, Tenfold, free_port, procfs};

use super::report::{Report, Row, Spread};
use super::subject::{OTHER_CORE, PROXY_CORE, on_core};
use crate::install;
use crate::proof::{self, ProofArgs};

/// Arguments of `bench resp`.
#[derive(Debug, Args)]
pub struct RespArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,
}

/// A kind of command: its name, how many of them go at once on a connection, how many make a round, and bytes of values.
struct Case {
    name: &'static str,
    command: &'static str,
    depth: u32,
    commands: u64,
    value_bytes: u64,
}

const CASES: &[Case] = &[
    Case { name: "get", command: "get", depth: 1, commands: 150_000, value_bytes: 1024 },
    Case { name: "get_x16", command: "get", depth: 16, commands: 1_000_000, value_bytes: 1024 },
    Case { name: "set", command: "set", depth: 1, commands: 150_000, value_bytes: 1024 },
    Case { name: "set_x16", command: "set", depth: 16, commands: 700_000, value_bytes: 1024 },
    Case { name: "get_100", command: "get", depth: 1, commands: 150_000, value_bytes: 100 },
    Case { name: "get_100_x16", command: "get", depth: 16, commands: 1_000_000, value_bytes: 100 },
    Case { name: "set_100", command: "set", depth: 1, commands: 150_000, value_bytes: 100 },
    Case { name: "set_100_x16", command: "set", depth: 16, commands: 700_000, value_bytes: 100 },
];

/// What stores values before they are asked for.
const FILL: Case = Case { name: "fill", command: "set", depth: 16, commands: 0, value_bytes: 0 };
const KEYS: u64 = 10_000;
const CONNECTIONS: u32 = 50;

/// Of the memory: the bound, of which a sixteenth is the least that is given back, and values that grow and shrink again, of each size four times
/// as many as fit.
const BOUND_BYTES: u64 = 256 << 20;
const BOUND: &str = "256MiB";
const SIZES: [u64; 3] = [100, 1000, 100];
/// Time for memory to be given back that is free, which is not looked for in the three seconds after the last time.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(5);
/// Most that is resident, as a share of the bound.
const RESIDENT_MAX: f64 = 1.25;

enum Server {
    Tenfold(Box<Tenfold>, u16),
    Redis(Redis),
}

impl Server {
    fn start(name: &str, memory: &str) -> Result<Self> {
        if name == "redis" {
            return Ok(Self::Redis(Redis::start(&[])?));
        }
        let (admin, port) = (free_port(), free_port());
        let toml = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[runtime]\nworkers = 1\n\
             [cache.main]\nlisten = \"127.0.0.1:{port}\"\nmemory = \"{memory}\"\n"
        );
        let tenfold = Tenfold::start_with(Command::new(proof::release_binary()?), &toml)?;
        Ok(Self::Tenfold(Box::new(tenfold), port))
    }

    fn port(&self) -> u16 {
        match self {
            Self::Tenfold(_, port) => *port,
            Self::Redis(redis) => redis.address().port(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Tenfold(tenfold, _) => tenfold.pid(),
            Self::Redis(redis) => redis.pid(),
        }
    }
}

pub(super) fn run(args: &RespArgs) -> Result<()> {
    let (quick, share) = (args.proof.quick, if args.proof.quick { 5 } else { 1 });
    let rounds = args.rounds.unwrap_or(if quick { 3 } else { 9 });
    install::require(&["redis-server", "redis-cli"])?;
    let servers =
        ["tenfold", "redis"].map(|name| Ok((name, on_core(Some(PROXY_CORE), || Server::start(name, "64MiB"))?)));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let (mut rows, mut ratios, mut stored) = (Vec::new(), Vec::new(), 0);
    for case in CASES {
        if stored != case.value_bytes {
            for (_, server) in &servers {
                benchmark(server.port(), &FILL, 20 * KEYS, (KEYS, case.value_bytes))?;
            }
            stored = case.value_bytes;
        }
        let mut costs = [Vec::new(), Vec::new()];
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (at, (_, server)) in servers.iter().enumerate() {
                let commands = case.commands / share;
                let before = procfs::cpu_time(&[server.pid()])?;
                let rate = benchmark(server.port(), case, commands, (KEYS, case.value_bytes))?;
                let spent = procfs::cpu_time(&[server.pid()])?.saturating_sub(before);
                costs[at].push(spent.as_secs_f64() * 1e6 / commands as f64);
                rates[at].push(rate);
            }
        }
        for (at, (name, _)) in servers.iter().enumerate() {
            let median = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
            let (cpu_us_per_op, ops_per_s) = (median(&costs[at]), median(&rates[at]));
            let (subject, case) = ((*name).to_owned(), case.name.to_owned());
            rows.push(Row { subject, case, cpu_us_per_op, ops_per_s, rounds: Some(rounds), ..Row::default() });
        }
        let [own, other] = &costs;
        ratios
            .extend(Spread::of(own.iter().zip(other).map(|(own, other)| own / other)).map(|ratio| (case.name, ratio)));
    }
    let mut report = Report::new(rows);
    ratios.into_iter().for_each(|(case, ratio)| report.add_ratio(format!("{case}/redis"), ratio));
    report.print();
    let resident = resident(share)?;
    for (bytes, resident) in SIZES.iter().zip(&resident) {
        println!("resident with values of {bytes} bytes: {resident:.2} of the bound, at most {RESIDENT_MAX:.2}");
    }
    proof::write_json(&report, args.proof.json.as_deref())?;
    let most = resident.into_iter().fold(0.0, f64::max);
    ensure!(most <= RESIDENT_MAX, "more is resident than may be: {most:.2} of the bound");
    Ok(())
}

/// How much of the bound is resident when it is used up by values of each size, beyond what is resident of an empty cache.
fn resident(share: u64) -> Result<Vec<f64>> {
    let server = Server::start("tenfold", BOUND)?;
    let empty = procfs::rss_bytes(server.pid())?;
    let after = |bytes: u64| {
        let keys = 4 * BOUND_BYTES / (bytes + 200) / share.min(2);
        benchmark(server.port(), &FILL, 2 * keys, (keys, bytes))?;
        std::thread::sleep(GIVEN_BACK_WITHIN);
        Ok(procfs::rss_bytes(server.pid())?.saturating_sub(empty) as f64 / BOUND_BYTES as f64)
    };
    SIZES.into_iter().map(after).collect()
}

/// Has `redis-benchmark` send commands: how many went in a second.
fn benchmark(port: u16, case: &Case, commands: u64, (keys, bytes): (u64, u64)) -> Result<f64> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "-c", &CONNECTIONS.to_string(), "--csv", "-t", case.command]);
    command.args(["-n", &commands.to_string(), "-P", &case.depth.to_string()]);
    command.args(["-r", &keys.to_string(), "-d", &bytes.to_string()]);
    let mut process = on_core(Some(OTHER_CORE), || Process::spawn("redis-benchmark", command))?;
    let status = process.wait(Duration::from_secs(300))?;
    let output = process.output();
    ensure!(status.success() && !output.contains("rror"), "redis-benchmark: {output}");
    let line = output.lines().find(|line| line.to_lowercase().starts_with(&format!("\"{}\"", case.command)));
    let rate = line.and_then(|line| line.split(',').nth(1)).context("redis-benchmark says no rate")?;
    Ok(rate.trim_matches('"').parse()?)
}
