//! Leases of a shared limit that one core holds: it counts as an instance, so nothing here is locked.
//!
//! A request takes from its key's holder, and goes on. What has to be asked for is asked by a task beside it, while half of
//! the last lease is left; only a key's first request, and what comes when a lease was spent too fast, waits for an answer.
//!
//! **Memory is bounded** by two generations of keys: what is asked for moves to the young one, and when that is full, or
//! long after the last time, the old one goes. What went with it was paid for and is not spent, so the sum of all gateways
//! only becomes smaller.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limit::Moment;
use limit::lease::{Ask, Holder, HolderParams, Lost, Taken};
use limit_redis::{Store, StoreError};
use tokio::sync::Notify;

use super::key::Digest;
use super::shared::{AskResult, LeaseCounts, Shared, StoreState};
use super::{LimitState, Table};
use crate::params::WithoutStore;

/// Keys of a generation at most, whatever the limit says: of each some 250 bytes are kept, and they go all at once.
const KEYS_MAX: usize = 100_000;

/// A key that nobody has asked for since the generation before the last began is forgotten. Leases end long before.
const GENERATION: Duration = Duration::from_secs(30);

/// Leases given back at the end at most; others end by themselves.
const RETURNS_MAX: usize = 1024;

/// Beyond the store's time, for who waits for more than one answer. The ask itself ends with the store's time.
const LATE: Duration = Duration::from_millis(20);

/// A core's connection to a store.
#[derive(Debug)]
pub(crate) struct CoreStore {
    state: Arc<StoreState>,
    core: usize,
    store: Store,
}

/// A core's leases of a limit.
#[derive(Debug)]
pub(crate) struct Leases {
    limit: Arc<LimitState>,
    /// `None` once the limit is not configured any more: what still refers to it, as a WebSocket does to all that held when it
    /// began, must not keep a connection open.
    store: RefCell<Option<Rc<CoreStore>>>,
    timeout: Duration,
    core: usize,
    epoch: Instant,
    params: HolderParams,
    /// What names of buckets begin with.
    prefix: String,
    keys: RefCell<Keys>,
    begun: Cell<Instant>,
}

#[derive(Debug)]
struct Keys {
    young: HashMap<u64, Rc<Held>>,
    old: HashMap<u64, Rc<Held>>,
    max: usize,
}

/// What is held of a key.
#[derive(Debug)]
pub(super) struct Held {
    digest: Digest,
    holder: RefCell<Holder>,
    /// Wakes those who wait for the store's answer.
    answered: Notify,
}

/// Somebody who waits for the store's answer, as the holder counts them: its next ask is for all.
struct Waiting<'h>(&'h Held, u32);

impl Held {
    fn waiting(&self, cost: u32) -> Waiting<'_> {
        self.holder.borrow_mut().waits(cost);
        Waiting(self, cost)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.holder.borrow_mut().left(self.1);
    }
}

impl CoreStore {
    fn open(state: &Arc<StoreState>, core: usize) -> Rc<Self> {
        let heard = Arc::clone(state);
        let store = Store::open(state.params.clone(), move |report| heard.report(core, Some(report)));
        Rc::new(Self { state: Arc::clone(state), core, store })
    }
}

impl Drop for CoreStore {
    fn drop(&mut self) {
        self.state.report(self.core, None);
    }
}

