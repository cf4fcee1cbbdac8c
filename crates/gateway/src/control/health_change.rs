//! What is told of a change of an endpoint's health.

use balance::health::{Change, State};
use telemetry::HealthChange;

use crate::state::EndpointState;

/// The change as metrics name it; `None` for one that they do not.
pub(super) fn kind_of(change: &Change) -> Option<HealthChange> {
    match (change.from, change.to) {
        (_, State::Unhealthy) => Some(HealthChange::CheckDown),
        (_, State::Ejected { .. }) => Some(HealthChange::Ejected),
        (State::Unhealthy, State::Healthy) => Some(HealthChange::CheckUp),
        (_, State::Healthy) => Some(HealthChange::Readmitted),
        (_, State::Probing) => None,
    }
}

/// Tells the log.
pub(super) fn log_change(service: &vocab::Name, endpoint: &EndpointState, change: &Change) {
    let (from, to, cause) = (change.from.as_str(), change.to.as_str(), &change.cause);
    match change.to {
        State::Healthy | State::Probing => {
            tracing::info!(%service, endpoint = endpoint.label, from, to, %cause, "health changed");
        }
        State::Ejected { .. } | State::Unhealthy => {
            tracing::warn!(%service, endpoint = endpoint.label, from, to, %cause, "health changed");
        }
    }
}
