//! What a PostgreSQL proxy decides, without I/O: bytes, times and random numbers come in, decisions go out.
//!
//! - [`auth`] proves and checks passwords.
//! - [`scan`] finds the words of statements, and [`classify`] says by them where a text may go and what it does to its session.
//! - [`console`] reads what PgBouncer's tools ask, and makes their tables.
//! - [`lease`] says whether a server may be written to, where somebody outside decides that.
//! - [`pool`] says who gets which backend next.
//! - [`position`] says which replica has what a reader must see.
//! - [`prepared`] shares prepared statements among clients.
//! - [`servers`] says which server is the primary.
//! - [`session`] keeps account of a client's session, and of which answer belongs to which question.
//! - [`wire`] reads and writes the messages of the protocol, both ways.

pub mod auth;
pub mod classify;
pub mod console;
pub mod lease;
pub mod pool;
pub mod position;
pub mod prepared;
pub mod scan;
pub mod servers;
pub mod session;
mod sqlstate;
pub mod wire;

pub use sqlstate::SqlState;
