//! Tests of the crate as its users see it.

mod conditions;
mod directives;
mod edge;
mod freshness;
mod keys;
mod models;
mod parts;
mod staleness;
mod storing;
mod updates;
mod variants;
