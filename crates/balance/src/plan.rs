//! What picking looks up: built once per change of the candidates, shared by all cores, never changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::candidate::{Availability, CANDIDATES_MAX, Candidate, Rank, TooManyCandidates};
use crate::spill::{self, Capacity};
use crate::tier::Tier;

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn; by smooth weighted round robin when weights differ.
    RoundRobin,
    /// The endpoint with the fewest requests in flight per weight.
    LeastConnections,
    /// At random, by weight.
    Random,
    /// The less loaded of two random endpoints.
    PowerOfTwo,
    /// The cheaper of two random endpoints by peak-sensitive moving average of latency times requests in flight.
    PeakEwma,
    /// Ketama-style consistent hashing.
    Ring,
    /// Maglev consistent hashing.
    Maglev,
}

/// The immutable tables for one set of candidates, built once in the control plane and shared by all cores.
///
/// Candidates with one id are two places that cannot be told apart: [`position`](Self::position) finds the first.
///
/// # Tiers
///
/// Candidates of one [`Rank`] are a tier. The first tier gets 1.4 times its available share, by weight, of the traffic, at
/// most all of it; the rest spills to the next tier by the same rule, and so on. Tiers that together bear less than
/// everything share it in proportion. Backups get nothing until nobody else may be used. A key that is hashed keeps its
/// tier as long as the shares stay, and when one changes, only keys that must move do.
#[derive(Debug)]
pub struct Plan {
    generation: u64,
    algorithm: Algorithm,
    candidates: Vec<Candidate>,
    /// Ids and positions, by id.
    by_id: Vec<(u64, u16)>,
    /// By rank.
    tiers: Vec<Arc<Tier>>,
    ranks: Vec<Rank>,
    places: Vec<Place>,
    /// Shares of the traffic by tier.
    shares: Vec<f64>,
    /// The tier that gets all of the traffic, and its index.
    only: Option<(usize, Arc<Tier>)>,
    /// Where the shares of tiers begin, as parts of 2^64, ascending.
    starts: Vec<(u64, u16)>,
    /// Whether pickers remember loads, and want to be told of them.
    reads_loads: bool,
}

/// Where a candidate is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The index of its tier.
    pub(crate) tier: u16,
    /// Its place among the tier's members; [`NO_SLOT`] if it is none.
    pub(crate) slot: u16,
}

/// The slot of a candidate that may not be picked. No member has it, as positions stay below it.
const NO_SLOT: u16 = u16::MAX;

