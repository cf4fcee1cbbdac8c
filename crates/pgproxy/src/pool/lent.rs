//! A backend that somebody has, and the wait for one.

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use pgroute::SqlState;
use pgroute::pool::{BackendId, Ticket};
use tokio::sync::oneshot;

use super::own::At;
use super::{Handed, NotLent, Own, Pool};
use crate::backend::Backend;
use crate::failure::Failure;

/// A backend that was lent. Dropped, it is closed, and its pool hears of that.
#[derive(Debug)]
pub(crate) struct Lent {
    pool: Arc<Pool>,
    /// As the backend's, for who looks for it among others.
    pub(super) id: BackendId,
    /// There until it is given back.
    backend: Option<Box<Backend>>,
}

impl Lent {
    pub(super) fn new(pool: Arc<Pool>, mut backend: Box<Backend>, is_owned: bool) -> Self {
        backend.whereabouts.set(At::Lent);
        backend.own = is_owned.then(|| Own::new(Arc::clone(&pool), backend.id, &backend.whereabouts));
        Self { pool, id: backend.id, backend: Some(backend) }
    }

    /// Whether its server must not be used any more.
    pub(crate) fn is_fenced(&self) -> bool {
        self.age.generation < self.pool.fence.load(Ordering::Relaxed) || self.has_lease_ended()
    }

    /// Whether its server was a primary with a lease, which has ended.
    pub(crate) fn has_lease_ended(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.holds())
    }

    /// Gives it back to the pool, clean.
    pub(crate) fn release(mut self) {
        if let Some(mut backend) = self.backend.take() {
            let (flight, own) = backend.end_loan();
            self.pool.release(backend);
            drop((flight, own));
        }
    }

    /// Has it in the event queue of this core.
    ///
    /// # Errors
    /// Those of the system; it is closed then.
    pub(crate) fn move_to(mut self, core: usize) -> Result<Self, Failure> {
        let Some(backend) = self.backend.take() else { return Ok(self) };
        let id = backend.id;
        match backend.move_to(core) {
            Ok(backend) => {
                self.backend = Some(backend);
                Ok(self)
            }
            Err(error) => {
                self.pool.lost(id);
                Err(crate::backend::went_away(&error))
            }
        }
    }
}

impl Deref for Lent {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        self.backend.as_ref().expect("it is there until it is given back, which takes it")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Backend {
        self.backend.as_mut().expect("it is there until it is given back, which takes it")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut backend) = self.backend.take() {
            let id = backend.id;
            let (flight, own) = backend.end_loan();
            drop(backend);
            self.pool.lost(id);
            drop((flight, own));
        }
    }
}

/// A wait for a backend. Dropped, nobody waits any more, and what was handed meanwhile goes back.
#[derive(Debug)]
pub(crate) struct Waiting {
    pool: Arc<Pool>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Handed>,
    /// It has come to an end: there is nothing to take back.
    is_over: bool,
}

impl Waiting {
    pub(super) fn new(pool: Arc<Pool>, ticket: Ticket, receiver: oneshot::Receiver<Handed>) -> Self {
        Self { pool, ticket, receiver, is_over: false }
    }

    /// The backend, and whether it was idle for so long that it may have gone; or why there is none.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Handed> {
        let handed = ready!(Pin::new(&mut self.receiver).poll(cx));
        self.is_over = true;
        let gone = || Failure::new(SqlState::ADMIN_SHUTDOWN, "the database is not served any more");
        Poll::Ready(handed.unwrap_or_else(|_| Err(NotLent::Failed(Arc::new(gone())))))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.pool.cancel(self.ticket);
        self.receiver.close();
        if let Ok(Ok((lent, _))) = self.receiver.try_recv() {
            lent.release();
        }
    }
}
