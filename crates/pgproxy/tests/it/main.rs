//! The proxy in front of a real PostgreSQL.

mod ahead;
mod console;
mod drivers;
mod failover;
mod history;
mod isolation;
mod listen;
mod login;
mod own;
mod pool;
mod proxy;
mod replicas;
mod replication;
mod texts;
mod tools;
mod transaction;
mod wire;
