//! The database proxy beside PgBouncer: CPU time of the proxy for each transaction of `pgbench -S`, throughput, and memory for each idle
//! client.
//!
//! `simple`, `extended` and `prepared` are pgbench's query modes. Rounds of the server without a proxy, of PgBouncer and of Tenfold alternate, all
//! on both cores. Both pool by transaction and have twenty connections to the server; but for `prepared`, where Debian's PgBouncer
//! pools by session, since it knows no prepared statements otherwise, and both have one for each client.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::{Postgres, PostgresOptions, Process, TempDir, Tenfold, free_port, procfs};

use super::report::{Report, Row, Spread};
use crate::install;
use crate::proof::{self, ProofArgs};

/// Arguments of `bench db`.
#[derive(Debug, Args)]
pub struct DbArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Cases: simple, extended, prepared; all by default
    #[arg(long, default_values_t = CASES.map(str::to_owned))]
    case: Vec<String>,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of a round
    #[arg(long)]
    seconds: Option<u64>,

    /// Idle clients; none are measured with 0
    #[arg(long)]
    idle: Option<usize>,
}

const CASES: [&str; 3] = ["simple", "extended", "prepared"];
const SUBJECTS: [&str; 3] = ["direct", "pgbouncer", "tenfold"];

/// What is held to: the proxy's time for each transaction beside PgBouncer's, and PgBouncer's throughput beside its own.
const BARS: &[(&str, f64)] = &[
    ("simple/pgbouncer", 0.90),
    ("extended/pgbouncer", 0.90),
    ("prepared/pgbouncer", 1.10),
    ("simple rate, pgbouncer/own", 1.0),
    ("extended rate, pgbouncer/own", 1.0),
];
/// Most memory for an idle client, in KiB.
const IDLE_KIB_MAX: f64 = 8.0;

const CLIENTS: u32 = 32;
const BACKENDS: u32 = 20;
const IDLE_CLIENTS: usize = 10_000;
/// Rows of pgbench's main table: 100,000 times this.
const SCALE: u32 = 10;
const PGBENCH: &str = "/usr/lib/postgresql/15/bin/pgbench";

/// A proxy, or none, before the server.
struct Subject {
    name: &'static str,
    port: u16,
    pid: Option<u32>,
    _runs: Option<Runs>,
}

enum Runs {
    Tenfold(Box<Tenfold>),
    Pgbouncer(Process, #[expect(dead_code, reason = "it goes after the process that reads it")] TempDir),
}

/// What a round came to.
struct Round {
    rate: f64,
    cpu_us: Option<f64>,
}

pub(super) fn run(args: &DbArgs) -> Result<()> {
    let quick = args.proof.quick;
    let rounds = args.rounds.unwrap_or(if quick { 3 } else { 9 });
    let seconds = args.seconds.unwrap_or(if quick { 2 } else { 5 });
    let idle = args.idle.unwrap_or(if quick { 1000 } else { IDLE_CLIENTS });
    install::require(&["pgbouncer", "/usr/lib/postgresql/15/bin/postgres"])?;
    for case in &args.case {
        ensure!(CASES.contains(&case.as_str()), "there is no case {case:?}; there are {}", CASES.join(", "));
    }
    // The proxies inherit it.
    proof::raise_descriptor_limit(idle as u64 + super::idle::SPARE)?;
    let settings = vec!["max_connections = 200".to_owned(), "shared_buffers = 256MB".to_owned()];
    let server = Postgres::start(&PostgresOptions { settings, ..PostgresOptions::default() })?;
    fill(server.port(0))?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for case in &args.case {
        let subjects = SUBJECTS.map(|name| Subject::start(name, server.port(0), case == "prepared"));
        let subjects = subjects.into_iter().collect::<Result<Vec<_>>>()?;
        let mut measured: Vec<Vec<Round>> = SUBJECTS.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            for (at, subject) in subjects.iter().enumerate() {
                let result = subject.measure(case, seconds).with_context(|| format!("{} {case}", subject.name))?;
                println!(
                    "{case:<9} {}/{rounds} {:<10} {:>8.0} tps {}",
                    round + 1,
                    subject.name,
                    result.rate,
                    cost(&result)
                );
                measured[at].push(result);
            }
        }
        rows.extend(SUBJECTS.iter().zip(&measured).map(|(name, all)| row(name, case, all)));
        let pairs = || measured[1].iter().zip(&measured[2]);
        let costs = pairs().filter_map(|(peer, own)| Some(own.cpu_us? / peer.cpu_us?));
        ratios.extend(Spread::of(costs).map(|spread| (format!("{case}/pgbouncer"), spread)));
        let rates = pairs().map(|(peer, own)| peer.rate / own.rate);
        ratios.extend(Spread::of(rates).map(|spread| (format!("{case} rate, pgbouncer/own"), spread)));
    }
    let mut idle_kib = None;
    if idle > 0 {
        for name in ["pgbouncer", "tenfold"] {
            let kib = held_by_idle_clients(&Subject::start(name, server.port(0), false)?, idle)?;
            idle_kib = Some(kib);
            rows.push(Row { subject: name.to_owned(), case: "idle".to_owned(), idle_kib: Some(kib), ..Row::default() });
        }
    }
    let mut report = Report::new(rows);
    ratios.into_iter().for_each(|(name, spread)| report.add_ratio(name, spread));
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    report.hold_to(BARS)?;
    if let Some(kib) = idle_kib {
        ensure!(kib <= IDLE_KIB_MAX, "an idle client takes {kib:.2} KiB, and may take {IDLE_KIB_MAX}");
    }
    Ok(())
}

