//! Where endpoints are, found by others than the configuration: name servers, asked again and again.
//!
//! **The seam.** A source of endpoints is a task that sends whole sets. [`Set`] is what it knows: for each [`Member`] an
//! address, and whatever else the source says of it. What it does not say is what the configuration says. Nobody who
//! takes sets knows where they come from, and a set is never a difference, so that one which is lost or doubled does no
//! harm. DNS is the one such source now; another sends the same [`Report`]s.
//!
//! **The rule.** An answer is good for as long as its records say. What fails changes nothing: the last set stays, and is
//! asked for again soon. Only when the settings say so does an empty answer, or too long a silence, leave nobody.
//!
//! - `set`: sources, and what they yield;
//! - `schedule`: when to ask again, and whether the last set stays: pure;
//! - `srv`: priorities and weights of `SRV` records: pure;
//! - `wire`: questions and answers as bytes (RFC 1035, 2181, 2308, 2782, 6891): pure;
//! - `system`: `/etc/resolv.conf`, `/etc/hosts`, search domains;
//! - `client`: asks name servers over UDP and TCP;
//! - `lookup`: from a source to its set, by as many questions as that takes;
//! - `watch`: the task.

mod client;
mod lookup;
mod params;
mod schedule;
mod set;
mod srv;
mod system;
mod watch;
mod wire;

pub use params::{Family, ResolverParams, WhenEmpty};
pub use set::{Member, Outcome, Report, Set, Source};
pub use watch::{Resolver, Watch};
