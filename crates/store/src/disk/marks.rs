//! Which marks the objects of a segment carry, in four bytes each, and as long as the segment is there.
//!
//! "Not there" is always right. "There" is wrong as often as two of so many marks have the same four bytes: once in a thousand
//! questions where all segments together have four million.

use std::collections::HashSet;

use crate::key::Mark;
use crate::sync::RwLock;

#[derive(Debug)]
pub(super) struct Marks(RwLock<Known>);

#[derive(Debug)]
enum Known {
    /// Of a segment that is being written.
    Growing(HashSet<u32>),
    /// In their order.
    Whole(Box<[u32]>),
}

impl Marks {
    pub(super) fn new() -> Self {
        Self(RwLock::new(Known::Growing(HashSet::new())))
    }

    /// Notes marks by their numbers, as they are written. What they are of may be forgotten elsewhere afterwards.
    pub(super) fn note(&self, marks: &[u64]) {
        if let Known::Growing(known) = &mut *self.0.write() {
            known.extend(marks.iter().map(|mark| short(*mark)));
        }
    }

    /// Nothing more will be noted.
    pub(super) fn seal(&self) {
        let mut known = self.0.write();
        if let Known::Growing(growing) = &mut *known {
            let mut all: Box<[u32]> = std::mem::take(growing).into_iter().collect();
            all.sort_unstable();
            *known = Known::Whole(all);
        }
    }

    pub(super) fn may_have(&self, mark: Mark) -> bool {
        let mark = short(mark.number());
        match &*self.0.read() {
            Known::Growing(known) => known.contains(&mark),
            Known::Whole(known) => known.binary_search(&mark).is_ok(),
        }
    }
}

fn short(mark: u64) -> u32 {
    (mark >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_there_before_and_after_the_end() {
        loom::model(|| {
            let marks = Marks::new();
            let [a, b, c] = [b"a", b"b", b"c"].map(|name| Mark::key(name));
            marks.note(&[b.number(), a.number(), b.number()]);
            for _ in 0..2 {
                assert_eq!([a, b, c].map(|mark| marks.may_have(mark)), [true, true, false]);
                marks.seal();
            }
        });
    }
}
