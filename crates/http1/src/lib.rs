//! HTTP/1.1 without I/O: both sides' heads, framing, chunked bodies, keep-alive and upgrades.
//!
//! The problem: a gateway and the servers behind it must agree on where every message ends, or a client can hide one
//! request inside another. The rule here is one strict reading of every byte: what RFC 9112 lets a recipient repair or
//! guess is refused instead, with an error that says what was wrong.
//!
//! - Lines end with CR LF and nothing else; a lone CR or LF is an error wherever it stands.
//! - A length is one `Content-Length` of digits, or one `Transfer-Encoding: chunked`, never both, never twice.
//! - A request names its host once. Folded lines, space before a colon, and control characters are errors.
//!
//! Bytes come in as slices and decisions go out; nothing here reads a clock or a socket. Heads are parsed in place: a
//! [`Request`] or [`Response`] holds positions in the caller's buffer, so a kept-alive connection parses its next head
//! without allocating.
//!
//! Sources: RFC 9110, RFC 9112; the head's tokens are read by `httparse`.

mod byte_set;
mod chunked;
mod error;
mod field;
mod framing;
pub mod guard;
pub mod machine;
mod request;
mod response;
mod scan;
mod target;
pub mod write;

pub use byte_set::{ByteSet, TOKEN};
pub use chunked::{Chunk, ChunkedDecoder};
pub use error::{Error, ErrorKind};
pub use field::{Field, FieldId, Fields, Span};
pub use framing::Framing;
pub use request::{Expect, Method, Request, Version};
pub use response::Response;
pub use scan::{HeadScan, Limits};
pub use target::{Target, host_without_port, is_valid_host};
