//! Caching strategies for services in Rust.

pub mod behind;
