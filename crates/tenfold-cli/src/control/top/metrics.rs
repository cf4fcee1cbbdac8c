//! Prometheus' text format, as far as `top` needs it.

use std::collections::BTreeMap;

/// What was counted up to a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// By name.
    pub(super) routes: BTreeMap<String, Counts>,
    /// By service and address.
    pub(super) endpoints: BTreeMap<(String, String), Counts>,
}

/// Counts of a route or an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Requests under way.
    pub(super) in_flight: Option<f64>,
    /// Latencies: the bounds of buckets in seconds, and how many are below each, in order of the bounds.
    pub(super) buckets: Vec<(f64, f64)>,
}

/// A line of the format.
#[derive(Clone, Debug, PartialEq)]
struct Row<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

impl Row<'_> {
    fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }
}

impl Sample {
    /// Reads a page; lines of other metrics are passed over.
    pub(super) fn read(page: &str) -> Self {
        let mut sample = Self::default();
        page.lines().filter_map(row).for_each(|row| sample.add(&row));
        let counts = sample.routes.values_mut().chain(sample.endpoints.values_mut());
        counts.for_each(|counts| counts.buckets.sort_by(|a, b| a.0.total_cmp(&b.0)));
        sample
    }

    fn add(&mut self, row: &Row<'_>) {
        match row.name {
            "http_requests_total" => {
                let counts = self.route(row);
                counts.requests += row.value;
                if row.label("status").starts_with('5') {
                    counts.errors += row.value;
                }
            }
            "http_requests_in_flight" => *self.route(row).in_flight.get_or_insert(0.0) += row.value,
            "http_request_duration_seconds_bucket" => self.route(row).add_bucket(row),
            "upstream_responses_total" => {
                let counts = self.endpoint(row);
                counts.requests += row.value;
                if row.label("class").starts_with('5') {
                    counts.errors += row.value;
                }
            }
            "upstream_failures_total" => {
                let counts = self.endpoint(row);
                counts.requests += row.value;
                counts.errors += row.value;
            }
            "upstream_in_flight" => *self.endpoint(row).in_flight.get_or_insert(0.0) += row.value,
            "upstream_response_duration_seconds_bucket" => self.endpoint(row).add_bucket(row),
            _ => {}
        }
    }

    fn route(&mut self, row: &Row<'_>) -> &mut Counts {
        self.routes.entry(row.label("endpoint").to_owned()).or_default()
    }

    fn endpoint(&mut self, row: &Row<'_>) -> &mut Counts {
        let key = (row.label("service").to_owned(), row.label("instance").to_owned());
        self.endpoints.entry(key).or_default()
    }
}

impl Counts {
    fn add_bucket(&mut self, row: &Row<'_>) {
        let bound = match row.label("le") {
            "+Inf" => f64::INFINITY,
            text => text.parse().unwrap_or(f64::INFINITY),
        };
        match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, count)) => *count += row.value,
            None => self.buckets.push((bound, row.value)),
        }
    }

    /// Adds what another one counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        if let Some(in_flight) = other.in_flight {
            *self.in_flight.get_or_insert(0.0) += in_flight;
        }
        for &(bound, count) in &other.buckets {
            match self.buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count,
                None => self.buckets.push((bound, count)),
            }
        }
    }
}

/// Reads a line; `None` for a comment, or for what is not understood.
fn row(line: &str) -> Option<Row<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label, value));
            rest = after;
        }
    }
    // A timestamp may follow the value.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Row { name, labels, value })
}

/// Reads up to the closing quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, labels, and a value.
    type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

    #[test]
    fn lines_are_read() {
        let check = |line: &str, expected: Option<Expected<'_>>| {
            let expected = expected.map(|(name, labels, value)| {
                let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
                Row { name, labels, value }
            });
            assert_eq!(row(line), expected, "{line}");
        };
        check("a 1", Some(("a", &[], 1.0)));
        check("a{b=\"c\"} 1.5 1700000000", Some(("a", &[("b", "c")], 1.5)));
        check("a{b=\"} \\\"x\\\\\",d=\"e,f\"} 2", Some(("a", &[("b", "} \"x\\"), ("d", "e,f")], 2.0)));
        check("# TYPE a counter", None);
        check("", None);
        check("a{b=\"c} 1", None);
        check("a x", None);
    }

    #[test]
    fn a_page_is_summed_by_route_and_endpoint() {
        let sample = Sample::read(
            "http_requests_total{method=\"GET\",endpoint=\"api\",status=\"200\"} 7\n\
             http_requests_total{method=\"PUT\",endpoint=\"api\",status=\"503\"} 2\n\
             http_request_duration_seconds_bucket{le=\"+Inf\",method=\"GET\",endpoint=\"api\"} 7\n\
             http_request_duration_seconds_bucket{le=\"0.5\",method=\"GET\",endpoint=\"api\"} 5\n\
             http_request_duration_seconds_bucket{le=\"0.5\",method=\"PUT\",endpoint=\"api\"} 1\n\
             http_requests_in_flight{endpoint=\"api\"} 3\n\
             upstream_responses_total{service=\"s\",instance=\"10.0.0.1:80\",class=\"2xx\"} 3\n\
             upstream_failures_total{service=\"s\",instance=\"10.0.0.1:80\",kind=\"connect\"} 1\n\
             upstream_in_flight{service=\"s\",instance=\"10.0.0.1:80\"} 4\n\
             process_open_fds 9\n",
        );
        let route = &sample.routes["api"];
        assert_eq!((route.requests, route.errors, route.in_flight), (9.0, 2.0, Some(3.0)));
        assert_eq!(route.buckets, [(0.5, 6.0), (f64::INFINITY, 7.0)]);
        let endpoint = &sample.endpoints[&("s".to_owned(), "10.0.0.1:80".to_owned())];
        assert_eq!((endpoint.requests, endpoint.errors, endpoint.in_flight), (4.0, 1.0, Some(4.0)));
        assert_eq!(sample.endpoints.len() + sample.routes.len(), 2);
    }
}
