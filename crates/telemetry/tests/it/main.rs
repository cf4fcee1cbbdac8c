//! Tests of the crate as its users see it.

mod access;
mod metrics;
#[cfg(feature = "otlp")]
mod traces;
