//! What is measured about the process as a whole: itself, its build, its configuration's reloads, its
//! access log, its traces.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};

use crate::access::AccessLog;
use crate::cell::Counter;
use crate::encode::counter;
use crate::family;
use crate::trace::Tracer;

/// CPU time, memory, descriptors and start of this process, and the version that runs, read from `/proc` at each scrape.
/// A family that `/proc` does not tell (some containers hide it) is left out.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMetrics {
    version: &'static str,
}

impl ProcessMetrics {
    /// For a program of this version.
    pub fn new(version: &'static str) -> Self {
        Self { version }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let stat = std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
        if let Some(stat) = &stat {
            let seconds = stat.cpu_ticks as f64 / ticks_per_second;
            family::PROCESS_CPU.start(encoder)?.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
            let bytes = stat.resident_pages * rustix::param::page_size() as u64;
            family::PROCESS_RESIDENT.start(encoder)?.encode_gauge(&bytes)?;
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // Reading the folder holds a descriptor of its own, which is not counted.
            let open = (entries.count() as u64).saturating_sub(1);
            family::PROCESS_OPEN_FDS.start(encoder)?.encode_gauge(&open)?;
        }
        if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            family::PROCESS_MAX_FDS.start(encoder)?.encode_gauge(&max)?;
        }
        let boot = std::fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
        if let (Some(stat), Some(boot)) = (&stat, boot) {
            let seconds = boot as f64 + stat.start_ticks as f64 / ticks_per_second;
            family::PROCESS_START.start(encoder)?.encode_gauge(&seconds)?;
        }
        family::BUILD.start(encoder)?.encode_info(&[("version", self.version)])
    }
}

/// What `/proc/self/stat` says (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the command's name in parentheses and may itself hold spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        // `rest` begins with the third field.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Self { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)?, resident_pages: field(24)? })
    }
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Reloads of the configuration. Only the thread that reloads may write to it.
#[derive(Debug, Default)]
pub struct ReloadMetrics {
    succeeded: Counter,
    failed: Counter,
    last_success_micros: Counter,
}

impl ReloadMetrics {
    /// Notes when the configuration was applied at the start; that is no reload.
    pub fn started(&self, now: SystemTime) {
        let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        self.last_success_micros.add(micros.wrapping_sub(self.last_success_micros.value()));
    }

    /// Counts a configuration that was applied while running.
    pub fn succeeded(&self, now: SystemTime) {
        self.succeeded.increment();
        self.started(now);
    }

    /// Counts a configuration that was refused.
    pub fn failed(&self) {
        self.failed.increment();
    }
}

impl Collector for ReloadMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = family::RELOADS.start(&mut encoder)?;
        counter(&mut family, &[("result", "success")], self.succeeded.value())?;
        counter(&mut family, &[("result", "failure")], self.failed.value())?;
        let mut family = family::RELOAD_TIMESTAMP.start(&mut encoder)?;
        family.encode_gauge(&(self.last_success_micros.value() as f64 / 1e6))
    }
}

impl Collector for AccessLog {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        for (family, count) in [
            (&family::ACCESS_LINES, totals.written),
            (&family::ACCESS_DROPPED, totals.dropped),
            (&family::ACCESS_WRITE_ERRORS, totals.write_errors),
        ] {
            family.start(&mut encoder)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

impl Collector for Tracer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.totals();
        for (family, count) in
            [(&family::TRACE_SPANS, totals.exported), (&family::TRACE_EXPORT_ERRORS, totals.export_errors)]
        {
            family.start(&mut encoder)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut family = family::TRACE_DROPPED.start(&mut encoder)?;
        for (reason, count) in
            [("queue_full", totals.queue_full), ("export_failed", totals.export_failed), ("rejected", totals.rejected)]
        {
            counter(&mut family, &[("reason", reason)], count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_read_behind_any_name() {
        let check = |name: &str| {
            let text = format!(
                "4242 ({name}) S 1 4242 4242 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 123456 99999744 2048 184467 1 1"
            );
            let expected = Stat { cpu_ticks: 300, start_ticks: 123_456, resident_pages: 2048 };
            assert_eq!(Stat::parse(&text), Some(expected), "{name}");
        };
        check("tenfold");
        check("a b");
        check("a) S (b");
        assert_eq!(Stat::parse(""), None);
        assert_eq!(Stat::parse("1 (x) S 1 2"), None);
    }

    #[test]
    fn the_boot_time_is_a_line_of_its_own() {
        assert_eq!(boot_time("cpu 1 2 3\nbtime 1700000000\nprocesses 5\n"), Some(1_700_000_000));
        assert_eq!(boot_time("cpu 1 2 3\n"), None);
    }
}
