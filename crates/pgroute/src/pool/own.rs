//! Backends that are somebody's own: whoever it is finds on them what it left there, and is known to the server by their process numbers.

use std::time::Instant;

use super::{Action, BackendId, Pool, State, Waiter};

/// Which backend somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Any.
    Any,
    /// The asker's own if it is idle, or any.
    Own(BackendId),
    /// One that is nobody's, which is the asker's own from now on; or any, if all are somebody's and no more can be opened.
    ToOwn,
}

/// The epoch of a backend that nobody is to have any more.
const SPENT: u64 = u64::MAX;

impl Pool {
    /// How many tickets wait for whatever comes back, those left aside that one is being opened for to own.
    pub fn pressing(&self) -> usize {
        self.waiting.iter().filter(|waiter| !self.is_patient(waiter)).count()
    }

    /// Whether somebody could have one to own now.
    pub fn has_room(&self, now: Instant) -> bool {
        !self.is_paused && (self.may_open(now) || self.idle.iter().any(|id| self.is_nobodys(*id)))
    }

    /// Its owner has gone. Where nobody else is to have it, it is closed, now or when it comes back.
    pub fn disown(&mut self, now: Instant, backend: BackendId, stays: bool, out: &mut Vec<Action>) {
        let epoch = self.epoch;
        let Some(found) = self.backend_mut(backend) else { return };
        found.is_owned = false;
        if !stays {
            found.epoch = SPENT;
        }
        if found.epoch != epoch && matches!(found.state, State::Idle { .. }) {
            self.remove(backend);
            out.push(Action::Close(backend));
            self.open_more(now, out);
        }
        self.serve(now, out);
    }

    /// What sessions begin with has changed. Those that are under way go on as they began, and whoever comes now gets a new backend.
    pub fn renew(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.epoch += 1;
        self.let_go(out);
        self.open_more(now, out);
    }

    /// Closes what is idle and nobody's.
    pub fn let_go(&mut self, out: &mut Vec<Action>) {
        for backend in self.idle.clone() {
            if self.is_nobodys(backend) {
                self.remove(backend);
                out.push(Action::Close(backend));
            }
        }
    }

    /// Whether it waits for one that is being opened, and takes none that is somebody's.
    pub(super) fn is_patient(&self, waiter: &Waiter) -> bool {
        waiter.is_to_own && self.counts.opening > 0
    }

    /// Whether what sessions begin with has changed since it was opened: it is for its owner alone, who began before that.
    pub(super) fn is_outdated(&self, backend: BackendId) -> bool {
        self.backend(backend).is_some_and(|found| found.epoch != self.epoch)
    }

    pub(super) fn is_nobodys(&self, backend: BackendId) -> bool {
        self.backend(backend).is_some_and(|found| !found.is_owned)
    }
}
