//! Limits of routes: whose allowance a request takes, and whether any is left.
//!
//! A route's limits are asked in their order, before anything else is done with a request; the first that refuses ends it.
//! What an earlier one took is then spent: to give it back would let a client that is refused by the second limit learn
//! nothing from the first.
//!
//! All cores share a limit's state, which is atomics in a table of fixed size (`limit`). It is kept across reloads as long as
//! what is allowed does not change. Of a limit that gateways share each core holds leases of its own (`leases`), from a
//! store that all of them ask.

mod key;
mod leases;
mod shared;

use std::cell::{OnceCell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::write;
use limit::lease::Taken;
use limit::{Decision, Keyed, KeyedConcurrency, Moment, Permit, Quota, Single, Verdict, fields};
use telemetry::cell::{Counter, Sharded};
use vocab::{ErrorCode, Name};

use crate::action::Prepared;
use crate::data::cookie;
use crate::params::{KeyPart, LimitLaw, LimitParams, Tell};
use crate::router::Asked;
pub(crate) use key::Seed;
use key::{Digest, Value};
pub(crate) use leases::Leases;
pub(crate) use shared::{Shared, Stores, stores_up};

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
    /// What was allowed when this was made.
    law: LimitLaw,
    keys_max: u32,
    counts: Sharded<[Counter; Outcome::ALL.len()]>,
    displaced: Sharded<Counter>,
}

#[derive(Debug)]
enum Table {
    Rate(Rates),
    Concurrency(KeyedConcurrency),
    Shared(Box<Shared>),
}

/// What was spent of a rate by this gateway.
#[derive(Debug)]
enum Rates {
    Single(Single),
    Keyed(Keyed),
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

/// What a request holds, which whatever goes on in its name may hold with it.
#[derive(Debug, Default)]
pub(crate) struct Places {
    held: RefCell<Vec<Held>>,
    shared: OnceCell<Rc<Vec<Held>>>,
}

impl Places {
    /// Holds these until the request ends. A fetch of the cache may go on for longer than its client stays.
    pub(crate) fn keep(&self, held: Vec<Held>) -> &Self {
        self.held.replace(held);
        self
    }

    /// Holds them until what goes on has ended, too; `None` if there are none.
    pub(crate) fn share(&self) -> Option<Rc<Vec<Held>>> {
        if self.held.borrow().is_empty() && self.shared.get().is_none() {
            return None;
        }
        Some(Rc::clone(self.shared.get_or_init(|| Rc::new(self.held.take()))))
    }
}

/// Why a request does not pass, or not yet.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It is refused: the answer.
    Refused(Box<Prepared>),
    /// A lease has to come first, for the limit at this position.
    Waits(usize),
}

impl Rates {
    /// Nothing spent. `None` when the numbers do not fit, which parameters exclude.
    fn new(quota: &Quota, key: &[KeyPart], keys_max: u32) -> Option<Self> {
        if key.is_empty() {
            return Some(Self::Single(Single::new(quota.clone())));
        }
        Keyed::new(quota.clone(), keys_max as usize).ok().map(Self::Keyed)
    }

    /// Whether it tells keys apart, or does not, as this key wants.
    fn fit(&self, key: &[KeyPart]) -> bool {
        matches!(self, Self::Single(_)) == key.is_empty()
    }

    #[inline]
    fn check(&self, key: impl FnOnce() -> u64, now: Moment, cost: u32) -> Decision {
        match self {
            Self::Single(single) => single.check(now, cost),
            Self::Keyed(table) => table.check(key(), now, cost),
        }
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
    fn new(params: &LimitParams, cores: usize, stores: &mut Stores) -> Option<Self> {
        let table = match (&params.law, &params.shared) {
            (LimitLaw::Rate(_), Some(shared)) => {
                let store = stores.of(&shared.store, cores);
                Table::Shared(Box::new(Shared::new(params, shared, store, cores)?))
            }
            (LimitLaw::Rate(rate), None) => Table::Rate(Rates::new(rate.quota(), &params.key, params.keys_max)?),
            (LimitLaw::Concurrency(max), _) => Table::Concurrency(KeyedConcurrency::new(*max, params.keys_max)),
        };
        let counts = Sharded::new(cores, <[Counter; Outcome::ALL.len()]>::default);
        let displaced = Sharded::new(cores, Counter::default);
        let (law, keys_max) = (params.law.clone(), params.keys_max);
        Some(Self { name: params.name.clone(), table, law, keys_max, counts, displaced })
    }

    /// Whether what was spent means the same under these settings.
    fn fits(&self, params: &LimitParams) -> bool {
        let same_table = match &self.table {
            Table::Rate(rates) => params.shared.is_none() && rates.fit(&params.key),
            Table::Concurrency(_) => true,
            Table::Shared(shared) => {
                params.shared.as_ref() == Some(&shared.params)
                    && shared.local.as_ref().is_none_or(|rates| rates.fit(&params.key))
            }
        };
        self.law == params.law && self.keys_max == params.keys_max && same_table
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
            Table::Rate(Rates::Keyed(table)) => Some(table.keys_in_debt(now) as u64),
            Table::Shared(shared) => Some(shared.keys()),
            Table::Rate(Rates::Single(_)) | Table::Concurrency(_) => None,
        }
    }

    /// What is known of it as a limit that gateways share, if it is one.
    pub(crate) fn shared(&self) -> Option<&Shared> {
        match &self.table {
            Table::Shared(shared) => Some(shared),
            Table::Rate(_) | Table::Concurrency(_) => None,
        }
    }
}

