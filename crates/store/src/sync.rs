//! What several cores share: the real locks and atomics, or in this crate's own unit tests those of the model checker, which
//! runs every order in which threads can meet. All other tests are in `tests/it` and run on the real ones.
//!
//! A lock whose holder panicked is taken as it is: what is guarded is a cache, of which each step leaves something valid.

#[cfg(test)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(test)]
use loom::sync::{Mutex as Inner, RwLock as InnerRw};
#[cfg(test)]
pub(crate) use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
use std::sync::PoisonError;
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(test))]
use std::sync::{Mutex as Inner, RwLock as InnerRw};
#[cfg(not(test))]
pub(crate) use std::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

#[derive(Debug)]
pub(crate) struct Mutex<T>(Inner<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct RwLock<T>(InnerRw<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(InnerRw::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
