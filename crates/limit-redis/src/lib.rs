//! Leases of shared rates from a Redis: connections, and what is said over them.
//!
//! What a lease is and what the script computes is `limit::lease`'s. Here is the way to the store: a [`Store`] belongs
//! to one thread, owns one connection, and answers each ask within its time or says that it has none. The rules:
//!
//! - **Nothing waits for a store that is known to be lost.** An ask that is not answered in time, or whose connection
//!   breaks, loses the store at once for all who ask; they hear so without waiting, until a new connection is there.
//! - **A connection counts when the script has run over it.** So a wrong password, a replica that may not be written to
//!   and missing rights are noticed when it is made, and not by every ask.
//! - **Nothing is unbounded**: asks under way, and what waits in the connection with them. A connection whose answers
//!   do not come is given up, so that nothing piles up in it.
//! - **The script may be forgotten** by a store that was restarted or flushed. It is then sent whole, once.
//!
//! An ask whose answer was lost may have been granted: those tokens are lost to all, which only makes the sum smaller.

mod connection;
mod params;
mod store;

pub use params::StoreParams;
pub use store::Store;

use limit::lease::store::Grant;

/// What an ask comes to.
pub type Answer = Result<Grant, StoreError>;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection, which was said when it was lost.
    #[error("the store is lost")]
    Lost,
    /// More asks are under way than are held.
    #[error("too many asks are under way")]
    Busy,
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The user or the password is not the store's.
    #[error("the store refuses the user or the password")]
    Unauthorised,
    /// What the store says, or what happened to the connection.
    #[error("{0}")]
    Redis(redis::RedisError),
}

impl From<redis::RedisError> for StoreError {
    fn from(error: redis::RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed => Self::Unauthorised,
            _ => Self::Redis(error),
        }
    }
}
