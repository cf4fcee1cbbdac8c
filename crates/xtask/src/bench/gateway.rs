//! CPU time per request of whole proxies, side by side.
//!
//! A machine's speed drifts over minutes, so subjects take turns: each round measures every subject once, in an order
//! that rotates, and ratios are taken within a round. The proxy has a core to itself; the origin and wrk share the
//! other, and saturating them does not matter, since what counts is the proxy's own CPU time over the requests done.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use super::report::{Report, Row, Spread, rounded};
use super::subject::{Certificate, Form, Place, SUBJECTS, Subject, is_tenfold};
use super::wrk::{self, Round};
use super::{h2load, idle};
use crate::proof::{self, ProofArgs};

/// Cases in which requests are counted: paths of the origin, asked for bare, under TLS, with a handshake each, and over
/// HTTP/2 under TLS.
const REQUEST_CASES: &[&str] = &["128B", "10KiB", "1MiB", "tls_128B", "tls_handshake", "h2_128B"];
/// The case in which memory is.
const IDLE_CASE: &str = "idle_kib";

/// Arguments of `bench gateway`.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    #[command(flatten)]
    proof: ProofArgs,

    /// Cases: 128B, 10KiB, 1MiB, tls_128B, tls_handshake, h2_128B, idle_kib; all of them by default, without idle_kib in the short form
    #[arg(long, value_delimiter = ',')]
    case: Vec<String>,

    /// Subjects: tenfold, nginx, haproxy, haproxy_splice; tenfold_trace_0, _1 and _100 trace that many percent
    #[arg(long, value_delimiter = ',', default_values_t = SUBJECTS.iter().map(|&name| name.to_owned()))]
    subject: Vec<String>,

    /// Rounds of the judged form
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of a round
    #[arg(long)]
    seconds: Option<u64>,
}

/// Rounds of one form and case: for each subject, its rounds in order.
pub(super) type Rounds = Vec<(String, Vec<Round>)>;

struct Plan {
    cases: Vec<String>,
    rounds: usize,
    rounds_unpinned: usize,
    seconds: u64,
    binary: Option<PathBuf>,
}

pub(super) fn run(args: &GatewayArgs) -> Result<()> {
    let plan = plan(args)?;
    let (origin, certificate) = (Subject::origin()?, Certificate::new()?);
    let binary = plan.binary.as_deref();
    let place = Place { folder: "bench/gateway", origin: &origin, certificate: &certificate, binary };
    let mut rows = Vec::new();
    let mut ratios = Vec::new();
    let request_cases: Vec<&str> = plan.cases.iter().map(String::as_str).filter(|case| *case != IDLE_CASE).collect();
    for (form, count) in [(Form::Pinned, plan.rounds), (Form::Unpinned, plan.rounds_unpinned)] {
        if count == 0 || request_cases.is_empty() {
            continue;
        }
        let started = args.subject.iter().map(|name| Subject::start(name, form, place));
        let subjects: Vec<Subject> = started.collect::<Result<_>>()?;
        for case in &request_cases {
            // Under TLS nothing can be spliced, so there HAProxy is one subject.
            let of_case = |subject: &&Subject| !(case.contains('_') && subject.name.starts_with("haproxy_splice"));
            let subjects: Vec<&Subject> = subjects.iter().filter(of_case).collect();
            let rounds = measure(&subjects, case, count, plan.seconds, form)?;
            rows.extend(rounds.iter().map(|(name, rounds)| row(name, case, rounds)));
            if form == Form::Pinned {
                ratios.extend(ratios_of(case, &rounds));
            }
        }
    }
    if plan.cases.iter().any(|case| case == IDLE_CASE) {
        for name in &args.subject {
            println!("{IDLE_CASE} {name}");
            let kib = rounded(idle::measure(name, place)?);
            let (subject, case) = (name.clone(), IDLE_CASE.to_owned());
            rows.push(Row { subject, case, idle_kib: Some(kib), ..Row::default() });
        }
        ratios.extend(idle_ratios(&rows));
    }
    let mut report = Report::new(rows);
    ratios.into_iter().for_each(|(name, spread)| report.add_ratio(name, spread));
    report.print();
    proof::write_json(&report, args.proof.json.as_deref())
}

