//! Caches held to the public suite of tests for HTTP caches, whole: its origin server, the subject before it, its
//! client before that. See `docs/cache-conformance.md` for what is counted, and how.

mod known;
mod report;
mod results;
mod suite;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use testkit::free_port;

use crate::caches::{Cache, Setting};
use crate::install;
use crate::proof::{self, ProofArgs};
use known::Known;
use report::Report;
use results::{Kind, Test};
use suite::Suite;

/// Arguments of `conformance cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// tenfold, varnish, nginx or haproxy
    #[arg(long, default_value = "tenfold")]
    subject: String,

    /// Count tests of this class only: required, optimal, behaviour, or a group of the suite's such as vary
    #[arg(long)]
    class: Option<String>,

    /// A folder with another version of the suite
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
}

/// Required and optimal tests that Tenfold is to pass at least, for the version that is pinned, which has so many tests of both
/// kinds, and for those since.
const PINNED_TESTS: (u64, u64) = (157, 86);
const PINNED_BARS: (u64, u64) = (148, 76);
const LATER_BARS: (u64, u64) = (150, 85);

pub(super) fn run(args: &CacheArgs) -> Result<()> {
    let suite = Suite::open(args.suite.as_deref())?;
    let class = args.class.as_deref();
    let has_some = suite.tests.iter().any(|test| is_of(test, class));
    ensure!(has_some, "the suite has no tests of class {}", class.unwrap_or_default());
    let is_own = args.subject == "tenfold";
    if !is_own {
        install::require(&["varnishd", "nginx", "haproxy"])?;
    }
    let binary = is_own.then(proof::release_binary).transpose()?;
    let port = free_port();
    let _origin = suite.serve(port)?;
    let setting = Setting {
        folder: "tests/cache",
        origin: ([127, 0, 0, 1], port).into(),
        workers: 1,
        memory_mib: 64,
        answers: 200_000,
        // As the suite runs Varnish for its published results: nothing fresh or stale but by what the origin says.
        varnish: &["-p", "default_ttl=0", "-p", "default_grace=0", "-p", "default_keep=3600"],
        binary: binary.as_deref(),
    };
    let cache = Cache::start(&args.subject, setting)?;
    println!("running {} tests of http-cache-tests {} through {}", suite.tests.len(), suite.version, cache.name);
    let begun = Instant::now();
    let results = suite.run(cache.port)?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = Report::new(&suite, &args.subject, class, &results, seconds);
    report.print(class.is_some() || is_own);
    proof::write_json(&report, args.proof.json.as_deref())?;
    if !is_own {
        return Ok(());
    }
    // Bars are for all tests, and the list is that of the pinned version.
    let missed = if class.is_none() { missed_bars(&report) } else { Vec::new() };
    if args.suite.is_none() {
        if class.is_none() && std::env::var_os("TENFOLD_GOLDEN").is_some_and(|value| value == "update") {
            Known::read()?.rewrite(&suite.tests, &results)?;
        }
        let known = Known::read()?;
        let mut differences = known.differences(suite.tests.iter().filter(|test| is_of(test, class)), &results);
        differences.extend(known.strangers(&suite.tests));
        differences.iter().for_each(|difference| eprintln!("FAILED {difference}"));
        ensure!(differences.is_empty(), "docs/cache-conformance.md is wrong about {} tests", differences.len());
    }
    // The short form only tells what the list does not.
    ensure!(missed.is_empty() || args.proof.quick, "missed: {}", missed.join(", "));
    Ok(())
}

/// Whether a test belongs to a class: a kind, or one of the suite's groups.
fn is_of(test: &Test, class: Option<&str>) -> bool {
    match class {
        None => true,
        Some("required") => test.kind == Kind::Required,
        Some("optimal") => test.kind == Kind::Optimal,
        Some("behaviour") => test.kind == Kind::Behaviour,
        Some(group) => test.suite == group,
    }
}

/// Prints the bars, and gives those that are missed.
fn missed_bars(report: &Report) -> Vec<&'static str> {
    let (required, optimal) = (report.count(Kind::Required), report.count(Kind::Optimal));
    let is_pinned = (required.tests, optimal.tests) == PINNED_TESTS;
    let bars = if is_pinned { PINNED_BARS } else { LATER_BARS };
    let mut missed = Vec::new();
    for (name, count, bar) in [("required", required, bars.0), ("optimal", optimal, bars.1)] {
        let held = count.passed >= bar;
        println!("{name}: {}, at least {bar}: {}", count.passed, if held { "held" } else { "missed" });
        if !held {
            missed.push(name);
        }
    }
    missed
}
