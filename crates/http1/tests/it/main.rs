//! Heads as they come from outside, by table; and what must hold for any bytes.

mod properties;
mod requests;
mod responses;

use http1::Limits;

/// Bounds that the tables are written for.
const LIMITS: Limits = Limits { bytes_max: 256, fields_max: 8 };
