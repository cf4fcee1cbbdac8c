//! A Redis that stands still, or is killed and started again, under the load of a cache of the library (`bounded_stale`): hits in memory
//! are as quick as before, a miss is one load, and values are shared again by themselves.
//!
//! In each round calls are measured before the outage, during it, and after it; what differs between the first and the last is the machine's.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use testkit::Redis;

use super::subject::{self, Subject};
use crate::install;
use crate::proof::{ProofArgs, Verdict};

/// Arguments of `fault outage`.
#[derive(Debug, Args)]
pub struct OutageArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// How often Redis is away in either way
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
}

/// How much longer the median over rounds of the 99th percentile of hits may be during an outage than around it.
const HITS_MAX: f64 = 1.25;
/// The same in the short form, of which each phase is so short that the machine's own troubles count.
const HITS_MAX_QUICK: f64 = 3.0;
/// Keys that the subject hits all the time.
const HOT: u64 = 64;
/// Misses that may wait for Redis: one of each caller until the loss is known, a few probes of the breaker.
const SLOW_MAX: u64 = 12;
/// A breaker that has opened often stays open for 10 s, and tries to connect are at most 3 s apart.
const BACK_MAX: Duration = Duration::from_secs(15);

/// A way to be away: its name, how it begins, and how it ends.
type Outage = (&'static str, fn(&mut Redis) -> Result<()>, fn(&mut Redis) -> Result<()>);

const OUTAGES: [Outage; 2] = [
    ("stopped", Redis::hang, Redis::go_on),
    (
        "killed",
        |redis| {
            redis.kill();
            Ok(())
        },
        Redis::restart,
    ),
];

/// What calls of one phase have met, by its word.
type Phase = BTreeMap<String, u64>;

pub(super) fn run(args: &OutageArgs) -> Result<()> {
    install::require(&["redis-server", "redis-cli"])?;
    let quick = args.proof.quick;
    let program = subject::build("cache", "outage_subject", quick)?;
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { 3 });
    let seconds = if quick { 3 } else { 10 };
    let mut verdict = Verdict::default();
    for (name, begin, end) in OUTAGES {
        let mut redis = Redis::start(&[])?;
        let mut subject = Subject::start(&program, &[&format!("redis://{}", redis.address())])?;
        subject.wait_for("ready")?;
        // What is met for the first time is no phase.
        load(&mut subject, 1)?;
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let before = load(&mut subject, seconds)?;
            begin(&mut redis)?;
            let during = load(&mut subject, seconds)?;
            end(&mut redis)?;
            subject.tell("back")?;
            let back = subject.line()?;
            let after = load(&mut subject, seconds)?;
            println!("{name}, round {round}: {back}");
            for (phase, found) in [("before", &before), ("during", &during), ("after", &after)] {
                println!("  {phase}: {}", words(found));
            }
            judge(&format!("{name}, round {round}"), [&before, &during, &after], &back, &mut verdict);
            let around = before["hit_p99_ns"].midpoint(after["hit_p99_ns"]);
            ratios.push(during["hit_p99_ns"] as f64 / around.max(1) as f64);
        }
        ratios.sort_by(f64::total_cmp);
        let (median, most) = (ratios[ratios.len() / 2], if quick { HITS_MAX_QUICK } else { HITS_MAX });
        println!("{name}: p99 of hits during the outage is {median:.2} of what it is around it, of {ratios:.2?}");
        let outcome = if median <= most { Ok(()) } else { Err(format!("{median:.2} times, and not {most}")) };
        verdict.check("hits", name, &outcome);
        verdict.notes.insert(format!("{name}: p99 of hits, percent"), (median * 100.0) as u64);
    }
    verdict.conclude("fault outage", &args.proof)
}

fn load(subject: &mut Subject, seconds: u32) -> Result<Phase> {
    subject.tell(&format!("load {seconds}"))?;
    let line = subject.line()?;
    let said: Vec<&str> = line.split(' ').collect();
    let number = |pair: &[&str]| Ok((pair[0].to_owned(), pair[1].parse()?));
    let phase: Result<Phase> = said.chunks_exact(2).map(number).collect();
    phase.with_context(|| format!("the subject says {line:?}"))
}

fn words(phase: &Phase) -> String {
    phase.iter().map(|(word, number)| format!("{word} {number}")).collect::<Vec<_>>().join(", ")
}

fn judge(name: &str, phases: [&Phase; 3], back: &str, verdict: &mut Verdict) {
    let [before, during, after] = phases;
    let unless = |wrong: bool, why: String| if wrong { Err(why) } else { Ok(()) };
    for phase in phases {
        let (misses, loads) = (phase["misses"], phase["loads"]);
        verdict.check("misses are one load", name, &unless(loads != misses, format!("{loads} for {misses}")));
        // Who has Redis again begins with an empty memory, and a Redis that was killed has nothing.
        let most = if std::ptr::eq(phase, after) { HOT } else { 0 };
        let hot = phase["hot_loads"];
        verdict.check("hot keys stay", name, &unless(hot > most, format!("{hot} were loaded, and not {most}")));
        verdict.check("values", name, &unless(phase["wrong"] > 0, format!("{} were wrong", phase["wrong"])));
    }
    let up = [before, during, after].map(|phase| phase["redis_is_up"]);
    verdict.check("outages", name, &unless(up != [1, 0, 1], format!("Redis was there: {up:?}")));
    let slow = during["slow"];
    let most = SLOW_MAX + during["misses"] / 100;
    verdict.check("misses do not wait", name, &unless(slow > most, format!("{slow} waited, and not {most}")));
    let took = back.strip_prefix("back_ms ").and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
    let is_back = took.is_some_and(|took| took <= BACK_MAX);
    verdict.check("recovery", name, &unless(!is_back, format!("{back}, and not within {BACK_MAX:?}")));
}
