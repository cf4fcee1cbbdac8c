//! What an endpoint's state can be, what moves it, and how a move is told.

use std::fmt;
use std::time::Instant;

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Takes requests. Endpoints start here, also when there are active checks: a service must not refuse requests
    /// because its first check is not back yet.
    Healthy,
    /// Out after failures of real requests, until the time given.
    Ejected {
        /// When its time is over.
        until: Instant,
        /// The rule that took it out.
        cause: Ejection,
    },
    /// Its time is over, and one request may find out how it is. The data path hands out one permit for it, and gives
    /// the permit back if the request ends without an [`Outcome`], say because the client left. Outside panic it takes
    /// no other requests.
    Probing,
    /// Out by active checks, which alone bring it back.
    Unhealthy,
}

/// A rule that takes an endpoint out for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// Failures within a window, after nginx.
    MaxFails,
    /// Failures in a row, after Envoy.
    Consecutive,
    /// A success rate far below that of its peers, after Envoy.
    SuccessRate,
}

/// How a real request to an endpoint ended, as far as that says something about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Success,
    /// It did not, or not well.
    Failure(FailureKind),
}

/// What went wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection, or one that broke before the response's head.
    Connection,
    /// Connecting or the response's head took too long.
    Timeout,
    /// The response was not understood.
    InvalidResponse,
    /// A status that counts as a failure.
    Status(u16),
}

/// One move of one endpoint, for the log, metrics, and the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The endpoint.
    pub id: u64,
    /// Where it was.
    pub from: State,
    /// Where it is now.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

/// Why an endpoint moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// As many active checks failed in a row as `fall` says.
    ChecksFailed {
        /// How many.
        failures: u32,
        /// What the last one said.
        reason: String,
    },
    /// As many active checks succeeded in a row as `rise` says.
    ChecksPassed {
        /// How many.
        successes: u32,
    },
    /// An active check of an ejected or probing endpoint succeeded.
    CheckPassed,
    /// Requests failed within the window of `fail_timeout`.
    MaxFails {
        /// How many.
        failures: u32,
        /// How the last one failed.
        last: FailureKind,
    },
    /// Requests failed in a row.
    ConsecutiveFailures {
        /// How many.
        failures: u32,
        /// How the last one failed.
        last: FailureKind,
    },
    /// Many more requests failed within an interval than at its peers.
    SuccessRate {
        /// How many there were.
        requests: u64,
        /// How many of them failed.
        failures: u64,
        /// The mean of all success rates, in thousandths.
        mean_permille: u32,
    },
    /// The time of the ejection is over.
    TimeOver,
    /// A request to a probing endpoint succeeded.
    ProbePassed,
    /// A request to a probing endpoint failed.
    ProbeFailed {
        /// How.
        last: FailureKind,
    },
    /// A request that it got because nobody else was left succeeded.
    RequestPassed,
    /// Another endpoint succeeded after all had been out, so this one may try as well.
    OtherRevived,
    /// Endpoints have gone, and with those that are left the rule permits fewer ejections.
    FewerEndpoints,
    /// The rule or the checks that took it out are no longer wanted.
    RuleRemoved,
}

impl State {
    /// A stable word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Ejected { .. } => "ejected",
            Self::Probing => "probing",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("connection failed"),
            Self::Timeout => f.write_str("timed out"),
            Self::InvalidResponse => f.write_str("invalid response"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChecksFailed { failures, reason } => write!(f, "{failures} checks in a row failed: {reason}"),
            Self::ChecksPassed { successes } => write!(f, "{successes} checks in a row passed"),
            Self::CheckPassed => f.write_str("a check passed"),
            Self::MaxFails { failures, last } => write!(f, "{failures} requests failed within fail_timeout: {last}"),
            Self::ConsecutiveFailures { failures, last } => write!(f, "{failures} requests in a row failed: {last}"),
            Self::SuccessRate { requests, failures, mean_permille } => {
                let (percent, tenths) = (mean_permille / 10, mean_permille % 10);
                write!(f, "{failures} of {requests} requests failed, while {percent}.{tenths}% succeed in the mean")
            }
            Self::TimeOver => f.write_str("the ejection is over"),
            Self::ProbePassed => f.write_str("the probe passed"),
            Self::ProbeFailed { last } => write!(f, "the probe failed: {last}"),
            Self::RequestPassed => f.write_str("a request passed while no endpoint was left"),
            Self::OtherRevived => f.write_str("another endpoint came back after all had been out"),
            Self::FewerEndpoints => f.write_str("too few endpoints are left to keep it out"),
            Self::RuleRemoved => f.write_str("the rule that took it out was removed"),
        }
    }
}
