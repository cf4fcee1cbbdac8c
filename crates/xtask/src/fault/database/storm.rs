//! More clients than connections, which vanish at any byte while pauses, reloads, kills and ended processes close connections under them: nobody hangs,
//! nothing is lost or mixed up, and every connection is accounted for afterwards.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::{Blow, PgClient, Postgres, PostgresOptions, Storm, StormParams};

use super::Site;
use crate::fault::subject;
use crate::proof::{ProofArgs, Verdict};

/// Arguments of `fault storm`.
#[derive(Debug, Args)]
pub struct StormArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Seconds for which it lasts
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,

    /// What decides who does what; one of its own if none is given
    #[arg(long)]
    seed: Option<u64>,
}

const CLIENTS: usize = 32;

/// As few as the server lets in; the pool wants more at times.
const CONNECTIONS_MAX: usize = 9;

/// What the pool has in the end.
const SIZE: usize = 5;

/// How long it may take until everything is as it ought to be.
const CALM: Duration = Duration::from_secs(20);

/// Connections that the server has of the proxy's pool, but for whoever asks.
const THERE: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' \
                     AND pid <> pg_backend_pid() AND application_name NOT LIKE 'tenfold %'";

pub(in crate::fault) fn run(args: &StormArgs) -> Result<()> {
    let program = subject::build("pgproxy", "cluster_subject", args.proof.quick)?;
    let time = Duration::from_secs(args.seconds.unwrap_or(if args.proof.quick { 5 } else { 60 }));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = args.seed.unwrap_or(now.as_secs());
    let options = PostgresOptions {
        settings: vec![format!("max_connections = {CONNECTIONS_MAX}"), "superuser_reserved_connections = 0".into()],
        ..PostgresOptions::default()
    };
    let mut site = Site::start(&program, Postgres::start(&options)?, "database", 1)?;
    site.cluster.sql(0, Storm::MAKE)?;
    println!("{CLIENTS} clients for {time:?}, seed {seed}");
    let params =
        StormParams { port: site.port, password: "", seed, clients: CLIENTS, time, connections_max: CONNECTIONS_MAX };
    let mut struck = Ok(());
    let found = Storm::play(&params, |blow| {
        if struck.is_ok() {
            struck = strike(&mut site, blow);
        }
    });
    struck.context("the proxy does not do what it is told")?;
    let Storm { lives, cuts, vanished, right, failures, ref wrong, .. } = found;
    let written = found.acknowledged();
    println!(
        "{lives} lives, {cuts} cut, {vanished} vanished, {written} rows, {right} right answers, {failures} failures"
    );
    wrong.iter().take(10).for_each(|wrong| eprintln!("FAILED {wrong}"));
    let mut verdict = Verdict::default();
    verdict.count("lives", lives.saturating_sub(wrong.len() as u64), wrong.len() as u64);
    verdict.check("done", "rows and right answers", &found.is_worth());
    verdict.check("accounts", "connections and clients", &calm(&mut site).map_err(|error| format!("{error:#}")));
    let rows = found.judge(&site.cluster.sql(0, Storm::ROWS)?);
    rows.iter().take(10).for_each(|wrong| eprintln!("FAILED {wrong}"));
    verdict.count("rows", u64::from(rows.is_empty()), rows.len() as u64);
    let still = PgClient::connect(site.port, "web", "shop", "").and_then(|mut client| client.query("SELECT 'still'"));
    let is_right = still.is_ok_and(|answer| answer.errors.is_empty() && answer.value() == "still");
    verdict.check("serves", "a new client", &if is_right { Ok(()) } else { Err("is not served".to_owned()) });
    verdict.conclude("fault storm", &args.proof)
}

fn strike(site: &mut Site, blow: Blow) -> Result<()> {
    match blow {
        Blow::Pause(time) => {
            tell(site, "pause")?;
            std::thread::sleep(time);
            tell(site, "resume")
        }
        Blow::Size(size, min) => tell(site, &format!("size {size} {min}")),
        Blow::WorkMem(kilobytes) => tell(site, &format!("work_mem {kilobytes}kB")),
        Blow::Reconnect => tell(site, "reconnect"),
        Blow::KillAll => tell(site, "kill all"),
        Blow::KillServer => tell(site, "kill server"),
        Blow::KillClient(number) => tell(site, &format!("kill client {number}")),
        Blow::Terminate(text) => {
            // The server may let nobody in who would do it.
            let _full = site.cluster.sql(0, &text);
            Ok(())
        }
    }
}

fn tell(site: &mut Site, words: &str) -> Result<()> {
    site.proxy.tell(words)?;
    let answer = site.proxy.line()?;
    ensure!(answer == "done", "{words}: {answer}");
    Ok(())
}

/// Waits until nobody is there and nothing is lent, and the pool has as many connections as the server.
fn calm(site: &mut Site) -> Result<()> {
    tell(site, &format!("size {SIZE} 0"))?;
    let deadline = Instant::now() + CALM;
    loop {
        let mut sum = 0;
        for name in ["clients", "pinned", "waiting", "lent", "opening"] {
            sum += site.count(name)?;
        }
        // It may be full as long as the pool has more than it is to have.
        let there = site.cluster.sql(0, THERE).ok().and_then(|rows| rows.first()?.parse::<u64>().ok());
        if sum == 0 && there == Some(site.count("idle")?) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}; the server has {there:?} connections", site.told()?);
        std::thread::sleep(Duration::from_millis(20));
    }
}
