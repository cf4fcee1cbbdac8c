//! Names that endpoints are behind, seen from outside.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use telemetry::encode::{self, NameRow};

use crate::control::names::{NameView, Outcome};
use crate::params::EndpointParams;

/// The names of these endpoints, in their order.
pub(super) fn json(endpoints: &[EndpointParams], names: &[NameView]) -> Value {
    let mut told: Vec<&NameView> = Vec::new();
    for source in endpoints.iter().filter_map(|endpoint| endpoint.host.source()) {
        if let Some(name) = names.iter().find(|name| *name.source == source)
            && !told.iter().any(|other| other.source == name.source)
        {
            told.push(name);
        }
    }
    told.into_iter().map(name_json).collect()
}

fn name_json(name: &NameView) -> Value {
    json!({
        "name": name.source.name(),
        "endpoints": name.members,
        "result": name.outcome.map(Outcome::as_str),
        "trouble": name.trouble.as_deref(),
        "resolved_at": name.good_at,
    })
}

pub(super) fn encode(names: &[NameView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let results = |name: &NameView| {
        let counts = Outcome::ALL.into_iter().zip(name.lookups);
        counts.map(|(outcome, count)| (outcome.as_str(), count)).collect::<Vec<_>>()
    };
    let lookups: Vec<_> = names.iter().map(results).collect();
    let rows: Vec<_> = names.iter().zip(&lookups).map(|(name, lookups)| row(name, lookups)).collect();
    encode::names(&rows, encoder)
}

fn row<'a>(name: &'a NameView, lookups: &'a [(&'static str, u64)]) -> NameRow<'a> {
    NameRow {
        name: name.source.name(),
        lookups,
        endpoints: name.members as u64,
        resolved_at: name.good_at.unwrap_or(0),
    }
}
