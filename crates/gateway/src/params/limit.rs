//! Limits of how fast requests may come, and of how many may be under way.

use std::time::Duration;

use limit::lease::store::LeaseQuota;
use limit::{Prefixes, Quota, QuotaError, Rate};
use limit_redis::StoreParams;
use vocab::Name;

use super::FixedParams;

/// A limit. Routes that have a limit of the same name share it, and have it with the same settings.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitParams {
    /// Its name: metric label, name of the policy that clients are told, and identity across reloads.
    pub name: Name,
    /// What of a request tells whose allowance it takes; nothing for one allowance that all share.
    pub key: Vec<KeyPart>,
    /// What is allowed.
    pub law: LimitLaw,
    /// How gateways share it, if they do; its law is a rate then.
    pub shared: Option<SharedParams>,
    /// Keys that are told apart at once. Of more, those that are idle make room.
    pub keys_max: u32,
    /// How much of a client's address counts.
    pub prefixes: Prefixes,
    /// Whether what would be refused passes and is only counted.
    pub shadow: bool,
    /// When clients are told of the limit.
    pub tell: Tell,
    /// The answer to what is refused; `None` for the gateway's own.
    pub refusal: Option<FixedParams>,
}

/// How gateways share a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedParams {
    /// Where its buckets are.
    pub store: StoreParams,
    /// The rate, as the store counts it.
    pub quota: LeaseQuota,
    /// What happens while the store is lost.
    pub without_store: WithoutStore,
}

/// What becomes of requests while the store of a limit is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutStore {
    /// Each gateway keeps the limit for itself.
    Local,
    /// They pass.
    Open,
    /// They are refused.
    Closed,
}

/// A part of a limit's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address.
    ClientIp,
    /// A header field, by lower-case name. Requests without it are one key together.
    Header(String),
    /// A cookie, by name. Requests without it are one key together.
    Cookie(String),
    /// The route that the request takes.
    Route,
}

/// What a limit allows.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitLaw {
    /// So many requests in a time.
    Rate(RateLaw),
    /// So many requests under way at once.
    Concurrency(u32),
}

/// A rate, with what clients are told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLaw {
    quota: Quota,
    burst: u32,
    window: Duration,
}

/// When clients are told of a limit, by `RateLimit` and `RateLimit-Policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// With each response.
    Always,
    /// When a request is refused.
    Refused,
    /// Not at all, but for `Retry-After`.
    Never,
}

impl RateLaw {
    /// At most `burst` at once, and `rate` in the long run.
    ///
    /// # Errors
    /// [`QuotaError`] for what cannot be counted.
    pub fn gcra(rate: Rate, burst: u32) -> Result<Self, QuotaError> {
        // What the whole burst takes to come back.
        let window = rate.per.mul_f64(f64::from(burst) / f64::from(rate.amount.max(1)));
        Ok(Self { quota: Quota::gcra(rate, burst)?, burst, window })
    }

    /// A bucket of `burst` that gets `rate.amount` at once, each time that `rate.per` has passed.
    ///
    /// # Errors
    /// [`QuotaError`] for what cannot be counted.
    pub fn token_bucket(rate: Rate, burst: u32) -> Result<Self, QuotaError> {
        Ok(Self { quota: Quota::token_bucket(burst, rate.amount, rate.per)?, burst, window: rate.per })
    }

    /// At most `rate.amount` in any `rate.per`.
    ///
    /// # Errors
    /// [`QuotaError`] for what cannot be counted.
    pub fn sliding_window(rate: Rate) -> Result<Self, QuotaError> {
        let quota = Quota::sliding_window(rate.amount, rate.per)?;
        Ok(Self { quota, burst: rate.amount, window: rate.per })
    }

    /// Checks that the law can be kept for each key apart.
    ///
    /// # Errors
    /// [`QuotaError::TooFast`] if its state leaves no room for the key.
    pub fn check_keys(&self) -> Result<(), QuotaError> {
        limit::Keyed::new(self.quota.clone(), 1).map(|_| ())
    }

    /// The law.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// The most that passes at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time within which as many pass again.
    pub fn window(&self) -> Duration {
        self.window
    }
}
