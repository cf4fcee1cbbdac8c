//! PostgreSQL's protocol, versions 3.0 and 3.2, both ways: chapter 55 of PostgreSQL's manual.
//!
//! A message is a byte that says what it is, four bytes for its length, and a body. A proxy looks into few of them: what a
//! client asks, which statement it means, where a transaction stands. Rows, which are nearly all bytes of a busy connection,
//! are only counted past. So reading has two steps. [`Splitter`] finds messages in a growing buffer and copies nothing: a message
//! is a length at the buffer's beginning, or, when it is large and may pass, a piece at a time. Then [`frontend`] and [`backend`]
//! are views of a body, made where somebody wants to know.
//!
//! What comes first on a connection has no such form: [`startup`]. What Tenfold itself says is in [`write`](mod@write).
//!
//! A length that cannot be, a string without its end, or bytes after the end of a message mean that the two sides do not agree
//! about where the next one begins. Nothing is guessed then: the connection ends, because on one that is shared, the next client
//! would get the rest of somebody else's answer.

pub mod backend;
mod body;
pub mod frontend;
mod split;
pub mod startup;
pub mod write;

use thiserror::Error;

use crate::SqlState;

pub use split::{Look, Piece, Splitter};

/// A message's head: what it is, and its length.
pub const HEAD_BYTES: usize = 5;

/// Longest message there is: PostgreSQL's own bound, one gibibyte less one byte, with the byte before it.
pub const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff + 1;

/// Why bytes are not what the protocol wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The length of a message cannot be.
    #[error("message {}: length {length} is invalid", char_of(*tag))]
    Length {
        /// What the message is.
        tag: u8,
        /// The length that it says.
        length: u32,
    },
    /// A message is longer than it may be.
    #[error("message {}: {bytes} bytes, at most {bytes_max}", char_of(*tag))]
    TooLong {
        /// What the message is.
        tag: u8,
        /// Its bytes with its head.
        bytes: usize,
        /// Most bytes that it may have.
        bytes_max: usize,
    },
    /// No message of this kind can come now.
    #[error("message {}: not expected here", char_of(*tag))]
    Unexpected {
        /// What the message is.
        tag: u8,
    },
    /// The body does not fit the message's kind.
    #[error("message {}: {reason}", char_of(*tag))]
    Body {
        /// What the message is.
        tag: u8,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The first message of a connection is malformed.
    #[error("startup message: {reason}")]
    Startup {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The first message asks for a version that is not spoken.
    #[error("startup message: protocol {major}.{minor} is not supported, only 3.0 to 3.2")]
    Version {
        /// The version's first number.
        major: u16,
        /// Its second one.
        minor: u16,
    },
}

impl WireError {
    /// The code that the other side is told, if it is told anything.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Version { .. } => SqlState::NOT_SUPPORTED,
            Self::TooLong { .. } => SqlState::LIMIT_EXCEEDED,
            _ => SqlState::PROTOCOL_VIOLATION,
        }
    }
}

/// A kind of message as people write it.
fn char_of(tag: u8) -> impl std::fmt::Display {
    std::ascii::escape_default(tag)
}
