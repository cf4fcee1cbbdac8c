//! A retry budget: retries are a bounded share of the requests of the last seconds, plus a floor.
//!
//! The problem: when a service fails, retries multiply the load that made it fail. A bound per request ("at most two
//! retries") still triples it. The rule, after Finagle: over a sliding window, retries may not exceed a share of the
//! requests plus a floor per second, which lets a service with little traffic retry at all.
//!
//! - A retry is counted when it is decided, before its pause, so that retries that still wait cannot add up to more
//!   than the budget (the trap is Envoy's, issue 30205).
//! - Requests cost nothing here. Callers hand in a total that only grows, such as the sum of the cores' counters; the
//!   budget notes what it was at the start of each second. A total that lags behind makes the budget stricter.
//! - The window is a whole number of seconds, rounded up, and the running second besides. Retries that are counted
//!   thus cover the true window entirely: there are never more than the floor of the window plus the share of the
//!   requests that were seen within it and up to two seconds more.
//! - A second in which nobody called is noted late, with the total of the next call, as if its requests had come
//!   before: they are missing from the budget, and none is counted twice. So call [`RetryBudget::observe`] about once
//!   a second. Retries are always counted in their own second.
//!
//! Source: Finagle's `RetryBudget`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest window: an hour. Longer ones are cut to it.
pub const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// Shortest window: a second. Shorter ones are stretched to it.
pub const WINDOW_MIN: Duration = Duration::from_secs(1);

/// A retry budget over a sliding window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetParams {
    /// Retries allowed per request seen in the window (0 to 1); default 0.2. Kept in millionths.
    pub share: f64,
    /// The window, [`WINDOW_MIN`] to [`WINDOW_MAX`]; default 10 s.
    pub window: Duration,
    /// Retries per second allowed however few requests there are; default 10.
    pub floor_per_sec: u32,
}

impl Default for BudgetParams {
    fn default() -> Self {
        Self { share: 0.2, window: Duration::from_secs(10), floor_per_sec: 10 }
    }
}

/// The budget of one service, shared by all cores.
///
/// # Why it never overshoots
///
/// Two words carry the decision: `used`, a counter of all retries ever with a version in its upper bits, and `credit`,
/// everything that does not change within a second. A retry is allowed if `credit + share * requests - retries` has
/// room for one more, and is counted by a compare-exchange of `used` from the value that the decision read. Two cores
/// can thus never count from one value. When a second begins, the new `credit` is stored first and the version of
/// `used` is raised afterwards, so a core that read `used` before fails its exchange and decides again, and one that
/// read it later sees the new `credit`. A decision may see `credit` of the coming version together with `used` of the
/// last one: then it has been made a moment after the second began.
///
/// All sums are in millionths of a retry and modulo 2^64: the share and the floor are exact, and only the difference,
/// which is small, is ever compared.
#[derive(Debug)]
pub struct RetryBudget {
    share_millionths: u64,
    floor_millionths: u64,
    start: Instant,
    /// Retries up to the window's start and the floor, less the share of the requests up to there.
    credit: AtomicU64,
    /// A version of 16 bits above a counter of 48.
    used: AtomicU64,
    /// The second that the last roll was for.
    second: AtomicU64,
    /// Taken once a second, by whoever first notices that one has begun.
    history: Mutex<History>,
}

/// What the totals were when each second of the window began.
#[derive(Debug)]
struct History {
    /// Oldest first; the last is that of the running second.
    marks: VecDeque<Mark>,
    /// Marks kept, the running second's included.
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    requests: u64,
    retries: u64,
}

const MILLION: u64 = 1_000_000;

const COUNTER_BITS: u32 = 48;

/// A million retries a second would fill the counter in nine years.
const COUNTER: u64 = (1 << COUNTER_BITS) - 1;

