//! What is written with an entry: a response's facts and fields, or how the responses of a key vary.

use bytes::Bytes;
use httpcache::{Kinds, Stored, UnixTime, Vary};

/// What an entry says.
#[derive(Clone, Debug)]
pub(crate) enum Held<'e> {
    /// A response: when it was fetched or found good, its facts, and the block of its fields.
    Response(UnixTime, Stored, &'e [u8]),
    /// Responses vary, in the ways that [`Ways`] reads, and they stand behind the key.
    Kinds,
}

const RESPONSE: u8 = 1;
const KINDS: u8 = 2;
const CODED: u8 = 3;

impl<'e> Held<'e> {
    /// Reads what [`Held::response`] and the others wrote.
    pub(crate) fn read(meta: &'e [u8]) -> Option<Self> {
        let (&kind, rest) = meta.split_first()?;
        match kind {
            RESPONSE => {
                let (millis, rest) = rest.split_first_chunk()?;
                let fetched = UnixTime::from_millis(u64::from_le_bytes(*millis));
                let (facts, block) = rest.split_first_chunk::<{ Stored::BYTES }>()?;
                Stored::of_bytes(facts).map(|stored| Self::Response(fetched, stored, block))
            }
            KINDS => Some(Self::Kinds),
            _ => None,
        }
    }

    /// Writes a response.
    pub(crate) fn response(fetched: UnixTime, stored: &Stored, block: &[u8]) -> Bytes {
        [&[RESPONSE][..], &fetched.millis().to_le_bytes(), &stored.to_bytes(), block].concat().into()
    }

    /// Writes how responses vary.
    pub(crate) fn kinds(kinds: &Kinds) -> Bytes {
        [&[KINDS][..], &kinds.to_bytes()].concat().into()
    }
}

/// What is written with the coded form of a response, whose version it tells: what is made of another one is not served.
pub(crate) fn coded_meta(version: u64) -> Bytes {
    [&[CODED][..], &version.to_le_bytes()].concat().into()
}

/// The version of the response that a coded form was made of.
pub(crate) fn coded_of(meta: &[u8]) -> Option<u64> {
    let version = meta.strip_prefix(&[CODED])?;
    version.try_into().ok().map(u64::from_le_bytes)
}

/// How responses of a key vary, as it was written. Reading it copies nothing.
#[derive(Clone, Debug)]
pub(crate) struct Ways(Bytes);

impl Ways {
    /// Those of an entry, if it says any.
    pub(crate) fn of(meta: &Bytes) -> Option<Self> {
        matches!(Held::read(meta), Some(Held::Kinds)).then(|| Self(meta.slice(1..)))
    }

    /// The ways, the newest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Vary<'_>> {
        Kinds::ways(&self.0)
    }

    /// A form that others can be added to.
    pub(crate) fn to_kinds(&self) -> Kinds {
        Kinds::of_bytes(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let meta = Held::response(UnixTime::from_millis(5), &Stored::default(), b"ETag: \"a\"\r\n");
        let Some(Held::Response(fetched, _, block)) = Held::read(&meta) else { panic!("{meta:?}") };
        assert_eq!((fetched.millis(), block), (5, &b"ETag: \"a\"\r\n"[..]));
        let meta = Held::kinds(&Kinds::default());
        assert!(matches!(Held::read(&meta), Some(Held::Kinds)));
        let ways = Ways::of(&meta).unwrap();
        assert_eq!((ways.iter().count(), ways.to_kinds()), (0, Kinds::default()));
        assert!(Ways::of(&Held::response(UnixTime::default(), &Stored::default(), b"")).is_none());
        assert_eq!((coded_of(&coded_meta(7)), coded_of(&meta), coded_of(b"\x03a")), (Some(7), None, None));
        assert!(Held::read(&coded_meta(7)).is_none(), "it is no response by itself");
        for wrong in [&b""[..], b"\x01abc", b"\x03", b"\x09"] {
            assert!(Held::read(wrong).is_none(), "{wrong:?}");
        }
    }
}
