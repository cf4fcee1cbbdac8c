//! Whose notification it is that a backend has sent.
//!
//! A server names the process of the backend. The client that had it then knows itself by another number, and some drivers tell their own
//! notifications by that. So it is noted who last did something on a backend that may notify, as long as anybody listens. A statement that
//! notifies for certain holds for a moment against those of others that may: its notification can arrive when the backend is somebody else's.
//! Two clients that notify by the same backend within that moment may still be taken for one another.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lock;

/// How long a notification may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Backends that are known at once; most of those that were forgotten are gone.
const BACKENDS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Sender {
    /// What the client was told to be.
    pid: i32,
    is_certain: bool,
    at: Instant,
}

/// Who may have notified last, by the backend's process.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    /// Whether anybody wants to know.
    is_active: AtomicBool,
    by_backend: Mutex<HashMap<i32, Sender>>,
}

impl Senders {
    /// Whether who notifies is to be noted.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    pub(super) fn set_active(&self, is_active: bool) {
        self.is_active.store(is_active, Ordering::Relaxed);
    }

    /// A client, known by a number, is about to do something on a backend that notifies, for certain or maybe.
    pub(crate) fn note(&self, backend: i32, pid: i32, is_certain: bool) {
        let at = Instant::now();
        let mut known = lock(&self.by_backend);
        if known.len() >= BACKENDS_MAX {
            known.clear();
        }
        let sender = Sender { pid, is_certain, at };
        known
            .entry(backend)
            .and_modify(|last| {
                let holds = last.is_certain && !is_certain && at.saturating_duration_since(last.at) < ON_ITS_WAY;
                if !holds {
                    *last = sender;
                }
            })
            .or_insert(sender);
    }

    /// What clients know the sender by: its own number, if it is one of them.
    pub(super) fn whose(&self, backend: i32) -> i32 {
        lock(&self.by_backend).get(&backend).map_or(backend, |sender| sender.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_notified_for_certain_is_not_mistaken_for_who_came_next() {
        let senders = Senders::default();
        assert_eq!(senders.whose(7), 7, "nobody of ours");
        senders.note(7, 1, false);
        senders.note(7, 2, true);
        senders.note(7, 3, false);
        assert_eq!(senders.whose(7), 2);
        senders.note(7, 4, true);
        assert_eq!((senders.whose(7), senders.whose(8)), (4, 8));
    }
}
