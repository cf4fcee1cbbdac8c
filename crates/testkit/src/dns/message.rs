//! Messages of DNS by hand (RFC 1035, section 4): as much of them as a server of a few records needs.

use std::net::IpAddr;

use super::DnsData;

pub(super) const A: u16 = 1;
pub(super) const CNAME: u16 = 5;
pub(super) const SOA: u16 = 6;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
const OPT: u16 = 41;

/// What an answer over UDP may have where nothing is said.
const UDP_BYTES: usize = 512;

/// A question as it came.
pub(super) struct Asked {
    id: [u8; 2],
    /// Lower case, without a dot at the end.
    pub(super) name: String,
    pub(super) kind: u16,
    /// The question as bytes.
    question: Vec<u8>,
    /// Whether it says more than a question of 1987 could.
    pub(super) is_extended: bool,
    /// What an answer over UDP may have.
    pub(super) udp_bytes: usize,
}

/// Records of a section.
#[derive(Default)]
pub(super) struct Section {
    count: u16,
    bytes: Vec<u8>,
}

impl Section {
    pub(super) fn push(&mut self, owner: &str, ttl: u32, record: &DnsData) {
        let data = match record {
            DnsData::Address(IpAddr::V4(v4)) => v4.octets().to_vec(),
            DnsData::Address(IpAddr::V6(v6)) => v6.octets().to_vec(),
            DnsData::Alias(to) => name_bytes(to),
            DnsData::Service { priority, weight, port, target } => {
                let numbers = [priority, weight, port].map(|number| number.to_be_bytes());
                [numbers.as_flattened(), &name_bytes(target)].concat()
            }
        };
        self.put(owner, kind_of(record), ttl, &data);
    }

    fn put(&mut self, owner: &str, kind: u16, ttl: u32, data: &[u8]) {
        self.count += 1;
        self.bytes.extend(name_bytes(owner));
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend([0, 1]);
        self.bytes.extend(ttl.to_be_bytes());
        self.bytes.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
        self.bytes.extend(data);
    }
}

/// The type of a record.
pub(super) fn kind_of(record: &DnsData) -> u16 {
    match record {
        DnsData::Address(IpAddr::V4(_)) => A,
        DnsData::Address(IpAddr::V6(_)) => AAAA,
        DnsData::Alias(_) => CNAME,
        DnsData::Service { .. } => SRV,
    }
}

/// The type as it is called.
pub(super) fn kind_name(kind: u16) -> String {
    match kind {
        A => "A".to_owned(),
        AAAA => "AAAA".to_owned(),
        SRV => "SRV".to_owned(),
        other => other.to_string(),
    }
}

/// Reads a message with one question; `None` for anything else.
pub(super) fn read(bytes: &[u8]) -> Option<Asked> {
    let header = bytes.get(..12)?;
    let is_query = header[2] & 0x80 == 0 && header[4..6] == [0, 1];
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(bytes.get(at + 1..at + 1 + length)?).ok()?.to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes(bytes.get(at + 1..at + 3)?.try_into().ok()?);
    let question = bytes.get(12..at + 5)?.to_vec();
    // The one record that clients add: no name, its type, and its class is a size.
    let extra = bytes.get(at + 5..).unwrap_or_default();
    let is_extended = extra.len() >= 5 && extra[..3] == [0, 0, OPT as u8];
    let udp_bytes = if is_extended { usize::from(u16::from_be_bytes([extra[3], extra[4]])) } else { UDP_BYTES };
    let id = [header[0], header[1]];
    is_query.then_some(Asked { id, name: labels.join("."), kind, question, is_extended, udp_bytes })
}

/// An answer without records.
pub(super) fn bare(asked: &Asked, code: u8, is_cut: bool) -> Vec<u8> {
    let flags = [0x84 | if is_cut { 2 } else { 0 }, 0x80 | code];
    [&asked.id[..], &flags, &[0, 1, 0, 0, 0, 0, 0, 0], &asked.question].concat()
}

/// An answer with records, or one that there are none, which may be believed for a second.
pub(super) fn reply(asked: &Asked, code: u8, answers: &Section, glue: &Section) -> Vec<u8> {
    let mut nothing = Section::default();
    if answers.count == 0 {
        let names = [name_bytes("ns.example.com"), name_bytes("root.example.com")].concat();
        let numbers = [1_u32, 3600, 600, 86_400, 1].map(u32::to_be_bytes);
        nothing.put("example.com", SOA, 1, &[&names, numbers.as_flattened()].concat());
    }
    let mut message = bare(asked, code, false);
    for (at, section) in [(6, answers), (8, &nothing), (10, glue)] {
        message[at..at + 2].copy_from_slice(&section.count.to_be_bytes());
        message.extend(&section.bytes);
    }
    message
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
