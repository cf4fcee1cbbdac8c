//! What instances tell each other through the channels of a cache.

use super::token::{TOKEN_BYTES, Token};

/// Beyond this scripts cannot count one by one, and no clock gets there: microseconds since 1970 do in the year 2255.
pub(crate) const VERSION_MAX: u64 = 1 << 53;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A key has changed, at this version.
    Changed(u64, &'a [u8]),
    /// A load has ended that somebody waits for.
    Loaded(&'a [u8]),
    /// A tag was invalidated.
    Tag(u64, &'a str),
    /// All entries were invalidated.
    Everything(u64),
    /// A holder has heard of all changes up to a version.
    Heard(u64, Token),
    /// A holder serves nothing from memory any more.
    Gone(Token),
}

/// A change whose maker waits until it has been heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) by: Token,
    pub(crate) version: u64,
}

impl<'a> Message<'a> {
    /// Reads a message, and who wants to know that it was heard. Anybody may send anything to a channel, so what makes no sense is none.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<(Self, Option<Asked>)> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'f' => return Some((Self::Loaded(rest), None)),
            b'g' => return Some((Self::Gone(Token::read(rest)?), None)),
            _ => {}
        }
        let (version, mut rest) = rest.split_first_chunk::<8>()?;
        let version = u64::from_be_bytes(*version);
        if version >= VERSION_MAX {
            return None;
        }
        let mut asked = None;
        if kind.is_ascii_uppercase() {
            let (by, after) = rest.split_at_checked(TOKEN_BYTES)?;
            (asked, rest) = (Some(Asked { by: Token::read(by)?, version }), after);
        }
        let message = match kind.to_ascii_lowercase() {
            b'k' => Self::Changed(version, rest),
            b't' => Self::Tag(version, std::str::from_utf8(rest).ok()?),
            b'e' if rest.is_empty() => Self::Everything(version),
            b'a' if asked.is_none() => Self::Heard(version, Token::read(rest)?),
            _ => return None,
        };
        Some((message, asked))
    }

    /// The bytes that say that a holder has heard of all changes up to a version.
    pub(crate) fn heard(version: u64, by: Token) -> Vec<u8> {
        [b"a", &version.to_be_bytes()[..], by.bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_nonsense_is_none() {
        let check = |bytes: &[u8], expected: Option<Message<'_>>| {
            assert_eq!(Message::read(bytes), expected.map(|message| (message, None)), "{bytes:?}");
        };
        let holder = Token::draw();
        check(b"k\0\0\0\0\0\0\x01\x02key", Some(Message::Changed(258, b"key")));
        check(b"fkey", Some(Message::Loaded(b"key")));
        check(b"t\0\0\0\0\0\0\0\x01a:b", Some(Message::Tag(1, "a:b")));
        check(b"e\0\0\0\0\0\0\0\x01", Some(Message::Everything(1)));
        check(&Message::heard(7, holder), Some(Message::Heard(7, holder)));
        check(&[b"g", holder.bytes()].concat(), Some(Message::Gone(holder)));
        check(b"gone", None);
        check(b"e\0\0\0\0\0\0\0\x01x", None);
        check(b"k\0\0\0", None);
        check(b"t\0\0\0\0\0\0\0\x01\xff", None);
        check(b"x\0\0\0\0\0\0\0\x01", None);
        check(b"", None);
        check(b"e\0\x1f\xff\xff\xff\xff\xff\xff", Some(Message::Everything(VERSION_MAX - 1)));
        for kind in [&b"k"[..], b"t", b"e"] {
            check(&[kind, b"\0\x20\0\0\0\0\0\0"].concat(), None);
            check(&[kind, &[0xff; 8]].concat(), None);
        }
    }

    #[test]
    fn a_change_that_is_waited_for_says_by_whom() {
        let by = Token::draw();
        let read = |kind: &[u8], rest: &[u8]| {
            let bytes = [kind, &9_u64.to_be_bytes(), by.bytes(), rest].concat();
            Message::read(&bytes).map(|(message, asked)| (format!("{message:?}"), asked))
        };
        let asked = Some(Asked { by, version: 9 });
        assert_eq!(read(b"K", b"key"), Some((format!("{:?}", Message::Changed(9, b"key")), asked)));
        assert_eq!(read(b"T", b"a"), Some((format!("{:?}", Message::Tag(9, "a")), asked)));
        assert_eq!(read(b"E", b""), Some((format!("{:?}", Message::Everything(9)), asked)));
        assert_eq!(read(b"A", b""), None);
        assert_eq!(Message::read(b"K\0\0\0\0\0\0\0\x01short"), None);
    }
}
