//! A stored response, as its facts: what a lookup needs, so that a hit parses nothing of the response.

use crate::directive::{Directive as D, Directives};
use crate::freshness::{Basis, Dates, Source, Times, initial_age_millis, lifetime_millis, millis};
use crate::name::alike;
use crate::policy::Policy;
use crate::range::{ByteRange, ContentRange};
use crate::request::Validators;
use crate::time::UnixTime;
use crate::validator::Known;
use crate::{Field, Lines};

/// The facts of a stored response. Its fields stand in a block of lines beside it, which [`Lines`] reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    etag: Span,
    last_modified: Span,
    pub(crate) date: UnixTime,
    modified: Option<UnixTime>,
    received: UnixTime,
    initial_age_millis: u64,
    lifetime_millis: u64,
    pub(crate) stale_while_revalidate_secs: u32,
    pub(crate) stale_if_error_secs: u32,
    body: Body,
}

/// Where a text stands in the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of_block(self, block: &[u8]) -> Option<&[u8]> {
        if self.len == 0 {
            return None;
        }
        // Whoever brings the wrong block loses the validator, and nothing else.
        block.get(self.start as usize..self.start as usize + self.len as usize)
    }
}

/// What a response allows and demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    /// Never used without asking the origin.
    pub(crate) const NO_CACHE: Self = Self(1);
    /// Never used when stale, but as it says itself.
    pub(crate) const NEVER_STALE: Self = Self(2);
    /// Not worth asking for again while fresh.
    pub(crate) const IMMUTABLE: Self = Self(4);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    fn with(self, flag: Self, is_set: bool) -> Self {
        if is_set { Self(self.0 | flag.0) } else { self }
    }
}

/// How much of the body is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// All of it, or all of it will be, and nobody knows yet how much that is.
    #[default]
    Unmeasured,
    /// All of it: this many bytes.
    Whole(u64),
    /// A part.
    Part(ContentRange),
}

/// The directives that count for this cache, and whether they are targeted at it.
pub(crate) struct Control<'a> {
    pub(crate) directives: Directives<'a>,
    pub(crate) is_targeted: bool,
}

impl<'a> Control<'a> {
    pub(crate) fn read(fields: impl crate::Fields<'a>) -> Self {
        match crate::targeted::read(fields.clone()) {
            Some(directives) => Self { directives, is_targeted: true },
            None => {
                let lines = crate::field::values(fields, "cache-control");
                Self { directives: Directives::read(lines), is_targeted: false }
            }
        }
    }
}

