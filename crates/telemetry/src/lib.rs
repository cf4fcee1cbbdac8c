//! telemetry
mod params;
pub use params::*;
