//! The store's side: what the script has to compute, step by step, and the script.
//!
//! The store keeps a debt, in units of which a token has [`LeaseQuota::token`] and [`LeaseQuota::refill`] drain in each
//! microsecond of its clock. All of it is whole numbers up to 2^52, because a script in Redis counts in doubles, which
//! are exact up to there. So [`Bucket::lease`] and [`SCRIPT`] agree to the last unit, and a test holds them to that.
//!
//! Besides the debt it keeps who was left hungry within the last [`HUNGRY_MICROS`]. Of what is there, a hungry instance
//! gets its share, rounded up, so that who asks first does not take all.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{QuotaError, Rate};

/// The script: one atomic step on the store's own clock.
///
/// Keys: the bucket. Arguments: those of [`LeaseQuota::script_arguments`], and those of [`Request::script_arguments`];
/// an eleventh, for tests alone, is the time in microseconds. Answer: the numbers of a [`Grant`] in their order.
pub const SCRIPT: &str = include_str!("../lease.lua");

/// An instance counts as hungry for so long after it last got less than it wanted: several pauses.
pub const HUNGRY_MICROS: u64 = 200_000;

/// By more than this a clock does not go back unless it is set.
pub const CLOCK_BACK_MICROS: u64 = 1_000_000;

/// Largest whole number that a store is trusted with, half of what a double counts exactly.
const EXACT_MAX: u128 = 1 << 52;

/// A shared rate in the store's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseQuota {
    token: u64,
    refill: u64,
    capacity: u64,
    drain_micros: u64,
    rate: Rate,
    burst: u32,
}

impl LeaseQuota {
    /// A rate and a burst.
    ///
    /// # Errors
    /// [`QuotaError`] for a rate, burst or period of zero, a period that is no whole number of microseconds, and what
    /// a store cannot count exactly: a burst of more than 2^52 units.
    pub fn new(rate: Rate, burst: u32) -> Result<Self, QuotaError> {
        if rate.amount == 0 {
            return Err(QuotaError::NoRate);
        }
        if burst == 0 {
            return Err(QuotaError::NoBurst);
        }
        let micros = rate.per.as_micros();
        if micros == 0 || !rate.per.subsec_nanos().is_multiple_of(1_000) || rate.per > crate::PERIOD_MAX {
            return Err(QuotaError::Period(rate.per));
        }
        let (token, refill) = reduced(micros as u64, u64::from(rate.amount));
        let capacity = u128::from(token) * u128::from(burst);
        if capacity + u128::from(refill) > EXACT_MAX {
            return Err(QuotaError::TooFast { amount: burst, per: rate.per });
        }
        let capacity = capacity as u64;
        Ok(Self { token, refill, capacity, drain_micros: capacity.div_ceil(refill), rate, burst })
    }

    /// What the script takes first: token, refill, capacity, drain time, and the milliseconds after which a bucket that
    /// nobody asks is forgotten, when it is full again.
    pub fn script_arguments(&self) -> [u64; 5] {
        let forgotten_millis = self.drain_micros.div_ceil(1_000) + 1_000;
        [self.token, self.refill, self.capacity, self.drain_micros, forgotten_millis]
    }

    /// Units of one token.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Units that drain in a microsecond.
    pub fn refill(&self) -> u64 {
        self.refill
    }

    /// Units of the burst.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Microseconds in which all of the burst drains.
    pub fn drain_micros(&self) -> u64 {
        self.drain_micros
    }

    /// The rate as it was told.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// The burst as it was told.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// What the rate gives within a time, in whole tokens, rounded down.
    pub fn tokens_in(&self, time: Duration) -> u64 {
        let units = time.as_micros().saturating_mul(u128::from(self.refill));
        u64::try_from(units / u128::from(self.token)).unwrap_or(u64::MAX)
    }
}

/// What an instance asks of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Tokens wanted, 0 to return some only.
    pub want: u64,
    /// Fewer than this are of no use: what one request costs.
    pub least: u64,
    /// Who asks: a random number of the instance.
    pub instance: u64,
    /// Tokens that are given back.
    pub returned: u64,
    /// The stamp of the grant that they came with.
    pub returned_stamp: u64,
}

impl Request {
    /// What the script takes next, in the order of the fields.
    pub fn script_arguments(&self) -> [u64; 5] {
        [self.want, self.least, self.instance, self.returned, self.returned_stamp]
    }
}

/// What the store answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Tokens, already paid for.
    pub tokens: u64,
    /// The store's time in microseconds, to be told when some are returned.
    pub stamp: u64,
    /// Instances that got less than they wanted lately, at least 1.
    pub hungry: u64,
    /// Until the store holds as many as `least` again: 0 if it does.
    pub wait_micros: u64,
}

/// The reference of a bucket in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    debt: u64,
    at_micros: u64,
    hungry: BTreeMap<u64, u64>,
}

impl Bucket {
    /// One step at the store's time `now_micros`. A time that went back by a little counts as the latest seen; by more than
    /// [`CLOCK_BACK_MICROS`], the clock was set, or is another store's, and goes on from there: waiting until it has come
    /// so far again would let nothing through meanwhile.
    pub fn lease(&mut self, quota: &LeaseQuota, now_micros: u64, request: Request) -> Grant {
        if self.at_micros.saturating_sub(now_micros) > CLOCK_BACK_MICROS {
            self.at_micros = now_micros;
        }
        let now = now_micros.max(self.at_micros);
        self.debt = drained(self.debt, now - self.at_micros, quota);
        self.at_micros = now;
        if request.returned > 0 {
            // No more than a burst can have been granted.
            let returned = request.returned.min(u64::from(quota.burst)) * quota.token;
            let age = now.saturating_sub(request.returned_stamp);
            self.debt = self.debt.saturating_sub(drained(returned, age, quota));
        }
        self.hungry.retain(|_, at| *at <= now && now - *at < HUNGRY_MICROS);
        let available = quota.capacity.saturating_sub(self.debt) / quota.token;
        let others = self.hungry.keys().filter(|&&instance| instance != request.instance).count() as u64;
        let share = available.div_ceil(others + 1);
        let tokens = if available < request.least { 0 } else { request.want.min(share.max(request.least)) };
        self.debt += tokens * quota.token;
        if tokens < request.want {
            self.hungry.insert(request.instance, now);
        } else if request.want > 0 {
            self.hungry.remove(&request.instance);
        }
        let awaited = request.least.clamp(1, u64::from(quota.burst)) * quota.token;
        let wait_micros = (self.debt + awaited).saturating_sub(quota.capacity).div_ceil(quota.refill);
        Grant { tokens, stamp: now, hungry: (self.hungry.len() as u64).max(1), wait_micros }
    }
}

/// What is left of some units after a time.
fn drained(units: u64, micros: u64, quota: &LeaseQuota) -> u64 {
    // Beyond this everything has drained, and the product below stays small.
    if micros >= quota.drain_micros { 0 } else { units.saturating_sub(micros * quota.refill) }
}

fn reduced(a: u64, b: u64) -> (u64, u64) {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor, b / divisor)
}
