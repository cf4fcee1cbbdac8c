//! Sources of endpoints, and what they yield. See the crate for the rule.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where to ask for endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The addresses of a host name.
    Host(String),
    /// The `SRV` records of a name such as `_http._tcp.example.com`, and the addresses of their targets.
    Srv(String),
}

/// An endpoint as a source knows it. What it does not know is for the configuration to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Steps behind the first priority.
    pub priority: u8,
    /// Where it is.
    pub address: IpAddr,
    /// Its port.
    pub port: Option<u16>,
    /// The host name that it has.
    pub host: Option<String>,
    /// Its share of the traffic relative to others of its priority, 1 to 1000.
    pub weight: Option<u16>,
}

/// All that a source knows at a time, in a stable order and without repeats.
pub type Set = Arc<[Member]>;

/// What came of asking a source once.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it went.
    pub outcome: Outcome,
    /// The set that holds from now on; `None` when the last one stays.
    pub set: Option<Set>,
    /// What is wrong, if anything. A set may be there all the same.
    pub trouble: Option<String>,
    /// Time until the source is asked again.
    pub again_in: Duration,
}

/// How asking went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There are endpoints.
    Success,
    /// There are, but part of the question failed, or there are more than are used.
    Partial,
    /// The answer says that the name does not exist.
    NoName,
    /// The answer says that the name has no such records.
    NoRecords,
    /// No server answered in time.
    Timeout,
    /// The servers failed or refused, or could not be understood.
    Failure,
}

impl Outcome {
    /// All, in the order of their metrics.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Partial, Self::NoName, Self::NoRecords, Self::Timeout, Self::Failure];

    /// The outcome as metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::NoName => "no_name",
            Self::NoRecords => "no_records",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

impl Source {
    /// The name that is asked for.
    pub fn name(&self) -> &str {
        match self {
            Self::Host(name) | Self::Srv(name) => name,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
