//! Where a route's requests go.

use vocab::Name;

use super::split::Split;
use crate::params::RouteTarget;

/// Where requests go; services by position in the snapshot.
#[derive(Debug)]
pub(crate) enum Target {
    /// One service.
    Service(usize),
    /// One of several services.
    Split(Split),
}

impl Target {
    /// The target with these settings. `None` when a service is not there.
    pub(crate) fn new(params: &RouteTarget, position: impl Fn(&Name) -> Option<usize>) -> Option<Self> {
        match params {
            RouteTarget::Service(name) => position(name).map(Self::Service),
            RouteTarget::Split(split) => Split::new(split, position).map(Self::Split),
        }
    }

    /// Whether requests can go to the service at a position.
    pub(crate) fn leads_to(&self, service: usize) -> bool {
        match self {
            Self::Service(position) => *position == service,
            Self::Split(split) => split.shares().any(|(position, _)| position == service),
        }
    }
}
