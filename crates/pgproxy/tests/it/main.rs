//! The proxy in front of a real PostgreSQL.

mod isolation;
mod login;
mod pool;
mod proxy;
mod tools;
mod transaction;
mod wire;
