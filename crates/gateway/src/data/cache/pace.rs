//! How far a reader is behind its writer, on one core.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// How far the writer may be ahead: less than what a body keeps in memory that is not kept whole.
const AHEAD_BYTES: u64 = 128 * 1024;

/// A reader's place.
#[derive(Debug, Default)]
pub(super) struct Pace {
    at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Pace {
    /// Nobody reads.
    pub(super) fn free() -> Self {
        Self { at: Cell::new(u64::MAX), ..Self::default() }
    }

    /// The reader is at a place.
    pub(super) fn reached(&self, at: u64) {
        self.at.set(at);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until the reader is near a place, or is no more.
    pub(super) async fn wait_for(&self, at: u64) {
        poll_fn(|cx| {
            if self.at.get().saturating_add(AHEAD_BYTES) >= at {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A reader's share; when it is dropped nobody is waited for.
#[derive(Debug)]
pub(super) struct Reads(pub(super) std::rc::Rc<Pace>);

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.reached(u64::MAX);
    }
}
