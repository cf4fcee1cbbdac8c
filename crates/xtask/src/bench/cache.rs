//! CPU time per request of caches, side by side: as `bench gateway`, with a load that nearly always hits.
//!
//! One hot key would measure a memory copy. So there are thousands, asked for by Zipf's law; a quarter of them has a variant for each
//! of two encodings; and of a hundred requests one goes to keys that do not fit, so that each cache has to evict all the time
//! and find out what is worth keeping. Who misses is not cheap by it, but may be dear: the share of hits stands beside each figure.
//!
//! Peers account for their bound in different ways, and one that holds more has fewer misses to pay for. So each is given what
//! holds about as many answers.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use testkit::CacheOrigin;

use super::gateway::{Rounds, ratios_of, row};
use super::report::{Report, Spread, rounded};
use super::subject::{OTHER_CORE, PROXY_CORE, on_core};
use super::wrk::{self, Round};
use crate::caches::{CACHES, Cache, Setting};
use crate::proof::{self, ProofArgs};
use crate::{install, repository};

/// Arguments of `bench cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Cases: 1KiB, 100KiB; both by default
    #[arg(long, value_delimiter = ',', default_values_t = CASES.iter().map(|case| case.name.to_owned()))]
    case: Vec<String>,

    /// Subjects: tenfold, varnish, nginx, haproxy
    #[arg(long, value_delimiter = ',', default_values_t = CACHES.iter().map(|&name| name.to_owned()))]
    subject: Vec<String>,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of a round
    #[arg(long)]
    seconds: Option<u64>,
}

/// Answers of one size.
struct Case {
    name: &'static str,
    bytes: u64,
    /// Keys that fit, with their variants; and as many others that no cache has room for beside them.
    fit: u64,
    others: u64,
    /// How many answers a cache is to hold.
    held: u64,
}

/// A quarter of the keys counts twice, so that 5,000 and 500 answers fit, and 5,000 and 1,000 others want the rest.
const CASES: &[Case] = &[
    Case { name: "1KiB", bytes: 1 << 10, fit: 4_000, others: 8_000, held: 8_000 },
    Case { name: "100KiB", bytes: 100 << 10, fit: 400, others: 800, held: 800 },
];

/// Most that Tenfold may cost, as a share of what a peer costs.
const BARS: &[(&str, f64)] =
    &[("1KiB/best", 0.90), ("100KiB/nginx", 1.05), ("100KiB/varnish", 0.75), ("100KiB/haproxy", 0.75)];
/// Shares of hits further apart than this are work of different kinds.
const HITS_APART_MAX: f64 = 0.01;

/// One pool, as other subjects have one worker, whose threads all live as long as it does, since the time of those that have ended
/// is not seen; and encodings by `Vary` alone, as others know them, instead of unpacking what is stored packed.
const VARNISH: &[&str] =
    &["-p", "thread_pools=1", "-p", "thread_pool_min=200", "-p", "thread_pool_max=200", "-p", "http_gzip_support=off"];

pub(super) fn run(args: &CacheArgs) -> Result<()> {
    let quick = args.proof.quick;
    let rounds = args.rounds.unwrap_or(if quick { 3 } else { 15 });
    let seconds = args.seconds.unwrap_or(if quick { 1 } else { 2 });
    let cases: Vec<&Case> = args.case.iter().map(|name| case(name)).collect::<Result<_>>()?;
    install::require(&["wrk", "varnishd", "nginx", "haproxy"])?;
    let is_own = args.subject.iter().any(|name| name == "tenfold");
    let binary = is_own.then(proof::release_binary).transpose()?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for case in cases {
        let measured = measure(case, &args.subject, binary.as_ref(), (rounds, seconds))?;
        for (name, rounds, hits) in &measured {
            let hit_ratio = Spread::of(hits.iter().copied()).map(|hits| (hits.median * 1e4).round() / 1e4);
            rows.push(super::report::Row { hit_ratio, ..row(name, case.name, rounds) });
        }
        warn_of_different_work(case, &measured);
        let rounds: Rounds = measured.into_iter().map(|(name, rounds, _)| (name, rounds)).collect();
        ratios.extend(ratios_of(case.name, &rounds));
        ratios.extend(ratio_of_best(case.name, &rounds));
    }
    let mut report = Report::new(rows);
    ratios.into_iter().for_each(|(name, spread)| report.add_ratio(name, spread));
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    report.hold_to(BARS)
}

