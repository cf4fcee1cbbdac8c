use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::subject::{OTHER_CORE, Subject, on_core};
use crate::repository;

/// What wrk measured in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Round {
    pub(super) requests: u64,
    pub(super) seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU time of the subject per request.
    pub(super) cpu_us_per_op: f64,
}

/// Connections that the load keeps.
pub(super) const CONNECTIONS: usize = 64;

/// Sends load of HTTP/1.1 to a subject for a while, and takes its CPU time before and after. A failed request is an error.
pub(super) fn round(subject: &Subject, case: &str, seconds: u64, pinned: bool) -> Result<Round> {
    let mut command = Command::new("wrk");
    let (connections, duration) = (CONNECTIONS.to_string(), format!("{seconds}s"));
    command.args(["--threads", "1", "--connections", &connections, "--duration", &duration, "--timeout", "10s"]);
    command.arg("--script").arg(repository::root().join("bench/gateway/report.lua"));
    match case.strip_prefix("tls_") {
        None => command.arg(format!("http://127.0.0.1:{}/{case}", subject.port)),
        // wrk resumes no session, so each connection is a whole handshake.
        Some("handshake") => {
            command.args(["--header", "Connection: close"]).arg(format!("https://127.0.0.1:{}/128B", subject.tls_port))
        }
        Some(path) => command.arg(format!("https://127.0.0.1:{}/{path}", subject.tls_port)),
    };
    let before = subject.cpu_time()?;
    let core = pinned.then_some(OTHER_CORE);
    let output = on_core(core, || command.output().context("wrk; `cargo xtask install` installs it"))?;
    let spent = subject.cpu_time()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let whole = || format!("{} {case}: wrk printed:\n{text}{}", subject.name, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), whole());
    parse(&text, spent).with_context(whole)
}

/// Reads the line that `bench/gateway/report.lua` prints.
pub(super) fn parse(text: &str, spent: Duration) -> Result<Round> {
    let line = text.lines().find_map(|line| line.strip_prefix("report ")).context("no report")?;
    let value = |name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.with_context(|| format!("no {name}"))?.parse::<u64>().context("not a number")
    };
    for kind in ["connect", "read", "write", "timeout", "status"] {
        let errors = value(kind)?;
        ensure!(errors == 0, "{errors} {kind} errors: what fails is cheap, so nothing was measured");
    }
    let requests = value("requests")?;
    ensure!(requests > 0, "no request was answered");
    Ok(Round {
        requests,
        seconds: value("micros")? as f64 / 1e6,
        p50_us: value("p50")? as f64,
        p99_us: value("p99")? as f64,
        cpu_us_per_op: spent.as_secs_f64() * 1e6 / requests as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_read_and_errors_are_refused() {
        let line = "report requests=1000 micros=2000000 p50=30 p99=90 connect=0 read=0 write=0 timeout=0 status=0";
        let read = parse(&format!("Running\n{line}\n"), Duration::from_millis(15)).unwrap();
        let expected = Round { requests: 1000, seconds: 2.0, p50_us: 30.0, p99_us: 90.0, cpu_us_per_op: 15.0 };
        assert_eq!(read, expected);
        for broken in ["status=3", "read=1", "timeout=1", "connect=64"] {
            let name = broken.split('=').next().unwrap();
            let text = line.replace(&format!("{name}=0"), broken);
            assert!(parse(&text, Duration::ZERO).unwrap_err().to_string().contains(name));
        }
        assert!(parse(&line.replace("requests=1000", "requests=0"), Duration::ZERO).is_err());
        assert!(parse("nothing", Duration::ZERO).is_err());
    }
}
