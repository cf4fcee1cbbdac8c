//! Writes the counted objects as metric rows, from within a `prometheus_client` collector.
//!
//! Each function writes whole families: the head of each, then one row per label set. Rows that never counted anything
//! are left out, so that the output stays as small as the traffic is plain. A label set must come once only per scrape;
//! Prometheus refuses a page that repeats one.

mod cache;
mod database;
mod named_cache;
mod route;

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use vocab::ErrorCode;

use crate::family::{self, Family};
use crate::histogram::{HistogramTotals, LatencyBuckets};
use crate::label::{
    BreakerState, CLASSES, ConnectionType, FailureKind, HealthChange, Limit, Method, RefusedReason, RetryReason,
    ShedClass, ShedResult, TripCause, slot_status,
};
use crate::object::{EndpointMetrics, ListenerMetrics, RouteMetrics, ServiceMetrics};

pub use cache::{CacheCounts, CacheDiskRow, CacheRow, cache, routes_cached};
pub use database::{DatabaseRow, DatabaseServerRow, databases};
pub use named_cache::{NamedCacheRow, named_caches};
pub use route::{routes_asked, routes_compressed, routes_files, routes_mirrored};

/// An endpoint's labels: its service's name, and its address as configured or resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLabels<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The endpoint's address.
    pub instance: &'a str,
}

/// The labels of a certificate: its listener's name, and a host that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateLabels<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The host.
    pub host: &'a str,
}

/// Writes the `http_*` families. Each row is a route's name and its counts.
///
/// # Errors
/// Those of the encoder.
pub fn routes(
    rows: &[(&str, &RouteMetrics)],
    buckets: &LatencyBuckets,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = family::HTTP_REQUESTS.start(encoder)?;
    for (route, metrics) in rows {
        for method in Method::ALL {
            for (slot, &count) in metrics.statuses(method).iter().enumerate() {
                let mut digits = itoa::Buffer::new();
                let status = slot_status(slot).map_or("other", |status| digits.format(status));
                counter(&mut family, &[("method", method.as_str()), ("endpoint", route), ("status", status)], count)?;
            }
        }
    }
    let mut family = family::HTTP_REQUEST_DURATION.start(encoder)?;
    for (route, metrics) in rows {
        for method in Method::ALL {
            let labels = [("method", method.as_str()), ("endpoint", *route)];
            histogram(&mut family, &labels, &metrics.durations(method), buckets)?;
        }
    }
    let mut bytes = |family: &Family, value: fn((u64, u64)) -> u64| {
        let mut family = family.start(encoder)?;
        for (route, metrics) in rows {
            for method in Method::ALL {
                let labels = [("method", method.as_str()), ("endpoint", *route)];
                counter(&mut family, &labels, value(metrics.body_bytes(method)))?;
            }
        }
        Ok(())
    };
    bytes(&family::HTTP_REQUEST_BODY, |(received, _)| received)?;
    bytes(&family::HTTP_RESPONSE_BODY, |(_, sent)| sent)
}

/// What a limit counted.
#[derive(Clone, Copy, Debug)]
pub struct LimitRow<'a> {
    /// Its name.
    pub limit: &'a str,
    /// Requests by result.
    pub requests: &'a [(&'static str, u64)],
    /// Keys that have spent something, if keys are told apart.
    pub keys: Option<u64>,
    /// Keys that took another's place.
    pub displaced: u64,
    /// What its store gave, if gateways share it.
    pub leases: Option<LeaseRow<'a>>,
}

/// What the store of a limit gave.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRow<'a> {
    /// Asks by result.
    pub asks: &'a [(&'static str, u64)],
    /// Tokens.
    pub leased: u64,
    /// Requests that were decided without it.
    pub without_store: u64,
}

