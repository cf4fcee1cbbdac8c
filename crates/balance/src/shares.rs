//! Drawing at random by weight, without repetition.
//!
//! The rule: members own consecutive ranges of `0..total`, and a number drawn from it falls into one of them. To leave
//! some members out, a number is drawn from the total without them, and the ranges left out are stepped over. That is
//! exact whatever the weights are, where drawing again until another member comes up may take any number of draws.
//!
//! A guide table (Chen and Asau 1974) says for each of some hundred equal parts of the total where its search may
//! begin and end, which leaves two or three ranges to search instead of all.

use crate::hash::scale;

/// Parts of the total in the guide table, per member: with fewer, more ranges are left to search.
const PARTS_PER_SLOT: u64 = 4;

/// Members' ranges. Slots are positions in the tier's list of members, which ascends by position in the plan.
#[derive(Debug)]
pub(crate) struct Shares {
    /// Where each slot's range starts, and the total at the end.
    starts: Vec<u64>,
    /// For each part of the total, the slot that its start falls into; and the last slot at the end.
    guide: Vec<u16>,
    /// Parts are `2^part_bits` wide.
    part_bits: u32,
}

impl Shares {
    /// Ranges for these weights, each above 0.
    pub(crate) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let mut total = 0;
        let mut starts = vec![0];
        starts.extend(weights.map(|weight| {
            total += u64::from(weight);
            total
        }));
        let slots = starts.len() - 1;
        let part_bits = u64::BITS - (total / (PARTS_PER_SLOT * slots as u64 + 1)).leading_zeros();
        let parts = (total >> part_bits) as usize + 1;
        let slot_at = |part: usize| starts.partition_point(|&start| start <= (part as u64) << part_bits) - 1;
        let last = slots.saturating_sub(1);
        let guide = (0..=parts).map(|part| slot_at(part).min(last) as u16).collect();
        Self { starts, guide, part_bits }
    }

    /// A slot, by weight.
    #[inline]
    pub(crate) fn draw(&self, random: u64) -> usize {
        self.slot_at(scale(random, self.total()))
    }

    /// A slot other than this one, by weight; `None` when there is no other.
    #[inline]
    pub(crate) fn draw_other(&self, random: u64, first: usize) -> Option<usize> {
        let (start, width) = (self.starts[first], self.width(first));
        let left = self.total() - width;
        if left == 0 {
            return None;
        }
        let number = scale(random, left);
        Some(self.slot_at(if number >= start { number + width } else { number }))
    }

    /// A slot other than these, by weight; `None` when there is no other. Slots may be named more than once.
    pub(crate) fn draw_except(&self, random: u64, excluded: &(impl Iterator<Item = usize> + Clone)) -> Option<usize> {
        let mut left = self.total();
        each_ascending(excluded, |slot| left -= self.width(slot));
        if left == 0 {
            return None;
        }
        let mut number = scale(random, left);
        each_ascending(excluded, |slot| {
            if number >= self.starts[slot] {
                number += self.width(slot);
            }
        });
        Some(self.slot_at(number))
    }

    #[inline]
    fn total(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    #[inline]
    fn width(&self, slot: usize) -> u64 {
        self.starts[slot + 1] - self.starts[slot]
    }

    #[inline]
    fn slot_at(&self, number: u64) -> usize {
        let part = (number >> self.part_bits) as usize;
        let (first, last) = (usize::from(self.guide[part]), usize::from(self.guide[part + 1]));
        first + self.starts[first + 1..=last].partition_point(|&start| start <= number)
    }
}

/// Visits each distinct slot once, in order. Quadratic, and without memory of its own: few slots are ever excluded.
fn each_ascending(slots: &(impl Iterator<Item = usize> + Clone), mut visit: impl FnMut(usize)) {
    let mut from = 0;
    while let Some(slot) = slots.clone().filter(|&slot| slot >= from).min() {
        visit(slot);
        from = slot + 1;
    }
}
