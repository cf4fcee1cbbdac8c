//! Variants: responses of one key that differ by fields of the request. RFC 9111 section 4.1.
//!
//! A response's `Vary` becomes a [`Vary`], and the fields that it names become a text for each request, such that two
//! requests are served by one variant exactly if their texts are equal. So selecting a variant is looking up the key with
//! the text behind it, however many variants there are.
//!
//! What is made alike before it is compared, as far as the fields' own rules let it mean the same:
//!
//! - `Accept-Encoding`: the codings that are acceptable, out of those that the policy knows. Their weights are left out;
//!   whatever variant is served is one that the client takes.
//! - `Accept-Language`: letters are small, white space and weights of 1 are left out. By choice of the policy, languages
//!   of equal weight come in alphabetical order.
//! - Any other field: several lines are one with commas, and white space around commas is left out. In fields that are no
//!   lists (`Cookie`, `User-Agent`, dates and others) every octet counts.
//!
//! `Vary: *`, wherever it stands, fits no request.

use std::borrow::Cow;

use crate::field::{Fields, members, values};
use crate::name::alike;
use crate::policy::VaryRules;

/// Fields whose values are not lists, or in which commas are part of a text.
const NOT_LISTS: &[&str] =
    &["authorization", "cookie", "host", "if-modified-since", "origin", "range", "referer", "user-agent"];

/// Between the members of a text; no field's value holds it.
const SEPARATOR: u8 = b'\n';

/// The fields that select among variants: their names in lower case, sorted, each once. Empty for a response that does
/// not vary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vary<'v>(Cow<'v, [u8]>);

impl<'v> Vary<'v> {
    /// Reads the fields of a response, or nothing if it fits no other request.
    pub fn read<'a>(fields: impl Fields<'a>) -> Option<Self> {
        let lines = values(fields, "vary");
        let mut names: Vec<Vec<u8>> = lines.flat_map(members).map(<[u8]>::to_ascii_lowercase).collect();
        if names.iter().any(|name| name == b"*") {
            return None;
        }
        names.sort_unstable();
        names.dedup();
        Some(Self(names.join(&b","[..]).into()))
    }

    /// Whether there is nothing that it depends on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names with commas between them, to be kept with the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What [`as_bytes`](Self::as_bytes) gave.
    pub fn of_bytes(names: &'v [u8]) -> Self {
        Self(names.into())
    }

    /// The same, in memory of its own.
    fn kept(&self) -> Vary<'static> {
        Vary(self.0.to_vec().into())
    }

    pub(crate) fn names(&self, name: &str) -> bool {
        members(&self.0).any(|found| found == name.as_bytes())
    }

    /// Appends the text of a request, which follows the key: the names, and what stands for each of their values. It is
    /// empty if nothing varies.
    pub fn write_variant<'a>(&self, out: &mut Vec<u8>, fields: impl Fields<'a>, rules: &VaryRules) {
        if self.is_empty() {
            return;
        }
        // Responses of one key may vary by different fields, and those may have equal values.
        out.extend_from_slice(&self.0);
        out.push(SEPARATOR);
        for name in self.0.split(|&byte| byte == b',') {
            let mut found = fields.clone().filter(|(found, _)| alike(found, name)).map(|(_, value)| value);
            let mut several = Vec::new();
            let first = found.next();
            if let (Some(first), Some(second)) = (first, found.next()) {
                several.extend([first, second].into_iter().chain(found));
            }
            // A field that is not there differs from one that is empty.
            out.push(if first.is_some() { b'+' } else { b'-' });
            let lines = if several.is_empty() { first.as_slice() } else { &several };
            write_value(out, name, lines, rules);
            out.push(SEPARATOR);
        }
    }
}

fn write_value(out: &mut Vec<u8>, name: &[u8], lines: &[&[u8]], rules: &VaryRules) {
    match name {
        b"accept-encoding" => write_codings(out, lines, rules),
        b"accept-language" => write_languages(out, lines, rules),
        _ if NOT_LISTS.iter().any(|known| known.as_bytes() == name) => {
            for (at, line) in lines.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b"," } else { b"" });
                out.extend_from_slice(line);
            }
        }
        _ => {
            let start = out.len();
            for member in lines.iter().flat_map(|line| members(line)) {
                out.extend_from_slice(if out.len() > start { b"," } else { b"" });
                out.extend_from_slice(member);
            }
        }
    }
}

/// A member of a list with weights: what it names, and its weight in thousandths.
fn weighted(member: &[u8]) -> (&[u8], u16) {
    let Some(end) = member.iter().position(|&byte| byte == b';') else { return (member, 1000) };
    let mut parameters = member[end + 1..].split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let weight = parameters.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    (member[..end].trim_ascii(), weight.map_or(1000, thousandths))
}

