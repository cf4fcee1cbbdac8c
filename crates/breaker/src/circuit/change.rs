//! What a breaker's state can be, what moves it, and how a move is told.

use std::fmt;
use std::time::Instant;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Every call may pass.
    Closed,
    /// No call may pass before the time given.
    Open {
        /// When a probe may.
        until: Instant,
    },
    /// The time is over, and probes find out how things are.
    HalfOpen,
    /// No call may pass, by somebody's wish.
    ForcedOpen,
    /// Every call may pass and none is counted, by somebody's wish.
    ForcedClosed,
}

/// What somebody wishes a breaker to be, whatever its calls say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Force {
    /// No call may pass.
    Open,
    /// Every call may.
    Closed,
}

/// One move of a breaker, for the log and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it was.
    pub from: State,
    /// Where it is now.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

/// Why a breaker moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Calls failed in a row.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// Too large a share of the window's calls failed.
    FailureRate {
        /// Calls of the window.
        calls: u64,
        /// Those of them that failed.
        failures: u64,
    },
    /// Too large a share of the window's calls was slow.
    SlowRate {
        /// Calls of the window.
        calls: u64,
        /// Those of them that were slow.
        slow: u64,
    },
    /// A probe failed.
    ProbeFailed,
    /// A probe was slow.
    ProbeSlow,
    /// Enough probes succeeded.
    ProbesPassed {
        /// How many.
        successes: u32,
    },
    /// The open time is over.
    TimeOver,
    /// Somebody wishes so.
    Forced,
    /// Nobody wishes anything any more.
    Released,
}

impl State {
    /// A stable word for logs, metrics and interfaces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }

    /// Whether calls pass without further question.
    pub fn is_passable(&self) -> bool {
        matches!(self, Self::Closed | Self::ForcedClosed)
    }
}

impl Force {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Open, Self::Closed];

    /// A stable word for logs and interfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive { failures } => write!(f, "{failures} calls in a row failed"),
            Self::FailureRate { calls, failures } => write!(f, "{failures} of {calls} calls failed"),
            Self::SlowRate { calls, slow } => write!(f, "{slow} of {calls} calls were slow"),
            Self::ProbeFailed => f.write_str("a probe failed"),
            Self::ProbeSlow => f.write_str("a probe was slow"),
            Self::ProbesPassed { successes } => write!(f, "{successes} probes in a row passed"),
            Self::TimeOver => f.write_str("the open time is over"),
            Self::Forced => f.write_str("it was forced"),
            Self::Released => f.write_str("it is no longer forced"),
        }
    }
}
