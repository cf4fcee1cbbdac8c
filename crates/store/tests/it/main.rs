//! Tests of the store as its users see it.

mod disk;
mod fetching;
mod memory;
mod model;
mod policy;
mod purging;
mod streams;
mod tier;
