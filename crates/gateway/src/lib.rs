//! The gateway: a data path of worker cores, and a control plane that tells them what to serve.
//!
//! A request meets, in this order: the listener's connection, which belongs to one core (`data`); the route that is
//! the most specific for its host and path (`router`); an endpoint of the route's service, picked by the tables of the
//! snapshot that the control plane published last (`state`, `control`); and a connection to that endpoint, of the
//! core's own pool. Cores share nothing per request but named atomics.

mod action;
#[doc(hidden)]
pub mod bench;
mod cache;
pub mod change;
mod clients;
mod compress;
mod control;
mod data;
mod estate;
mod files;
mod forwarded;
mod gateway;
mod identity;
mod limits;
pub mod params;
mod pattern;
mod router;
mod shed;
mod state;
mod view;

pub use cache::{PurgeBy, PurgeError, PurgeRequest};
pub use change::GatewayControl;
pub use estate::{Estate, Inheritance};
pub use gateway::{ApplyError, Gateway, StartError, Stopped};
pub use pattern::{Pattern, PatternError};
pub use router::normal_path;
pub use view::{GatewayView, NotReady};
