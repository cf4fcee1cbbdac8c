//! Finds out which style suits what is asked for, by small copies of the policy that are tried side by side.
//!
//! No fixed style is right: transactions reuse what came lately and want a large window, scans, loops and searches want next
//! to none. So a shadow for each of a few styles gets a sample of the keys, with as much of the capacity as the sample has of the
//! keys, and holds no values. The style whose shadow had the most hits lately is used. Sampling by key keeps each key's reuse
//! whole, after Waldspurger and others, "Cache modeling and optimization using miniature simulations" (USENIX ATC 2017).

use std::collections::HashMap;

use super::hash::ByHash;
use super::segmented::{Admission, Segmented, Style};
use super::sketch::Sketch;

/// Styles that are tried.
const STYLES: [Style; 6] = [
    style(0.01, Admission::Popular),
    style(0.01, Admission::Twice),
    style(0.1, Admission::Popular),
    style(0.1, Admission::Twice),
    style(0.4, Admission::Popular),
    style(1.0, Admission::Popular),
];
/// With which it begins.
const FIRST: usize = 2;
/// Entries of a shadow, above which half as many keys are sampled. Fewer are noise, more cost time and memory.
const SHADOW_ENTRIES_MAX: usize = 2_048;
/// Requests of the sample between two decisions, for each entry of a shadow.
const REQUESTS_PER_ENTRY: f64 = 1.0;
const REQUESTS_MIN: f64 = 200.0;
/// What remains of a score at each decision.
const MEMORY: f64 = 0.9;
/// A style has to be so much better than the one in use: below that the difference may be chance.
const LEAD: f64 = 1.01;

#[derive(Debug)]
struct Shadow {
    policy: Segmented,
    slots: HashMap<u64, u32, ByHash>,
    score: f64,
    hits: f64,
}

#[derive(Debug)]
pub(crate) struct Tuner {
    shadows: Vec<Shadow>,
    capacity: u64,
    /// Of the hashes, so many bits have to be zero.
    sample_bits: u32,
    requests: f64,
    chosen: usize,
}

impl Tuner {
    pub(crate) fn new(capacity: u64) -> Self {
        let shadow = |style| Shadow {
            policy: Segmented::new(capacity, style),
            slots: HashMap::default(),
            score: 0.0,
            hits: 0.0,
        };
        Self { shadows: STYLES.map(shadow).into(), capacity, sample_bits: 0, requests: 0.0, chosen: FIRST }
    }

    /// The style to use.
    pub(crate) fn style(&self) -> Style {
        STYLES[self.chosen]
    }

    pub(crate) fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
        for shadow in &mut self.shadows {
            shadow.policy.resize(capacity >> self.sample_bits);
        }
    }

    /// Whether a key belongs to the sample.
    pub(crate) fn samples(&self, hash: u64) -> bool {
        is_in_sample(hash, self.sample_bits)
    }

    /// Shows the shadows a request, and says whether the style may have changed.
    pub(crate) fn request(&mut self, hash: u64, weight: u32, sketch: &Sketch) -> bool {
        let mut most = 0;
        for shadow in &mut self.shadows {
            shadow.request(hash, weight, sketch);
            most = most.max(shadow.policy.lists().count());
        }
        self.requests += 1.0;
        if most > SHADOW_ENTRIES_MAX {
            self.sample_less();
        }
        let due = self.requests >= (most as f64 * REQUESTS_PER_ENTRY).max(REQUESTS_MIN);
        if due {
            self.decide();
        }
        due
    }

    fn decide(&mut self) {
        self.requests = 0.0;
        for shadow in &mut self.shadows {
            shadow.score = shadow.score * MEMORY + shadow.hits;
            shadow.hits = 0.0;
        }
        let in_use = self.shadows[self.chosen].score;
        let scores = self.shadows.iter().map(|shadow| shadow.score).enumerate();
        if let Some((best, score)) = scores.max_by(|a, b| a.1.total_cmp(&b.1))
            && score > in_use * LEAD
        {
            self.chosen = best;
        }
    }

    fn sample_less(&mut self) {
        self.sample_bits += 1;
        let (capacity, bits) = (self.capacity >> self.sample_bits, self.sample_bits);
        for shadow in &mut self.shadows {
            let Shadow { policy, slots, .. } = shadow;
            policy.resize(capacity);
            slots.retain(|hash, slot| {
                let stays = is_in_sample(*hash, bits);
                if !stays {
                    policy.remove(*slot);
                }
                stays
            });
        }
    }
}

const fn style(window_share: f64, admission: Admission) -> Style {
    Style { window_share, admission }
}

/// Bits that neither choose a shard nor a place in a table.
fn is_in_sample(hash: u64, bits: u32) -> bool {
    (hash >> 24) & ((1 << bits) - 1) == 0
}

impl Shadow {
    fn request(&mut self, hash: u64, weight: u32, sketch: &Sketch) {
        if let Some(slot) = self.slots.get(&hash) {
            self.policy.hit(*slot);
            self.hits += 1.0;
            return;
        }
        let slot = self.policy.insert(hash, weight);
        self.slots.insert(hash, slot);
        while let Some(victim) = self.policy.evict(sketch) {
            self.slots.remove(&self.policy.lists().hash(victim));
        }
    }
}