/// Counts plans, so that a picker knows a new one from the one it has met, even at the same address in memory.
static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Plan {
    /// Builds the tables. A plan without candidates, or with none available, is fine: picks from it give `None`.
    ///
    /// # Errors
    /// More than [`CANDIDATES_MAX`] candidates. None is left out silently.
    pub fn new(algorithm: Algorithm, candidates: Vec<Candidate>) -> Result<Self, TooManyCandidates> {
        Self::with_load_factor(algorithm, None, candidates)
    }

    /// Builds the tables for algorithms that hash to pass over candidates that have more than `load_factor` times their
    /// share of the tier's requests in flight, if there is such a factor; at least 1.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_load_factor(
        algorithm: Algorithm,
        load_factor: Option<f64>,
        mut candidates: Vec<Candidate>,
    ) -> Result<Self, TooManyCandidates> {
        if candidates.len() > CANDIDATES_MAX {
            return Err(TooManyCandidates { count: candidates.len() });
        }
        let mut by_id: Vec<(u64, u16)> =
            candidates.iter().enumerate().map(|(position, candidate)| (candidate.id, position as u16)).collect();
        by_id.sort_unstable();
        let mut ranks: Vec<Rank> = candidates.iter().map(Candidate::rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let tier_of = |candidate: &Candidate| ranks.partition_point(|rank| *rank < candidate.rank()) as u16;
        let mut places: Vec<Place> =
            candidates.iter().map(|candidate| Place { tier: tier_of(candidate), slot: NO_SLOT }).collect();
        let shares = distribute(&mut candidates, &ranks, &places);
        let tier = |&rank: &Rank| Arc::new(Tier::new(algorithm, load_factor, &candidates, rank));
        let tiers: Vec<_> = ranks.iter().map(tier).collect();
        for tier in &tiers {
            tier.members().iter().zip(0..).for_each(|(&position, slot)| places[usize::from(position)].slot = slot);
        }
        let starts = starts(&shares);
        let only = match *starts {
            [(_, tier)] => Some((usize::from(tier), Arc::clone(&tiers[usize::from(tier)]))),
            _ => None,
        };
        let hashes = matches!(algorithm, Algorithm::Ring | Algorithm::Maglev);
        let reads_loads = algorithm == Algorithm::LeastConnections || hashes && load_factor.is_some();
        // Relaxed: the number only has to be unique; whoever gets the plan also gets what it was built from.
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        Ok(Self { generation, algorithm, candidates, by_id, tiers, ranks, places, shares, only, starts, reads_loads })
    }

    /// How it picks.
    #[inline]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The candidates, in the order in which they were given. Positions count from 0.
    #[inline]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Number of candidates, available or not.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether there are no candidates at all.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Where the candidate with this id is, available or not; for sticky sessions and for state kept by position.
    pub fn position(&self, id: u64) -> Option<u16> {
        let at = self.by_id.partition_point(|&(known, _)| known < id);
        self.by_id.get(at).filter(|entry| entry.0 == id).map(|entry| entry.1)
    }

    /// The ranks of the candidates, and the share of the traffic that the tier of each gets.
    pub fn shares(&self) -> impl Iterator<Item = (Rank, f64)> {
        self.ranks.iter().copied().zip(self.shares.iter().copied())
    }

    /// Unique among all plans of this process, and never 0.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    #[inline]
    pub(crate) fn tiers(&self) -> &[Arc<Tier>] {
        &self.tiers
    }

    /// Whether pickers remember loads, and want to be told of them.
    #[inline]
    pub(crate) fn reads_loads(&self) -> bool {
        self.reads_loads
    }

    /// The tier that a candidate is a member of, and its slot there; `None` when it may not be picked.
    #[inline]
    pub(crate) fn place(&self, position: u16) -> Option<(usize, usize)> {
        let place = self.places.get(usize::from(position))?;
        (place.slot != NO_SLOT).then(|| (usize::from(place.tier), usize::from(place.slot)))
    }

    /// Where all candidates are.
    #[inline]
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The tier that gets all of the traffic, and its index; `None` when several get some, or none gets any.
    #[inline]
    pub(crate) fn only_tier(&self) -> Option<&(usize, Arc<Tier>)> {
        self.only.as_ref()
    }

    /// The index of the tier that gets a request, by a number that is spread evenly over 64 bits.
    #[inline]
    pub(crate) fn tier_by_share(&self, number: u64) -> Option<usize> {
        let (&(_, first), others) = self.starts.split_first()?;
        let mut tier = first;
        for &(start, other) in others {
            if start > number {
                break;
            }
            tier = other;
        }
        Some(usize::from(tier))
    }

    /// The index of the tier to pick from after some tries, and the tried candidates that the pick must avoid; some member
    /// of the tier is not among these. `preferred` is the tier that would get the request if nothing had been tried. `None`
    /// when no candidate may take a request.
    pub(crate) fn tier_for<'a>(&self, preferred: Option<usize>, tried: &'a [u16]) -> Option<(usize, &'a [u16])> {
        // Rather an untried backup than a tried first choice; rather any tried one than the one that failed last.
        let last = &tried[tried.len().saturating_sub(1)..];
        [tried, last, &[]].into_iter().find_map(|excluded| {
            let has_other = |tier: &usize| self.tiers[*tier].has_other(excluded);
            let tier = preferred.filter(has_other).or_else(|| (0..self.tiers.len()).find(has_other))?;
            Some((tier, excluded))
        })
    }
}

/// Shares of the traffic by tier. Decides whether suspects are available.
fn distribute(candidates: &mut [Candidate], ranks: &[Rank], places: &[Place]) -> Vec<f64> {
    let mut tiers: Vec<Capacity> =
        ranks.iter().map(|rank| Capacity { backup: rank.backup, ..Capacity::default() }).collect();
    for (candidate, place) in candidates.iter().zip(places) {
        let tier = &mut tiers[usize::from(place.tier)];
        let weight = u64::from(candidate.weight);
        tier.total += weight;
        match candidate.availability {
            Availability::Available => tier.available += weight,
            Availability::Suspect => tier.suspect += weight,
            Availability::Draining | Availability::Unavailable => {}
        }
    }
    let distribution = spill::distribute(&tiers);
    let suspects = if distribution.suspects { Availability::Available } else { Availability::Unavailable };
    for candidate in candidates.iter_mut().filter(|candidate| candidate.availability == Availability::Suspect) {
        candidate.availability = suspects;
    }
    distribution.shares
}

/// Where the shares of all tiers that have one begin, as parts of 2^64.
fn starts(shares: &[f64]) -> Vec<(u64, u16)> {
    let mut start = 0.0;
    let mut starts = Vec::new();
    for (tier, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        // As casts saturate, a start that rounding has put at the end gets the last number at most.
        starts.push(((start * 2_f64.powi(64)) as u64, tier as u16));
        start += share;
    }
    starts
}
