//! Tests of the crate as its users see it.

mod bounded;
mod hash;
mod hashed;
mod health;
mod health_model;
mod health_panic;
mod health_simulation;
mod latency;
mod least;
mod properties;
mod random;
mod rotation;
mod scene;
mod slow_start;
mod spill;
mod success_rate;
mod success_rate_simulation;
mod tiers;
