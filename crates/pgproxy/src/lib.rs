//! The PostgreSQL proxy's data path: clients, backends, and the pools between them. `docs/architecture/pgproxy.md` says what is
//! decided and why; `pgroute` decides, and here are the sockets.
//!
//! A client stays on its core. A backend belongs to a pool of the process and moves to the client that gets it. What a client sees
//! is what it would see without a proxy, or an error that says why not.
//!
//! ```no_run
//! # async fn start(
//! #     listeners: Vec<pgproxy::PgListenerParams>, databases: Vec<pgproxy::DatabaseParams>,
//! # ) -> Result<(), pgproxy::PrepareError> {
//! use pgproxy::Databases;
//!
//! let (mut proxy, parts) = Databases::new(2);
//! // Each part runs on the runtime of its core.
//! # drop(parts);
//! let prepared = proxy.prepare(&listeners, &databases, &mut Default::default())?;
//! proxy.commit(prepared).await;
//! # Ok(())
//! # }
//! ```

mod accept;
mod asked;
mod backend;
mod catalogue;
mod client;
mod clients;
mod cluster;
mod connect;
mod console;
mod control;
mod core;
mod database;
mod engage;
mod failure;
mod folder;
mod lease;
mod listener;
mod login;
mod metrics;
mod notify;
mod opening;
mod params;
mod placement;
mod plans;
#[cfg(not(feature = "planted"))]
mod planted;
#[cfg(feature = "planted")]
#[doc(hidden)]
pub mod planted;
mod pool;
mod process;
mod random;
mod replicate;
mod secrets;
mod seen;
mod server;
mod session;
mod socket;
mod view;
mod watch;

pub use control::{ControlError, ReloadAsk, Whom};
pub use params::*;
pub use server::{CorePart, Databases, PrepareError, Prepared};
pub use view::{ClientView, DatabaseView, DatabasesView, PoolView, ServerView};
