//! Breakers, seen from outside.

use std::fmt;
use std::time::Instant;

use breaker::Breaker;
use breaker::circuit::State;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use telemetry::{BreakerState, TripCause, encode};

use super::unix_seconds;
use crate::control::breakers::Forced;
use crate::params::BreakerScope;
use crate::state::{ServiceView, Snapshot};

/// The breakers of a service; null when it has none.
pub(super) fn service_json(service: &ServiceView, forced: &[Forced]) -> Value {
    let Some(params) = &service.params.breaker else { return Value::Null };
    let metrics = &service.state.metrics;
    let trips: u64 = TripCause::ALL.iter().map(|&cause| metrics.trips(cause)).sum();
    let own = forced.iter().find(|forced| forced.service == service.state.name);
    json!({
        "scope": match params.scope {
            BreakerScope::Service => "service",
            BreakerScope::Endpoint => "endpoint",
        },
        "state": service.breaker.as_ref().map(|breaker| breaker.state().as_str()),
        "retry_after_secs": service.breaker.as_ref().and_then(|breaker| wait_secs(breaker)),
        "trips": trips,
        "refusals": metrics.breaker_refusals(),
        "forced": own.map(|forced| forced.force.as_str()),
    })
}

/// Where an endpoint's own breaker stands; null when it has none.
pub(super) fn endpoint_json(breaker: Option<&Breaker>) -> Value {
    breaker.map_or(Value::Null, |breaker| breaker.state().as_str().into())
}

/// A held breaker, among the overrides.
pub(super) fn forced_json(forced: &Forced) -> Value {
    json!({
        "service": forced.service.as_str(),
        "address": Value::Null,
        "setting": "breaker",
        "value": forced.force.as_str(),
        "file": Value::Null,
        "since": unix_seconds(forced.since),
    })
}

/// The seconds until an open breaker lets a probe pass.
fn wait_secs(breaker: &Breaker) -> Option<u64> {
    match breaker.state() {
        State::Open { until } => Some(until.saturating_duration_since(Instant::now()).as_secs()),
        _ => None,
    }
}

pub(super) fn encode(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut rows = Vec::new();
    for service in &snapshot.services {
        let name = service.state.name.as_str();
        rows.extend(service.breaker.iter().map(|breaker| (name, "", state_of(breaker))));
        for endpoint in &service.endpoints {
            rows.extend(
                endpoint.breaker.iter().map(|breaker| (name, endpoint.state.label.as_str(), state_of(breaker))),
            );
        }
    }
    encode::breakers(&rows, encoder)
}

fn state_of(breaker: &Breaker) -> BreakerState {
    match breaker.state() {
        State::Closed => BreakerState::Closed,
        State::Open { .. } => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
        State::ForcedOpen => BreakerState::ForcedOpen,
        State::ForcedClosed => BreakerState::ForcedClosed,
    }
}
