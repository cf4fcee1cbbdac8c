//! In which order marks were purged, so that the oldest can be forgotten.
//!
//! A purge that forgets, or tidies up, looks at a few places and leaves the rest to those that come after it: none takes long, however
//! many marks there are.

use std::collections::VecDeque;

/// Places that a purge looks at to forget the oldest. What lies before that, of marks that were purged again, is no more than there are marks,
/// so that there is at most a part more of them than there may be.
const FORGOTTEN_AT_ONCE: usize = 64;
/// Places that a purge looks at to tidy up: more than it adds.
const TIDIED_AT_ONCE: usize = 4;
/// So many places without a meaning do no harm.
const SPARE: usize = 64;

/// A purge of a mark: its number, and the mark's.
pub(super) type Place = (u64, u64);

/// Marks in the order of their purges. One that was purged again has a later place as well, and the earlier one means nothing.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The oldest, which were looked at and had a meaning then.
    kept: VecDeque<Place>,
    /// The others.
    places: VecDeque<Place>,
    /// Marks that are remembered.
    count: usize,
}

impl Order {
    /// A mark was purged, which was remembered or is new.
    pub(super) fn push(&mut self, place: Place, is_new: bool) {
        self.count += usize::from(is_new);
        self.places.push_back(place);
    }

    /// Forgets some of the oldest, if there are too many. `forget` is told of places, and says whether one was its mark's last.
    pub(super) fn forget(&mut self, marks_max: usize, mut forget: impl FnMut(Place) -> bool) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.count <= marks_max {
                return;
            }
            let Some(place) = self.kept.pop_front().or_else(|| self.places.pop_front()) else { return };
            self.count -= usize::from(forget(place));
        }
    }

    /// Drops places without a meaning, if there are many: a few marks that are purged again and again leave most of theirs so.
    pub(super) fn tidy(&mut self, has_meaning: impl Fn(Place) -> bool) {
        for _ in 0..TIDIED_AT_ONCE {
            if self.kept.len() + self.places.len() <= 2 * self.count + SPARE {
                return;
            }
            match self.places.pop_front() {
                Some(place) if has_meaning(place) => self.kept.push_back(place),
                Some(_) => {}
                // All were looked at, and come in their order again.
                None => std::mem::swap(&mut self.kept, &mut self.places),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use super::*;

    /// What the marks' last numbers are, by which all is decided.
    #[derive(Default)]
    struct Naive {
        last: HashMap<u64, u64>,
        order: Order,
        number: u64,
    }

    impl Naive {
        /// Purges a mark. Says which marks were forgotten, and how many places were looked at.
        fn purge(&mut self, mark: u64, marks_max: usize) -> (Vec<u64>, usize) {
            self.number += 1;
            let is_new = self.last.insert(mark, self.number).is_none();
            self.order.push((self.number, mark), is_new);
            let (looked, mut forgotten) = (Cell::new(0), Vec::new());
            let last = &mut self.last;
            self.order.forget(marks_max, |(number, mark)| {
                looked.set(looked.get() + 1);
                let is_last = last.get(&mark) == Some(&number);
                if is_last {
                    last.remove(&mark);
                    forgotten.push(mark);
                }
                is_last
            });
            self.order.tidy(|(number, mark)| {
                looked.set(looked.get() + 1);
                last.get(&mark) == Some(&number)
            });
            (forgotten, looked.get())
        }
    }

    #[test]
    fn the_oldest_are_forgotten_in_their_order_and_no_purge_looks_at_many() {
        let mut random = fastrand::Rng::with_seed(3);
        for marks_max in [1, 2, 10, 1000] {
            let mut naive = Naive::default();
            for _ in 0..20_000 {
                let mark = random.u64(0..marks_max as u64 * 3 / 2 + 1);
                let before = naive.last.clone();
                let (forgotten, looked) = naive.purge(mark, marks_max);
                assert!(looked <= FORGOTTEN_AT_ONCE + TIDIED_AT_ONCE);
                for gone in forgotten {
                    let older = |other: &u64| before.get(other).is_some_and(|number| *number < before[&gone]);
                    assert!(!naive.last.keys().any(older), "{marks_max}: it was not the oldest");
                }
                assert_eq!(naive.last.len(), naive.order.count);
                assert!(naive.last.len() <= marks_max + marks_max / 16, "{marks_max}: {}", naive.last.len());
                let places = naive.order.kept.len() + naive.order.places.len();
                assert!(places <= 3 * marks_max + 2 * SPARE, "{marks_max}: {places}");
            }
        }
    }

    #[test]
    fn many_that_were_purged_twice_are_passed_over_bit_by_bit() {
        const MARKS: usize = 10_000;
        let mut naive = Naive::default();
        (0..2).for_each(|_| (0..MARKS as u64).for_each(|mark| drop(naive.purge(mark, MARKS))));
        let mut all = Vec::new();
        for mark in 0..MARKS as u64 {
            let (forgotten, looked) = naive.purge(MARKS as u64 + mark, MARKS);
            assert!(looked <= FORGOTTEN_AT_ONCE + TIDIED_AT_ONCE);
            assert!(naive.last.len() <= MARKS + MARKS / FORGOTTEN_AT_ONCE + 1, "{}", naive.last.len());
            all.extend(forgotten);
        }
        assert!(all.is_sorted() && all.len() >= MARKS - 200, "{}", all.len());
    }
}
