//! HTTP/2, on both sides, by the `h2` crate.
//!
//! An exchange does not know which version it speaks. Inside the gateway every head is a head of HTTP/1.1: one that
//! comes over HTTP/2 is written in that form when it arrives and read by `http1` as any other, and one that goes out
//! over HTTP/2 is taken apart again at the end ([`head`]). So there is one reading of what a request means, whatever
//! the versions of both sides, and nothing that could not stand in a head of HTTP/1.1 passes. Bodies are streams of
//! pieces with a window ([`flow`]).
//!
//! A client's connection is driven by one task, and each of its streams is another ([`serve`]). Connections to
//! endpoints carry many requests at once ([`pool`]).

pub(crate) mod flow;
pub(crate) mod head;
mod metered;
pub(crate) mod pool;
pub(crate) mod serve;
pub(crate) mod worker;
