//! Tests of the crate as its users see it.

mod concurrency;
mod fields;
mod gradient;
mod key;
mod keyed;
mod lease_script;
mod lease_simulation;
mod level;
mod queue;
mod store;
mod threads;
mod window;
