//! Picking an endpoint and judging its health. Pure: time, randomness and load come in, decisions go out.

pub mod health;
mod plan;

pub use plan::*;
