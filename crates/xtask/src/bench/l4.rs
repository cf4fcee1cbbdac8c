//! CPU time per exchange of whole proxies that pass TCP through, side by side: as `bench gateway`, with proxies that
//! know nothing of HTTP.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::gateway::{measure, ratios_of, row};
use super::report::Report;
use super::subject::{Certificate, Form, Place, SUBJECTS, Subject, is_tenfold};
use crate::proof::{self, ProofArgs};

/// Cases: paths of the origin, asked for over connections that are kept.
const CASES: &[&str] = &["128B", "1MiB"];

/// Most that Tenfold may cost, as a share of what a peer costs.
const BARS: &[(&str, f64)] = &[("128B/haproxy", 0.95), ("1MiB/haproxy", 0.35), ("1MiB/haproxy_splice", 0.75)];

/// Arguments of `bench l4`.
#[derive(Debug, Args)]
pub struct L4Args {
    #[command(flatten)]
    proof: ProofArgs,

    /// Cases: 128B, 1MiB; both by default
    #[arg(long, value_delimiter = ',', default_values_t = CASES.iter().map(|&case| case.to_owned()))]
    case: Vec<String>,

    /// Subjects: tenfold, nginx, haproxy, haproxy_splice; bare does nothing but splice
    #[arg(long, value_delimiter = ',', default_values_t = SUBJECTS.iter().map(|&name| name.to_owned()))]
    subject: Vec<String>,

    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of a round
    #[arg(long)]
    seconds: Option<u64>,
}

pub(super) fn run(args: &L4Args) -> Result<()> {
    for case in &args.case {
        ensure!(CASES.contains(&case.as_str()), "no case {case}; there are {}", CASES.join(", "));
    }
    let quick = args.proof.quick;
    let (rounds, seconds) =
        (args.rounds.unwrap_or(if quick { 3 } else { 15 }), args.seconds.unwrap_or(if quick { 1 } else { 2 }));
    let binary: Option<PathBuf> =
        args.subject.iter().any(|name| is_tenfold(name)).then(proof::release_binary).transpose()?;
    let (origin, certificate) = (Subject::origin()?, Certificate::new()?);
    let place = Place { folder: "bench/l4", origin: &origin, certificate: &certificate, binary: binary.as_deref() };
    let subjects: Vec<Subject> =
        args.subject.iter().map(|name| Subject::start(name, Form::Pinned, place)).collect::<Result<_>>()?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for case in &args.case {
        let measured = measure(&subjects.iter().collect::<Vec<_>>(), case, rounds, seconds, Form::Pinned)?;
        rows.extend(measured.iter().map(|(name, rounds)| row(name, case, rounds)));
        ratios.extend(ratios_of(case, &measured));
    }
    let mut report = Report::new(rows);
    ratios.into_iter().for_each(|(name, spread)| report.add_ratio(name, spread));
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())?;
    report.hold_to(BARS)
}
