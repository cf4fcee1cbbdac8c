//! Where a route's requests go.

use std::sync::Arc;

use vocab::Name;

use super::split::Split;
use crate::action::Answer;
use crate::files::Files;
use crate::params::{PathMatch, RouteTarget};

/// What a route is for.
#[derive(Debug)]
pub(crate) enum Goal {
    /// Requests go on.
    Forward(Target),
    /// They are answered here.
    Answer(Answer),
    /// They are answered with files.
    Files(Arc<Files>),
}

/// Where requests go; services by position in the snapshot.
#[derive(Debug)]
pub(crate) enum Target {
    /// One service.
    Service(usize),
    /// One of several services.
    Split(Split),
}

impl Goal {
    /// The goal of a route for these paths. `None` when a service is not there.
    pub(crate) fn new(
        params: &RouteTarget,
        route: &PathMatch,
        cores: usize,
        position: impl Fn(&Name) -> Option<usize>,
    ) -> Option<Self> {
        match params {
            RouteTarget::Service(name) => position(name).map(|at| Self::Forward(Target::Service(at))),
            RouteTarget::Split(split) => Split::new(split, position).map(|split| Self::Forward(Target::Split(split))),
            RouteTarget::Redirect(redirect) => Some(Self::Answer(Answer::redirect(redirect, route, cores))),
            RouteTarget::Fixed(fixed) => Some(Self::Answer(Answer::fixed(fixed))),
            RouteTarget::Files(files) => Some(Self::Files(Arc::new(Files::new(files)))),
        }
    }

    /// Whether requests can go to the service at a position.
    pub(crate) fn leads_to(&self, service: usize) -> bool {
        match self {
            Self::Forward(Target::Service(position)) => *position == service,
            Self::Forward(Target::Split(split)) => split.shares().any(|(position, _)| position == service),
            Self::Answer(_) | Self::Files(_) => false,
        }
    }
}
