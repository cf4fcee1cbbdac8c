//! The command as a user runs it.

mod balancing;
mod bodies;
mod browser;
mod command;
mod forwarding;
mod grpc;
mod health;
mod http2;
mod lifecycle;
mod limits;
mod logs;
mod metrics;
mod retries;
mod sample;
mod site;
mod tls;
mod traces;
mod websocket;
