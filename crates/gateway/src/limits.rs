//! Limits of routes: whose allowance a request takes, and whether any is left.
//!
//! A route's limits are asked in their order, before anything else is done with a request; the first that refuses ends it.
//! What an earlier one took is then spent: to give it back would let a client that is refused by the second limit learn
//! nothing from the first.
//!
//! All cores share a limit's state, which is atomics in a table of fixed size (`limit`). It is kept across reloads as long as
//! what is allowed does not change.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::{Request, write};
use limit::{Decision, KeyHasher, Keyed, KeyedConcurrency, Moment, Permit, Single, Verdict, fields};
use telemetry::cell::{Counter, Sharded};
use vocab::{ErrorCode, Name};

use crate::action::Prepared;
use crate::data::cookie;
use crate::params::{KeyPart, LimitLaw, LimitParams, Tell};
use crate::router::Asked;

/// What a limit's key is hashed under, so that nobody outside can find keys that meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed((u64, u64));

/// A limit as it is configured now.
#[derive(Debug)]
pub(crate) struct Limit {
    /// What outlives configurations.
    pub(crate) state: Arc<LimitState>,
    params: LimitParams,
    refusal: Prepared,
    /// The value of `RateLimit-Policy`.
    policy: String,
}

/// What outlives a limit's configurations.
#[derive(Debug)]
pub(crate) struct LimitState {
    /// Its name.
    pub(crate) name: Name,
    table: Table,
    law: LimitLaw,
    keys_max: u32,
    counts: Sharded<[Counter; Outcome::ALL.len()]>,
    displaced: Sharded<Counter>,
}

#[derive(Debug)]
enum Table {
    Single(Single),
    Keyed(Keyed),
    Concurrency(KeyedConcurrency),
}

/// The limits of a route.
#[derive(Debug)]
pub(crate) struct Limits {
    limits: Vec<Arc<Limit>>,
    /// What a request of the route costs those of rates.
    cost: u32,
}

/// What became of a request at a limit, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Allowed,
    Refused,
    /// It would have been refused.
    Shadowed,
}

/// A place under a limit of requests under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    limit: Arc<LimitState>,
    permit: Option<Permit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let (Table::Concurrency(table), Some(permit)) = (&self.limit.table, self.permit.take()) {
            table.release(permit);
        }
    }
}

impl Seed {
    /// A seed from the system's random numbers.
    pub(crate) fn random() -> Self {
        let state = RandomState::new();
        Self((state.hash_one(0), state.hash_one(1)))
    }
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Allowed, Self::Refused, Self::Shadowed];

    /// The outcome as metrics name it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Shadowed => "shadowed",
        }
    }
}

impl LimitState {
    /// A limit of which nothing is spent. `None` when its numbers do not fit, which parameters exclude.
    fn new(params: &LimitParams, cores: usize) -> Option<Self> {
        let table = match &params.law {
            LimitLaw::Rate(rate) if params.key.is_empty() => Table::Single(Single::new(rate.quota().clone())),
            LimitLaw::Rate(rate) => Table::Keyed(Keyed::new(rate.quota().clone(), params.keys_max as usize).ok()?),
            LimitLaw::Concurrency(max) => Table::Concurrency(KeyedConcurrency::new(*max, params.keys_max)),
        };
        let counts = Sharded::new(cores, <[Counter; Outcome::ALL.len()]>::default);
        let displaced = Sharded::new(cores, Counter::default);
        let (law, keys_max) = (params.law.clone(), params.keys_max);
        Some(Self { name: params.name.clone(), table, law, keys_max, counts, displaced })
    }

    /// Whether what was spent means the same under these settings.
    fn fits(&self, params: &LimitParams) -> bool {
        let is_single = matches!(self.table, Table::Single(_));
        self.law == params.law && self.keys_max == params.keys_max && is_single == is_single_law(params)
    }

    fn count(&self, core: usize, outcome: Outcome) {
        self.counts.core(core)[outcome as usize].increment();
    }

    /// How many requests had each outcome.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); Outcome::ALL.len()] {
        let total = |outcome: Outcome| self.counts.iter().map(|counts| counts[outcome as usize].value()).sum();
        Outcome::ALL.map(|outcome| (outcome.as_str(), total(outcome)))
    }

    /// Keys that took the place of others which were still in debt.
    pub(crate) fn displaced(&self) -> u64 {
        self.displaced.iter().map(Counter::value).sum()
    }

    /// Keys that have spent something, if they are told apart.
    pub(crate) fn keys(&self, now: Moment) -> Option<u64> {
        match &self.table {
            Table::Keyed(table) => Some(table.keys_in_debt(now) as u64),
            Table::Single(_) | Table::Concurrency(_) => None,
        }
    }
}

fn is_single_law(params: &LimitParams) -> bool {
    params.key.is_empty() && matches!(params.law, LimitLaw::Rate(_))
}

impl Limit {
    /// The limit with these settings, with what is known of it.
    pub(crate) fn new(params: &LimitParams, known: Option<&Arc<LimitState>>, cores: usize) -> Option<Self> {
        let state = match known.filter(|known| known.fits(params)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(LimitState::new(params, cores)?),
        };
        let error = Some((ErrorCode::RateLimited, crate::data::error_message(ErrorCode::RateLimited)));
        let refusal = match &params.refusal {
            Some(fixed) => Prepared { error, ..Prepared::fixed(fixed) },
            None => Prepared { error, ..Prepared::new(ErrorCode::RateLimited.status(), Vec::new()) },
        };
        let mut policy = String::new();
        let name = params.name.as_str();
        match &params.law {
            LimitLaw::Rate(law) => {
                fields::write_policy(&mut policy, name, law.burst().into(), law.window(), fields::QuotaUnit::Requests);
            }
            LimitLaw::Concurrency(max) => {
                let unit = fields::QuotaUnit::ConcurrentRequests;
                fields::write_policy(&mut policy, name, (*max).into(), Duration::ZERO, unit);
            }
        }
        Some(Self { state, params: params.clone(), refusal, policy })
    }

