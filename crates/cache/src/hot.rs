//! Which keys are asked for most, by a sample of the lookups, in bounded memory. Pure: chance comes in.
//!
//! The counters are those of Misra and Gries ("Finding repeated elements", 1982): a key that has no counter when all are taken takes
//! one off each, and those at zero are free again. Whatever is asked for more often than once in as many lookups as there are counters
//! is sure to have one.

use std::collections::HashMap;

use crate::sync::Mutex;

/// Counters for each key that is wanted.
const COUNTERS_PER_KEY: usize = 4;
/// One lookup in so many is noted, so that the others take no lock.
const SAMPLED: u32 = 16;

#[derive(Debug)]
pub(crate) struct Hot {
    keys_max: usize,
    counts: Mutex<HashMap<Box<[u8]>, u32>>,
}

impl Hot {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { keys_max, counts: Mutex::default() }
    }

    /// Notes a lookup, or mostly does not.
    #[inline]
    pub(crate) fn note(&self, random: u32, key: impl FnOnce() -> Box<[u8]>) {
        if random.is_multiple_of(SAMPLED) {
            self.count(key());
        }
    }

    fn count(&self, key: Box<[u8]>) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&key) {
            *count += 1;
        } else if counts.len() < self.keys_max * COUNTERS_PER_KEY {
            counts.insert(key, 1);
        } else {
            counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// The keys that were asked for most since the last call, the first one most.
    pub(crate) fn take(&self) -> Vec<Box<[u8]>> {
        let mut counts: Vec<_> = std::mem::take(&mut *self.counts.lock()).into_iter().collect();
        counts.sort_unstable_by(|(left_key, left), (right_key, right)| right.cmp(left).then(left_key.cmp(right_key)));
        counts.truncate(self.keys_max);
        counts.into_iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_most_comes_first_and_is_forgotten_then() {
        let hot = Hot::new(2);
        for (key, times) in [("a", 3), ("b", 5), ("c", 1)] {
            (0..times).for_each(|_| hot.note(SAMPLED, || key.as_bytes().into()));
        }
        hot.note(1, || panic!("it is not sampled"));
        assert_eq!(hot.take(), [Box::from(&b"b"[..]), Box::from(&b"a"[..])]);
        assert!(hot.take().is_empty());
    }

    #[test]
    fn a_flood_of_others_does_not_hide_what_is_hot() {
        let hot = Hot::new(2);
        for number in 0..10_000_u32 {
            hot.note(0, || number.to_le_bytes().into());
            if number % 3 == 0 {
                hot.note(0, || b"hot"[..].into());
            }
            assert!(hot.counts.lock().len() <= 2 * COUNTERS_PER_KEY);
        }
        assert_eq!(&*hot.take()[0], b"hot");
    }
}
