//! What a route asks of a request besides its host and path.

use std::borrow::Cow;

use http1::FieldId;

use super::Asked;
use crate::params::{self, ValueMatch, ValueSource};
use crate::pattern::Search;

/// Conditions, ready to be looked at.
#[derive(Debug)]
pub(crate) struct Conditions {
    methods: Box<[Box<str>]>,
    /// Whether a preflight goes by the method that it asks leave for: it is always an `OPTIONS`.
    preflights: bool,
    values: Box<[(Source, Test)]>,
}

#[derive(Debug)]
enum Source {
    Header(Box<[u8]>),
    Cookie(Box<[u8]>),
    Query(Box<[u8]>),
}

#[derive(Debug)]
enum Test {
    Present,
    Absent,
    OneOf(Box<[Box<[u8]>]>),
    Prefix(Box<[u8]>),
    Regex(Search),
}

impl Conditions {
    /// `None` when anything will do.
    pub(crate) fn new(params: &params::Conditions, preflights: bool, cores: usize) -> Option<Self> {
        if params.count() == 0 {
            return None;
        }
        let bytes = |text: &String| text.as_bytes().into();
        let source = |source: &ValueSource| match source {
            ValueSource::Header(name) => Source::Header(bytes(name)),
            ValueSource::Cookie(name) => Source::Cookie(bytes(name)),
            ValueSource::Query(name) => Source::Query(bytes(name)),
        };
        let test = |value: &ValueMatch| match value {
            ValueMatch::Present => Test::Present,
            ValueMatch::Absent => Test::Absent,
            ValueMatch::OneOf(texts) => Test::OneOf(texts.iter().map(bytes).collect()),
            ValueMatch::Prefix(prefix) => Test::Prefix(bytes(prefix)),
            ValueMatch::Regex(pattern) => Test::Regex(Search::new(pattern, cores)),
        };
        Some(Self {
            methods: params.methods().iter().map(|method| method.as_str().into()).collect(),
            preflights,
            values: params.values().iter().map(|(s, v)| (source(s), test(v))).collect(),
        })
    }

    /// Whether a request has all of it.
    pub(crate) fn hold(&self, asked: &Asked<'_>) -> bool {
        (self.methods.is_empty() || self.has_method(asked))
            && self.values.iter().all(|(source, test)| source.any(asked, test))
    }
}

impl Conditions {
    fn has_method(&self, asked: &Asked<'_>) -> bool {
        let has = |method: &[u8]| self.methods.iter().any(|known| known.as_bytes() == method);
        has(asked.request.method.as_str().as_bytes())
            || (self.preflights && crate::action::preflight_method(asked).is_some_and(has))
    }
}

impl Source {
    /// Whether one of its values passes; without a value only absence does.
    fn any(&self, asked: &Asked<'_>, test: &Test) -> bool {
        let Asked { core, request, head, .. } = *asked;
        let passes = |value: &[u8]| test.passes(core, value);
        match (self, test) {
            (_, Test::Absent) => !self.any(asked, &Test::Present),
            (Self::Header(name), _) => request.fields.named(head, name).any(passes),
            (Self::Cookie(name), _) => {
                let fields = request.fields.all(FieldId::Cookie).map(|field| field.value.of_buf(head));
                let mut pairs = fields.flat_map(|value| value.split(|&b| b == b';')).map(<[u8]>::trim_ascii);
                pairs
                    .any(|pair| pair.strip_prefix(&**name).and_then(|rest| rest.strip_prefix(b"=")).is_some_and(passes))
            }
            (Self::Query(name), _) => asked.query().split(|&b| b == b'&').any(|pair| {
                let (key, value) = pair.split_at(memchr::memchr(b'=', pair).unwrap_or(pair.len()));
                *decoded(key) == **name && !pair.is_empty() && passes(&decoded(value.get(1..).unwrap_or_default()))
            }),
        }
    }
}

impl Test {
    fn passes(&self, core: usize, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Absent => false,
            Self::OneOf(texts) => texts.iter().any(|text| **text == *value),
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Regex(search) => search.matches(core, value),
        }
    }
}

/// A part of a query with its escapes read, as forms write it. A broken escape stays as it is.
fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(part);
    }
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let digit = |at: usize| behind.get(at).and_then(|&byte| (byte as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &behind[2..];
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(first),
        }
    }
    Cow::Owned(out)
}