    /// The hash of a request's key. `route` tells routes apart.
    fn key(&self, seed: Seed, asked: &Asked<'_>, client: std::net::IpAddr, route: &Name) -> u64 {
        let hasher = KeyHasher::new(seed.0);
        let value = |part: &KeyPart, hasher: KeyHasher| match part {
            KeyPart::ClientIp => hasher.address(client, self.params.prefixes),
            KeyPart::Header(name) => field_part(hasher, asked.request, asked.head, name),
            KeyPart::Cookie(name) => optional(hasher, cookie(asked.request, asked.head, name)),
            KeyPart::Route => hasher.part(route.as_str().as_bytes()),
        };
        self.params.key.iter().fold(hasher, |hasher, part| value(part, hasher)).finish()
    }

    /// Adds what a client is told of a decision to the lines of a response.
    fn tell(&self, decision: Option<&Decision>, refused: bool, lines: &mut Vec<u8>) {
        let tells = match self.params.tell {
            Tell::Always => true,
            Tell::Refused => refused,
            Tell::Never => false,
        };
        if !tells {
            return;
        }
        write::field(lines, fields::RATE_LIMIT_POLICY.as_bytes(), self.policy.as_bytes());
        if let Some(decision) = decision {
            let mut value = String::new();
            fields::write_limit(&mut value, self.params.name.as_str(), decision);
            write::field(lines, fields::RATE_LIMIT.as_bytes(), value.as_bytes());
        }
    }

    /// The answer to a request that is refused. `spread` is a random number from 0 to 1.
    fn refuse(&self, decision: Option<&Decision>, spread: f64) -> Box<Prepared> {
        let mut answer = self.refusal.clone();
        let after = match decision {
            Some(decision) => fields::retry_after_secs(decision, spread),
            None => Some(1),
        };
        if let Some(secs) = after {
            let mut text = String::new();
            let _infallible = write!(text, "{secs}");
            write::field(&mut answer.fields, b"Retry-After", text.as_bytes());
        }
        Box::new(answer)
    }
}

fn optional(hasher: KeyHasher, value: Option<&[u8]>) -> KeyHasher {
    // What is not there is told apart from what is empty.
    match value {
        Some(value) => hasher.number(1).part(value),
        None => hasher.number(0),
    }
}

fn field_part(hasher: KeyHasher, request: &Request, head: &[u8], name: &str) -> KeyHasher {
    optional(hasher, request.fields.named(head, name.as_bytes()).next())
}

/// Who asks, and when.
pub(crate) struct Asking<'a> {
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) client: std::net::IpAddr,
    pub(crate) route: &'a Name,
    pub(crate) seed: Seed,
    pub(crate) epoch: Instant,
    pub(crate) now: Instant,
    /// A random number from 0 to 1.
    pub(crate) spread: f64,
}

impl Limits {
    /// The limits of a route; `None` without any.
    pub(crate) fn new(limits: Vec<Arc<Limit>>, cost: u32) -> Option<Box<Self>> {
        (!limits.is_empty()).then(|| Box::new(Self { limits, cost }))
    }

    /// The limits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.iter()
    }

    /// Lets a request pass, or says what it is answered. What its client is told of limits is added to `lines`, and what it
    /// holds until its end to `held`.
    ///
    /// # Errors
    /// The answer.
    pub(crate) fn admit(
        &self,
        asking: &Asking<'_>,
        lines: &mut Vec<u8>,
        held: &mut Vec<Held>,
    ) -> Result<(), Box<Prepared>> {
        let now = Moment::since(asking.epoch, asking.now);
        let core = asking.asked.core;
        for limit in &self.limits {
            let key = || limit.key(asking.seed, asking.asked, asking.client, asking.route);
            let (passes, decision) = match &limit.state.table {
                Table::Single(single) => known(single.check(now, self.cost)),
                Table::Keyed(table) => known(table.check(key(), now, self.cost)),
                Table::Concurrency(table) => {
                    let permit = table.acquire(key());
                    let passes = permit.is_some();
                    held.extend(passes.then(|| Held { limit: Arc::clone(&limit.state), permit }));
                    (passes, None)
                }
            };
            if decision.is_some_and(|decision| decision.displaced) {
                limit.state.displaced.core(core).increment();
            }
            let refused = !passes && !limit.params.shadow;
            limit.state.count(
                core,
                match (passes, refused) {
                    (true, _) => Outcome::Allowed,
                    (false, true) => Outcome::Refused,
                    (false, false) => Outcome::Shadowed,
                },
            );
            // A shadow tells nobody of itself.
            if !limit.params.shadow {
                limit.tell(decision.as_ref(), refused, lines);
            }
            if refused {
                return Err(limit.refuse(decision.as_ref(), asking.spread));
            }
        }
        Ok(())
    }
}

fn known(decision: Decision) -> (bool, Option<Decision>) {
    (decision.verdict == Verdict::Allowed, Some(decision))
}
