//! The candidates of one rank, which share traffic with each other.

use crate::bounded::{Bounded, Hashed};
use crate::candidate::{Candidate, Rank};
use crate::maglev::Maglev;
use crate::plan::Algorithm;
use crate::ring::Ring;
use crate::rotation;
use crate::shares::Shares;

/// Eligible members, and what the algorithm needs to pick one of them.
#[derive(Debug)]
pub(crate) struct Tier {
    /// Positions in the plan, ascending.
    members: Vec<u16>,
    table: Table,
}

/// What an algorithm looks up.
#[derive(Debug)]
pub(crate) enum Table {
    /// Positions in the order of a cycle.
    Cycle(Vec<u16>),
    /// For every algorithm that draws lots.
    Shares(Shares),
    /// Nothing: each core keeps its own tree of loads.
    Least,
    Hashed(Hashed),
    Bounded(Bounded),
}

impl Tier {
    /// The tier of this rank. A load factor counts for algorithms that hash.
    pub(crate) fn new(algorithm: Algorithm, load_factor: Option<f64>, candidates: &[Candidate], rank: Rank) -> Self {
        let in_tier = || candidates.iter().enumerate().filter(move |(_, candidate)| candidate.rank() == rank);
        let members: Vec<u16> =
            in_tier().filter(|(_, candidate)| candidate.is_eligible()).map(|(position, _)| position as u16).collect();
        // Hashed tables know those that are out for the moment, so that nobody else's keys move while they are.
        let with_share = || -> Vec<(u16, u64, u32, bool)> {
            let entry = |(position, candidate): (usize, &Candidate)| {
                (position as u16, candidate.id, candidate.weight, candidate.is_eligible())
            };
            in_tier().filter(|(_, candidate)| candidate.has_share()).map(entry).collect()
        };
        let hashed = |hashed: Hashed, weights: &[u32]| match load_factor {
            Some(factor) => Table::Bounded(Bounded::new(hashed, weights, factor)),
            None => Table::Hashed(hashed),
        };
        let weights: Vec<u32> = members.iter().map(|&position| candidates[usize::from(position)].weight).collect();
        let table = match algorithm {
            Algorithm::RoundRobin => Table::Cycle(rotation::cycle(&members, &weights)),
            Algorithm::LeastConnections => Table::Least,
            Algorithm::Random | Algorithm::PowerOfTwo | Algorithm::PeakEwma => {
                Table::Shares(Shares::new(weights.into_iter()))
            }
            Algorithm::Ring => hashed(Hashed::Ring(Ring::new(&with_share())), &weights),
            Algorithm::Maglev => hashed(Hashed::Maglev(Maglev::new(&with_share())), &weights),
        };
        Self { members, table }
    }

    #[inline]
    pub(crate) fn members(&self) -> &[u16] {
        &self.members
    }

    #[inline]
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Whether a member is not among these positions.
    pub(crate) fn has_other(&self, excluded: &[u16]) -> bool {
        // No more than `excluded.len() + 1` steps: positions are distinct.
        self.members.iter().any(|position| !excluded.contains(position))
    }

    /// The first member from slot `start` onwards that is not among these positions, which leave one. Hardly more
    /// steps than there are excluded positions.
    pub(crate) fn other(&self, start: usize, excluded: &[u16]) -> Option<u16> {
        let (before, after) = self.members.split_at(start);
        after.iter().chain(before).copied().find(|position| !excluded.contains(position))
    }
}
