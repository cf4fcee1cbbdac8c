//! The atomics that several cores share: the real ones, or in this crate's own unit tests those of the model checker,
//! which runs every order in which threads can meet. All other tests are in `tests/it` and run on the real ones.

#[cfg(test)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
