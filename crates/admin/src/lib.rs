//! The admin listener: metrics, health, a JSON view of what runs, and changes of it.
//!
//! It is small on purpose and depends on nothing that it shows: whoever runs the parts implements [`AdminState`], and
//! this crate answers requests from it. It runs on the control plane's runtime, apart from the data path.
//!
//! Its paths are those of the table in `pages`; `docs/openapi.json` describes each for programs, and tests hold the two
//! to each other. `/healthz` and `/readyz` need no token, all else does when there is one.

mod change;
mod command;
mod guard;
mod openapi;
mod pages;
mod params;
mod server;
mod state;

pub use command::{
    BreakerEdit, Command, DatabaseChange, EndpointEdit, Force, KillOrder, NamedPurgeTarget, NewEndpoint, Priority,
    PurgeOrder, PurgeTarget, Reason, Refused, UpgradeOrder, Weight,
};
pub use openapi::OPENAPI;
pub use params::{AdminParams, OpenToNetwork};
pub use server::{Admin, BindError, TokenControl};
pub use state::{AdminState, Outcome, Unready};
