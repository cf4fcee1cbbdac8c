//! What all cores know of limits that gateways share: their stores, and what is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use limit::lease::Taken;
use limit::{Decision, Moment, Verdict};
use telemetry::cell::{Counter, Gauge, Sharded};

use super::Rates;
use crate::params::{LimitLaw, LimitParams, SharedParams, StoreParams, WithoutStore};

/// A limit that gateways share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How.
    pub(super) params: SharedParams,
    /// The store.
    pub(crate) store: Arc<StoreState>,
    /// What decides while the store is lost, if that is a limit of this gateway alone.
    pub(super) local: Option<Rates>,
    counts: Sharded<LeaseCounts>,
}

/// What a core counts of a shared limit.
#[derive(Debug, Default)]
pub(super) struct LeaseCounts {
    asks: [Counter; AskResult::ALL.len()],
    tokens: Counter,
    /// Requests that were decided without the store.
    pub(super) without_store: Counter,
    /// Keys that are held.
    pub(super) keys: Gauge,
}

/// What came of asking a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AskResult {
    Granted,
    /// There was nothing left.
    Empty,
    /// It was not asked, for too much is asked of it already.
    Busy,
    Failed,
}

/// A store of limits, for as long as a limit has it.
#[derive(Debug)]
pub(crate) struct StoreState {
    /// Where it is: without who may use it.
    pub(crate) label: String,
    /// How it is asked.
    pub(super) params: StoreParams,
    /// For each core, one of the levels below.
    cores: Sharded<Gauge>,
    /// How many cores have lost it: the first and the last of them tell the log.
    without: AtomicUsize,
}

/// A core's connection to a store: it has one, has lost it, or nothing is known.
const CONNECTED: i64 = 1;
const LOST: i64 = -1;
const UNKNOWN: i64 = 0;

/// The stores that limits have. Limits that are told the same of their stores share one.
#[derive(Debug, Default)]
pub(crate) struct Stores(Vec<Weak<StoreState>>);

impl AskResult {
    const ALL: [Self; 4] = [Self::Granted, Self::Empty, Self::Busy, Self::Failed];

    /// The result as metrics name it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Empty => "empty",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }
}

impl LeaseCounts {
    /// Counts an ask, and the tokens that it brought.
    pub(super) fn ask(&self, result: AskResult, tokens: u64) {
        self.asks[result as usize].increment();
        self.tokens.add(tokens);
    }
}

impl Stores {
    /// The store of these settings.
    pub(crate) fn of(&mut self, params: &StoreParams, cores: usize) -> Arc<StoreState> {
        self.0.retain(|store| store.strong_count() > 0);
        if let Some(known) = self.0.iter().filter_map(Weak::upgrade).find(|store| store.params == *params) {
            return known;
        }
        let store = Arc::new(StoreState {
            label: params.to_string(),
            params: params.clone(),
            cores: Sharded::new(cores, Gauge::default),
            without: AtomicUsize::new(0),
        });
        self.0.push(Arc::downgrade(&store));
        store
    }
}

/// Stores by where they are, and whether they answer. One that is told different things, as who asks or how long it may
/// take, answers when it does so to all of them.
pub(crate) fn stores_up<'s>(stores: impl Iterator<Item = &'s StoreState>) -> BTreeMap<&'s str, bool> {
    let mut up = BTreeMap::new();
    for store in stores {
        *up.entry(store.label.as_str()).or_insert(true) &= store.is_up();
    }
    up
}

impl StoreState {
    /// A core has it, or has lost it, or gives it up.
    pub(super) fn report(&self, core: usize, report: Option<Result<(), &str>>) {
        let level = self.cores.core(core);
        let before = level.value();
        match report {
            Some(Err(error)) if before != LOST => {
                level.set(LOST);
                if self.without.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(store = self.label, error, "the store of limits is lost; each decides without it");
                }
            }
            Some(Err(_)) => {}
            Some(Ok(())) | None => {
                level.set(if report.is_some() { CONNECTED } else { UNKNOWN });
                if before == LOST && self.without.fetch_sub(1, Ordering::Relaxed) == 1 && report.is_some() {
                    tracing::info!(store = self.label, "the store of limits answers again");
                }
            }
        }
    }

    /// Whether every core that knows anything of it has it.
    pub(crate) fn is_up(&self) -> bool {
        let levels = || self.cores.iter().map(Gauge::value);
        levels().any(|level| level == CONNECTED) && levels().all(|level| level != LOST)
    }
}

impl Shared {
    /// A shared limit of which nothing is spent. `None` when its numbers do not fit, which parameters exclude.
    pub(super) fn new(
        limit: &LimitParams,
        shared: &SharedParams,
        store: Arc<StoreState>,
        cores: usize,
    ) -> Option<Self> {
        let LimitLaw::Rate(law) = &limit.law else { return None };
        let local = match shared.without_store {
            WithoutStore::Local => Some(Rates::new(law.quota(), &limit.key, limit.keys_max)?),
            WithoutStore::Open | WithoutStore::Closed => None,
        };
        Some(Self { params: shared.clone(), store, local, counts: Sharded::new(cores, LeaseCounts::default) })
    }

