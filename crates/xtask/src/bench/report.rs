use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;

/// A bench's result in the form that all benches share.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: String,
    pub(super) rows: Vec<Row>,
    /// Tenfold's cost over the peer's, by `CASE/PEER`.
    pub(super) ratios: BTreeMap<String, f64>,
    /// How the ratio spread over the rounds.
    pub(super) spreads: BTreeMap<String, Spread>,
}

/// One subject in one case; medians over the rounds. What a case does not measure is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) subject: String,
    pub(super) case: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_us_per_op: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ops_per_s: Option<f64>,
    /// Of what is too quick for whole microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ns_per_op: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99_us: Option<f64>,
    /// Memory per idle connection in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_kib: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instructions_per_op: Option<f64>,
    /// Share of requests that a cache answered by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hit_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rounds: Option<usize>,
}

/// Least, quartiles and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) q1: f64,
    pub(super) median: f64,
    pub(super) q3: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` when there are no values.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // Between two values, the share of the way that the rank asks for.
        let at = |share: f64| {
            let rank = share * last as f64;
            let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
            low + (high - low) * rank.fract()
        };
        Some(Self { min: values[0], q1: at(0.25), median: at(0.5), q3: at(0.75), max: values[last] })
    }
}

impl Report {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        Self { machine: machine(), rows, ratios: BTreeMap::new(), spreads: BTreeMap::new() }
    }

    /// Adds a ratio, rounded to what the measurement can tell.
    pub(super) fn add_ratio(&mut self, name: String, spread: Spread) {
        self.ratios.insert(name.clone(), rounded(spread.median));
        self.spreads.insert(name, spread);
    }

    /// Says of each bar whether it was held, as far as it was measured: the most that a ratio may be.
    ///
    /// # Errors
    /// When one was missed: which, and by what figure.
    pub(super) fn hold_to(&self, bars: &[(&str, f64)]) -> Result<()> {
        let measured = bars.iter().filter_map(|(name, bar)| Some((name, bar, self.ratios.get(*name)?)));
        let mut missed = Vec::new();
        for (name, bar, ratio) in measured {
            // What is no number holds nothing.
            let held = ratio <= bar;
            println!("{name}: {ratio:.3}, at most {bar:.2}: {}", if held { "held" } else { "missed" });
            if !held {
                missed.push(format!("{name} is {ratio:.3}, and may be {bar:.2}"));
            }
        }
        ensure!(missed.is_empty(), "tenfold missed: {}", missed.join("; "));
        Ok(())
    }

    pub(super) fn print(&self) {
        println!("\n{}", self.machine);
        let header = ["subject", "case", "cpu us/op", "ops/s", "p50 us", "p99 us", "KiB/idle", "instr/op"];
        println!(
            "{:<18} {:<8} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9}",
            header[0], header[1], header[2], header[3], header[4], header[5], header[6], header[7]
        );
        let cell = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        for row in &self.rows {
            let nanos = row.ns_per_op.map_or(String::new(), |nanos| format!("  {nanos:.1} ns"));
            let hits = row.hit_ratio.map_or(String::new(), |share| format!("  {:.2} % hits", 100.0 * share));
            println!(
                "{:<18} {:<8} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9}{nanos}{hits}",
                row.subject,
                row.case,
                cell(row.cpu_us_per_op, 2),
                cell(row.ops_per_s, 0),
                cell(row.p50_us, 0),
                cell(row.p99_us, 0),
                cell(row.idle_kib, 2),
                cell(row.instructions_per_op, 0),
            );
        }
        for (name, ratio) in &self.ratios {
            let Spread { min, q1, q3, max, .. } = self.spreads[name];
            println!("{name:<28} {ratio:.3}  (quartiles {q1:.3} to {q3:.3}, {min:.3} to {max:.3})");
        }
    }
}

pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory_kib: u64 =
        value(&read("/proc/meminfo"), "MemTotal").split(' ').next().unwrap_or("0").parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = value(&cpus, "model name");
    format!("{model}, {cores} cores, {} MiB, Linux {}", memory_kib / 1024, kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_that_is_missed_is_an_error_with_its_figure() {
        let mut report = Report::new(Vec::new());
        for (name, ratio) in [("1KiB/best", 0.9), ("100KiB/nginx", 1.06)] {
            report.add_ratio(name.into(), Spread::of([ratio]).unwrap());
        }
        report.hold_to(&[("1KiB/best", 0.90), ("100KiB/varnish", 0.75)]).unwrap();
        let error = report.hold_to(&[("1KiB/best", 0.90), ("100KiB/nginx", 1.05)]).unwrap_err();
        assert_eq!(error.to_string(), "tenfold missed: 100KiB/nginx is 1.060, and may be 1.05");
        report.add_ratio("1KiB/best".into(), Spread::of([f64::NAN]).unwrap());
        assert!(report.hold_to(&[("1KiB/best", 0.90)]).is_err());
    }

    #[test]
    fn spreads_are_ranks_of_the_sorted_values() {
        assert_eq!(Spread::of([]), None);
        let of = |values: &[f64]| Spread::of(values.iter().copied()).unwrap();
        let expected = Spread { min: 1.0, q1: 2.0, median: 3.0, q3: 4.0, max: 5.0 };
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), expected);
        assert_eq!(of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(of(&[7.0]).max, 7.0);
    }

    #[test]
    fn the_report_has_the_agreed_form() {
        let row = Row { subject: "tenfold".into(), case: "128B".into(), cpu_us_per_op: Some(12.5), ..Row::default() };
        let mut report = Report::new(vec![row]);
        report.add_ratio("128B/nginx".into(), Spread::of([0.91234]).unwrap());
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["rows"][0], serde_json::json!({"subject": "tenfold", "case": "128B", "cpu_us_per_op": 12.5}));
        assert_eq!(value["ratios"]["128B/nginx"], 0.912);
        assert!(value["machine"].as_str().unwrap().contains("cores"));
    }
}
