//! An instance's side of a shared rate: what it holds, when it asks for more and for how much.

use std::time::Duration;

use super::store::{Grant, LeaseQuota, Request};
use crate::moment::nanos_of;
use crate::{Moment, Quota, Verdict};

/// How an instance holds leases.
#[derive(Clone, Debug, PartialEq)]
pub struct HolderParams {
    /// The shared rate.
    pub quota: LeaseQuota,
    /// Who this is to the store: drawn at random when the process starts.
    pub instance: u64,
    /// A lease holds at most what the rate gives in this time; default 50 ms.
    pub share: Duration,
    /// A lease ends after this time; default 1 s.
    pub lifetime: Duration,
    /// A lost store is asked again after this time; default 1 s.
    pub retry_after: Duration,
    /// What happens meanwhile.
    pub lost: Lost,
}

/// What happens while the store is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Everything passes.
    Open,
    /// Nothing passes.
    Closed,
    /// A limit of this instance alone decides.
    Local(Quota),
}

impl HolderParams {
    /// Leases of a shared rate with the defaults, closed while the store is lost.
    pub fn new(quota: LeaseQuota, instance: u64) -> Self {
        let second = Duration::from_secs(1);
        let share = Duration::from_millis(50);
        Self { quota, instance, share, lifetime: second, retry_after: second, lost: Lost::Closed }
    }
}

/// What a request hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It passes, paid for.
    Allowed,
    /// It passes unpaid, or paid to the local limit, because the store is lost.
    AllowedWithoutStore,
    /// It has to wait for the store's answer, and then to take again: one round trip, with the first lease of a key.
    Wait,
    /// It is refused.
    Refused {
        /// When there may be tokens again.
        retry_after: Duration,
    },
    /// It costs more than the burst, or than the local limit ever allows.
    Never,
}

/// Something that the shell has to send to the store, and to answer by [`Holder::granted`] or [`Holder::failed`].
pub type Ask = Request;

/// Leases of one key that one instance holds. Not shared: it belongs to a core or stands under a lock.
///
/// ```
/// use limit::lease::store::{Bucket, LeaseQuota};
/// use limit::lease::{Holder, HolderParams, Taken};
/// use limit::{Moment, Rate};
///
/// let quota = LeaseQuota::new(Rate::per_sec(1_000), 200)?;
/// let params = HolderParams::new(quota, 1);
/// let (mut holder, mut store) = (Holder::default(), Bucket::default());
/// let now = Moment::from_nanos(0);
/// assert_eq!(holder.take(&params, now, 1), Taken::Wait);
/// let ask = holder.ask(&params, now).expect("something waits");
/// let grant = store.lease(&quota, 5, ask);
/// holder.granted(&params, now, grant);
/// assert_eq!(holder.take(&params, now, 1), Taken::Allowed);
/// # Ok::<(), limit::QuotaError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Holder {
    /// What is spent first, and what came while some of it was left.
    old: Lease,
    new: Lease,
    /// Tokens of the next lease; 0 before the first.
    size: u64,
    /// Tokens asked for, while an answer is awaited.
    asked: Option<u64>,
    /// The most that one request needs.
    needed: u64,
    /// What all need that wait for an answer of the store.
    waiting: u64,
    /// Instances that get less than they want, this one included.
    hungry: u64,
    pause_until: Moment,
    is_lost: bool,
    local: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lease {
    tokens: u64,
    stamp: u64,
    until: Moment,
}

impl Holder {
    /// Takes the cost of a request.
    pub fn take(&mut self, params: &HolderParams, now: Moment, cost: u32) -> Taken {
        let cost_tokens = u64::from(cost);
        if cost > params.quota.burst() {
            return Taken::Never;
        }
        self.expire(now);
        if self.old.tokens + self.new.tokens >= cost_tokens {
            let first = cost_tokens.min(self.old.tokens);
            self.old.tokens -= first;
            self.new.tokens -= cost_tokens - first;
            return Taken::Allowed;
        }
        // So that a lost store is asked again, too.
        self.needed = self.needed.max(cost_tokens);
        if self.is_lost {
            return self.without_store(params, now, cost);
        }
        if now < self.pause_until {
            return Taken::Refused { retry_after: self.pause_until.saturating_since(now) };
        }
        Taken::Wait
    }

    /// Somebody waits for the store's answer, with a request of this cost, until [`left`](Self::left).
    pub fn waits(&mut self, cost: u32) {
        self.waiting += u64::from(cost);
    }

    /// Somebody waits no longer, one way or another.
    pub fn left(&mut self, cost: u32) {
        self.waiting = self.waiting.saturating_sub(u64::from(cost));
    }

