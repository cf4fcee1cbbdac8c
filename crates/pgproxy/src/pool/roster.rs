//! Backends of a pool by name, wherever they are, for whoever asks.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::Pool;
use super::own::{At, Sighting};
use crate::backend::Backend;

/// Backends that were made and may still be there.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    sighting: Sighting,
    shown: Shown,
}

/// A backend from outside.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Its number in the pool.
    pub(crate) id: u64,
    /// The server's process.
    pub(crate) pid: i32,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) since: SystemTime,
    pub(crate) tls: String,
    /// Whether a client has it.
    pub(crate) is_lent: bool,
    /// Whether it is closed when it comes back.
    pub(crate) is_old: bool,
    generation: u64,
}

impl Roster {
    /// A backend was made.
    pub(super) fn enter(&self, backend: &Backend) {
        let shown = Shown {
            id: backend.id.0,
            pid: backend.key.pid,
            peer: backend.socket.peer(),
            local: backend.socket.local(),
            since: SystemTime::now(),
            tls: backend.socket.tls_version(),
            is_lent: false,
            is_old: false,
            generation: backend.age.generation,
        };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // So there are never more than there were at once, and one.
        entries.retain(|entry| entry.sighting.at() != At::Gone);
        entries.push(Entry { sighting: backend.whereabouts.sighting(), shown });
    }
}

impl Pool {
    /// Its backends, but those that are being made.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let generation = self.generation.load(std::sync::atomic::Ordering::SeqCst);
        let entries = self.roster.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |entry: &Entry| {
            let at = entry.sighting.at();
            let is_old = entry.shown.generation < generation;
            (at != At::Gone).then(|| Shown { is_lent: at == At::Lent, is_old, ..entry.shown.clone() })
        };
        entries.iter().filter_map(shown).collect()
    }
}
