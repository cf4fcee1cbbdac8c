//! From a source to its set, by as many questions as that takes.
//!
//! What was answered is remembered for each question by itself, for as long as it is good: addresses that are good for
//! an hour are not asked for again because the records that name them are good for a second. What is no longer good
//! still serves where asking again fails, so that a server which fails for one target, or for IPv6 alone, takes nothing
//! away.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Client, Unanswered};
use crate::params::{Family, ResolverParams};
use crate::set::{Member, Source};
use crate::srv;
use crate::system::{self, System};
use crate::wire::{Answer, Kind, Question, Records, Target};

/// Aliases that are asked for one after another.
const ALIASES_MAX: usize = 8;

/// Targets of one answer that are looked up at once.
const TARGETS_AT_ONCE: usize = 16;

/// For how long `/etc/hosts` is believed.
const HOSTS_GOOD_FOR: Duration = Duration::from_secs(5);

/// What came of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There are endpoints. A part of the question may have failed, or been left out.
    Members { members: Vec<Member>, good_for: Duration, failed: Option<String>, left_out: usize },
    /// There is nothing, which may be believed for so long.
    Nothing { name_exists: bool, good_for: Option<Duration> },
    /// Nobody knows.
    Failed(Unanswered),
}

/// Looks one source up, again and again.
#[derive(Debug)]
pub(crate) struct Lookup {
    client: Arc<Client>,
    params: Arc<ResolverParams>,
    memory: HashMap<Question, Known>,
    /// Counts lookups, so that what none needs any more is forgotten.
    round: u64,
}

#[derive(Clone, Debug)]
struct Known {
    records: Records,
    came: Instant,
    until: Instant,
    round: u64,
}

/// What is known after a question was put.
#[derive(Clone, Debug)]
enum Put {
    Known { records: Records, until: Instant, failed: Option<Unanswered> },
    Nothing { name_exists: bool, good_for: Option<Duration> },
    Failed(Unanswered),
}

/// Addresses of a host name.
enum Addresses {
    Known {
        addresses: Vec<IpAddr>,
        until: Instant,
        failed: Option<Unanswered>,
        /// Whether nobody said any of it this time.
        is_stale: bool,
    },
    Nothing {
        name_exists: bool,
        good_for: Option<Duration>,
    },
    Failed(Unanswered),
}

impl Lookup {
    pub(crate) fn new(client: Arc<Client>, params: Arc<ResolverParams>) -> Self {
        Self { client, params, memory: HashMap::new(), round: 0 }
    }

    /// Looks a source up once.
    pub(crate) async fn run(&mut self, source: &Source) -> Found {
        self.round += 1;
        if let Some(members) = self.own(source).await {
            return members;
        }
        let system = System::load(&self.params).await;
        let mut nothing = Found::Nothing { name_exists: false, good_for: None };
        for name in system.candidates(source.name()) {
            let found = match source {
                Source::Host(_) => self.host(&system, &name).await,
                Source::Srv(_) => self.srv(&system, &name).await,
            };
            // A name that nobody has may be had under the next domain. Where nobody knows, the next one would be a guess.
            let Found::Nothing { name_exists, .. } = found else {
                // After a failure not all questions were put again, and what is known of them may be needed yet.
                if matches!(found, Found::Members { .. }) {
                    self.memory.retain(|_, known| known.round == self.round);
                }
                return found;
            };
            if name_exists || matches!(nothing, Found::Nothing { name_exists: false, good_for: None }) {
                nothing = found;
            }
        }
        nothing
    }

    /// What the machine knows by itself, which it is asked for by the name as it is written.
    async fn own(&self, source: &Source) -> Option<Found> {
        let Source::Host(name) = source else { return None };
        let own = system::hosts(name, self.params.family).await;
        let until = Instant::now() + HOSTS_GOOD_FOR;
        (!own.is_empty()).then(|| self.members(own.into_iter().map(bare).collect(), until, None))
    }

