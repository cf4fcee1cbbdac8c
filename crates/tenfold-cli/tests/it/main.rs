//! The command as a user runs it.

mod acme;
mod actions;
mod balancing;
mod bodies;
mod browser;
mod command;
mod control;
mod forwarding;
mod grpc;
mod health;
mod http2;
mod lifecycle;
mod limits;
mod logs;
mod metrics;
mod mirror;
mod openapi;
mod overrides;
mod retries;
mod routing;
mod sample;
mod schema;
mod site;
mod tls;
mod traces;
mod websocket;
