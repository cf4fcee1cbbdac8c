//! Maglev consistent hashing: one table look-up, and shares that are almost exactly even.
//!
//! The rule: every backend has its own permutation of the table's slots. In turns, each takes the first free slot of
//! its permutation until the table is full. A key's hash selects a slot.
//!
//! - With weights, a backend's turns come as often as its weight says: its `k`-th turn is at time `k / weight`, and
//!   turns at one time are taken in the order of the backends. With equal weights that is the paper's order. Everyone
//!   has a first turn before anyone has a second one.
//! - A backend that leaves changes a few slots of others as well; the paper accepts that. While one is only
//!   unavailable, its slots in the unchanged table walk on to the next available one, and nobody else's keys move.
//!
//! Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash::nth;

/// Slots of a plan's table: a prime, a hundred times the number of backends that the paper and Envoy reckon with.
pub const SIZE: usize = 65_537;

/// A slot that nobody owns. No position has this value.
pub(crate) const FREE: u16 = u16::MAX;

/// A backend's order of preference: slots `(offset + n * skip) % size` for `n` from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    /// First slot, below the size.
    pub offset: usize,
    /// Distance of the next, from 1 to the size less 1.
    pub skip: usize,
    /// Share of the turns, above 0.
    pub weight: u32,
}

impl Permutation {
    /// The permutation of the backend with this id. `size` is at least 2.
    pub fn of(id: u64, weight: u32, size: usize) -> Self {
        let (offset, skip) = (nth(id, 0) % size as u64, nth(id, 1) % (size as u64 - 1) + 1);
        Self { offset: offset as usize, skip: skip as usize, weight }
    }
}

/// Fills a table of `size` slots, a prime, with indices into `permutations`. Empty without permutations.
///
/// ```
/// use balance::maglev::{Permutation, populate};
/// // The paper's example, figure 4.
/// let backends = [(3, 4), (0, 2), (3, 1)].map(|(offset, skip)| Permutation { offset, skip, weight: 1 });
/// assert_eq!(populate(7, &backends), [1, 0, 1, 0, 2, 2, 0]);
/// ```
pub fn populate(size: usize, permutations: &[Permutation]) -> Vec<u16> {
    if permutations.is_empty() {
        return Vec::new();
    }
    let mut table = vec![FREE; size];
    let mut next: Vec<usize> = permutations.iter().map(|permutation| permutation.offset).collect();
    let mut turns: BinaryHeap<_> = (0..permutations.len()).map(|backend| Reverse((0_u64, backend, 0_u64))).collect();
    for _ in 0..size {
        let Some(Reverse((_, backend, turn))) = turns.pop() else { break };
        let Permutation { skip, weight, .. } = permutations[backend];
        while table[next[backend]] != FREE {
            next[backend] = (next[backend] + skip) % size;
        }
        table[next[backend]] = backend as u16;
        // 24 fractional bits order any two weights that a configuration can have; turns need no more than 17 bits.
        let time = ((turn + 1) << 40) / u64::from(weight);
        turns.push(Reverse((time, backend, turn + 1)));
    }
    table
}

/// The table of a plan's tier, with unavailable members already walked over.
#[derive(Debug)]
pub(crate) struct Maglev {
    /// Positions in the plan.
    owners: Vec<u16>,
}

impl Maglev {
    /// Builds the table of these members: position, id, weight, and whether it is eligible.
    pub(crate) fn new(members: &[(u16, u64, u32, bool)]) -> Self {
        // By id, so that the order in which a file lists the endpoints has no say.
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by_key(|&(position, id, ..)| (id, position));
        let permutations: Vec<_> = sorted.iter().map(|&(_, id, weight, _)| Permutation::of(id, weight, SIZE)).collect();
        let mut owners = populate(SIZE, &permutations);
        let eligible = |backend: u16| sorted.get(backend as usize).filter(|member| member.3).map(|member| member.0);
        // Backwards, each slot takes over what follows it; the last slots are followed by the first.
        let mut following = owners.iter().find_map(|&backend| eligible(backend)).unwrap_or(FREE);
        for owner in owners.iter_mut().rev() {
            following = eligible(*owner).unwrap_or(following);
            *owner = following;
        }
        Self { owners }
    }

    /// The owner of the key's slot.
    #[inline]
    pub(crate) fn owner(&self, key: u64) -> Option<u16> {
        self.owners.get(crate::hash::scale(key, self.owners.len() as u64) as usize).copied()
    }

    /// All owners by their slots, and the key's slot.
    #[inline]
    pub(crate) fn owners_from(&self, key: u64) -> (&[u16], usize) {
        (&self.owners, crate::hash::scale(key, self.owners.len() as u64) as usize)
    }
}
