//! Tests of the crate as its users see it.

mod backoff;
mod budget;
mod budget_model;
mod budget_threads;