/// A weight of RFC 9110 section 12.4.2. What is none counts as 1, so that nothing is refused by mistake.
fn thousandths(weight: &[u8]) -> u16 {
    let (whole, fraction) = weight.split_first().unwrap_or((&b'1', &[]));
    let digits = fraction.strip_prefix(b".").unwrap_or_default();
    if *whole != b'0' || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return 1000;
    }
    let digit = |at: usize| digits.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    digit(0) * 100 + digit(1) * 10 + digit(2)
}

/// Most codings that a policy tells apart, which leaves a bit for what is not coded.
const CODINGS_MAX: usize = 31;

fn write_codings(out: &mut Vec<u8>, lines: &[&[u8]], rules: &VaryRules) {
    const IDENTITY: u32 = 1 << CODINGS_MAX;
    let codings = || rules.codings.iter().take(CODINGS_MAX).enumerate();
    let bit_of = |name: &[u8]| {
        let name: &[u8] = if alike(name, b"x-gzip") { b"gzip" } else { name };
        let known = codings().find(|(_, coding)| alike(name, coding.as_bytes())).map(|(at, _)| 1 << at);
        known.or_else(|| alike(name, b"identity").then_some(IDENTITY))
    };
    let (mut named, mut accepted, mut others) = (0_u32, 0_u32, None);
    for line in lines {
        // Nothing is quoted here.
        for member in line.split(|&byte| byte == b',') {
            let (name, weight) = weighted(member.trim_ascii());
            if name == b"*" {
                others = others.or(Some(weight > 0));
            } else if let Some(bit) = bit_of(name).filter(|bit| named & bit == 0) {
                named |= bit;
                accepted |= if weight > 0 { bit } else { 0 };
            }
        }
    }
    if others == Some(true) {
        accepted |= !named;
    }
    for (_, coding) in codings().filter(|(at, _)| accepted & 1 << at != 0) {
        out.extend_from_slice(coding.as_bytes());
        out.push(b',');
    }
    // What is not coded is acceptable unless it is refused.
    if accepted & IDENTITY == 0 && (named & IDENTITY != 0 || others == Some(false)) {
        out.push(b'!');
    }
}

fn write_languages(out: &mut Vec<u8>, lines: &[&[u8]], rules: &VaryRules) {
    let mut languages: Vec<_> = lines.iter().flat_map(|line| members(line)).map(weighted).collect();
    // The order of members says nothing where their weights differ.
    languages.sort_by(|one, other| {
        let by_name = || one.0.to_ascii_lowercase().cmp(&other.0.to_ascii_lowercase());
        other
            .1
            .cmp(&one.1)
            .then_with(|| if rules.ignores_language_order { by_name() } else { std::cmp::Ordering::Equal })
    });
    for (name, weight) in languages {
        let start = out.len();
        out.extend_from_slice(name);
        out[start..].make_ascii_lowercase();
        if weight < 1000 {
            out.extend_from_slice(b";q=");
            out.extend_from_slice(weight.to_string().as_bytes());
        }
        out.push(b',');
    }
}

/// Most ways of varying that are remembered of one key.
const KINDS_MAX: usize = 4;

/// The ways in which responses of one key vary, the newest first: what is kept under the key itself. A response that does
/// not vary is one of them, with nothing behind the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds(Vec<Vary<'static>>);

impl Kinds {
    /// Adds the way of a response that is stored now. The oldest is forgotten beyond four; what it stored is no longer
    /// found. Tells whether anything changed.
    pub fn add(&mut self, vary: &Vary<'_>) -> bool {
        if self.0.first().is_some_and(|known| known == vary) {
            return false;
        }
        self.0.retain(|known| known != vary);
        self.0.insert(0, vary.kept());
        self.0.truncate(KINDS_MAX);
        true
    }

    /// The ways, the newest first: what is behind the key is looked up for each of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vary<'static>> {
        self.0.iter()
    }

    /// A form to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|vary| vary.0.iter().copied().chain([SEPARATOR])).collect()
    }

    /// What [`to_bytes`](Self::to_bytes) gave.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Self::ways(bytes).map(|vary| vary.kept()).collect())
    }

    /// The ways in what [`to_bytes`](Self::to_bytes) gave, the newest first. Nothing is copied: it is done for each request for
    /// something that varies.
    pub fn ways(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Vary<'_>> {
        let ended = bytes.strip_suffix(&[SEPARATOR]);
        ended.into_iter().flat_map(|bytes| bytes.split(|&byte| byte == SEPARATOR)).map(Vary::of_bytes)
    }
}
