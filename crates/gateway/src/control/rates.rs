//! What endpoints did within an interval, from the counters that the cores keep anyway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balance::health::Sample;

use crate::state::EndpointState;

/// The counters at the start of an interval.
#[derive(Debug)]
pub(super) struct Rates {
    interval: Duration,
    /// When the interval ends.
    pub(super) due: Instant,
    /// Requests and failures by endpoint. One that is not here began at nothing.
    known: HashMap<u64, (u64, u64)>,
}

impl Rates {
    /// Counts from now on.
    pub(super) fn new<'e>(
        interval: Duration,
        now: Instant,
        endpoints: impl Iterator<Item = &'e Arc<EndpointState>>,
    ) -> Self {
        let mut rates = Self { interval, due: now, known: HashMap::new() };
        rates.sample(now, endpoints);
        rates
    }

    /// The interval that this was made for.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Ends an interval, and begins the next.
    pub(super) fn sample<'e>(
        &mut self,
        now: Instant,
        endpoints: impl Iterator<Item = &'e Arc<EndpointState>>,
    ) -> Vec<Sample> {
        self.due = now + self.interval;
        let old = std::mem::take(&mut self.known);
        let sample = |endpoint: &Arc<EndpointState>| {
            // In this order: a request that ends between the two is at most a success too many.
            let failures = endpoint.metrics.unsuccessful();
            let requests = endpoint.metrics.requests();
            self.known.insert(endpoint.id, (requests, failures));
            let (requests_before, failures_before) = old.get(&endpoint.id).copied().unwrap_or_default();
            // An address that went and came back meanwhile counts from nothing again.
            Sample {
                id: endpoint.id,
                requests: requests.saturating_sub(requests_before),
                failures: failures.saturating_sub(failures_before),
            }
        };
        endpoints.map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use telemetry::FailureKind;

    use super::*;

    #[test]
    fn an_interval_is_the_difference_of_two_readings_of_all_cores() {
        let endpoint = Arc::new(EndpointState::new("10.0.0.1:80".parse().unwrap(), 2));
        let now = Instant::now();
        endpoint.metrics.response(0, 503, 10);
        let mut rates = Rates::new(Duration::from_secs(10), now, std::iter::once(&endpoint));
        assert_eq!(rates.due, now + Duration::from_secs(10));
        endpoint.metrics.response(0, 200, 10);
        endpoint.metrics.response(1, 404, 10);
        endpoint.metrics.response(1, 500, 10);
        endpoint.metrics.failure(0, FailureKind::Timeout);
        let later = now + Duration::from_secs(11);
        let expected = Sample { id: endpoint.id, requests: 4, failures: 2 };
        assert_eq!(rates.sample(later, std::iter::once(&endpoint)), [expected]);
        assert_eq!(rates.due, later + Duration::from_secs(10));
        // Back at the same address, with counters of its own.
        let again = Arc::new(EndpointState::new("10.0.0.1:80".parse().unwrap(), 2));
        let nothing = Sample { requests: 0, failures: 0, ..expected };
        assert_eq!(rates.sample(later, std::iter::once(&again)), [nothing]);
    }
}
