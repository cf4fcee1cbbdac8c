//! Header fields by position, with the names that matter recognised once.

use crate::{Error, ErrorKind};

/// Fields that fit without touching the heap while parsing; real heads have 5 to 30.
const FIELDS_ON_STACK: usize = 64;

/// A range of bytes in the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range from `start` to `end`, which heads' limits keep below 4 GiB.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && u32::try_from(end).is_ok());
        Self { start: start as u32, end: end as u32 }
    }

    /// Where `part`, a piece of `whole`, stands in it.
    pub(crate) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self::new(start, start + part.len())
    }

    /// The bytes that it stands for.
    pub fn of_buf(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    /// First position.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Position after the last.
    pub fn end(self) -> usize {
        self.end as usize
    }
}

/// A header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name as sent.
    pub name: Span,
    /// Its value without surrounding white space.
    pub value: Span,
    /// Which of the known names it has.
    pub id: FieldId,
}

macro_rules! field_ids {
    ($($id:ident = $text:literal),+ $(,)?) => {
        /// The field names that a proxy treats specially.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the names are the meaning")]
        pub enum FieldId { $($id),+, Other }

        /// The ids and their names in lower case.
        const KNOWN: &[(FieldId, &str)] = &[$((FieldId::$id, $text)),+];
    };
}

field_ids! {
    Te = "te",
    Via = "via",
    Host = "host",
    Date = "date",
    Cookie = "cookie",
    Expect = "expect",
    Server = "server",
    Upgrade = "upgrade",
    Trailer = "trailer",
    Forwarded = "forwarded",
    XRealIp = "x-real-ip",
    KeepAlive = "keep-alive",
    Connection = "connection",
    SetCookie = "set-cookie",
    Tracestate = "tracestate",
    Traceparent = "traceparent",
    ContentLength = "content-length",
    XRequestId = "x-request-id",
    Authorization = "authorization",
    XForwardedFor = "x-forwarded-for",
    ProxyConnection = "proxy-connection",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    TransferEncoding = "transfer-encoding",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
}

/// Where each known name stands, so that a name is compared with one other at most: the multiplier that spreads the
/// names over the slots without two in one, and the slots.
static SLOTS: (u32, [FieldId; 256]) = {
    let mut multiplier = 1_u32;
    'search: loop {
        // An odd number follows an odd one, in no order that matters.
        multiplier = multiplier.wrapping_mul(747_796_405).wrapping_add(2_891_336_454);
        let mut slots = [FieldId::Other; 256];
        let mut index = 0;
        while index < KNOWN.len() {
            let (id, name) = KNOWN[index];
            let slot = slot(name.as_bytes(), multiplier);
            if !matches!(slots[slot], FieldId::Other) {
                continue 'search;
            }
            slots[slot] = id;
            index += 1;
        }
        break (multiplier, slots);
    }
};

/// The slot of a name of two bytes and more. Its length and two of its letters tell the known names apart.
const fn slot(name: &[u8], multiplier: u32) -> usize {
    let (first, last_but_one) = (name[0] | 0x20, name[name.len() - 2] | 0x20);
    let key = name.len() as u32 | (first as u32) << 8 | (last_but_one as u32) << 16;
    (key.wrapping_mul(multiplier) >> 24) as usize
}

