//! A ketama-style hash ring.
//!
//! The problem: a key should stay on its endpoint while others come and go. The rule: each endpoint owns many points
//! on a circle of 64-bit numbers, as many as its weight says, and a key belongs to the next point at or after its hash.
//! An endpoint that leaves gives up its points and no other point moves, so only its own keys move, and they spread over
//! all others.
//!
//! - 160 points per unit of weight, as ketama and nginx have: shares are within about 8 % (one over the square root).
//! - The number of points depends on the endpoint's own weight alone, so that a change of one moves no other's keys.
//!   Above 262,144 points in all, every endpoint's number is halved until they fit; one point is the least.
//! - Points follow from the endpoint's id and not from its place in the list. Should two points meet, the lower id
//!   has it, on every core.
//!
//! Source: Karger et al. 1997; libketama.

use crate::candidate::WEIGHT_UNIT;
use crate::hash::nth;

/// Points of an endpoint of weight 1.
const POINTS_PER_UNIT: u64 = 160;

/// Most points of a ring, as long as each endpoint has one: 2.5 MiB, sorted in some tens of milliseconds.
const POINTS_MAX: u64 = 1 << 18;

/// Points per part of the guide table: as many as two or three comparisons tell apart.
const POINTS_PER_PART: usize = 4;

/// The points of the eligible endpoints, by hash.
///
/// A guide table says for each of many equal parts of the circle where its points begin, which leaves a few to search instead
/// of all.
#[derive(Debug)]
pub(crate) struct Ring {
    hashes: Vec<u64>,
    /// Positions in the plan.
    owners: Vec<u16>,
    /// Where the points of each part begin, and the end.
    guide: Vec<u32>,
    /// Parts are `2^part_bits` wide.
    part_bits: u32,
}

impl Ring {
    /// Draws the points of these endpoints: position, id, weight, and whether it is eligible. Those that are not
    /// own no point but count when points are scarce, so that their return moves no other's keys.
    pub(crate) fn new(members: &[(u16, u64, u32, bool)]) -> Self {
        let halvings = (0..).find(|&halvings| {
            let total: u64 = members.iter().map(|&(_, _, weight, _)| points(weight, halvings)).sum();
            total <= POINTS_MAX.max(members.len() as u64)
        });
        let halvings = halvings.expect("64 halvings leave one point each");
        let mut all: Vec<(u64, u64, u16)> = members
            .iter()
            .filter(|member| member.3)
            .flat_map(|&(position, id, weight, _)| {
                (0..points(weight, halvings)).map(move |index| (nth(id, index), id, position))
            })
            .collect();
        all.sort_unstable();
        all.dedup_by_key(|point| point.0);
        let hashes: Vec<u64> = all.iter().map(|point| point.0).collect();
        let parts = (hashes.len() / POINTS_PER_PART).next_power_of_two().max(2);
        let part_bits = u64::BITS - parts.trailing_zeros();
        let begin = |part: usize| hashes.partition_point(|&hash| hash < (part as u64) << part_bits) as u32;
        let guide = (0..parts).map(begin).chain([hashes.len() as u32]).collect();
        Self { hashes, owners: all.into_iter().map(|point| point.2).collect(), guide, part_bits }
    }

    /// The owner of the key's point.
    #[inline]
    pub(crate) fn owner(&self, key: u64) -> Option<u16> {
        self.owners.get(self.place(key)).or_else(|| self.owners.first()).copied()
    }

    /// All owners by their points, and where the key's is; the end stands for the beginning.
    #[inline]
    pub(crate) fn owners_from(&self, key: u64) -> (&[u16], usize) {
        (&self.owners, self.place(key))
    }

    /// The first point at or after the key; the end if there is none.
    #[inline]
    fn place(&self, key: u64) -> usize {
        let part = (key >> self.part_bits) as usize;
        let (begin, end) = (self.guide[part] as usize, self.guide[part + 1] as usize);
        begin + self.hashes[begin..end].partition_point(|&hash| hash < key)
    }
}

fn points(weight: u32, halvings: u32) -> u64 {
    let all = u64::from(weight) * POINTS_PER_UNIT / u64::from(WEIGHT_UNIT);
    all.checked_shr(halvings).unwrap_or(0).max(1)
}