fn case(name: &str) -> Result<&'static Case> {
    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    CASES
        .iter()
        .find(|case| case.name == name)
        .with_context(|| format!("no case {name}; there are {}", names.join(", ")))
}

impl Case {
    /// The bound with which a cache holds as many answers as it is to.
    fn memory_mib(&self, subject: &str) -> u64 {
        let bytes = match subject {
            // A file takes whole blocks, and its head is in it. What is beyond this bound goes every ten seconds; the zone of its keys and the
            // descriptors that it keeps are no more than about as many answers at any time.
            "nginx" => self.held * (self.bytes + 1024).next_multiple_of(4096),
            // Blocks of 1 KiB, of which its own record and the head take one.
            "haproxy" => self.held * (self.bytes + 1024).next_multiple_of(1024),
            // The object, its head and what the allocator rounds up.
            "varnish" => self.held * (self.bytes + 1024),
            _ => tenfold_bytes(self.held, self.bytes),
        };
        bytes.div_ceil(1 << 20)
    }
}

/// The bound with which Tenfold holds so many answers of a size. It is one on all memory that the cache takes, so that less
/// than it is for answers: an eighth is for fetches under way, and each shard of the rest has a MiB for its tables. Shards are
/// as many, by powers of two, as have 16 MiB each.
fn tenfold_bytes(held: u64, bytes: u64) -> u64 {
    // A sixteenth for holes between allocations; the key, the head, the entry's own places and its part of the records that say
    // what answers vary by.
    let answers = held * (bytes + bytes / 16 + 960);
    let shards = 1 << (answers / (15 << 20)).max(1).ilog2();
    (answers + (shards << 20)) * 8 / 7
}

/// A subject's name, its rounds, and the share of hits in each.
type Measured = (String, Vec<Round>, Vec<f64>);

fn measure(
    case: &Case,
    names: &[String],
    binary: Option<&PathBuf>,
    (count, seconds): (usize, u64),
) -> Result<Vec<Measured>> {
    // Each has an origin of its own, by which its misses are told from those of others.
    let mut subjects = Vec::new();
    for name in names {
        let origin = on_core(Some(OTHER_CORE), CacheOrigin::start)?;
        let setting = Setting {
            folder: "bench/cache",
            origin: origin.address(),
            workers: 1,
            memory_mib: case.memory_mib(name),
            answers: case.held,
            varnish: VARNISH,
            binary: binary.map(PathBuf::as_path),
        };
        subjects.push((on_core(Some(PROXY_CORE), || Cache::start(name, setting))?, origin));
    }
    let mut measured: Vec<Measured> = names.iter().map(|name| (name.clone(), Vec::new(), Vec::new())).collect();
    for (cache, _) in &subjects {
        // What is asked for least is asked for a few times within this.
        load(cache, case, 4, 0).with_context(|| format!("{} warms up", cache.name))?;
    }
    for number in 0..count {
        for turn in 0..subjects.len() {
            let at = (number + turn) % subjects.len();
            let (cache, origin) = &subjects[at];
            let before = origin.requests();
            let round = load(cache, case, seconds, number as u64 + 1)?;
            let hits = 1.0 - (origin.requests() - before) as f64 / round.requests as f64;
            let (cpu, rate) = (round.cpu_us_per_op, round.requests as f64 / round.seconds);
            println!(
                "{} {}/{count} {:<10} {cpu:8.2} us/op {rate:9.0} ops/s {:6.2} % hits",
                case.name,
                number + 1,
                cache.name,
                100.0 * hits
            );
            measured[at].1.push(round);
            measured[at].2.push(hits);
        }
    }
    Ok(measured)
}