/// Whether `name` is `known` in any case. Words that may overlap cover both: a loop over their bytes costs several times
/// as much, and every field of every head comes here.
fn is_known(name: &[u8], known: &[u8]) -> bool {
    // The bit that letters have and a dash has not; half of it is the bit that makes letters lower case.
    const CASE: u64 = u64::from_ne_bytes([0x40; 8]);
    let same = |name: u64, known: u64| name | (known & CASE) >> 1 == known;
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let half = |bytes: &[u8; 4]| u64::from(u32::from_ne_bytes(*bytes));
    if name.len() != known.len() {
        return false;
    }
    let ends = |bytes: &[u8]| Some((word(bytes.first_chunk()?), word(bytes.last_chunk()?)));
    if let (Some(name_ends), Some(known_ends)) = (ends(name), ends(known)) {
        let middle = || match (name.get(8..16), known.get(8..16)) {
            (Some(name), Some(known)) => name.eq_ignore_ascii_case(known),
            _ => true,
        };
        return same(name_ends.0, known_ends.0) && same(name_ends.1, known_ends.1) && (name.len() <= 16 || middle());
    }
    let ends = |bytes: &[u8]| Some((half(bytes.first_chunk()?), half(bytes.last_chunk()?)));
    match (ends(name), ends(known)) {
        (Some(name), Some(known)) => same(name.0, known.0) && same(name.1, known.1),
        _ => name.eq_ignore_ascii_case(known),
    }
}

impl FieldId {
    /// The id of a name, compared without regard to case.
    pub fn of(name: &[u8]) -> Self {
        if name.len() < 2 {
            return Self::Other;
        }
        let id = SLOTS.1[slot(name, SLOTS.0)];
        match KNOWN.get(id as usize) {
            Some((_, known)) if is_known(name, known.as_bytes()) => id,
            _ => Self::Other,
        }
    }

    fn bit(self) -> u32 {
        const { assert!((Self::Other as u32) < u32::BITS) };
        1 << self as u32
    }

    /// Whether the field concerns one connection only and is never passed on.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether a `Connection` field may name it to have it removed. Fields that routing, framing and identity rest on
    /// may not: naming them there is an attack on whoever reads them behind us.
    pub fn is_removable(self) -> bool {
        matches!(self, Self::Other | Self::Via | Self::Date | Self::Server) || self.is_hop_by_hop()
    }
}

/// The fields of a head, in order.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    slots: Vec<Field>,
    /// A bit for each id that is among them: most lookups find nothing, and need not look.
    present: u32,
    /// Where the field block begins and the empty line that ends it begins.
    block: Span,
}

impl Fields {
    /// The fields, in order.
    pub fn as_slice(&self) -> &[Field] {
        &self.slots
    }

    /// The one field with this id: `Ok(None)` without one.
    ///
    /// # Errors
    /// `twice` when there are several.
    pub(crate) fn single(&self, id: FieldId, twice: &'static str) -> Result<Option<Field>, Error> {
        let mut found = None;
        for field in self.all(id) {
            if found.replace(*field).is_some() {
                return Err(Error::malformed(twice));
            }
        }
        Ok(found)
    }

    /// Every field with this id.
    pub fn all(&self, id: FieldId) -> impl Iterator<Item = &Field> {
        let slots = if self.present & id.bit() == 0 { &[] } else { self.slots.as_slice() };
        slots.iter().filter(move |field| field.id == id)
    }

    /// The first field of this name, known or not. `name` is lower case.
    pub fn named<'a>(&'a self, buf: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.slots
            .iter()
            .filter(move |field| field.name.of_buf(buf).eq_ignore_ascii_case(name))
            .map(move |field| field.value.of_buf(buf))
    }

    /// The bytes of a field's line, its line end included, so that unchanged fields can be copied in runs.
    pub fn line(&self, index: usize) -> Span {
        let end = self.slots.get(index + 1).map_or(self.block.end(), |next| next.name.start());
        Span::new(self.slots[index].name.start(), end)
    }

    /// Takes over what `httparse` found. `block_end` is where the empty line begins.
    fn fill(&mut self, parsed: &[httparse::Header<'_>], whole: &[u8], block_end: usize) {
        self.slots.clear();
        let mut present = 0;
        self.slots.extend(parsed.iter().map(|header| {
            let id = FieldId::of(header.name.as_bytes());
            present |= id.bit();
            let value = Span::of(header.value.trim_ascii(), whole);
            Field { name: Span::of(header.name.as_bytes(), whole), value, id }
        }));
        self.present = present;
        let start = self.slots.first().map_or(block_end, |field| field.name.start());
        self.block = Span::new(start, block_end);
    }
}

