//! The proxy in front of a real PostgreSQL.

mod ahead;
mod asking;
mod cancels;
mod console;
mod drivers;
mod failover;
mod hearing;
mod history;
mod isolation;
mod lease;
mod listen;
mod login;
mod mirror;
mod own;
mod pool;
mod proxy;
mod replicas;
mod replication;
mod sight;
mod storm;
mod texts;
mod tools;
mod transaction;
mod undone;
mod unsent;
mod wire;
