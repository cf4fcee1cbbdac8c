//! Host names of endpoints: resolved at the start and again on a timer.
//!
//! The last good answer stays in force while the resolver fails: a name server's outage must not become ours.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{AbortOnDrop, Event};
use crate::params::{Host, ServiceParams};
use crate::state::ServiceState;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failure, if the interval is longer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Host names among a service's endpoints.
pub(super) fn host_names(params: &ServiceParams) -> impl Iterator<Item = &str> {
    params.endpoints.iter().filter_map(|endpoint| match &endpoint.host {
        Host::Name(name) => Some(name.as_str()),
        Host::Address(_) => None,
    })
}

/// Resolves a host name again and again until the result is dropped. `known` tells that there is an answer already.
pub(super) fn start(
    service: Arc<ServiceState>,
    host: String,
    interval: Duration,
    known: bool,
    events: mpsc::Sender<Event>,
) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move {
        let mut pause = if known { interval } else { RETRY_PAUSE.min(interval) };
        loop {
            tokio::time::sleep(pause).await;
            let result = resolve(&host).await;
            pause = if result.is_ok() { interval } else { RETRY_PAUSE.min(interval) };
            let event = Event::Resolved { service: Arc::clone(&service), host: host.clone(), result };
            if events.send(event).await.is_err() {
                return;
            }
        }
    }))
}

/// The addresses of a host name, in a stable order, without repeats.
pub(super) async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let looked_up = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host, 0))).await;
    let found = looked_up.map_err(|_| format!("no answer within {TIMEOUT:?}"))?.map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}
