//! What keeps requests from a service, and what is served instead.

use std::num::NonZeroU32;

use breaker::BreakerParams;
use vocab::Name;

use super::{FixedParams, RetryOn};

/// The breaker of a service, or those of its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceBreakerParams {
    /// What has a breaker.
    pub scope: BreakerScope,
    /// What counts as a failure, in the words of retries. Other statuses count as successes, other failures as nothing.
    pub on: RetryOn,
    /// When it opens, for how long, and how it closes again.
    pub rules: BreakerParams,
}

/// What has a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerScope {
    /// The service: while it is open, no request goes to any endpoint.
    #[default]
    Service,
    /// Each endpoint: while it is open, requests go to the others.
    Endpoint,
}

/// Bounds on what is under way at a service, all cores together. Beyond them nothing waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsParams {
    /// Most requests.
    pub requests_max: Option<NonZeroU32>,
    /// Most requests that are being sent again.
    pub retries_max: Option<NonZeroU32>,
}

/// What is served instead when a service is not asked.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackParams {
    /// An answer.
    Fixed(FixedParams),
    /// Another service.
    Service(Name),
}
