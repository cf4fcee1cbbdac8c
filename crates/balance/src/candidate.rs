//! An endpoint as the picker sees it.

/// What a candidate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Takes requests.
    Available,
    /// Takes requests although it failed, unless a plan has enough others: health is being ignored. A plan's own candidates
    /// are never this, but available or not.
    Suspect,
    /// Takes no new request but those that stick to it.
    Draining,
    /// Takes none.
    Unavailable,
}

/// An endpoint as the picker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Stable identity: a hash of the endpoint's address, the same on every core and after every restart.
    pub id: u64,
    /// Effective weight, slow start applied, in 1/256 of a configured unit of weight. 0 gets no share.
    pub weight: u32,
    /// Lower ones come first; see [`Plan`](crate::Plan) for what the others get.
    pub priority: u8,
    /// In another zone than the gateway, and so after those of its priority that are not.
    pub away: bool,
    /// Used only while no other is available.
    pub backup: bool,
    /// Whether it takes requests now.
    pub availability: Availability,
}

/// [`Candidate::weight`] of an endpoint whose configured weight is 1.
pub const WEIGHT_UNIT: u32 = 256;

/// Most candidates in a plan. Positions are `u16`, and one value stands for "none".
pub const CANDIDATES_MAX: usize = u16::MAX as usize;

/// More candidates than a plan can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} candidates: a plan holds at most {CANDIDATES_MAX}")]
pub struct TooManyCandidates {
    /// How many there were.
    pub count: usize,
}

/// What decides which tier a candidate belongs to. Lower ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Backups come after all others.
    pub backup: bool,
    /// Lower ones come first.
    pub priority: u8,
    /// Within a priority, other zones come after the gateway's own.
    pub away: bool,
}

impl Candidate {
    /// What decides which tier it belongs to.
    pub fn rank(&self) -> Rank {
        Rank { backup: self.backup, priority: self.priority, away: self.away }
    }

    /// Whether it has a share of the traffic at all, were it available. Weight 0 keeps only sticky sessions.
    pub(crate) fn has_share(&self) -> bool {
        self.weight > 0
    }

    /// Whether new requests may go to it.
    pub(crate) fn is_eligible(&self) -> bool {
        self.has_share() && self.availability == Availability::Available
    }
}
