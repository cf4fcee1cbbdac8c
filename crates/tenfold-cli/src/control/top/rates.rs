//! What happened between two samples.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Sort;
use super::metrics::{Counts, Sample};
use super::screen::Screen;
use crate::control::table::{Cell, Table, Tone};

/// Rows of a moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rates {
    routes: Vec<Row>,
    services: Vec<Row>,
    endpoints: Vec<Row>,
}

/// A route, a service, or an endpoint.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// A service's name, for an endpoint.
    service: Option<String>,
    name: String,
    requests_per_sec: f64,
    errors_per_sec: f64,
    p50_secs: Option<f64>,
    p99_secs: Option<f64>,
    in_flight: Option<f64>,
}

impl Rates {
    /// What happened from one sample to another.
    pub(super) fn between(before: &Sample, after: &Sample, time: Duration) -> Self {
        let nothing = Counts::default();
        let row = |service: Option<&str>, name: &str, before: &Counts, after: &Counts| {
            Row::between(service, name, before, after, time.as_secs_f64())
        };
        let routes = after
            .routes
            .iter()
            .map(|(name, counts)| row(None, name, before.routes.get(name).unwrap_or(&nothing), counts));
        let endpoints = after
            .endpoints
            .iter()
            .map(|(key, counts)| row(Some(&key.0), &key.1, before.endpoints.get(key).unwrap_or(&nothing), counts));
        // An endpoint that is gone takes its counts with it, so only those that are still there count on both sides.
        let sums = |sample: &Sample| {
            let mut sums = BTreeMap::<String, Counts>::new();
            for (key, counts) in sample.endpoints.iter().filter(|(key, _)| after.endpoints.contains_key(*key)) {
                sums.entry(key.0.clone()).or_default().add(counts);
            }
            sums
        };
        let old = sums(before);
        let services = sums(after);
        let services =
            services.iter().map(|(name, counts)| row(None, name, old.get(name).unwrap_or(&nothing), counts)).collect();
        Self { routes: routes.collect(), endpoints: endpoints.collect(), services }
    }

    /// Puts the largest first; equal ones stay by name.
    pub(super) fn sort(&mut self, by: Sort) {
        let key = |row: &Row| match by {
            Sort::Requests => row.requests_per_sec,
            Sort::Errors => row.errors_per_sec,
            Sort::P50 => row.p50_secs.unwrap_or(-1.0),
            Sort::P99 => row.p99_secs.unwrap_or(-1.0),
            Sort::InFlight => row.in_flight.unwrap_or(-1.0),
            Sort::Name => 0.0,
        };
        let order = |a: &Row, b: &Row| -> Ordering { key(b).total_cmp(&key(a)) };
        for rows in [&mut self.routes, &mut self.services, &mut self.endpoints] {
            rows.sort_by(order);
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let rows = |rows: &[Row]| rows.iter().map(Row::to_json).collect::<Vec<_>>();
        json!({
            "routes": rows(&self.routes),
            "services": rows(&self.services),
            "endpoints": rows(&self.endpoints),
        })
    }

    /// For people.
    pub(super) fn render(&self, screen: &Screen, url: &str) -> String {
        let mut text = String::new();
        if screen.is_full() {
            text =
                format!("{url}: {:.0} requests/s\n\n", self.routes.iter().map(|row| row.requests_per_sec).sum::<f64>());
        }
        let rest = ["#REQ/S", "#ERR/S", "#P50", "#P99", "#IN FLIGHT"];
        let parts = [
            (&["ROUTE"][..], &self.routes),
            (&["SERVICE"], &self.services),
            (&["SERVICE", "ENDPOINT"], &self.endpoints),
        ];
        for (index, (titles, rows)) in parts.into_iter().enumerate() {
            let mut table = Table::new(&[titles, &rest].concat());
            rows.iter().for_each(|row| table.row(row.cells()));
            if index > 0 {
                text.push('\n');
            }
            if table.is_empty() && index == 0 {
                text += "no requests yet\n";
            } else {
                text += &table.render(screen.has_color());
            }
        }
        text
    }
}

impl Row {
    fn between(service: Option<&str>, name: &str, before: &Counts, after: &Counts, seconds: f64) -> Self {
        // Less than before means that the process began anew meanwhile.
        let is_anew = after.requests < before.requests;
        let nothing = Counts::default();
        let before = if is_anew { &nothing } else { before };
        let rate = |before: f64, after: f64| ((after - before) / seconds.max(f64::MIN_POSITIVE)).max(0.0);
        let old =
            |bound: f64| before.buckets.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        let buckets: Vec<(f64, f64)> =
            after.buckets.iter().map(|&(bound, count)| (bound, (count - old(bound)).max(0.0))).collect();
        Self {
            service: service.map(str::to_owned),
            name: name.to_owned(),
            requests_per_sec: rate(before.requests, after.requests),
            errors_per_sec: rate(before.errors, after.errors),
            p50_secs: quantile(&buckets, 0.5),
            p99_secs: quantile(&buckets, 0.99),
            in_flight: after.in_flight,
        }
    }