impl Stored {
    /// The facts of a response whose fields are these: the stored ones in `block`, and `Age` in `fields`.
    pub(crate) fn read<'a>(
        (status, block, body): (u16, &[u8], Body),
        age: impl crate::Fields<'a>,
        control: &Control<'_>,
        (policy, times): (&Policy, Times),
    ) -> (Self, Option<Source>) {
        let lines = Lines::new(block);
        let dates = Dates::read(lines, times.received);
        let directives = &control.directives;
        let basis = Basis { status, directives, is_targeted: control.is_targeted, dates };
        let lifetime = lifetime_millis(&basis, policy);
        let forbids = |directive| directives.has(directive);
        let must_revalidate = forbids(D::MustRevalidate) || forbids(D::ProxyRevalidate) || forbids(D::NoCache);
        let never_stale = must_revalidate || directives.has(D::SMaxage);
        // RFC 9111 section 5.2.2.10 lets `s-maxage` forbid stale responses. Whoever writes it beside a window of stale
        // use, as many do, means the window; where nothing is written, the policy's windows are forbidden.
        let window = |directive, default| match directives.seconds(directive) {
            _ if must_revalidate => 0,
            Some(secs) => secs,
            None if never_stale => 0,
            None => (millis(default) / 1000).min(u64::from(u32::MAX)) as u32,
        };
        let flags = Flags::default()
            .with(Flags::NO_CACHE, directives.has(D::NoCache))
            .with(Flags::NEVER_STALE, never_stale)
            .with(Flags::IMMUTABLE, directives.has(D::Immutable));
        let stored = Self {
            status,
            flags,
            etag: span_of(block, "etag"),
            last_modified: span_of(block, "last-modified"),
            date: dates.date,
            modified: dates.last_modified,
            received: times.received,
            initial_age_millis: initial_age_millis(age, dates.date, times),
            lifetime_millis: lifetime.map_or(0, |(lifetime, _)| lifetime),
            stale_while_revalidate_secs: window(D::StaleWhileRevalidate, policy.stale_while_revalidate),
            stale_if_error_secs: window(D::StaleIfError, policy.stale_if_error),
            body,
        };
        (stored, lifetime.map(|(_, source)| source))
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How much of its body is stored.
    pub fn body(&self) -> Body {
        self.body
    }

    /// Notes how many bytes the whole body turned out to have.
    pub fn measured(&mut self, bytes: u64) {
        if self.body == Body::Unmeasured {
            self.body = Body::Whole(bytes);
        }
    }

    pub(crate) fn is_partial(&self) -> bool {
        matches!(self.body, Body::Part(_))
    }

    pub(crate) fn set_part(&mut self, part: ContentRange) {
        self.body = Body::Part(part);
    }

    pub(crate) fn set_whole(&mut self, bytes: u64) {
        self.status = 200;
        self.body = Body::Whole(bytes);
    }

    pub(crate) fn age_millis(&self, now: UnixTime) -> u64 {
        self.initial_age_millis.saturating_add(now.millis_since(self.received))
    }

    /// Its age in whole seconds, for the field `Age`.
    pub fn age_secs(&self, now: UnixTime) -> u64 {
        self.age_millis(now) / 1000
    }

    /// For how many milliseconds more it is fresh; since when it is stale, below 0.
    pub(crate) fn ttl_millis(&self, now: UnixTime) -> i64 {
        let signed = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        signed(self.lifetime_millis).saturating_sub(signed(self.age_millis(now)))
    }

    /// Whether it may be served without a question: RFC 9111 section 4.2.
    pub fn is_fresh(&self, now: UnixTime) -> bool {
        self.ttl_millis(now) > 0 && !self.flags.has(Flags::NO_CACHE)
    }

    /// Makes it stale from a moment on: what a soft purge does, or a sign that it has changed.
    pub fn expire(&mut self, at: UnixTime) {
        self.lifetime_millis = self.lifetime_millis.min(self.age_millis(at));
    }

    /// Starts its age anew, for the origin has just said that it is good.
    pub(crate) fn renew(&mut self, received: UnixTime) {
        self.received = received;
        self.initial_age_millis = 0;
    }

    /// What there is to ask the origin by.
    pub fn validators<'a>(&self, block: &'a [u8]) -> Validators<'a> {
        Validators { etag: self.etag.of_block(block), last_modified: self.last_modified.of_block(block) }
    }

    pub(crate) fn known<'a>(&self, block: &'a [u8]) -> Known<'a> {
        Known { etag: self.etag.of_block(block), last_modified: self.modified, date: self.date }
    }

    /// Which of several that fit a request is served: the one made last, RFC 9111 section 4.1.
    pub fn latest<'s>(candidates: impl IntoIterator<Item = &'s Self>) -> Option<usize> {
        let newest = |(_, stored): &(usize, &Self)| (stored.date, stored.received);
        // Of equals the first: candidates come with the newest way of varying first.
        let candidates = candidates.into_iter().enumerate();
        candidates.reduce(|best, other| if newest(&other) > newest(&best) { other } else { best }).map(|(at, _)| at)
    }

    /// How many bytes [`to_bytes`](Self::to_bytes) gives.
    pub const BYTES: usize = 104;

    /// A form to keep on a disk.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let (kind, body) = match self.body {
            Body::Unmeasured => (0, [0; 3]),
            Body::Whole(bytes) => (1, [bytes, 0, 0]),
            Body::Part(ContentRange { range: ByteRange { first, last }, total: None }) => (2, [first, last, 0]),
            Body::Part(ContentRange { range: ByteRange { first, last }, total: Some(total) }) => {
                (3, [first, last, total])
            }
        };
        let both = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let words = [
            u64::from(self.status) | u64::from(self.flags.0) << 16 | kind << 24,
            both(self.etag.start, self.etag.len),
            both(self.last_modified.start, self.last_modified.len),
            self.date.millis(),
            self.modified.map_or(u64::MAX, UnixTime::millis),
            self.received.millis(),
            self.initial_age_millis,
            self.lifetime_millis,
            both(self.stale_while_revalidate_secs, self.stale_if_error_secs),
            body[0],
            body[1],
            body[2],
        ];
        let mut bytes = [0; Self::BYTES];
        for (slot, word) in bytes.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        // The last word tells this form from later ones.
        bytes[Self::BYTES - 8] = FORM;
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) gave, or nothing if it is of another form.
    pub fn of_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let time = |at| UnixTime::from_millis(word(at));
        let span = |at| Span { start: (word(at) >> 32) as u32, len: word(at) as u32 };
        let range = ByteRange { first: word(9), last: word(10) };
        let body = match word(0) >> 24 & 0xFF {
            0 => Body::Unmeasured,
            1 => Body::Whole(word(9)),
            2 => Body::Part(ContentRange { range, total: None }),
            3 => Body::Part(ContentRange { range, total: Some(word(11)) }),
            _ => return None,
        };
        (word(12) == u64::from(FORM) && range_is_sound(body)).then(|| Self {
            status: word(0) as u16,
            flags: Flags((word(0) >> 16) as u8),
            etag: span(1),
            last_modified: span(2),
            date: time(3),
            modified: Some(time(4)).filter(|time| time.millis() != u64::MAX),
            received: time(5),
            initial_age_millis: word(6),
            lifetime_millis: word(7),
            stale_while_revalidate_secs: (word(8) >> 32) as u32,
            stale_if_error_secs: word(8) as u32,
            body,
        })
    }
}

/// The form of the bytes, to be raised when it changes.
const FORM: u8 = 1;

/// Where the value of the first field of a name stands in the block.
fn span_of(block: &[u8], name: &str) -> Span {
    let found = Lines::new(block).find(|(found, _): &Field<'_>| alike(found, name.as_bytes()));
    let Some((_, value)) = found else { return Span::default() };
    let start = value.as_ptr() as usize - block.as_ptr() as usize;
    // Limits of heads keep blocks far below 4 GiB.
    Span { start: start as u32, len: value.len() as u32 }
}

fn range_is_sound(body: Body) -> bool {
    match body {
        Body::Part(part) => part.range.first <= part.range.last && part.range.last < u64::MAX,
        Body::Unmeasured | Body::Whole(_) => true,
    }
}