impl RetryBudget {
    /// A budget that starts at `now`, when `requests_total` requests had been seen. A share outside 0 to 1 and a
    /// window outside its limits count as the nearest permitted value.
    pub fn new(params: BudgetParams, now: Instant, requests_total: u64) -> Self {
        let window = params.window.clamp(WINDOW_MIN, WINDOW_MAX);
        let seconds = window.as_secs() + u64::from(window.subsec_nanos() > 0);
        let first = Mark { requests: requests_total, retries: 0 };
        let budget = Self {
            share_millionths: (params.share.clamp(0.0, 1.0) * MILLION as f64).round() as u64,
            floor_millionths: u64::from(params.floor_per_sec) * window.as_micros() as u64,
            start: now,
            credit: AtomicU64::new(0),
            used: AtomicU64::new(0),
            second: AtomicU64::new(0),
            history: Mutex::new(History { marks: VecDeque::from([first]), len: seconds as usize + 1 }),
        };
        budget.credit.store(budget.credit_from(first), Ordering::Relaxed);
        budget
    }

    /// Notes the total of requests, so that seconds without retries are known as well. Called about once a second.
    pub fn observe(&self, now: Instant, requests_total: u64) {
        let second = now.saturating_duration_since(self.start).as_secs();
        // Acquire pairs with the release in `roll`: who sees the second sees its credit and version.
        if second > self.second.load(Ordering::Acquire) {
            self.roll(self.lock(), second, requests_total);
        }
    }

    /// Takes one retry out of the budget, if there is one. `requests_total` is the present total.
    ///
    /// A retry that is allowed is counted even if it is never sent.
    pub fn try_withdraw(&self, now: Instant, requests_total: u64) -> bool {
        self.observe(now, requests_total);
        let mut used = self.used.load(Ordering::Acquire);
        loop {
            // The credit is read after the version that it must be at least as new as.
            if self.left_millionths(used, requests_total) < MILLION as i64 {
                return false;
            }
            match self.used.compare_exchange_weak(used, used + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(newer) => used = newer,
            }
        }
    }

    /// Retries that are left at this moment, for a metric. Others may be taking them meanwhile.
    pub fn remaining(&self, now: Instant, requests_total: u64) -> u64 {
        self.observe(now, requests_total);
        let left = self.left_millionths(self.used.load(Ordering::Acquire), requests_total);
        left.max(0) as u64 / MILLION
    }

    /// All retries that were allowed so far.
    pub fn withdrawn_total(&self) -> u64 {
        self.used.load(Ordering::Relaxed) & COUNTER
    }

    fn left_millionths(&self, used: u64, requests_total: u64) -> i64 {
        let allowed = self.share_millionths.wrapping_mul(requests_total);
        let credit = self.credit.load(Ordering::Acquire);
        credit.wrapping_add(allowed).wrapping_sub((used & COUNTER).wrapping_mul(MILLION)) as i64
    }

    fn credit_from(&self, start: Mark) -> u64 {
        let retries = start.retries.wrapping_mul(MILLION).wrapping_add(self.floor_millionths);
        retries.wrapping_sub(self.share_millionths.wrapping_mul(start.requests))
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // Nothing in `roll` panics half-way, so what a poisoned lock guards is whole.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a second: marks the totals, also for the seconds that nobody noted, and publishes the new window.
    fn roll(&self, mut history: MutexGuard<'_, History>, second: u64, requests_total: u64) {
        let last = self.second.load(Ordering::Relaxed);
        if second <= last {
            return;
        }
        // No retry was counted in the seconds since the last roll, because counting one would have rolled. Retries
        // counted from here to the raised version are in the last second's count and are taken for the new one's,
        // which keeps them in the window for longer and never shorter.
        let retries = self.used.load(Ordering::Acquire) & COUNTER;
        // Cores sum their counters while these grow, so a total may be older than one seen before.
        let requests = history.marks.back().map_or(requests_total, |mark| mark.requests.max(requests_total));
        let missed = (second - last).min(history.len as u64);
        for _ in 0..missed {
            history.marks.push_back(Mark { requests, retries });
        }
        let surplus = history.marks.len().saturating_sub(history.len);
        history.marks.drain(..surplus);
        if let Some(&start) = history.marks.front() {
            self.credit.store(self.credit_from(start), Ordering::Release);
        }
        self.used.fetch_add(1 << COUNTER_BITS, Ordering::AcqRel);
        self.second.store(second, Ordering::Release);
    }
}
