//! What a named cache is told, checked.

use std::net::SocketAddr;
use std::time::Duration;

use vocab::{Name, Secret};

/// The least memory of a cache.
pub const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// A value has at most this part of the memory, so that none pushes out nearly all others.
pub const VALUE_SHARE: u64 = 8;

/// A named cache: what it keeps, and who may ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheParams {
    /// Its name.
    pub name: Name,
    /// Where it speaks Redis' protocol.
    pub listen: Option<SocketAddr>,
    /// Where it speaks HTTP.
    pub http: Option<SocketAddr>,
    /// Bytes of memory that entries take.
    pub memory_bytes: u64,
    /// The life of entries that are stored without one; `None` for as long as there is room.
    pub ttl: Option<Duration>,
    /// Bytes of a value at most.
    pub value_bytes_max: u64,
    /// Connections at once.
    pub connections_max: u32,
    /// What clients must know.
    pub password: Option<Secret>,
    /// How long a connection may be without a command; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a client may take nothing of its answers, or send nothing of a command that it has begun.
    pub stall_timeout: Duration,
}

impl CacheParams {
    /// The addresses, each with how it is spoken there.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (SocketAddr, Protocol)> {
        let resp = self.listen.map(|address| (address, Protocol::Resp));
        resp.into_iter().chain(self.http.map(|address| (address, Protocol::Http)))
    }

    /// Whether what these keep is kept alike by others, so that it can stay when the configuration changes.
    pub(crate) fn keeps_as(&self, other: &Self) -> bool {
        (self.memory_bytes, self.value_bytes_max) == (other.memory_bytes, other.value_bytes_max)
    }
}

/// How a listener is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// As Redis.
    Resp,
    /// By HTTP/1.1.
    Http,
}
