//! Smooth weighted round robin, worked out beforehand.
//!
//! The problem: weights 5, 1, 1 in turn must give a a b a c a a and not a burst of a; nginx finds the next one by a
//! pass over all endpoints, which costs more the more there are. The rule: a plan holds the whole cycle, and a pick
//! reads the next slot.
//!
//! - Weights are divided by their greatest common divisor. A cycle has as many slots as these sum up to.
//! - A cycle longer than 4,096 slots (or 16 per member, if that is more) is shortened: each member gets its share of
//!   that length, rounded, and at least one slot. A share is then off by at most half a slot, or more where it was
//!   below half a slot.
//! - Up to 16 million steps of nginx's method order the slots (tens of milliseconds). Beyond that, which takes
//!   thousands of members of different weights, each member's slots are spread evenly over the cycle by sorting: as
//!   smooth within a slot or two, and done in `n log n`.
//!
//! Source: nginx, `ngx_http_upstream_round_robin.c`.

/// Length of a cycle whose weights do not fit a shorter one.
const SLOTS_MAX: u64 = 4096;

/// Slots per member that a shortened cycle has at least, so that shares stay within a few per cent with many members.
const SLOTS_PER_MEMBER: u64 = 16;

/// Most steps of nginx's method when building a cycle.
const STEPS_MAX: u64 = 1 << 24;

/// The order of one cycle, as positions in the plan.
pub(crate) fn cycle(members: &[u16], weights: &[u32]) -> Vec<u16> {
    let slots = slots_per_cycle(weights);
    let order = if slots.iter().all(|&count| count == 1) {
        (0..members.len()).collect()
    } else if slots.iter().sum::<u64>() * slots.len() as u64 <= STEPS_MAX {
        smooth(&slots)
    } else {
        spread(&slots)
    };
    order.into_iter().map(|slot: usize| members[slot]).collect()
}

fn slots_per_cycle(weights: &[u32]) -> Vec<u64> {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let bound = SLOTS_MAX.max(SLOTS_PER_MEMBER * weights.len() as u64);
    let reduced = reduce(weights.iter().map(|&weight| u64::from(weight)).collect());
    if reduced.iter().sum::<u64>() <= bound {
        return reduced;
    }
    reduce(weights.iter().map(|&weight| ((u64::from(weight) * bound + total / 2) / total).max(1)).collect())
}

fn reduce(mut slots: Vec<u64>) -> Vec<u64> {
    let divisor = slots.iter().fold(0, |a, &b| greatest_common_divisor(a, b)).max(1);
    slots.iter_mut().for_each(|slot| *slot /= divisor);
    slots
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// nginx's method: everyone's credit grows by its weight, the richest is next and pays the total.
fn smooth(slots: &[u64]) -> Vec<usize> {
    let total: i64 = slots.iter().map(|&count| count as i64).sum();
    let mut credits = vec![0; slots.len()];
    (0..total)
        .map(|_| {
            let mut richest = 0;
            for (member, &count) in slots.iter().enumerate() {
                credits[member] += count as i64;
                if credits[member] > credits[richest] {
                    richest = member;
                }
            }
            credits[richest] -= total;
            richest
        })
        .collect()
}

/// Each member's slots at the middles of equal parts of the cycle.
fn spread(slots: &[u64]) -> Vec<usize> {
    let mut places: Vec<(u64, usize)> = slots
        .iter()
        .enumerate()
        .flat_map(|(member, &count)| (0..count).map(move |nth| (((2 * nth + 1) << 32) / count, member)))
        .collect();
    places.sort_unstable();
    places.into_iter().map(|(_, member)| member).collect()
}

/// Where a core is in a service's cycle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    at: usize,
    /// Length of the cycle that `at` refers to; 0 before the first.
    len: usize,
}

impl Cursor {
    /// Goes over to another cycle at the same share of the way, so that frequent changes do not favour its start.
    /// The first cycle starts at `start` of `2^64` of its length.
    pub(crate) fn adopt(&mut self, len: usize, start: u64) {
        if len > 0 && len != self.len {
            // To the nearest slot: rounding down would go back half a slot with every plan.
            let nearest = (self.at * len + self.len / 2).checked_div(self.len).map(|at| at % len);
            self.at = nearest.unwrap_or_else(|| crate::hash::scale(start, len as u64) as usize);
            self.len = len;
        }
    }

    /// The next slot of the cycle.
    #[inline]
    pub(crate) fn next(&mut self, cycle: &[u16]) -> u16 {
        let position = cycle[self.at];
        self.at = if self.at + 1 == cycle.len() { 0 } else { self.at + 1 };
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[u32], expected: &[u64]) {
        assert_eq!(slots_per_cycle(weights), expected, "weights {weights:?}");
    }

    #[test]
    fn slots_follow_the_weights() {
        check(&[5, 1, 1], &[5, 1, 1]);
        check(&[1280, 256, 256], &[5, 1, 1]);
        check(&[7, 7], &[1, 1]);
        check(&[9], &[1]);
        // 4,097 slots are one too many: 4,096 / 4,097 of each, rounded.
        check(&[4095, 1], &[4095, 1]);
        check(&[4000, 97], &[3999, 97]);
        // A share below half a slot still gets one.
        check(&[u32::MAX, 1], &[4096, 1]);
    }

    #[test]
    fn spreading_keeps_counts_and_distances() {
        let slots = [300, 100, 7, 1];
        let order = spread(&slots);
        for (member, &count) in slots.iter().enumerate() {
            let places: Vec<usize> = (0..order.len()).filter(|&at| order[at] == member).collect();
            assert_eq!(places.len() as u64, count);
            let even = order.len() as f64 / count as f64;
            for pair in places.windows(2) {
                assert!(((pair[1] - pair[0]) as f64 - even).abs() <= 4.0, "member {member}: {pair:?}, evenly {even}");
            }
        }
    }

    #[test]
    fn many_members_of_different_weights_are_scheduled_in_time() {
        let weights: Vec<u32> = (0..65_535).map(|member| 256 * (1 + member % 7) + 1).collect();
        let members: Vec<u16> = (0..65_535).collect();
        let started = std::time::Instant::now();
        let cycle = cycle(&members, &weights);
        assert!(cycle.len() <= 65_535 * 17, "{}", cycle.len());
        let mut met = vec![false; 65_535];
        cycle.iter().for_each(|&position| met[position as usize] = true);
        assert!(met.into_iter().all(|met| met));
        // nginx's method would take 70 billion steps, which is minutes; sorting takes a second even without optimising.
        assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    }
}
