//! Load shedding, seen from outside.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use telemetry::encode::{self, SheddingRow};
use telemetry::{ShedClass, ShedResult};

use crate::state::{ServiceView, Snapshot};

/// How a service sheds load; null when it does not.
pub(super) fn service_json(service: &ServiceView) -> Value {
    let Some(gate) = &service.shedding else { return Value::Null };
    let [limit, in_flight, waiting] = gate.levels();
    let refused = |class: ShedClass| {
        let count = |result| service.state.metrics.shed_requests(class, result);
        (class.as_str().to_owned(), (count(ShedResult::Refused) + count(ShedResult::Late)).into())
    };
    let refused: serde_json::Map<_, _> = ShedClass::ALL.iter().map(|&class| refused(class)).collect();
    json!({ "limit": limit, "in_flight": in_flight, "waiting": waiting, "refused": refused })
}

pub(super) fn encode(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let rows = snapshot.services.iter().filter_map(|service| {
        let [limit, in_flight, waiting] = service.shedding.as_ref()?.levels().map(u64::from);
        let (service, metrics) = (service.state.name.as_str(), &service.state.metrics);
        Some(SheddingRow { service, metrics, limit, in_flight, waiting })
    });
    encode::shedding(&rows.collect::<Vec<_>>(), encoder)
}
