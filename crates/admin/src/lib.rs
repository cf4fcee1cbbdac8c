//! The admin listener: metrics, health, and a JSON view of what runs.
//!
//! It is small on purpose and depends on nothing that it shows: whoever runs the parts implements [`AdminState`], and
//! this crate answers requests from it. It runs on the control plane's runtime, apart from the data path.
//!
//! | path | answer |
//! |---|---|
//! | `/` | this list |
//! | `/healthz` | 200 as long as the process answers; needs no token |
//! | `/readyz` | 200, or 503 naming each component that is not ready |
//! | `/metrics` | every metric, in OpenMetrics or Prometheus' text format |
//! | `/services`, `/services/NAME` | services with their endpoints |
//! | `/listeners`, `/routes` | what is listened on, what goes where |
//! | `/config` | the configuration in effect, and how its last reload went |

mod guard;
mod pages;
mod params;
mod server;
mod state;

pub use params::{AdminParams, OpenToNetwork};
pub use server::{Admin, BindError};
pub use state::{AdminState, Unready};
