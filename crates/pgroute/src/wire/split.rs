//! Messages in a buffer that grows at its end and is consumed from its beginning.

use super::{HEAD_BYTES, MESSAGE_BYTES_MAX, WireError};

/// How much of a message has to be there at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All of it, and it may have at most this many bytes with its head. For what is read or kept.
    Whole(usize),
    /// So many bytes from its beginning, or all of it if it is shorter; the rest passes as it comes.
    Prefix(usize),
    /// Nothing. It passes as it comes.
    Pass,
    /// No such message can come.
    Refuse,
}

/// What stands at the beginning of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole message.
    Message {
        /// What it is.
        tag: u8,
        /// Its bytes with its head.
        len: usize,
    },
    /// The beginning of a message that is longer than what is there.
    Begin {
        /// What it is.
        tag: u8,
        /// Its bytes that are there, with its head; as many as asked for at least.
        len: usize,
        /// Its bytes in all.
        total: usize,
    },
    /// More of the message that has begun.
    More {
        /// Its bytes that are there.
        len: usize,
        /// Whether these are the last ones.
        is_last: bool,
    },
    /// Nothing that can be used. The buffer has to hold this many bytes in all before that changes.
    Wait {
        /// Bytes that the buffer must hold.
        bytes: usize,
    },
}

impl Piece {
    /// How many bytes this consumes.
    pub fn len(&self) -> usize {
        match *self {
            Self::Message { len, .. } | Self::Begin { len, .. } | Self::More { len, .. } => len,
            Self::Wait { .. } => 0,
        }
    }

    /// Whether it consumes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Finds messages of one direction. Its whole state is how much of a passing message is still to come.
///
/// ```
/// use pgroute::wire::{Look, Piece, Splitter};
///
/// let mut splitter = Splitter::default();
/// let look = |tag| if tag == b'D' { Look::Pass } else { Look::Whole(100) };
/// let bytes = b"Z\0\0\0\x05ID\0\0\0\x09ab";
/// assert_eq!(splitter.next(bytes, look), Ok(Piece::Message { tag: b'Z', len: 6 }));
/// assert_eq!(splitter.next(&bytes[6..], look), Ok(Piece::Begin { tag: b'D', len: 7, total: 10 }));
/// assert_eq!(splitter.next(b"cde", look), Ok(Piece::More { len: 3, is_last: true }));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splitter {
    left: usize,
}

impl Splitter {
    /// Whether the next byte begins a message.
    pub fn is_between_messages(&self) -> bool {
        self.left == 0
    }

    /// Bytes of a passing message that have not come.
    pub fn left(&self) -> usize {
        self.left
    }

    /// What stands at the beginning of `bytes`. What it consumes has to be gone from there at the next call.
    ///
    /// # Errors
    /// When a length cannot be, a message is longer than it may be, or is refused. The direction is out of step then.
    #[inline]
    pub fn next(&mut self, bytes: &[u8], look: impl Fn(u8) -> Look) -> Result<Piece, WireError> {
        if self.left > 0 {
            let len = bytes.len().min(self.left);
            if len == 0 {
                return Ok(Piece::Wait { bytes: 1 });
            }
            self.left -= len;
            return Ok(Piece::More { len, is_last: self.left == 0 });
        }
        let Some((tag, total)) = head(bytes)? else { return Ok(Piece::Wait { bytes: HEAD_BYTES }) };
        let wanted = match look(tag) {
            Look::Refuse => return Err(WireError::Unexpected { tag }),
            Look::Whole(bytes_max) if total > bytes_max => {
                return Err(WireError::TooLong { tag, bytes: total, bytes_max });
            }
            Look::Whole(_) => total,
            Look::Prefix(prefix) => prefix.max(HEAD_BYTES).min(total),
            Look::Pass => HEAD_BYTES,
        };
        if bytes.len() >= total {
            Ok(Piece::Message { tag, len: total })
        } else if bytes.len() >= wanted {
            self.left = total - bytes.len();
            Ok(Piece::Begin { tag, len: bytes.len(), total })
        } else {
            Ok(Piece::Wait { bytes: wanted })
        }
    }

    /// How many bytes at the beginning of `bytes` belong to whole messages of these kinds, so that a run of rows passes at
    /// once; and how many messages they are.
    ///
    /// # Errors
    /// When a length cannot be.
    #[inline]
    pub fn run(&self, bytes: &[u8], is_passing: impl Fn(u8) -> bool) -> Result<(usize, usize), WireError> {
        let (mut at, mut count) = (0, 0);
        if self.left > 0 {
            return Ok((0, 0));
        }
        while let Some((tag, total)) = head(&bytes[at..])? {
            if !is_passing(tag) || bytes.len() - at < total {
                break;
            }
            at += total;
            count += 1;
        }
        Ok((at, count))
    }
}

/// What the message is and its bytes with its head, once the head is there.
#[inline]
fn head(bytes: &[u8]) -> Result<Option<(u8, usize)>, WireError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    // The length counts itself but not the byte before it.
    if length < 4 || length as usize >= MESSAGE_BYTES_MAX {
        return Err(WireError::Length { tag, length });
    }
    Ok(Some((tag, length as usize + 1)))
}
