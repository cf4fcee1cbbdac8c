//! The admin listener: `/metrics`, `/healthz`, `/readyz` and a JSON view of what runs.
mod params;
pub use params::AdminParams;
