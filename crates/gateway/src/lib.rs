//! gateway
pub mod params;
