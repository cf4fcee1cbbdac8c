//! Hit ratios of a stream of keys: the store's policy beside naive models of others.
//!
//! A trace is lines, of which each is a key. Each key counts as one, however large its value may be, and the size is how many a
//! cache holds.
//!
//! ```
//! let mut simulation = store::simulate::Simulation::new(2);
//! for key in ["a", "b", "a", "c", "a"] {
//!     simulation.request(key.as_bytes());
//! }
//! let report = simulation.report();
//! assert_eq!(report.requests, 5);
//! assert_eq!(report.hits.lru, 2);
//! ```

mod arc;
mod lru;
mod s3fifo;

use std::collections::{HashMap, HashSet};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::policy::Policy;
use crate::policy::hash::ByHash;

/// A policy that sees one request after the other.
trait Model {
    /// Whether the key was there. It may be afterwards.
    fn request(&mut self, key: u64) -> bool;
}

/// Hits of each policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// The store's own policy.
    pub tenfold: u64,
    /// Least recently used.
    pub lru: u64,
    /// ARC, by its paper.
    pub arc: u64,
    /// S3-FIFO, by its paper.
    pub s3_fifo: u64,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Keys that were asked for.
    pub requests: u64,
    /// Different ones among them.
    pub keys: u64,
    /// How many were there.
    pub hits: Hits,
    /// The share of the window that the store's policy had at the end.
    pub window_share: f64,
}

/// Policies side by side.
pub struct Simulation {
    own: Own,
    lru: lru::Lru,
    arc: arc::Arc,
    s3_fifo: s3fifo::S3Fifo,
    seen: HashSet<u64, ByHash>,
    report: Report,
}

impl Simulation {
    /// Caches that hold `size` keys each, at least one.
    pub fn new(size: usize) -> Self {
        let size = size.max(1);
        Self {
            own: Own { policy: Policy::new(size as u64), slots: HashMap::default() },
            lru: lru::Lru::new(size),
            arc: arc::Arc::new(size),
            s3_fifo: s3fifo::S3Fifo::new(size),
            seen: HashSet::default(),
            report: Report::default(),
        }
    }

    /// Asks every policy for a key.
    pub fn request(&mut self, key: &[u8]) {
        let mut hasher = SipHasher13::new();
        hasher.write(key);
        let key = hasher.finish();
        self.report.requests += 1;
        self.report.keys += u64::from(self.seen.insert(key));
        let hits = &mut self.report.hits;
        hits.tenfold += u64::from(self.own.request(key));
        hits.lru += u64::from(self.lru.request(key));
        hits.arc += u64::from(self.arc.request(key));
        hits.s3_fifo += u64::from(self.s3_fifo.request(key));
    }

    /// What came of it so far.
    pub fn report(&self) -> Report {
        Report { window_share: self.own.policy.window_share(), ..self.report }
    }
}

/// The policy as a shard of the store uses it, with nothing stored.
struct Own {
    policy: Policy,
    slots: HashMap<u64, u32, ByHash>,
}

impl Model for Own {
    fn request(&mut self, key: u64) -> bool {
        if let Some(slot) = self.slots.get(&key) {
            self.policy.hit(*slot);
            return true;
        }
        let slot = self.policy.insert(key, 1);
        self.slots.insert(key, slot);
        while let Some(victim) = self.policy.evict() {
            self.slots.remove(&self.policy.hash(victim));
        }
        false
    }
}