/// Sends the load of a case for a while. The same seed asks for the same, in the same order.
fn load(cache: &Cache, case: &Case, seconds: u64, seed: u64) -> Result<Round> {
    let mut command = Command::new("wrk");
    let (connections, duration) = (wrk::CONNECTIONS.to_string(), format!("{seconds}s"));
    command.args(["--threads", "1", "--connections", &connections, "--duration", &duration, "--timeout", "10s"]);
    command.args(["--script", "bench/cache/load.lua", &format!("http://{}", cache.address()), "--"]);
    command.args([seed, case.bytes, case.fit, case.others].map(|number| number.to_string()));
    command.current_dir(repository::root());
    let before = cache.cpu_time()?;
    let output = on_core(Some(OTHER_CORE), || command.output().context("wrk; `cargo xtask install` installs it"))?;
    let spent: Duration = cache.cpu_time()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let whole =
        || format!("{} {}: wrk printed:\n{text}{}", cache.name, case.name, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), whole());
    wrk::parse(&text, spent).with_context(whole)
}

/// Tenfold's cost over that of the peer that costs least in the middle of its rounds, round by round. The least of all peers
/// in each round would be less than any of them costs.
fn ratio_of_best(case: &str, rounds: &Rounds) -> Option<(String, Spread)> {
    let median = |rounds: &[Round]| Spread::of(rounds.iter().map(|round| round.cpu_us_per_op)).map(|all| all.median);
    let peers = rounds.iter().filter(|(name, _)| name != "tenfold");
    let costs = peers.filter_map(|(name, rounds)| Some((name, median(rounds)?)));
    let (best, _) = costs.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
    let of_best = ratios_of(case, rounds).into_iter().find(|(name, _)| *name == format!("{case}/{best}"))?;
    Some((format!("{case}/best"), of_best.1))
}

fn warn_of_different_work(case: &Case, measured: &[Measured]) {
    let median = |hits: &[f64]| Spread::of(hits.iter().copied()).map(|all| all.median);
    let hits: Vec<_> = measured.iter().filter_map(|(name, _, hits)| Some((name, median(hits)?))).collect();
    let order = |one: &&(&String, f64), other: &&(&String, f64)| one.1.total_cmp(&other.1);
    let (Some(least), Some(most)) = (hits.iter().min_by(order), hits.iter().max_by(order)) else { return };
    if most.1 - least.1 > HITS_APART_MAX {
        let percent = |share: f64| rounded(100.0 * share);
        println!(
            "{}: {} has {} % hits and {} {} %: they did not do the same work",
            case.name,
            least.0,
            percent(least.1),
            most.0,
            percent(most.1)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_one_peer_and_not_the_best_of_each_round() {
        let round = |cpu_us_per_op| Round { requests: 1, seconds: 1.0, p50_us: 1.0, p99_us: 1.0, cpu_us_per_op };
        let costs = |costs: [f64; 3]| costs.map(round).to_vec();
        let rounds: Rounds = vec![
            ("tenfold".into(), costs([9.0, 9.0, 9.0])),
            ("nginx".into(), costs([20.0, 5.0, 20.0])),
            ("haproxy".into(), costs([10.0, 12.0, 10.0])),
        ];
        let (name, spread) = ratio_of_best("1KiB", &rounds).unwrap();
        assert_eq!((name.as_str(), spread.median, spread.max), ("1KiB/best", 0.9, 0.9));
        assert_eq!(ratio_of_best("1KiB", &rounds[1..].to_vec()), None);
    }

    #[test]
    fn bounds_hold_what_fits_and_not_the_others() {
        for case in CASES {
            let fit = case.fit + case.fit / 4;
            let all = fit + case.others + case.others / 4;
            assert!(case.held > fit && case.held < all, "{}", case.name);
        }
        let mib = |name: &str, subject: &str| case(name).unwrap().memory_mib(subject);
        assert_eq!((mib("1KiB", "nginx"), mib("1KiB", "haproxy"), mib("100KiB", "nginx")), (32, 16, 82));
        // One shard of 16.6 MiB, and four of 22.1.
        assert_eq!((mib("1KiB", "tenfold"), mib("100KiB", "tenfold")), (19, 101));
        assert!(case("2KiB").is_err());
    }
}
