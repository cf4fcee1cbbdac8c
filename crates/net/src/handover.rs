//! Handing listening sockets, and what was learned at run time, to the process that takes over.
//!
//! The process that serves starts the new one with a Unix socket as its standard input and sends everything over it, so
//! that descriptors go to that process alone: they keep their close-on-exec flag, and nothing else that is started
//! meanwhile can come to hold them. The new process takes the sockets, begins to accept on them and says that it is
//! ready. Only then the old one stops to accept. Both share the sockets and their queues, so no connection that waits is
//! lost; and whatever goes wrong before, the old process has not changed.
//!
//! What is sent: first a file in memory with the names of the sockets and the state, then the sockets in portions.
//! Afterwards lines go both ways: `ready VERSION`, or `failed` with the reason after it; and from the old process
//! `draining N` while it has connections. The socket ends with the process at its other end.

mod predecessor;
mod successor;
mod wire;

use std::os::fd::OwnedFd;
use std::time::Duration;

pub use predecessor::{Draining, Predecessor};
pub use successor::{StartError, Successor};

/// How an upgrade goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeParams {
    /// Time for the new process to be ready.
    pub ready_timeout: Duration,
    /// Time for the connections of the old process to end.
    pub drain_timeout: Duration,
}

/// What a process hands to the next.
#[derive(Debug, Default)]
pub struct Offer {
    /// The sockets by name. A name has no line break.
    pub sockets: Vec<(String, OwnedFd)>,
    /// What else the next process should know.
    pub state: Vec<u8>,
}