    /// What to send to the store now, if anything. Asked after each [`take`](Self::take).
    pub fn ask(&mut self, params: &HolderParams, now: Moment) -> Option<Ask> {
        if self.asked.is_some() || now < self.pause_until {
            return None;
        }
        self.expire(now);
        let held = self.old.tokens + self.new.tokens;
        let is_low = self.size > 0 && self.new.tokens == 0 && self.old.tokens > 0 && 2 * held <= self.size;
        if self.needed <= held && !is_low {
            return None;
        }
        let most = (params.quota.tokens_in(params.share) / self.hungry.max(1)).max(1);
        // A quarter at first, then twice as much each time that one was spent before its end.
        self.size = if self.size == 0 { most.div_ceil(4) } else { (2 * self.size).min(most) };
        let least = self.needed.saturating_sub(held).max(1);
        // One round trip for all that wait, also where the rate gives less than one token in a lease's share.
        let waiting = self.waiting.min(u64::from(params.quota.burst())).saturating_sub(held);
        let want = self.size.max(least).max(waiting);
        self.asked = Some(want);
        Some(Ask { want, least, instance: params.instance, returned: 0, returned_stamp: 0 })
    }

    /// The store has answered.
    pub fn granted(&mut self, params: &HolderParams, now: Moment, grant: Grant) {
        self.expire(now);
        let want = self.asked.take().unwrap_or(0);
        self.is_lost = false;
        self.needed = 0;
        self.hungry = grant.hungry;
        if self.old.tokens == 0 {
            self.old = std::mem::take(&mut self.new);
        }
        let lease = Lease { tokens: grant.tokens, stamp: grant.stamp, until: now + params.lifetime };
        if self.old.tokens == 0 {
            self.old = lease;
        } else {
            // Two are held at most; what a third would add to ends with the earlier.
            let until = if self.new.tokens > 0 { self.new.until } else { lease.until };
            self.new = Lease { tokens: self.new.tokens + lease.tokens, until, ..lease };
        }
        if grant.tokens < want {
            let quarter = Duration::from_micros(params.quota.drain_micros() / 4);
            let pause = (params.share / 2).min(quarter).max(Duration::from_micros(grant.wait_micros));
            self.pause_until = now + pause;
        }
    }

    /// The store did not answer in time, or with an error. What it may have granted is lost to all.
    pub fn failed(&mut self, params: &HolderParams, now: Moment) {
        self.asked = None;
        self.needed = 0;
        self.is_lost = true;
        self.pause_until = now + params.retry_after;
    }

    /// The store was not asked, for too much is asked of it already: nothing is known of it, and who needs tokens is refused
    /// for a moment.
    pub fn put_off(&mut self, params: &HolderParams, now: Moment) {
        self.asked = None;
        self.needed = 0;
        self.pause_until = now + params.share / 2;
    }

    /// Whether the store did not answer when it was asked last.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// What gives back the tokens of the latest lease, if that is worth a message: when the key is dropped, or at the
    /// end.
    pub fn give_back(&mut self, params: &HolderParams, now: Moment) -> Option<Ask> {
        self.expire(now);
        let lease = if self.new.tokens > 0 { self.new } else { self.old };
        (self.old, self.new) = (Lease::default(), Lease::default());
        let age = now.saturating_since(lease.granted(params));
        let worth = lease.tokens > params.quota.tokens_in(age);
        worth.then_some(Ask {
            want: 0,
            least: 0,
            instance: params.instance,
            returned: lease.tokens,
            returned_stamp: lease.stamp,
        })
    }

    fn expire(&mut self, now: Moment) {
        for lease in [&mut self.old, &mut self.new] {
            if lease.tokens > 0 && now >= lease.until {
                lease.tokens = 0;
                // Nobody needed as much.
                self.size = (self.size / 2).max(1);
            }
        }
        if self.old.tokens == 0 && self.new.tokens > 0 {
            self.old = std::mem::take(&mut self.new);
        }
    }

    fn without_store(&mut self, params: &HolderParams, now: Moment, cost: u32) -> Taken {
        let quota = match &params.lost {
            Lost::Open => return Taken::AllowedWithoutStore,
            Lost::Closed => return Taken::Refused { retry_after: self.pause_until.saturating_since(now) },
            Lost::Local(quota) => quota,
        };
        let (decision, next) = quota.decide(self.local, now, cost);
        self.local = next.unwrap_or(self.local);
        match decision.verdict {
            Verdict::Allowed => Taken::AllowedWithoutStore,
            Verdict::Refused { retry_after } => Taken::Refused { retry_after },
            Verdict::Never => Taken::Never,
        }
    }
}

impl Lease {
    fn granted(self, params: &HolderParams) -> Moment {
        Moment::from_nanos(self.until.nanos().saturating_sub(nanos_of(params.lifetime)))
    }
}