fn cost(round: &Round) -> String {
    round.cpu_us.map_or(String::new(), |cost| format!("{cost:.2} us of the proxy each"))
}

fn row(name: &str, case: &str, all: &[Round]) -> Row {
    let median = |values: Vec<f64>| Spread::of(values).map(|spread| spread.median);
    Row {
        subject: name.to_owned(),
        case: case.to_owned(),
        cpu_us_per_op: median(all.iter().filter_map(|round| round.cpu_us).collect()),
        ops_per_s: median(all.iter().map(|round| round.rate).collect()),
        rounds: Some(all.len()),
        ..Row::default()
    }
}

impl Subject {
    fn start(name: &'static str, server: u16, by_session: bool) -> Result<Self> {
        let port = free_port();
        match name {
            "direct" => Ok(Self { name, port: server, pid: None, _runs: None }),
            "pgbouncer" => {
                let dir = TempDir::new()?;
                let process = pgbouncer(dir.path(), port, server, by_session)?;
                let runs = Runs::Pgbouncer(process, dir);
                Ok(Self { name, port, pid: Some(pid_of(&runs)), _runs: Some(runs) })
            }
            _ => {
                let toml = format!(
                    "[admin]\nlisten = \"127.0.0.1:{}\"\n[listener.db]\nkind = \"postgres\"\nlisten = \"127.0.0.1:{port}\"\n\
                     connections_max = {max}\n[database.postgres]\nprimary = \"postgres://postgres@127.0.0.1:{server}/postgres\"\n\
                     auth = {{ method = \"trust\" }}\npool = {{ size = {size} }}\nlimits = {{ clients_max = {max} }}\n",
                    free_port(),
                    size = backends(by_session),
                    max = IDLE_CLIENTS + 1000,
                );
                let tenfold = Box::new(Tenfold::start_with(Command::new(proof::release_binary()?), &toml)?);
                let runs = Runs::Tenfold(tenfold);
                Ok(Self { name, port, pid: Some(pid_of(&runs)), _runs: Some(runs) })
            }
        }
    }

