//! What a limit says to a request.

use std::time::Duration;

/// Whether a request passes, and what its sender may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request passes.
    pub verdict: Verdict,
    /// The most that could ever be spent at once, in the unit of costs.
    pub limit: u32,
    /// What could be spent now, after this request.
    pub remaining: u32,
    /// Until everything could be spent again if nothing more came.
    pub reset: Duration,
    /// The key took the place of another one that was still in debt, and its debt with it: the table is too small for
    /// what comes. A caller counts these.
    pub displaced: bool,
}

/// Whether a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes and has been paid for.
    Allowed,
    /// It is refused and has cost nothing. After this time it would pass if nothing else came.
    Refused {
        /// Time to wait, at most two nanoseconds more than needed.
        retry_after: Duration,
    },
    /// It costs more than could ever be spent at once, so it is refused and waiting does not help.
    Never,
}

impl Decision {
    /// Whether the request passes.
    #[inline]
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }

    /// How long a refused request should wait, if waiting helps.
    #[inline]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.verdict {
            Verdict::Refused { retry_after } => Some(retry_after),
            Verdict::Allowed | Verdict::Never => None,
        }
    }
}