impl Limit {
    /// The limit with these settings, with what is known of it.
    pub(crate) fn new(
        params: &LimitParams,
        known: Option<&Arc<LimitState>>,
        cores: usize,
        stores: &mut Stores,
    ) -> Option<Self> {
        let state = match known.filter(|known| known.fits(params)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(LimitState::new(params, cores, stores)?),
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

    /// What makes a request's key.
    fn values<'a>(&'a self, asking: &'a Asking<'a>) -> impl Iterator<Item = Value<'a>> {
        let Asking { asked, client, route, .. } = asking;
        self.params.key.iter().map(move |part| match part {
            KeyPart::ClientIp => Value::Address(*client),
            KeyPart::Header(name) => Value::Text(asked.request.fields.named(asked.head, name.as_bytes()).next()),
            KeyPart::Cookie(name) => Value::Text(cookie(asked.request, asked.head, name)),
            KeyPart::Route => Value::Name(route.as_str().as_bytes()),
        })
    }

    /// The hash of a request's key.
    fn key(&self, asking: &Asking<'_>) -> u64 {
        key::hash(asking.seed, self.params.prefixes, self.values(asking))
    }

    /// The hash of a request's key that a store is told.
    fn digest(&self, asking: &Asking<'_>) -> Digest {
        Digest::of(self.params.prefixes, self.values(asking))
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
    /// What the core holds of limits that gateways share.
    pub(crate) leases: &'a [Rc<Leases>],
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

    /// Lets a request pass the limits from a position on, or says what it is answered, or what it waits for. What its client is
    /// told of limits is added to `lines`, and what it holds until its end to `held`.
    ///
    /// # Errors
    /// [`Halt`].
    pub(crate) fn admit(
        &self,
        from: usize,
        asking: &Asking<'_>,
        lines: &mut Vec<u8>,
        held: &mut Vec<Held>,
    ) -> Result<(), Halt> {
        let now = Moment::since(asking.epoch, asking.now);
        for (at, limit) in self.limits.iter().enumerate().skip(from) {
            let (passes, decision) = match &limit.state.table {
                Table::Rate(rates) => known(rates.check(|| limit.key(asking), now, self.cost)),
                Table::Concurrency(table) => {
                    let permit = table.acquire(limit.key(asking));
                    let passes = permit.is_some();
                    held.extend(passes.then(|| Held { limit: Arc::clone(&limit.state), permit }));
                    (passes, None)
                }
                Table::Shared(shared) => {
                    let key = limit.key(asking);
                    let taken = match limit.leases(asking) {
                        Some(leases) => {
                            let held = leases.held(key, || limit.digest(asking));
                            leases.take(&held, self.cost, asking.now)
                        }
                        None => Taken::AllowedWithoutStore,
                    };
                    if taken == Taken::Wait {
                        return Err(Halt::Waits(at));
                    }
                    shared.verdict(taken, key, now, self.cost)
                }
            };
            limit.conclude((passes, decision), asking, lines).map_err(Halt::Refused)?;
        }
        Ok(())
    }

    /// Waits for a lease of the limit at a position, and goes on as [`admit`](Self::admit).
    ///
    /// # Errors
    /// The answer.
    pub(crate) async fn admit_late(
        &self,
        mut at: usize,
        asking: &mut Asking<'_>,
        lines: &mut Vec<u8>,
        held: &mut Vec<Held>,
    ) -> Result<(), Box<Prepared>> {
        loop {
            let limit = &self.limits[at];
            if let (Table::Shared(shared), Some(leases)) = (&limit.state.table, limit.leases(asking)) {
                let key = limit.key(asking);
                let of_key = leases.held(key, || limit.digest(asking));
                let taken = leases.wait(&of_key, self.cost).await;
                asking.now = Instant::now();
                let now = Moment::since(asking.epoch, asking.now);
                limit.conclude(shared.verdict(taken, key, now, self.cost), asking, lines)?;
            }
            at = match self.admit(at + 1, asking, lines, held) {
                Ok(()) => return Ok(()),
                Err(Halt::Refused(answer)) => return Err(answer),
                Err(Halt::Waits(next)) => next,
            };
        }
    }
}

impl Limit {
    /// What the asking core holds of it.
    fn leases<'a>(&self, asking: &Asking<'a>) -> Option<&'a Rc<Leases>> {
        asking.leases.iter().find(|leases| leases.is_of(&self.state))
    }

    /// Counts what became of a request, and tells its client.
    fn conclude(
        &self,
        (passes, decision): (bool, Option<Decision>),
        asking: &Asking<'_>,
        lines: &mut Vec<u8>,
    ) -> Result<(), Box<Prepared>> {
        let core = asking.asked.core;
        if decision.is_some_and(|decision| decision.displaced) {
            self.state.displaced.core(core).increment();
        }
        let refused = !passes && !self.params.shadow;
        self.state.count(
            core,
            match (passes, refused) {
                (true, _) => Outcome::Allowed,
                (false, true) => Outcome::Refused,
                (false, false) => Outcome::Shadowed,
            },
        );
        // A shadow tells nobody of itself.
        if !self.params.shadow {
            self.tell(decision.as_ref(), refused, lines);
        }
        if refused {
            return Err(self.refuse(decision.as_ref(), asking.spread));
        }
        Ok(())
    }
}

fn known(decision: Decision) -> (bool, Option<Decision>) {
    (decision.verdict == Verdict::Allowed, Some(decision))
}
