//! Caches on cores of their own, asked over real sockets.

mod admission;
mod conformance;
mod http;
mod life;
mod limits;
mod queue;
mod random;
mod site;
mod tags;
