//! What is written with an entry: a response's facts and fields, or what is known of a key that has no response of its own.

use bytes::Bytes;
use httpcache::{Kinds, Stored, UnixTime};

/// What an entry says.
#[derive(Clone, Debug)]
pub(crate) enum Held<'e> {
    /// A response: when it was fetched or found good, its facts, and the block of its fields.
    Response(UnixTime, Stored, &'e [u8]),
    /// Responses vary: how, and they stand behind the key.
    Kinds(Kinds),
    /// What came last was not to be stored: until then requests for it do not wait for each other. It stands beside the
    /// key, with a number that says why.
    Uncollapsed(UnixTime, u32),
}

const RESPONSE: u8 = 1;
const KINDS: u8 = 2;
const UNCOLLAPSED: u8 = 3;

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
            KINDS => Some(Self::Kinds(Kinds::of_bytes(rest))),
            UNCOLLAPSED => {
                let (millis, why) = rest.split_first_chunk()?;
                let (until, why) = (u64::from_le_bytes(*millis), u32::from_le_bytes(*why.first_chunk()?));
                Some(Self::Uncollapsed(UnixTime::from_millis(until), why))
            }
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

    /// Writes until when requests do not wait for each other, and why.
    pub(crate) fn uncollapsed(until: UnixTime, why: u32) -> Bytes {
        [&[UNCOLLAPSED][..], &until.millis().to_le_bytes(), &why.to_le_bytes()].concat().into()
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
        let meta = Held::uncollapsed(UnixTime::from_millis(7), 9);
        assert!(matches!(Held::read(&meta), Some(Held::Uncollapsed(until, 9)) if until.millis() == 7));
        for wrong in [&b""[..], b"\x01abc", b"\x03", b"\x09"] {
            assert!(Held::read(wrong).is_none(), "{wrong:?}");
        }
    }
}
