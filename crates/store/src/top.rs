//! The keys that are asked for most, from a sample of hits: Space-Saving, after Metwally, Agrawal and El Abbadi, "Efficient
//! computation of frequent and top-k elements in data streams" (ICDT 2005).
//!
//! Each shard keeps a few counters. A key that has none takes over the smallest, with its count, so that a key which is frequent
//! cannot be missed and a rare one may be overestimated. Counts are halved now and then, so that they tell of late hits.

/// Counters of a shard. A key with more than a 64th of a shard's hits has one.
const COUNTERS: usize = 64;
/// Every so many hits one is counted, so that the others pay for a decrement alone.
const SAMPLE: u32 = 16;
/// Counts are halved after so many samples.
const SAMPLES_PER_HALVING: u32 = 1 << 15;
/// Of a key, so many bytes are kept to be shown.
const KEY_BYTES_MAX: usize = 512;

/// A key that is asked for often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopKey {
    /// The key, or its first 512 bytes.
    pub key: Vec<u8>,
    /// About how many hits it had lately; older ones count less.
    pub hits: u64,
    /// Bytes of its body, when it was last counted.
    pub body_bytes: u64,
}

#[derive(Debug)]
struct Counter {
    hash: u64,
    count: u64,
    body_bytes: u64,
    key: Box<[u8]>,
}

#[derive(Debug)]
pub(crate) struct Top {
    counters: Vec<Counter>,
    until_sample: u32,
    samples: u32,
}

impl Top {
    pub(crate) fn new() -> Self {
        Self { counters: Vec::new(), until_sample: SAMPLE, samples: 0 }
    }

    /// Whether this hit is to be counted, by [`Top::count`].
    pub(crate) fn samples(&mut self) -> bool {
        self.until_sample -= 1;
        if self.until_sample == 0 {
            self.until_sample = SAMPLE;
            return true;
        }
        false
    }

    pub(crate) fn count(&mut self, hash: u64, key: &[u8], body_bytes: u64) {
        self.samples += 1;
        if self.samples == SAMPLES_PER_HALVING {
            self.samples = 0;
            self.counters.iter_mut().for_each(|counter| counter.count /= 2);
        }
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.hash == hash) {
            counter.count += 1;
            counter.body_bytes = body_bytes;
            return;
        }
        let key: Box<[u8]> = key[..key.len().min(KEY_BYTES_MAX)].into();
        if self.counters.len() < COUNTERS {
            self.counters.push(Counter { hash, count: 1, body_bytes, key });
        } else if let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            *least = Counter { hash, count: least.count + 1, body_bytes, key };
        }
    }

    /// All that are counted, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = TopKey> + '_ {
        self.counters.iter().map(|counter| TopKey {
            key: counter.key.to_vec(),
            hits: counter.count * u64::from(SAMPLE),
            body_bytes: counter.body_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_keys_are_found_among_many() {
        let mut top = Top::new();
        for round in 0..40_000_u64 {
            let hash = if round % 5 == 0 { 1 } else { 1_000 + round };
            if top.samples() {
                top.count(hash, &hash.to_be_bytes(), 7);
            }
        }
        // Each fifth hit and each sixteenth meet at every eightieth.
        let first = top.keys().max_by_key(|key| key.hits).expect("counted");
        assert_eq!(first.key, 1_u64.to_be_bytes());
        assert!(first.hits >= 7_000 && first.hits < 12_000, "{}", first.hits);
        assert_eq!(top.keys().count(), COUNTERS);
    }
}
