//! Questions to name servers and their answers, as bytes.
//!
//! The `domain` crate reads and writes messages; here is what of an answer is believed:
//!
//! - It has our id, is an answer, and repeats our question. Anything else is a stranger's, and is passed over.
//! - Records are those of the name that the aliases lead to, which may be asked for by themselves when the answer ends
//!   with an alias. An answer is good for as long as the shortest-lived record on the way to it, aliases among them.
//! - A time to live with its highest bit set counts as zero (RFC 2181, section 8).
//! - That there is nothing holds for the lesser of the `SOA`'s time to live and its minimum (RFC 2308, section 5). A
//!   server that refers us to others does not say that there is nothing: it does not know.
//! - Addresses beside `SRV` records are believed as far as they are for targets of those records: they come from the same
//!   server that would be asked for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, ParsedName, ToName, Ttl};
use domain::rdata::{A, Aaaa, Cname, Soa, Srv};

/// What a server may send over UDP: what passes through nearly every network without being cut into pieces.
pub(crate) const UDP_BYTES: u16 = 1232;

/// Longest chain of aliases within an answer. Chains in use have three or four links.
const ALIASES_MAX: usize = 16;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Lower case, without a dot at the end.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    A,
    Aaaa,
    Srv,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Whether there is more, by TCP.
    pub(crate) is_truncated: bool,
    pub(crate) answer: Answer,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There are records, good for so long.
    Records(Records, Duration),
    /// The name is an alias, good for so long, of another one that has to be asked for.
    Alias(String, Duration),
    /// There is nothing, which may be believed for so long, if that is said.
    Nothing { name_exists: bool, good_for: Option<Duration> },
    /// The server does not answer the question, for this reason.
    Refused(String),
}

/// Records of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    Addresses(Vec<IpAddr>),
    Targets(Vec<Target>, Glue),
}

/// Addresses that came with `SRV` records, by host name.
pub(crate) type Glue = HashMap<String, Vec<IpAddr>>;

/// An `SRV` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    /// A host name; `None` for the root, which says that the service is not offered, and for what is no host name.
    pub(crate) host: Option<String>,
}

/// Why bytes are not an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// They are not meant for this question.
    Stranger,
    /// They are, but cannot be read.
    Malformed,
}

/// A record as it stands in a section.
struct Found<'m> {
    owner: ParsedName<&'m [u8]>,
    good_for: Duration,
    data: Data<'m>,
}

enum Data<'m> {
    Alias(ParsedName<&'m [u8]>),
    Address(IpAddr),
    Target(Target),
}

impl Kind {
    fn rtype(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Srv => Rtype::SRV,
        }
    }

    /// The kind as it is called.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        }
    }
}

/// Writes a question; `None` for a name that none can be about. With `is_extended`, answers over UDP may have more than
/// 512 bytes (RFC 6891).
pub(crate) fn write(id: u16, question: &Question, is_extended: bool) -> Option<Vec<u8>> {
    let name: Name<Vec<u8>> = Name::vec_from_str(&question.name).ok()?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((&name, question.kind.rtype())).ok()?;
    if !is_extended {
        return Some(builder.finish());
    }
    let mut builder = builder.additional();
    let with_size = builder.opt(|opt| {
        opt.set_udp_payload_size(UDP_BYTES);
        Ok(())
    });
    with_size.ok()?;
    Some(builder.finish())
}

/// Reads an answer to a question.
pub(crate) fn read(bytes: &[u8], id: u16, question: &Question) -> Result<Reply, Unfit> {
    let message = Message::from_slice(bytes).map_err(|_| Unfit::Stranger)?;
    let header = message.header();
    if header.id() != id || !header.qr() {
        return Err(Unfit::Stranger);
    }
    let code = header.rcode();
    let is_answer = code == Rcode::NOERROR || code == Rcode::NXDOMAIN;
    let name: Name<Vec<u8>> = Name::vec_from_str(&question.name).map_err(|_| Unfit::Malformed)?;
    match message.sole_question() {
        Ok(asked) if asked.qtype() == question.kind.rtype() && asked.qname() == &name => {}
        // Whoever cannot read a question does not repeat it.
        Err(_) if !is_answer => {}
        _ => return Err(Unfit::Stranger),
    }
    if !is_answer {
        return Ok(Reply { is_truncated: false, answer: Answer::Refused(code.to_string()) });
    }
    if header.tc() {
        // Whatever is there is not all, and may end within a record.
        return Ok(Reply { is_truncated: true, answer: Answer::Refused("a truncated answer".to_owned()) });
    }
    let answer = believed(message, &name, question.kind).map_err(|_| Unfit::Malformed)?;
    Ok(Reply { is_truncated: false, answer })
}

/// Something in a message that cannot be read.
struct Broken;

impl From<domain::base::wire::ParseError> for Broken {
    fn from(_: domain::base::wire::ParseError) -> Self {
        Self
    }
}

