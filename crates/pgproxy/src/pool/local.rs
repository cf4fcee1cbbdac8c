//! What a core keeps of a pool, so that most statements find a backend without a lock.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pgroute::pool::Wish;

use super::own::{At, Own};
use super::{Lent, Pool, Taken};

/// A core's part of a pool.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) pool: Arc<Pool>,
    core: usize,
    /// What was given back last is at the end.
    kept: RefCell<Vec<Lent>>,
    /// The fewest that were kept since the last look: so many were not needed.
    spare: Cell<usize>,
}

impl Local {
    pub(crate) fn new(pool: Arc<Pool>, core: usize) -> Self {
        Self { pool, core, kept: RefCell::default(), spare: Cell::new(0) }
    }

    /// Asks for a backend: the asker's own one, one that the core keeps, or one of the pool's. Who `wants_own` and has none is given one to own, if
    /// there is one.
    pub(crate) fn take(&self, now: Instant, own: Option<&Own>, wants_own: bool) -> Taken {
        let own = own.filter(|own| own.is_of(&self.pool));
        let wish = match own {
            Some(own) => own.wish(),
            None if wants_own => Wish::ToOwn,
            None => Wish::Any,
        };
        if !self.pool.is_calm() {
            // Who waits elsewhere comes first.
            self.give_up();
            return self.pool.acquire(now, self.core, wish);
        }
        let is_better_there = match own.map(Own::at) {
            Some(At::Core(core)) if core == self.core => {
                let kept = own.and_then(|own| self.take_out(own)).filter(|lent| self.is_fit(now, lent));
                if let Some(lent) = kept {
                    return Taken::Now(lent, false);
                }
                false
            }
            Some(at) => at == At::Pool,
            None => wants_own && self.pool.has_room(),
        };
        while !is_better_there && let Some(lent) = self.pop() {
            // One that ought to be closed goes with this, and what is from before a change may be its owner's alone.
            match (self.is_fit(now, &lent), self.is_current(&lent)) {
                (true, true) => return Taken::Now(lent, false),
                (true, false) => lent.release(),
                (false, _) => {}
            }
        }
        self.pool.acquire(now, self.core, wish)
    }

    /// Takes back a backend that is clean.
    ///
    /// One that has come to the end of its life is kept as well: whoever takes it next finds that out, as does the pool.
    pub(crate) fn give(&self, lent: Lent) {
        if self.pool.is_calm() && self.is_of_now(&lent) && self.is_current(&lent) {
            self.pool.kept.fetch_add(1, Ordering::SeqCst);
            lent.whereabouts.set(At::Core(self.core));
            self.kept.borrow_mut().push(lent);
            // Somebody may have begun to wait between the two, and not have seen it.
            if !self.pool.is_calm() {
                self.give_up();
            }
        } else {
            lent.release();
        }
    }

    /// Gives everything back to the pool.
    pub(crate) fn give_up(&self) {
        while let Some(lent) = self.pop() {
            lent.release();
        }
    }

    /// Gives what somebody owns back to the pool, if it is kept.
    pub(super) fn give_up_one(&self, own: &Own) {
        let kept = self.take_out(own);
        kept.into_iter().for_each(Lent::release);
    }

    /// Gives back what was not needed since the last look.
    pub(crate) fn give_spare(&self) {
        let spare = self.spare.get();
        let given: Vec<_> = self.kept.borrow_mut().drain(..spare).collect();
        self.pool.kept.fetch_sub(given.len(), Ordering::SeqCst);
        given.into_iter().for_each(Lent::release);
        self.spare.set(self.kept.borrow().len());
    }

    /// Whether it keeps nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.borrow().is_empty()
    }

    fn pop(&self) -> Option<Lent> {
        let mut kept = self.kept.borrow_mut();
        let last = kept.len().checked_sub(1)?;
        Some(self.out_of(&mut kept, last))
    }

    /// What somebody owns, out of what is kept.
    fn take_out(&self, own: &Own) -> Option<Lent> {
        let mut kept = self.kept.borrow_mut();
        let at = kept.iter().rposition(|lent| lent.id == own.id())?;
        Some(self.out_of(&mut kept, at))
    }

    fn out_of(&self, kept: &mut Vec<Lent>, at: usize) -> Lent {
        let lent = kept.remove(at);
        lent.whereabouts.set(At::Lent);
        self.spare.set(self.spare.get().min(kept.len()));
        self.pool.kept.fetch_sub(1, Ordering::SeqCst);
        lent
    }

    fn is_fit(&self, now: Instant, lent: &Lent) -> bool {
        self.is_of_now(lent) && lent.dies_at.is_none_or(|at| now < at)
    }

    /// Whether nobody has asked for new connections since.
    fn is_of_now(&self, lent: &Lent) -> bool {
        lent.age.generation == self.pool.generation.load(Ordering::Relaxed)
    }

    /// Whether what sessions begin with is still as it was when it was opened.
    fn is_current(&self, lent: &Lent) -> bool {
        lent.age.epoch == self.pool.epoch.load(Ordering::Relaxed)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.pool.kept.fetch_sub(self.kept.borrow().len(), Ordering::SeqCst);
    }
}
