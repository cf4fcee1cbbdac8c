//! The words that every part of Tenfold shares: names of configured things, units as people write them, secrets,
//! and the stable codes of errors that reach a client or an operator.
//!
//! This crate stands at the bottom of the house. It depends on nothing but the standard library.

mod code;
mod name;
mod secret;
pub mod units;

pub use code::{ErrorCode, Fault};
pub use name::{Name, NameError};
pub use secret::Secret;
