//! Backends that are sessions' own: a session gets its own one whenever that is free, and its client is told that one's process number.
//!
//! What it left there it finds again, so that little has to be told anew. Others may have it meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pgroute::pool::{BackendId, Wish};

use super::Pool;
use crate::backend::Backend;
use crate::core::Core;

/// A session's own backend, until this is dropped.
#[derive(Debug)]
pub(crate) struct Own {
    pool: Arc<Pool>,
    id: BackendId,
    at: Arc<AtomicU32>,
    /// Whether anybody else is to have it.
    stays: bool,
}

/// Where a backend is. Once it is dropped, the backend has gone.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts(Arc<AtomicU32>);

/// Looks where a backend is, from outside.
#[derive(Debug)]
pub(super) struct Sighting(Arc<AtomicU32>);

/// Where a backend may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Somebody has it.
    Lent,
    /// In its pool.
    Pool,
    /// It is closed.
    Gone,
    /// A core keeps it.
    Core(usize),
}

impl At {
    fn to_number(self) -> u32 {
        match self {
            Self::Lent => 0,
            Self::Pool => 1,
            Self::Gone => 2,
            Self::Core(core) => core as u32 + 3,
        }
    }

    fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Lent,
            1 => Self::Pool,
            2 => Self::Gone,
            core => Self::Core(core as usize - 3),
        }
    }
}

impl Whereabouts {
    /// It is there now.
    pub(crate) fn set(&self, at: At) {
        self.0.store(at.to_number(), Ordering::Relaxed);
    }
}

impl Whereabouts {
    /// What looks where it is.
    pub(super) fn sighting(&self) -> Sighting {
        Sighting(Arc::clone(&self.0))
    }
}

impl Sighting {
    /// Where it was a moment ago.
    pub(super) fn at(&self) -> At {
        At::of_number(self.0.load(Ordering::Relaxed))
    }
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        self.set(At::Gone);
    }
}

impl Own {
    /// One that its pool has made somebody's own.
    pub(super) fn new(pool: Arc<Pool>, id: BackendId, whereabouts: &Whereabouts) -> Self {
        Self { pool, id, at: Arc::clone(&whereabouts.0), stays: true }
    }

    /// Gives it up. Where it does not stay, it is closed.
    pub(crate) fn give_up(mut self, core: &Core, stays: bool) {
        self.stays = stays;
        // Whoever comes next is to find it in the pool.
        if self.at() == At::Core(core.id) {
            core.local(&self.pool).give_up_one(&self);
        }
    }

    /// Whether it is there, and of this pool.
    pub(crate) fn is_of(&self, pool: &Pool) -> bool {
        self.pool.number == pool.number && self.at() != At::Gone
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, backend: &Backend) -> bool {
        self.id == backend.id
    }

    /// Where it was a moment ago.
    pub(super) fn at(&self) -> At {
        At::of_number(self.at.load(Ordering::Relaxed))
    }

    pub(super) fn id(&self) -> BackendId {
        self.id
    }

    pub(super) fn wish(&self) -> Wish {
        Wish::Own(self.id)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.pool.disown(self.id, self.stays);
    }
}
