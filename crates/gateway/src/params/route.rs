//! What a route serves, and what is done with it.

use std::time::Duration;

use vocab::Name;

use super::HashKey;
use super::action::{ActionParams, FieldName, FixedParams, RedirectParams};
use super::cache::CacheParams;
use super::compress::CompressParams;
use super::files::FilesParams;
use super::limit::LimitParams;
use super::shedding::PriorityParams;
use crate::pattern::Pattern;

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteParams {
    /// The route's name: metric label, log field, and identity across reloads.
    pub name: Name,
    /// The listener it belongs to.
    pub listener: Name,
    /// Hosts that it serves.
    pub host: HostMatch,
    /// Paths that it serves.
    pub path: PathMatch,
    /// What else a request must have.
    pub conditions: Conditions,
    /// Where requests go.
    pub target: RouteTarget,
    /// What is done with them, and with their responses.
    pub actions: ActionParams,
    /// Which responses are compressed, if any.
    pub compress: Option<CompressParams>,
    /// A service that is asked before a request passes.
    pub forward_auth: Option<ForwardAuthParams>,
    /// Limits that requests must pass, in this order.
    pub limits: Vec<LimitParams>,
    /// What a request costs those of rates.
    pub cost: u32,
    /// How important requests are to a service that sheds load.
    pub priority: PriorityParams,
    /// Another service that a share of the requests is copied to.
    pub mirror: Option<MirrorParams>,
    /// What answers its requests where it can.
    pub cache: Option<CacheParams>,
    /// Overall time for a request, from the end of its head to the end of the response's head, all tries included.
    /// `None` leaves it to the service's per-try timeout.
    pub timeout: Option<Duration>,
    /// Longest pause within the bodies of requests and responses; `None` leaves it to the listener and the service.
    pub body_timeout: Option<Duration>,
}

/// A service that is asked before a request passes.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardAuthParams {
    /// The service.
    pub service: Name,
    /// Path and query that it is asked for, starting with `/`.
    pub target: String,
    /// Names of the request's fields that it is told, beside those that the gateway writes; `None` for all.
    pub asked: Option<Vec<String>>,
    /// Fields that the request gets from its answer, and from nobody else.
    pub granted: Vec<FieldName>,
    /// Fields that the response gets from its answer, beside its own.
    pub shown: Vec<FieldName>,
    /// Time for all of its answer.
    pub timeout: Duration,
    /// Largest body of an answer.
    pub body_bytes_max: u32,
}

/// Where a share of a route's requests is copied to.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorParams {
    /// The service.
    pub service: Name,
    /// The share, from 0 to 1.
    pub share: f64,
    /// Largest body that is copied; requests with larger ones are not.
    pub body_bytes_max: u32,
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteTarget {
    /// To one service.
    Service(Name),
    /// To one of several services.
    Split(SplitParams),
    /// Nowhere: the client is sent elsewhere.
    Redirect(RedirectParams),
    /// Nowhere: the answer is always the same.
    Fixed(FixedParams),
    /// Nowhere: the answer is a file.
    Files(FilesParams),
}

/// Shares of a route's requests.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitParams {
    /// The services, each once, and at least one with a weight.
    pub shares: Vec<ShareParams>,
    /// What of a request decides, so that a client stays with a service; `None` leaves each request to chance.
    pub by: Option<HashKey>,
}

/// One service's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareParams {
    /// The service.
    pub service: Name,
    /// Its share relative to the others; 0 gets nothing.
    pub weight: u32,
}

/// Which hosts a route serves. Texts are lower case and have no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Whatever host is asked for, or none.
    Any,
    /// This host and no other.
    Exact(String),
    /// Names under this one, any number of labels deeper, but not itself. Written `*.example.com`.
    Under(String),
}

/// Which request paths a route serves. Texts start with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// This path and no other. Written `/health`.
    Exact(String),
    /// Paths under this prefix, which ends with `/`; the prefix without its last `/` matches as well. Written `/api/*`.
    Prefix(String),
    /// Paths that match as a whole. Written as `path_regex`.
    Regex(Pattern),
}

/// What a request must have besides its host and path; all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conditions {
    methods: Vec<String>,
    values: Vec<(ValueSource, ValueMatch)>,
}

/// A value of a request that a condition looks at. A source can have several values; one that fits is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueSource {
    /// A header field, by lower-case name.
    Header(String),
    /// A cookie, by name.
    Cookie(String),
    /// A parameter of the query, by name; escapes are read, `+` is a space.
    Query(String),
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueMatch {
    /// There, whatever it is.
    Present,
    /// Not there.
    Absent,
    /// One of these texts.
    OneOf(Vec<String>),
    /// A text that begins with this.
    Prefix(String),
    /// A text that matches as a whole.
    Regex(Pattern),
}

impl RouteParams {
    /// Which requests it serves. Of two routes that serve the same, one is never used.
    pub(super) fn served(&self) -> (&Name, &HostMatch, &PathMatch, &Conditions) {
        (&self.listener, &self.host, &self.path, &self.conditions)
    }
}

impl RouteParams {
    /// The services that it names.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        let auth = self.forward_auth.iter().map(|auth| &auth.service);
        let mirror = self.mirror.iter().map(|mirror| &mirror.service);
        self.target.services().chain(auth).chain(mirror)
    }
}

impl RouteTarget {
    /// The services that it names.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        let (one, several) = match self {
            Self::Service(name) => (Some(name), &[][..]),
            Self::Split(split) => (None, split.shares.as_slice()),
            Self::Redirect(_) | Self::Fixed(_) | Self::Files(_) => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().map(|share| &share.service))
    }
}

impl Conditions {
    /// Conditions on the method (any when empty) and on values. Their order has no meaning, so equal sets are equal.
    pub fn new(mut methods: Vec<String>, mut values: Vec<(ValueSource, ValueMatch)>) -> Self {
        methods.sort_unstable();
        methods.dedup();
        for (_, value) in &mut values {
            if let ValueMatch::OneOf(texts) = value {
                texts.sort_unstable();
                texts.dedup();
            }
        }
        values.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { methods, values }
    }

    /// Methods of which the request must have one; empty for any.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Conditions on values.
    pub fn values(&self) -> &[(ValueSource, ValueMatch)] {
        &self.values
    }

    /// How many there are: one for the methods, one for each value.
    pub fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.values.len()
    }
}

impl HostMatch {
    /// The host as the file writes it; `None` for any.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Exact(host) => Some(host.clone()),
            Self::Under(domain) => Some(format!("*.{domain}")),
        }
    }
}

impl PathMatch {
    /// The path as the file writes it; an expression as it is.
    pub fn text(&self) -> String {
        match self {
            Self::Exact(path) => path.clone(),
            Self::Prefix(prefix) => format!("{prefix}*"),
            Self::Regex(pattern) => pattern.as_str().to_owned(),
        }
    }
}
