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

/// Reads what claims to be an answer about `api.example.com`, for the fuzzer: the first byte chooses what was asked for.
///
/// # Panics
/// When what is believed of it is nothing that a name server can say.
#[doc(hidden)]
pub fn fuzz_answer(input: &[u8]) {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let kind = [wire::Kind::A, wire::Kind::Aaaa, wire::Kind::Srv][usize::from(choice % 3)];
    let question = wire::Question { name: "api.example.com".to_owned(), kind };
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let Ok(reply) = wire::read(bytes, id, &question) else { return };
    let is_host = |host: &str| wire::host_text(host).as_deref() == Some(host);
    match reply.answer {
        wire::Answer::Records(wire::Records::Addresses(addresses), _) => {
            assert!(!addresses.is_empty() && kind != wire::Kind::Srv);
            assert!(addresses.iter().all(|address| address.is_ipv4() == (kind == wire::Kind::A)));
        }
        wire::Answer::Records(wire::Records::Targets(targets, glue), _) => {
            assert!(!targets.is_empty() && kind == wire::Kind::Srv);
            assert!(targets.iter().filter_map(|target| target.host.as_deref()).all(is_host));
            let is_named = |host: &String| targets.iter().any(|target| target.host.as_ref() == Some(host));
            assert!(glue.keys().all(is_named) && glue.values().all(|addresses| !addresses.is_empty()));
        }
        wire::Answer::Alias(to, _) => assert!(is_host(&to)),
        wire::Answer::Nothing { .. } | wire::Answer::Refused(_) => {}
    }
}