    /// What a core counts.
    pub(super) fn counts(&self, core: usize) -> &LeaseCounts {
        self.counts.core(core)
    }

    /// Whether a request passes that has taken from its leases, and what its client may be told. Who passes is told nothing:
    /// what is left is spread over the gateways.
    pub(super) fn verdict(&self, taken: Taken, key: u64, now: Moment, cost: u32) -> (bool, Option<Decision>) {
        let verdict = match taken {
            Taken::Allowed => return (true, None),
            Taken::AllowedWithoutStore => {
                return self.local.as_ref().map_or((true, None), |rates| super::known(rates.check(|| key, now, cost)));
            }
            // Who still waits when its time is over has waited behind others.
            Taken::Wait => Verdict::Refused { retry_after: std::time::Duration::ZERO },
            Taken::Refused { retry_after } => Verdict::Refused { retry_after },
            Taken::Never => Verdict::Never,
        };
        let reset = match verdict {
            Verdict::Refused { retry_after } => retry_after,
            Verdict::Allowed | Verdict::Never => std::time::Duration::ZERO,
        };
        let limit = self.params.quota.burst();
        (false, Some(Decision { verdict, limit, remaining: 0, reset, displaced: false }))
    }

    /// How often its store was asked, by result; tokens that it granted; and requests that were decided without it.
    pub(crate) fn totals(&self) -> ([(&'static str, u64); AskResult::ALL.len()], u64, u64) {
        let total = |of: fn(&LeaseCounts) -> &Counter| self.counts.sum(|counts| of(counts).value());
        let asks = |result: AskResult| self.counts.sum(|counts| counts.asks[result as usize].value());
        let asks = AskResult::ALL.map(|result| (result.as_str(), asks(result)));
        (asks, total(|counts| &counts.tokens), total(|counts| &counts.without_store))
    }

    /// Keys that cores hold leases of, or have held lately.
    pub(super) fn keys(&self) -> u64 {
        let keys: i64 = self.counts.iter().map(|counts| counts.keys.value()).sum();
        u64::try_from(keys).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn params(host: &str) -> StoreParams {
        let (user, password, tls) = (None, None, None);
        let timeout = Duration::from_millis(100);
        StoreParams { host: host.to_owned(), port: 6379, database: 0, user, password, tls, timeout }
    }

    #[test]
    fn a_store_is_up_when_all_cores_have_it() {
        let mut stores = Stores::default();
        let store = stores.of(&params("a.example.com"), 2);
        assert!(!store.is_up());
        store.report(0, Some(Ok(())));
        assert!(store.is_up(), "the other core has not asked yet");
        store.report(1, Some(Err("it is gone")));
        store.report(1, Some(Err("it is gone")));
        store.report(0, Some(Err("it is gone")));
        assert!(!store.is_up());
        store.report(0, Some(Ok(())));
        assert!(!store.is_up());
        store.report(1, None);
        assert!(store.is_up(), "who gave it up does not count");
        assert_eq!(store.without.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn stores_of_one_place_are_up_together() {
        let mut stores = Stores::default();
        let (one, other) =
            (params("a.example.com"), StoreParams { user: Some("b".to_owned()), ..params("a.example.com") });
        let (one, other) = (stores.of(&one, 1), stores.of(&other, 1));
        let third = stores.of(&params("c.example.com"), 1);
        let up = |one_up: bool, other_up: bool| {
            for (store, up) in [(&one, one_up), (&other, other_up), (&third, true)] {
                store.report(0, Some(if up { Ok(()) } else { Err("it is gone") }));
            }
            // In whichever order they come.
            let of = |stores: [&Arc<StoreState>; 3]| -> Vec<bool> {
                stores_up(stores.into_iter().map(|store| &**store)).into_values().collect()
            };
            assert_eq!(of([&one, &other, &third]), of([&third, &other, &one]));
            of([&one, &other, &third])
        };
        assert_eq!(up(true, true), [true, true]);
        assert_eq!(up(true, false), [false, true]);
        assert_eq!(up(false, true), [false, true]);
    }

    #[test]
    fn limits_with_the_same_store_share_it() {
        let mut stores = Stores::default();
        let one = stores.of(&params("a.example.com"), 1);
        assert!(Arc::ptr_eq(&one, &stores.of(&params("a.example.com"), 1)));
        let other = stores.of(&params("b.example.com"), 1);
        assert!(!Arc::ptr_eq(&one, &other));
        drop(one);
        stores.of(&params("c.example.com"), 1);
        assert!(stores.0.len() <= 2, "what nobody has is forgotten");
    }
}
