//! Deadlines that cost a store to move.
//!
//! A request moves its deadlines several times and nearly none of them passes. A timer per move would register and
//! cancel at a timer wheel each time; here a deadline is a number in a table of the core, and one task scans the table
//! when the earliest of them may have passed. A deadline is noticed at most [`GRANULARITY`] late and never early.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

/// Shortest time between two scans, so that many deadlines close to each other cost one scan.
pub const GRANULARITY: Duration = Duration::from_millis(5);

/// A core's deadlines.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    table: Rc<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: RefCell<Slab<Slot>>,
    /// When the scanner looks next; `None` while it waits for a first deadline.
    next_scan: Cell<Option<Instant>>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    due: Option<Instant>,
    expired: bool,
    waker: Option<Waker>,
}

/// One deadline, owned by whoever waits for something.
#[derive(Debug)]
pub struct Deadline {
    table: Rc<Table>,
    key: usize,
}

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

impl Deadlines {
    /// A deadline that is not set.
    pub fn register(&self) -> Deadline {
        let key = self.table.slots.borrow_mut().insert(Slot::default());
        Deadline { table: Rc::clone(&self.table), key }
    }

    /// Deadlines registered.
    pub fn len(&self) -> usize {
        self.table.slots.borrow().len()
    }

    /// Whether none is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes whoever's deadline passes; runs for ever. A core spawns it once.
    pub async fn scan(self) {
        loop {
            let next = self.table.expire(Instant::now());
            self.table.next_scan.set(next);
            let Some(next) = next else {
                self.table.earlier.notified().await;
                continue;
            };
            let at = next.max(Instant::now() + GRANULARITY);
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = self.table.earlier.notified() => tokio::time::sleep(GRANULARITY).await,
            }
        }
    }
}

impl Table {
    /// Marks and wakes what is due, and tells the earliest deadline that is left.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            match slot.due {
                Some(due) if due <= now => {
                    slot.due = None;
                    slot.expired = true;
                    if let Some(waker) = slot.waker.take() {
                        // Waking only queues the task; nothing runs while the table is borrowed.
                        waker.wake();
                    }
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        next
    }
}

impl Deadline {
    /// Moves the deadline to `due`, whether it passed or not.
    pub fn set(&self, due: Instant) {
        let mut slots = self.table.slots.borrow_mut();
        let slot = &mut slots[self.key];
        slot.due = Some(due);
        slot.expired = false;
        if self.table.next_scan.get().is_none_or(|next| due < next) {
            self.table.next_scan.set(Some(due));
            self.table.earlier.notify_one();
        }
    }

    /// Takes the deadline away.
    pub fn clear(&self) {
        let mut slots = self.table.slots.borrow_mut();
        // Whom to wake stays: it is mostly the same one when it is set again.
        let slot = &mut slots[self.key];
        (slot.due, slot.expired) = (None, false);
    }

    /// Ready once the deadline has passed. Only the last task that asked is woken.
    pub fn poll_expired(&self, cx: &Context<'_>) -> Poll<Expired> {
        let mut slots = self.table.slots.borrow_mut();
        let slot = &mut slots[self.key];
        if slot.expired {
            return Poll::Ready(Expired);
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// What `work` yields, unless the deadline passes first.
    ///
    /// # Errors
    /// [`Expired`] when the deadline passed before `work` was done; `work` is dropped then.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, Expired> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(Err),
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.table.slots.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_a_core(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
    }

    async fn beside_the_scanner(deadlines: &Deadlines, test: impl Future<Output = ()>) {
        tokio::select! {
            () = deadlines.clone().scan() => unreachable!("the scanner never ends"),
            () = test => {}
        }
    }

    #[test]
    fn a_deadline_ends_a_wait_and_never_early() {
        on_a_core(async {
            let deadlines = Deadlines::default();
            beside_the_scanner(&deadlines, async {
                let deadline = deadlines.register();
                for millis in [30, 10, 60] {
                    let begun = Instant::now();
                    deadline.set(begun + Duration::from_millis(millis));
                    assert_eq!(deadline.guard(std::future::pending::<()>()).await, Err(Expired));
                    assert!(begun.elapsed() >= Duration::from_millis(millis));
                }
            })
            .await;
        });
    }

    #[test]
    fn an_earlier_deadline_is_not_kept_waiting_by_a_later_one() {
        on_a_core(async {
            let deadlines = Deadlines::default();
            beside_the_scanner(&deadlines, async {
                let (late, early) = (deadlines.register(), deadlines.register());
                late.set(Instant::now() + Duration::from_secs(3600));
                tokio::time::sleep(Duration::from_millis(5)).await;
                early.set(Instant::now() + Duration::from_millis(20));
                let waited = tokio::time::timeout(Duration::from_secs(5), early.guard(std::future::pending::<()>()));
                assert_eq!(waited.await, Ok(Err(Expired)));
            })
            .await;
        });
    }

    #[test]
    fn work_that_is_done_wins_and_a_moved_deadline_does_not_pass() {
        on_a_core(async {
            let deadlines = Deadlines::default();
            beside_the_scanner(&deadlines, async {
                let deadline = deadlines.register();
                deadline.set(Instant::now() + Duration::from_millis(10));
                deadline.set(Instant::now() + Duration::from_secs(3600));
                let work = tokio::time::sleep(Duration::from_millis(40));
                assert_eq!(deadline.guard(work).await, Ok(()));
            })
            .await;
            assert!(deadlines.is_empty(), "a dropped deadline leaves the table");
        });
    }
}