    async fn host(&mut self, system: &System, name: &str) -> Found {
        match self.addresses(system, name).await {
            // Whoever has the last set keeps it.
            Addresses::Known { failed: Some(unanswered), is_stale: true, .. } => Found::Failed(unanswered),
            Addresses::Known { addresses, until, failed, .. } => {
                let failed = failed.map(|failed| failed.text);
                self.members(addresses.into_iter().map(bare).collect(), until, failed)
            }
            Addresses::Nothing { name_exists, good_for } => Found::Nothing { name_exists, good_for },
            Addresses::Failed(unanswered) => Found::Failed(unanswered),
        }
    }

    async fn srv(&mut self, system: &System, name: &str) -> Found {
        let question = Question { name: name.to_owned(), kind: Kind::Srv };
        let mut failed = None;
        let (targets, glue, mut until) = match self.put(system, vec![question]).await.pop() {
            Some(Put::Known { records: Records::Targets(targets, glue), until, failed: None }) => {
                (targets, glue, until)
            }
            Some(Put::Known { failed: Some(unanswered), .. }) => return Found::Failed(unanswered),
            Some(Put::Nothing { name_exists, good_for }) => return Found::Nothing { name_exists, good_for },
            Some(Put::Failed(unanswered)) => return Found::Failed(unanswered),
            Some(Put::Known { .. }) | None => return Found::Nothing { name_exists: true, good_for: None },
        };
        let shares: Vec<(u16, u16)> = targets.iter().map(|target| (target.priority, target.weight)).collect();
        let (hosts, beyond) = self.hosts(&targets);
        // A server may leave out what does not fit beside the records, so that only all kinds of addresses are enough.
        let kinds = self.params.family.kinds();
        let is_whole = |host: &String| {
            let has =
                |kind: &Kind| glue.get(host).is_some_and(|ips| ips.iter().any(|ip| ip.is_ipv4() == (*kind == Kind::A)));
            kinds.iter().all(has)
        };
        let (known, unknown): (Vec<String>, Vec<String>) = hosts.into_iter().partition(is_whole);
        let mut found = self.addresses_of_all(system, unknown, &mut until, &mut failed).await;
        found.extend(known.into_iter().filter_map(|host| Some((host.clone(), glue.get(&host)?.clone()))));
        let members = targets.into_iter().zip(srv::shares(&shares)).flat_map(|(target, share)| {
            let Target { port, host, .. } = target;
            let addresses = host.as_ref().and_then(|host| found.get(host)).cloned().unwrap_or_default();
            addresses.into_iter().filter(|address| self.params.family.includes(*address)).map(move |address| {
                let (priority, weight) = share;
                Member { priority, address, port: Some(port), host: host.clone(), weight: Some(weight) }
            })
        });
        let members: Vec<Member> = members.filter(|member| member.port != Some(0)).collect();
        match failed {
            Some(failed) if members.is_empty() => Found::Failed(failed),
            // Either the service is decidedly not offered, or nobody has the names that it is offered by.
            None if members.is_empty() => Found::Nothing { name_exists: true, good_for: None },
            failed => {
                let mut found = self.members(members, until, failed.map(|failed| failed.text));
                if let Found::Members { left_out, .. } = &mut found {
                    *left_out += beyond;
                }
                found
            }
        }
    }

    /// The hosts of targets, the most important first, and how many there are beyond what would be taken.
    fn hosts(&self, targets: &[Target]) -> (Vec<String>, usize) {
        let mut hosts: Vec<(u16, &String)> =
            targets.iter().filter_map(|target| Some((target.priority, target.host.as_ref()?))).collect();
        hosts.sort_unstable();
        let mut seen = HashSet::new();
        hosts.retain(|(_, host)| seen.insert(*host));
        let max = self.params.addresses_max.get() as usize;
        let beyond = hosts.len().saturating_sub(max);
        (hosts.into_iter().take(max).map(|(_, host)| host.clone()).collect(), beyond)
    }

    /// The addresses of targets, some at a time, and until when all that was found is good.
    async fn addresses_of_all(
        &mut self,
        system: &System,
        hosts: Vec<String>,
        until: &mut Instant,
        failed: &mut Option<Unanswered>,
    ) -> HashMap<String, Vec<IpAddr>> {
        let mut found = HashMap::new();
        for some in hosts.chunks(TARGETS_AT_ONCE) {
            let questions: Vec<Question> = some.iter().flat_map(|host| self.questions(host)).collect();
            let mut answers = self.put(system, questions).await.into_iter();
            for host in some {
                let own: Vec<Put> = answers.by_ref().take(self.params.family.count()).collect();
                match joined(own) {
                    Addresses::Known { addresses, until: good_until, failed: part, .. } => {
                        *until = good_until.min(*until);
                        *failed = failed.take().or(part);
                        found.insert(host.clone(), addresses);
                    }
                    Addresses::Nothing { .. } => {}
                    Addresses::Failed(unanswered) => *failed = failed.take().or(Some(unanswered)),
                }
            }
        }
        found
    }

