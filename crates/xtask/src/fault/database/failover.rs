//! Primaries that are killed under writes: a synchronous replica is promoted by a script, the old primary comes back and takes itself for one. Nothing
//! that was acknowledged may be lost, nothing may reach the old primary, and service has to be back soon.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use testkit::{PgClient, Postgres, PostgresOptions};

use super::{Site, connect};
use crate::fault::subject;
use crate::proof::{ProofArgs, Verdict};

/// Arguments of `fault failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How often a primary is killed
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
}

/// Clients that write.
const CLIENTS: u64 = 6;
/// How long they write before the primary is killed, and after the old one came back.
const BEFORE: Duration = Duration::from_millis(700);
const AFTER: Duration = Duration::from_millis(1500);
/// Service has to be back so soon after the promotion.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    /// Numbers that were acknowledged, and when.
    acknowledged: Mutex<Vec<(Instant, u64)>>,
    /// Errors by their codes; connections that ended are among them.
    errors: Mutex<std::collections::BTreeMap<String, u64>>,
    last: AtomicU64,
    is_over: AtomicBool,
}

pub(in crate::fault) fn run(args: &FailoverArgs) -> Result<()> {
    let program = subject::build("pgproxy", "cluster_subject", args.proof.quick)?;
    let rounds = args.rounds.unwrap_or(if args.proof.quick { 2 } else { 50 });
    let mut verdict = Verdict::default();
    let mut longest = Duration::ZERO;
    for round in 1..=rounds {
        longest = longest.max(kill_once(&program, round, &mut verdict)?);
    }
    verdict.notes.insert("longest return, ms".into(), longest.as_millis() as u64);
    verdict.conclude("fault failover", &args.proof)
}

/// One kill: how long after the promotion something was written again.
fn kill_once(program: &Path, round: u32, verdict: &mut Verdict) -> Result<Duration> {
    let options = PostgresOptions { replicas: 1, synchronous: true, ..PostgresOptions::default() };
    let mut site = Site::start(program, Postgres::start(&options)?, "database", 2)?;
    let port = site.port;
    let made = connect(port)?.query("CREATE TABLE t (number bigint PRIMARY KEY)")?;
    ensure!(made.errors.is_empty(), "{made:?}");
    let seen = Seen::default();
    let (promoted, untouched) = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let seen = &seen;
            scope.spawn(move || write(port, number % 2 == 0, seen));
        }
        let broken = break_it(&mut site);
        seen.is_over.store(true, Ordering::SeqCst);
        broken
    })?;
    let acknowledged = seen.acknowledged.into_inner().unwrap_or_default();
    let there: std::collections::BTreeSet<u64> =
        site.cluster.sql(1, "SELECT number FROM t")?.iter().filter_map(|row| row.parse().ok()).collect();
    let lost = acknowledged.iter().filter(|(_, number)| !there.contains(number)).count() as u64;
    verdict.count("acknowledged writes", acknowledged.len() as u64 - lost, lost);
    verdict.check("the old primary", &format!("round {round}: nothing reaches it"), &untouched);
    let back = acknowledged.iter().map(|(at, _)| *at).filter(|at| *at >= promoted).min();
    let back = back.map(|at| at - promoted);
    let outcome = match back {
        Some(back) if back <= BACK_WITHIN => Ok(()),
        other => Err(format!("{other:?}")),
    };
    verdict.check("service", &format!("round {round}: back within {BACK_WITHIN:?} of the promotion"), &outcome);
    let errors = seen.errors.into_inner().unwrap_or_default();
    println!(
        "round {round}: {} writes acknowledged, {lost} lost, back after {back:?}, errors {errors:?}",
        acknowledged.len()
    );
    for (code, count) in errors {
        *verdict.notes.entry(format!("errors {code}")).or_default() += count;
    }
    Ok(back.unwrap_or(AFTER))
}

/// Kills the primary, promotes the replica, and has the old one come back. When it was promoted, and whether nothing reached the old one.
fn break_it(site: &mut Site) -> Result<(Instant, Result<(), String>)> {
    std::thread::sleep(BEFORE);
    site.cluster.kill(0);
    site.cluster.promote(1)?;
    // Its commits wait for nobody from now on, as after a switch by a script.
    site.cluster.sql(1, "ALTER SYSTEM SET synchronous_standby_names = ''")?;
    site.cluster.sql(1, "SELECT pg_reload_conf()")?;
    let promoted = Instant::now();
    std::thread::sleep(AFTER / 2);
    site.cluster.restart(0)?;
    // Whatever writes takes a number for its transaction, whether it is acknowledged or not.
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    let before = site.cluster.sql(0, next)?;
    std::thread::sleep(AFTER);
    let after = site.cluster.sql(0, next)?;
    let told = site.told()?;
    let is_seen = told.ends_with("old primary");
    let untouched =
        if before == after && is_seen { Ok(()) } else { Err(format!("{before:?}, then {after:?}; {told}")) };
    Ok((promoted, untouched))
}

/// Writes one number after the other, each once.
fn write(port: u16, in_transactions: bool, seen: &Seen) {
    let mut client = None;
    while !seen.is_over.load(Ordering::SeqCst) {
        let number = seen.last.fetch_add(1, Ordering::SeqCst);
        let outcome = match &mut client {
            Some(client) => write_one(client, number, in_transactions),
            None => connect(port).and_then(|mut fresh| {
                let outcome = write_one(&mut fresh, number, in_transactions);
                client = Some(fresh);
                outcome
            }),
        };
        let code = match outcome {
            Ok(None) => {
                if let Ok(mut acknowledged) = seen.acknowledged.lock() {
                    acknowledged.push((Instant::now(), number));
                }
                continue;
            }
            Ok(Some(code)) => {
                // Those of these classes end the connection.
                if code.starts_with("08") || code.starts_with("57P01") {
                    client = None;
                }
                code
            }
            Err(_) => {
                client = None;
                "connection".to_owned()
            }
        };
        if let Ok(mut errors) = seen.errors.lock() {
            *errors.entry(code).or_default() += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a number; the code of an error, if there was one.
fn write_one(client: &mut PgClient, number: u64, in_transactions: bool) -> Result<Option<String>> {
    let insert = format!("INSERT INTO t VALUES ({number})");
    let texts = if in_transactions { vec!["BEGIN", &insert, "COMMIT"] } else { vec![&*insert] };
    for text in texts {
        let answer = client.query(text)?;
        if let Some((code, _)) = answer.errors.first() {
            let code = code.clone();
            if answer.status != 'I' {
                client.query("ROLLBACK")?;
            }
            return Ok(Some(code));
        }
    }
    Ok(None)
}
