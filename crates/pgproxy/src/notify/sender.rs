//! Whose notification it is that a backend has sent.
//!
//! A server names the process of the backend. The client that had it then knows itself by another number, and some drivers tell their own
//! notifications by that. So it is noted who last did something on a backend that may notify, as long as anybody listens. A statement that
//! notifies for certain holds for a moment against those of others that may: its notification can arrive when the backend is somebody else's.
//! Two clients that notify by the same backend within that moment may still be taken for one another. When a backend is closed, its number may
//! become somebody else's, and nobody is noted for it any more once what it has sent must have come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;

/// How long a notification may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Backends that are known at once; most of those that were forgotten are gone.
const BACKENDS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug)]
struct Sender {
    /// Which of the backends it was that had the same process's number, one after the other.
    number: u64,
    /// What the client was told to be.
    pid: i32,
    is_certain: bool,
    at: Instant,
    /// Since when the backend is no more.
    closed_at: Option<Instant>,
}

/// Somebody is noted for a backend, until it is closed with this.
#[derive(Debug)]
pub(crate) struct Noted {
    senders: Arc<Senders>,
    backend: i32,
    number: u64,
}

/// Who may have notified last, by the backend's process.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    /// Whether anybody wants to know.
    is_active: AtomicBool,
    by_backend: Mutex<HashMap<i32, Sender>>,
    /// How many backends were noted.
    count: AtomicU64,
}

impl Senders {
    /// Whether who notifies is to be noted.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    pub(super) fn set_active(&self, is_active: bool) {
        self.is_active.store(is_active, Ordering::Relaxed);
    }

    /// A client, known by a number, is about to do something on a backend that notifies, for certain or maybe. The backend keeps `noted`.
    pub(crate) fn note(self: &Arc<Self>, noted: &mut Option<Noted>, backend: i32, pid: i32, is_certain: bool) {
        let noted = noted.get_or_insert_with(|| {
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            Noted { senders: Arc::clone(self), backend, number }
        });
        self.note_at(Instant::now(), (backend, noted.number), pid, is_certain);
    }

    fn note_at(&self, at: Instant, (backend, number): (i32, u64), pid: i32, is_certain: bool) {
        let mut known = lock(&self.by_backend);
        if known.len() >= BACKENDS_MAX {
            known.retain(|_, sender| !sender.is_over(at));
        }
        if known.len() >= BACKENDS_MAX {
            known.clear();
        }
        let sender = Sender { number, pid, is_certain, at, closed_at: None };
        known
            .entry(backend)
            .and_modify(|last| {
                let is_on_its_way = at.saturating_duration_since(last.at) < ON_ITS_WAY && last.number == number;
                if !(last.is_certain && !is_certain && is_on_its_way) {
                    *last = sender;
                }
            })
            .or_insert(sender);
    }

    /// What clients know the sender by: its own number, if it is one of them.
    pub(super) fn whose(&self, backend: i32) -> i32 {
        self.whose_at(Instant::now(), backend)
    }

    fn whose_at(&self, now: Instant, backend: i32) -> i32 {
        let known = lock(&self.by_backend);
        known.get(&backend).filter(|sender| !sender.is_over(now)).map_or(backend, |sender| sender.pid)
    }

    fn closed_at(&self, at: Instant, backend: i32, number: u64) {
        let mut known = lock(&self.by_backend);
        if let Some(sender) = known.get_mut(&backend).filter(|sender| sender.number == number) {
            sender.closed_at = Some(at);
        }
    }
}

impl Sender {
    /// Whether nothing that it has sent is on its way any more.
    fn is_over(&self, now: Instant) -> bool {
        self.closed_at.is_some_and(|at| now.saturating_duration_since(at) >= ON_ITS_WAY)
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.senders.closed_at(Instant::now(), self.backend, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_notified_for_certain_is_not_mistaken_for_who_came_next() {
        let senders = Senders::default();
        assert_eq!(senders.whose(7), 7, "nobody of ours");
        let now = Instant::now();
        senders.note_at(now, (7, 0), 1, false);
        senders.note_at(now, (7, 0), 2, true);
        senders.note_at(now, (7, 0), 3, false);
        assert_eq!(senders.whose(7), 2);
        senders.note_at(now, (7, 0), 4, true);
        assert_eq!((senders.whose(7), senders.whose(8)), (4, 8));
        senders.note_at(now + ON_ITS_WAY, (7, 0), 5, false);
        assert_eq!(senders.whose(7), 5);
    }

    #[test]
    fn nobody_is_taken_for_whoever_had_a_number_before_it_was_closed() {
        let senders = Arc::new(Senders::default());
        let mut noted = None;
        senders.note(&mut noted, 7, 1, true);
        senders.note(&mut noted, 7, 1, true);
        assert_eq!(senders.whose_at(Instant::now() + ON_ITS_WAY, 7), 1);
        drop(noted.take());
        let now = Instant::now();
        assert_eq!((senders.whose_at(now, 7), senders.whose_at(now + ON_ITS_WAY, 7)), (1, 7));
        // Another one of ours with the same number.
        senders.note(&mut noted, 7, 2, false);
        assert_eq!(senders.whose_at(now + ON_ITS_WAY, 7), 2);
        // It is closed here after the server has given its number to yet another one.
        let mut next = None;
        senders.note(&mut next, 7, 3, true);
        drop(noted);
        assert_eq!(senders.whose_at(Instant::now() + ON_ITS_WAY, 7), 3);
    }
}
