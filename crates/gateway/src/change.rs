//! What may be changed while the gateway runs, beside the configuration: endpoints' weights, drains, additions and
//! removals. See `control::overrides` for how long each holds.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::{mpsc, oneshot};
use vocab::Name;

pub use breaker::circuit::Force;

use crate::control::Command;
use crate::params::{EndpointParams, Host};

/// An endpoint as the configuration writes it, or one of the addresses that a host name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Address or host name, lower case.
    pub host: Host,
    /// TCP port.
    pub port: u16,
}

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edit<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It gets this value until further notice.
    Set(T),
    /// It goes by the file again.
    Reset,
}

/// A change at run time. It lies over the file as an override, or takes one away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another endpoint, which the file does not have.
    Add {
        /// The service's name.
        service: String,
        /// The endpoint.
        endpoint: EndpointParams,
    },
    /// Another weight, or another answer to whether it is drained.
    Edit {
        /// The service's name.
        service: String,
        /// The endpoint.
        target: Target,
        /// Its share of the traffic.
        weight: Edit<u16>,
        /// Whether it gets no new requests.
        drain: Edit<bool>,
    },
    /// The endpoint is hidden, or taken away if it was added at run time.
    Remove {
        /// The service's name.
        service: String,
        /// The endpoint.
        target: Target,
    },
    /// The endpoint goes by the file again.
    Reset {
        /// The service's name.
        service: String,
        /// The endpoint.
        target: Target,
    },
    /// The breakers of a service are held open or closed, or decide by themselves again.
    Breaker {
        /// The service's name.
        service: String,
        /// What they are to be.
        force: Option<Force>,
    },
    /// Everything goes by the file again.
    ResetAll,
}

/// Why a change was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The service is not there.
    #[error("no service is named {service:?}; there are: {known}")]
    NoService {
        /// The name given.
        service: String,
        /// The names that there are.
        known: String,
    },
    /// The endpoint is not there.
    #[error("service {service}: no endpoint {target}")]
    NoEndpoint {
        /// The service.
        service: Name,
        /// What was named.
        target: Target,
    },
    /// The endpoint to add is there already.
    #[error("service {service}: endpoint {target} is there already")]
    Present {
        /// The service.
        service: Name,
        /// What was named.
        target: Target,
    },
    /// The endpoint is hidden by an override.
    #[error("service {service}: endpoint {target} is removed by an override; reset it first")]
    Removed {
        /// The service.
        service: Name,
        /// What was named.
        target: Target,
    },
    /// The service has no breaker.
    #[error("service {service}: it has no breaker; add breaker = {{}} to [service.{service}]")]
    NoBreaker {
        /// The service.
        service: Name,
    },
    /// There is nothing to take away.
    #[error("service {service}: endpoint {target} has no override")]
    NotOverridden {
        /// The service.
        service: Name,
        /// What was named.
        target: Target,
    },
    /// Nobody would be left.
    #[error("service {service}: {target} is its last endpoint; add another one first, or drain it")]
    Last {
        /// The service.
        service: Name,
        /// What was named.
        target: Target,
    },
    /// The bound is reached.
    #[error("there are {max} overrides, which is the most; reset some, or write them into the file")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

/// Changes a running gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GatewayControl {
    commands: mpsc::Sender<Command>,
}

impl GatewayControl {
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Makes a change, and returns when every request that begins from now on goes by it; tells how many overrides
    /// were set or taken away. Requests under way go on, wherever they are.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub async fn change(&self, change: Change) -> Result<usize, ChangeError> {
        let (done, changed) = oneshot::channel();
        let command = Command::Change(change, done);
        self.commands.send(command).await.map_err(|_| ChangeError::Stopping)?;
        changed.await.map_err(|_| ChangeError::Stopping)?
    }
}

impl Target {
    /// What an endpoint's settings name.
    pub(crate) fn of(endpoint: &EndpointParams) -> Self {
        Self { host: endpoint.host.clone(), port: endpoint.port }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Address(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Srv(name) => f.write_str(name),
            Host::Address(IpAddr::V4(v4)) => write!(f, "{v4}:{}", self.port),
            Host::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}