impl Leases {
    /// The leases of a limit, if it is shared, beside others of the core whose connections may serve it as well.
    pub(crate) fn new<'l>(
        limit: &Arc<LimitState>,
        (core, epoch): (usize, Instant),
        instance: u64,
        mut others: impl Iterator<Item = &'l Rc<Self>>,
    ) -> Option<Rc<Self>> {
        let Table::Shared(shared) = &limit.table else { return None };
        let known = others.find_map(|other| other.store().filter(|store| Arc::ptr_eq(&store.state, &shared.store)));
        let store = known.unwrap_or_else(|| CoreStore::open(&shared.store, core));
        let quota = shared.params.quota;
        let lost = match shared.params.without_store {
            WithoutStore::Closed => Lost::Closed,
            // A limit of the gateway's own is all cores' together, and is asked when this one has let a request pass.
            WithoutStore::Open | WithoutStore::Local => Lost::Open,
        };
        let rate = vocab::units::format_rate(quota.rate().amount, quota.rate().per);
        Some(Rc::new(Self {
            limit: Arc::clone(limit),
            timeout: store.state.params.timeout,
            store: RefCell::new(Some(store)),
            core,
            epoch,
            params: HolderParams { lost, ..HolderParams::new(quota, instance) },
            // What a bucket counts means something else under another law.
            prefix: format!("tenfold:limit:{}:{rate}:{}:", limit.name, quota.burst()),
            keys: RefCell::new(Keys::new((limit.keys_max as usize / 2).clamp(1, KEYS_MAX))),
            begun: Cell::new(Instant::now()),
        }))
    }

    /// Whether they are of this limit.
    pub(crate) fn is_of(&self, limit: &Arc<LimitState>) -> bool {
        Arc::ptr_eq(&self.limit, limit)
    }

    fn store(&self) -> Option<Rc<CoreStore>> {
        self.store.borrow().clone()
    }

    fn shared(&self) -> Option<&Shared> {
        match &self.limit.table {
            Table::Shared(shared) => Some(shared),
            _ => None,
        }
    }

    fn count(&self, count: impl FnOnce(&LeaseCounts)) {
        if let Some(shared) = self.shared() {
            count(shared.counts(self.core));
        }
    }

    /// What is held of a key.
    pub(super) fn held(&self, key: u64, digest: impl FnOnce() -> Digest) -> Rc<Held> {
        let mut keys = self.keys.borrow_mut();
        if let Some(held) = keys.young.get(&key) {
            return Rc::clone(held);
        }
        let held = keys.promote(key, digest);
        self.count(|counts| counts.keys.set(keys.len() as i64));
        held
    }

    /// Takes the cost of a request. What there is to ask for is asked beside it.
    pub(super) fn take(self: &Rc<Self>, held: &Rc<Held>, cost: u32, now: Instant) -> Taken {
        let now = Moment::since(self.epoch, now);
        let mut holder = held.holder.borrow_mut();
        let taken = holder.take(&self.params, now, cost);
        if holder.is_lost() && !matches!(taken, Taken::Allowed | Taken::Never) {
            self.count(|counts| counts.without_store.increment());
        }
        if let Some(ask) = holder.ask(&self.params, now) {
            tokio::task::spawn_local(Rc::clone(self).ask(Rc::clone(held), ask));
        }
        taken
    }

    /// Waits for the store's answer, and takes then. It is over within the store's time, or a moment more.
    pub(super) async fn wait(self: &Rc<Self>, held: &Rc<Held>, cost: u32) -> Taken {
        let due = Instant::now() + self.timeout + LATE;
        let _counted = held.waiting(cost);
        loop {
            // Made first, so that no answer is missed.
            let answered = held.answered.notified();
            let taken = self.take(held, cost, Instant::now());
            if taken != Taken::Wait || tokio::time::timeout_at(due.into(), answered).await.is_err() {
                return taken;
            }
        }
    }

    async fn ask(self: Rc<Self>, held: Rc<Held>, ask: Ask) {
        let key = self.name_of(&held);
        let answer = match self.store() {
            Some(store) => store.store.lease(&key, &self.params.quota, &ask).await,
            None => Err(StoreError::Lost),
        };
        let now = Moment::since(self.epoch, Instant::now());
        let (result, tokens) = match &answer {
            Ok(grant) if grant.tokens > 0 => (AskResult::Granted, grant.tokens),
            Ok(_) => (AskResult::Empty, 0),
            Err(StoreError::Busy) => (AskResult::Busy, 0),
            Err(_) => (AskResult::Failed, 0),
        };
        self.count(|counts| counts.ask(result, tokens));
        match answer {
            Ok(grant) => held.holder.borrow_mut().granted(&self.params, now, grant),
            Err(StoreError::Busy) => held.holder.borrow_mut().put_off(&self.params, now),
            Err(error) => {
                tracing::debug!(limit = %self.limit.name, %error, "no lease");
                held.holder.borrow_mut().failed(&self.params, now);
            }
        }
        held.answered.notify_waiters();
    }

    fn name_of(&self, held: &Held) -> String {
        format!("{}{}", self.prefix, held.digest)
    }

    /// Forgets keys that nobody asks for any more.
    pub(crate) fn sweep(&self, now: Instant) {
        if now.saturating_duration_since(self.begun.get()) < GENERATION {
            return;
        }
        self.begun.set(now);
        let mut keys = self.keys.borrow_mut();
        keys.turn();
        self.count(|counts| counts.keys.set(keys.len() as i64));
    }

    /// Gives back what is left, as far as the store has room for it, and lets go of the store: no request that begins from now
    /// on has this limit. It is over within the store's time.
    pub(crate) async fn give_back(self: Rc<Self>) {
        let Some(store) = self.store.take() else { return };
        let now = Moment::since(self.epoch, Instant::now());
        let keys = std::mem::replace(&mut *self.keys.borrow_mut(), Keys::new(1));
        self.count(|counts| counts.keys.set(0));
        let asks = keys.young.into_values().chain(keys.old.into_values()).filter_map(|held| {
            let ask = held.holder.borrow_mut().give_back(&self.params, now)?;
            Some((self.name_of(&held), ask))
        });
        let told = asks.take(RETURNS_MAX).map(|(key, ask)| {
            let (leases, store) = (Rc::clone(&self), Rc::clone(&store));
            tokio::task::spawn_local(async move { store.store.lease(&key, &leases.params.quota, &ask).await })
        });
        for told in told.collect::<Vec<_>>() {
            // What does not arrive ends by itself.
            let _answer = told.await;
        }
    }
}

impl Keys {
    fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), max }
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Takes a key into the young generation.
    fn promote(&mut self, key: u64, digest: impl FnOnce() -> Digest) -> Rc<Held> {
        let fresh = || Rc::new(Held { digest: digest(), holder: RefCell::default(), answered: Notify::new() });
        let held = self.old.remove(&key).unwrap_or_else(fresh);
        if self.young.len() >= self.max {
            self.turn();
        }
        self.young.insert(key, Rc::clone(&held));
        held
    }

    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_asked_for_stay_and_memory_is_bounded() {
        let mut keys = Keys::new(10);
        let digest = || Digest::of(limit::Prefixes::default(), std::iter::empty());
        let favourite = keys.promote(0, digest);
        for key in 1..1_000 {
            keys.promote(key, digest);
            assert!(keys.len() <= 20);
            if !keys.young.contains_key(&0) {
                assert!(Rc::ptr_eq(&favourite, &keys.promote(0, digest)), "{key}");
            }
        }
        keys.turn();
        keys.turn();
        assert_eq!(keys.len(), 0);
    }
}