    fn to_json(&self) -> Value {
        let rounded = |value: f64, digits: f64| (value * digits).round() / digits;
        let mut object = json!({
            "name": self.name,
            "requests_per_sec": rounded(self.requests_per_sec, 100.0),
            "errors_per_sec": rounded(self.errors_per_sec, 100.0),
            "p50_secs": self.p50_secs.map(|value| rounded(value, 1e6)),
            "p99_secs": self.p99_secs.map(|value| rounded(value, 1e6)),
            "in_flight": self.in_flight,
        });
        if let Some(service) = &self.service {
            object["service"] = service.as_str().into();
        }
        object
    }

    fn cells(&self) -> Vec<Cell> {
        let rate = |value: f64| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") };
        let tone = if self.errors_per_sec > 0.0 { Tone::Bad } else { Tone::Plain };
        let mut cells: Vec<Cell> = self.service.iter().map(Cell::from).collect();
        cells.extend([
            self.name.as_str().into(),
            rate(self.requests_per_sec).into(),
            Cell::toned(rate(self.errors_per_sec), tone),
            latency(self.p50_secs).into(),
            latency(self.p99_secs).into(),
            self.in_flight.map_or_else(String::new, |count| format!("{count:.0}")).into(),
        ]);
        cells
    }
}

fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.01 => format!("{:.2} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

/// A quantile from cumulative buckets, evenly spread within each, as Prometheus' `histogram_quantile` has it; the last
/// bound that is finite where it lies beyond. `None` when nothing was counted.
fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = share * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (below_bound, below) = at.checked_sub(1).map_or((0.0, 0.0), |before| buckets[before]);
    let (bound, count) = buckets[at];
    if bound.is_infinite() {
        return Some(below_bound);
    }
    let within = if count > below { (rank - below) / (count - below) } else { 1.0 };
    Some(below_bound + (bound - below_bound) * within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: f64, buckets: &[(f64, f64)]) -> Counts {
        Counts { requests, errors: 0.0, in_flight: Some(1.0), buckets: buckets.to_vec() }
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let buckets = [(0.001, 50.0), (0.01, 90.0), (f64::INFINITY, 100.0)];
        let check = |share: f64, expected: Option<f64>| {
            let found = quantile(&buckets, share);
            assert!(found.zip(expected).is_some_and(|(a, b)| (a - b).abs() < 1e-9), "{share}: {found:?}");
        };
        check(0.25, Some(0.0005));
        check(0.5, Some(0.001));
        check(0.7, Some(0.0055));
        check(0.99, Some(0.01));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
    }

    #[test]
    fn only_what_lies_between_counts() {
        let endpoint = |name: &str| ("api".to_owned(), name.to_owned());
        let old = [(0.001, 100.0), (0.01, 100.0), (f64::INFINITY, 100.0)];
        let new = [(0.001, 100.0), (0.01, 110.0), (f64::INFINITY, 110.0)];
        let before = Sample {
            routes: BTreeMap::new(),
            endpoints: [(endpoint("a"), counts(100.0, &old)), (endpoint("gone"), counts(900.0, &old))].into(),
        };
        let after = Sample {
            routes: [("all".to_owned(), counts(20.0, &[]))].into(),
            endpoints: [(endpoint("a"), counts(110.0, &new)), (endpoint("b"), counts(30.0, &[]))].into(),
        };
        let mut rates = Rates::between(&before, &after, Duration::from_secs(2));
        rates.sort(Sort::Requests);
        let names: Vec<_> = rates.endpoints.iter().map(|row| (row.name.as_str(), row.requests_per_sec)).collect();
        assert_eq!(names, [("b", 15.0), ("a", 5.0)]);
        let p50 = rates.endpoints[1].p50_secs.expect("ten requests");
        assert!(p50 > 0.001 && p50 < 0.01, "{p50}");
        assert_eq!((rates.services[0].requests_per_sec, rates.services[0].in_flight), (20.0, Some(2.0)));
        assert_eq!(rates.routes[0].requests_per_sec, 10.0);
        rates.sort(Sort::P99);
        assert_eq!(rates.endpoints[0].name, "a");
    }

    #[test]
    fn a_restart_does_not_count_backwards() {
        let sample =
            |requests: f64| Sample { routes: [("all".to_owned(), counts(requests, &[]))].into(), ..Sample::default() };
        let rates = Rates::between(&sample(1000.0), &sample(10.0), Duration::from_secs(1));
        assert_eq!(rates.routes[0].requests_per_sec, 10.0);
    }
}
