//! How often keys were asked for lately, in four bits each: a count-min sketch whose counts are halved now and then.
//!
//! After Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy" (2017), with the four counters
//! of a key in one cache line. It may take a key for more popular than it is, when others share its counters, and never for
//! less, but for what halving forgot.

/// Words of a block: one cache line, of which a key has two words for each of its four counters to choose from.
const BLOCK_WORDS: usize = 8;
/// Counts are halved after so many requests for each entry that the cache holds: what the paper found to keep up with change
/// without forgetting what is popular.
const REQUESTS_PER_ENTRY: u64 = 10;
/// Every counter but its highest bit, of all sixteen in a word, when the word was shifted by one.
const HALVES: u64 = 0x7777_7777_7777_7777;

#[derive(Debug)]
pub(crate) struct Sketch {
    words: Vec<u64>,
    /// Increments since the counts were halved.
    added: u64,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { words: vec![0; BLOCK_WORDS], added: 0 }
    }

    /// Grows to sixteen counters for each of so many entries. What was counted is kept: each half of the larger table begins
    /// as a copy of the smaller one.
    pub(crate) fn make_room(&mut self, entries: usize) {
        while self.words.len() < entries {
            self.words.extend_from_within(..);
        }
    }

    /// Counts a request.
    pub(crate) fn add(&mut self, hash: u64) {
        let mut grew = false;
        for (word, shift) in self.places(hash) {
            let count = (self.words[word] >> shift) & 15;
            if count < 15 {
                self.words[word] += 1 << shift;
                grew = true;
            }
        }
        self.added += u64::from(grew);
        if self.added >= self.words.len() as u64 * REQUESTS_PER_ENTRY {
            self.halve();
        }
    }

    /// How often a key was asked for, up to 15.
    pub(crate) fn estimate(&self, hash: u64) -> u64 {
        let counts = self.places(hash).map(|(word, shift)| (self.words[word] >> shift) & 15);
        counts.into_iter().min().unwrap_or_default()
    }

    fn halve(&mut self) {
        for word in &mut self.words {
            *word = (*word >> 1) & HALVES;
        }
        self.added /= 2;
    }

    /// The word of each of a key's counters, and where in it the counter begins.
    fn places(&self, hash: u64) -> [(usize, u32); 4] {
        let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let block = (mixed >> 32) as usize & (self.words.len() / BLOCK_WORDS - 1);
        std::array::from_fn(|row| {
            let bits = (mixed >> (row * 8)) as usize;
            (block * BLOCK_WORDS + row * 2 + (bits & 1), ((bits >> 1) & 15) as u32 * 4)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_up_to_fifteen_and_halved_in_time() {
        let mut sketch = Sketch::new();
        sketch.make_room(64);
        for _ in 0..20 {
            sketch.add(7);
        }
        assert_eq!(sketch.estimate(7), 15);
        sketch.make_room(256);
        assert_eq!((sketch.estimate(7), sketch.words.len()), (15, 256), "growing forgets nothing");
        for other in 0..3_000 {
            sketch.add(1_000 + other);
        }
        assert!(sketch.estimate(7) < 15, "old counts fade");
    }

    #[test]
    fn no_key_is_counted_less_than_it_was_seen() {
        let mut sketch = Sketch::new();
        sketch.make_room(1024);
        for key in 0..500_u64 {
            for _ in 0..=key % 5 {
                sketch.add(key.wrapping_mul(0xdead_beef_1234_5677));
            }
        }
        for key in 0..500_u64 {
            assert!(sketch.estimate(key.wrapping_mul(0xdead_beef_1234_5677)) > key % 5, "{key}");
        }
    }
}