    async fn addresses(&mut self, system: &System, name: &str) -> Addresses {
        let questions = self.questions(name);
        joined(self.put(system, questions).await)
    }

    fn questions(&self, name: &str) -> Vec<Question> {
        let kinds = self.params.family.kinds();
        kinds.iter().map(|kind| Question { name: name.to_owned(), kind: *kind }).collect()
    }

    /// Puts questions, all at once, but for those whose answers are still good. Answers come in the questions' order.
    async fn put(&mut self, system: &System, questions: Vec<Question>) -> Vec<Put> {
        let now = Instant::now();
        let mut asking = JoinSet::new();
        let mut answers: Vec<Option<Put>> = vec![None; questions.len()];
        for (at, question) in questions.iter().enumerate() {
            if let Some(known) = self.memory.get_mut(question).filter(|known| known.until > now) {
                known.round = self.round;
                answers[at] = Some(Put::Known { records: known.records.clone(), until: known.until, failed: None });
                continue;
            }
            let (client, question, servers) = (Arc::clone(&self.client), question.clone(), system.servers.clone());
            asking.spawn(async move { (at, ask(&client, servers, question).await) });
        }
        while let Some(asked) = asking.join_next().await {
            // A task that panicked has no answer, and is told of as such below.
            let Ok((at, answer)) = asked else { continue };
            answers[at] = Some(self.remember(&questions[at], answer));
        }
        let no_answer = || Put::Failed(Unanswered { is_timeout: false, text: "the question was not put".to_owned() });
        answers.into_iter().map(|answer| answer.unwrap_or_else(no_answer)).collect()
    }

    fn remember(&mut self, question: &Question, answer: Result<Answer, Unanswered>) -> Put {
        match answer {
            Ok(Answer::Records(records, good_for)) => {
                let came = Instant::now();
                let until = came + good_for.max(self.params.ttl_min).min(self.params.ttl_max);
                let known = Known { records: records.clone(), came, until, round: self.round };
                self.memory.insert(question.clone(), known);
                Put::Known { records, until, failed: None }
            }
            Ok(Answer::Nothing { name_exists, good_for }) => {
                self.memory.remove(question);
                Put::Nothing { name_exists, good_for }
            }
            Ok(Answer::Alias(to, _)) => self
                .fallen_back(question, Unanswered { is_timeout: false, text: format!("too many aliases, up to {to}") }),
            Ok(Answer::Refused(text)) => self.fallen_back(question, Unanswered { is_timeout: false, text }),
            Err(unanswered) => self.fallen_back(question, unanswered),
        }
    }

    /// What was known before, in place of what nobody answers now, for as long as that may serve.
    fn fallen_back(&mut self, question: &Question, mut unanswered: Unanswered) -> Put {
        unanswered.text = format!("{} of {}: {}", question.kind.as_str(), question.name, unanswered.text);
        let serves = |known: &&mut Known| self.params.stale_max.is_none_or(|max| known.came.elapsed() < max);
        match self.memory.get_mut(question).filter(serves) {
            None => Put::Failed(unanswered),
            Some(known) => {
                known.round = self.round;
                // It is not good any more, so when it was does not say when to ask again.
                let until = Instant::now() + self.params.ttl_max;
                Put::Known { records: known.records.clone(), until, failed: Some(unanswered) }
            }
        }
    }

    /// A set in a stable order, without repeats and of a bounded size.
    fn members(&self, mut members: Vec<Member>, until: Instant, failed: Option<String>) -> Found {
        members.sort();
        let mut seen = HashSet::new();
        members.retain(|member| seen.insert((member.address, member.port)));
        let max = self.params.addresses_max.get() as usize;
        let left_out = members.len().saturating_sub(max);
        members.truncate(max);
        let good_for = until.saturating_duration_since(Instant::now());
        Found::Members { members, good_for, failed, left_out }
    }
}

