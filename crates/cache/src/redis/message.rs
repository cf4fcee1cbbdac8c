//! What instances tell each other through the channel of a cache.

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
}

impl<'a> Message<'a> {
    /// Reads a message. Anybody may send anything to a channel, so what makes no sense is none.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        if *kind == b'f' {
            return Some(Self::Loaded(rest));
        }
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let version = u64::from_be_bytes(*version);
        match kind {
            b'k' => Some(Self::Changed(version, rest)),
            b't' => std::str::from_utf8(rest).ok().map(|tag| Self::Tag(version, tag)),
            b'e' if rest.is_empty() => Some(Self::Everything(version)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_nonsense_is_none() {
        let check = |bytes: &[u8], expected: Option<Message<'_>>| assert_eq!(Message::read(bytes), expected);
        check(b"k\0\0\0\0\0\0\x01\x02key", Some(Message::Changed(258, b"key")));
        check(b"fkey", Some(Message::Loaded(b"key")));
        check(b"t\0\0\0\0\0\0\0\x01a:b", Some(Message::Tag(1, "a:b")));
        check(b"e\0\0\0\0\0\0\0\x01", Some(Message::Everything(1)));
        check(b"e\0\0\0\0\0\0\0\x01x", None);
        check(b"k\0\0\0", None);
        check(b"t\0\0\0\0\0\0\0\x01\xff", None);
        check(b"x\0\0\0\0\0\0\0\x01", None);
        check(b"", None);
    }
}
