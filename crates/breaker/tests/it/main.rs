//! Tests of the crate as its users see it.

#![allow(clippy::duplicate_mod, reason = "proofs compile the same source with other atomics")]

mod backoff;
mod budget;
mod budget_model;
mod budget_threads;
mod circuit;
mod circuit_loom;
mod circuit_model;
mod circuit_shuttle;