/// An endpoint of which only the address is known.
fn bare(address: IpAddr) -> Member {
    Member { priority: 0, address, port: None, host: None, weight: None }
}

/// Asks, and follows aliases that are answered by themselves.
async fn ask(client: &Client, servers: Vec<SocketAddr>, mut question: Question) -> Result<Answer, Unanswered> {
    let mut alias_good_for = Duration::MAX;
    for _ in 0..ALIASES_MAX {
        match client.ask(&servers, &question).await? {
            Answer::Alias(to, good_for) => {
                alias_good_for = alias_good_for.min(good_for);
                question.name = to;
            }
            Answer::Records(records, good_for) => return Ok(Answer::Records(records, good_for.min(alias_good_for))),
            other => return Ok(other),
        }
    }
    Ok(Answer::Alias(question.name, alias_good_for))
}

/// The addresses of both families.
fn joined(answers: Vec<Put>) -> Addresses {
    let (mut all, mut good_until, mut any_failed) = (Vec::new(), None, None);
    let (mut exists, mut believed, mut is_stale) = (false, None, true);
    for answer in answers {
        match answer {
            Put::Known { records: Records::Addresses(addresses), until, failed } => {
                all.extend(addresses);
                is_stale &= failed.is_some();
                good_until = Some(good_until.map_or(until, |known: Instant| known.min(until)));
                any_failed = any_failed.or(failed);
            }
            Put::Known { .. } => {}
            Put::Nothing { name_exists, good_for } => {
                exists |= name_exists;
                // What may come first decides.
                believed = match (believed, good_for) {
                    (Some(one), Some(other)) => Some(std::cmp::min(one, other)),
                    (one, other) => one.or(other),
                };
            }
            Put::Failed(unanswered) => any_failed = any_failed.or(Some(unanswered)),
        }
    }
    match (good_until, any_failed) {
        (Some(until), failed) if !all.is_empty() => Addresses::Known { addresses: all, until, failed, is_stale },
        (_, Some(failed)) => Addresses::Failed(failed),
        _ => Addresses::Nothing { name_exists: exists, good_for: believed },
    }
}

impl Family {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::All => &[Kind::A, Kind::Aaaa],
            Self::Ipv4 => &[Kind::A],
            Self::Ipv6 => &[Kind::Aaaa],
        }
    }

    fn count(self) -> usize {
        self.kinds().len()
    }

    fn includes(self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_nobody_answers_any_more_serves_for_as_long_as_the_settings_say() {
        let question = Question { name: "api.example.com".to_owned(), kind: Kind::Aaaa };
        let silent = || Err(Unanswered { is_timeout: true, text: "nobody answers".to_owned() });
        let records = Records::Addresses(vec![IpAddr::from([10, 0, 0, 1])]);
        for (stale_max, is_kept) in [(None, true), (Some(Duration::from_secs(60)), true), (Some(Duration::ZERO), false)]
        {
            let params = ResolverParams { stale_max, ..ResolverParams::default() };
            let mut lookup = Lookup::new(Arc::new(Client::new(&params)), Arc::new(params));
            lookup.remember(&question, Ok(Answer::Records(records.clone(), Duration::from_secs(1))));
            let put = lookup.remember(&question, silent());
            assert_eq!(matches!(put, Put::Known { .. }), is_kept, "{stale_max:?}: {put:?}");
        }
    }

    #[test]
    fn hosts_of_the_first_priority_are_looked_up_first() {
        let max = std::num::NonZeroU32::new(2).expect("not zero");
        let params = ResolverParams { addresses_max: max, ..ResolverParams::default() };
        let lookup = Lookup::new(Arc::new(Client::new(&params)), Arc::new(params));
        let target =
            |(priority, host): (u16, &str)| Target { priority, weight: 1, port: 80, host: Some(host.to_owned()) };
        let targets = [(1, "a"), (0, "z"), (1, "z"), (1, "b"), (0, "y")].map(target);
        assert_eq!(lookup.hosts(&targets), (vec!["y".to_owned(), "z".to_owned()], 2));
    }
}
