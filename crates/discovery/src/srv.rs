//! Priorities and weights of `SRV` records (RFC 2782), as endpoints have them.
//!
//! - Priorities are ranks: the lowest is the first tier, whatever its number. Beyond the sixteenth all are one tier.
//! - Weights are relative within a priority. They stay as they are if they can, so that they are recognised; larger ones
//!   are divided so that the largest is 1000.
//! - Weight 0 beside others asks for "a very small chance": one against a thousand for the heaviest. Where all have
//!   weight 0, all are equal.

/// Lowest tier.
const RANK_MAX: u8 = 15;

/// Largest weight of an endpoint.
const WEIGHT_MAX: u32 = 1000;

/// Ranks and weights of records, given their priorities and weights.
pub(crate) fn shares(records: &[(u16, u16)]) -> Vec<(u8, u16)> {
    let mut priorities: Vec<u16> = records.iter().map(|&(priority, _)| priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let scales: Vec<Scale> = priorities.iter().map(|priority| Scale::of(*priority, records)).collect();
    let share = |&(priority, weight): &(u16, u16)| {
        let rank = priorities.partition_point(|other| *other < priority);
        let rank_shown = u8::try_from(rank).unwrap_or(RANK_MAX).min(RANK_MAX);
        (rank_shown, scales.get(rank).map_or(1, |scale| scale.apply(weight)))
    };
    records.iter().map(share).collect()
}

/// What weights of a priority are multiplied by.
struct Scale {
    by: u32,
    over: u32,
}

impl Scale {
    fn of(priority: u16, records: &[(u16, u16)]) -> Self {
        let weights = || records.iter().filter(|(other, _)| *other == priority).map(|&(_, weight)| u32::from(weight));
        let (max, has_zero) = (weights().max().unwrap_or(0), weights().any(|weight| weight == 0));
        let is_kept = max == 0 || (max <= WEIGHT_MAX && !has_zero);
        if is_kept { Self { by: 1, over: 1 } } else { Self { by: WEIGHT_MAX, over: max } }
    }

    fn apply(&self, weight: u16) -> u16 {
        let scaled = u32::from(weight) * self.by / self.over;
        u16::try_from(scaled.clamp(1, WEIGHT_MAX)).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_become_tiers_and_shares() {
        let check = |records: &[(u16, u16)], expected: &[(u8, u16)]| assert_eq!(shares(records), expected);
        check(&[], &[]);
        check(&[(10, 3), (20, 0), (10, 1)], &[(0, 3), (1, 1), (0, 1)]);
        check(&[(0, 0), (0, 0)], &[(0, 1), (0, 1)]);
        check(&[(0, 0), (0, 10), (0, 20)], &[(0, 1), (0, 500), (0, 1000)]);
        check(&[(5, 65_535), (5, 1)], &[(0, 1000), (0, 1)]);
        check(&[(5, 1000), (7, 2000), (7, 1000)], &[(0, 1000), (1, 1000), (1, 500)]);
    }

    proptest! {
        #[test]
        fn order_is_kept(records in proptest::collection::vec((0_u16..40, 0_u16..), 0..40)) {
            let shares = shares(&records);
            prop_assert_eq!(shares.len(), records.len());
            for (one, a) in records.iter().zip(&shares) {
                prop_assert!(a.0 <= RANK_MAX && (1..=1000).contains(&a.1));
                for (other, b) in records.iter().zip(&shares) {
                    prop_assert!(one.0 > other.0 || a.0 <= b.0);
                    prop_assert!(one.0 != other.0 || one.1 > other.1 || a.1 <= b.1);
                }
            }
        }
    }
}
