//! Tests of the store as its users see it.

mod bound;
mod direct;
mod disk;
mod fetching;
mod in_file;
mod lasting;
mod memory;
mod model;
mod pacing;
mod policy;
mod purging;
mod streams;
mod tier;
