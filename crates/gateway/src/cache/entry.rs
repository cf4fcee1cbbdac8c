//! What is written with an entry: a response's facts and fields, or how the responses of a key vary.

use bytes::Bytes;
use httpcache::{Kinds, Stored, UnixTime};

/// What an entry says.
#[derive(Clone, Debug)]
pub(crate) enum Held<'e> {
    /// A response: when it was fetched or found good, its facts, and the block of its fields.
    Response(UnixTime, Stored, &'e [u8]),
    /// Responses vary: how, and they stand behind the key.
    Kinds(Kinds),
}

const RESPONSE: u8 = 1;
const KINDS: u8 = 2;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let meta = Held::response(UnixTime::from_millis(5), &Stored::default(), b"ETag: \"a\"\r\n");
        let Some(Held::Response(fetched, _, block)) = Held::read(&meta) else { panic!("{meta:?}") };
        assert_eq!((fetched.millis(), block), (5, &b"ETag: \"a\"\r\n"[..]));
        let meta = Held::kinds(&Kinds::default());
        assert!(matches!(Held::read(&meta), Some(Held::Kinds(_))));
        for wrong in [&b""[..], b"\x01abc", b"\x03", b"\x09"] {
            assert!(Held::read(wrong).is_none(), "{wrong:?}");
        }
    }
}
