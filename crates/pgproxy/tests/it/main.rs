//! The proxy in front of a real PostgreSQL.

mod drivers;
mod failover;
mod history;
mod isolation;
mod login;
mod pool;
mod proxy;
mod replicas;
mod tools;
mod transaction;
mod wire;