fn plan(args: &GatewayArgs) -> Result<Plan> {
    let quick = args.proof.quick;
    let mut cases = args.case.clone();
    if cases.is_empty() {
        cases.extend(REQUEST_CASES.iter().map(|&case| case.to_owned()));
        cases.extend((!quick).then(|| IDLE_CASE.to_owned()));
    }
    for case in &cases {
        let known = REQUEST_CASES.contains(&case.as_str()) || case == IDLE_CASE;
        ensure!(known, "no case {case}; there are {}, {IDLE_CASE}", REQUEST_CASES.join(", "));
    }
    // Four subjects in three cases: 15 rounds of 2 s are six minutes; the short form is 48 s.
    let rounds = args.rounds.unwrap_or(if quick { 3 } else { 15 });
    let seconds = args.seconds.unwrap_or(if quick { 1 } else { 2 });
    let rounds_unpinned = if quick { 1 } else { rounds.div_ceil(3) };
    let binary = args.subject.iter().any(|name| is_tenfold(name)).then(proof::release_binary).transpose()?;
    Ok(Plan { cases, rounds, rounds_unpinned, seconds, binary })
}

pub(super) fn measure(subjects: &[&Subject], case: &str, count: usize, seconds: u64, form: Form) -> Result<Rounds> {
    let pinned = form == Form::Pinned;
    let mut rounds: Rounds = subjects.iter().map(|subject| (subject.name.clone(), Vec::new())).collect();
    for number in 0..count {
        for turn in 0..subjects.len() {
            let at = (number + turn) % subjects.len();
            let round = match case.strip_prefix("h2_") {
                None => wrk::round(subjects[at], case, seconds, pinned)?,
                Some(path) => h2load::round(subjects[at], path, seconds, pinned)?,
            };
            let (cpu, rate) = (round.cpu_us_per_op, round.requests as f64 / round.seconds);
            println!("{case} {}/{count} {:<18} {cpu:8.2} us/op {rate:9.0} ops/s", number + 1, subjects[at].name);
            rounds[at].1.push(round);
        }
    }
    for subject in subjects {
        // Spans that are dropped are cheap.
        if let Some((exported, dropped)) = subject.spans()? {
            println!("{case} {:<18} {exported} spans exported, {dropped} dropped", subject.name);
        }
    }
    Ok(rounds)
}

pub(super) fn row(name: &str, case: &str, rounds: &[Round]) -> Row {
    let median = |value: fn(&Round) -> f64| Spread::of(rounds.iter().map(value)).map(|spread| rounded(spread.median));
    Row {
        subject: name.to_owned(),
        case: case.to_owned(),
        cpu_us_per_op: median(|round| round.cpu_us_per_op),
        ops_per_s: median(|round| round.requests as f64 / round.seconds),
        p50_us: median(|round| round.p50_us),
        p99_us: median(|round| round.p99_us),
        rounds: Some(rounds.len()),
        ..Row::default()
    }
}

/// Tenfold's cost over each peer's, round by round.
pub(super) fn ratios_of(case: &str, rounds: &[(String, Vec<Round>)]) -> Vec<(String, Spread)> {
    let Some((_, own)) = rounds.iter().find(|(name, _)| name == "tenfold") else { return Vec::new() };
    let peers = rounds.iter().filter(|(name, _)| name != "tenfold");
    peers
        .filter_map(|(name, peer)| {
            let ratios = own.iter().zip(peer).map(|(own, peer)| own.cpu_us_per_op / peer.cpu_us_per_op);
            Some((format!("{case}/{name}"), Spread::of(ratios)?))
        })
        .collect()
}

fn idle_ratios(rows: &[Row]) -> Vec<(String, Spread)> {
    let idle = rows.iter().filter_map(|row| Some((row.subject.as_str(), row.idle_kib?)));
    let of: Vec<(&str, f64)> = idle.collect();
    let Some(&(_, own)) = of.iter().find(|(name, _)| *name == "tenfold") else { return Vec::new() };
    let peers = of.iter().filter(|(name, kib)| *name != "tenfold" && *kib > 0.0);
    peers.filter_map(|(name, kib)| Some((format!("{IDLE_CASE}/{name}"), Spread::of([own / kib])?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |cpu_us_per_op| Round { requests: 1, seconds: 1.0, p50_us: 1.0, p99_us: 1.0, cpu_us_per_op };
        let costs = |costs: &[f64]| costs.iter().map(|&cost| round(cost)).collect::<Vec<_>>();
        // The machine slowed down threefold in the last round, which hits both alike.
        let rounds: Rounds =
            vec![("tenfold".into(), costs(&[8.0, 9.0, 27.0])), ("nginx".into(), costs(&[10.0, 10.0, 30.0]))];
        let ratios = ratios_of("128B", &rounds);
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].0.as_str(), rounded(ratios[0].1.median)), ("128B/nginx", 0.9));
        assert_eq!(ratios_of("128B", &rounds[1..]), []);
        assert_eq!(row("nginx", "128B", &rounds[1].1).cpu_us_per_op, Some(10.0));
    }
}
