//! The server's side of Redis' protocol (RESP, versions 2 and 3), without I/O.
//!
//! [`Decoder`] finds the commands in what a client sends, looking at each byte once however slowly they come, and within
//! [`Bounds`]. [`Answers`] writes what goes back. Neither knows any command.
//!
//! ```
//! use resp::{Answers, Bounds, Decoder, Step};
//!
//! let bounds = Bounds { parts_max: 1024, part_bytes_max: 1 << 20, command_bytes_max: 4 << 20 };
//! let mut decoder = Decoder::default();
//! let input = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\nPING\r\n";
//! let Ok(Step::Command { bytes }) = decoder.step(input, &bounds) else { unreachable!("it is whole") };
//! assert_eq!(decoder.parts(input).iter().collect::<Vec<_>>(), [b"ECHO".as_slice(), b"hi"]);
//!
//! // What follows may be a line, as people type it.
//! decoder.reset();
//! let rest = &input[bytes..];
//! assert_eq!(decoder.step(rest, &bounds), Ok(Step::Command { bytes: 6 }));
//! assert_eq!(decoder.parts(rest).part(0), Some(b"PING".as_slice()));
//!
//! let mut answers = Answers::default();
//! answers.bulk(b"hi");
//! answers.simple("PONG");
//! assert_eq!(answers.bytes(), b"$2\r\nhi\r\n+PONG\r\n");
//! ```

mod answer;
mod decode;
mod number;

pub use answer::{Answers, Version};
pub use decode::{Bounds, Decoder, Malformed, Parts, Step, Unacceptable};
pub use number::number;
