//! The command as a user runs it.

mod actions;
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
mod retries;
mod routing;
mod sample;
mod site;
mod tls;
mod websocket;