/// Runs `parse` with room for the fields of a head, on the stack where that is enough, and keeps what it found.
///
/// `parse` gets the room and returns what the start line holds and the fields found.
pub(crate) fn parse_fields<'b, T>(
    fields: &mut Fields,
    whole: &'b [u8],
    fields_max: usize,
    mut parse: impl for<'h> FnMut(&'h mut [std::mem::MaybeUninit<httparse::Header<'b>>]) -> Parsed<'h, 'b, T>,
) -> Result<T, Error> {
    let block_end = whole.len() - 2;
    let mut stack = [const { std::mem::MaybeUninit::uninit() }; FIELDS_ON_STACK];
    let room = fields_max.min(FIELDS_ON_STACK);
    match parse(&mut stack[..room]) {
        Ok((line, found)) => {
            fields.fill(found, whole, block_end);
            return Ok(line);
        }
        Err(httparse::Error::TooManyHeaders) if fields_max > FIELDS_ON_STACK => {}
        Err(error) => return Err(from_httparse(error)),
    }
    let mut heap = vec![const { std::mem::MaybeUninit::uninit() }; fields_max];
    let (line, found) = parse(&mut heap).map_err(from_httparse)?;
    fields.fill(found, whole, block_end);
    Ok(line)
}

/// A start line and the fields after it.
pub(crate) type Parsed<'h, 'b, T> = Result<(T, &'h [httparse::Header<'b>]), httparse::Error>;

/// The error of a head that `httparse` refuses.
pub(crate) fn from_httparse(error: httparse::Error) -> Error {
    match error {
        httparse::Error::HeaderName => Error::malformed("a field name is not a token"),
        httparse::Error::HeaderValue => Error::malformed("a field value holds a control character"),
        httparse::Error::NewLine => Error::malformed("a carriage return stands alone"),
        httparse::Error::Status => Error::malformed("the status line is malformed"),
        httparse::Error::Token => Error::malformed("the request line is malformed"),
        httparse::Error::TooManyHeaders => Error::new(ErrorKind::HeadTooLarge, "the head has too many fields"),
        httparse::Error::Version => Error::malformed("the version is not HTTP/1.0 or HTTP/1.1"),
    }
}

/// The members of a comma-separated list, without white space, empty members left out.
pub(crate) fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case() {
        let check = |name: &str, id: FieldId| assert_eq!(FieldId::of(name.as_bytes()), id, "{name}");
        check("Host", FieldId::Host);
        check("CONTENT-length", FieldId::ContentLength);
        check("transfer-encoding", FieldId::TransferEncoding);
        check("transfer_encoding", FieldId::Other);
        check("hosts", FieldId::Other);
        check("hxst", FieldId::Other);
        check("t", FieldId::Other);
        check("", FieldId::Other);
        for (id, name) in KNOWN {
            check(name, *id);
            check(&name.to_ascii_uppercase(), *id);
            check(&format!("{name}x"), FieldId::Other);
            for at in 0..name.len() {
                for wrong in [b'_', b'-' & !0x20, b'@', b'z' + 1, name.as_bytes()[at] ^ 1] {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = wrong;
                    assert!(!is_known(&other, name.as_bytes()), "{name} at {at}");
                }
            }
        }
    }

    #[test]
    fn lists_are_split() {
        let check = |value: &str, expected: &[&str]| {
            let members: Vec<_> = list_members(value.as_bytes()).map(|m| std::str::from_utf8(m).unwrap()).collect();
            assert_eq!(members, expected, "{value:?}");
        };
        check("close", &["close"]);
        check(" keep-alive ,\tUpgrade", &["keep-alive", "Upgrade"]);
        check(",,a,", &["a"]);
        check("", &[]);
    }
}
