//! What the admin listener is asked to change, put to the gateway.

use admin::{Command, Force, PurgeOrder, PurgeTarget, Reason, Refused, Weight};
use gateway::change::{Change, ChangeError, Edit, Target};
use gateway::params::EndpointParams;
use gateway::{GatewayControl, GatewayView, PurgeBy, PurgeRequest};
use serde_json::{Value, json};
use vocab::{Name, NameError};

/// Makes a change, and gives what it concerns as it is afterwards.
pub(super) async fn change(control: &GatewayControl, view: &GatewayView, command: Command) -> Result<Value, Refused> {
    let (service, change) = match command {
        Command::Add { service, endpoint } => {
            let Target { host, port } = target(&endpoint.address)?;
            let endpoint = EndpointParams {
                weight: endpoint.weight.0,
                priority: endpoint.priority.0,
                zone: endpoint.zone.as_deref().map(zone).transpose()?.flatten(),
                backup: endpoint.backup,
                drain: endpoint.drain,
                ..EndpointParams::new(host, port)
            };
            (service.clone(), Change::Add { service, endpoint })
        }
        Command::Edit { service, address, edit } => {
            let weight = wanted(edit.weight.map(|weight| weight.map(|Weight(weight)| weight)));
            let drain = wanted(edit.drain);
            (service.clone(), Change::Edit { service, target: target(&address)?, weight, drain })
        }
        Command::Remove { service, address } => {
            (service.clone(), Change::Remove { service, target: target(&address)? })
        }
        Command::Reset { service, address } => (service.clone(), Change::Reset { service, target: target(&address)? }),
        Command::Breaker { service, force } => {
            let force = force.map(|force| match force {
                Force::Open => gateway::change::Force::Open,
                Force::Closed => gateway::change::Force::Closed,
            });
            (service.clone(), Change::Breaker { service, force })
        }
        Command::Purge(order) => return purge(view, order).await,
        Command::ResetAll => {
            let reset = control.change(Change::ResetAll).await.map_err(|error| refused(&error))?;
            return Ok(json!({ "reset": reset }));
        }
        // Whoever calls has done these already, as they are none of the gateway's.
        Command::Reload | Command::Upgrade(_) | Command::PurgeNamed { .. } | Command::Database { .. } => {
            return Err(Refused::new(Reason::Invalid, "this is nothing that the gateway does"));
        }
    };
    control.change(change).await.map_err(|error| refused(&error))?;
    // A reload may have taken the service away meanwhile.
    view.service(&service).ok_or_else(|| Refused::new(Reason::NotFound, format!("no service is named {service:?}")))
}

async fn purge(view: &GatewayView, PurgeOrder { target, soft }: PurgeOrder) -> Result<Value, Refused> {
    let by = match target {
        PurgeTarget::Url(url) => PurgeBy::Url(url),
        PurgeTarget::Prefix(prefix) => PurgeBy::Prefix(prefix),
        PurgeTarget::Host(host) => PurgeBy::Host(host),
        PurgeTarget::Tag(tag) => PurgeBy::Tag(tag),
        PurgeTarget::Everything => PurgeBy::Everything,
    };
    let purged = view.purge(&PurgeRequest { by, soft }).await;
    purged.map_err(|error| Refused::new(Reason::Invalid, error.to_string()))?;
    Ok(json!({ "soft": soft }))
}

fn target(address: &str) -> Result<Target, Refused> {
    let (host, port) =
        config::endpoint_address(address).map_err(|error| Refused::new(Reason::Invalid, format!("address {error}")))?;
    Ok(Target { host, port })
}

/// A zone's name, or none when empty, as in the file.
fn zone(text: &str) -> Result<Option<Name>, Refused> {
    let invalid = |error: NameError| Refused::new(Reason::Invalid, format!("zone {text:?}: {error}"));
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(invalid) }
}

fn wanted<T>(edit: Option<Option<T>>) -> Edit<T> {
    match edit {
        None => Edit::Keep,
        Some(None) => Edit::Reset,
        Some(Some(value)) => Edit::Set(value),
    }
}

fn refused(error: &ChangeError) -> Refused {
    let reason = match error {
        ChangeError::NoService { .. } | ChangeError::NoEndpoint { .. } => Reason::NotFound,
        ChangeError::Present { .. }
        | ChangeError::Removed { .. }
        | ChangeError::NoBreaker { .. }
        | ChangeError::NotOverridden { .. }
        | ChangeError::Last { .. }
        | ChangeError::TooMany { .. } => Reason::Conflict,
        ChangeError::Stopping => Reason::Stopping,
    };
    Refused::new(reason, error.to_string())
}
