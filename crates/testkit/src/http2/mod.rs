//! HTTP/2 by hand: frames and fields as a test wants them, right or wrong, and a strict reader of what a server sends.
//! Nothing here shares code with the library that the gateway uses, so that each can judge the other.

mod client;
pub mod frame;
mod heard;
pub mod hpack;
pub mod huffman;

pub use client::Http2Conn;
pub use heard::{Head, Heard};
