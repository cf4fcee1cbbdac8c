//! `tenfold cache simulate`: hit ratios of a stream of keys, with the cache's own policy and with others.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use store::simulate::{Report, Simulation};

const EXAMPLES: &str = "\
Examples:
  tenfold cache simulate --trace keys.txt --size 10000
  awk '{print $7}' access.log | tenfold cache simulate --trace - --size 10000
  tenfold cache simulate --trace keys.txt --size 10000 --json

The trace has a key in each line, in the order of the requests. A cache of size N holds N keys, however large their values
are. Beside the policy of Tenfold's caches it shows least recently used, ARC and S3-FIFO.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// The file of keys, one in each line; - is standard input
    #[arg(long, value_name = "FILE")]
    trace: PathBuf,

    /// How many keys the cache holds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    size: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Replays the trace and prints what came of it.
///
/// # Errors
/// When the trace cannot be read or has no keys.
pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let report = if args.trace.as_os_str() == "-" {
        replay(std::io::stdin().lock(), args.size)
    } else {
        let file = File::open(&args.trace);
        file.and_then(|file| replay(BufReader::with_capacity(1 << 20, file), args.size))
    };
    let report = report.with_context(|| format!("trace {}", args.trace.display()))?;
    ensure!(report.requests > 0, "trace {} has no keys", args.trace.display());
    let text = if args.json { format!("{:#}\n", as_json(&report, args.size)) } else { as_text(&report, args.size) };
    std::io::stdout().lock().write_all(text.as_bytes()).context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Keys are bytes; only the end of the line does not belong to them.
fn replay(mut lines: impl BufRead, size: u32) -> std::io::Result<Report> {
    let mut simulation = Simulation::new(size as usize);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let key = line.strip_suffix(b"\n").unwrap_or(&line);
        let key = key.strip_suffix(b"\r").unwrap_or(key);
        if !key.is_empty() {
            simulation.request(key);
        }
        line.clear();
    }
    Ok(simulation.report())
}

/// Names and hits, Tenfold's own policy first.
fn policies(report: &Report) -> [(&'static str, u64); 4] {
    let hits = &report.hits;
    [("tenfold", hits.tenfold), ("lru", hits.lru), ("arc", hits.arc), ("s3_fifo", hits.s3_fifo)]
}

fn as_text(report: &Report, size: u32) -> String {
    let mut text = format!("{} requests for {} keys, with room for {size}\n\n", report.requests, report.keys);
    for (name, hits) in policies(report) {
        text += &format!("{name:<8} {:>6.2} %\n", 100.0 * hits as f64 / report.requests as f64);
    }
    text
}

fn as_json(report: &Report, size: u32) -> serde_json::Value {
    let ratio = |hits: u64| hits as f64 / report.requests as f64;
    let ratios = policies(report).map(|(name, hits)| (name.to_owned(), json!(ratio(hits))));
    json!({
        "requests": report.requests,
        "keys": report.keys,
        "size": size,
        "hit_ratios": serde_json::Map::from_iter(ratios),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_whatever_ends_them() {
        let check = |text: &str, requests: u64, keys: u64, hits: u64| {
            let report = replay(text.as_bytes(), 10).expect("read");
            assert_eq!((report.requests, report.keys, report.hits.tenfold), (requests, keys, hits), "{text:?}");
            assert_eq!(report.hits.lru, hits, "{text:?}");
        };
        check("", 0, 0, 0);
        check("a\nb\na\n", 3, 2, 1);
        check("a\r\nb\r\na", 3, 2, 1);
        check("\n\na\n\na b\na b\n", 3, 2, 1);
        let report = replay(&b"a\na\nb\n"[..], 10).expect("read");
        assert!(as_text(&report, 10).contains("lru       33.33 %"), "{}", as_text(&report, 10));
        assert_eq!(as_json(&report, 10)["hit_ratios"]["arc"], json!(1.0 / 3.0));
    }
}