fn believed(message: &Message<[u8]>, asked: &Name<Vec<u8>>, kind: Kind) -> Result<Answer, Broken> {
    let found = records(message)?;
    let (mut name, mut good_for, mut links) = (asked.clone(), Duration::MAX, 0);
    while let Some((to, alias)) = found.iter().find_map(|record| match &record.data {
        Data::Alias(to) if record.owner == name => Some((to, record)),
        _ => None,
    }) {
        links += 1;
        if links > ALIASES_MAX {
            return Ok(Answer::Refused("aliases that go in a circle".to_owned()));
        }
        (name, good_for) = (to.to_vec(), good_for.min(alias.good_for));
    }
    let own = found.iter().filter(|record| record.owner == name);
    let wanted: Vec<&Found<'_>> = own.filter(|record| record.data.is_of(kind)).collect();
    if !wanted.is_empty() {
        let good_for = wanted.iter().map(|record| record.good_for).fold(good_for, Duration::min);
        let (records, glue_good_for) = gather(message, &wanted);
        return Ok(Answer::Records(records, good_for.min(glue_good_for)));
    }
    if message.header().rcode() == Rcode::NOERROR && links > 0 {
        return Ok(match host_text(&name.to_string()) {
            Some(to) => Answer::Alias(to, good_for),
            None => Answer::Refused("an alias of what is no host name".to_owned()),
        });
    }
    nothing(message)
}

/// What an answer without records says.
fn nothing(message: &Message<[u8]>) -> Result<Answer, Broken> {
    let (mut good_for, mut refers) = (None, false);
    for record in message.authority()? {
        let record = record?;
        if let Some(soa) = record.to_record::<Soa<_>>()? {
            good_for = Some(duration(soa.ttl()).min(duration(soa.data().minimum())));
        }
        refers |= record.rtype() == Rtype::NS;
    }
    let name_exists = message.header().rcode() == Rcode::NOERROR;
    if refers && good_for.is_none() && !message.header().aa() && name_exists {
        return Ok(Answer::Refused("a referral to other servers".to_owned()));
    }
    Ok(Answer::Nothing { name_exists, good_for })
}

/// The records of the answer that matter here.
fn records<'m>(message: &'m Message<[u8]>) -> Result<Vec<Found<'m>>, Broken> {
    let mut found = Vec::new();
    for record in message.answer()? {
        let record = record?;
        if record.class() != Class::IN {
            continue;
        }
        let (owner, good_for) = (record.owner(), duration(record.ttl()));
        let data = match record.rtype() {
            Rtype::A => record.to_record::<A>()?.map(|record| Data::Address(IpAddr::V4(record.data().addr()))),
            Rtype::AAAA => record.to_record::<Aaaa>()?.map(|record| Data::Address(IpAddr::V6(record.data().addr()))),
            Rtype::CNAME => record.to_record::<Cname<_>>()?.map(|record| Data::Alias(record.into_data().into_cname())),
            Rtype::SRV => record.to_record::<Srv<_>>()?.map(|record| {
                let data = record.data();
                Data::Target(Target {
                    priority: data.priority(),
                    weight: data.weight(),
                    port: data.port(),
                    host: host_text(&data.target().to_string()),
                })
            }),
            _ => None,
        };
        found.extend(data.map(|data| Found { owner, good_for, data }));
    }
    Ok(found)
}

impl Data<'_> {
    fn is_of(&self, kind: Kind) -> bool {
        match self {
            Self::Alias(_) => false,
            Self::Address(address) => kind == if address.is_ipv4() { Kind::A } else { Kind::Aaaa },
            Self::Target(_) => kind == Kind::Srv,
        }
    }
}

/// The records, and how long what came beside them is good.
fn gather(message: &Message<[u8]>, wanted: &[&Found<'_>]) -> (Records, Duration) {
    let (mut addresses, mut targets) = (Vec::new(), Vec::new());
    for record in wanted {
        match &record.data {
            Data::Alias(_) => {}
            Data::Address(address) => addresses.push(*address),
            Data::Target(target) => targets.push(target.clone()),
        }
    }
    if targets.is_empty() {
        return (Records::Addresses(addresses), Duration::MAX);
    }
    let (glue, good_for) = glue(message, &targets);
    (Records::Targets(targets, glue), good_for)
}

/// Addresses beside `SRV` records, and how long they are good, which is often much less than the records themselves. What
/// cannot be read there is asked for instead.
fn glue(message: &Message<[u8]>, targets: &[Target]) -> (Glue, Duration) {
    let mut good_for = Duration::MAX;
    let mut glue: Glue = targets.iter().filter_map(|target| Some((target.host.clone()?, Vec::new()))).collect();
    let Ok(section) = message.additional() else { return (Glue::new(), good_for) };
    for record in section {
        let Ok(record) = record else { break };
        let address = match record.rtype() {
            Rtype::A => record.to_record::<A>().ok().flatten().map(|record| IpAddr::V4(record.data().addr())),
            Rtype::AAAA => record.to_record::<Aaaa>().ok().flatten().map(|record| IpAddr::V6(record.data().addr())),
            _ => None,
        };
        let owner = host_text(&record.owner().to_string());
        if let (Some(address), Some(known)) = (address, owner.and_then(|owner| glue.get_mut(&owner))) {
            known.push(address);
            good_for = good_for.min(duration(record.ttl()));
        }
    }
    glue.retain(|_, addresses| !addresses.is_empty());
    (glue, good_for)
}

fn duration(ttl: Ttl) -> Duration {
    let secs = ttl.as_secs();
    Duration::from_secs(if secs > u32::MAX / 2 { 0 } else { u64::from(secs) })
}

/// A name as hosts have them, in lower case; `None` for any other.
pub(crate) fn host_text(name: &str) -> Option<String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_letter);
    let name = name.strip_suffix('.').unwrap_or(name);
    name.split('.').all(is_label).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
