//! The PostgreSQL proxy's data path: clients, backends, and the pools between them. `docs/architecture/pgproxy.md` says what is
//! decided and why; `pgroute` decides, and here are the sockets.
//!
//! A client stays on its core. A backend belongs to a pool of the process and moves to the client that gets it. What a client sees
//! is what it would see without a proxy, or an error that says why not.

mod params;

pub use params::*;
