//! Where the data of a body stands in the bytes that come.

use std::ops::Range;

use http1::{Chunk, ChunkedDecoder, Framing};

/// A body that is being read.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// All of it has come.
    Complete,
    /// So many bytes are left.
    Length(u64),
    /// It comes in chunks.
    Chunked(Box<ChunkedDecoder>),
    /// All bytes are data; where they end is told beside them, by a stream or by the connection.
    Raw,
}

impl Decoder {
    /// A body with this framing. On a stream only whether there is one matters.
    pub(crate) fn new(framing: Framing, on_stream: bool) -> Self {
        match framing {
            Framing::Empty => Self::Complete,
            _ if on_stream => Self::Raw,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::Raw,
        }
    }

    /// Whether all of it has come.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }

    /// Looks at the input: where data stands in it, and how much of it is done with. Trailers that end the body are
    /// left in `trailers`, as lines.
    pub(crate) fn take(&mut self, input: &[u8], trailers: &mut Vec<u8>) -> Result<(Range<usize>, usize), http1::Error> {
        match self {
            Self::Complete => Ok((0..0, 0)),
            Self::Raw => Ok((0..input.len(), input.len())),
            Self::Length(rest) => {
                let len = usize::try_from(*rest).map_or(input.len(), |rest| rest.min(input.len()));
                *rest -= len as u64;
                if *rest == 0 {
                    *self = Self::Complete;
                }
                Ok((0..len, len))
            }
            Self::Chunked(decoder) => match decoder.decode(input)? {
                Chunk::Data { start, end } => Ok((start..end, end)),
                Chunk::More => Ok((0..0, input.len())),
                Chunk::End { end } => {
                    *trailers = decoder.trailers()?;
                    *self = Self::Complete;
                    Ok((0..0, end))
                }
            },
        }
    }
}
