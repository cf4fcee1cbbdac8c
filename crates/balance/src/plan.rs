//! What picking looks up: built once per change of the candidates, shared by all cores, never changed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::candidate::{CANDIDATES_MAX, Candidate, TooManyCandidates};
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
#[derive(Debug)]
pub struct Plan {
    generation: u64,
    algorithm: Algorithm,
    candidates: Vec<Candidate>,
    /// Ids and positions, by id.
    by_id: Vec<(u64, u16)>,
    /// The first choice, and the backups.
    tiers: [Tier; 2],
    /// The first tier with members.
    active: Option<usize>,
}

/// Counts plans, so that a picker knows a new one from the one it has met, even at the same address in memory.
static GENERATION: AtomicU64 = AtomicU64::new(1);

impl Plan {
    /// Builds the tables. A plan without candidates, or with none available, is fine: picks from it give `None`.
    ///
    /// # Errors
    /// More than [`CANDIDATES_MAX`] candidates. None is left out silently.
    pub fn new(algorithm: Algorithm, candidates: Vec<Candidate>) -> Result<Self, TooManyCandidates> {
        if candidates.len() > CANDIDATES_MAX {
            return Err(TooManyCandidates { count: candidates.len() });
        }
        let mut by_id: Vec<(u64, u16)> =
            candidates.iter().enumerate().map(|(position, candidate)| (candidate.id, position as u16)).collect();
        by_id.sort_unstable();
        let tiers = [false, true].map(|backup| Tier::new(algorithm, &candidates, backup));
        let active = tiers.iter().position(|tier| !tier.members().is_empty());
        // Relaxed: the number only has to be unique; whoever gets the plan also gets what it was built from.
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        Ok(Self { generation, algorithm, candidates, by_id, tiers, active })
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

    /// Unique among all plans of this process, and never 0.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    #[inline]
    pub(crate) fn tiers(&self) -> &[Tier; 2] {
        &self.tiers
    }

    /// The index of the tier to pick from when nothing was tried yet.
    #[inline]
    pub(crate) fn active_tier(&self) -> Option<usize> {
        self.active
    }

    /// The index of the tier to pick from after some tries, and the tried candidates that the pick must avoid; some member of the tier
    /// is not among these. `None` when no candidate may take a request.
    pub(crate) fn tier_for<'a>(&self, tried: &'a [u16]) -> Option<(usize, &'a [u16])> {
        // Rather an untried backup than a tried first choice; rather any tried one than the one that failed last.
        let last = &tried[tried.len().saturating_sub(1)..];
        [tried, last, &[]].into_iter().find_map(|excluded| {
            let tier = self.tiers.iter().position(|tier| tier.has_other(excluded))?;
            Some((tier, excluded))
        })
    }
}
