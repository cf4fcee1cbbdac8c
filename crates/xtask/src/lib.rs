//! Checks, benches and proofs of this repository, behind `cargo xtask`. See `CONTRIBUTING.md` and `docs/benchmarks.md`.

#![allow(clippy::disallowed_methods, reason = "tools wait for processes and have no worker to hold up")]

pub mod bench;
mod caches;
pub mod ci;
pub mod conformance;
pub mod fault;
pub mod fuzz;
pub mod install;
pub mod proof;
mod repository;
pub mod tidy;
