use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::subject::{OTHER_CORE, Subject, on_core};
use super::wrk::Round;

/// Connections, and requests at once on each: as many requests under way as wrk has connections.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 8;

/// Sends load of HTTP/2 under TLS to a subject for a while, and takes its CPU time before and after. A failed request is
/// an error.
pub(super) fn round(subject: &Subject, path: &str, seconds: u64, pinned: bool) -> Result<Round> {
    let dir = testkit::TempDir::new()?;
    let log = dir.path().join("requests");
    let mut command = Command::new("h2load");
    command.args(["--threads", "1", "--duration", &seconds.to_string(), "--npn-list", "h2"]);
    command.args(["--clients", &CONNECTIONS.to_string(), "--max-concurrent-streams", &STREAMS.to_string()]);
    command.arg("--log-file").arg(&log);
    command.arg(format!("https://127.0.0.1:{}/{path}", subject.tls_port));
    let before = subject.cpu_time()?;
    let core = pinned.then_some(OTHER_CORE);
    let output = on_core(core, || command.output().context("h2load; `cargo xtask install` installs it"))?;
    let spent = subject.cpu_time()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let whole =
        || format!("{} {path}: h2load printed:\n{text}{}", subject.name, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && text.contains("Application protocol: h2"), whole());
    parse(&text, &std::fs::read_to_string(&log)?, seconds, spent).with_context(whole)
}

/// Reads what h2load printed, and its log: a line for each request with its start, its status and its microseconds.
fn parse(text: &str, log: &str, seconds: u64, spent: Duration) -> Result<Round> {
    let line = text.lines().find_map(|line| line.strip_prefix("requests: ")).context("no requests")?;
    let count = |name: &str| {
        let part = line.split(", ").find_map(|part| part.strip_suffix(name)?.trim().parse::<u64>().ok());
        part.with_context(|| format!("no count of {name}"))
    };
    let (succeeded, failed) = (count("succeeded")?, count("failed")?);
    ensure!(failed == 0, "{failed} requests failed: what fails is cheap, so nothing was measured");
    ensure!(succeeded > 0, "no request was answered");
    let mut micros = Vec::new();
    for line in log.lines() {
        let mut columns = line.split('\t').skip(1);
        ensure!(columns.next() == Some("200"), "a request was not answered with 200: {line}");
        micros.push(columns.next().context("no duration")?.parse::<u64>()?);
    }
    micros.sort_unstable();
    let percentile = |share: usize| micros.get(micros.len() * share / 100).copied().unwrap_or_default() as f64;
    Ok(Round {
        requests: succeeded,
        seconds: seconds as f64,
        p50_us: percentile(50),
        p99_us: percentile(99),
        cpu_us_per_op: spent.as_secs_f64() * 1e6 / succeeded as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read_and_errors_are_refused() {
        let line = "requests: 1000 total, 1001 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout";
        let log = "17\t200\t30\n18\t200\t10\n19\t200\t20\n";
        let read = parse(line, log, 2, Duration::from_millis(15)).unwrap();
        let expected = Round { requests: 1000, seconds: 2.0, p50_us: 20.0, p99_us: 30.0, cpu_us_per_op: 15.0 };
        assert_eq!(read, expected);
        assert!(parse(&line.replace("0 failed", "3 failed"), log, 2, Duration::ZERO).is_err());
        assert!(parse(&line.replace("1000 succeeded", "0 succeeded"), log, 2, Duration::ZERO).is_err());
        assert!(parse(line, &log.replace("200", "502"), 2, Duration::ZERO).is_err());
        assert!(parse("nothing", "", 2, Duration::ZERO).is_err());
    }
}
