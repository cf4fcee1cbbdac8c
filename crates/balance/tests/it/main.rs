//! Tests of the crate as its users see it.

mod hash;
mod hashed;
mod latency;
mod least;
mod properties;
mod random;
mod rotation;
mod scene;
mod slow_start;
mod tiers;