/// Writes the `limit_*` families.
///
/// # Errors
/// Those of the encoder.
pub fn limits(rows: &[LimitRow<'_>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::LIMIT_REQUESTS.start(encoder)?;
    for row in rows {
        for (result, count) in row.requests {
            counter(&mut family, &[("limit", row.limit), ("result", *result)], *count)?;
        }
    }
    let mut family = family::LIMIT_KEYS.start(encoder)?;
    for row in rows {
        if let Some(keys) = row.keys {
            family.encode_family(&[("limit", row.limit)])?.encode_gauge(&keys)?;
        }
    }
    let mut family = family::LIMIT_DISPLACED.start(encoder)?;
    rows.iter().try_for_each(|row| counter(&mut family, &[("limit", row.limit)], row.displaced))?;
    let leases = || rows.iter().filter_map(|row| Some((row.limit, row.leases?)));
    let mut family = family::LIMIT_LEASES.start(encoder)?;
    for (limit, row) in leases() {
        for (result, count) in row.asks {
            counter(&mut family, &[("limit", limit), ("result", *result)], *count)?;
        }
    }
    let mut family = family::LIMIT_LEASED.start(encoder)?;
    leases().try_for_each(|(limit, row)| counter(&mut family, &[("limit", limit)], row.leased))?;
    let mut family = family::LIMIT_WITHOUT_STORE.start(encoder)?;
    leases().try_for_each(|(limit, row)| counter(&mut family, &[("limit", limit)], row.without_store))
}

/// Writes `limit_store_up`: stores by where they are, and whether they answer.
///
/// # Errors
/// Those of the encoder.
pub fn limit_stores(rows: &[(&str, bool)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::LIMIT_STORE_UP.start(encoder)?;
    rows.iter().try_for_each(|(store, up)| family.encode_family(&[("store", *store)])?.encode_gauge(&u64::from(*up)))
}

/// Writes `http_requests_in_flight`. Each row is a route's name and its requests under way.
///
/// # Errors
/// Those of the encoder.
pub fn routes_in_flight(rows: &[(&str, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::HTTP_IN_FLIGHT.start(encoder)?;
    rows.iter().try_for_each(|(route, count)| family.encode_family(&[("endpoint", *route)])?.encode_gauge(count))
}

/// Writes the `listener_*` families. Each row is a listener's name and its counts.
///
/// # Errors
/// Those of the encoder.
pub fn listeners(
    rows: &[(&str, &ListenerMetrics)],
    buckets: &LatencyBuckets,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut plain = |family: &Family, value: fn(&ListenerMetrics) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter().try_for_each(|(name, metrics)| counter(&mut family, &[("listener", *name)], value(metrics)))
    };
    plain(&family::LISTENER_ACCEPTED, ListenerMetrics::accepted)?;
    plain(&family::LISTENER_RECEIVED, ListenerMetrics::bytes_received)?;
    plain(&family::LISTENER_SENT, ListenerMetrics::bytes_sent)?;
    let mut family = family::LISTENER_REFUSED.start(encoder)?;
    for (name, metrics) in rows {
        for &reason in RefusedReason::ALL {
            let labels = [("listener", *name), ("reason", reason.as_str())];
            counter(&mut family, &labels, metrics.refusals(reason))?;
        }
    }
    let mut family = family::LISTENER_ERRORS.start(encoder)?;
    for (name, metrics) in rows {
        for code in ErrorCode::ALL {
            counter(&mut family, &[("listener", *name), ("code", code.as_str())], metrics.errors(code))?;
        }
    }
    let mut family = family::LISTENER_STREAMS.start(encoder)?;
    rows.iter().try_for_each(|(name, metrics)| {
        histogram(&mut family, &[("listener", *name)], &metrics.stream_durations(), buckets)
    })
}

/// Writes `tls_certificate_not_after_timestamp_seconds`. Each row is a certificate's labels and when it expires, in
/// seconds since 1970; zero is written too, for a host that has none yet.
///
/// # Errors
/// Those of the encoder.
pub fn certificates(rows: &[(CertificateLabels<'_>, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::TLS_NOT_AFTER.start(encoder)?;
    rows.iter().try_for_each(|(of, not_after)| {
        let labels = [("listener", of.listener), ("host", of.host)];
        family.encode_family(&labels)?.encode_gauge(not_after)
    })
}

/// Writes `acme_orders_total`. Each row is a certificate's labels, and the orders that succeeded and failed.
///
/// # Errors
/// Those of the encoder.
pub fn orders(rows: &[(CertificateLabels<'_>, u64, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::ACME_ORDERS.start(encoder)?;
    for (of, succeeded, failed) in rows {
        let labels = |result| [("listener", of.listener), ("host", of.host), ("result", result)];
        counter(&mut family, &labels("success"), *succeeded)?;
        counter(&mut family, &labels("failure"), *failed)?;
    }
    Ok(())
}

/// Writes the `upstream_*` families that are counted. Each row is an endpoint's labels and its counts.
///
/// # Errors
/// Those of the encoder.
pub fn endpoints(
    rows: &[(EndpointLabels<'_>, &EndpointMetrics)],
    buckets: &LatencyBuckets,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = family::UPSTREAM_RESPONSES.start(encoder)?;
    for (at, metrics) in rows {
        for (class, label) in CLASSES.into_iter().enumerate() {
            counter(&mut family, &at.with("class", label), metrics.responses_of_class(class))?;
        }
    }
    let mut family = family::UPSTREAM_FAILURES.start(encoder)?;
    for (at, metrics) in rows {
        for &kind in FailureKind::ALL {
            counter(&mut family, &at.with("kind", kind.as_str()), metrics.failures(kind))?;
        }
    }
    let mut family = family::UPSTREAM_LATENCY.start(encoder)?;
    for (at, metrics) in rows {
        histogram(&mut family, &at.pairs(), &metrics.latency(), buckets)?;
    }
    let mut family = family::UPSTREAM_CONNECTS.start(encoder)?;
    for (at, metrics) in rows {
        counter(&mut family, &at.pairs(), metrics.connects())?;
    }
    let mut family = family::UPSTREAM_REUSES.start(encoder)?;
    for (at, metrics) in rows {
        counter(&mut family, &at.pairs(), metrics.reuses())?;
    }
    let mut family = family::UPSTREAM_STREAMS.start(encoder)?;
    for (at, metrics) in rows {
        counter(&mut family, &at.pairs(), metrics.streams())?;
    }
    let mut family = family::UPSTREAM_CHECKS.start(encoder)?;
    for (at, metrics) in rows {
        let (passed, failed) = metrics.checks();
        counter(&mut family, &at.with("result", "passed"), passed)?;
        counter(&mut family, &at.with("result", "failed"), failed)?;
    }
    let mut family = family::UPSTREAM_CHANGES.start(encoder)?;
    for (at, metrics) in rows {
        for &change in HealthChange::ALL {
            counter(&mut family, &at.with("change", change.as_str()), metrics.health_changes(change))?;
        }
    }
    Ok(())
}

/// Writes the `service_*` families. Each row is a service's name and its counts.
///
/// # Errors
/// Those of the encoder.
pub fn services(rows: &[(&str, &ServiceMetrics)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::SERVICE_RETRIES.start(encoder)?;
    for (name, metrics) in rows {
        for &reason in RetryReason::ALL {
            let labels = [("service", *name), ("reason", reason.as_str())];
            counter(&mut family, &labels, metrics.retries(reason))?;
        }
    }
    let mut family = family::SERVICE_RETRIES_REFUSED.start(encoder)?;
    for (name, metrics) in rows {
        counter(&mut family, &[("service", *name)], metrics.retries_refused())?;
    }
    let mut family = family::SERVICE_PICK_FAILURES.start(encoder)?;
    for (name, metrics) in rows {
        counter(&mut family, &[("service", *name)], metrics.pick_failures())?;
    }
    let mut family = family::SERVICE_LIMITED.start(encoder)?;
    for (name, metrics) in rows {
        for &limit in Limit::ALL {
            let labels = [("service", *name), ("limit", limit.as_str())];
            counter(&mut family, &labels, metrics.limit_refusals(limit))?;
        }
    }
    let mut family = family::SERVICE_FALLBACKS.start(encoder)?;
    for (name, metrics) in rows {
        counter(&mut family, &[("service", *name)], metrics.fallbacks())?;
    }
    let mut family = family::BREAKER_TRIPS.start(encoder)?;
    for (name, metrics) in rows {
        for &cause in TripCause::ALL {
            counter(&mut family, &[("service", *name), ("cause", cause.as_str())], metrics.trips(cause))?;
        }
    }
    let mut family = family::BREAKER_REFUSALS.start(encoder)?;
    for (name, metrics) in rows {
        counter(&mut family, &[("service", *name)], metrics.breaker_refusals())?;
    }
    Ok(())
}

/// Writes `breaker_state`. Each row is a breaker: its service, its endpoint unless it is the service's own, and where it
/// stands.
///
/// # Errors
/// Those of the encoder.
pub fn breakers(rows: &[(&str, &str, BreakerState)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::BREAKER_STATE.start(encoder)?;
    rows.iter().try_for_each(|(service, instance, found)| {
        BreakerState::ALL.iter().try_for_each(|state| {
            let labels = [("service", *service), ("instance", *instance), ("state", state.as_str())];
            family.encode_family(&labels)?.encode_gauge(&u64::from(state == found))
        })
    })
}

/// A service that sheds load, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct SheddingRow<'a> {
    /// Its name.
    pub service: &'a str,
    /// Its counts.
    pub metrics: &'a ServiceMetrics,
    /// How many requests it may have under way.
    pub limit: u64,
    /// How many it has.
    pub in_flight: u64,
    /// How many wait.
    pub waiting: u64,
}

/// Writes the `shedding_*` families.
///
/// # Errors
/// Those of the encoder.
pub fn shedding(rows: &[SheddingRow<'_>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::SHEDDING_REQUESTS.start(encoder)?;
    for row in rows {
        for &class in ShedClass::ALL {
            for &result in ShedResult::ALL {
                let labels = [("service", row.service), ("class", class.as_str()), ("result", result.as_str())];
                counter(&mut family, &labels, row.metrics.shed_requests(class, result))?;
            }
        }
    }
    let mut level = |family: &Family, value: fn(&SheddingRow<'_>) -> u64| {
        let mut family = family.start(encoder)?;
        rows.iter().try_for_each(|row| family.encode_family(&[("service", row.service)])?.encode_gauge(&value(row)))
    };
    level(&family::SHEDDING_LIMIT, |row| row.limit)?;
    level(&family::SHEDDING_IN_FLIGHT, |row| row.in_flight)?;
    level(&family::SHEDDING_WAITING, |row| row.waiting)
}

/// Writes `service_overrides`. Each row is a service's name and how many of its settings are overridden.
///
/// # Errors
/// Those of the encoder.
pub fn overrides(rows: &[(&str, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::SERVICE_OVERRIDES.start(encoder)?;
    rows.iter().try_for_each(|(service, count)| family.encode_family(&[("service", *service)])?.encode_gauge(count))
}

/// What is known of a name that endpoints are behind.
#[derive(Clone, Copy, Debug)]
pub struct NameRow<'a> {
    /// The name.
    pub name: &'a str,
    /// Lookups by result.
    pub lookups: &'a [(&'static str, u64)],
    /// Endpoints that it stands for.
    pub endpoints: u64,
    /// When the last good answer came, in seconds since 1970; 0 before the first.
    pub resolved_at: u64,
}

/// Writes the `resolver_*` families.
///
/// # Errors
/// Those of the encoder.
pub fn names(rows: &[NameRow<'_>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::RESOLVER_LOOKUPS.start(encoder)?;
    for row in rows {
        for (result, count) in row.lookups {
            counter(&mut family, &[("name", row.name), ("result", *result)], *count)?;
        }
    }
    let mut family = family::RESOLVER_ENDPOINTS.start(encoder)?;
    for row in rows {
        family.encode_family(&[("name", row.name)])?.encode_gauge(&row.endpoints)?;
    }
    let mut family = family::RESOLVER_SUCCESS.start(encoder)?;
    rows.iter().try_for_each(|row| family.encode_family(&[("name", row.name)])?.encode_gauge(&row.resolved_at))
}

/// Writes `active_connections`. Each row is a service (or listener), whose connections they are, and how many; zero is
/// written too, because a level of zero says something.
///
/// # Errors
/// Those of the encoder.
pub fn active_connections(rows: &[(&str, ConnectionType, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::ACTIVE_CONNECTIONS.start(encoder)?;
    rows.iter().try_for_each(|(service, kind, connections)| {
        let labels = [("service", *service), ("type", kind.as_str())];
        family.encode_family(&labels)?.encode_gauge(connections)
    })
}

/// Writes `upstream_healthy` and `upstream_in_flight`. Each row is an endpoint's labels, whether its health lets it be
/// picked, and its requests under way.
///
/// # Errors
/// Those of the encoder.
pub fn endpoint_states(rows: &[(EndpointLabels<'_>, bool, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = family::UPSTREAM_HEALTHY.start(encoder)?;
    for (at, healthy, _) in rows {
        family.encode_family(&at.pairs())?.encode_gauge(&u64::from(*healthy))?;
    }
    let mut family = family::UPSTREAM_IN_FLIGHT.start(encoder)?;
    for (at, _, in_flight) in rows {
        family.encode_family(&at.pairs())?.encode_gauge(in_flight)?;
    }
    Ok(())
}

impl<'a> EndpointLabels<'a> {
    fn pairs(self) -> [(&'static str, &'a str); 2] {
        [("service", self.service), ("instance", self.instance)]
    }

    fn with(self, label: &'static str, value: &'a str) -> [(&'static str, &'a str); 3] {
        [("service", self.service), ("instance", self.instance), (label, value)]
    }
}

/// One row of a counter, unless it is zero.
pub(crate) fn counter(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

/// One histogram, unless it is empty.
fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    totals: &HistogramTotals,
    buckets: &LatencyBuckets,
) -> fmt::Result {
    if totals.count() == 0 {
        return Ok(());
    }
    let buckets = totals.buckets(buckets);
    family.encode_family(labels)?.encode_histogram::<NoLabelSet>(totals.sum_seconds(), totals.count(), &buckets, None)
}
