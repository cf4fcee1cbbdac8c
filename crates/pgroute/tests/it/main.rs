//! What a proxy of PostgreSQL decides, by tables and against naive models.

mod auth;
mod classify;
mod console;
mod lease;
mod pool;
mod position;
mod prepared;
mod server;
mod servers;
mod session;
mod wire;
