//! The data path: what a worker core does with connections and requests.
//!
//! A connection belongs to one core from its first byte to its last. Its task is small while it is idle: it holds no
//! buffer, and what a request needs is made when its first byte arrives ([`connection`]). A request is one
//! [`exchange`]: its head is read and routed, an endpoint is picked ([`attempt`]), a connection to it is taken from the
//! core's pool or made ([`upstream`]), the request's head and body go out ([`body`]) while the response is awaited and
//! passed on ([`relay`]). An exchange that fails before the response's head may be tried again ([`retry`]). A connection
//! of a listener for TCP is passed through instead ([`stream`]), and so are datagrams ([`datagram`]).

mod accept;
mod account;
mod act;
mod admission;
mod attempt;
mod authorize;
mod body;
mod cache;
mod challenge;
mod connection;
mod converse;
mod core;
mod datagram;
mod decode;
mod disk;
mod encode;
mod ends;
mod exchange;
mod fallback;
mod files;
mod forward;
mod grpc;
mod head;
mod http2;
mod io;
mod leave;
mod local;
mod mirror;
mod passage;
mod preamble;
mod relay;
mod reply;
mod retry;
mod scratch;
mod secure;
mod side;
mod spans;
mod stream;
mod tunnel;
mod upstream;

pub(crate) use self::connection::Peer;
pub(crate) use self::core::{Job, Message, Records, main};
pub(crate) use self::head::cookie;
pub(crate) use self::reply::message as error_message;