    fn measure(&self, case: &str, seconds: u64) -> Result<Round> {
        let spent = || self.pid.map(|pid| procfs::cpu_time(&[pid])).transpose();
        let before = spent()?;
        let mut command = pgbench(self.port);
        command.args(["--select-only", "--no-vacuum", "--protocol", case, "--jobs", "2"]);
        command.args(["--client", &CLIENTS.to_string(), "--time", &seconds.to_string()]);
        let output = finish(command, Duration::from_secs(seconds + 60))?;
        let after = spent()?;
        let number = |mark: &str| -> Result<f64> {
            let rest = output.lines().find_map(|line| line.strip_prefix(mark));
            let word = rest.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).with_context(|| format!("pgbench says no {mark:?}: {output}"))
        };
        ensure!(number("number of failed transactions: ")? == 0.0, "transactions failed: {output}");
        let transactions = number("number of transactions actually processed: ")?;
        ensure!(transactions > 0.0, "no transaction: {output}");
        let spent = before.zip(after).map(|(before, after)| after.saturating_sub(before));
        let cpu_us = spent.map(|spent| spent.as_secs_f64() * 1e6 / transactions);
        Ok(Round { rate: number("tps = ")?, cpu_us })
    }
}

fn pid_of(runs: &Runs) -> u32 {
    match runs {
        Runs::Tenfold(process) => process.pid(),
        Runs::Pgbouncer(process, _) => process.pid(),
    }
}

/// How many connections to the server a proxy has. A session keeps its own, so that each client needs one.
fn backends(by_session: bool) -> u32 {
    if by_session { CLIENTS + 1 } else { BACKENDS }
}

fn pgbouncer(dir: &Path, port: u16, server: u16, by_session: bool) -> Result<Process> {
    let (mode, pool) = (if by_session { "session" } else { "transaction" }, backends(by_session));
    let path = dir.join("pgbouncer.ini");
    let text = format!(
        "[databases]\npostgres = host=127.0.0.1 port={server} dbname=postgres user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {pool}\n\
         max_client_conn = {}\nignore_startup_parameters = extra_float_digits\n",
        IDLE_CLIENTS + 1000,
    );
    std::fs::write(&path, text)?;
    let mut command = Command::new("pgbouncer");
    if rustix::process::geteuid().is_root() {
        // It refuses to run as root, and has to read its file as somebody else.
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
        command.args(["-u", "postgres"]);
    }
    command.arg(&path);
    let mut process = Process::spawn("pgbouncer", command)?;
    process.wait_for_port(port, Duration::from_secs(10))?;
    Ok(process)
}

fn pgbench(port: u16) -> Command {
    let mut command = Command::new(PGBENCH);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--username", "postgres"]);
    command.env("PGDATABASE", "postgres");
    command
}

fn fill(port: u16) -> Result<()> {
    println!("filling {} rows", 100_000 * SCALE);
    let mut command = pgbench(port);
    command.args(["--initialize", "--quiet", "--scale", &SCALE.to_string()]);
    finish(command, Duration::from_secs(300)).map(drop)
}

fn finish(command: Command, timeout: Duration) -> Result<String> {
    let mut process = Process::spawn("pgbench", command)?;
    let status = process.wait(timeout)?;
    let output = process.output();
    ensure!(status.success(), "pgbench: {status}: {output}");
    Ok(output)
}

/// Memory that each idle client adds to a proxy, in KiB.
fn held_by_idle_clients(subject: &Subject, count: usize) -> Result<f64> {
    let pid = subject.pid.context("nobody holds clients where there is no proxy")?;
    // One transaction makes what is made once.
    subject.measure("simple", 1)?;
    std::thread::sleep(Duration::from_millis(500));
    let before = procfs::pss_bytes(&[pid])?;
    let mut holder = super::idle::hold_elsewhere(subject.port, count, Some("postgres"))?;
    std::thread::sleep(Duration::from_secs(1));
    let after = procfs::pss_bytes(&[pid])?;
    ensure!(holder.is_running(), "{}: clients were not kept: {}", subject.name, holder.output());
    let descriptors = procfs::descriptors(pid)?;
    ensure!(descriptors >= count, "{}: {descriptors} descriptors for {count} clients", subject.name);
    Ok(after.saturating_sub(before) as f64 / 1024.0 / count as f64)
}
