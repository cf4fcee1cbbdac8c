//! Several processes, one Redis, and everything that breaks: what each mode promises.
//!
//! That the checker finds what breaks it is shown by `cargo xtask fault coherence`; here `mistakes` has each mistake met by a schedule.

use std::process::Command;
use std::time::Duration;

use testkit::coherence::{Coherence, CoherenceReport};
use testkit::history::Promise;

#[path = "../../examples/coherence_subject/subject.rs"]
mod process;

/// What a process needs to know to be one of those below.
const SUBJECT: &str = "TENFOLD_COHERENCE_SUBJECT";

/// One of the processes of the tests below. By itself it does nothing.
#[test]
fn subject() {
    let Ok(words) = std::env::var(SUBJECT) else { return };
    let words: Vec<_> = words.split('\n').map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(process::run(&words));
}

fn run(operations: u64, longest: Duration, (promise, word): (Promise, &str)) -> CoherenceReport {
    let seed =
        std::env::var("TENFOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}, {word}");
    let word = word.to_owned();
    let coherence =
        Coherence { operations, longest, seed, instances: 3, promise, redis_forgets: promise == Promise::All, word };
    let report = coherence.run(&|words| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "coherence::subject", "--nocapture"]).env(SUBJECT, words.join("\n"));
        command
    });
    let report = report.unwrap();
    println!("{} reads, {} writes, {:?}, {:?} ns", report.reads, report.writes, report.troubles, report.longest);
    report.violations.iter().take(3).for_each(|violation| println!("{violation}"));
    report
}

#[test]
fn leased_no_read_is_older_than_what_any_process_acknowledged() {
    let report = run(12_000, Duration::from_secs(60), (Promise::All, "leased"));
    assert!(report.reads > 1_000 && report.writes > 100, "nothing was put to the test");
    assert_eq!(report.violations.len(), 0);
}

#[test]
fn bounded_stale_no_process_reads_anything_older_than_what_it_acknowledged() {
    let report = run(6_000, Duration::from_secs(60), (Promise::Own, "bounded"));
    assert!(report.reads > 1_000 && report.writes > 100, "nothing was put to the test");
    assert_eq!(report.violations.len(), 0);
}
